//! The study as tables in Markdown.

use super::{
    CorrectionCurve, CorrectionStudy, Study, StudyCorrection, StudyCurve, StudyEstimator,
    StudyPoint,
};
use std::fmt::Write;

type Value = fn(&StudyPoint) -> f64;

/// What is shown of every point.
const VALUES: [(&str, Value); 3] = [
    ("Relative bias", |point| point.relative_bias),
    ("Cosine to the exact gradient", |point| point.cosine),
    ("Variance of one response's gradient", |point| {
        point.variance
    }),
];

impl Study {
    /// The curve of an estimator, if it was studied.
    pub fn curve(&self, estimator: StudyEstimator) -> Option<&StudyCurve> {
        self.curves
            .iter()
            .find(|curve| curve.estimator == estimator)
    }

    /// Tables in Markdown: the path of the policy, then relative bias, cosine and variance.
    pub fn markdown(&self) -> String {
        let mut out = String::from(
            "| updates | E[R] | KL(pi, pi_old) | KL(pi, ref) | largest w | gradient norm |\n\
             | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for point in &self.path {
            let _ = writeln!(
                out,
                "| {} | {:.3} | {:.3} | {:.3} | {:.1} | {:.4} |",
                point.updates,
                point.reward,
                point.kl_to_old,
                point.kl_to_ref,
                point.max_weight,
                point.gradient_norm
            );
        }
        for (title, value) in VALUES {
            let _ = writeln!(out, "\n{title}, by number of updates\n");
            let columns = self.options.updates.iter().map(usize::to_string);
            write_head(&mut out, "| estimator | claims |", columns);
            for curve in &self.curves {
                let label = format!("{} | {}", curve.estimator, curve.claims);
                let values = curve.points.iter().map(value);
                write_row(&mut out, &label, values.map(rounded));
            }
        }
        out
    }
}

impl CorrectionStudy {
    /// Tables in Markdown: the sampler, then relative bias, cosine and variance of every correction, by `axis`.
    pub fn markdown(&self, axis: &str) -> String {
        let mut out = format!(
            "| {axis} | KL(pi_roll, pi_old) | largest v | effective sample size |\n\
             | ---: | ---: | ---: | ---: |\n",
        );
        for sampler in &self.samplers {
            let _ = writeln!(
                out,
                "| {} | {:.3} | {:.1} | {:.3} |",
                sampler.at, sampler.kl, sampler.max_ratio, sampler.eff_sample_size
            );
        }
        for (title, value) in VALUES {
            let _ = writeln!(out, "\n{title}, by {axis}\n");
            write_head(&mut out, "| correction |", self.columns());
            for curve in &self.curves {
                let label = curve.correction.to_string();
                let values = curve.points.iter().map(value);
                write_row(&mut out, &label, values.map(rounded));
            }
        }
        out
    }

    /// A table in Markdown of [`break_even`](Self::break_even).
    pub fn break_even_markdown(&self) -> String {
        let mut out = String::new();
        write_head(&mut out, "| correction |", self.columns());
        let is_other = |curve: &&CorrectionCurve| curve.correction != StudyCorrection::EXACT;
        for curve in self.curves.iter().filter(is_other) {
            let values = self.break_even(curve).into_iter();
            let label = curve.correction.to_string();
            write_row(&mut out, &label, values.map(|n| format!("{:.0}", n.ceil())));
        }
        out
    }

    fn columns(&self) -> impl Iterator<Item = String> {
        self.samplers.iter().map(|sampler| sampler.at.to_string())
    }
}

/// The head of a table and the rule under it, with these columns after those of the label.
fn write_head(out: &mut String, label: &str, columns: impl Iterator<Item = String>) {
    let n_labels = label.matches('|').count() - 1;
    let mut rule = format!("|{}", " --- |".repeat(n_labels));
    out.push_str(label);
    for column in columns {
        let _ = write!(out, " {column} |");
        rule.push_str(" ---: |");
    }
    let _ = writeln!(out, "\n{rule}");
}

fn write_row(out: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(out, "| {label} |");
    for cell in cells {
        let _ = write!(out, " {cell} |");
    }
    let _ = writeln!(out);
}

/// Three places; rounding errors deserve no digits.
fn rounded(value: f64) -> String {
    match value.abs() {
        x if x < 1e-9 => "0".to_string(),
        x if x < 1e-3 => format!("{value:.1e}"),
        _ => format!("{value:.3}"),
    }
}
