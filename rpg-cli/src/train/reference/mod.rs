//! The reference policy of the KL term: its model, when it changes, and how strongly it counts.

mod rule;
mod vocabulary;
mod weights;

pub use rule::ReferenceRule;
pub(super) use vocabulary::check_vocabulary;
pub(super) use weights::{check_shapes, checksum};

use super::learner::Learner;
use super::report::Metrics;
use crate::checkpoint::read_reference;
use crate::config::{ReferenceConfig, TrainConfig};
use crate::failure::Failure;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use rpg_losses::ObjectiveConfig;
use rule::mean;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a run keeps of its reference besides the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceState {
    /// The KL divergences of the newest steps since the reference last changed, as many as the rule looks at.
    pub kls: Vec<f64>,
    /// By how much the adapted coefficient of the KL term differs from `objective.beta`: a factor.
    pub beta_factor: f64,
}

impl Default for ReferenceState {
    fn default() -> Self {
        Self {
            kls: Vec::new(),
            beta_factor: 1.0,
        }
    }
}

/// The reference policy.
pub(super) struct Reference<'a, B: DecodeBackend> {
    config: &'a ReferenceConfig,
    objective: &'a ObjectiveConfig,
    // `None` where the reference is the sampling policy, and before the first step.
    model: Option<CausalLm<B>>,
    // Whether it is still the model that `reference.path` names.
    is_given: bool,
    state: ReferenceState,
}

impl<'a, B: DecodeBackend> Reference<'a, B> {
    /// The reference of a new run; `given` is the model that `reference.path` names.
    pub(super) fn new(
        config: &'a TrainConfig,
        given: Option<CausalLm<B>>,
    ) -> Result<Self, Failure> {
        let objective = &config.objective;
        let config = &config.reference;
        if config.path.is_some() != given.is_some() {
            return Err(Failure::input(
                "reference.path: a run has a model for it, by `Start::reference`, if and only if it is given",
            ));
        }
        Ok(Self {
            config,
            objective,
            is_given: given.is_some(),
            model: given,
            state: ReferenceState::default(),
        })
    }

    /// Takes up what a checkpoint keeps.
    pub(super) fn restore(
        &mut self,
        dir: &Path,
        state: &ReferenceState,
        policy: &CausalLm<B>,
    ) -> Result<(), Failure> {
        // The rule may have changed since.
        if self.config.rule.needs_model()
            && let Some(model) = read_reference(dir, policy)?
        {
            (self.model, self.is_given) = (Some(model), false);
        }
        self.state = state.clone();
        Ok(())
    }

    /// Before the first step of a new or resumed run: without a model of its own, the reference begins as the policy.
    pub(super) fn begin(&mut self, learner: &Learner<B>) -> Result<(), Failure> {
        if self.config.rule.needs_model() && self.model.is_none() {
            self.model = Some(learner.policy()?);
        }
        Ok(())
    }

    /// The model, unless the reference is the sampling policy.
    pub(super) fn model(&self) -> Option<&CausalLm<B>> {
        self.model.as_ref()
    }

    /// The model as far as a checkpoint must keep it: one that `reference.path` still names is read from there again.
    pub(super) fn kept_model(&self) -> Option<&CausalLm<B>> {
        self.model.as_ref().filter(|_| !self.is_given)
    }

    /// What a checkpoint keeps besides the model.
    pub(super) fn state(&self) -> &ReferenceState {
        &self.state
    }

    /// The objective of the present step, with the adapted coefficient.
    pub(super) fn objective(&self) -> ObjectiveConfig {
        let mut objective = self.objective.clone();
        if self.config.adaptive_beta.is_some() {
            objective.beta *= self.state.beta_factor;
        }
        objective
    }

    /// After the updates of a step on `n_responses`, whose other metrics are known: adapts the coefficient and changes
    /// the model, if it is time.
    pub(super) fn after_step(
        &mut self,
        step: u64,
        n_responses: f64,
        learner: &Learner<B>,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        // A step that left everything out has none, and what is not a number says nothing.
        let kl = metrics.get("actor/kl_loss");
        if let Some(adaptive) = &self.config.adaptive_beta {
            metrics.add("actor/kl_coef", self.objective().beta);
            if let Some(kl) = kl {
                self.state.beta_factor *= adaptive.factor(kl, n_responses);
            }
        }
        let rule = self.config.rule;
        self.state.add(kl, rule.window());
        if !self.state.kls.is_empty() {
            metrics.add("reference/kl_average", mean(&self.state.kls));
        }
        let share = rule.share(step, &self.state.kls);
        if rule.changes_model() {
            metrics.add("reference/updated", f64::from(u8::from(share > 0.0)));
        }
        if share > 0.0 {
            self.change(learner.policy()?, share);
        }
        Ok(())
    }

    fn change(&mut self, policy: CausalLm<B>, share: f64) {
        self.model = Some(match self.model.take() {
            Some(model) if share < 1.0 => weights::mixed(model, &policy, share),
            _ => policy,
        });
        self.is_given = false;
        self.state.kls.clear();
    }
}

impl ReferenceState {
    /// Adds the divergence of a step, and drops what is older than the `window`.
    fn add(&mut self, kl: Option<f64>, window: usize) {
        self.kls.extend(kl);
        let n_old = self.kls.len().saturating_sub(window);
        self.kls.drain(..n_old);
    }
}
