//! The tensor clips at weights just below, exactly on and just above their bounds.

use crate::common::{B, matrix};
use burn::tensor::{Bool, DType, Tensor};
use rpg_losses::clip::{dual_clip, ppo_clip};
use rpg_losses::objectives::rpg::{hard_clip, rpg_clip, truncated};
use rpg_losses::ratios::Ratios;
use rpg_losses::terms::{ClipBounds, ClipFlags, Terms, UnitLosses};
use rpg_losses::{Divergence, Kind, ObjectiveConfig};

const BOUNDS: ClipBounds = ClipBounds {
    low: 0.5,
    high: 1.5,
    dual: 3.0,
};

fn row(values: &[f64]) -> Tensor<B, 2> {
    matrix(&[values.to_vec()], DType::F64)
}

fn read(tensor: Tensor<B, 2>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// `low`, `high` or `dual` for each unit, `-` where none is set.
fn names(flags: ClipFlags<B>) -> Vec<&'static str> {
    let read =
        |flag: Tensor<B, 2, Bool>| -> Vec<bool> { flag.into_data().iter::<bool>().collect() };
    let (low, high, dual) = (read(flags.low), read(flags.high), read(flags.dual));
    (0..low.len())
        .map(|idx| match (low[idx], high[idx], dual[idx]) {
            (true, false, false) => "low",
            (false, true, false) => "high",
            (false, false, true) => "dual",
            (false, false, false) => "-",
            several => panic!("unit {idx} has {several:?}"),
        })
        .collect()
}

/// Loss and gradient in `w` of each unit.
fn loss_and_slope(
    w: &[f64],
    a: &[f64],
    clip: fn(Tensor<B, 2>, Tensor<B, 2>, ClipBounds) -> UnitLosses<B>,
) -> (Vec<f64>, Vec<f64>) {
    let w = row(w).require_grad();
    let losses = clip(w.clone(), row(a), BOUNDS).losses;
    let grads = losses.clone().sum().backward();
    let slope = w.grad(&grads).unwrap().into_data().iter::<f64>().collect();
    (read(losses), slope)
}

#[test]
fn bounds() {
    assert_eq!(
        ClipBounds::new(0.5, 0.25, 7.0),
        ClipBounds {
            low: 0.5,
            high: 1.25,
            dual: 7.0
        }
    );
}

#[test]
fn ppo_and_dual_clip() {
    let positive = [0.25, 0.5, 1.0, 1.5, 1.75, 4.0];
    let a = [2.0; 6];
    let expected = vec![-0.5, -1.0, -2.0, -3.0, -3.0, -3.0];
    let slope = vec![-2.0, -2.0, -2.0, -2.0, 0.0, 0.0];
    for clip in [ppo_clip::<B>, dual_clip::<B>] {
        assert_eq!(
            loss_and_slope(&positive, &a, clip),
            (expected.clone(), slope.clone())
        );
        let flags = clip(row(&positive), row(&a), BOUNDS).clipped;
        assert_eq!(names(flags), ["-", "-", "-", "-", "high", "high"]);
    }

    let negative = [0.25, 0.5, 1.0, 2.0, 3.0, 4.0];
    let a = [-2.0; 6];
    let expected = vec![1.0, 1.0, 2.0, 4.0, 6.0, 8.0];
    let slope = vec![0.0, 2.0, 2.0, 2.0, 2.0, 2.0];
    assert_eq!(
        loss_and_slope(&negative, &a, ppo_clip::<B>),
        (expected, slope)
    );
    let expected = vec![1.0, 1.0, 2.0, 4.0, 6.0, 6.0];
    let slope = vec![0.0, 2.0, 2.0, 2.0, 2.0, 0.0];
    assert_eq!(
        loss_and_slope(&negative, &a, dual_clip::<B>),
        (expected, slope)
    );
    let flags =
        |clip: fn(_, _, _) -> UnitLosses<B>, a| names(clip(row(&negative), a, BOUNDS).clipped);
    assert_eq!(flags(ppo_clip, row(&a)), ["low", "-", "-", "-", "-", "-"]);
    assert_eq!(
        flags(dual_clip, row(&a)),
        ["low", "-", "-", "-", "-", "dual"]
    );

    // No advantage, no clipping.
    assert_eq!(flags(dual_clip, row(&[0.0; 6])), ["-"; 6]);
}

/// Ratios with exactly these weights, `r = 1` and `lp = -0.25`.
fn ratios(w: &[f64]) -> Ratios<B> {
    let constant = |value: f64| row(&vec![value; w.len()]);
    let log_w: Vec<f64> = w.iter().map(|w| w.ln()).collect();
    Ratios {
        lp: constant(-0.25).require_grad(),
        lp_old: row(&(log_w.iter().map(|x| -0.25 - x)).collect::<Vec<_>>()),
        log_w: row(&log_w),
        w: row(w),
        u: row(&log_w),
        log_r: constant(0.0),
        r: constant(1.0),
    }
}

fn terms(ratios: Ratios<B>, a: &[f64], kl: Divergence, beta: f64) -> Terms<B> {
    let mut config = ObjectiveConfig::for_kind(Kind::Rpg);
    config.kl = kl;
    config.beta = beta;
    config.eps_low = 0.5;
    config.eps_high = 0.5;
    config.c = Some(3.0);
    assert_eq!(config.clip_bounds(), BOUNDS);
    Terms::new(ratios, row(a), config.coefficients())
}

#[test]
fn rpg_style() {
    let w = [
        0.25, 0.5, 1.0, 1.5, 3.0, 4.0, 0.25, 0.5, 0.75, 2.0, 3.0, 4.0, 4.0, 4.0,
    ];
    let mut a = [8.0; 14];
    a[6..].fill(-8.0);
    // `A' = A + beta*(1 - w)/w` decides, not `A`: 0.5 - 0.375 and 0.25 - 0.375.
    a[12] = 0.5;
    a[13] = 0.25;
    let expected = [
        "-", "-", "-", "high", "high", "high", "low", "low", "-", "-", "dual", "dual", "high",
        "dual",
    ];
    let ratios = ratios(&w);
    let UnitLosses {
        losses, clipped, ..
    } = rpg_clip::losses(&terms(ratios.clone(), &a, Divergence::Ufkl, 0.5));
    assert_eq!(names(clipped), expected);
    let grads = losses.clone().sum().backward();
    let grad: Vec<f64> = ratios
        .lp
        .grad(&grads)
        .unwrap()
        .into_data()
        .iter::<f64>()
        .collect();
    for (idx, loss) in read(losses).into_iter().enumerate() {
        let weight = match expected[idx] {
            "low" => BOUNDS.low,
            "high" => BOUNDS.high,
            "dual" => BOUNDS.dual,
            _ => w[idx],
        };
        let coefficient = weight * a[idx] + 0.5 * (1.0 - w[idx]);
        assert_eq!(loss, coefficient * 0.25, "unit {idx}");
        let slope = if expected[idx] == "-" {
            -coefficient
        } else {
            0.0
        };
        assert_eq!(grad[idx], slope, "unit {idx}");
    }
}

/// A token of probability 1: `A'*l = 0` is not below 0, whatever the sign of `A'`.
#[test]
fn rpg_style_at_log_prob_zero() {
    let w = [0.25, 0.5, 1.0, 1.5, 4.0, 0.25, 0.5, 1.0, 1.5, 4.0];
    let mut a = [8.0; 10];
    a[5..].fill(-8.0);
    let high = ["-", "-", "-", "high", "high"].repeat(2);
    for zero in [0.0, -0.0] {
        let at_zero = Ratios {
            lp: row(&[zero; 10]),
            ..ratios(&w)
        };
        let clipped = rpg_clip::losses(&terms(at_zero, &a, Divergence::None, 0.0)).clipped;
        assert_eq!(names(clipped), high);
    }
}

#[test]
fn hard() {
    let w = [0.25, 0.5, 1.0, 1.5, 1.75];
    let clipped = hard_clip::truncated(ratios(&w), BOUNDS);
    assert_eq!(read(clipped.w), [0.5, 0.5, 1.0, 1.5, 1.5]);
    let logarithms = [0.5_f64, 0.5, 1.0, 1.5, 1.5].map(f64::ln);
    assert_eq!(read(clipped.log_w), logarithms);
    assert_eq!(read(clipped.u), logarithms);
    let losses = hard_clip::losses(&terms(ratios(&w), &[1.0; 5], Divergence::None, 0.0));
    assert_eq!(names(losses.clipped), ["low", "-", "-", "-", "high"]);
    // The reference stays where it was.
    let mut shifted = ratios(&w);
    shifted.log_r = row(&[0.25; 5]);
    shifted.u = shifted.log_w.clone() - 0.25;
    assert_eq!(
        read(hard_clip::truncated(shifted, BOUNDS).u),
        logarithms.map(|x| x - 0.25)
    );
}

/// The coefficient is `-w'*A`, whether or not the weight was clipped.
#[test]
fn truncated_keeps_every_gradient() {
    let w = [0.25, 0.5, 1.5, 4.0, 0.25, 0.5, 1.5, 3.0, 4.0];
    let mut a = [8.0; 9];
    a[4..].fill(-8.0);
    let weights = [0.25, 0.5, 1.5, 1.5, 0.5, 0.5, 1.5, 3.0, 3.0];
    let expected = ["-", "-", "-", "high", "low", "-", "-", "-", "dual"];
    let ratios = ratios(&w);
    let outcome = truncated::losses(&terms(ratios.clone(), &a, Divergence::None, 0.0));
    assert_eq!(names(outcome.clipped), expected);
    let grads = outcome.losses.clone().sum().backward();
    let grad = ratios.lp.grad(&grads).unwrap().into_data();
    let grad: Vec<f64> = grad.iter::<f64>().collect();
    for (idx, loss) in read(outcome.losses).into_iter().enumerate() {
        assert_eq!(loss, weights[idx] * a[idx] * 0.25, "unit {idx}");
        assert_eq!(grad[idx], -weights[idx] * a[idx], "unit {idx}");
    }
    // `A' = A + beta*(1 - w)/w` decides, not `A`: 0.5 - 0.375 and 0.25 - 0.375.
    let mixed = terms(self::ratios(&[4.0; 2]), &[0.5, 0.25], Divergence::Ufkl, 0.5);
    let outcome = truncated::losses(&mixed);
    assert_eq!(names(outcome.clipped), ["high", "dual"]);
    assert_eq!(
        read(outcome.losses),
        [1.5 * 0.125 * 0.25, 3.0 * -0.125 * 0.25]
    );
}

#[test]
fn constants_of_a_loss_have_no_gradient() {
    // Every field tracked on its own, as no caller should do.
    let fields =
        [-0.25, -0.75, 0.5, 1.5, 0.5, 0.25, 1.25].map(|value| row(&[value]).require_grad());
    let [lp, lp_old, log_w, w, u, log_r, r] = fields.clone();
    let ratios = Ratios {
        lp,
        lp_old,
        log_w,
        w,
        u,
        log_r,
        r,
    };
    let constants = ratios.clone().detach();
    let sum = constants.lp
        + constants.lp_old
        + constants.log_w
        + constants.w
        + constants.u
        + constants.log_r
        + constants.r;
    let all = fields
        .iter()
        .fold(sum, |sum, field| sum + field.clone())
        .sum();
    let grads = all.backward();
    for (idx, field) in fields.iter().enumerate() {
        let grad: Vec<f64> = field
            .grad(&grads)
            .unwrap()
            .into_data()
            .iter::<f64>()
            .collect();
        assert_eq!(grad, [1.0], "field {idx}");
    }

    // Under RPG-Style Clip the gradient reaches `lp` alone, and never the advantages.
    let advantages = row(&[0.5]).require_grad();
    let mut terms = terms(ratios, &[0.5], Divergence::Uskl, 0.3);
    terms.advantages = advantages.clone();
    let grads = rpg_clip::losses(&terms).losses.sum().backward();
    assert!(advantages.grad(&grads).is_none());
    assert!(fields[0].grad(&grads).is_some());
    assert!(fields[1..].iter().all(|field| field.grad(&grads).is_none()));

    // The two other policies are constants from the start.
    let [lp, lp_old, lp_ref] = [-0.25, -0.5, -0.75].map(|value| row(&[value]).require_grad());
    let ratios = Ratios::new(lp.clone(), lp_old.clone(), lp_ref.clone());
    let grads = (ratios.w + ratios.u + ratios.log_w + ratios.r + ratios.log_r)
        .sum()
        .backward();
    assert!(lp.grad(&grads).is_some());
    assert!(lp_old.grad(&grads).is_none() && lp_ref.grad(&grads).is_none());
}
