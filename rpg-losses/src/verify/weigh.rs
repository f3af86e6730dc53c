//! The units of a response and their weights, written down a second time.
//!
//! As in [`super::oracle`], nothing here shares code with the losses.

use super::oracle;
use crate::choices::Level;
use crate::config::ObjectiveConfig;
use crate::formula::Unit;

/// A unit and the logarithm of its weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weighed {
    pub(super) unit: Unit,
    pub(super) log_w: f64,
}

/// The units of a response, and the derivative of a unit's `lp` in that of each of its tokens.
pub(super) fn units(config: &ObjectiveConfig, tokens: &[Unit]) -> (Vec<Weighed>, f64) {
    let advantages = counted_advantages(config, tokens);
    let tokens: Vec<Unit> = (tokens.iter().zip(advantages))
        .map(|(token, advantage)| Unit {
            advantage,
            ..*token
        })
        .collect();
    let own = |unit: Unit| Weighed {
        unit,
        log_w: unit.lp - unit.lp_old,
    };
    if !config.level.is_sequence() {
        let log_s = shared_log_weight(config, &tokens);
        let weighed = tokens.into_iter().map(|unit| Weighed {
            log_w: log_s.unwrap_or(unit.lp - unit.lp_old),
            unit,
        });
        return (weighed.collect(), 1.0);
    }
    let share = match config.level {
        Level::SequenceNorm => 1.0 / tokens.len() as f64,
        Level::Sequence | Level::Token => 1.0,
    };
    let sum = |value: fn(&Unit) -> f64| tokens.iter().map(value).sum::<f64>() * share;
    let response = Unit {
        lp: sum(|token| token.lp),
        lp_old: sum(|token| token.lp_old),
        lp_ref: sum(|token| token.lp_ref),
        advantage: tokens[0].advantage,
    };
    (vec![own(response)], share)
}

/// The advantages of a response's tokens, 0 where the sequence mask takes them away.
pub(super) fn counted_advantages(config: &ObjectiveConfig, tokens: &[Unit]) -> Vec<f64> {
    let is_off_policy = mask_margin(config, tokens) > 0.0;
    let counted = tokens.iter().map(|token| {
        if is_off_policy {
            token.advantage.max(0.0)
        } else {
            token.advantage
        }
    });
    counted.collect()
}

/// How far the response is beyond its sequence mask; below 0 if it is not.
pub(super) fn mask_margin(config: &ObjectiveConfig, tokens: &[Unit]) -> f64 {
    let Some(max) = config.sequence_mask else {
        return f64::NEG_INFINITY;
    };
    let total: f64 = tokens.iter().map(|token| token.lp_old - token.lp).sum();
    total / tokens.len() as f64 - max
}

/// The logarithm of the weight that the tokens share, if they do.
fn shared_log_weight(config: &ObjectiveConfig, tokens: &[Unit]) -> Option<f64> {
    let parts = tokens.iter().map(|token| oracle::shared(config, token));
    let sum: Option<f64> = parts.sum();
    sum.map(|sum| sum / tokens.len() as f64)
}
