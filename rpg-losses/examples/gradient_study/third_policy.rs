//! The corrections for a sampler that is not `pi_old`, as it moves away.

use crate::plot::{Axis, Curve, draw};
use plotters::prelude::*;
use rpg_losses::rollout::{RolloutLevel, RolloutMode};
use rpg_losses::verify::{CorrectionStudy, SamplerPoint, Study, StudyCorrection, StudyPoint};
use std::error::Error;

const NONE: StudyCorrection = StudyCorrection::None;
const EXACT: StudyCorrection = StudyCorrection::EXACT;
const TOKEN: StudyCorrection = StudyCorrection::Unbounded(RolloutLevel::Token);
const GEOMETRIC: StudyCorrection = StudyCorrection::Unbounded(RolloutLevel::Geometric);
const TOKEN_2: StudyCorrection =
    StudyCorrection::Bounded(RolloutLevel::Token, RolloutMode::Truncate, 2.0);
const TRUNCATE_2: StudyCorrection =
    StudyCorrection::Bounded(RolloutLevel::Sequence, RolloutMode::Truncate, 2.0);
const TRUNCATE_5: StudyCorrection =
    StudyCorrection::Bounded(RolloutLevel::Sequence, RolloutMode::Truncate, 5.0);
const MASK_2: StudyCorrection =
    StudyCorrection::Bounded(RolloutLevel::Sequence, RolloutMode::Mask, 2.0);
const TIGHT: StudyCorrection =
    StudyCorrection::Bounded(RolloutLevel::Token, RolloutMode::Mask, 1.25);
const TOKEN_MASK_2: StudyCorrection =
    StudyCorrection::Bounded(RolloutLevel::Token, RolloutMode::Mask, 2.0);

/// The curves that are drawn; the tables have all.
const DRAWN: [(StudyCorrection, RGBColor); 7] = [
    (NONE, RGBColor(140, 140, 140)),
    (EXACT, RGBColor(0, 0, 0)),
    (TRUNCATE_2, RGBColor(0, 114, 178)),
    (MASK_2, RGBColor(86, 180, 233)),
    (GEOMETRIC, RGBColor(0, 158, 115)),
    (TOKEN_2, RGBColor(213, 94, 0)),
    (TOKEN_MASK_2, RGBColor(230, 159, 0)),
];

/// The section; its plots are in `folder`.
pub(crate) fn text(study: &Study, folder: &str) -> String {
    let last = study.options.updates.last().copied().unwrap_or(0);
    format!(
        "## A sampler that is not `pi_old`

A policy as above, `pi_old` again {before} updates from the reference. What is trained is `pi_old` itself, with the loss of RPG per token, no
clip and no KL term, which has the exact gradient of `E[R]` if `pi_old` samples: all the bias is the correction's. Here
the sampler is another policy, `pi_roll`: `pi_old` with normal noise in its logits, as other kernels or 8-bit weights
make it (`inexact`), or the policy some updates earlier (`stale`; there `pi_old` is the policy after all {last} updates). `v` is
`pi_old/pi_roll` of a token, of the whole response (`sequence`), or of the geometric mean over its tokens;
`truncate b` is `min(v, b)`, `mask 1/b..b` is `v` inside and 0 outside. How much a correction removes differs from one
policy to the next: all figures are averages over {draws} of them, each with its rewards and its noise (of biases the root
of the mean square; of the largest `v` the largest).

{shows}

![Relative bias](./{folder}/correction-bias.svg)
![Variance](./{folder}/correction-variance.svg)

### Inexact samplers

{inexact}
Responses in a batch from which the exact correction (`{exact}`) has the smaller mean squared error, `bias^2 + variance/n`;
in smaller batches the other one has

{break_even}
### Stale samplers

{stale}",
        before = study.options.updates_before,
        draws = study.options.n_draws,
        shows = shows(study),
        inexact = study.inexact.markdown("noise"),
        exact = EXACT,
        break_even = study.inexact.break_even_markdown(),
        stale = study.stale.markdown("updates behind"),
    )
}

/// The point of a correction's curve.
fn point(study: &CorrectionStudy, correction: StudyCorrection, at: f64) -> &StudyPoint {
    let curve = study.curve(correction).expect("the correction was studied");
    let mut points = curve.points.iter();
    let found = points.find(|point| point.at == at);
    found.expect("the study has this sampler")
}

fn sampler(study: &CorrectionStudy, at: f64) -> &SamplerPoint {
    let mut samplers = study.samplers.iter();
    let found = samplers.find(|sampler| sampler.at == at);
    found.expect("the study has this sampler")
}

/// What it shows; every figure in it is read from the study.
fn shows(study: &Study) -> String {
    let (inexact, stale) = (&study.inexact, &study.stale);
    let percent = |study, correction, at| 100.0 * point(study, correction, at).relative_bias;
    let variance = |correction, at| point(inexact, correction, at).variance;
    let more = |at| variance(EXACT, at) / variance(NONE, at);
    let break_even = |correction: StudyCorrection, at: f64| {
        let curve = inexact
            .curve(correction)
            .expect("the correction was studied");
        let column = curve.points.iter().position(|point| point.at == at);
        inexact.break_even(curve)[column.expect("the study has this sampler")].ceil()
    };
    let size = |at: f64| sampler(inexact, at).eff_sample_size;
    format!(
        "**What it shows.** The weight of the whole response, unbounded, has no bias with any sampler. Its price is variance: \
         {m4:.1} times that of the uncorrected gradient at noise 0.4, where the effective sample size is {e4:.2} of the \
         responses, {m8:.0} times at 0.8 ({e8:.2}), {m16:.0} times at 1.6 ({e16:.3}). The weight of the token alone, truncated or \
         not, removes little of what noise does: at 0.4 a bias of {t4:.0} % is left of {n4:.0} % without correction. It makes up \
         for the token, and neither for the prefix that led to it nor for what follows. The geometric mean does a little \
         better ({g4:.0} %). Truncating the weight of the response is the good bargain: {s4:.0} % of bias are left with a bound of \
         2 and {f4:.1} % with one of 5, with less variance ({vs4:.2} and {vf4:.2}) than without a bound ({ve4:.2}). Masking at the same \
         bounds is worse, {k4:.0} % at 2: it drops the responses that `pi_old` prefers most, where truncation counts them for \
         less. Which has the smaller error depends on the batch: the exact weight from {u:.0} responses on against no correction, \
         from {b:.0} on against truncation at 2. At noise 1.6 no bound leaves less than {w16:.0} %: what `pi_old` would sample is \
         not in the batch.

A stale sampler differs from `pi_old` along the gradient, so that a small divergence is a large bias: {n8:.0} % if it is 8 \
         updates behind and {n32:.0} % if 32, at divergences of {d8:.3} and {d32:.3}. The token's weight leaves {t8:.0} % and {t32:.0} %, that \
         of the response truncated at 5 nothing, with less variance than no correction has ({v8:.2} against {w8:.2} at 8). \
         Masks that are too tight do harm: tokens masked from 0.8 to 1.25 leave {k16:.0} % at 16 updates, where no correction has \
         {n16:.0} %.",
        m4 = more(0.4),
        m8 = more(0.8),
        m16 = more(1.6),
        e4 = size(0.4),
        e8 = size(0.8),
        e16 = size(1.6),
        t4 = percent(inexact, TOKEN, 0.4),
        n4 = percent(inexact, NONE, 0.4),
        g4 = percent(inexact, GEOMETRIC, 0.4),
        s4 = percent(inexact, TRUNCATE_2, 0.4),
        f4 = percent(inexact, TRUNCATE_5, 0.4),
        vs4 = variance(TRUNCATE_2, 0.4),
        vf4 = variance(TRUNCATE_5, 0.4),
        ve4 = variance(EXACT, 0.4),
        k4 = percent(inexact, MASK_2, 0.4),
        u = break_even(NONE, 0.4),
        b = break_even(TRUNCATE_2, 0.4),
        w16 = (100.0 * least_bounded(inexact)).floor(),
        n8 = percent(stale, NONE, 8.0),
        n32 = percent(stale, NONE, 32.0),
        d8 = sampler(stale, 8.0).kl,
        d32 = sampler(stale, 32.0).kl,
        t8 = percent(stale, TOKEN, 8.0),
        t32 = percent(stale, TOKEN, 32.0),
        v8 = point(stale, TRUNCATE_5, 8.0).variance,
        w8 = point(stale, NONE, 8.0).variance,
        k16 = percent(stale, TIGHT, 16.0),
        n16 = percent(stale, NONE, 16.0),
    )
}

/// The smallest bias of a bounded correction with the last sampler.
fn least_bounded(study: &CorrectionStudy) -> f64 {
    let is_bounded = |c: StudyCorrection| matches!(c, StudyCorrection::Bounded(..));
    let curves = study.curves.iter();
    let bounded = curves.filter(|curve| is_bounded(curve.correction));
    let last = bounded.filter_map(|curve| curve.points.last());
    last.map(|point| point.relative_bias)
        .fold(f64::INFINITY, f64::min)
}

/// Names and contents of the plots: the inexact samplers.
pub(crate) fn plots(study: &Study) -> Result<[(&'static str, String); 2], Box<dyn Error>> {
    // Noise on a logarithmic axis that has room for 0.
    let axis = Axis {
        title: "noise in the logits of the sampler",
        last: study.options.noise.last().copied().unwrap_or(1.0),
        at: |noise| (1.0 + 40.0 * noise).log2(),
        label: |x| format!("{:.2}", (x.exp2() - 1.0) / 40.0),
    };
    let curves = |value: fn(&StudyPoint) -> f64| -> Vec<Curve> {
        let curve = |(correction, color): &(StudyCorrection, RGBColor)| {
            let curve = study.inexact.curve(*correction)?;
            let points = curve.points.iter();
            Some(Curve {
                name: correction.to_string(),
                color: *color,
                points: points.map(|point| (point.at, value(point))).collect(),
            })
        };
        DRAWN.iter().filter_map(curve).collect()
    };
    let bias = draw(
        "bias over norm of the exact gradient (exact: lower edge)",
        axis,
        (0.002..2.0).log_scale(),
        &curves(|point| point.relative_bias.max(0.002)),
    );
    let variance = draw(
        "variance of one response's gradient",
        axis,
        (0.02..30.0).log_scale(),
        &curves(|point| point.variance.max(0.02)),
    );
    Ok([
        ("correction-bias.svg", bias?),
        ("correction-variance.svg", variance?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::STUDY;

    #[test]
    fn the_words_hold() {
        let study = &*STUDY;
        let (inexact, stale) = (&study.inexact, &study.stale);
        for study in [inexact, stale] {
            let exact = study.curve(EXACT).unwrap();
            assert!(exact.points.iter().all(|point| point.relative_bias < 1e-9));
        }
        let bias = |correction| point(inexact, correction, 0.4).relative_bias;
        for correction in [TOKEN, TOKEN_2, GEOMETRIC] {
            assert!((0.65..0.95).contains(&(bias(correction) / bias(NONE))));
        }
        assert!(bias(GEOMETRIC) < bias(TOKEN));
        assert!(bias(TRUNCATE_2) < 0.5 * bias(NONE) && bias(TRUNCATE_5) < 0.2 * bias(TRUNCATE_2));
        assert!(bias(MASK_2) > bias(NONE));
        let variance = |correction| point(inexact, correction, 0.4).variance;
        assert!(variance(TRUNCATE_2) < variance(TRUNCATE_5));
        assert!(variance(TRUNCATE_5) < variance(EXACT));
        assert!(least_bounded(inexact) > 0.5);
        let stale = |correction, at| point(stale, correction, at);
        for at in [8.0, 32.0] {
            let ratio = stale(TOKEN, at).relative_bias / stale(NONE, at).relative_bias;
            assert!((0.3..0.7).contains(&ratio));
            assert!(stale(TRUNCATE_5, at).relative_bias < 1e-9);
            assert!(stale(TRUNCATE_5, at).variance < stale(NONE, at).variance);
        }
        assert!(stale(TIGHT, 16.0).relative_bias > 2.0 * stale(NONE, 16.0).relative_bias);
        for (_, svg) in plots(study).unwrap() {
            assert!(svg.contains("polyline") && svg.contains("uncorrected"));
        }
    }
}
