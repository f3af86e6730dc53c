//! Losses and objectives written down a second time, for the oracles.
//!
//! Nothing here shares code with the losses: the formulas are those of the tables, with `exp` as it
//! is and derivatives by finite differences only.

use super::weigh::Weighed;
use crate::choices::{Clip, Divergence, Estimator, KlEstimator, KlPlacement, KlWeight};
use crate::config::ObjectiveConfig;
use crate::formula::Unit;
use crate::objectives::Kind;
use crate::objectives::spec::Parts;

/// What the oracles know of a kind.
struct Row {
    /// The loss of a unit.
    loss: fn(&Frozen) -> f64,
    /// One outcome's share of the penalty that the loss has in expectation, per unit of `beta`.
    penalty: fn(&Outcome) -> f64,
    /// The kind whose loss has the same gradient off the bounds, but no stop-gradient.
    differentiable: Kind,
    /// Whether a unit exactly on a bound keeps its gradient.
    keeps_bounds: fn(&ObjectiveConfig) -> bool,
    /// What a token adds to the logarithm of the weight that its response shares, times the length; if it shares one.
    shared: Option<fn(&ObjectiveConfig, &Unit) -> f64>,
    /// How far a unit is from a case distinction that is none of its weight.
    distance: fn(&ObjectiveConfig, &Unit) -> f64,
}

/// One row per kind.
fn row(kind: Kind) -> Row {
    let row = |loss, penalty| Row {
        loss,
        penalty,
        differentiable: kind,
        keeps_bounds: |_| true,
        shared: None,
        distance: |_, _| f64::INFINITY,
    };
    match kind {
        Kind::Rpg => Row {
            // `w < 1+eps_high` fails at the bound, and so does `1-eps_low < w`.
            keeps_bounds: |config| match config.clip {
                Clip::Rpg => false,
                Clip::None | Clip::Dual | Clip::Hard | Clip::Truncated => true,
            },
            ..row(rpg, |x| divergence(x.config.kl, x.p, x.f, x.u))
        },
        Kind::Ppo
        | Kind::Grpo
        | Kind::GrpoCorrected
        | Kind::DrGrpo
        | Kind::Dapo
        | Kind::ReinforcePp
        | Kind::ReinforcePpBaseline
        | Kind::Rloo
        | Kind::Gspo => row(|x| x.with_kl(x.clipped(x.a)), kl_penalty),
        Kind::GspoToken => Row {
            shared: Some(|_, token| token.lp - token.lp_old),
            ..row(|x| x.with_kl(x.clipped(x.a)), kl_penalty)
        },
        Kind::Cispo => Row {
            differentiable: Kind::Ppo,
            ..row(|x| -x.w0.clamp(x.low, x.high) * x.a * x.lp, |_| 0.0)
        },
        Kind::Sapo => Row {
            differentiable: Kind::Ppo,
            ..row(|x| x.with_kl(x.gated()), kl_penalty)
        },
        Kind::DppoTv => Row {
            differentiable: Kind::Ppo,
            distance: |config, unit| beyond(config, unit, variation),
            ..row(|x| x.with_kl(x.masked(variation)), kl_penalty)
        },
        Kind::DppoKl => Row {
            differentiable: Kind::Ppo,
            distance: |config, unit| beyond(config, unit, coins),
            ..row(|x| x.with_kl(x.masked(coins)), kl_penalty)
        },
        Kind::Gmpo => Row {
            shared: Some(geometric_part),
            distance: |config, unit| {
                let log_w = unit.lp - unit.lp_old;
                let [low, high] = [log_w + config.eps_low, log_w - config.eps_high];
                low.abs().min(high.abs())
            },
            ..row(|x| x.with_kl(x.geometric()), kl_penalty)
        },
    }
}

/// A unit that has moved to `lp` while everything under `SG` is held at the unit's own `lp`.
struct Frozen<'a> {
    config: &'a ObjectiveConfig,
    low: f64,
    high: f64,
    a: f64,
    lp: f64,
    w: f64,
    u: f64,
    r: f64,
    /// The unit's own `lp`.
    lp0: f64,
    /// The unit itself.
    unit: Unit,
    w0: f64,
    u0: f64,
}

/// One outcome: probabilities under policy, reference and sampling policy, and `u = log(p/f)`.
struct Outcome<'a> {
    config: &'a ObjectiveConfig,
    p: f64,
    f: f64,
    q: f64,
    u: f64,
}

/// The unit's loss at `lp`, with everything under `SG` held at the unit's own `lp`.
///
/// Its derivative at `lp = unit.lp` is the gradient that stop-gradients leave.
pub(super) fn frozen_loss(config: &ObjectiveConfig, weighed: Weighed, lp: f64) -> f64 {
    let Weighed { unit, log_w } = weighed;
    (row(config.kind).loss)(&Frozen {
        config,
        low: 1.0 - config.eps_low,
        high: 1.0 + config.eps_high,
        a: unit.advantage,
        lp,
        w: (log_w + (lp - unit.lp)).exp(),
        u: lp - unit.lp_ref,
        r: (unit.lp_ref - unit.lp_old).exp(),
        lp0: unit.lp,
        unit,
        w0: log_w.exp(),
        u0: unit.lp - unit.lp_ref,
    })
}

impl Frozen<'_> {
    fn clipped(&self, a: f64) -> f64 {
        let ppo = (-self.w * a).max(-self.w.clamp(self.low, self.high) * a);
        let c = self.config.c.unwrap_or(f64::INFINITY);
        if a < 0.0 { ppo.min(-c * a) } else { ppo }
    }

    /// With the KL term of PPO's family.
    fn with_kl(&self, policy: f64) -> f64 {
        policy + self.config.beta * self.kl_term()
    }

    /// SAPO's gate, as a hyperbolic tangent: `sigmoid(x) = (1 + tanh(x/2))/2`.
    fn gated(&self) -> f64 {
        let tau = if self.a > 0.0 {
            self.config.tau_pos
        } else {
            self.config.tau_neg
        };
        -(1.0 + (tau * (self.w - 1.0) / 2.0).tanh()) * 2.0 / tau * self.a
    }

    /// DPPO's mask, and its bound on the weight.
    fn masked(&self, divergence: fn(f64, f64) -> f64) -> f64 {
        if beyond(self.config, &self.unit, divergence) > 0.0 {
            return 0.0;
        }
        let bound = self.config.c.map_or(1.0, |c| (c / self.w0).min(1.0));
        -self.w * bound * self.a
    }

    /// GMPO: a clipped token does not move the geometric mean.
    fn geometric(&self) -> f64 {
        let own = self.lp0 - self.unit.lp_old;
        let is_clipped = (self.a > 0.0 && own > self.config.eps_high)
            || (self.a < 0.0 && -own > self.config.eps_low);
        -self.a * if is_clipped { self.w0 } else { self.w }
    }

    /// The KL term of PPO's family.
    fn kl_term(&self) -> f64 {
        if self.config.kl_placement != KlPlacement::Loss {
            return 0.0;
        }
        let weight = match self.config.kl_weight {
            KlWeight::None => 1.0,
            KlWeight::Detached => self.w0,
            KlWeight::Full => self.w,
        };
        weight * estimate(self.config.kl_estimator, self.u)
    }
}

/// What a token adds to the mean of GMPO: `sgn(A)*min(sgn(A)*x, sgn(A)*clip(x))`, or `x` where `A` is 0.
fn geometric_part(config: &ObjectiveConfig, token: &Unit) -> f64 {
    let x = token.lp - token.lp_old;
    let clipped = x.clamp(-config.eps_low, config.eps_high);
    let sign = token.advantage.signum();
    if token.advantage == 0.0 {
        x
    } else {
        sign * (sign * x).min(sign * clipped)
    }
}

/// How far a divergence of `p` and `q` is beyond the threshold, where the policy moved as the advantage wants; else -1.
fn beyond(config: &ObjectiveConfig, unit: &Unit, divergence: fn(f64, f64) -> f64) -> f64 {
    if unit.advantage * (unit.lp - unit.lp_old) <= 0.0 {
        return -1.0;
    }
    let threshold = if unit.advantage > 0.0 {
        config.eps_high
    } else {
        config.eps_low
    };
    divergence(unit.lp.exp().min(1.0), unit.lp_old.exp().min(1.0)) - threshold
}

/// The total variation of two coins.
fn variation(p: f64, q: f64) -> f64 {
    (p - q).abs()
}

/// Their KL divergence, from `q` to `p`.
fn coins(p: f64, q: f64) -> f64 {
    let others = |p: f64| (1.0 - p).max(1e-8);
    q * (q / p).ln() + (1.0 - q) * (others(q) / others(p)).ln()
}

/// What a token adds to the logarithm of the weight that its response shares, times the length; if it shares one.
pub(super) fn shared(config: &ObjectiveConfig, token: &Unit) -> Option<f64> {
    row(config.kind).shared.map(|part| part(config, token))
}

/// `k1`, `k2` or `k3` of `exp(-u)`.
fn estimate(estimator: KlEstimator, u: f64) -> f64 {
    match estimator {
        KlEstimator::K1 => u,
        KlEstimator::K2 => u.powi(2) / 2.0,
        KlEstimator::K3 => (-u).exp() - 1.0 + u,
    }
}

/// What the KL term of PPO's family penalizes in expectation, by the table of its gradients.
fn kl_penalty(x: &Outcome) -> f64 {
    let Outcome { p, f, q, u, .. } = *x;
    let estimator = x.config.kl_estimator;
    match (x.config.kl_placement, x.config.kl_weight) {
        (KlPlacement::None | KlPlacement::Reward, _) => 0.0,
        (KlPlacement::Loss, KlWeight::None) => q * estimate(estimator, u),
        (KlPlacement::Loss, KlWeight::Full) => match estimator {
            KlEstimator::K1 => divergence(Divergence::Rkl, p, f, u),
            KlEstimator::K2 => p * u * u / 2.0,
            KlEstimator::K3 => divergence(Divergence::Urkl, p, f, u),
        },
        (KlPlacement::Loss, KlWeight::Detached) => match estimator {
            KlEstimator::K1 => p, // The mass alone.
            KlEstimator::K2 => divergence(Divergence::Urkl, p, f, u),
            KlEstimator::K3 => divergence(Divergence::Ufkl, p, f, u),
        },
    }
}

/// A loss without stop-gradient that has the slope of the unclipped loss everywhere.
pub(super) fn potential(config: &ObjectiveConfig, weighed: Weighed) -> f64 {
    let unit = weighed.unit;
    let is_detached = config.kind.spec().parts != Parts::Composed
        && config.kl_placement == KlPlacement::Loss
        && config.kl_weight == KlWeight::Detached;
    if !is_detached {
        return frozen_loss(config, weighed, unit.lp);
    }
    let w = (unit.lp - unit.lp_old).exp();
    let r = (unit.lp_ref - unit.lp_old).exp();
    let kl = kl_penalty(&Outcome {
        config,
        p: w,
        f: r,
        q: 1.0,
        u: unit.lp - unit.lp_ref,
    });
    -w * unit.advantage + config.beta * kl
}

fn rpg(x: &Frozen) -> f64 {
    let ObjectiveConfig { kl, beta, .. } = *x.config;
    let c = x.config.c.unwrap_or(f64::INFINITY);
    let Frozen {
        low,
        high,
        a,
        lp,
        w,
        u,
        r,
        w0,
        u0,
        ..
    } = *x;
    let z = if kl.is_unnormalized() {
        x.config.z
    } else {
        1.0
    };
    let k0 = k(kl, w0, u0, r);
    let loss = match (x.config.estimator, x.config.clip) {
        (Estimator::Differentiable, Clip::Dual) if x.config.kl_in_clip => {
            x.clipped(a + beta * k0 / w0)
        }
        (Estimator::Differentiable, Clip::Dual) => x.clipped(a) + beta * s(kl, lp, w, u, r),
        (Estimator::Differentiable, Clip::None) => -w * a + beta * s(kl, lp, w, u, r),
        (Estimator::Reinforce, Clip::Rpg) => {
            let a0 = a + beta * k0 / w0;
            let l = -lp;
            let l0 = -x.lp0;
            if a0 * l0 >= 0.0 {
                if w0 < high {
                    w0 * a0 * l
                } else {
                    (a * high + beta * k0) * l0
                }
            } else if w0 <= low {
                (a * low + beta * k0) * l0
            } else if w0 < c {
                w0 * a0 * l
            } else {
                (a * c + beta * k0) * l0
            }
        }
        (Estimator::Reinforce, Clip::Hard) => {
            let wc = w0.clamp(low, high);
            let uc = u0 - w0.ln() + wc.ln();
            -(wc * a + beta * k(kl, wc, uc, r)) * lp
        }
        (Estimator::Reinforce, Clip::Truncated) => {
            let a0 = a + beta * k0 / w0;
            let bounded = if a0 >= 0.0 {
                w0.min(high)
            } else {
                w0.max(low).min(c)
            };
            -bounded * a0 * lp
        }
        (Estimator::Reinforce, Clip::None) => -(w0 * a + beta * k0) * lp,
        (Estimator::Differentiable, Clip::Rpg | Clip::Hard | Clip::Truncated)
        | (Estimator::Reinforce, Clip::Dual) => {
            unreachable!("`validate` refuses this clip with this estimator")
        }
    };
    z * loss
}

/// The same objective without a clip, as a loss that has no stop-gradient, where there is one.
pub(super) fn unclipped(config: &ObjectiveConfig) -> ObjectiveConfig {
    ObjectiveConfig {
        kind: row(config.kind).differentiable,
        clip: Clip::None,
        ..config.clone()
    }
}

/// Whether a unit exactly on a bound keeps its gradient.
pub(super) fn keeps_bounds(config: &ObjectiveConfig) -> bool {
    (row(config.kind).keeps_bounds)(config)
}

/// How far the unit is from the next case distinction of its loss, relative to the bounds.
pub(super) fn margin(config: &ObjectiveConfig, weighed: Weighed) -> f64 {
    if config.kind == Kind::Rpg && config.clip == Clip::None {
        return f64::INFINITY;
    }
    let Weighed { unit, log_w } = weighed;
    let w = log_w.exp();
    let u = unit.lp - unit.lp_ref;
    let r = (unit.lp_ref - unit.lp_old).exp();
    let a = unit.advantage;
    let regularized = a + config.beta * k(config.kl, w, u, r) / w;
    [
        (w - (1.0 - config.eps_low)) / w,
        (w - (1.0 + config.eps_high)) / w,
        (w - config.c.unwrap_or(f64::INFINITY)) / w,
        a,
        regularized,
        regularized * unit.lp,
        (row(config.kind).distance)(config, &unit),
    ]
    .into_iter()
    .map(f64::abs)
    .fold(f64::INFINITY, f64::min)
}

/// `K` of the documentation's table.
fn k(kl: Divergence, w: f64, u: f64, r: f64) -> f64 {
    match kl {
        Divergence::None => 0.0,
        Divergence::Fkl => r,
        Divergence::Rkl => -w * (u + 1.0),
        Divergence::Ufkl => r - w,
        Divergence::Urkl => -w * u,
        Divergence::Skl => (k(Divergence::Fkl, w, u, r) + k(Divergence::Rkl, w, u, r)) / 2.0,
        Divergence::Uskl => (k(Divergence::Ufkl, w, u, r) + k(Divergence::Urkl, w, u, r)) / 2.0,
    }
}

/// The KL part of the documentation's surrogates.
fn s(kl: Divergence, lp: f64, w: f64, u: f64, r: f64) -> f64 {
    let s = |kl| s(kl, lp, w, u, r);
    match kl {
        Divergence::None => 0.0,
        Divergence::Fkl => -r * lp,
        Divergence::Rkl => w * u,
        Divergence::Ufkl => w - r * u - r,
        Divergence::Urkl => w * u - w,
        Divergence::Skl => (s(Divergence::Fkl) + s(Divergence::Rkl)) / 2.0,
        Divergence::Uskl => (s(Divergence::Ufkl) + s(Divergence::Urkl)) / 2.0,
    }
}

/// What the unclipped objective maximises, over one set of outcomes.
///
/// `sum_x p(x)*A(x) - beta*D` with `D` by its definition; for baselines the penalty that their loss
/// has in expectation under the sampling distribution `q`.
pub(super) fn objective(
    config: &ObjectiveConfig,
    log_p: &[f64],
    log_ref: &[f64],
    q: &[f64],
    advantages: &[f64],
) -> f64 {
    let row = row(config.kind);
    let mut reward = 0.0;
    let mut penalty = 0.0;
    for idx in 0..log_p.len() {
        let outcome = Outcome {
            config,
            p: log_p[idx].exp(),
            f: log_ref[idx].exp(),
            q: q[idx],
            u: log_p[idx] - log_ref[idx],
        };
        reward += outcome.p * advantages[idx];
        penalty += (row.penalty)(&outcome);
    }
    reward - config.beta * penalty
}

/// One outcome's share of `D(.,.)`, with `p` of the policy, `f` of the reference, `u = log(p/f)`.
fn divergence(kl: Divergence, p: f64, f: f64, u: f64) -> f64 {
    match kl {
        Divergence::None => 0.0,
        Divergence::Fkl => -f * u,
        Divergence::Rkl => p * u,
        Divergence::Ufkl => -f * u - f + p,
        Divergence::Urkl => p * u - p + f,
        Divergence::Skl => (p - f) * u / 2.0,
        Divergence::Uskl => (p - f) * u / 2.0,
    }
}

/// The derivative of `f` at `x`, from four points (error of fourth order).
pub(super) fn derivative(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    let h = 1e-3;
    let slope = |h: f64| (f(x + h) - f(x - h)) / (2.0 * h);
    (4.0 * slope(h) - slope(2.0 * h)) / 3.0
}
