//! Where the completions of a training step come from.

use crate::generate::{GenerateError, GenerateOptions, Progress, Request, Sampler};
use rpg_core::Group;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Samples completions from a policy that changes during training.
///
/// [`LocalRollouts`] samples in this process. An implementation that asks an inference server sends it the weights
/// in [`sync`](Self::sync). The log-probs of its completions must be those of the full softmax at the sampling
/// temperature, also where top-k, top-p or min-p leave tokens out: training takes them as those of the distribution that
/// the tokens come from.
pub trait Rollouts<B: DecodeBackend> {
    /// Takes over the policy's weights: from here on completions come from this policy.
    fn sync(&mut self, policy: &CausalLm<B>) -> Result<(), GenerateError>;

    /// The same before an evaluation, which measures the policy: an implementation whose completions otherwise come
    /// from something near it samples from the policy itself, if it can.
    fn sync_for_evaluation(&mut self, policy: &CausalLm<B>) -> Result<(), GenerateError> {
        self.sync(policy)
    }

    /// Samples every request's group, in the order of the requests. `on_progress` is called now and then; if it
    /// breaks, the rollout ends with [`GenerateError::Interrupted`].
    fn sample(
        &mut self,
        requests: &[Request],
        options: &GenerateOptions,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Group>, GenerateError>;

    /// Whether the log-probs of the completions are, up to rounding, those that scoring with the policy given to
    /// [`sync`](Self::sync) gives: there is then no mismatch to correct for. False for a server with other kernels,
    /// for weights of fewer bits or a few updates old, and for all that do not say otherwise.
    fn is_exact(&self) -> bool {
        false
    }

    /// What there is to report of the sampling since the last call, by the metric's name.
    fn take_metrics(&mut self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Called before the policy is updated: an implementation that shares the policy's tensors drops them, so that
    /// they are updated in place. Nothing is sampled until the next [`sync`](Self::sync).
    fn release(&mut self) {}
}

/// The program that inference servers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EngineKind {
    /// vLLM: `POST /inference/v1/generate`, and its development endpoints for new weights.
    #[default]
    Vllm,
    /// SGLang: `POST /generate` and `/update_weights_from_disk`.
    Sglang,
}

/// The weights with which [`LocalRollouts`] samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RolloutWeights {
    /// The policy's own.
    #[default]
    Exact,
    /// 8-bit integers ([`CausalLm::int8`]): faster, and another policy near this one.
    Int8,
}

/// Samples in this process, on the policy's own backend.
#[derive(Debug)]
pub struct LocalRollouts<B: DecodeBackend> {
    tokenizer: Tokenizer,
    weights: RolloutWeights,
    model: Option<CausalLm<B>>,
}

impl<B: DecodeBackend> LocalRollouts<B> {
    /// Without a policy yet: [`sync`](Rollouts::sync) gives one.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            weights: RolloutWeights::default(),
            model: None,
        }
    }

    /// Samples with these weights, except for evaluations.
    pub fn with_weights(self, weights: RolloutWeights) -> Self {
        Self { weights, ..self }
    }
}

impl<B: DecodeBackend> Rollouts<B> for LocalRollouts<B> {
    /// Shares the policy's tensors, or makes integers of them.
    fn sync(&mut self, policy: &CausalLm<B>) -> Result<(), GenerateError> {
        let policy = policy.clone();
        self.model = Some(match self.weights {
            RolloutWeights::Exact => policy,
            RolloutWeights::Int8 => policy.int8(),
        });
        Ok(())
    }

    /// Shares the policy's tensors.
    fn sync_for_evaluation(&mut self, policy: &CausalLm<B>) -> Result<(), GenerateError> {
        self.model = Some(policy.clone());
        Ok(())
    }

    fn sample(
        &mut self,
        requests: &[Request],
        options: &GenerateOptions,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Group>, GenerateError> {
        let model = self.model.as_ref().ok_or(GenerateError::NoPolicy)?;
        Sampler::new(model, &self.tokenizer, requests, options)?.run(on_progress)
    }

    /// With the policy's weights it computes what scoring computes.
    fn is_exact(&self) -> bool {
        self.weights == RolloutWeights::Exact
    }

    fn release(&mut self) {
        self.model = None;
    }
}
