//! The section of the reference policy, and what it needs of others.

use super::TrainConfig;
use super::check::bad;
use super::keys::config_section;
use super::values::Positive;
use crate::failure::Failure;
use crate::models::frozen;
use crate::train::ReferenceRule;
use rpg_core::model::Storage;
use rpg_core::ops::DecodeBackend;
use serde::Deserialize;
use std::num::NonZeroU64;
use std::path::PathBuf;

config_section! {
    /// The reference policy of the KL term.
    pub struct ReferenceConfig via RawReference {
        /// When the reference becomes the policy: at every rollout, after every K steps, or after a step at whose end the
        /// mean of `actor/kl_loss` over the last N (without it, 10) is above KAPPA; or its weights become
        /// `ALPHA * policy + (1 - ALPHA) * reference` after every K (without it, 1) steps; or never. With `path` the
        /// default is `never`. An older spelling is `update_every`: 1, K or 0.
        rule: ReferenceRule = ReferenceRule::default(),
        /// Another model to begin with as the reference, such as a teacher, named as in `model.path`; it must have the
        /// policy's vocabulary. Without it, the reference begins as the policy does.
        path: Option<PathBuf> = None,
        /// Adapts the coefficient of the KL term, which begins at `objective.beta`, to the divergence after every step
        /// (`kl_ctrl.type = "adaptive"` of verl).
        adaptive_beta: Option<AdaptiveBeta> = None,
    }
}

config_section! {
    /// How the coefficient of the KL term is adapted (Ziegler et al. 2019): after a step with n completions to train on
    /// it is multiplied by `1 + clip(KL / target_kl - 1, -0.2, 0.2) * n / horizon`.
    pub struct AdaptiveBeta {
        /// The divergence from the reference, `actor/kl_loss`, at which the coefficient stays as it is.
        target_kl: Positive,
        /// The number of completions after which a divergence far from the target has changed the coefficient by a fifth.
        horizon: Positive = Positive::of(10_000.0),
    }
}

impl AdaptiveBeta {
    /// The factor by which the coefficient changes after a step whose divergence is `kl` and that has trained on
    /// `n_completions`.
    pub(crate) fn factor(&self, kl: f64, n_completions: f64) -> f64 {
        let error = (kl / self.target_kl.get() - 1.0).clamp(-MOST_CHANGE, MOST_CHANGE);
        1.0 + error * n_completions / self.horizon.get()
    }
}

/// The limit on the relative error that the coefficient is adapted by.
const MOST_CHANGE: f64 = 0.2;

/// As users write it: `update_every` is the older spelling of `rule`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct RawReference {
    rule: Option<ReferenceRule>,
    update_every: Option<u64>,
    path: Option<PathBuf>,
    adaptive_beta: Option<AdaptiveBeta>,
}

impl TryFrom<RawReference> for ReferenceConfig {
    type Error = String;

    fn try_from(raw: RawReference) -> Result<Self, Self::Error> {
        let rule = match (raw.rule, raw.update_every) {
            (Some(rule), Some(k)) => {
                let rule = toml::Value::try_from(rule).map_err(|e| e.to_string())?;
                return Err(format!(
                    "both `rule` and `update_every` are given; keep `rule`: found {rule} and {k}"
                ));
            }
            (Some(rule), None) => rule,
            (None, None) if raw.path.is_some() => ReferenceRule::Never,
            (None, None | Some(1)) => ReferenceRule::EveryRollout,
            (None, Some(k)) => {
                NonZeroU64::new(k).map_or(ReferenceRule::Never, ReferenceRule::EverySteps)
            }
        };
        Ok(Self {
            rule,
            path: raw.path,
            adaptive_beta: raw.adaptive_beta,
        })
    }
}

impl ReferenceConfig {
    /// In which form the weights of the model at `path` are kept: those that are averaged must be f32.
    pub fn storage<B: DecodeBackend>(&self) -> Storage {
        match self.rule {
            ReferenceRule::MovingAverage { .. } => Storage::F32,
            _ => frozen::<B>(),
        }
    }
}

impl TrainConfig {
    /// Whether nothing but the divergence from another model teaches the policy: on-policy distillation.
    pub(super) fn is_distillation(&self) -> bool {
        self.reward.is_nothing() && self.reference.path.is_some() && self.objective.is_regularized()
    }

    /// Refuses a reference that contradicts its rule, and numbers that could turn the KL term around.
    pub(super) fn check_reference(&self) -> Result<(), Failure> {
        let ReferenceConfig {
            rule,
            path,
            adaptive_beta,
        } = &self.reference;
        if path.is_some() && !rule.needs_model() {
            return Err(Failure::input(
                "reference: `path` is given with the rule `every_rollout`, by which the reference is the sampling policy",
            )
            .hint("leave reference.rule out to keep the model of reference.path, or give another rule"));
        }
        let Some(adaptive) = adaptive_beta else {
            return Ok(());
        };
        if !self.objective.is_regularized() {
            return Err(Failure::input(
                "reference.adaptive_beta: the objective has no KL term, or its `beta` is 0, so there is nothing to adapt",
            )
            .hint("give objective.beta a value to begin with, or remove reference.adaptive_beta"));
        }
        let most = self.rollout.prompts_per_step.get() * self.rollout.samples_per_prompt.get();
        let least = MOST_CHANGE * most as f64;
        if adaptive.horizon.get() <= least {
            let expected = format!(
                "more than {least}, a fifth of the {most} completions of a step: one step could make the coefficient 0"
            );
            return Err(bad(
                "reference.adaptive_beta.horizon",
                adaptive.horizon,
                &expected,
            ));
        }
        Ok(())
    }

    /// What of the reference is allowed and probably not meant.
    pub(super) fn reference_warnings(&self) -> Vec<String> {
        let reference = &self.reference;
        let mut warnings = Vec::new();
        if reference.path.is_some() && !self.objective.is_regularized() {
            warnings.push(
                "reference.path: the objective has no KL term, or its `beta` is 0, so the divergence from the model is \
                 only measured"
                    .to_owned(),
            );
        }
        let one_update = self.train.mini_batches.get() * self.train.epochs.get() == 1;
        if reference.adaptive_beta.is_some() && !reference.rule.needs_model() && one_update {
            warnings.push(
                "reference.adaptive_beta: with the rule `every_rollout` and one update per step the divergence is always \
                 0, so the coefficient only falls"
                    .to_owned(),
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(sets: &[&str]) -> Result<TrainConfig, Failure> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        TrainConfig::recipe("arithmetic", &sets)
    }

    #[test]
    fn a_reference_of_its_own_stays_as_it_is_unless_a_rule_says_otherwise() {
        for (set, rule) in [
            ("reference={path='teacher'}", ReferenceRule::Never),
            (
                "reference={path='teacher', rule='never'}",
                ReferenceRule::Never,
            ),
            (
                "reference={path='teacher', rule={every_steps=4}}",
                ReferenceRule::EverySteps(NonZeroU64::new(4).unwrap()),
            ),
        ] {
            let config = read(&[set]).unwrap();
            assert_eq!(config.reference.rule, rule, "{set}");
            let again = TrainConfig::from_toml(&config.to_toml(), "again", &[]).unwrap();
            assert_eq!(again.reference, config.reference, "{set}");
        }
        for set in [
            "reference={path='teacher', rule='every_rollout'}",
            "reference={path='teacher', update_every=1}",
        ] {
            let error = read(&[set]).unwrap_err().message;
            let expected = "reference: `path` is given with the rule `every_rollout`";
            assert!(error.contains(expected), "{set}: {error}");
        }
    }

    #[test]
    fn the_config_for_distillation_in_the_docs_is_one() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        // A package has no docs/.
        let Ok(page) = std::fs::read_to_string(page) else {
            return;
        };
        let (_, section) = page.split_once("### On-policy distillation").unwrap();
        let (_, text) = section.split_once("```toml\n").unwrap();
        let (text, _) = text.split_once("```").unwrap();
        let config = TrainConfig::from_toml(text, "docs/config.md", &[]).unwrap();
        assert!(config.is_distillation());
        assert_eq!(config.warnings(), Vec::<String>::new());
        assert_eq!(config.objective.warnings(), Vec::<String>::new());
    }

    #[test]
    fn the_coefficient_is_adapted_as_by_ziegler_et_al() {
        let adaptive = AdaptiveBeta {
            target_kl: Positive::of(0.5),
            horizon: Positive::of(1000.0),
        };
        for (kl, n, expected) in [
            (0.5, 100.0, 1.0),
            // Within the limit: an error of a tenth.
            (0.55, 100.0, 1.01),
            (0.45, 100.0, 0.99),
            (50.0, 100.0, 1.02),
            (0.0, 100.0, 0.98),
            (50.0, 1000.0, 1.2),
        ] {
            let factor = adaptive.factor(kl, n);
            assert!((factor - expected).abs() < 1e-15, "{kl} {n}: {factor}");
        }
    }

    #[test]
    fn what_cannot_be_adapted_is_refused() {
        let adaptive = "reference.adaptive_beta.target_kl=0.1";
        let most = "the 512 completions of a step";
        let nothing = "reference.adaptive_beta: the objective has no KL term, or its `beta` is 0";
        let horizon =
            "reference.adaptive_beta.horizon: found 102.4; expected more than 102.4, a fifth of";
        for (set, expected) in [
            ("objective.beta=0", nothing),
            ("objective.kl=none", nothing),
            ("objective={kind='ppo'}", nothing),
            (
                "objective={kind='grpo', beta=0.1, kl_placement='none'}",
                nothing,
            ),
            ("reference.adaptive_beta.horizon=102.4", horizon),
            ("reference.adaptive_beta.horizon=102.4", most),
        ] {
            let error = read(&[adaptive, set]).unwrap_err().message;
            assert!(error.contains(expected), "{set}: {error}");
        }
        for set in [
            "reference.adaptive_beta.horizon=103",
            "objective={kind='grpo', beta=0.1}",
            "objective={kind='reinforce_pp', beta=0.1}",
        ] {
            read(&[adaptive, set]).expect(set);
        }
    }
}
