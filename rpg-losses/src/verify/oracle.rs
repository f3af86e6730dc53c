//! Losses and objectives written down a second time, for the oracles.
//!
//! Nothing here shares code with the losses: the formulas are those of the tables, with `exp` as it
//! is and derivatives by finite differences only.

use crate::{
    ObjectiveConfig,
    kinds::{Clip, Divergence, Estimator, Kind},
    reference::Unit,
};

/// The unit's loss at `lp`, with everything under `SG` held at the unit's own `lp`.
///
/// Its derivative at `lp = unit.lp` is the gradient that stop-gradients leave.
pub(super) fn frozen_loss(config: &ObjectiveConfig, unit: Unit, lp: f64) -> f64 {
    let ObjectiveConfig {
        kl,
        beta,
        eps_low,
        eps_high,
        c,
        ..
    } = *config;
    let (low, high) = (1.0 - eps_low, 1.0 + eps_high);
    let a = unit.advantage;
    let w = (lp - unit.lp_old).exp();
    let u = lp - unit.lp_ref;
    let r = (unit.lp_ref - unit.lp_old).exp();
    // The same at the point where coefficients are frozen.
    let w0 = (unit.lp - unit.lp_old).exp();
    let u0 = unit.lp - unit.lp_ref;
    let clipped = |a: f64, dual: f64| {
        let ppo = (-w * a).max(-w.clamp(low, high) * a);
        if a < 0.0 { ppo.min(-dual * a) } else { ppo }
    };
    let ppo = || clipped(a, f64::INFINITY);
    let k3 = (-u).exp() - 1.0 + u;
    if config.kind != Kind::Rpg {
        return match config.kind {
            Kind::Grpo | Kind::DrGrpo => ppo() + beta * k3,
            Kind::GrpoCorrected => ppo() + beta * w * k3,
            Kind::Dapo => clipped(a, c),
            Kind::ReinforcePpBaseline => ppo() + beta * u.powi(2) / 2.0,
            Kind::Cispo => -w0.clamp(low, high) * a * lp,
            _ => ppo(),
        };
    }
    let z = if kl.is_unnormalized() { config.z } else { 1.0 };
    let k0 = k(kl, w0, u0, r);
    let loss = match (config.estimator, config.clip) {
        (Estimator::Differentiable, Clip::Dual) if config.kl_in_clip => {
            clipped(a + beta * k0 / w0, c)
        }
        (Estimator::Differentiable, Clip::Dual) => clipped(a, c) + beta * s(kl, lp, w, u, r),
        (Estimator::Differentiable, _) => -w * a + beta * s(kl, lp, w, u, r),
        (Estimator::Reinforce, Clip::Rpg) => {
            let a0 = a + beta * k0 / w0;
            let l = -lp;
            let l0 = -unit.lp;
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
        (Estimator::Reinforce, _) => -(w0 * a + beta * k0) * lp,
    };
    z * loss
}

/// How far the unit is from the next case distinction of its loss, relative to the bounds.
pub(super) fn margin(config: &ObjectiveConfig, unit: Unit) -> f64 {
    if config.kind == Kind::Rpg && config.clip == Clip::None {
        return f64::INFINITY;
    }
    let w = (unit.lp - unit.lp_old).exp();
    let u = unit.lp - unit.lp_ref;
    let r = (unit.lp_ref - unit.lp_old).exp();
    let a = unit.advantage;
    let regularized = a + config.beta * k(config.kl, w, u, r) / w;
    [
        (w - (1.0 - config.eps_low)) / w,
        (w - (1.0 + config.eps_high)) / w,
        (w - config.c) / w,
        a,
        regularized,
        regularized * unit.lp,
    ]
    .into_iter()
    .map(f64::abs)
    .fold(f64::INFINITY, f64::min)
}

/// `K` of the contract's table.
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

/// The KL part of the contract's surrogates.
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
    let mut reward = 0.0;
    let mut penalty = 0.0;
    for idx in 0..log_p.len() {
        let (p, f, u) = (
            log_p[idx].exp(),
            log_ref[idx].exp(),
            log_p[idx] - log_ref[idx],
        );
        reward += p * advantages[idx];
        penalty += match config.kind {
            Kind::Rpg => divergence(config.kl, p, f, u),
            Kind::Grpo | Kind::DrGrpo => q[idx] * ((-u).exp() - 1.0 + u),
            Kind::GrpoCorrected => divergence(Divergence::Urkl, p, f, u),
            Kind::ReinforcePpBaseline => q[idx] * u * u / 2.0,
            _ => 0.0,
        };
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
