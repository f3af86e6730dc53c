//! Whole steps of training, rollout, grading and update, against TRL's GRPOTrainer.

use super::process::{Ended, run_to_end};
use super::{Options, number};
use crate::{build, root, target_dir};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use xshell::Shell;

/// For the other side. Its reward function needs Math-Verify.
const PACKAGES: [&str; 3] = ["torch", "trl", "math-verify"];

/// Prompts of nearly the same length: with the chat template of SmolLM2, about 70 tokens.
const PROBLEMS: [(&str, &str); 8] = [
    (
        "Tom has 7 apples and buys 5 more at the market. How many apples has he now?",
        "12",
    ),
    (
        "A box holds 12 pencils. How many pencils are there in 9 of these boxes?",
        "108",
    ),
    (
        "Anna has read 14 of the 40 pages of a book. How many pages are left?",
        "26",
    ),
    (
        "Three friends share 27 marbles equally. How many marbles does each get?",
        "9",
    ),
    (
        "A train leaves at 3 o'clock and arrives at 8 o'clock. How many hours is that?",
        "5",
    ),
    (
        "Maria saves 6 dollars every week. How many dollars has she after 8 weeks?",
        "48",
    ),
    (
        "There are 31 children in a bus and 17 of them get off. How many stay in it?",
        "14",
    ),
    (
        "A farmer has 24 eggs and puts 6 of them into each box. How many boxes is that?",
        "4",
    ),
];

const INSTRUCTION: &str =
    "Answer in one short sentence, with the final number in \\boxed{} at its end.";

const LEARNING_RATE: &str = "1e-6";

/// What both sides do.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Work {
    prompts: usize,
    samples: usize,
    new_tokens: usize,
    /// Completions per forward and backward pass.
    pass: usize,
    /// The first one is a warm-up.
    steps: usize,
}

impl Work {
    fn new(options: &Options) -> Result<Self> {
        let mut work = Self {
            prompts: PROBLEMS.len(),
            samples: 8,
            new_tokens: 64,
            pass: 0,
            steps: 3,
        };
        if options.smoke {
            (work.prompts, work.samples, work.new_tokens, work.steps) = (2, 2, 4, 2);
        }
        let all = work.completions();
        work.pass = options.pass.unwrap_or(all);
        ensure!(
            all.is_multiple_of(work.pass),
            "--pass: found {}; expected a divisor of the {all} completions of a step",
            work.pass
        );
        Ok(work)
    }

    fn completions(&self) -> usize {
        self.prompts * self.samples
    }

    /// The limit that lets our side put so many completions into a pass and not one more: room for that many of the
    /// longest, since the others are nearly as long.
    fn micro_batch_tokens(&self, longest_prompt: usize) -> usize {
        self.pass * (longest_prompt + self.new_tokens)
    }

    /// The problems as both sides read them.
    fn problems(&self) -> String {
        let lines = PROBLEMS[..self.prompts].iter().map(|(question, answer)| {
            let line = json!({"question": format!("{question} {INSTRUCTION}"), "answer": answer});
            format!("{line}\n")
        });
        lines.collect()
    }
}

/// One side of the comparison.
struct Side {
    name: &'static str,
    checkpointing: bool,
    best: Option<Figures>,
}

impl Side {
    fn label(&self) -> String {
        format!("{}, checkpointing {}", self.name, state(self.checkpointing))
    }
}

/// The figures of a process: those of its fastest step, and its peak.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    step: Step,
    peak_mib: f64,
}

impl Figures {
    /// Of the timed steps; the first one is a warm-up.
    fn of(steps: &[Step], peak_mib: f64) -> Result<Self> {
        let timed = steps.iter().skip(1).copied();
        let step = timed
            .min_by(|a, b| a.seconds.total_cmp(&b.seconds))
            .context("there is no step after the warm-up")?;
        Ok(Self { step, peak_mib })
    }

    /// The least of each, since noise only adds.
    fn best(self, other: Self) -> Self {
        let step = if other.step.seconds < self.step.seconds {
            other.step
        } else {
            self.step
        };
        Self {
            step,
            peak_mib: self.peak_mib.min(other.peak_mib),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    seconds: f64,
    sampling: f64,
    new_tokens: f64,
    /// Mean tokens per prompt.
    prompt_tokens: f64,
}

const OURS: &str = "rpg";
const THEIRS: &str = "TRL";

pub(super) fn run(shell: &Shell, options: &Options) -> Result<()> {
    let work = Work::new(options)?;
    let model = options
        .model
        .as_deref()
        .context("--model: name a Hugging Face model folder")?;
    let python = options.python(shell, &PACKAGES)?;
    let bench = Bench::new(build(shell, "")?, python, model, work)?;
    let side = |name, checkpointing| Side {
        name,
        checkpointing,
        best: None,
    };
    // TRL comes first, as it says how long the prompts are.
    let mut sides = [
        side(THEIRS, false),
        side(THEIRS, true),
        side(OURS, false),
        side(OURS, true),
    ];
    let mut about = Value::Null;
    for round in 1..=options.rounds {
        for side in &mut sides {
            let figures = match side.name {
                THEIRS => {
                    let (figures, answer) = bench.theirs(side)?;
                    about = answer;
                    figures
                }
                _ => bench.ours(side, number(&about, "longest_prompt")? as usize)?,
            };
            // One line per process, as later ones take long and may fail.
            eprintln!(
                "round {round}/{}: {}: {:.1} s, {:.0} MiB",
                options.rounds,
                side.label(),
                figures.step.seconds,
                figures.peak_mib
            );
            let best = side.best.map_or(figures, |best| best.best(figures));
            side.best = Some(best);
        }
    }
    let measured: Vec<(&Side, Figures)> = sides
        .iter()
        .filter_map(|side| Some((side, side.best?)))
        .collect();
    same_work(&work, &measured)?;
    print!("{}", page(&work, &measured, &about)?);
    Ok(())
}

/// Both sides must have read and made the same number of tokens.
fn same_work(work: &Work, measured: &[(&Side, Figures)]) -> Result<()> {
    let expected = (work.completions() * work.new_tokens) as f64;
    let prompts = measured.first().map(|(_, first)| first.step.prompt_tokens);
    for (side, Figures { step, .. }) in measured {
        ensure!(
            step.new_tokens == expected,
            "{}: a step sampled {} tokens; expected {expected}",
            side.label(),
            step.new_tokens
        );
        ensure!(
            prompts.is_some_and(|n| (n - step.prompt_tokens).abs() < 1e-6),
            "the sides have different prompts: of {prompts:?} and, {}, {} tokens on average",
            side.label(),
            step.prompt_tokens
        );
    }
    Ok(())
}

struct Bench<'a> {
    rpg: PathBuf,
    python: PathBuf,
    model: &'a Path,
    work: Work,
    threads: usize,
    folder: PathBuf,
    problems: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(rpg: PathBuf, python: PathBuf, model: &'a Path, work: Work) -> Result<Self> {
        let folder = target_dir().join("bench-train");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let problems = folder.join("problems.jsonl");
        fs::write(&problems, work.problems())
            .with_context(|| format!("cannot write {}", problems.display()))?;
        Ok(Self {
            rpg,
            python,
            model,
            work,
            threads: available_parallelism().map_or(1, usize::from),
            folder,
            problems,
        })
    }

    /// A run of `rpg train`, whose folder is removed: its checkpoints are large.
    fn ours(&self, side: &Side, longest_prompt: usize) -> Result<Figures> {
        let run = self.folder.join("run");
        remove(&run)?;
        let mut command = Command::new(&self.rpg);
        command
            .args(["train", "--recipe", "finetune", "--seed", "0"])
            .arg("--model")
            .arg(self.model)
            .arg("--run-dir")
            .arg(&run)
            .env("RAYON_NUM_THREADS", self.threads.to_string());
        let sets = sets(
            &self.work,
            &self.problems,
            longest_prompt,
            side.checkpointing,
        );
        for set in sets {
            command.args(["--set", &set]);
        }
        let ended = run_to_end(command, &self.folder.join(OURS), &side.label())?;
        let path = run.join("metrics.jsonl");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let steps = our_steps(&text, &self.work)?;
        remove(&run)?;
        Figures::of(&steps, ended.peak_mib)
    }

    /// The figures of TRL, and what it says of itself.
    fn theirs(&self, side: &Side) -> Result<(Figures, Value)> {
        let work = &self.work;
        let settings = json!({
            "samples": work.samples,
            "new_tokens": work.new_tokens,
            "pass": work.pass,
            "steps": work.steps,
            "threads": self.threads,
            "gradient_checkpointing": side.checkpointing,
            "lr": LEARNING_RATE.parse::<f64>()?,
        });
        let mut command = Command::new(&self.python);
        command
            .arg(root().join("rpg-cli/examples/bench_train.py"))
            .arg(self.model)
            .arg(&self.problems)
            .arg(settings.to_string());
        let Ended { stdout, peak_mib } =
            run_to_end(command, &self.folder.join(THEIRS), &side.label())?;
        let line = stdout.trim().lines().last().unwrap_or_default();
        let answer: Value = serde_json::from_str(line)
            .with_context(|| format!("expected one line of JSON, found `{line}`"))?;
        Ok((Figures::of(&their_steps(&answer)?, peak_mib)?, answer))
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The config of our side, on top of the recipe: GRPO without a KL term, one update per step, AdamW.
fn sets(work: &Work, problems: &Path, longest_prompt: usize, checkpointing: bool) -> Vec<String> {
    let Work {
        prompts,
        samples,
        new_tokens,
        steps,
        ..
    } = work;
    let problems = problems.display();
    let micro_batch_tokens = work.micro_batch_tokens(longest_prompt);
    vec![
        "backend=cpu".into(),
        // The questions ask for a box themselves.
        format!("data={{train='{problems}'}}"),
        format!(
            "rollout={{prompts_per_step={prompts}, samples_per_prompt={samples}, max_new_tokens={new_tokens}, \
             ignore_eos=true}}"
        ),
        "reward={scale='zero_one'}".into(),
        "objective={kind='grpo', beta=0.0}".into(),
        "reference={rule='every_rollout'}".into(),
        format!("optimizer={{lr={LEARNING_RATE}}}"),
        format!(
            "train={{steps={steps}, mini_batches=1, micro_batch_tokens={micro_batch_tokens}, \
             gradient_checkpointing='{}'}}",
            state(checkpointing)
        ),
        "evaluate={problems=0, samples=1}".into(),
        "checkpoint={every=0, samples_per_step=0}".into(),
    ]
}

fn state(checkpointing: bool) -> &'static str {
    if checkpointing { "on" } else { "off" }
}

/// The steps of a run, from its `metrics.jsonl`.
fn our_steps(text: &str, work: &Work) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        if line["phase"] != "train" {
            continue;
        }
        let updates = number(&line, "train/num_updates")?;
        ensure!(updates == 1.0, "a step has {updates} updates; expected one");
        // The other side writes no checkpoints.
        let saving = line["timing_s/save_checkpoint"].as_f64().unwrap_or(0.0);
        let length = number(&line, "response_length/mean")?;
        steps.push(Step {
            seconds: number(&line, "timing_s/step")? - saving,
            sampling: number(&line, "timing_s/gen")?,
            new_tokens: length * work.completions() as f64,
            prompt_tokens: number(&line, "prompt_length/mean")?,
        });
    }
    Ok(steps)
}

/// The steps that TRL's side reports.
fn their_steps(answer: &Value) -> Result<Vec<Step>> {
    let steps = answer["steps"].as_array();
    let steps = steps.with_context(|| format!("`steps` is missing in {answer}"))?;
    let read = |step: &Value| {
        Ok(Step {
            seconds: number(step, "seconds")?,
            sampling: number(step, "sampling")?,
            new_tokens: number(step, "new_tokens")?,
            prompt_tokens: number(step, "prompt_tokens")?,
        })
    };
    steps.iter().map(read).collect()
}

/// The tables, and what they are of.
fn page(work: &Work, measured: &[(&Side, Figures)], about: &Value) -> Result<String> {
    let mut page = String::from(
        "| side | gradient checkpointing | seconds per step | of which sampling | new tokens/s | peak memory, MiB |\n\
         | --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for (side, Figures { step, peak_mib }) in measured {
        page += &format!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {peak_mib:.0} |\n",
            side.name,
            state(side.checkpointing),
            step.seconds,
            step.sampling,
            step.new_tokens / step.seconds,
        );
    }
    page += &format!(
        "\n| gradient checkpointing of {OURS} | of {THEIRS} | {THEIRS}'s time over {OURS}'s | {OURS}'s memory over {THEIRS}'s |\n\
         | --- | --- | ---: | ---: |\n",
    );
    let of = |name| measured.iter().filter(move |(side, _)| side.name == name);
    for (our_side, ours) in of(OURS) {
        for (their_side, theirs) in of(THEIRS) {
            page += &format!(
                "| {} | {} | {:.2} | {:.2} |\n",
                state(our_side.checkpointing),
                state(their_side.checkpointing),
                theirs.step.seconds / ours.step.seconds,
                ours.peak_mib / theirs.peak_mib,
            );
        }
    }
    let versions = about["versions"].as_object();
    let versions = versions.with_context(|| format!("`versions` is missing in {about}"))?;
    let versions: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
        .collect();
    let prompt = measured
        .first()
        .map_or(f64::NAN, |(_, first)| first.step.prompt_tokens);
    page += &format!(
        "\nA step: {} prompts of {prompt:.1} tokens on average, {} samples each, {} new tokens per sample, passes of {} \
         completions, one update, f32; {} threads. {}.\n",
        work.prompts,
        work.samples,
        work.new_tokens,
        work.pass,
        number(about, "threads")?,
        versions.join(", "),
    );
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pass: Option<usize>, smoke: bool) -> Options {
        let mut options = Options::parse(&[]).unwrap();
        (options.pass, options.smoke) = (pass, smoke);
        options
    }

    #[test]
    fn a_pass_is_a_part_of_the_step() {
        let pass = |pass, smoke| Work::new(&options(pass, smoke)).map(|work| work.pass);
        assert_eq!(pass(None, false).unwrap(), 64);
        assert_eq!(pass(Some(16), false).unwrap(), 16);
        assert_eq!(pass(None, true).unwrap(), 4);
        let error = pass(Some(24), false).unwrap_err().to_string();
        assert_eq!(
            error,
            "--pass: found 24; expected a divisor of the 64 completions of a step"
        );
        let work = Work::new(&options(Some(8), false)).unwrap();
        assert_eq!(work.micro_batch_tokens(70), 8 * 134);
        assert_eq!(work.problems().lines().count(), 8);
    }

    const LINES: &str = r#"{"phase": "initial", "step": 0}
{"phase": "train", "step": 1, "train/num_updates": 1, "response_length/mean": 4.0, "prompt_length/mean": 70.5, "timing_s/gen": 3.0, "timing_s/step": 9.0}
{"phase": "train", "step": 2, "train/num_updates": 1, "response_length/mean": 4.0, "prompt_length/mean": 70.5, "timing_s/gen": 2.0, "timing_s/save_checkpoint": 1.5, "timing_s/step": 6.5}
{"phase": "final", "step": 2}
"#;

    fn step(seconds: f64, sampling: f64) -> Step {
        Step {
            seconds,
            sampling,
            new_tokens: 16.0,
            prompt_tokens: 70.5,
        }
    }

    #[test]
    fn steps_are_read_without_the_time_of_checkpoints() {
        let work = Work::new(&options(None, true)).unwrap();
        let steps = our_steps(LINES, &work).unwrap();
        assert_eq!(steps, [step(9.0, 3.0), step(5.0, 2.0)]);
        let two = LINES.replace("\"train/num_updates\": 1", "\"train/num_updates\": 2");
        assert!(our_steps(&two, &work).is_err());
    }

    #[test]
    fn steps_of_the_other_side_are_read() {
        let answer = json!({"steps": [
            {"seconds": 8.0, "sampling": 3.0, "new_tokens": 16, "prompt_tokens": 70.5},
        ]});
        assert_eq!(their_steps(&answer).unwrap(), [step(8.0, 3.0)]);
        assert!(their_steps(&json!({"steps": [{"seconds": 8.0}]})).is_err());
        assert!(their_steps(&json!({})).is_err());
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let steps = [step(1.0, 0.5), step(5.0, 2.0), step(4.0, 3.0)];
        let first = Figures::of(&steps, 900.0).unwrap();
        assert_eq!((first.step, first.peak_mib), (step(4.0, 3.0), 900.0));
        assert!(Figures::of(&steps[..1], 900.0).is_err());
        let second = Figures::of(&[steps[0], step(4.5, 1.0)], 800.0).unwrap();
        let best = first.best(second);
        assert_eq!((best.step, best.peak_mib), (step(4.0, 3.0), 800.0));
    }

    #[test]
    fn the_tables_divide_the_right_way_round() {
        let work = Work::new(&options(None, true)).unwrap();
        let side = |name, checkpointing| Side {
            name,
            checkpointing,
            best: None,
        };
        let figures = |seconds, peak_mib| Figures {
            step: step(seconds, 2.0),
            peak_mib,
        };
        let (theirs, ours) = (side(THEIRS, false), side(OURS, true));
        let mut measured = [
            (&theirs, figures(8.0, 2000.0)),
            (&ours, figures(4.0, 500.0)),
        ];
        same_work(&work, &measured).unwrap();
        let about = json!({"versions": {"trl": "1.2"}, "threads": 2});
        let page = page(&work, &measured, &about).unwrap();
        for line in [
            "| TRL | off | 8.0 | 2.0 | 2.0 | 2000 |",
            "| rpg | on | 4.0 | 2.0 | 4.0 | 500 |",
            "| on | off | 2.00 | 0.25 |",
        ] {
            assert!(
                page.lines().any(|found| found == line),
                "{line} is not in\n{page}"
            );
        }
        assert!(page.contains("2 threads. trl 1.2."), "{page}");
        measured[1].1.step.new_tokens = 15.0;
        assert!(same_work(&work, &measured).is_err());
        (
            measured[1].1.step.new_tokens,
            measured[1].1.step.prompt_tokens,
        ) = (16.0, 71.5);
        assert!(same_work(&work, &measured).is_err());
    }
}
