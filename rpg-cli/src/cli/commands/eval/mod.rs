//! `rpg eval`: measures a model on problems, or grades samples again.

mod regrade;
mod settings;
mod table;

use super::new_folder::NewFolder;
use super::output;
use crate::backend::{OnBackend, on_backend};
use crate::cli::console::Console;
use crate::cli::eval_args::EvalArgs;
use crate::cli::say::say;
use crate::cli::{policy, problems, signals};
use crate::config::TrainConfig;
use crate::data::{PromptedProblem, Reading};
use crate::failure::{AtPath, Failure};
use crate::interrupt::Interrupt;
use crate::models::frozen;
use crate::train::evaluation::{
    EvalProblem, Evaluation, Scores, Sources, ask_as, check_problems, evaluate, held_out_of_run,
    problems_of_file,
};
use crate::train::report::{Activity, Progress, sample_line};
use crate::train::{Grader, StartedCommands, Team};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use rpg_rollout::rollouts::{LocalRollouts, Rollouts};
use serde_json::{Map, Value, json};
use settings::Settings;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn run(args: EvalArgs) -> Result<(), Failure> {
    if let Some(path) = &args.regrade {
        return regrade::run(path, &args);
    }
    let Some(given) = &args.model else {
        return Err(Failure::input("--model is missing"));
    };
    let folder = args.out.as_deref().map(NewFolder::begin).transpose()?;
    let settings = Settings::new(&args, given)?;
    let interrupt = signals::listen();
    let backend = args.backend.unwrap_or(settings.config.backend);
    let started = Instant::now();
    let measuring = Measuring {
        args: &args,
        settings: &settings,
        interrupt,
    };
    let (result, _) = on_backend(backend, measuring)?;
    let evaluation = result?;
    let scores = scores_json(&args, &settings, &evaluation.scores, started);
    if let Some(folder) = folder {
        write(folder.path(), &settings.config, &evaluation, &scores)?;
        folder.finish()?;
    }
    if args.json {
        return output::line(format_args!("{scores:#}"));
    }
    output::line(table::table(&evaluation.scores))
}

/// An evaluation on a backend that is chosen later.
struct Measuring<'a> {
    args: &'a EvalArgs,
    settings: &'a Settings,
    interrupt: Interrupt,
}

impl OnBackend for Measuring<'_> {
    type Output = Result<Evaluation, Failure>;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output {
        let Self {
            args,
            settings,
            interrupt,
        } = self;
        let commands = StartedCommands::start(&settings.config.reward)?;
        let (policy, mut tokenizer) = policy::load::<B>(&settings.model, frozen::<B>(), &device)?;
        policy::note_on_ends(&policy, &tokenizer);
        let policy = ask_as(&settings.config, policy, &mut tokenizer)?.compact();
        let (problems, sources) = read_problems(args, settings, &tokenizer)?;
        check_problems(&problems, &settings.config, policy.config())?;
        let rewards = commands.check()?;
        let mut config = settings.config.clone();
        config.seed = settings.seed;
        let grader = Grader::new(&config, rewards);
        let n_completions = problems.len() * config.evaluate.samples.get();
        say!(
            "{} problems, {} samples each at temperature {}, at most {} tokens; settings of {}",
            problems.len(),
            config.evaluate.samples,
            config.evaluate.temperature,
            config.rollout.max_new_tokens,
            settings.origin
        );
        let mut rollouts = LocalRollouts::new(tokenizer);
        rollouts
            .sync_for_evaluation(&policy)
            .map_err(Failure::internal)?;
        drop(policy);
        let console = Console::new(n_completions as u64, "evaluating");
        let on_progress = &mut |progress: Progress| {
            let what = match progress.activity {
                Activity::Grading => "grading",
                _ => "evaluating",
            };
            console.progress(progress.done as u64, progress.total as u64, what);
            interrupt.flow()
        };
        let evaluation = evaluate(
            &mut rollouts,
            &grader,
            problems,
            &sources,
            &config,
            &Team::alone(),
            on_progress,
        );
        console.done();
        let evaluation = evaluation?;
        note_on_cut(&evaluation.scores, &config);
        Ok(evaluation)
    }
}

/// The problems of all sets, and their sources.
fn read_problems(
    args: &EvalArgs,
    settings: &Settings,
    tokenizer: &Tokenizer,
) -> Result<(Vec<EvalProblem>, Sources), Failure> {
    let config = &settings.config;
    let mut sets = Vec::new();
    if args.data.is_empty() {
        let (held_out, notes) = held_out_of_run(config, tokenizer, reading(&mut |_, _| {}))?;
        if held_out.is_empty() {
            return Err(Failure::input(format!(
                "{}: there are no held-out problems, as evaluate.problems = 0",
                settings.origin
            ))
            .hint("name a file of problems with --data"));
        }
        sets.push((held_out, notes));
    }
    for (i, path) in args.data.iter().enumerate() {
        if args.data[..i].iter().any(|other| is_same(other, path)) {
            return Err(Failure::input(format!(
                "--data {}: given twice",
                path.display()
            )));
        }
        let set = problems_of_file(path, config, tokenizer, reading(&mut |_, _| {}))?;
        sets.push(set);
    }
    note_on_shared_sources(&args.data, &sets);
    let limit = args.problems.unwrap_or(usize::MAX);
    let mut all = Vec::new();
    for (problems, notes) in sets {
        for note in notes {
            say!("note: {note}");
        }
        let first = problems.into_iter().take(limit).enumerate();
        all.extend(first.map(|(place, problem)| EvalProblem {
            place: place as u64,
            problem,
        }));
    }
    note_on_repeated(all.iter().map(|one| &one.problem));
    let sources = all
        .iter()
        .map(|one| one.problem.problem.data_source.as_str());
    let sources = Sources::new(sources, config.evaluate.samples.get());
    Ok((all, sources))
}

fn reading(on_progress: &mut dyn FnMut(usize, usize)) -> Reading<'_> {
    Reading {
        locate: &problems::locate,
        on_progress,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Says that problems of several files are reported together.
fn note_on_shared_sources(files: &[PathBuf], sets: &[(Vec<PromptedProblem>, Vec<String>)]) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, (problems, _)) in sets.iter().enumerate() {
        for prompted in problems {
            let source = prompted.problem.data_source.as_str();
            let before = *first.entry(source).or_insert(i);
            if before != i {
                say!(
                    "note: {} and {} both have problems of the source {source}, which are reported together \
                     (data.columns.source can name another column)",
                    files[before].display(),
                    files[i].display()
                );
                break;
            }
        }
    }
}

/// Says that several sets have the same problems, which then count more.
fn note_on_repeated<'a>(problems: impl Iterator<Item = &'a PromptedProblem>) {
    let mut first: HashMap<&[u32], &str> = HashMap::new();
    let mut repeated = problems.filter_map(|prompted| {
        let id = prompted.problem.id.as_str();
        let before = first.insert(&prompted.prompt_tokens, id)?;
        Some((before, id))
    });
    if let Some((one, other)) = repeated.next() {
        let n = repeated.count() + 1;
        say!("note: {n} problems repeat another one and count again; the first: {one} and {other}");
    }
}

/// Says that many completions had no room to come to their answer.
fn note_on_cut(scores: &[Scores], config: &TrainConfig) {
    if let Some(all) = scores.first().filter(|all| all.cut >= 0.1) {
        say!(
            "note: {:.0}% of the completions were cut off at {} tokens (--max-new-tokens)",
            100.0 * all.cut,
            config.rollout.max_new_tokens
        );
    }
}

fn scores_json(args: &EvalArgs, settings: &Settings, scores: &[Scores], started: Instant) -> Value {
    let has_own_reward = settings.config.reward.has_command();
    let metrics: Map<String, Value> = scores
        .iter()
        .flat_map(|scores| scores.metrics(has_own_reward))
        .map(|(name, value)| (name, json!(value)))
        .collect();
    let config = &settings.config;
    json!({
        "model": settings.model,
        "data": args.data,
        "samples": config.evaluate.samples,
        "temperature": config.evaluate.temperature,
        "max_new_tokens": config.rollout.max_new_tokens,
        "seed": settings.seed,
        "scores": scores,
        "metrics": metrics,
        "seconds": started.elapsed().as_secs_f64(),
    })
}

/// Writes the completions, the scores and the config.
fn write(
    dir: &Path,
    config: &TrainConfig,
    evaluation: &Evaluation,
    scores: &Value,
) -> Result<(), Failure> {
    let mut lines = String::new();
    for group in &evaluation.groups {
        for (i, sample) in group.samples.iter().enumerate() {
            let line = sample_line(0, group, sample);
            // There are no steps.
            let rest = line.as_object().into_iter().flatten();
            let rest = rest.filter(|(key, _)| *key != "step");
            let mut line = Map::new();
            line.insert("source".into(), group.problem.data_source.clone().into());
            line.insert("sample".into(), i.into());
            line.extend(rest.map(|(key, value)| (key.clone(), value.clone())));
            let _ = writeln!(lines, "{}", Value::Object(line));
        }
    }
    for (name, text) in [
        ("samples.jsonl", lines),
        ("scores.json", format!("{scores:#}\n")),
        ("config.toml", config.to_toml()),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).at(&path)?;
    }
    Ok(())
}
