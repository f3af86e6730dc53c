//! Curves as SVG.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;

/// A curve with its name in the legend.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) color: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The horizontal axis, on which `at` is where a value lies and `value` its inverse.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) title: &'static str,
    pub(crate) last: f64,
    pub(crate) at: fn(f64) -> f64,
    pub(crate) label: fn(f64) -> String,
}

/// A plot of all curves, beside their names.
pub(crate) fn draw<Y>(
    title: &str,
    axis: Axis,
    range: Y,
    curves: &[Curve],
) -> Result<String, Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
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
            .build_cartesian_2d((axis.at)(0.0)..(axis.at)(axis.last), range)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_labels(8)
            .x_desc(axis.title)
            .x_label_formatter(&|x| (axis.label)(*x))
            .y_label_formatter(&|y| format!("{y}"))
            .draw()?;
        for (i, curve) in curves.iter().enumerate() {
            let points = curve.points.iter();
            chart.draw_series(
                LineSeries::new(
                    points.map(|(x, y)| ((axis.at)(*x), *y)),
                    curve.color.stroke_width(2),
                )
                .point_size(2),
            )?;
            let y = 50 + 24 * i as i32;
            right.draw(&PathElement::new(
                [(0, y), (18, y)],
                curve.color.stroke_width(3),
            ))?;
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
