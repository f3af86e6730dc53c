//! The estimators as the policy moves away from the one that sampled.

use crate::plot::{Axis, Curve, draw};
use plotters::prelude::*;
use rpg_losses::verify::{Study, StudyEstimator, StudyPoint};
use rpg_losses::{Clip, Divergence, Kind, Level};
use std::error::Error;

const EXACT: StudyEstimator = urkl(Level::Sequence, Clip::None);
const TOKEN: StudyEstimator = urkl(Level::Token, Clip::None);
const CLIPPED: StudyEstimator = urkl(Level::Token, Clip::Rpg);
const TRUNCATED: StudyEstimator = urkl(Level::Token, Clip::Truncated);
const HARD: StudyEstimator = urkl(Level::Token, Clip::Hard);
const GRPO: StudyEstimator = StudyEstimator::Baseline(Kind::Grpo);
const CORRECTED: StudyEstimator = StudyEstimator::Baseline(Kind::GrpoCorrected);
const DAPO: StudyEstimator = StudyEstimator::Baseline(Kind::Dapo);
const REINFORCE_PP: StudyEstimator = StudyEstimator::Baseline(Kind::ReinforcePp);

/// The curves that are drawn; the tables have all.
const DRAWN: [(StudyEstimator, RGBColor); 9] = [
    (EXACT, RGBColor(0, 0, 0)),
    (TOKEN, RGBColor(0, 114, 178)),
    (CLIPPED, RGBColor(86, 180, 233)),
    (TRUNCATED, RGBColor(0, 90, 60)),
    (HARD, RGBColor(0, 158, 115)),
    (GRPO, RGBColor(213, 94, 0)),
    (CORRECTED, RGBColor(230, 159, 0)),
    (DAPO, RGBColor(204, 121, 167)),
    (REINFORCE_PP, RGBColor(140, 140, 140)),
];

const fn urkl(level: Level, clip: Clip) -> StudyEstimator {
    StudyEstimator::Rpg(Divergence::Urkl, level, clip)
}

/// The section; its plots are in `folder`.
pub(crate) fn text(study: &Study, folder: &str) -> String {
    let options = &study.options;
    format!(
        "A policy of {n} responses (4 tokens, at most 4 long) starts at the
reference, moves {before} exact gradient steps of `E[R] - {beta}*KL(pi, ref)` (learning rate {lr}), samples its responses there
(`pi_old`) and moves on. After 0 to {last} further updates every estimator's expected gradient is compared with the
exact gradient of the objective it claims: all responses are enumerated, so the figures are sums without noise. All
see the same responses and the same advantages, `R` minus its mean under `pi_old`; token losses are summed over a
response; eps is 0.2 below and 0.28 above for RPG and DAPO, 0.2 and 0.2 for the others.

{shows}

![Relative bias](./{folder}/bias.svg)
![Cosine to the exact gradient](./{folder}/cosine.svg)
![Variance](./{folder}/variance.svg)

{tables}",
        n = study.n_responses,
        before = options.updates_before,
        beta = options.beta,
        lr = options.learning_rate,
        last = options.updates.last().copied().unwrap_or(0),
        shows = shows(study),
        tables = study.markdown(),
    )
}

/// The paragraph; every figure in it is read from the study.
fn shows(study: &Study) -> String {
    let point = |estimator: StudyEstimator, updates: usize| -> &StudyPoint {
        let curve = study.curve(estimator).expect("the estimator was studied");
        let mut points = curve.points.iter();
        let found = points.find(|point| point.at == updates as f64);
        found.expect("the study has this number of updates")
    };
    let bias = |estimator, updates| point(estimator, updates).relative_bias;
    let cosine = |estimator, updates| point(estimator, updates).cosine;
    let variance = |estimator, updates| point(estimator, updates).variance;
    let biases_after_2 = study.curves.iter().map(|curve| bias(curve.estimator, 2));
    format!(
        "**What it shows.** RPG with sequence-level weights and no clip has no bias however far the policy has moved, for \
         all four divergences: what is left is rounding. Everything at the token level is biased as soon as the policy \
         moves, little at first (after 2 updates no estimator is off by more than {two:.0} % of the gradient's norm) \
         and much later: RPG (urkl) without a clip is off by {t8:.0} % after 8 updates and {t64:.0} % after 64, its \
         direction still mostly right (cosine {c16:.2} after 16, {c64:.2} after 64). Where a clip acts it adds to the \
         bias: with the RPG-Style Clip {r8:.0} % after 8 updates, and after 16 the expected gradient points away from \
         the exact one (cosine {rc16:.2}), as do those of DAPO ({dc16:.2}), REINFORCE++ ({pc16:.2}) and GRPO ({gc16:.2}): \
         tokens the clip holds back no longer push, and what remains pushes the other way. Truncating the weights \
         and leaving the gradient alone keeps the direction: cosine {hc64:.2} after 64 updates with the hard clip and \
         {uc64:.2} with the truncated one (Equation 4.1 read literally). Its coefficient is that of the RPG-Style Clip, so \
         that the gradients which that clip drops are all the difference; {u64:.0} % bias after 64 updates is close to the \
         {t64:.0} % without a clip, where the hard clip, which also raises the small weights, has {h64:.0} %. \
         GRPO's KL term without importance weight is the worst off policy: {g64:.1} times the gradient's norm after 64 \
         updates against {gc64:.1} with the weight, and {gv:.1} times the variance. The clips hardly lower the variance \
         here ({cv:.3} against {tv:.3} after 16 updates), and the exact sequence-level form has the lowest of all \
         ({sv:.3}): responses are short, and no weight of a response exceeds {w:.1}. Longer responses would change that.",
        two = 100.0 * biases_after_2.fold(0.0, f64::max),
        t8 = 100.0 * bias(TOKEN, 8),
        t64 = 100.0 * bias(TOKEN, 64),
        c16 = cosine(TOKEN, 16),
        c64 = cosine(TOKEN, 64),
        r8 = 100.0 * bias(CLIPPED, 8),
        rc16 = cosine(CLIPPED, 16),
        dc16 = cosine(DAPO, 16),
        pc16 = cosine(REINFORCE_PP, 16),
        gc16 = cosine(GRPO, 16),
        hc64 = cosine(HARD, 64),
        uc64 = cosine(TRUNCATED, 64),
        u64 = 100.0 * bias(TRUNCATED, 64),
        h64 = 100.0 * bias(HARD, 64),
        g64 = bias(GRPO, 64),
        gc64 = bias(CORRECTED, 64),
        gv = variance(GRPO, 64) / variance(CORRECTED, 64),
        cv = variance(CLIPPED, 16),
        tv = variance(TOKEN, 16),
        sv = variance(EXACT, 16),
        w = study
            .path
            .iter()
            .map(|point| point.max_weight)
            .fold(0.0, f64::max),
    )
}

/// Names and contents of the plots.
pub(crate) fn plots(study: &Study) -> Result<[(&'static str, String); 3], Box<dyn Error>> {
    // Updates on a logarithmic axis that has room for 0.
    let axis = Axis {
        title: "updates since the responses were sampled",
        last: study.options.updates.last().copied().unwrap_or(1) as f64,
        at: |updates| (1.0 + updates).log2(),
        label: |x| format!("{:.0}", x.exp2() - 1.0),
    };
    let curves = |value: fn(&StudyPoint) -> f64| -> Vec<Curve> {
        let curve = |(estimator, color): &(StudyEstimator, RGBColor)| {
            let curve = study.curve(*estimator)?;
            let points = curve.points.iter();
            Some(Curve {
                name: estimator.to_string(),
                color: *color,
                points: points.map(|point| (point.at, value(point))).collect(),
            })
        };
        DRAWN.iter().filter_map(curve).collect()
    };
    // A logarithmic axis has no zero; what is exact runs along the lower edge.
    let bias = draw(
        "bias over norm of the exact gradient (exact: lower edge)",
        axis,
        (0.005..30.0).log_scale(),
        &curves(|point| point.relative_bias.max(0.005)),
    );
    let cosine = draw(
        "cosine to the exact gradient",
        axis,
        -1.0..1.05,
        &curves(|point| point.cosine),
    );
    let variance = draw(
        "variance of one response's gradient",
        axis,
        (0.005..2.0).log_scale(),
        &curves(|point| point.variance),
    );
    Ok([
        ("bias.svg", bias?),
        ("cosine.svg", cosine?),
        ("variance.svg", variance?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::STUDY;

    #[test]
    fn the_words_hold() {
        let study = &*STUDY;
        let after = |estimator: StudyEstimator, updates: usize| {
            let curve = study.curve(estimator).unwrap();
            let mut points = curve.points.iter();
            points.find(|p| p.at == updates as f64).unwrap()
        };
        for curve in &study.curves {
            if matches!(
                curve.estimator,
                StudyEstimator::Rpg(_, Level::Sequence, Clip::None)
            ) {
                assert!(curve.points.iter().all(|p| p.relative_bias < 1e-9));
            }
        }
        for estimator in [CLIPPED, DAPO, REINFORCE_PP, GRPO] {
            assert!(after(estimator, 16).cosine < 0.0, "{estimator}");
        }
        for estimator in [HARD, TRUNCATED] {
            assert!(after(estimator, 64).cosine > 0.9, "{estimator}");
        }
        let (token, truncated) = (after(TOKEN, 64), after(TRUNCATED, 64));
        assert!((truncated.relative_bias - token.relative_bias).abs() < 0.1);
        let (grpo, corrected) = (after(GRPO, 64), after(CORRECTED, 64));
        assert!(grpo.relative_bias > 4.0 * corrected.relative_bias);
        assert!(grpo.variance > 4.0 * corrected.variance);
        for (_, svg) in plots(study).unwrap() {
            assert!(svg.contains("polyline") && svg.contains("grpo_corrected"));
        }
    }
}
