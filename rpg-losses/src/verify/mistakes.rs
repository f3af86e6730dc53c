//! Known wrong variants of single kinds, against the slopes of the right loss as the oracle has it.

use super::case::{Case, gradient, relative_error};
use super::options::VerifyOptions;
use super::policy::{bool_matrix, matrix};
use super::random::Random;
use super::rows::slopes;
use super::steps::{Step, flatten};
use super::weigh;
use crate::aggregate::{lengths, to_float};
use crate::clip::dual_clip;
use crate::config::ObjectiveConfig;
use crate::formula::Unit;
use crate::objectives::Kind;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Bool, Tensor};

/// A wrong loss of a kind.
pub(super) struct Mistake<B: AutodiffBackend> {
    pub(super) name: &'static str,
    kind: Kind,
    /// Whether the mistake makes a difference in this response.
    shows: fn(&ObjectiveConfig, &[Unit]) -> bool,
    /// The losses of tokens.
    losses: fn(&ObjectiveConfig, &Tokens<B>) -> Tensor<B, 2>,
}

/// What losses are made of, `[B, T]`; 0 where masked.
struct Tokens<B: AutodiffBackend> {
    lp: Tensor<B, 2>,
    lp_old: Tensor<B, 2>,
    log_w: Tensor<B, 2>,
    w: Tensor<B, 2>,
    a: Tensor<B, 2>,
    mask: Tensor<B, 2, Bool>,
}

impl<B: AutodiffBackend> Tokens<B> {
    /// The mean over each response, for all its tokens.
    fn mean(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        let lengths = lengths(&self.mask, values.dtype());
        let kept = values * to_float(self.mask.clone(), self.lp.dtype());
        (kept.sum_dim(1) / lengths).expand(self.lp.dims())
    }

    /// `exp(lp - SG(lp))`: 1, with the slope of the token's own `lp`.
    fn one(&self) -> Tensor<B, 2> {
        (self.lp.clone() - self.lp.clone().detach()).exp()
    }

    /// `-w*A`, without the tokens that are masked.
    fn kept(&self, masked: Tensor<B, 2, Bool>) -> Tensor<B, 2> {
        (-(self.w.clone() * self.a.clone())).mask_fill(masked, 0.0)
    }

    /// Where the policy has moved as the advantage wants.
    fn moved_along(&self) -> Tensor<B, 2, Bool> {
        (self.log_w.clone() * self.a.clone()).greater_elem(0.0)
    }
}

/// The gradient of the wrong loss in the log-probabilities against the slopes of the right one.
pub(super) fn error<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    mistake: &Mistake<B>,
    random: &mut Random,
) -> f64 {
    let mut config = ObjectiveConfig::for_kind(mistake.kind);
    // Of the kinds in the list, the mistakes of PPO are in its sequence mask.
    config.sequence_mask = (mistake.kind == Kind::Ppo).then_some(0.0);
    let case = loop {
        let case = Case::random(&config, random, 0.5);
        let shows = |tokens: &Vec<Unit>| (mistake.shows)(&case.config, tokens);
        if case.tokens().iter().any(shows) {
            break case;
        }
    };
    let responses = case.tokens();
    let rows = Rows {
        lp: case.tree.token_log_probs(&case.policy),
        lp_old: case.tree.token_log_probs(&case.old),
        advantages: case.advantages.clone(),
        mask: case.tree.mask(),
    };
    let gradient = gradient_of(options, mistake, &case.config, &rows);
    let n_columns = case.tree.max_length();
    let (mut actual, mut expected) = (Vec::new(), Vec::new());
    for (row, tokens) in responses.iter().enumerate() {
        if let Some(slopes) = slopes(&case.config, tokens) {
            let first = row * n_columns;
            actual.extend(&gradient[first..first + tokens.len()]);
            expected.extend(&slopes[..tokens.len()]);
        }
    }
    relative_error(&actual, &expected)
}

/// Log-probabilities under policy and sampler, advantages, and which tokens count: `[B][T]`.
struct Rows {
    lp: Vec<Vec<f64>>,
    lp_old: Vec<Vec<f64>>,
    advantages: Vec<Vec<f64>>,
    mask: Vec<Vec<bool>>,
}

/// The gradient of the wrong loss, row by row.
fn gradient_of<B: AutodiffBackend>(
    options: &VerifyOptions<B>,
    mistake: &Mistake<B>,
    config: &ObjectiveConfig,
    rows: &Rows,
) -> Vec<f64> {
    let tensor = |rows: &[Vec<f64>]| matrix::<B>(rows, &options.device, options.precision.dtype());
    let mask = bool_matrix::<B>(&rows.mask, &options.device);
    let lp = tensor(&rows.lp).require_grad();
    let kept = |x: Tensor<B, 2>| x.mask_fill(mask.clone().bool_not(), 0.0);
    let lp_old = kept(tensor(&rows.lp_old));
    let log_w = kept(lp.clone()) - lp_old.clone();
    let tokens = Tokens {
        lp: kept(lp.clone()),
        lp_old,
        w: log_w.clone().exp(),
        log_w,
        a: kept(tensor(&rows.advantages)),
        mask: mask.clone(),
    };
    gradient(&lp, &kept((mistake.losses)(config, &tokens)).sum())
}

/// A step whose masked tokens are left out of its denominator, against the right one.
pub(super) fn left_out_error(random: &mut Random) -> f64 {
    let config = ObjectiveConfig {
        sequence_mask: Some(0.1),
        ..ObjectiveConfig::for_kind(Kind::Ppo)
    };
    loop {
        let step = Step::random(random, 0.5);
        let right = step.closed_form(&config);
        let mut wrong = step.clone();
        for (row, tokens) in step.responses().iter().enumerate() {
            let counted = weigh::counted_advantages(&config, tokens);
            // The tokens of a step's responses come first in their rows.
            for (idx, (token, counted)) in tokens.iter().zip(counted).enumerate() {
                wrong.mask[row][idx] = token.advantage == counted;
            }
        }
        let has_gradient = right.grad.iter().flatten().any(|grad| grad.abs() > 0.01);
        if wrong.mask != step.mask && has_gradient {
            return relative_error(&flatten(wrong.closed_form(&config)), &flatten(right));
        }
    }
}

/// Whether any token of the response does what the mistake is about, with an advantage to show it.
fn any(tokens: &[Unit], what: impl Fn(&Unit) -> bool) -> bool {
    let has_weight = |token: &Unit| token.advantage.abs() > 0.2 && ratio(token) > 0.3;
    tokens.iter().any(|token| has_weight(token) && what(token))
}

fn ratio(token: &Unit) -> f64 {
    (token.lp - token.lp_old).exp()
}

/// How far DPPO's trust region is left by a divergence of this token; below 0 inside.
fn beyond(config: &ObjectiveConfig, token: &Unit, divergence: f64) -> f64 {
    let threshold = if token.advantage > 0.0 {
        config.eps_high
    } else {
        config.eps_low
    };
    divergence - threshold
}

fn moves_along(token: &Unit) -> bool {
    token.advantage * (token.lp - token.lp_old) > 0.0
}

/// `KL` of two coins that show a token with the probabilities `exp(x)` and `exp(y)`.
fn coins(x: f64, y: f64) -> f64 {
    let (p, q) = (x.exp().min(1.0), y.exp().min(1.0));
    let others = |p: f64| (1.0 - p).max(1e-8);
    p * (p / q).ln() + (1.0 - p) * (others(p) / others(q)).ln()
}

fn coin_tensors<B: AutodiffBackend>(x: &Tensor<B, 2>, y: &Tensor<B, 2>) -> Tensor<B, 2> {
    let probability = |x: &Tensor<B, 2>| x.clone().exp().clamp_max(1.0);
    let (p, q) = (probability(x), probability(y));
    let others = |p: &Tensor<B, 2>| (-p.clone() + 1.0).clamp_min(1e-8);
    p.clone() * (p.clone() / q.clone()).log() + (-p.clone() + 1.0) * (others(&p) / others(&q)).log()
}

/// Where a divergence is above the threshold for the sign of the advantage.
fn above_threshold<B: AutodiffBackend>(
    config: &ObjectiveConfig,
    tokens: &Tokens<B>,
    divergence: Tensor<B, 2>,
) -> Tensor<B, 2, Bool> {
    let is_positive = tokens.a.clone().greater_elem(0.0);
    let high = (divergence.clone().greater_elem(config.eps_high)).bool_and(is_positive.clone());
    let low = (divergence.greater_elem(config.eps_low)).bool_and(is_positive.bool_not());
    high.bool_or(low)
}

pub(super) fn mistakes<B: AutodiffBackend>() -> Vec<Mistake<B>> {
    let mut list = of_shared_weights();
    list.extend(of_divergences());
    list.extend(of_gates_and_masks());
    list
}

fn of_shared_weights<B: AutodiffBackend>() -> Vec<Mistake<B>> {
    vec![
        Mistake {
            name: "gspo_token: gradient through the response's weight",
            kind: Kind::GspoToken,
            shows: |config, tokens| {
                slopes(config, tokens).is_some_and(|slopes| {
                    let (_, slopes) = slopes.split_last().expect("the loss comes last");
                    slopes.iter().any(|slope| slope.abs() > 0.2)
                })
            },
            losses: |config, tokens| {
                let s = tokens.mean(tokens.log_w.clone()).exp();
                dual_clip(s * tokens.one(), tokens.a.clone(), config.clip_bounds()).losses
            },
        },
        Mistake {
            name: "gspo_token: the response's weight alone, which averages its tokens' advantages",
            kind: Kind::GspoToken,
            shows: |config, tokens| {
                slopes(config, tokens).is_some_and(|slopes| {
                    let (_, slopes) = slopes.split_last().expect("the loss comes last");
                    let largest = slopes.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    slopes.iter().any(|slope| largest - slope > 0.2)
                })
            },
            losses: |config, tokens| {
                let s = tokens.mean(tokens.log_w.clone()).exp();
                dual_clip(s, tokens.a.clone(), config.clip_bounds()).losses
            },
        },
        Mistake {
            name: "gmpo: the arithmetic mean of the clipped weights",
            kind: Kind::Gmpo,
            shows: |config, tokens| {
                let log_s = weigh::units(config, tokens).0[0].log_w;
                any(tokens, |token| {
                    let log_w = token.lp - token.lp_old;
                    let is_inside = -config.eps_low < log_w && log_w < config.eps_high;
                    is_inside && (log_w - log_s).abs() > 0.1
                })
            },
            losses: |config, tokens| {
                let clipped = tokens.log_w.clone().clamp(-config.eps_low, config.eps_high);
                let (w, a) = (tokens.w.clone(), tokens.a.clone());
                (-(w * a.clone())).max_pair(-(clipped.exp() * a))
            },
        },
        Mistake {
            name: "gmpo: clipped on both sides, whatever the sign of A",
            kind: Kind::Gmpo,
            shows: |config, tokens| {
                any(tokens, |token| {
                    let log_w = token.lp - token.lp_old;
                    let is_outside =
                        log_w < -config.eps_low - 0.01 || log_w > config.eps_high + 0.01;
                    is_outside && !moves_along(token)
                })
            },
            losses: |config, tokens| {
                let clipped = tokens.log_w.clone().clamp(-config.eps_low, config.eps_high);
                let is_kept = (clipped.clone() - tokens.log_w.clone()).equal_elem(0.0);
                let s = tokens.mean(clipped).exp().detach();
                // A clipped token does not move the mean.
                let one = tokens.one();
                let one = one.clone().detach().mask_where(is_kept, one);
                -(s * one * tokens.a.clone())
            },
        },
    ]
}

fn of_divergences<B: AutodiffBackend>() -> Vec<Mistake<B>> {
    vec![
        Mistake {
            name: "dppo_tv: masked by the ratio",
            kind: Kind::DppoTv,
            shows: |config, tokens| {
                any(tokens, |token| {
                    let ratio = (ratio(token) - 1.0).abs();
                    let divergence = (token.lp.exp() - token.lp_old.exp()).abs();
                    let by_ratio = beyond(config, token, ratio) > 0.01;
                    by_ratio && beyond(config, token, divergence) < 0.0 && moves_along(token)
                })
            },
            losses: |config, tokens| {
                let ratio = (tokens.w.clone().detach() - 1.0).abs();
                let masked = above_threshold(config, tokens, ratio);
                tokens.kept(masked.bool_and(tokens.moved_along()))
            },
        },
        Mistake {
            name: "dppo_tv: masked in both directions, whatever the sign of A",
            kind: Kind::DppoTv,
            shows: |config, tokens| {
                any(tokens, |token| {
                    let divergence = (token.lp.exp() - token.lp_old.exp()).abs();
                    beyond(config, token, divergence) > 0.01 && !moves_along(token)
                })
            },
            losses: |config, tokens| {
                let (lp, lp_old) = (tokens.lp.clone().detach(), tokens.lp_old.clone());
                let divergence = (lp.exp() - lp_old.exp()).abs();
                tokens.kept(above_threshold(config, tokens, divergence))
            },
        },
        Mistake {
            name: "dppo_kl: KL(pi, old) for KL(old, pi)",
            kind: Kind::DppoKl,
            shows: |config, tokens| {
                any(tokens, |token| {
                    let (lp, lp_old) = (token.lp, token.lp_old);
                    let right = beyond(config, token, coins(lp_old, lp));
                    right * beyond(config, token, coins(lp, lp_old)) < 0.0 && moves_along(token)
                })
            },
            losses: |config, tokens| {
                let divergence = coin_tensors(&tokens.lp.clone().detach(), &tokens.lp_old);
                let masked = above_threshold(config, tokens, divergence);
                tokens.kept(masked.bool_and(tokens.moved_along()))
            },
        },
        Mistake {
            name: "dppo_kl: the sampled token's term alone",
            kind: Kind::DppoKl,
            shows: |config, tokens| {
                any(tokens, |token| {
                    let divergence = coins(token.lp_old, token.lp);
                    let is_beyond = beyond(config, token, divergence) > 0.01;
                    is_beyond && token.lp > token.lp_old && moves_along(token)
                })
            },
            losses: |config, tokens| {
                let log_w = tokens.log_w.clone().detach();
                let divergence = -(tokens.lp_old.clone().exp() * log_w);
                let masked = above_threshold(config, tokens, divergence);
                tokens.kept(masked.bool_and(tokens.moved_along()))
            },
        },
    ]
}

fn of_gates_and_masks<B: AutodiffBackend>() -> Vec<Mistake<B>> {
    vec![
        Mistake {
            name: "sapo: without 4/tau",
            kind: Kind::Sapo,
            shows: |config, tokens| {
                let factor = |token: &Unit| {
                    let is_positive = token.advantage > 0.0;
                    if is_positive {
                        config.tau_pos
                    } else {
                        config.tau_neg
                    }
                };
                any(tokens, |token| (factor(token) / 4.0 - 1.0).abs() > 0.1)
            },
            losses: |config, tokens| {
                let gate = |tau: f64| sigmoid((tokens.w.clone() - 1.0) * tau);
                let is_positive = tokens.a.clone().greater_elem(0.0);
                let gates = gate(config.tau_neg).mask_where(is_positive, gate(config.tau_pos));
                -(gates * tokens.a.clone())
            },
        },
        Mistake {
            name: "sapo: the temperatures exchanged",
            kind: Kind::Sapo,
            shows: |config, tokens| {
                let differ = (config.tau_pos - config.tau_neg).abs() > 0.5;
                let is_far = |token: &Unit| (ratio(token) - 1.0).abs() > 0.5;
                differ && any(tokens, |token| is_far(token) && token.advantage.abs() > 0.5)
            },
            losses: |config, tokens| {
                let gate = |tau: f64| sigmoid((tokens.w.clone() - 1.0) * tau) * (4.0 / tau);
                let is_positive = tokens.a.clone().greater_elem(0.0);
                let gates = gate(config.tau_pos).mask_where(is_positive, gate(config.tau_neg));
                -(gates * tokens.a.clone())
            },
        },
        Mistake {
            name: "sequence_mask: positive advantages as well",
            kind: Kind::Ppo,
            shows: |config, tokens| {
                let high = config.eps_high;
                let is_off_policy = weigh::mask_margin(config, tokens) > 0.0;
                let is_inside = |token: &Unit| ratio(token) < 1.0 + high;
                is_off_policy && any(tokens, |token| token.advantage > 0.0 && is_inside(token))
            },
            losses: |config, tokens| {
                let max = config.sequence_mask.unwrap_or(f64::INFINITY);
                let is_off_policy = tokens.mean(tokens.log_w.clone().detach()).lower_elem(-max);
                let a = tokens.a.clone().mask_fill(is_off_policy, 0.0);
                dual_clip(tokens.w.clone(), a, config.clip_bounds()).losses
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::options::Precision;
    use burn::backend::{Autodiff, Flex};

    /// A control with another mistake than its name says would be rejected as well.
    #[test]
    fn each_makes_the_mistake_it_is_named_for() {
        let e = f64::exp;
        let (log_w, a) = ([0.3, -0.5, -0.6, 0.1], [1.0, -2.0, 1.5, -1.0]);
        let rows = Rows {
            lp: vec![log_w.map(|x| x - 1.0).to_vec()],
            lp_old: vec![vec![-1.0; 4]],
            advantages: vec![a.to_vec()],
            mask: vec![vec![true; 4]],
        };
        let s = e(-0.175); // Below the bound: the tokens of negative advantage are clipped.
        let unclipped: [f64; 4] = std::array::from_fn(|i| -e(log_w[i]) * a[i]);
        let without = |masked: &[usize]| {
            let mut grad = unclipped;
            masked.iter().for_each(|idx| grad[*idx] = 0.0);
            grad
        };
        let slope = |i: usize, tau: f64| {
            let g = 1.0 / (1.0 + e(-tau * (e(log_w[i]) - 1.0)));
            -g * (1.0 - g) * tau * e(log_w[i]) * a[i]
        };
        let tau = |i: usize, [positive, negative]: [f64; 2]| {
            if a[i] > 0.0 { positive } else { negative }
        };
        let exchanged = |i: usize| {
            let tau = tau(i, [2.5, 1.5]);
            4.0 / tau * slope(i, tau)
        };
        let expected: [[f64; 4]; 11] = [
            [1.0, 0.0, 1.5, 0.0].map(|kept| -s * kept - s * 2.5 / 4.0),
            [-s * 2.5 / 4.0; 4],
            without(&[0, 1]),
            [0.0, 0.0, 0.0, e(-0.01)],
            // The ratios are 1.35, 0.61, 0.55 and 1.11; `p - q` is 0.129, -0.145, -0.166 and 0.039.
            without(&[0, 1]),
            without(&[1, 2]),
            // KL(pi, old) is 0.034 and 0.049, KL(old, pi) 0.034 and 0.054; `-q*log w` -0.11 and 0.18.
            without(&[0]),
            without(&[1]),
            std::array::from_fn(|i| slope(i, tau(i, [1.5, 2.5]))),
            std::array::from_fn(exchanged),
            [0.0; 4],
        ];
        let options = VerifyOptions::<Autodiff<Flex>>::new(Default::default(), Precision::F64);
        let mistakes = mistakes();
        assert_eq!(mistakes.len(), expected.len());
        for (mistake, expected) in mistakes.iter().zip(expected) {
            let (eps_low, eps_high) = if mistake.kind == Kind::DppoKl {
                (0.051, 0.03)
            } else {
                (0.14, 0.14)
            };
            let config = ObjectiveConfig {
                eps_low,
                eps_high,
                c: None,
                tau_pos: 1.5,
                tau_neg: 2.5,
                sequence_mask: Some(0.05),
                ..ObjectiveConfig::for_kind(mistake.kind)
            };
            let actual = gradient_of(&options, mistake, &config, &rows);
            let error = relative_error(&actual, &expected);
            assert!(
                error < 1e-12,
                "{}: {actual:?}, not {expected:?}",
                mistake.name
            );
        }
    }
}
