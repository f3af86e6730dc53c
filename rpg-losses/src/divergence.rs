//! The four divergences, their symmetrised forms, and what each adds to the gradient.
//!
//! For `J = E_pi[R] - beta*D` the gradient is `z * E_old[(w*A + beta*K) * grad lp]`, where `K`
//! depends on the divergence ([`kl_component`]). [`kl_surrogate`] is the differentiable loss term
//! whose derivative with respect to `lp` is `-K`.
//!
//! The mass terms of the two unnormalized divergences cancel in their sum, so that `skl` and `uskl` have
//! the same `K`; they differ in `z` alone.

use crate::choices::Divergence;
use crate::ratios::{Ratios, exp_clamped};
use crate::terms::UnitTerms;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// `K`, what the KL term adds to the reward weight `w*A`: the `Compute_KL_Component` of the paper's Algorithm 2
/// (line 13), which the paper leaves open.
///
/// | divergence | K |
/// | --- | --- |
/// | `fkl`  | `r` |
/// | `rkl`  | `-w*(u + 1)` |
/// | `ufkl` | `r - w` |
/// | `urkl` | `-w*u` |
/// | `skl`  | `(r - w*(u + 1)) / 2` |
/// | `uskl` | `(r - w - w*u) / 2` |
/// | `none` | `0` |
///
/// Shapes: everything `[B, U]`. Callers that use the result as a coefficient pass detached ratios.
pub fn kl_component<B: Backend>(divergence: Divergence, ratios: &Ratios<B>) -> Tensor<B, 2> {
    let w = || ratios.w.clone();
    let u = || ratios.u.clone();
    let r = || ratios.r.clone();
    match divergence {
        Divergence::None => w().zeros_like(),
        Divergence::Fkl => r(),
        Divergence::Rkl => -(w() * (u() + 1.0)),
        Divergence::Ufkl => r() - w(),
        Divergence::Urkl => -(w() * u()),
        Divergence::Skl => (r() - w() * (u() + 1.0)) * 0.5,
        Divergence::Uskl => (r() - w() - w() * u()) * 0.5,
    }
}

/// `K/w`, the KL term as a change of the advantage: `A' = A + beta*K/w` (Section 3.3, Appendix G.2).
///
/// Written without the division where `w` cancels. Shapes: everything `[B, U]`.
pub fn kl_component_over_weight<B: Backend>(
    divergence: Divergence,
    ratios: &Ratios<B>,
) -> Tensor<B, 2> {
    let u = || ratios.u.clone();
    // `r/w`; `w` is at least exp(-MAX_LOG_RATIO).
    let reference_over_weight = || ratios.r.clone() / ratios.w.clone();
    match divergence {
        Divergence::None => u().zeros_like(),
        Divergence::Fkl => reference_over_weight(),
        Divergence::Rkl => -(u() + 1.0),
        Divergence::Ufkl => reference_over_weight() - 1.0,
        Divergence::Urkl => -u(),
        Divergence::Skl => (reference_over_weight() - u() - 1.0) * 0.5,
        Divergence::Uskl => (reference_over_weight() - 1.0 - u()) * 0.5,
    }
}

/// The differentiable KL term of the loss, per unit of `beta`; its derivative in `lp` is `-K`.
///
/// | divergence | term |
/// | --- | --- |
/// | `fkl`  | `-r*lp` |
/// | `rkl`  | `w*u` |
/// | `ufkl` | `w - r*u - r` |
/// | `urkl` | `w*u - w` |
/// | `skl`  | `(w*u - r*lp) / 2` |
/// | `uskl` | `(w*u - r*u - r) / 2` |
/// | `none` | `0` |
///
/// Shapes: everything `[B, U]`. Minimised together with `-w*A`.
pub fn kl_surrogate<B: Backend>(divergence: Divergence, ratios: &Ratios<B>) -> Tensor<B, 2> {
    let w = || ratios.w.clone();
    let u = || ratios.u.clone();
    let r = || ratios.r.clone();
    let lp = || ratios.lp.clone();
    match divergence {
        Divergence::None => w().zeros_like(),
        Divergence::Fkl => -(r() * lp()),
        Divergence::Rkl => w() * u(),
        Divergence::Ufkl => w() - r() * u() - r(),
        Divergence::Urkl => w() * u() - w(),
        Divergence::Skl => (w() * u() - r() * lp()) * 0.5,
        Divergence::Uskl => (w() * u() - r() * u() - r()) * 0.5,
    }
}

/// `k1(y) = -log y` for `y = exp(-u)`, that is `u`; its derivative in `lp` is 1.
pub fn k1<B: Backend>(ratios: &Ratios<B>) -> Tensor<B, 2> {
    ratios.u.clone()
}

/// `k2(y) = (log y)^2 / 2` for `y = exp(-u)`, that is `u^2 / 2`; its derivative in `lp` is `u`.
pub fn k2<B: Backend>(ratios: &Ratios<B>) -> Tensor<B, 2> {
    ratios.u.clone() * ratios.u.clone() * 0.5
}

/// `k3(y) = y - 1 - log y` for `y = exp(-u)`; its derivative in `lp` is `1 - exp(-u)`.
///
/// Equation 3.2 of the paper. Never negative. Unbiased for `KL(pi, ref)` only under samples of `pi`, where its
/// mean is `UKL(pi, ref)` for measures (Appendix D): off policy it needs the importance weight.
pub fn k3<B: Backend>(ratios: &Ratios<B>) -> Tensor<B, 2> {
    exp_clamped(-ratios.u.clone()) - 1.0 + ratios.u.clone()
}

/// [`kl_component`] of one unit.
#[inline]
pub(crate) fn component(terms: &UnitTerms) -> f64 {
    let UnitTerms { w, u, r, .. } = *terms;
    match terms.coefficients.kl {
        Divergence::None => 0.0,
        Divergence::Fkl => r,
        Divergence::Rkl => -w * (u + 1.0),
        Divergence::Ufkl => r - w,
        Divergence::Urkl => -w * u,
        Divergence::Skl => 0.5 * (r - w * (u + 1.0)),
        Divergence::Uskl => 0.5 * (r - w - w * u),
    }
}

/// [`kl_component_over_weight`] of one unit.
#[inline]
pub(crate) fn component_over_weight(terms: &UnitTerms) -> f64 {
    let UnitTerms { w, u, r, .. } = *terms;
    match terms.coefficients.kl {
        Divergence::None => 0.0,
        Divergence::Fkl => r / w,
        Divergence::Rkl => -(u + 1.0),
        Divergence::Ufkl => r / w - 1.0,
        Divergence::Urkl => -u,
        Divergence::Skl => 0.5 * (r / w - u - 1.0),
        Divergence::Uskl => 0.5 * (r / w - 1.0 - u),
    }
}

/// [`kl_surrogate`] of one unit.
#[inline]
pub(crate) fn surrogate(terms: &UnitTerms) -> f64 {
    let UnitTerms { lp, w, u, r, .. } = *terms;
    match terms.coefficients.kl {
        Divergence::None => 0.0,
        Divergence::Fkl => -r * lp,
        Divergence::Rkl => w * u,
        Divergence::Ufkl => w - r * u - r,
        Divergence::Urkl => w * u - w,
        Divergence::Skl => 0.5 * (w * u - r * lp),
        Divergence::Uskl => 0.5 * (w * u - r * u - r),
    }
}

/// [`k3`] of one unit.
#[inline]
pub(crate) fn k3_unit(terms: &UnitTerms) -> f64 {
    terms.y - 1.0 + terms.u
}

/// A divergence as the documentation prints it: `D`, `K` and the KL term of the surrogate.
pub(crate) fn printed(divergence: Divergence) -> [&'static str; 3] {
    match divergence {
        Divergence::None => ["0", "0", "0"],
        Divergence::Fkl => ["KL(ref, pi)", "r", "-r*lp"],
        Divergence::Rkl => ["KL(pi, ref)", "-w*(u + 1)", "w*u"],
        Divergence::Ufkl => ["UKL(ref, pi)", "r - w", "w - r*u - r"],
        Divergence::Urkl => ["UKL(pi, ref)", "-w*u", "w*u - w"],
        Divergence::Skl => [
            "(KL(ref, pi) + KL(pi, ref)) / 2",
            "(r - w*(u + 1)) / 2",
            "(w*u - r*lp) / 2",
        ],
        Divergence::Uskl => [
            "(UKL(ref, pi) + UKL(pi, ref)) / 2",
            "(r - w - w*u) / 2",
            "(w*u - r*u - r) / 2",
        ],
    }
}
