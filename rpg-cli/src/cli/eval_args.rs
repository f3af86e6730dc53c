//! The flags of `rpg eval`.

use crate::device::DeviceChoice;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// What to measure, and on which problems.
#[derive(Debug, ClapArgs)]
pub struct EvalArgs {
    /// A Hugging Face folder, a .gguf file, an adapter, a name on the hub (ORGANISATION/NAME), a run folder (its newest
    /// checkpoint) or RUN_DIR/best (the policy of its best evaluation)
    #[arg(long, value_name = "MODEL", required_unless_present = "regrade")]
    pub model: Option<PathBuf>,
    /// A file of problems, as in `rpg train --data` (may be given more than once). Of a run, the default is its held-out
    /// problems
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Samples per problem, the k of Mean@k (default: 4, that of the run, or 1 where samples are all the same)
    #[arg(long, value_name = "K", value_parser = samples)]
    pub samples: Option<usize>,
    /// Sampling temperature; 0 takes the most probable token (default: 1, or that of the run)
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Take the most probable token: the same as --temperature 0
    #[arg(long, conflicts_with = "temperature")]
    pub greedy: bool,
    /// The maximum number of tokens per completion (default: 256, or that of the run)
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// Only the first N problems of each set
    #[arg(long, value_name = "N")]
    pub problems: Option<usize>,
    /// The config that says how problems are asked and answers are graded: its sections `data`, `reward`, `rollout` and
    /// `evaluate` (default: that of the run, or the recipe finetune)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one of its keys, as in --set data.answer_style=answer_line (may be given more than once)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The seed of every random draw (default: that of the config)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Without a model: grade the samples of a run folder, of a folder that --out has written or of a file of such lines
    /// again, and say what has changed
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with_all = ["model", "data", "samples", "temperature", "greedy", "max_new_tokens", "problems", "seed", "backend"]
    )]
    pub regrade: Option<PathBuf>,
    /// A new folder for the completions and their grades (samples.jsonl), the scores (scores.json) and the config
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the scores as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Where to compute: auto, cpu, wgpu or cuda
    #[arg(long, value_name = "NAME")]
    pub backend: Option<DeviceChoice>,
}

/// A number of samples; a path is what `--regrade` takes.
fn samples(text: &str) -> Result<usize, String> {
    let expected = "expected a number of samples per problem (--regrade PATH grades samples again)";
    text.parse().map_err(|_| expected.to_owned())
}
