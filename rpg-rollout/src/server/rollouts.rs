//! [`Rollouts`] from servers, which are kept at the policy's weights and watched.

use super::board::Job;
use super::engine::{Answer, Sampling};
use super::error::ServerError;
use super::fleet::{Sampled, Servers};
use super::weights;
use crate::generate::delivery::{Delivery, Place, places};
use crate::generate::ends::Ends;
use crate::generate::options::check;
use crate::generate::{GenerateError, GenerateOptions, Progress, Request};
use crate::rollouts::Rollouts;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Completion, Group};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Weights for the servers to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What every answer that was sampled with these weights must say: the same for the same weights, and no two policies
    /// have the same one.
    pub label: String,
    /// On a disk that the servers read as well: a model in the Hugging Face layout, or an adapter in that of PEFT.
    pub folder: PathBuf,
    /// Whether it is an adapter.
    pub is_adapter: bool,
}

/// Writes policies to where servers read them.
pub trait Publish<B: DecodeBackend>: Send {
    /// Writes the policy, if it is not there already. An error is a whole sentence.
    fn publish(&mut self, policy: &CausalLm<B>) -> Result<Published, String>;

    /// All servers that work have these weights: what is older may be removed.
    fn confirmed(&mut self, label: &str);
}

/// Samples with inference servers.
///
/// An answer counts if it is whole and says that it comes from the policy's weights; all else is asked for again, of whichever
/// server is free, with the same seed. The first completions of each server with new weights are scored with the policy:
/// a server whose log-probs are not the policy's ends the run, whatever it says.
pub struct ServerRollouts<'a, B: DecodeBackend> {
    servers: Servers,
    tokenizer: Tokenizer,
    publish: Box<dyn Publish<B> + 'a>,
    policy: Option<CausalLm<B>>,
    confirmed: Option<String>,
    mismatch: BTreeMap<String, f64>,
}

impl<'a, B: DecodeBackend> ServerRollouts<'a, B> {
    /// Samples with these servers.
    pub fn new(servers: Servers, tokenizer: Tokenizer, publish: Box<dyn Publish<B> + 'a>) -> Self {
        Self {
            servers,
            tokenizer,
            publish,
            policy: None,
            confirmed: None,
            mismatch: BTreeMap::new(),
        }
    }

    /// Lets what is older than the servers' weights be removed, once they all have them.
    fn confirm(&mut self) {
        let label = self.servers.label();
        let is_new = label != self.confirmed && self.servers.are_settled();
        if let Some(label) = label.filter(|_| is_new && self.servers.options().loads) {
            self.publish.confirmed(&label);
            self.confirmed = Some(label);
        }
    }

    /// Refuses servers that sample from something other than the policy. `canaries` are completions and where they are
    /// from.
    fn compare(
        &mut self,
        policy: &CausalLm<B>,
        requests: &[Request],
        canaries: &[Sampled],
        options: &GenerateOptions,
    ) -> Result<(), ServerError> {
        let urls = self.servers.options().urls.clone();
        let limit = self.servers.options().max_difference;
        for (i, url) in urls.iter().enumerate() {
            let from_it = canaries.iter().filter(|canary| canary.server == i);
            let differences = differences(policy, requests, from_it, options);
            if differences.is_empty() {
                continue;
            }
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            let max = differences.iter().copied().fold(0.0, f64::max);
            let name = |of: &str| format!("rollout/server/{i}/mismatch_{of}");
            self.mismatch.insert(name("mean"), mean);
            self.mismatch.insert(name("max"), max);
            // One that is not a number is as wrong.
            if mean.is_nan() || mean > limit {
                return Err(ServerError::OtherPolicy {
                    url: url.clone(),
                    label: self.servers.label().unwrap_or_default(),
                    difference: mean,
                    limit,
                });
            }
        }
        Ok(())
    }
}

impl<B: DecodeBackend> Rollouts<B> for ServerRollouts<'_, B> {
    /// Publishes the policy. Servers load it while the caller goes on; [`sample`](Rollouts::sample) waits for them.
    fn sync(&mut self, policy: &CausalLm<B>) -> Result<(), GenerateError> {
        let published = self.publish.publish(policy).map_err(ServerError::Publish)?;
        if self.servers.options().loads {
            weights::check(&published.folder).map_err(ServerError::Publish)?;
        }
        self.policy = Some(policy.clone());
        self.servers.publish(published);
        Ok(())
    }

    fn sample(
        &mut self,
        requests: &[Request],
        options: &GenerateOptions,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Group>, GenerateError> {
        let policy = self.policy.clone().ok_or(GenerateError::NoPolicy)?;
        let config = policy.config();
        check(config, requests, options)?;
        supported(options)?;
        let ends = Ends::new(config, options, &self.tokenizer);
        let accept = |answer: Answer, label: &str| {
            checked(&answer, label, config.vocab_size)?;
            completion(answer, &ends, &self.tokenizer)
        };
        let sampling = Sampling {
            params: options.sampling,
            max_new_tokens: options.max_new_tokens,
            stop_tokens: ends.tokens(),
        };
        let jobs = jobs(requests);
        let mut progress = Progress {
            n_finished: 0,
            n_completions: jobs.len(),
            n_new_tokens: 0,
        };
        let (mut delivery, mut canaries) = (Delivery::new(requests), Vec::new());
        self.servers
            .sample(jobs, &sampling, &accept, &mut |sampled| {
                if let Some(sampled) = sampled {
                    progress.n_finished += 1;
                    progress.n_new_tokens += sampled.completion.tokens.len();
                    delivery.put(sampled.place, sampled.completion.clone());
                    canaries.extend(sampled.is_canary.then_some(sampled));
                }
                on_progress(progress)
            })?;
        self.compare(&policy, requests, &canaries, options)?;
        self.confirm();
        Ok(delivery.take_complete())
    }

    fn take_metrics(&mut self) -> BTreeMap<String, f64> {
        let mut metrics = self.servers.take_metrics();
        metrics.append(&mut self.mismatch);
        metrics
    }

    fn release(&mut self) {
        self.policy = None;
    }
}

/// Refuses what servers do in another way than [`LocalRollouts`](crate::rollouts::LocalRollouts).
fn supported(options: &GenerateOptions) -> Result<(), ServerError> {
    if options.min_new_tokens > 0 {
        return Err(ServerError::Unsupported {
            option: "min_new_tokens",
            found: options.min_new_tokens.to_string(),
            expected: "0: otherwise its log-probs are those of a distribution without the tokens that end a completion",
        });
    }
    Ok(())
}

fn jobs(requests: &[Request]) -> Vec<Job> {
    let job = |place: Place| {
        let request = &requests[place.prompt_idx];
        Job {
            place,
            prompt: request.prompt_tokens.clone(),
            seed: request.seeds[place.sample_idx],
        }
    };
    places(requests).into_iter().map(job).collect()
}

/// Refuses an answer that is cut off, damaged, or from other weights.
fn checked(answer: &Answer, label: &str, vocab_size: usize) -> Result<(), String> {
    let (n_tokens, n_logprobs) = (answer.tokens.len(), answer.logprobs.len());
    if !["stop", "length"].contains(&answer.finish.as_str()) {
        return Err(format!("a completion ended as `{}`", answer.finish));
    }
    if answer.labels.is_empty() || answer.labels.iter().any(|found| found != label) {
        let found = answer.labels.join(", ");
        return Err(format!(
            "a completion is from the weights `{found}`; expected `{label}`"
        ));
    }
    if n_tokens == 0 || n_tokens != n_logprobs {
        return Err(format!(
            "a completion has {n_tokens} tokens and {n_logprobs} log-probs"
        ));
    }
    if let Some(token) = answer.tokens.iter().find(|&&id| id as usize >= vocab_size) {
        return Err(format!(
            "token {token} is not in the policy's vocabulary of {vocab_size}"
        ));
    }
    if let Some(logprob) = answer.logprobs.iter().find(|logprob| !logprob.is_finite()) {
        return Err(format!("a log-prob is {logprob}"));
    }
    Ok(())
}

/// The answer up to where a completion that is sampled in this process would end: servers do not look for stop strings.
fn completion(answer: Answer, ends: &Ends, tokenizer: &Tokenizer) -> Result<Completion, String> {
    let Answer {
        mut tokens,
        mut logprobs,
        ..
    } = answer;
    for n in 1..=tokens.len() {
        let Some(stop) = ends.reason(&tokens[..n]).map_err(|e| e.to_string())? else {
            continue;
        };
        tokens.truncate(n);
        logprobs.truncate(n);
        let text = tokenizer.decode(&tokens).map_err(|e| e.to_string())?;
        return Ok(Completion {
            tokens,
            logprobs,
            text,
            stop,
        });
    }
    Err(format!(
        "a completion ended by itself after {} tokens",
        tokens.len()
    ))
}

/// How far a server's log-probs are from the policy's own, for each token of its completions.
fn differences<'a, B: DecodeBackend>(
    policy: &CausalLm<B>,
    requests: &[Request],
    completions: impl Iterator<Item = &'a Sampled>,
    options: &GenerateOptions,
) -> Vec<f64> {
    let (items, theirs): (Vec<_>, Vec<_>) = completions
        .map(|sampled| {
            let prompt = &requests[sampled.place.prompt_idx].prompt_tokens;
            let Completion {
                tokens, logprobs, ..
            } = &sampled.completion;
            (ScoreItem::response(prompt, tokens), logprobs)
        })
        .unzip();
    if items.is_empty() {
        return Vec::new();
    }
    let temperature = options.sampling.scoring_temperature();
    let scores = B::on_workers(|| score(policy, &items, temperature).logprobs.into_data());
    let own = scores.convert::<f32>();
    let difference = |(own, theirs): (f32, &f32)| {
        let difference = f64::from(own - theirs);
        // Without the tokens that are left out, the others are more probable, but none is less.
        if options.sampling.truncates() {
            difference.max(0.0)
        } else {
            difference.abs()
        }
    };
    own.iter::<f32>()
        .zip(theirs.into_iter().flatten())
        .map(difference)
        .collect()
}
