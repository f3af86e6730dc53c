//! What an inference server must be, and the calls by which it is asked.

use super::http::{Client, HttpError};
use super::options::ServerOptions;
use super::rollouts::Published;
use super::sglang::Sglang;
use super::vllm::Vllm;
use crate::rollouts::EngineKind;
use crate::sampling::SamplingParams;
use std::fmt;
use std::time::Duration;

/// The label of weights that a server was started with.
pub(super) const STARTED: &str = "default";

/// A server that works answers within this time what needs no model.
pub(super) const QUICK: Duration = Duration::from_secs(10);

/// The first completion of a server, and the first time that it tells its settings, take this long at most: some prepare
/// their kernels with the one and look at their machine for the other.
pub(super) const PROBE: Duration = Duration::from_secs(120);

/// What a server must be able to do for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Tokens of the longest prompt and its completion.
    pub max_tokens: usize,
    /// Tokens of the policy's vocabulary.
    pub vocab_size: usize,
    /// Whether adapters are loaded, not whole models.
    pub adapter: bool,
    /// The rank of the adapters.
    pub lora_rank: Option<usize>,
}

/// What a server says it is. What it does not say is left to the answers, each of which is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The program and its version.
    pub(super) program: String,
    /// Why it does not sample from tokens, if it does not.
    pub(super) refusal: Option<String>,
    /// Why it cannot be given new weights, if it cannot.
    pub(super) is_fixed: Option<String>,
    /// Tokens of prompt and completion.
    pub(super) max_tokens: Option<usize>,
    /// Which log-probs it gives, if other ones than those at the sampling temperature.
    pub(super) other_logprobs: Option<String>,
    /// The largest rank of adapters; 0: it takes none.
    pub(super) max_lora_rank: Option<usize>,
    /// Whether a seed decides what is drawn.
    pub(super) follows_seeds: bool,
}

/// How a server is started so that it does what a run needs.
pub(super) struct Remedies {
    pub(super) tokens: &'static str,
    pub(super) weights: &'static str,
    pub(super) context: &'static str,
    pub(super) logprobs: &'static str,
    pub(super) adapters: &'static str,
    pub(super) seeds: &'static str,
}

/// What is wrong with a server, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) fault: String,
    pub(super) hint: String,
}

impl Facts {
    /// The first thing that the run needs and the server has not.
    pub(super) fn check(&self, needs: &Needs, remedies: &Remedies) -> Result<(), Unfit> {
        let unfit = |fault: String, remedy: &str| {
            let program = &self.program;
            Err(Unfit {
                fault: format!("{program} {fault}"),
                hint: format!("start it with {remedy}"),
            })
        };
        if let Some(why) = &self.is_fixed {
            return unfit(format!("cannot be given weights: {why}"), remedies.weights);
        }
        if let Some(why) = &self.refusal {
            return unfit(
                format!("samples nothing from tokens: {why}"),
                remedies.tokens,
            );
        }
        if let Some(mode) = &self.other_logprobs {
            let fault = format!("gives {mode}; expected log-probs at the sampling temperature");
            return unfit(fault, remedies.logprobs);
        }
        if let Some(found) = self.max_tokens.filter(|&n| n < needs.max_tokens) {
            let needed = needs.max_tokens;
            let fault = format!("takes {found} tokens; prompt and completion have up to {needed}");
            return unfit(fault, &format!("{} {needed}", remedies.context));
        }
        if needs.adapter {
            let rank = needs.lora_rank.unwrap_or(1);
            if let Some(found) = self.max_lora_rank.filter(|&found| found < rank) {
                let fault =
                    format!("takes adapters up to rank {found}; those of this run have {rank}");
                return unfit(fault, &format!("{} {rank}", remedies.adapters));
            }
        }
        if !self.follows_seeds {
            return unfit("draws without regard to seeds".into(), remedies.seeds);
        }
        Ok(())
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.program)?;
        match self.max_tokens {
            Some(n) => write!(f, ", context {n}"),
            None => Ok(()),
        }
    }
}

/// How the completions of a rollout are drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sampling {
    pub(super) params: SamplingParams,
    pub(super) max_new_tokens: usize,
    /// A completion ends with any of these.
    pub(super) stop_tokens: Vec<u32>,
}

/// A completion as a server gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<f32>,
    /// `stop` and `length` are whole completions.
    pub(super) finish: String,
    /// The labels of the weights that sampled its tokens.
    pub(super) labels: Vec<String>,
}

/// Why weights were not loaded.
#[derive(Debug)]
pub(super) struct LoadError {
    pub(super) fault: HttpError,
    /// Whether the server may be left with half of the weights: it must not be used before it is started again.
    pub(super) is_fatal: bool,
}

impl LoadError {
    pub(super) fn passing(fault: HttpError) -> Self {
        Self {
            fault,
            is_fatal: false,
        }
    }

    pub(super) fn fatal(fault: HttpError) -> Self {
        Self {
            fault,
            is_fatal: true,
        }
    }
}

/// A program that serves models, as one server of it is asked.
pub(super) trait Engine: Send + Sync {
    fn client(&self) -> &Client;

    /// How it is started so that it does what a run needs.
    fn remedies(&self) -> Remedies;

    /// Has a server go on that another trainer left in the middle of loading weights.
    fn wake(&self) {}

    /// What the server is. It is asked for one token after the last token of the vocabulary.
    fn facts(&self, needs: &Needs) -> Result<Facts, HttpError>;

    /// Samples one completion.
    fn generate(
        &self,
        prompt: &[u32],
        seed: u64,
        sampling: &Sampling,
        published: &Published,
        timeout: Duration,
    ) -> Result<Answer, HttpError>;

    /// The label of the weights with which requests for these are answered.
    fn label(&self, published: &Published) -> Result<String, HttpError>;

    /// Has the server load the weights and give its answers their label.
    fn load(&self, published: &Published, timeout: Duration) -> Result<(), LoadError>;
}

/// The engine of one server.
pub(super) fn engine(options: &ServerOptions, url: &str) -> Box<dyn Engine> {
    let client = Client::new(url, options.api_key.as_deref());
    match options.engine {
        EngineKind::Vllm => Box::new(Vllm::new(client, options.reload_method.clone())),
        EngineKind::Sglang => Box::new(Sglang::new(client)),
    }
}

/// A seed for servers that take a signed number.
pub(super) fn signed(seed: u64) -> u64 {
    seed & (u64::MAX >> 1)
}

/// What the probe of [`Engine::facts`] draws: one token.
pub(super) fn probe() -> Sampling {
    Sampling {
        params: SamplingParams::default(),
        max_new_tokens: 1,
        stop_tokens: Vec::new(),
    }
}
