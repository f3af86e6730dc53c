//! The command line.

use super::eval_args::EvalArgs;
use crate::device::DeviceChoice;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use rpg_core::model::SaveDtype;
use rpg_losses::tables::keys_text;
use std::path::PathBuf;

/// Reinforcement learning of language models with KL-regularized policy gradients.
#[derive(Debug, Parser)]
#[command(name = "rpg", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Parses the process's arguments. Asked for help, or given bad arguments, it prints a text and exits.
    pub fn from_command_line() -> Self {
        Self::parse()
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a policy on problems with verifiable answers
    Train(TrainArgs),
    /// Measure a model on problems: Mean@k, pass@k and maj@k by source, with intervals
    Eval(EvalArgs),
    /// Continue prompts with a model
    Generate(GenerateArgs),
    /// Compute the log-probabilities of texts under a model
    Score(ScoreArgs),
    /// Grade answers: JSONL of {"id", "gold", "pred"} in, {"id", "correct", "extracted", "reason"} out
    Verify(VerifyArgs),
    /// Compute a loss and its gradient from JSON
    #[command(after_long_help = loss_format())]
    Loss(LossArgs),
    /// Check the gradients of all losses against the theory
    VerifyGradients(VerifyGradientsArgs),
    /// Write a model, or the newest or best checkpoint of a run, as a Hugging Face folder
    Export(ExportArgs),
    /// List the built-in recipes
    Recipes(RecipesArgs),
    /// Show runs as a page for the browser: curves, alarms, differences of their configs, samples
    Report(ReportArgs),
    /// Print a script that completes commands and flags in a shell
    #[command(after_long_help = COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// `rpg train`.
#[derive(Debug, Default, ClapArgs)]
pub struct TrainArgs {
    /// A built-in recipe: arithmetic (the default), finetune (the default with --model or --data),
    /// word-problems, or one of those that `rpg recipes` lists
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub recipe: Option<String>,
    /// A config file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The policy: a Hugging Face folder, a .gguf file or a name on the hub (ORGANISATION/NAME)
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// The problems: JSONL, .jsonl.gz or Parquet with `question` and `answer`, or as verl has them; a
    /// data set on the hub (ORGANISATION/NAME:CONFIG:SPLIT); may be given more than once
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// A new folder for the run's files (default: the next free of runs/NAME-001, runs/NAME-002, ...)
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Resume the run in this folder, with its config; --steps and --set change that for good, and prolong a run that is done
    #[arg(long, value_name = "RUN_DIR", conflicts_with_all = ["recipe", "config", "model", "data", "run_dir", "seed"])]
    pub resume: Option<PathBuf>,
    /// The seed of every random draw
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Steps of reinforcement learning
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Set one key of the config, as in --set optimizer.lr=1e-5 (may be given more than once)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where to compute: auto, cpu, wgpu or cuda
    #[arg(long, value_name = "NAME")]
    pub backend: Option<DeviceChoice>,
    /// Print the resolved config and exit
    #[arg(long)]
    pub print_config: bool,
    /// Print the resolved config, the number of parameters, the tokens of a step and the memory that the run will take, by
    /// its parts, and exit; with --json as JSON
    #[arg(long)]
    pub dry_run: bool,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// How to sample.
#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    /// A Hugging Face folder, a .gguf file, a name on the hub (ORGANISATION/NAME), a run folder (its newest checkpoint) or
    /// RUN_DIR/best (the policy of its best evaluation)
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// For models whose context LongRoPE stretched: rotate all texts with the factors for long ones, so that they may be longer
    /// than the original context
    #[arg(long)]
    pub long_context: bool,
    /// One prompt per line: text, or JSON with `prompt` or `messages`, of which the last is continued if it is the
    /// assistant's; `-` reads standard input. Control tokens in messages are text: only the chat template, and text with
    /// --raw, has them as tokens
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Completions per prompt
    #[arg(short, long, value_name = "K", default_value_t = 1)]
    pub n: usize,
    /// The maximum number of tokens per completion
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 takes the most probable token
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Nucleus sampling: only the most probable tokens that together reach P (1: all)
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub top_p: f64,
    /// Only the K most probable tokens (0: all)
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Only tokens at least P times as probable as the best (0: all)
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub min_p: f64,
    /// Stop at this text or special token (may be given more than once)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Stop at this token (may be given more than once)
    #[arg(long, value_name = "ID")]
    pub stop_token: Vec<u32>,
    /// Do not stop before this many tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_new_tokens: usize,
    /// Continue after an end-of-sequence token
    #[arg(long)]
    pub ignore_eos: bool,
    /// A system message before every prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Whether the model thinks first, if its chat template has a switch for that
    #[arg(long, value_name = "BOOL", conflicts_with = "raw")]
    pub thinking: Option<bool>,
    /// The date for chat templates that write one into the prompt (Llama 3.2), such as 2026-03-05
    #[arg(long, value_name = "DATE", conflicts_with = "raw")]
    pub date: Option<jiff::civil::Date>,
    /// Use lines as they are, without the model's chat template
    #[arg(long)]
    pub raw: bool,
    /// The seed of every random draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// One JSON object per completion, with tokens and log-probs
    #[arg(long)]
    pub json: bool,
    /// Where to compute: auto, cpu, wgpu or cuda
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub backend: DeviceChoice,
}

/// What to score.
#[derive(Debug, ClapArgs)]
pub struct ScoreArgs {
    /// A Hugging Face folder, a .gguf file, a name on the hub (ORGANISATION/NAME), a run folder (its newest checkpoint) or
    /// RUN_DIR/best (the policy of its best evaluation)
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// For models whose context LongRoPE stretched: rotate all texts with the factors for long ones, so that they may be longer
    /// than the original context
    #[arg(long)]
    pub long_context: bool,
    /// JSONL of {"prompt", "completion"}, {"messages", "completion"}, {"text"} or {"prompt_tokens",
    /// "completion_tokens"}, each with an "id" or without; `-` reads standard input. Prompt and completion are
    /// tokenised as one text; a token with parts of both is scored as the completion's
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Logits are divided by this
    #[arg(
        long,
        value_name = "T",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Where to compute: auto, cpu, wgpu or cuda
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub backend: DeviceChoice,
}

/// What to grade.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// JSONL of {"id", "gold", "pred"}, where `gold` may be a list; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Instead of verdicts, print how many agree with the line's `expect`, by `source`
    #[arg(long)]
    pub summary: bool,
    /// Grade nothing: print the gold answers that the grader does not understand
    #[arg(long, conflicts_with_all = ["summary", "unclosed_thinking"])]
    pub check_golds: bool,
    /// Accept an answer inside a `<think>` that is never closed
    #[arg(long)]
    pub unclosed_thinking: bool,
}

/// The format of `rpg loss`'s input.
fn loss_format() -> String {
    format!("{LOSS_EXAMPLE}{}{LOSS_NOTES}", keys_text())
}

const LOSS_EXAMPLE: &str = "\
The input is one JSON object. Rows are responses (B), columns are tokens (T):

  {\"objective\": {\"kind\": \"rpg\", \"kl\": \"urkl\", \"estimator\": \"reinforce\", \"clip\": \"rpg\",
                 \"beta\": 1e-4, \"eps_low\": 0.2, \"eps_high\": 0.28, \"c\": 10, \"z\": 1,
                 \"level\": \"token\", \"aggregation\": \"token_mean\", \"advantage\": \"group_mean\"},
   \"logp\":     [[-0.9, -1.2, -0.3], [-0.5, -2.0, -0.1]],
   \"logp_old\": [[-1.0, -1.1, -0.3], [-0.6, -1.9, -0.2]],
   \"mask\":     [[1, 1, 0], [1, 1, 1]],
   \"rewards\":  [1.0, 0.0],
   \"groups\":   [0, 0]}

Only `kind` is required in the objective. Its keys and their values:

";

const LOSS_NOTES: &str = "
`logp_ref` is optional: without it the reference is `logp_old`. `advantages`, [B] or [B][T], may
replace `rewards` and `groups`. `logp_rollout`, [B][T], is the sampler's where that is another policy than
that of `logp_old`: `rollout_correction` corrects for it.

The answer is {\"loss\", \"grad\", \"advantages\", \"metrics\"}, computed in f64; `grad` is the
gradient with respect to `logp` that training uses. Defaults and formulas: docs/rpg-loss.md.";

/// The loss's input.
#[derive(Debug, ClapArgs)]
pub struct LossArgs {
    /// A JSON file; `-` reads standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
}

/// How much to verify.
#[derive(Debug, ClapArgs)]
pub struct VerifyGradientsArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Random cases per row
    #[arg(long, value_name = "N")]
    pub cases: Option<usize>,
    /// The seed of the first case
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Where to compute: cpu (in f64), wgpu or cuda (in f32)
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Cpu)]
    pub backend: DeviceChoice,
}

/// What to export, and where.
#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    /// A Hugging Face folder, a .gguf file, a name on the hub (ORGANISATION/NAME), a run folder (its newest checkpoint) or
    /// RUN_DIR/best (the policy of its best evaluation)
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// The folder to write; it must not exist yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The type of the weights
    #[arg(long, value_name = "NAME", value_enum, default_value_t = ExportDtype::Bf16)]
    pub dtype: ExportDtype,
}

/// The type of exported weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportDtype {
    /// 32 bits: exactly what was trained
    F32,
    /// bfloat16: half the size, as most models are published
    Bf16,
}

impl From<ExportDtype> for SaveDtype {
    fn from(dtype: ExportDtype) -> Self {
        match dtype {
            ExportDtype::F32 => SaveDtype::F32,
            ExportDtype::Bf16 => SaveDtype::Bf16,
        }
    }
}

/// `rpg recipes`.
#[derive(Debug, ClapArgs)]
pub struct RecipesArgs {
    /// Print all of them as JSON, `{"name", "about"}` each
    #[arg(long)]
    pub json: bool,
}

const COMPLETIONS: &str = "\
To install it:

  bash        rpg completions bash > ~/.local/share/bash-completion/completions/rpg
  zsh         rpg completions zsh > ~/.zfunc/_rpg
              with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  fish        rpg completions fish > ~/.config/fish/completions/rpg.fish
  powershell  rpg completions powershell >> $PROFILE
  elvish      rpg completions elvish >> ~/.config/elvish/rc.elv

The folder must exist. A shell that is started afterwards completes `rpg`.";

/// For which shell.
#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Which runs to report on.
#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// Run folders; the curves of several are drawn over each other
    #[arg(value_name = "RUN_DIR", required = true)]
    pub run_dirs: Vec<PathBuf>,
    /// The page to write (default: report.html in the first run's folder); curve.svg is then left as it is
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the page again as the runs go on, until none of them trains any more; the page in the browser
    /// reloads itself
    #[arg(long)]
    pub follow: bool,
    /// Write TensorBoard event files into the runs' folders instead of a page
    #[arg(long, conflicts_with_all = ["out", "follow"])]
    pub tensorboard: bool,
}
