//! Checkpoints: a Hugging Face folder with the optimizer's state and the place in the run beside it.

use crate::failure::{AtPath, Failure};
use crate::optim::{AdamW, AdamWConfig};
use crate::run_folder::RunFolder;
use rpg_core::model::{CausalLm, SaveDtype};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const REFERENCE: &str = "reference";

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Supervised steps done.
    pub warm_start_steps: u64,
    /// Steps of reinforcement learning done.
    pub steps: u64,
    /// Training problems used so far: the place in the data.
    pub n_problems: u64,
    /// Seconds of work so far.
    pub seconds: f64,
    /// Mean@k on the held-out problems before the first step, once it is known.
    pub before: Option<f64>,
}

/// All that a run needs to go on.
pub struct Checkpoint<'a, B: DecodeBackend> {
    /// The policy.
    pub model: &'a CausalLm<B>,
    /// The reference, if it is not the sampling policy.
    pub reference: Option<&'a CausalLm<B>>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The optimizer.
    pub optimizer: &'a AdamW<B>,
    /// The place in the run.
    pub state: TrainerState,
}

impl<B: DecodeBackend> Checkpoint<'_, B> {
    /// Writes it into the run's folder; the number of its name counts all steps, supervised or not.
    pub fn write(&self, folder: &RunFolder, keep: usize) -> Result<PathBuf, Failure> {
        let number = self.state.warm_start_steps + self.state.steps;
        folder.write_checkpoint(number, keep, |dir| {
            self.model
                .save_hf(dir, SaveDtype::F32)
                .map_err(Failure::internal)?;
            self.tokenizer.save(dir).map_err(Failure::internal)?;
            if let Some(reference) = self.reference {
                let dir = dir.join(REFERENCE);
                fs::create_dir_all(&dir).at(&dir)?;
                reference
                    .save_hf(&dir, SaveDtype::F32)
                    .map_err(Failure::internal)?;
            }
            let path = dir.join(OPTIMIZER);
            fs::write(&path, self.optimizer.to_bytes()).at(&path)?;
            let path = dir.join(STATE);
            let state = serde_json::to_string_pretty(&self.state).map_err(Failure::internal)?;
            fs::write(&path, state + "\n").at(&path)
        })
    }
}

/// Reads the place in the run.
pub fn read_state(dir: &Path) -> Result<TrainerState, Failure> {
    let path = dir.join(STATE);
    let text = fs::read_to_string(&path).at(&path)?;
    serde_json::from_str(&text).map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

/// Reads the optimizer's state.
pub fn read_optimizer<B: DecodeBackend>(
    dir: &Path,
    config: AdamWConfig,
    model: &CausalLm<B>,
) -> Result<AdamW<B>, Failure> {
    let path = dir.join(OPTIMIZER);
    let bytes = fs::read(&path).at(&path)?;
    AdamW::from_bytes(config, model, &bytes, &model.device())
        .map_err(|e| Failure::input(format!("{}: {e}", path.display())))
}

/// Reads the reference policy, if the checkpoint has one of its own.
pub fn read_reference<B: DecodeBackend>(
    dir: &Path,
    device: &B::Device,
) -> Result<Option<CausalLm<B>>, Failure> {
    let dir = dir.join(REFERENCE);
    match dir.exists() {
        true => CausalLm::load_hf(&dir, device)
            .map(Some)
            .map_err(Failure::input),
        false => Ok(None),
    }
}
