//! The gradient study as a page: exact bias and variance of every estimator on an enumerated policy.
//!
//! `cargo run --release -p rpg-losses --features verify --example gradient_study -- [PAGE]` writes the page
//! PAGE, and its plots into a folder of the same name beside it; without PAGE it prints the tables.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use rpg_losses::verify::{Study, StudyCurve, StudyEstimator, StudyOptions, StudyPoint, study};
use rpg_losses::{Clip, Divergence, Kind, Level};
use std::env;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const EXACT: StudyEstimator = urkl(Level::Sequence, Clip::None);
const TOKEN: StudyEstimator = urkl(Level::Token, Clip::None);
const CLIPPED: StudyEstimator = urkl(Level::Token, Clip::Rpg);
const HARD: StudyEstimator = urkl(Level::Token, Clip::Hard);
const GRPO: StudyEstimator = StudyEstimator::Baseline(Kind::Grpo);
const CORRECTED: StudyEstimator = StudyEstimator::Baseline(Kind::GrpoCorrected);
const DAPO: StudyEstimator = StudyEstimator::Baseline(Kind::Dapo);
const REINFORCE_PP: StudyEstimator = StudyEstimator::Baseline(Kind::ReinforcePp);

/// The curves that are drawn; the tables have all.
const DRAWN: [(StudyEstimator, RGBColor); 8] = [
    (EXACT, RGBColor(0, 0, 0)),
    (TOKEN, RGBColor(0, 114, 178)),
    (CLIPPED, RGBColor(86, 180, 233)),
    (HARD, RGBColor(0, 158, 115)),
    (GRPO, RGBColor(213, 94, 0)),
    (CORRECTED, RGBColor(230, 159, 0)),
    (DAPO, RGBColor(204, 121, 167)),
    (REINFORCE_PP, RGBColor(140, 140, 140)),
];

const fn urkl(level: Level, clip: Clip) -> StudyEstimator {
    StudyEstimator::Rpg(Divergence::Urkl, level, clip)
}

fn main() -> Result<(), Box<dyn Error>> {
    let study = study(&StudyOptions::default());
    match env::args_os().nth(1) {
        None => print!("{}", study.markdown()),
        Some(page) => {
            let page = PathBuf::from(page);
            write(&study, &page).map_err(|e| format!("{}: {e}", page.display()))?;
            println!("{}", page.display());
        }
    }
    Ok(())
}

/// Writes the page, and its plots into a folder of the same name beside it.
fn write(study: &Study, page: &Path) -> Result<(), Box<dyn Error>> {
    let name = page.file_stem().ok_or("not the name of a file")?;
    let folder = page.with_extension("");
    fs::create_dir_all(&folder)?;
    for (file, plot) in plots(study)? {
        fs::write(folder.join(file), plot)?;
    }
    fs::write(page, text(study, &name.to_string_lossy()))?;
    Ok(())
}

/// The page; its plots are in `folder`.
fn text(study: &Study, folder: &str) -> String {
    let options = &study.options;
    format!(
        "# Bias and variance of the gradient estimators

Made by `cargo xtask verify-gradients --study`. A policy of {n} responses (4 tokens, at most 4 long) starts at the
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
        let found = points.find(|point| point.updates == updates);
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
         and leaving the gradient alone (the hard clip) keeps the direction (cosine {hc64:.2} after 64 updates). \
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
fn plots(study: &Study) -> Result<[(&'static str, String); 3], Box<dyn Error>> {
    let drawn = DRAWN.iter();
    let curves: Vec<(&StudyCurve, RGBColor)> = drawn
        .filter_map(|(estimator, color)| Some((study.curve(*estimator)?, *color)))
        .collect();
    let last = study.options.updates.last().copied().unwrap_or(1);
    // A logarithmic axis has no zero; what is exact runs along the lower edge.
    let bias = draw(
        "bias over norm of the exact gradient (exact: lower edge)",
        (0.005..30.0).log_scale(),
        last,
        &curves,
        |point| point.relative_bias.max(0.005),
    );
    let cosine = draw(
        "cosine to the exact gradient",
        -1.0..1.05,
        last,
        &curves,
        |point| point.cosine,
    );
    let variance = draw(
        "variance of one response's gradient",
        (0.005..2.0).log_scale(),
        last,
        &curves,
        |point| point.variance,
    );
    Ok([
        ("bias.svg", bias?),
        ("cosine.svg", cosine?),
        ("variance.svg", variance?),
    ])
}

fn draw<Y>(
    title: &str,
    range: Y,
    last: usize,
    curves: &[(&StudyCurve, RGBColor)],
    value: fn(&StudyPoint) -> f64,
) -> Result<String, Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    // Updates on a logarithmic axis that has room for 0.
    let x = |updates: usize| (1.0 + updates as f64).log2();
    let span: Range<f64> = 0.0..x(last);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (760, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(530);
        let mut chart = ChartBuilder::on(&left)
            .margin(12)
            .caption(title, ("sans-serif", 16))
            .x_label_area_size(40)
            .y_label_area_size(48)
            .build_cartesian_2d(span, range)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_labels(8)
            .x_desc("updates since the responses were sampled")
            .x_label_formatter(&|x| format!("{:.0}", x.exp2() - 1.0))
            .y_label_formatter(&|y| format!("{y}"))
            .draw()?;
        for (i, (curve, color)) in curves.iter().enumerate() {
            let points = curve.points.iter();
            chart.draw_series(
                LineSeries::new(
                    points.map(|point| (x(point.updates), value(point))),
                    color.stroke_width(2),
                )
                .point_size(2),
            )?;
            let y = 50 + 24 * i as i32;
            right.draw(&PathElement::new([(0, y), (18, y)], color.stroke_width(3)))?;
            right.draw(&Text::new(
                curve.estimator.to_string(),
                (24, y - 7),
                ("sans-serif", 14),
            ))?;
        }
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_is_written_and_its_words_hold() {
        let study = study(&StudyOptions::default());
        let after = |estimator: StudyEstimator, updates: usize| {
            let curve = study.curve(estimator).unwrap();
            curve.points.iter().find(|p| p.updates == updates).unwrap()
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
        assert!(after(HARD, 64).cosine > 0.9);
        let (grpo, corrected) = (after(GRPO, 64), after(CORRECTED, 64));
        assert!(grpo.relative_bias > 4.0 * corrected.relative_bias);
        assert!(grpo.variance > 4.0 * corrected.variance);

        for (_, svg) in plots(&study).unwrap() {
            assert!(svg.contains("polyline") && svg.contains("grpo_corrected"));
        }
        // The package alone has no `docs`.
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gradient-study.md");
        if let Ok(page) = fs::read_to_string(docs) {
            assert_eq!(text(&study, "gradient-study"), page);
        }
    }
}
