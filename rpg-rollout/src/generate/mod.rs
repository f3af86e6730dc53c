//! Batched sampling: continuous batching over a fixed number of slots.
//!
//! A prompt is computed once, and its keys, values and states are copied to the slots of its other samples. A slot whose
//! completion has ended takes the next one at once. Each completion draws from its own stream of random numbers,
//! so its text does not depend on its neighbours.

mod batch;
pub(crate) mod delivery;
pub(crate) mod ends;
mod error;
pub(crate) mod options;

pub use error::GenerateError;
pub use options::{GenerateOptions, Request};

use batch::Batch;
use delivery::Delivery;
use rpg_core::Group;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::ops::ControlFlow;

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Completions that have ended.
    pub n_finished: usize,
    /// All completions of the rollout.
    pub n_completions: usize,
    /// Tokens sampled so far.
    pub n_new_tokens: usize,
}

/// Samples every request's group, in the order of the requests.
///
/// [`Sampler`] does the same step by step, for callers who show progress, who may stop early, or who cannot
/// hold all groups at once.
pub fn generate<B: DecodeBackend>(
    model: &CausalLm<B>,
    tokenizer: &Tokenizer,
    requests: &[Request],
    options: &GenerateOptions,
) -> Result<Vec<Group>, GenerateError> {
    Sampler::new(model, tokenizer, requests, options)?.run(&mut |_| ControlFlow::Continue(()))
}

/// A rollout under way.
///
/// ```
/// # use rpg_core::Group;
/// # use rpg_core::model::CausalLm;
/// # use rpg_core::ops::DecodeBackend;
/// # use rpg_core::tokenizer::Tokenizer;
/// # use rpg_rollout::generate::{GenerateError, GenerateOptions, Request, Sampler};
/// # fn write(_: Group) {}
/// # fn sample<B: DecodeBackend>(
/// #     model: &CausalLm<B>,
/// #     tokenizer: &Tokenizer,
/// #     requests: &[Request],
/// #     options: &GenerateOptions,
/// # ) -> Result<(), GenerateError> {
/// let mut sampler = Sampler::new(model, tokenizer, requests, options)?;
/// while !sampler.is_done() {
///     sampler.step()?.into_iter().for_each(write);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Sampler<'a, B: DecodeBackend> {
    batch: Batch<'a, B>,
    tokenizer: &'a Tokenizer,
    delivery: Delivery<'a>,
    progress: Progress,
}

impl<'a, B: DecodeBackend> Sampler<'a, B> {
    /// Checks the requests and allocates the cache; nothing is sampled yet.
    pub fn new(
        model: &'a CausalLm<B>,
        tokenizer: &'a Tokenizer,
        requests: &'a [Request],
        options: &'a GenerateOptions,
    ) -> Result<Self, GenerateError> {
        options::check(model.config(), requests, options)?;
        let n_completions = requests.iter().map(|request| request.seeds.len()).sum();
        Ok(Self {
            batch: Batch::new(model, requests, options, n_completions),
            tokenizer,
            delivery: Delivery::new(requests),
            progress: Progress {
                n_finished: 0,
                n_completions,
                n_new_tokens: 0,
            },
        })
    }

    /// Samples one token of every completion in flight. Returns the groups that this completes, in the order of
    /// the requests: a group waits for those before it.
    pub fn step(&mut self) -> Result<Vec<Group>, GenerateError> {
        let (batch, tokenizer) = (&mut self.batch, self.tokenizer);
        let finished = B::on_workers(|| {
            batch.admit();
            batch.step(tokenizer)
        })?;
        self.progress.n_new_tokens += self.batch.n_active() + finished.len();
        self.progress.n_finished += finished.len();
        for (place, completion) in finished {
            self.delivery.put(place, completion);
        }
        Ok(self.delivery.take_complete())
    }

    /// Whether every group has been returned.
    pub fn is_done(&self) -> bool {
        self.delivery.is_done()
    }

    /// How far the rollout is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Samples what is left and returns its groups. `on_progress` is called after every step; if it breaks, the
    /// rollout ends with [`GenerateError::Interrupted`].
    pub fn run(
        mut self,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Group>, GenerateError> {
        let mut groups = Vec::new();
        while !self.is_done() {
            groups.extend(self.step()?);
            if on_progress(self.progress).is_break() {
                return Err(GenerateError::Interrupted);
            }
        }
        Ok(groups)
    }
}
