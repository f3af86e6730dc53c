//! The shapes of RPG's clips, Figures 2 and 3 of the paper, drawn by evaluating the losses.

use plotters::coord::Shift;
use plotters::prelude::*;
use rpg_losses::reference::{ClipEvent, Unit, unit_loss};
use rpg_losses::{Clip, Divergence, Estimator, ObjectiveConfig};
use std::error::Error;

/// The weights at which losses are evaluated: `STEP`, `2*STEP`, ..., `LAST`.
const STEP: f64 = 0.02;
const LAST: f64 = 4.0;

/// The clips with the colour and width of their lines; what lies below is drawn wider.
const DRAWN: [(Estimator, Clip, RGBColor, u32); 5] = [
    (Estimator::Reinforce, Clip::None, RGBColor(205, 205, 205), 9),
    (
        Estimator::Differentiable,
        Clip::Dual,
        RGBColor(230, 159, 0),
        7,
    ),
    (Estimator::Reinforce, Clip::Rpg, RGBColor(0, 114, 178), 5),
    (
        Estimator::Reinforce,
        Clip::Truncated,
        RGBColor(0, 158, 115),
        3,
    ),
    (Estimator::Reinforce, Clip::Hard, RGBColor(0, 0, 0), 1),
];

/// What a loss is at one weight.
#[derive(Debug, Clone, Copy)]
struct Point {
    w: f64,
    loss: f64,
    /// What multiplies the gradient of the log-probability in an ascent step, `-dL/dlp`.
    coefficient: f64,
    event: ClipEvent,
}

/// The section; its plots are in `folder`.
pub(crate) fn text(folder: &str) -> String {
    let config = config(Estimator::Reinforce, Clip::Rpg);
    format!(
        "## The shapes of the clips

Figures 2 and 3 of the paper, drawn by evaluating the losses of this crate: loss and gradient of one token as its weight
`w` moves away from 1, for an advantage of 1 and of -1, without KL term, at `eps_low` {low}, `eps_high` {high} and `c` {c}. The
token's log-probability is -1. A REINFORCE loss is its coefficient times `-lp`, here the coefficient itself, where the
differentiable one is `-w*A`: the two have opposite signs and the same gradient.

![Advantage 1](./{folder}/clip-positive.svg)
![Advantage -1](./{folder}/clip-negative.svg)

For `A > 0` dual clip (Algorithm 1) and RPG-Style Clip (Algorithm 2) are the same: beyond `1 + eps_high` the loss is flat and the
gradient 0, and a small weight, which is on its way to less of a good token, is not clipped. For `A < 0` the gradient is 0 below
`1 - eps_low` and from `c` on; between `1 + eps_high` and `c` a token that has become more likely though it was bad is pushed
back with all its weight. `truncated` (Equation 4.1 read literally) has the same coefficient up to the bounds and keeps it there
instead of dropping to 0: a token beyond the bound is still pushed further. `hard` (Remark F.2) keeps it on both sides, so that it also
raises the small weights of good tokens, and lowers the large weights of bad ones to `1 + eps_high`: it never reaches `c`. The
section above shows what that does to the bias.
",
        low = config.eps_low,
        high = config.eps_high,
        c = config.c.unwrap_or(f64::INFINITY),
    )
}

fn config(estimator: Estimator, clip: Clip) -> ObjectiveConfig {
    let mut config = ObjectiveConfig::default();
    config.kl = Divergence::None;
    config.estimator = estimator;
    config.clip = clip;
    config.eps_low = 0.2;
    config.eps_high = 0.28;
    config.c = Some(3.0);
    config
}

fn unit(w: f64, advantage: f64) -> Unit {
    Unit {
        lp: -1.0,
        lp_old: -1.0 - w.ln(),
        lp_ref: -1.0 - w.ln(),
        advantage,
    }
}

fn curve(config: &ObjectiveConfig, advantage: f64) -> Vec<Point> {
    let n = (LAST / STEP).round() as usize;
    let point = |idx: usize| {
        let w = STEP * idx as f64;
        let result = unit_loss(config, unit(w, advantage));
        Point {
            w,
            loss: result.loss,
            coefficient: -result.grad,
            event: result.clip,
        }
    };
    (1..=n).map(point).collect()
}

/// Names and contents of the plots.
pub(crate) fn plots() -> Result<[(&'static str, String); 2], Box<dyn Error>> {
    Ok([
        ("clip-positive.svg", figure(1.0)?),
        ("clip-negative.svg", figure(-1.0)?),
    ])
}

/// Loss and coefficient beside one another, and the names of the clips.
fn figure(advantage: f64) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1000, 380)).into_drawing_area();
        root.fill(&WHITE)?;
        let (panels, legend) = root.split_horizontally(840);
        let (left, right) = panels.split_horizontally(420);
        let caption = |value: &str| format!("{value}, A = {advantage}");
        panel(&left, &caption("loss"), advantage, |p| p.loss, |_, _| true)?;
        // It jumps where the clip begins to act: no line leads across.
        panel(
            &right,
            &caption("coefficient of grad lp"),
            advantage,
            |p| p.coefficient,
            |a, b| a.event == b.event,
        )?;
        for (i, (estimator, clip, color, width)) in DRAWN.iter().enumerate() {
            let y = 60 + 26 * i as i32;
            let line = [(0, y), (24, y)];
            legend.draw(&PathElement::new(line, color.stroke_width(*width)))?;
            let name = config(*estimator, *clip).clip.to_string();
            legend.draw(&Text::new(name, (32, y - 7), ("sans-serif", 14)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// One value of all clips; a line ends where two points are not `joined`.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    advantage: f64,
    value: fn(&Point) -> f64,
    joined: fn(&Point, &Point) -> bool,
) -> Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(caption, ("sans-serif", 16))
        .x_label_area_size(36)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..LAST, -LAST..LAST)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("w")
        .draw()?;
    for (estimator, clip, color, width) in DRAWN {
        let points = curve(&config(estimator, clip), advantage);
        for segment in points.chunk_by(joined) {
            let line = segment.iter().map(|point| (point.w, value(point)));
            chart.draw_series(LineSeries::new(line, color.stroke_width(width)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{Bool, DType, Tensor, TensorData};
    use rpg_losses::{LossInputs, StepTotals, policy_loss_from_operations};

    type B = Autodiff<Flex>;

    /// Loss and `-dL/dlp` of one token by the tensor code.
    fn tensor_loss(config: &ObjectiveConfig, unit: Unit) -> (f64, f64) {
        let device = Default::default();
        let tensor = |value: f64| {
            let data = TensorData::new(vec![value], [1, 1]);
            Tensor::<B, 2>::from_data(data, (&device, DType::F64))
        };
        let logp = tensor(unit.lp).require_grad();
        let inputs = LossInputs {
            logp: logp.clone(),
            logp_old: tensor(unit.lp_old),
            logp_ref: None,
            advantages: tensor(unit.advantage),
            weights: None,
            mask: Tensor::<B, 2, Bool>::from_bool([[true]].into(), &device),
        };
        let totals = StepTotals {
            n_tokens: 1,
            n_responses: 1,
            max_length: 1,
        };
        let loss = policy_loss_from_operations(config, inputs, &totals).loss;
        let first = |data: TensorData| data.iter::<f64>().next().unwrap();
        let grads = loss.backward();
        let grad = logp
            .grad(&grads)
            .map_or(0.0, |grad| first(grad.into_data()));
        (first(loss.into_data()), -grad)
    }

    #[test]
    fn what_is_drawn_is_the_loss() {
        for (estimator, clip, ..) in DRAWN {
            let config = config(estimator, clip);
            config.validate().unwrap();
            for advantage in [1.0, -1.0] {
                let points = curve(&config, advantage);
                assert_eq!(points.len(), 200);
                for point in points {
                    let (loss, coefficient) = tensor_loss(&config, unit(point.w, advantage));
                    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12;
                    let agrees = near(point.loss, loss) && near(point.coefficient, coefficient);
                    assert!(agrees, "{clip}, {advantage}: {point:?}");
                }
            }
        }
    }

    #[test]
    fn the_words_hold() {
        let check = |advantage: f64, w: f64, expected: [f64; 5]| {
            for ((estimator, clip, ..), expected) in DRAWN.iter().zip(expected) {
                let points = curve(&config(*estimator, *clip), advantage);
                let point = points.iter().find(|point| (point.w - w).abs() < 1e-9);
                let actual = point.unwrap().coefficient;
                assert!((actual - expected).abs() < 1e-9, "{clip} at {w}: {actual}");
            }
        };
        // none, dual, rpg, truncated, hard
        check(1.0, 0.5, [0.5, 0.5, 0.5, 0.5, 0.8]);
        check(1.0, 1.1, [1.1; 5]);
        check(1.0, 2.0, [2.0, 0.0, 0.0, 1.28, 1.28]);
        check(-1.0, 0.5, [-0.5, 0.0, 0.0, -0.8, -0.8]);
        check(-1.0, 0.9, [-0.9; 5]);
        check(-1.0, 2.0, [-2.0, -2.0, -2.0, -2.0, -1.28]);
        check(-1.0, 3.5, [-3.5, 0.0, 0.0, -3.0, -1.28]);
        for (_, svg) in plots().unwrap() {
            assert!(svg.contains("truncated") && svg.contains("polyline"));
        }
    }
}
