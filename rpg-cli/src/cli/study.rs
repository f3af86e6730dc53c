//! The gradient study as a page: what it shows, plots, tables.

use crate::failure::Failure;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use rpg_losses::verify::{Study, StudyCurve, StudyPoint};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The curves that are drawn; the tables have all.
const DRAWN: [(&str, RGBColor); 8] = [
    ("rpg urkl, sequence, no clip", RGBColor(0, 0, 0)),
    ("rpg urkl, token, no clip", RGBColor(0, 114, 178)),
    ("rpg urkl, token, rpg clip", RGBColor(86, 180, 233)),
    ("rpg urkl, token, hard clip", RGBColor(0, 158, 115)),
    ("grpo", RGBColor(213, 94, 0)),
    ("grpo_corrected", RGBColor(230, 159, 0)),
    ("dapo", RGBColor(204, 121, 167)),
    ("reinforce_pp", RGBColor(140, 140, 140)),
];

/// Writes the page, and its plots into a folder of the same name beside it.
pub(super) fn write(study: &Study, page: &Path) -> Result<(), Failure> {
    let name = page
        .file_stem()
        .ok_or_else(|| Failure::input(format!("{}: not the name of a file", page.display())))?;
    let folder = page.with_extension("");
    let failed = |path: &Path, e: std::io::Error| {
        Failure::input(format!("{}: cannot be written: {e}", path.display()))
    };
    fs::create_dir_all(&folder).map_err(|e| failed(&folder, e))?;
    for (file, plot) in plots(study)? {
        let path = folder.join(file);
        fs::write(&path, plot).map_err(|e| failed(&path, e))?;
    }
    fs::write(page, text(study, &name.to_string_lossy())).map_err(|e| failed(page, e))
}

/// The page; its plots are in `folder`.
pub(super) fn text(study: &Study, folder: &str) -> String {
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
    let point = |name: &str, updates: usize| -> &StudyPoint {
        study
            .curves
            .iter()
            .find(|curve| curve.name == name)
            .and_then(|curve| curve.points.iter().find(|point| point.updates == updates))
            .expect("the study has this estimator and this number of updates")
    };
    let bias = |name: &str, updates: usize| point(name, updates).relative_bias;
    let cosine = |name: &str, updates: usize| point(name, updates).cosine;
    let variance = |name: &str, updates: usize| point(name, updates).variance;
    let (token, clipped, hard) = (
        "rpg urkl, token, no clip",
        "rpg urkl, token, rpg clip",
        "rpg urkl, token, hard clip",
    );
    let two = |pick: fn(f64, f64) -> f64| {
        study
            .curves
            .iter()
            .map(|curve| bias(&curve.name, 2))
            .reduce(pick)
            .unwrap_or(f64::NAN)
    };
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
        two = 100.0 * two(f64::max),
        t8 = 100.0 * bias(token, 8),
        t64 = 100.0 * bias(token, 64),
        c16 = cosine(token, 16),
        c64 = cosine(token, 64),
        r8 = 100.0 * bias(clipped, 8),
        rc16 = cosine(clipped, 16),
        dc16 = cosine("dapo", 16),
        pc16 = cosine("reinforce_pp", 16),
        gc16 = cosine("grpo", 16),
        hc64 = cosine(hard, 64),
        g64 = bias("grpo", 64),
        gc64 = bias("grpo_corrected", 64),
        gv = variance("grpo", 64) / variance("grpo_corrected", 64),
        cv = variance(clipped, 16),
        tv = variance(token, 16),
        sv = variance("rpg urkl, sequence, no clip", 16),
        w = study
            .path
            .iter()
            .map(|point| point.max_weight)
            .fold(0.0, f64::max),
    )
}

/// Names and contents of the plots.
fn plots(study: &Study) -> Result<[(&'static str, String); 3], Failure> {
    let curves: Vec<(&StudyCurve, RGBColor)> = DRAWN
        .iter()
        .filter_map(|(name, color)| {
            let curve = study.curves.iter().find(|curve| curve.name == *name)?;
            Some((curve, *color))
        })
        .collect();
    let last = study.options.updates.last().copied().unwrap_or(1);
    let failed = |e: Box<dyn std::error::Error>| {
        Failure::internal(format!("cannot draw the gradient study: {e}"))
    };
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
        ("bias.svg", bias.map_err(failed)?),
        ("cosine.svg", cosine.map_err(failed)?),
        ("variance.svg", variance.map_err(failed)?),
    ])
}

fn draw<Y>(
    title: &str,
    range: Y,
    last: usize,
    curves: &[(&StudyCurve, RGBColor)],
    value: fn(&StudyPoint) -> f64,
) -> Result<String, Box<dyn std::error::Error>>
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
                curve.name.clone(),
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
    use rpg_losses::verify::{StudyOptions, study};

    #[test]
    fn the_page_in_docs_is_what_the_command_writes_and_its_words_hold() {
        let study = study(&StudyOptions::default());
        let at = |name: &str, updates: usize| {
            let curve = study.curves.iter().find(|c| c.name == name).unwrap();
            curve.points.iter().find(|p| p.updates == updates).unwrap()
        };
        for curve in &study.curves {
            if curve.name.ends_with("sequence, no clip") {
                assert!(curve.points.iter().all(|p| p.relative_bias < 1e-9));
            }
        }
        for name in ["rpg urkl, token, rpg clip", "dapo", "reinforce_pp", "grpo"] {
            assert!(at(name, 16).cosine < 0.0, "{name}");
        }
        assert!(at("rpg urkl, token, hard clip", 64).cosine > 0.9);
        let (grpo, corrected) = (at("grpo", 64), at("grpo_corrected", 64));
        assert!(grpo.relative_bias > 4.0 * corrected.relative_bias);
        assert!(grpo.variance > 4.0 * corrected.variance);

        let temp = tempfile::tempdir().unwrap();
        let page = temp.path().join("gradient-study.md");
        write(&study, &page).unwrap();
        let written = fs::read_to_string(&page).unwrap();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gradient-study.md");
        assert_eq!(written, fs::read_to_string(docs).unwrap());
        for plot in ["bias", "cosine", "variance"] {
            let path = temp.path().join(format!("gradient-study/{plot}.svg"));
            let svg = fs::read_to_string(path).unwrap();
            assert!(svg.contains("polyline") && svg.contains("grpo_corrected"));
        }
    }
}
