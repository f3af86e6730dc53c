//! Which policy samples which step, where steps are sampled before those before them have been trained on.
//!
//! Version `v` of the policy is the one after `v` steps. Step `t`, counted from 1, is trained from version `t - 1`, and sampled
//! with version `max(0, t - 1 - n)`, where n is `rollout.max_staleness`: who is faster never matters.

use crate::checkpoint::read_past;
use crate::failure::Failure;
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use std::collections::BTreeMap;
use std::path::Path;

/// A step to be sampled.
#[derive(Debug)]
pub(super) struct Order<B: DecodeBackend> {
    /// Its number, counted from 1.
    pub(super) step: u64,
    /// The version of the policy that samples it.
    pub(super) version: u64,
    /// That policy.
    pub(super) policy: CausalLm<B>,
}

/// Says with which policy each step is sampled, and has those that a checkpoint needs.
pub(super) struct Versions<B: DecodeBackend> {
    max_staleness: u64,
    /// The last step that was ordered.
    last: u64,
    /// The policies of steps that the run has not done, by their versions.
    policies: BTreeMap<u64, CausalLm<B>>,
}

impl<B: DecodeBackend> Versions<B> {
    /// Those of a new run.
    pub(super) fn new(max_staleness: usize) -> Self {
        Self {
            max_staleness: max_staleness as u64,
            last: 0,
            policies: BTreeMap::new(),
        }
    }

    /// Takes up the policies that a checkpoint keeps. If an adapter is trained, its base is that of `policy`.
    pub(super) fn restore(&mut self, dir: &Path, policy: &CausalLm<B>) -> Result<(), Failure> {
        if self.max_staleness > 0 {
            self.policies = read_past(dir, policy)?;
        }
        Ok(())
    }

    /// The steps that can be sampled, now that so many are done and the policy is this one.
    ///
    /// A run that is resumed with a larger `rollout.max_staleness` lacks the oldest policies: the next ones take their place.
    pub(super) fn orders(&mut self, done: u64, policy: CausalLm<B>) -> Vec<Order<B>> {
        let n = self.max_staleness;
        self.policies.insert(done, policy);
        self.policies = self.policies.split_off(&done.saturating_sub(n));
        let steps = self.last.max(done) + 1..=done + 1 + n;
        self.last = *steps.end();
        let order = |step: u64| {
            let mut usable = self.policies.range((step - 1).saturating_sub(n)..);
            usable.next().map(|(&version, policy)| Order {
                step,
                version,
                policy: policy.clone(),
            })
        };
        let orders = steps.filter_map(order).collect();
        if n == 0 {
            // The sampler shares its tensors, and drops them before they are updated in place.
            self.policies.clear();
        }
        orders
    }

    /// The policies that sample steps after the first `done`, except the one that these have trained.
    pub(super) fn past(&self, done: u64) -> impl Iterator<Item = (u64, &CausalLm<B>)> {
        let oldest = done.saturating_sub(self.max_staleness);
        let past = self.policies.range(oldest..done);
        past.map(|(&version, policy)| (version, policy))
    }
}
