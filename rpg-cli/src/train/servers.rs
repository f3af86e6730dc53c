//! Inference servers in place of the sampler of this process: asking them, and the folder from which they load weights.

use super::ranks::Team;
use super::reference::checksum;
use super::setup::Start;
use crate::checkpoint::write_policy;
use crate::checksums;
use crate::config::{ServerConfig, TrainConfig};
use crate::data::Data;
use crate::durable;
use crate::failure::{AtPath, Failure, FailureKind};
use crate::run_folder::RunFolder;
use rpg_core::model::{CausalLm, ModelConfig, SaveDtype};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use rpg_rollout::rollouts::Rollouts;
use rpg_rollout::server::engine::Needs;
use rpg_rollout::server::error::ServerError;
use rpg_rollout::server::fleet::Servers;
use rpg_rollout::server::options::ServerOptions;
use rpg_rollout::server::rollouts::{Publish, Published, ServerRollouts};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What servers are sent as a key.
const API_KEY: &str = "RPG_SERVER_API_KEY";

/// The folder of the weights, in the run folder.
const WEIGHTS: &str = "weights";

/// How many policies the folder keeps: the newest, and the one before it, which a server may still have.
const KEPT: usize = 2;

/// Asks the servers of a config what they are, if it has any, and refuses those that cannot sample a policy of this shape, with
/// prompts of so many tokens. `adapter` is the rank of the policy's, if it has one. The first rank gives them weights; the others wait
/// until they have them.
pub(crate) fn ask(
    config: &TrainConfig,
    model: &ModelConfig,
    longest_prompt: usize,
    adapter: Option<usize>,
    team: &Team,
) -> Result<Option<Servers>, Failure> {
    let Some(servers) = config.rollout.servers() else {
        return Ok(None);
    };
    let needs = Needs {
        max_tokens: longest_prompt + config.rollout.max_new_tokens.get(),
        vocab_size: model.vocab_size,
        adapter: adapter.is_some(),
        lora_rank: adapter,
    };
    let mut options = options(servers);
    options.loads = team.is_first();
    let asked = Servers::ask(options, needs);
    asked.map(Some).map_err(|error| {
        let kind = if error.is_input() {
            FailureKind::Input
        } else {
            FailureKind::Sampler
        };
        failure(kind, &error)
    })
}

/// The tokens of the longest prompt of a run.
pub(super) fn longest_prompt(data: &Data) -> Result<usize, Failure> {
    let of_eval = data.eval.iter().map(|problem| problem.prompt_tokens.len());
    let longest = of_eval.max().unwrap_or(0);
    let of_train = data.train.prompt_lengths()?;
    Ok(of_train.into_iter().fold(longest, usize::max))
}

/// The sampler that these servers are.
pub(super) fn rollouts<'a, B: DecodeBackend + 'a>(
    servers: Servers,
    config: &TrainConfig,
    start: &Start<B>,
    folder: &RunFolder,
    team: &Team,
) -> Box<dyn Rollouts<B> + 'a> {
    let given = config.rollout.servers();
    let weights_dir = given.and_then(|servers| servers.weights_dir.clone());
    let weights = WeightsFolder {
        folder: weights_dir.unwrap_or_else(|| folder.path(WEIGHTS)),
        dtype: given.map(|servers| servers.dtype).unwrap_or_default(),
        base: config.model.name(),
        tokenizer: start.tokenizer.clone(),
        writes: team.is_first(),
        newest: None,
    };
    let tokenizer = start.tokenizer.clone();
    Box::new(ServerRollouts::new(servers, tokenizer, Box::new(weights)))
}

/// What of a server's error the user is told.
pub(super) fn failure(kind: FailureKind, error: &ServerError) -> Failure {
    let failure = Failure::new(kind, error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn options(servers: &ServerConfig) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.engine = servers.engine;
    options.urls = servers.urls.clone();
    options.api_key = std::env::var(API_KEY).ok().filter(|key| !key.is_empty());
    options.concurrency = servers.concurrency.get();
    options.request_timeout = Duration::from_secs_f64(servers.request_timeout_s.get());
    options.timeout = Duration::from_secs_f64(servers.timeout_s.get());
    options.max_difference = servers.max_difference.get();
    options.reload_method = servers.reload_method.clone();
    options
}

/// The folder from which servers load weights: a folder for each of the newest policies, by its checksum.
struct WeightsFolder {
    folder: PathBuf,
    /// The folder or name of the model that an adapter belongs to.
    base: String,
    tokenizer: Tokenizer,
    dtype: SaveDtype,
    /// Whether it is this process that writes: the first rank.
    writes: bool,
    /// The label of the newest policy that this process has written or found whole.
    newest: Option<String>,
}

impl<B: DecodeBackend> Publish<B> for WeightsFolder {
    fn publish(&mut self, policy: &CausalLm<B>) -> Result<Published, String> {
        let label = label(policy);
        let folder = if self.writes {
            let written = self.write(&label, policy);
            written.map_err(|failure| failure.message)?
        } else {
            self.folder.join(&label)
        };
        self.newest = Some(label.clone());
        Ok(Published {
            label,
            folder,
            is_adapter: policy.lora().is_some(),
        })
    }

    fn confirmed(&mut self, label: &str) {
        // What could not be removed now is removed after the next update.
        let _ = remove_older(&self.folder, label);
    }
}

impl WeightsFolder {
    /// Writes a policy, unless it is there; returns where, by the path from the root.
    fn write<B: DecodeBackend>(
        &self,
        label: &str,
        policy: &CausalLm<B>,
    ) -> Result<PathBuf, Failure> {
        let target = self.folder.join(label);
        let is_there = self.newest.as_deref() == Some(label)
            || (target.exists() && checksums::verify(&target, true).is_ok());
        if !is_there {
            durable::write_folder(&self.folder, label, |dir| {
                write_policy(policy, &self.base, &self.tokenizer, self.dtype, dir)
            })?;
        }
        target.canonicalize().at(&target)
    }
}

/// The name of a policy: the same weights have the same, also in a run that is resumed.
fn label<B: DecodeBackend>(policy: &CausalLm<B>) -> String {
    checksum(policy).replace(':', "-")
}

/// Removes all policies but that of a label and the newest others.
fn remove_older(folder: &Path, label: &str) -> Result<(), Failure> {
    let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(checksums::KIND) && name != label {
            let written = path.metadata().and_then(|metadata| metadata.modified());
            others.push((written.at(&path)?, path));
        }
    }
    others.sort();
    let n_removed = others.len().saturating_sub(KEPT - 1);
    let mut removed = others.into_iter().take(n_removed);
    removed.try_for_each(|(_, path)| durable::remove_folder(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use rpg_core::model::AdapterFolder;

    fn policy(seed: u64) -> (CausalLm<Flex>, Tokenizer) {
        let config = TrainConfig::recipe("arithmetic", &[]).unwrap();
        let shape = config.model.scratch.unwrap();
        shape.init(seed, &Default::default()).unwrap()
    }

    fn weights_folder(folder: &Path, tokenizer: Tokenizer) -> WeightsFolder {
        WeightsFolder {
            folder: folder.to_owned(),
            base: "base".into(),
            tokenizer,
            dtype: SaveDtype::F32,
            writes: true,
            newest: None,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn the_newest_two_policies_are_kept_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let (first, tokenizer) = policy(1);
        let mut weights = weights_folder(dir.path(), tokenizer.clone());
        let one = weights.publish(&first).unwrap();
        let (loaded, _) =
            crate::models::load_model::<Flex>(&one.folder, &Default::default()).unwrap();
        assert_eq!(label(&loaded), one.label);
        assert!(!one.is_adapter && one.folder.is_absolute());
        // Another process writes nothing that is there and whole, and mends what is damaged.
        let written = || {
            fs::metadata(one.folder.join("config.json"))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = written();
        let mut resumed = weights_folder(dir.path(), tokenizer);
        assert_eq!(resumed.publish(&first).as_ref(), Ok(&one));
        assert_eq!(written(), before);
        fs::write(one.folder.join("model.safetensors"), "damaged").unwrap();
        let mut again = weights_folder(dir.path(), resumed.tokenizer.clone());
        assert_eq!(again.publish(&first).as_ref(), Ok(&one));
        assert!(checksums::verify(&one.folder, true).is_ok());
        // Nothing is removed before servers have something newer, and nothing that is not a policy.
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        let [two, three] = [2, 3].map(|seed| resumed.publish(&policy(seed).0).unwrap());
        assert_eq!(names(dir.path()).len(), 4);
        Publish::<Flex>::confirmed(&mut resumed, &three.label);
        let mut left = names(dir.path());
        left.sort();
        let mut expected = ["notes.txt".to_owned(), two.label, three.label];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn servers_that_compute_in_bf16_load_half_as_much() {
        let dir = tempfile::tempdir().unwrap();
        let (policy, tokenizer) = policy(1);
        let [whole, half] = [SaveDtype::F32, SaveDtype::Bf16].map(|dtype| {
            let folder = dir.path().join(format!("{dtype:?}"));
            let mut weights = WeightsFolder {
                dtype,
                ..weights_folder(&folder, tokenizer.clone())
            };
            let published = weights.publish(&policy).unwrap();
            let file = published.folder.join("model.safetensors");
            (published.label, fs::metadata(file).unwrap().len())
        });
        // The label is that of the policy.
        assert_eq!(whole.0, half.0);
        assert!(half.1 < whole.1 * 51 / 100, "{} {}", half.1, whole.1);
    }

    #[test]
    fn of_a_policy_with_an_adapter_the_adapter_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (base, tokenizer) = policy(1);
        let lora = crate::config::LoraSection::default().adapter(base.config());
        let adapted = base.with_adapter(&lora, 1).unwrap();
        let published = weights_folder(dir.path(), tokenizer)
            .publish(&adapted)
            .unwrap();
        assert!(published.is_adapter && AdapterFolder::is_one(&published.folder));
        assert!(!published.folder.join("model.safetensors").exists());
    }
}
