//! The learning curve: accuracy of the rollouts and on the held-out problems, by step.

use crate::failure::Failure;
use crate::run_folder::RunFolder;
use plotters::prelude::*;
use std::path::PathBuf;

const REWARD: RGBColor = RGBColor(150, 180, 215);
const HELD_OUT: RGBColor = RGBColor(200, 80, 40);

/// Draws `curve.svg` into the folder from its metrics.jsonl.
pub(super) fn draw(folder: &RunFolder) -> Result<PathBuf, Failure> {
    let mut reward = Vec::new();
    let mut held_out = Vec::new();
    let mut name = "held-out accuracy".to_owned();
    for line in folder.lines("metrics.jsonl")? {
        if line.get("phase").and_then(|phase| phase.as_str()) == Some("warm_start") {
            continue;
        }
        let step = line
            .get("step")
            .and_then(|step| step.as_f64())
            .unwrap_or(0.0);
        if let Some(value) = line
            .get("critic/score/mean")
            .and_then(|value| value.as_f64())
        {
            reward.push((step, value));
        }
        let measured = line.iter().find(|(key, _)| key.starts_with("val-core/"));
        if let Some((key, value)) = measured {
            let metric = key.rsplit('/').next().unwrap_or_default();
            name = format!("held-out {metric}");
            held_out.push((step, value.as_f64().unwrap_or(f64::NAN)));
        }
    }
    let mut svg = String::new();
    plot(&mut svg, &reward, &held_out, &name)
        .map_err(|e| Failure::internal(format!("cannot draw the learning curve: {e}")))?;
    folder.write("curve.svg", svg.as_bytes())?;
    Ok(folder.path("curve.svg"))
}

type Points = [(f64, f64)];

fn plot(
    svg: &mut String,
    reward: &Points,
    held_out: &Points,
    name: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (760, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let last = reward
        .iter()
        .chain(held_out)
        .map(|(step, _)| *step)
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last, 0.0..1.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("step")
        .y_desc("share of right answers")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.1}"))
        .draw()?;
    chart
        .draw_series(LineSeries::new(
            reward.iter().copied(),
            REWARD.stroke_width(2),
        ))?
        .label("rollouts")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], REWARD.stroke_width(2)));
    chart
        .draw_series(
            LineSeries::new(held_out.iter().copied(), HELD_OUT.stroke_width(3)).point_size(3),
        )?
        .label(name)
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], HELD_OUT.stroke_width(3)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}
