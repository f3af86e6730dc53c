//! The tables of docs/scaling.md.

use super::constants::{Constants, Name, TABLE};
use super::model::{
    Cluster, LONG_ANSWERS, QWEN2_5_7B, QWEN3_4B, Shape, Transport, Workload, memory,
};
use super::published::comparisons;

/// The tables by their names, with the titles that the command prints them under.
pub(super) const TABLES: [(&str, &str); 6] = [
    ("constants", "Constants"),
    ("published", "Against what others have measured"),
    ("memory", "Memory of a rank of the trainer"),
    ("in-turn", "A step after the other"),
    ("ahead", "The servers a step ahead"),
    ("sensitivity", "What it depends on"),
];

const SHAPES: [Shape; 2] = [QWEN3_4B, QWEN2_5_7B];
const GPUS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// The table of this name.
pub(super) fn table(name: &str) -> Option<String> {
    Some(match name {
        "constants" => constants(),
        "published" => published(),
        "memory" => memories(),
        "in-turn" => predictions(false),
        "ahead" => predictions(true),
        "sensitivity" => sensitivity(),
        _ => return None,
    })
}

/// A Markdown table, between empty lines. All columns after the first `n_texts` are numbers.
fn markdown(
    titles: &[&str],
    n_texts: usize,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rules: Vec<String> = (0..titles.len())
        .map(|i| if i < n_texts { "---" } else { "---:" }.to_owned())
        .collect();
    let mut out = format!("\n{}{}", line(&titles), line(&rules));
    for row in rows {
        out += &line(&row);
    }
    out + "\n"
}

fn constants() -> String {
    let rows = TABLE.iter().map(|row| {
        vec![
            row.about.to_owned(),
            with_unit(row.value, row.unit),
            row.basis.name().to_owned(),
            row.source.to_owned(),
        ]
    });
    markdown(&["constant", "value", "basis", "source"], 4, rows)
}

fn published() -> String {
    let rows = comparisons().into_iter().map(|row| {
        let used = if row.is_fitted { "yes" } else { "no" };
        vec![
            row.what.to_owned(),
            row.source.to_owned(),
            used.to_owned(),
            format!("{} {}", short(row.published), row.unit),
            format!("{} {}", short(three_digits(row.predicted)), row.unit),
            format!("{:+.0}%", 100.0 * (row.predicted / row.published - 1.0)),
        ]
    });
    let titles = [
        "work",
        "source",
        "a constant is taken from it",
        "published",
        "model",
        "error",
    ];
    markdown(&titles, 3, rows)
}

fn memories() -> String {
    let cluster = cluster(false);
    let rows = SHAPES.iter().map(|shape| {
        let cells = GPUS.map(|ranks| {
            let gigabytes = memory(shape, &LONG_ANSWERS, ranks) / 1e9;
            if cluster.fits(shape, &LONG_ANSWERS, ranks) {
                format!("{gigabytes:.1}")
            } else {
                format!("{gigabytes:.1} (too much)")
            }
        });
        [vec![shape.name.to_owned()], cells.to_vec()].concat()
    });
    let ranks = GPUS.map(|ranks| format!("{ranks} ranks").replace("1 ranks", "1 rank"));
    let titles: Vec<&str> = ["GB a rank"]
        .into_iter()
        .chain(ranks.iter().map(String::as_str))
        .collect();
    markdown(&titles, 1, rows)
}

fn predictions(is_ahead: bool) -> String {
    let cluster = cluster(is_ahead);
    let rows = SHAPES.iter().flat_map(|shape| {
        let cluster = &cluster;
        GPUS.map(move |gpus| prediction(cluster, shape, &LONG_ANSWERS, gpus))
    });
    let titles = [
        "policy",
        "GPUs",
        "trainer + servers",
        "sampling, s",
        "scoring, s",
        "update, s",
        "exchange, s",
        "publishing, s",
        "step, s",
        "new tokens/s",
        "of them a GPU",
    ];
    markdown(&titles, 1, rows)
}

fn prediction(cluster: &Cluster, shape: &Shape, work: &Workload, gpus: usize) -> Vec<String> {
    let head = vec![shape.name.to_owned(), gpus.to_string()];
    let Some((split, step)) = cluster.best(shape, work, gpus) else {
        let cells = ["too little memory"].into_iter().chain(["-"; 8]);
        return head.into_iter().chain(cells.map(str::to_owned)).collect();
    };
    let speed = work.new_tokens() / step.total();
    let parts = [
        step.sample,
        step.score,
        step.update,
        step.exchange,
        step.publish,
        step.total(),
    ];
    let cells = [format!("{} + {}", split.ranks, split.servers)]
        .into_iter()
        .chain(parts.map(|seconds| format!("{seconds:.1}")))
        .chain([speed, speed / gpus as f64].map(|speed| format!("{:.0}", three_digits(speed))));
    head.into_iter().chain(cells).collect()
}

/// New tokens per second of 16 GPUs, the servers ahead, with other constants.
fn sensitivity() -> String {
    let base = cluster(true);
    let table = &base.constants;
    let with = |name, value| Cluster {
        constants: table.clone().with(name, value),
        ..base.clone()
    };
    let over = |transport| Cluster {
        transport,
        ..base.clone()
    };
    let shorter = Workload {
        longest: LONG_ANSWERS.response,
        ..LONG_ANSWERS
    };
    let cases = [
        ("as in the tables", base.clone(), LONG_ANSWERS),
        (
            "training reaches 0.11 of TF32's peak, the estimate for our kernels of today",
            with(Name::TrainingShare, 0.11),
            LONG_ANSWERS,
        ),
        (
            "training in bf16",
            with(Name::PeakTf32, table[Name::PeakBf16]),
            LONG_ANSWERS,
        ),
        (
            "vLLM decodes at half the speed",
            with(Name::DecodeShare, table[Name::DecodeShare] / 2.0),
            LONG_ANSWERS,
        ),
        (
            "gradients and weights go over NCCL, but from and to the memory of the hosts, as `rpg` does it today",
            over(Transport::NcclByHost),
            LONG_ANSWERS,
        ),
        (
            "gradients and weights go through MPI, as fast as between two processes here",
            over(Transport::Mpi),
            LONG_ANSWERS,
        ),
        ("storage of 1 GB/s", with(Name::Storage, 1e9), LONG_ANSWERS),
        (
            "weights are published in bf16 (`rollout.server.dtype`), or on storage of 6 GB/s",
            with(Name::Storage, 6e9),
            LONG_ANSWERS,
        ),
        (
            "no completion is longer than the mean",
            base.clone(),
            shorter,
        ),
    ];
    let rows = cases.iter().map(|(what, cluster, work)| {
        let cells = SHAPES.map(|shape| match cluster.best(&shape, work, 16) {
            Some((split, step)) => {
                let speed = three_digits(work.new_tokens() / step.total());
                format!("{speed:.0} ({} + {})", split.ranks, split.servers)
            }
            None => "-".to_owned(),
        });
        [vec![(*what).to_owned()], cells.to_vec()].concat()
    });
    markdown(
        &["16 GPUs, the servers ahead", QWEN3_4B.name, QWEN2_5_7B.name],
        1,
        rows,
    )
}

fn cluster(is_ahead: bool) -> Cluster {
    Cluster {
        constants: Constants::of_the_table(),
        transport: Transport::Nccl,
        is_ahead,
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    let scaled = |factor: f64, prefix: &str| format!("{} {prefix}{unit}", short(value / factor));
    let text = match value {
        1e12.. => scaled(1e12, "T"),
        1e9.. => scaled(1e9, "G"),
        1e6.. => scaled(1e6, "M"),
        0.1.. => scaled(1.0, ""),
        _ => scaled(1e-3, "m"),
    };
    text.trim_end().to_owned()
}

/// Up to three places, without zeros at the end.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Rounded to three digits: the model knows no more.
fn three_digits(value: f64) -> f64 {
    let place = 10f64.powf(value.abs().log10().floor() - 2.0);
    (value / place).round() * place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::with_tables;
    use crate::root;
    use std::{env, fs};

    #[test]
    fn the_tables_of_the_page_are_those_of_the_command() {
        let path = root().join("docs/scaling.md");
        let page = fs::read_to_string(&path).unwrap();
        let expected = with_tables(&page, table).unwrap();
        for (name, _) in TABLES {
            assert!(
                page.contains(&format!("<!-- generated: {name} -->")),
                "{name}"
            );
        }
        if env::var_os("RPG_BLESS").is_some_and(|value| value == "1") {
            fs::write(&path, expected).unwrap();
        } else {
            assert!(
                page == expected,
                "docs/scaling.md is out of date: RPG_BLESS=1 cargo test --release -p xtask scaling"
            );
        }
    }

    #[test]
    fn numbers_have_units_and_no_more_digits_than_they_deserve() {
        for (value, unit, expected) in [
            (494.7e12, "FLOP/s", "494.7 TFLOP/s"),
            (80e9, "B", "80 GB"),
            (0.83e9, "B/s", "830 MB/s"),
            (0.9e-3, "s", "0.9 ms"),
            (58238.0, "/s", "58238 /s"),
            (0.38, "", "0.38"),
        ] {
            assert_eq!(with_unit(value, unit), expected);
        }
        assert_eq!(three_digits(12345.0), 12300.0);
        assert_eq!(three_digits(97.74), 97.7);
    }
}
