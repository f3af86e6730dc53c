//! Checkpoints: a Hugging Face folder together with the optimizer's state and the position in the run.

use crate::failure::{AtPath, Failure};
use crate::optim::{Optimizer, OptimizerState, StateError, StateTensor};
use crate::run_folder::RunFolder;
use crate::train::{Best, Origin, ReferenceState, UpdateCounts};
use burn::tensor::{DType, TensorData};
use memmap2::Mmap;
use rpg_core::model::{AdapterFolder, CausalLm, SaveDtype};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const REFERENCE: &str = "reference";
const PAST: &str = "past";
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
    /// The best evaluation so far; checkpoints of older versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Updates so far; checkpoints of older versions do not count them.
    #[serde(default)]
    pub updates: UpdateCounts,
    /// What of the reference is not its weights; checkpoints of older versions have none of it.
    #[serde(default)]
    pub reference: ReferenceState,
    /// What the run was started with; checkpoints of older versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Of a policy with an adapter, the folder or name of the model that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl TrainerState {
    /// Drops the lines of steps that a resumed run will repeat, and that of its end, which comes again. Those of ends beyond which
    /// the run has gone on stay if an evaluation is due there.
    pub(crate) fn drop_later_lines(
        &self,
        folder: &RunFolder,
        is_evaluation_due: impl Fn(u64) -> bool,
    ) -> Result<(), Failure> {
        folder.retain_lines(|line| {
            let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
            match line.get("phase").and_then(Value::as_str) {
                Some("warm_start") => step <= self.warm_start_steps,
                Some("final") => step <= self.steps && is_evaluation_due(step),
                _ => step <= self.steps && (step > 0 || self.before.is_some()),
            }
        })
    }
}

/// Everything that a run needs to continue.
pub struct Checkpoint<'a, B: DecodeBackend> {
    /// The policy.
    pub policy: &'a CausalLm<B>,
    /// The state of its optimizer.
    pub optimizer: &'a OptimizerState,
    /// The reference, if it is neither the sampling policy nor a model that the config still names.
    pub reference: Option<&'a CausalLm<B>>,
    /// The policies before this one with which steps after this one are sampled, by the number of steps that had trained them.
    pub past: Vec<(u64, &'a CausalLm<B>)>,
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
        let base = self.state.base.as_deref().unwrap_or_default();
        folder.write_checkpoint(number, n_kept, |dir| {
            write_policy(self.policy, base, self.tokenizer, SaveDtype::F32, dir)?;
            let reference = self.reference.map(|model| (REFERENCE.into(), model));
            let past = self.past.iter();
            let past = past.map(|&(version, model)| (format!("{PAST}/{version}"), model));
            for (name, model) in reference.into_iter().chain(past) {
                let dir = dir.join(name);
                fs::create_dir_all(&dir).at(&dir)?;
                write_model(model, base, SaveDtype::F32, &dir)?;
            }
            let path = dir.join(OPTIMIZER);
            write_optimizer(self.optimizer, &path).map_err(|e| not_written(&e, dir))?;
            let path = dir.join(STATE);
            let state = serde_json::to_string_pretty(&self.state).map_err(Failure::internal)?;
            fs::write(&path, state + "\n").at(&path)
        })
    }
}

/// Writes a model and its tokenizer; of one with an adapter, the adapter.
pub(crate) fn write_policy<B: DecodeBackend>(
    model: &CausalLm<B>,
    base: &str,
    tokenizer: &Tokenizer,
    dtype: SaveDtype,
    dir: &Path,
) -> Result<(), Failure> {
    write_model(model, base, dtype, dir)?;
    tokenizer.save(dir).map_err(|e| not_written(&e, dir))
}

/// Writes a model; of one with an adapter, the adapter.
fn write_model<B: DecodeBackend>(
    model: &CausalLm<B>,
    base: &str,
    dtype: SaveDtype,
    dir: &Path,
) -> Result<(), Failure> {
    if model.lora().is_some() {
        let written = model.save_adapter(dir, base);
        return written.map_err(|e| not_written(&e, dir));
    }
    let written = model.save_hf(dir, dtype);
    written.map_err(|e| not_written(&e, dir))
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
    let file = File::open(&path).at(&path)?;
    // SAFETY: the mapping lives until the state is loaded. If another process shrinks the file in that time, this one is
    // killed, as with every reader of mapped checkpoints.
    let bytes = unsafe { Mmap::map(&file) }.at(&path)?;
    optimizer_state(bytes)
        .and_then(|state| optimizer.load_state(policy, &state))
        .map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

/// Reads the reference policy, if the checkpoint contains one. If it has an adapter, its base is that of `policy`.
pub fn read_reference<B: DecodeBackend>(
    dir: &Path,
    policy: &CausalLm<B>,
) -> Result<Option<CausalLm<B>>, Failure> {
    let dir = dir.join(REFERENCE);
    dir.exists().then(|| read_model(&dir, policy)).transpose()
}

/// Reads the policies before that of the checkpoint that it contains, by the number of steps that had trained them.
pub(crate) fn read_past<B: DecodeBackend>(
    dir: &Path,
    policy: &CausalLm<B>,
) -> Result<BTreeMap<u64, CausalLm<B>>, Failure> {
    let dir = dir.join(PAST);
    let mut past = BTreeMap::new();
    if !dir.exists() {
        return Ok(past);
    }
    for entry in fs::read_dir(&dir).at(&dir)? {
        let path = entry.at(&dir)?.path();
        let version = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        if let Some(version) = version {
            past.insert(version, read_model(&path, policy)?);
        }
    }
    Ok(past)
}

/// Reads a model that was written beside the policy. If it has an adapter, its base is that of `policy`.
fn read_model<B: DecodeBackend>(dir: &Path, policy: &CausalLm<B>) -> Result<CausalLm<B>, Failure> {
    if AdapterFolder::is_one(dir) {
        return with_adapter_of(policy.clone(), dir);
    }
    let model = CausalLm::load_hf(dir, &policy.device()).map_err(Failure::input)?;
    if policy.config().long_context {
        return Ok(model.with_long_context());
    }
    Ok(model)
}

/// The model with the adapter of a folder.
pub fn with_adapter_of<B: DecodeBackend>(
    base: CausalLm<B>,
    dir: &Path,
) -> Result<CausalLm<B>, Failure> {
    let adapter = AdapterFolder::open(dir).map_err(Failure::input)?;
    base.with_adapter_of(&adapter).map_err(Failure::input)
}

/// A tensor of an optimizer's state as safetensors store it.
struct Stored<'a> {
    tensor: &'a StateTensor,
    dtype: Dtype,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.tensor.data().as_bytes().to_vec().into()
    }

    fn data_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.tensor.dtype().size()
    }
}

fn write_optimizer(state: &OptimizerState, path: &Path) -> Result<(), StateError> {
    let mut views = Vec::with_capacity(state.tensors.len());
    for (name, tensor) in &state.tensors {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::U8 => Dtype::U8,
            other => {
                let what = format!("`{name}` is of type {other:?}");
                return Err(StateError::Format(what));
            }
        };
        views.push((name, Stored { tensor, dtype }));
    }
    let metadata = HashMap::from([(N_UPDATES.to_owned(), state.n_updates.to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(format_error)
}

/// The state in a file, whose tensors are read from `bytes` when they are asked for.
fn optimizer_state(
    bytes: impl Deref<Target = [u8]> + 'static,
) -> Result<OptimizerState, StateError> {
    let (header_len, metadata) = SafeTensors::read_metadata(&bytes).map_err(format_error)?;
    SafeTensors::deserialize(&bytes).map_err(format_error)?;
    let n_updates = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(N_UPDATES)?.parse().ok())
        .ok_or_else(|| StateError::Mismatch(format!("`{N_UPDATES}` is missing")))?;
    let bytes = Rc::new(bytes);
    // The length of the header comes first, in eight bytes.
    let first = 8 + header_len;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        type Read = fn(&[u8], Vec<usize>) -> TensorData;
        let (dtype, read): (DType, Read) = match info.dtype {
            Dtype::F32 => (DType::F32, |bytes, shape| {
                TensorData::new(numbers(bytes, f32::from_le_bytes), shape)
            }),
            Dtype::F64 => (DType::F64, |bytes, shape| {
                TensorData::new(numbers(bytes, f64::from_le_bytes), shape)
            }),
            Dtype::U8 => (DType::U8, |bytes, shape| {
                TensorData::new(bytes.to_vec(), shape)
            }),
            other => {
                let what = format!("`{name}` is of type {other:?}");
                return Err(StateError::Mismatch(what));
            }
        };
        let range = first + info.data_offsets.0..first + info.data_offsets.1;
        let (shape, bytes) = (info.shape.clone(), Rc::clone(&bytes));
        let tensor = StateTensor::new(dtype, shape.clone(), move || {
            read(&bytes[range.clone()], shape.clone())
        });
        tensors.insert(name, tensor);
    }
    Ok(OptimizerState { n_updates, tensors })
}

fn format_error(error: SafeTensorError) -> StateError {
    StateError::Format(error.to_string())
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
        let tensors = [
            ("a.0", TensorData::from([0.1f32, -2.5e-30])),
            ("a.1", TensorData::from([[1u8, 2], [3, 4]])),
            ("b", TensorData::from([1.0 / 3.0, -1e-300])),
        ];
        let tensors = tensors.map(|(name, data)| (name.to_owned(), data.into()));
        let state = OptimizerState {
            n_updates: 7,
            tensors: tensors.into(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_optimizer(&state, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(optimizer_state(bytes.clone()).unwrap(), state);
        let half = optimizer_state(bytes[..bytes.len() / 2].to_vec());
        assert!(matches!(half, Err(StateError::Format(_))));
        let none: [(&str, Stored); 0] = [];
        let bare = safetensors::serialize(none, None).unwrap();
        assert!(matches!(
            optimizer_state(bare),
            Err(StateError::Mismatch(_))
        ));
    }
}
