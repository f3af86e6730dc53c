//! Checkpoints: a Hugging Face folder together with the optimizer's state and the position in the run.

use crate::failure::{AtPath, Failure};
use crate::optim::{Optimizer, OptimizerState, StateError};
use crate::run_folder::RunFolder;
use crate::train::{Learner, Origin, ReferenceState, UpdateCounts};
use burn::tensor::{DType, TensorData};
use rpg_core::model::{CausalLm, SaveDtype};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const REFERENCE: &str = "reference";
const N_UPDATES: &str = "n_updates";

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Supervised steps done.
    pub warm_start_steps: u64,
    /// Steps of reinforcement learning done.
    pub steps: u64,
    /// Training problems used so far: the position in the data.
    pub n_problems: u64,
    /// Seconds of work so far.
    pub seconds: f64,
    /// Mean@k on the held-out problems before the first step, once it is known.
    pub before: Option<f64>,
    /// Updates so far; checkpoints of older versions do not count them.
    #[serde(default)]
    pub updates: UpdateCounts,
    /// What of the reference is not its weights; checkpoints of older versions have none of it.
    #[serde(default)]
    pub reference: ReferenceState,
    /// What the run was started with; checkpoints of older versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl TrainerState {
    /// Drops the lines of steps that a resumed run will repeat, and those of the end, which comes again.
    pub(crate) fn drop_later_lines(&self, folder: &RunFolder) -> Result<(), Failure> {
        folder.retain_lines(|line| {
            let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
            match line.get("phase").and_then(Value::as_str) {
                Some("warm_start") => step <= self.warm_start_steps,
                Some("final") => false,
                _ => step <= self.steps && (step > 0 || self.before.is_some()),
            }
        })
    }
}

/// Everything that a run needs to continue.
pub struct Checkpoint<'a, B: DecodeBackend> {
    /// The policy and its optimizer.
    pub learner: &'a Learner<B>,
    /// The reference, if it is neither the sampling policy nor a model that the config still names.
    pub reference: Option<&'a CausalLm<B>>,
    /// The policy's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The position in the run.
    pub state: TrainerState,
}

impl<B: DecodeBackend> Checkpoint<'_, B> {
    /// Writes the checkpoint into the run's folder, and removes all but the newest `n_kept`. The number in its name
    /// counts all steps, supervised ones too.
    pub fn write(&self, folder: &RunFolder, n_kept: usize) -> Result<PathBuf, Failure> {
        let number = self.state.warm_start_steps + self.state.steps;
        folder.write_checkpoint(number, n_kept, |dir| {
            self.learner
                .policy()
                .save_hf(dir, SaveDtype::F32)
                .map_err(|e| not_written(&e, dir))?;
            self.tokenizer.save(dir).map_err(|e| not_written(&e, dir))?;
            if let Some(reference) = self.reference {
                let dir = dir.join(REFERENCE);
                fs::create_dir_all(&dir).at(&dir)?;
                reference
                    .save_hf(&dir, SaveDtype::F32)
                    .map_err(|e| not_written(&e, &dir))?;
            }
            let path = dir.join(OPTIMIZER);
            let bytes =
                to_safetensors(&self.learner.optimizer_state()).map_err(Failure::internal)?;
            fs::write(&path, bytes).at(&path)?;
            let path = dir.join(STATE);
            let state = serde_json::to_string_pretty(&self.state).map_err(Failure::internal)?;
            fs::write(&path, state + "\n").at(&path)
        })
    }
}

fn not_written(error: &dyn std::error::Error, dir: &Path) -> Failure {
    // The formats on the way from the file system keep the text of its error, not its kind.
    let text = error.to_string();
    if ["No space left on device", "Disk quota exceeded"]
        .iter()
        .any(|full| text.contains(full))
    {
        return Failure::disk_full(dir);
    }
    Failure::internal(text)
}

/// Whether a checkpoint was written with checksums: older versions neither wrote them nor what the run was started with.
pub(crate) fn has_checksums(dir: &Path) -> bool {
    read_state(dir).is_ok_and(|state| state.origin.is_some())
}

/// Reads the position in the run.
pub fn read_state(dir: &Path) -> Result<TrainerState, Failure> {
    let path = dir.join(STATE);
    let text = fs::read_to_string(&path).at(&path)?;
    serde_json::from_str(&text).map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

/// Reads the optimizer's state into `optimizer`, and returns what it trains to get the checkpoint's `policy`.
pub fn read_optimizer<B: DecodeBackend>(
    dir: &Path,
    policy: CausalLm<B>,
    optimizer: &mut dyn Optimizer<B>,
) -> Result<CausalLm<B>, Failure> {
    let path = dir.join(OPTIMIZER);
    let bytes = fs::read(&path).at(&path)?;
    from_safetensors(&bytes)
        .and_then(|state| optimizer.load_state(policy, &state))
        .map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

/// Reads the reference policy, if the checkpoint contains one.
pub fn read_reference<B: DecodeBackend>(
    dir: &Path,
    device: &B::Device,
) -> Result<Option<CausalLm<B>>, Failure> {
    let dir = dir.join(REFERENCE);
    if !dir.exists() {
        return Ok(None);
    }
    let reference = CausalLm::load_hf(&dir, device).map_err(Failure::input)?;
    Ok(Some(reference))
}

fn to_safetensors(state: &OptimizerState) -> Result<Vec<u8>, StateError> {
    let format = |e: &dyn std::fmt::Display| StateError::Format(e.to_string());
    let mut views = Vec::with_capacity(state.tensors.len());
    for (name, data) in &state.tensors {
        let dtype = match data.dtype {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::U8 => Dtype::U8,
            other => return Err(format(&format_args!("`{name}` is of type {other:?}"))),
        };
        let view = TensorView::new(dtype, data.shape.to_vec(), data.as_bytes());
        views.push((name, view.map_err(|e| format(&e))?));
    }
    let metadata = HashMap::from([(N_UPDATES.to_owned(), state.n_updates.to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| format(&e))
}

fn from_safetensors(bytes: &[u8]) -> Result<OptimizerState, StateError> {
    let format = |e: safetensors::SafeTensorError| StateError::Format(e.to_string());
    let file = SafeTensors::deserialize(bytes).map_err(format)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let n_updates = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(N_UPDATES)?.parse().ok())
        .ok_or_else(|| StateError::Mismatch(format!("`{N_UPDATES}` is missing")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let shape = view.shape().to_vec();
        let data = match view.dtype() {
            Dtype::F32 => TensorData::new(numbers(view.data(), f32::from_le_bytes), shape),
            Dtype::F64 => TensorData::new(numbers(view.data(), f64::from_le_bytes), shape),
            Dtype::U8 => TensorData::new(view.data().to_vec(), shape),
            other => {
                return Err(StateError::Mismatch(format!(
                    "`{name}` is of type {other:?}"
                )));
            }
        };
        tensors.insert(name, data);
    }
    Ok(OptimizerState { n_updates, tensors })
}

/// The numbers of `N` bytes each that `bytes` hold.
fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().copied().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optimizer_state_survives_its_file() {
        let state = OptimizerState {
            n_updates: 7,
            tensors: BTreeMap::from([
                ("a.0".to_owned(), TensorData::from([0.1f32, -2.5e-30])),
                ("a.1".to_owned(), TensorData::from([[1u8, 2], [3, 4]])),
                ("b".to_owned(), TensorData::from([1.0 / 3.0, -1e-300])),
            ]),
        };
        let bytes = to_safetensors(&state).unwrap();
        assert_eq!(from_safetensors(&bytes).unwrap(), state);
        let half = from_safetensors(&bytes[..bytes.len() / 2]);
        assert!(matches!(half, Err(StateError::Format(_))));
        let none: [(&str, TensorView); 0] = [];
        let bare = safetensors::serialize(none, None).unwrap();
        assert!(matches!(
            from_safetensors(&bare),
            Err(StateError::Mismatch(_))
        ));
    }
}
