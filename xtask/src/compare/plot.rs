//! Learning curves of several methods, overlaid.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A method's curve: its label and Mean@k by step.
pub(super) type Curve = (String, Vec<(u64, f64)>);

const COLORS: [RGBColor; 8] = [
    RGBColor(200, 80, 40),
    RGBColor(40, 110, 180),
    RGBColor(60, 150, 70),
    RGBColor(150, 90, 170),
    RGBColor(190, 150, 30),
    RGBColor(90, 90, 90),
    RGBColor(40, 170, 170),
    RGBColor(220, 120, 170),
];

/// The curves as an SVG picture.
pub(super) fn draw(title: &str, curves: &[Curve]) -> Result<String> {
    let mut svg = String::new();
    plot(&mut svg, title, curves).map_err(|error| anyhow!("cannot draw {title}: {error}"))?;
    Ok(svg)
}

fn plot(svg: &mut String, title: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (860, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || curves.iter().flat_map(|(_, points)| points);
    let last = points().map(|&(step, _)| step).max().unwrap_or(1).max(1);
    let lowest = points().map(|&(_, value)| value).fold(0.9, f64::min);
    let (left, right) = root.split_horizontally(620);
    let mut chart = ChartBuilder::on(&left)
        .margin(12)
        .caption(title, ("sans-serif", 16))
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last as f64, (lowest - 0.02).max(0.0)..1.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("step")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.1}"))
        .draw()?;
    for (i, (label, points)) in curves.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let line = points.iter().map(|&(step, value)| (step as f64, value));
        chart.draw_series(LineSeries::new(line, color.stroke_width(2)).point_size(2))?;
        let y = 50 + 24 * i as i32;
        right.draw(&PathElement::new([(0, y), (18, y)], color.stroke_width(3)))?;
        right.draw(&Text::new(label.clone(), (24, y - 7), ("sans-serif", 14)))?;
    }
    root.present()?;
    Ok(())
}
