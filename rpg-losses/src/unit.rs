//! One unit in f64: each formula with its derivative worked out by hand.

use crate::{
    ObjectiveConfig,
    diagnostics::Exponentiated,
    kinds::{Clip, Divergence, Estimator, Kind},
    objective::exponentiated,
    ratios::MAX_LOG_RATIO,
};

/// One unit: a token, or a response whose log-probabilities have been summed (or averaged).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Log-probability under the policy being trained.
    pub lp: f64,
    /// Under the sampling policy.
    pub lp_old: f64,
    /// Under the reference policy.
    pub lp_ref: f64,
    /// The advantage `A`.
    pub advantage: f64,
}

/// Where the trust region has acted on a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipEvent {
    /// Nowhere: the unit is inside, or outside on the side that is not clipped.
    Unclipped,
    /// At `1 - eps_low`.
    Low,
    /// At `1 + eps_high`.
    High,
    /// At `c`.
    Dual,
}

/// The loss of one unit and its derivative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitLoss {
    /// The loss, before aggregation.
    pub loss: f64,
    /// Its derivative with respect to `lp`, stop-gradients observed.
    pub grad: f64,
    /// Where it was clipped.
    pub clip: ClipEvent,
    /// The importance weight `w`.
    pub weight: f64,
    /// `w*k3(exp(-u))`, the estimate of `KL(pi, ref)`.
    pub kl: f64,
    /// Whether a log-ratio was clamped to [`MAX_LOG_RATIO`] before `exp`.
    pub is_clamped: bool,
}

/// The loss of one unit before aggregation, with its closed-form derivative.
pub fn unit_loss(config: &ObjectiveConfig, unit: Unit) -> UnitLoss {
    UnitEvaluator::new(config).evaluate(unit)
}

/// The configured formula with what does not change from unit to unit computed once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnitEvaluator {
    formula: Formula,
    divergence: Divergence,
    beta: f64,
    z: f64,
    low: f64,
    high: f64,
    dual: f64,
    exponentiated: Exponentiated,
}

/// The formulas that differ in more than a coefficient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formula {
    Differentiable,
    DualClip,
    DualClipReward,
    Reinforce,
    RpgClip,
    HardClip,
    Ppo,
    Grpo,
    GrpoCorrected,
    Dapo,
    ReinforcePpBaseline,
    Cispo,
}

/// Log-ratios and weights of one unit.
#[derive(Debug, Clone, Copy)]
struct Scalars {
    lp: f64,
    w: f64,
    u: f64,
    log_r: f64,
    r: f64,
    /// `exp(-u)`.
    y: f64,
}

impl UnitEvaluator {
    pub(crate) fn new(config: &ObjectiveConfig) -> Self {
        let formula = match config.kind {
            Kind::Rpg => match (config.estimator, config.clip) {
                (Estimator::Differentiable, Clip::Dual) if config.kl_in_clip => Formula::DualClip,
                (Estimator::Differentiable, Clip::Dual) => Formula::DualClipReward,
                (Estimator::Differentiable, _) => Formula::Differentiable,
                (Estimator::Reinforce, Clip::Rpg) => Formula::RpgClip,
                (Estimator::Reinforce, Clip::Hard) => Formula::HardClip,
                (Estimator::Reinforce, _) => Formula::Reinforce,
            },
            Kind::Grpo | Kind::DrGrpo => Formula::Grpo,
            Kind::GrpoCorrected => Formula::GrpoCorrected,
            Kind::Dapo => Formula::Dapo,
            Kind::ReinforcePpBaseline => Formula::ReinforcePpBaseline,
            Kind::Cispo => Formula::Cispo,
            Kind::Ppo | Kind::ReinforcePp | Kind::Rloo | Kind::Gspo => Formula::Ppo,
        };
        let bounds = config.clip_bounds();
        Self {
            formula,
            divergence: config.kl,
            beta: config.beta,
            z: config.mass(),
            low: bounds.low,
            high: bounds.high,
            dual: bounds.dual,
            exponentiated: exponentiated(config),
        }
    }

    #[inline(always)]
    pub(crate) fn evaluate(&self, unit: Unit) -> UnitLoss {
        let log_w = unit.lp - unit.lp_old;
        let log_r = unit.lp_ref - unit.lp_old;
        let u = unit.lp - unit.lp_ref;
        let w = exp_clamped(log_w);
        // On the paper's iterative scheme the reference is the sampling policy: r = 1, u = log w.
        let (r, y) = if log_r == 0.0 {
            (1.0, 1.0 / w)
        } else {
            (exp_clamped(log_r), exp_clamped(-u))
        };
        let scalars = Scalars {
            lp: unit.lp,
            w,
            u,
            log_r,
            r,
            y,
        };
        let (loss, grad, clip) = self.apply(scalars, unit.advantage);
        UnitLoss {
            loss,
            grad,
            clip,
            weight: w,
            kl: w * k3(&scalars),
            is_clamped: log_w.abs() > MAX_LOG_RATIO
                || (self.exponentiated.log_r && log_r.abs() > MAX_LOG_RATIO)
                || (self.exponentiated.u && u.abs() > MAX_LOG_RATIO),
        }
    }

    /// Loss, derivative in `lp`, and where it was clipped.
    #[inline(always)]
    fn apply(&self, s: Scalars, a: f64) -> (f64, f64, ClipEvent) {
        let (beta, z) = (self.beta, self.z);
        match self.formula {
            Formula::Differentiable => {
                let loss = z * (-s.w * a + beta * surrogate(self.divergence, &s));
                (loss, -self.coefficient(&s, a), ClipEvent::Unclipped)
            }
            Formula::Reinforce => {
                let coefficient = self.coefficient(&s, a);
                (-coefficient * s.lp, -coefficient, ClipEvent::Unclipped)
            }
            Formula::DualClip => {
                let regularized = a + beta * component_over_weight(self.divergence, &s);
                let (loss, grad, clip) = self.dual_clip(s.w, regularized, self.dual);
                (z * loss, z * grad, clip)
            }
            Formula::DualClipReward => {
                let (loss, grad, clip) = self.dual_clip(s.w, a, self.dual);
                let loss = loss + beta * surrogate(self.divergence, &s);
                let grad = grad - beta * component(self.divergence, &s);
                (z * loss, z * grad, clip)
            }
            Formula::RpgClip => self.rpg_style_clip(&s, a),
            Formula::HardClip => {
                let clipped = self.hard_clip(s);
                let coefficient = self.coefficient(&clipped, a);
                (-coefficient * s.lp, -coefficient, self.truncation(s.w))
            }
            Formula::Ppo => self.dual_clip(s.w, a, f64::INFINITY),
            Formula::Dapo => self.dual_clip(s.w, a, self.dual),
            Formula::Grpo => {
                let (loss, grad, clip) = self.dual_clip(s.w, a, f64::INFINITY);
                (loss + beta * k3(&s), grad + beta * (1.0 - s.y), clip)
            }
            Formula::GrpoCorrected => {
                let (loss, grad, clip) = self.dual_clip(s.w, a, f64::INFINITY);
                let k3 = k3(&s);
                // d(w*k3) = w*k3 + w*(1 - y) = w*u: without the sum, in which a large y cancels.
                (loss + beta * s.w * k3, grad + beta * s.w * s.u, clip)
            }
            Formula::ReinforcePpBaseline => {
                let (loss, grad, clip) = self.dual_clip(s.w, a, f64::INFINITY);
                (loss + beta * 0.5 * s.u * s.u, grad + beta * s.u, clip)
            }
            Formula::Cispo => {
                let coefficient = s.w.clamp(self.low, self.high) * a;
                (-coefficient * s.lp, -coefficient, self.truncation(s.w))
            }
        }
    }

    /// `z*(w*A + beta*K)`.
    #[inline]
    fn coefficient(&self, s: &Scalars, a: f64) -> f64 {
        self.z * (s.w * a + self.beta * component(self.divergence, s))
    }

    #[inline(always)]
    fn dual_clip(&self, w: f64, a: f64, dual: f64) -> (f64, f64, ClipEvent) {
        let high = a > 0.0 && w > self.high;
        let dual_clipped = a < 0.0 && w > dual;
        let low = a < 0.0 && w < self.low;
        let (bound, clip) = self.bound(w, (low, high, dual_clipped), dual);
        let grad = if clip == ClipEvent::Unclipped {
            -w * a
        } else {
            0.0
        };
        (-bound * a, grad, clip)
    }

    #[inline(always)]
    fn rpg_style_clip(&self, s: &Scalars, a: f64) -> (f64, f64, ClipEvent) {
        let l = -s.lp;
        let kl = self.beta * component(self.divergence, s);
        let coefficient = s.w * a + kl;
        let is_positive = coefficient * l >= 0.0;
        let high = is_positive && s.w >= self.high;
        let dual = !is_positive && s.w >= self.dual;
        let low = !is_positive && s.w <= self.low;
        let (bound, clip) = self.bound(s.w, (low, high, dual), self.dual);
        let grad = if clip == ClipEvent::Unclipped {
            -self.z * coefficient
        } else {
            0.0
        };
        (self.z * (a * bound + kl) * l, grad, clip)
    }

    /// The weight that takes the place of `w`, and why. Selections without jumps: which way a token goes
    /// is as good as random.
    #[inline(always)]
    fn bound(
        &self,
        w: f64,
        (low, high, is_dual): (bool, bool, bool),
        dual: f64,
    ) -> (f64, ClipEvent) {
        let (bound, clip) = if low {
            (self.low, ClipEvent::Low)
        } else {
            (w, ClipEvent::Unclipped)
        };
        let (bound, clip) = if high {
            (self.high, ClipEvent::High)
        } else {
            (bound, clip)
        };
        if is_dual {
            (dual, ClipEvent::Dual)
        } else {
            (bound, clip)
        }
    }

    #[inline]
    fn hard_clip(&self, s: Scalars) -> Scalars {
        let bound = match self.truncation(s.w) {
            ClipEvent::Low => self.low,
            ClipEvent::High => self.high,
            _ => return s,
        };
        Scalars {
            w: bound,
            u: bound.ln() - s.log_r,
            ..s
        }
    }

    #[inline]
    fn truncation(&self, w: f64) -> ClipEvent {
        if w < self.low {
            ClipEvent::Low
        } else if w > self.high {
            ClipEvent::High
        } else {
            ClipEvent::Unclipped
        }
    }
}

#[inline]
fn exp_clamped(x: f64) -> f64 {
    x.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
}

/// `K` of the table at [`crate::divergence::kl_component`].
#[inline]
fn component(divergence: Divergence, s: &Scalars) -> f64 {
    match divergence {
        Divergence::None => 0.0,
        Divergence::Fkl => s.r,
        Divergence::Rkl => -s.w * (s.u + 1.0),
        Divergence::Ufkl => s.r - s.w,
        Divergence::Urkl => -s.w * s.u,
        Divergence::Skl => 0.5 * (s.r - s.w * (s.u + 1.0)),
        Divergence::Uskl => 0.5 * (s.r - s.w - s.w * s.u),
    }
}

/// `K/w`, written without the division where `w` cancels.
#[inline]
fn component_over_weight(divergence: Divergence, s: &Scalars) -> f64 {
    match divergence {
        Divergence::None => 0.0,
        Divergence::Fkl => s.r / s.w,
        Divergence::Rkl => -(s.u + 1.0),
        Divergence::Ufkl => s.r / s.w - 1.0,
        Divergence::Urkl => -s.u,
        Divergence::Skl => 0.5 * (s.r / s.w - s.u - 1.0),
        Divergence::Uskl => 0.5 * (s.r / s.w - 1.0 - s.u),
    }
}

/// The KL term of the table at [`crate::divergence::kl_surrogate`].
#[inline]
fn surrogate(divergence: Divergence, s: &Scalars) -> f64 {
    match divergence {
        Divergence::None => 0.0,
        Divergence::Fkl => -s.r * s.lp,
        Divergence::Rkl => s.w * s.u,
        Divergence::Ufkl => s.w - s.r * s.u - s.r,
        Divergence::Urkl => s.w * s.u - s.w,
        Divergence::Skl => 0.5 * (s.w * s.u - s.r * s.lp),
        Divergence::Uskl => 0.5 * (s.w * s.u - s.r * s.u - s.r),
    }
}

#[inline]
fn k3(s: &Scalars) -> f64 {
    s.y - 1.0 + s.u
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluator(json: &str) -> UnitEvaluator {
        let config: ObjectiveConfig = serde_json::from_str(json).expect(json);
        UnitEvaluator::new(&config)
    }

    /// Weights just below, exactly on and just above the bounds 0.5, 1.5 and 3.
    #[test]
    fn dual_clip_keeps_its_bounds() {
        let dapo = evaluator(r#"{"kind": "dapo", "eps_low": 0.5, "eps_high": 0.5, "c": 3.0}"#);
        let check = |w: f64, a: f64, expected: (f64, f64, ClipEvent)| {
            assert_eq!(
                dapo.dual_clip(w, a, dapo.dual),
                expected,
                "w = {w}, A = {a}"
            );
        };
        for a in [2.0, -2.0] {
            for w in [0.5, 1.0, 1.5] {
                check(w, a, (-w * a, -w * a, ClipEvent::Unclipped));
            }
        }
        check(0.25, 2.0, (-0.5, -0.5, ClipEvent::Unclipped));
        check(1.5 + 1e-9, 2.0, (-3.0, 0.0, ClipEvent::High));
        check(9.0, 2.0, (-3.0, 0.0, ClipEvent::High));
        check(0.5 - 1e-9, -2.0, (1.0, 0.0, ClipEvent::Low));
        check(3.0, -2.0, (6.0, 6.0, ClipEvent::Unclipped));
        check(3.0 + 1e-9, -2.0, (6.0, 0.0, ClipEvent::Dual));
        for w in [0.25, 9.0] {
            check(w, 0.0, (-0.0, -0.0, ClipEvent::Unclipped));
        }
    }

    #[test]
    fn rpg_style_clip_excludes_its_bounds() {
        let rpg = evaluator(
            r#"{"kind": "rpg", "kl": "ufkl", "eps_low": 0.5, "eps_high": 0.5, "c": 3.0,
                "beta": 0.5, "z": 2.0}"#,
        );
        // r = 1, so that K = 1 - w; l = 0.25.
        let check = |w: f64, a: f64, bound: f64, clip: ClipEvent| {
            let scalars = Scalars {
                lp: -0.25,
                w,
                u: w.ln(),
                log_r: 0.0,
                r: 1.0,
                y: 1.0 / w,
            };
            let coefficient = 2.0 * (bound * a + 0.5 * (1.0 - w));
            let grad = if clip == ClipEvent::Unclipped {
                -coefficient
            } else {
                0.0
            };
            let expected = (coefficient * 0.25, grad, clip);
            assert_eq!(
                rpg.rpg_style_clip(&scalars, a),
                expected,
                "w = {w}, A = {a}"
            );
        };
        check(1.5 - 1e-9, 8.0, 1.5 - 1e-9, ClipEvent::Unclipped);
        check(1.5, 8.0, 1.5, ClipEvent::High);
        check(4.0, 8.0, 1.5, ClipEvent::High);
        check(0.25, 8.0, 0.25, ClipEvent::Unclipped);
        check(0.5, -8.0, 0.5, ClipEvent::Low);
        check(0.25, -8.0, 0.5, ClipEvent::Low);
        check(0.5 + 1e-9, -8.0, 0.5 + 1e-9, ClipEvent::Unclipped);
        check(2.0, -8.0, 2.0, ClipEvent::Unclipped);
        check(3.0, -8.0, 3.0, ClipEvent::Dual);
        check(4.0, -8.0, 3.0, ClipEvent::Dual);
        // A' = A + beta*K/w = 0.5 - 0.5*3/4 > 0, although beta*K < 0.
        check(4.0, 0.5, 1.5, ClipEvent::High);
        // A' = 0.25 - 0.5*3/4 < 0, although A > 0: the sign that counts is that of A'.
        check(4.0, 0.25, 3.0, ClipEvent::Dual);
    }

    #[test]
    fn hard_clip_moves_the_logarithm_with_the_weight() {
        let hard = evaluator(r#"{"kind": "rpg", "clip": "hard", "eps_low": 0.5, "eps_high": 0.5}"#);
        let check = |w: f64, bound: f64, clip: ClipEvent| {
            let scalars = Scalars {
                lp: -1.0,
                w,
                u: w.ln() - 0.25,
                log_r: 0.25,
                r: 0.25_f64.exp(),
                y: 1.0,
            };
            let clipped = hard.hard_clip(scalars);
            assert_eq!((clipped.w, hard.truncation(w)), (bound, clip), "w = {w}");
            assert_eq!(clipped.u, bound.ln() - 0.25, "w = {w}");
            assert_eq!((clipped.lp, clipped.r), (scalars.lp, scalars.r));
        };
        check(0.25, 0.5, ClipEvent::Low);
        check(0.5, 0.5, ClipEvent::Unclipped);
        check(1.25, 1.25, ClipEvent::Unclipped);
        check(1.5, 1.5, ClipEvent::Unclipped);
        check(1.75, 1.5, ClipEvent::High);
    }
}
