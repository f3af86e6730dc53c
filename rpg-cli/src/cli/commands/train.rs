//! `rpg train`: starts or resumes a training run.

use super::{dry_run, output};
use crate::backend::{OnBackend, on_backend};
use crate::best;
use crate::checkpoint::{read_state, with_adapter_of};
use crate::cli::args::TrainArgs;
use crate::cli::beat::Waiting;
use crate::cli::console::{Console, TrainConsole};
use crate::cli::say::say;
use crate::cli::{curve, policy, problems, signals};
use crate::config::{BaseWeights, LoraSection, ScratchModel, TrainConfig};
use crate::data::Reading;
use crate::failure::{Failure, FailureKind};
use crate::models::{frozen, load_model};
use crate::run_folder::RunFolder;
use crate::train::{ConfigChange, Outcome, Parts, Start, StartedCommands, Trainer};
use rpg_core::model::{AdapterFolder, CausalLm, ModelConfig, Storage};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use rpg_losses::{Kind, ObjectiveConfig};
use std::path::Path;

pub(super) fn run(args: TrainArgs) -> Result<(), Failure> {
    let (config, name, change) = match &args.resume {
        Some(root) => {
            let (config, change) = resumed(&args, root)?;
            (config, String::new(), change)
        }
        None => {
            let (config, name) = resolve(&args)?;
            (config, name, None)
        }
    };
    if args.print_config {
        return output::line(config.to_toml().trim_end());
    }
    if args.dry_run {
        return dry_run::run(&config, args.json);
    }
    for warning in config.objective.warnings() {
        say!("warning: objective: {warning}");
    }
    for warning in config.warnings() {
        say!("warning: {warning}");
    }
    let json = args.json;
    let backend = args.backend.unwrap_or(config.backend);
    let run = Run {
        args,
        config,
        name,
        change,
    };
    let (result, _) = on_backend(backend, run)?;
    let (folder, outcome) = result?;
    report(&folder, &outcome, json)
}

/// The config of a run that is resumed, and how the flags change it, if they do.
fn resumed(args: &TrainArgs, root: &Path) -> Result<(TrainConfig, Option<ConfigChange>), Failure> {
    let file = RunFolder::open(root)?.path("config.toml");
    let mut sets = Vec::new();
    sets.extend(args.steps.map(|steps| format!("train.steps={steps}")));
    sets.extend(args.set.iter().cloned());
    let before = TrainConfig::from_file(&file, &[])?;
    if sets.is_empty() {
        return Ok((before, None));
    }
    let now = TrainConfig::from_file(&file, &sets)?;
    let change = ConfigChange::new(before, now.clone())?;
    Ok((now, Some(change)))
}

/// The config that the flags describe, and a name for the run.
fn resolve(args: &TrainArgs) -> Result<(TrainConfig, String), Failure> {
    let mut sets = Vec::new();
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    sets.extend(
        args.model
            .iter()
            .map(|path| format!("model.path={}", quoted(path))),
    );
    let data: Vec<String> = args.data.iter().map(|path| quoted(path)).collect();
    match &data[..] {
        [] => {}
        [path] => sets.push(format!("data.train={path}")),
        paths => sets.push(format!("data.train=[{}]", paths.join(", "))),
    }
    sets.extend(args.seed.map(|seed| format!("seed={seed}")));
    sets.extend(args.steps.map(|steps| format!("train.steps={steps}")));
    sets.extend(args.backend.map(|backend| format!("backend=\"{backend}\"")));
    sets.extend(args.set.iter().cloned());
    if let Some(path) = &args.config {
        let name = path
            .file_stem()
            .map_or("run".into(), |s| s.to_string_lossy().into_owned());
        return Ok((TrainConfig::from_file(path, &sets)?, name));
    }
    let default = match (&args.model, &args.data[..]) {
        (None, []) => "arithmetic",
        _ => "finetune",
    };
    let name = args.recipe.as_deref().unwrap_or(default);
    Ok((TrainConfig::recipe(name, &sets)?, name.to_owned()))
}

struct Run {
    args: TrainArgs,
    config: TrainConfig,
    name: String,
    /// Of a run that is resumed.
    change: Option<ConfigChange>,
}

impl OnBackend for Run {
    type Output = Result<(RunFolder, Outcome), Failure>;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output {
        let Self {
            args,
            config,
            name,
            change,
        } = self;
        // Everything that can be wrong is found before the run folder is created.
        let commands = StartedCommands::start(&config.reward)?;
        let resumed = match &args.resume {
            Some(root) => Some(RunFolder::open_to_resume(root)?),
            None => None,
        };
        let (checkpoint, notes) = match &resumed {
            Some(folder) => folder.newest_whole_checkpoint()?,
            None => (None, Vec::new()),
        };
        for note in notes {
            say!("warning: {note}");
        }
        dry_run::check_memory(&config)?;
        let waiting = Waiting::for_the_end_of("loading the policy");
        let (policy, tokenizer) = first_policy::<B>(&config, checkpoint.as_deref(), &device)?;
        drop(waiting);
        if let (Some(folder), Some(_)) = (&resumed, &checkpoint) {
            check_shape(&config, policy.config(), folder)?;
        }
        policy::note_on_ends(&policy, &tokenizer);
        let mut start = read_problems(&config, policy, tokenizer)?;
        start.check_sampler(&config)?;
        if let Some(given) = &config.reference.path {
            let storage = config.reference.storage::<B>();
            let waiting = Waiting::for_the_end_of("loading the reference");
            let loaded = policy::load(given, storage, &device);
            drop(waiting);
            let (reference, tokenizer) = loaded.map_err(of_reference)?;
            say!(
                "reference: {} parameters from {}",
                reference.config().n_parameters(),
                given.display()
            );
            start = start.reference(&config, reference, &tokenizer)?;
        }
        let rewards = commands.check()?;
        let mut notes = Vec::new();
        let folder = match (resumed, checkpoint) {
            (Some(folder), Some(checkpoint)) => {
                say!("resuming from {}", checkpoint.display());
                if let Some(change) = &change {
                    notes = change.notes(&read_state(&checkpoint)?);
                }
                start = start.resume(checkpoint);
                folder
            }
            // The run ended before its first checkpoint.
            (Some(folder), None) => {
                say!("no checkpoint yet: the run starts again");
                folder
            }
            (None, _) => {
                let text = config.to_toml();
                match &args.run_dir {
                    Some(root) => RunFolder::create(root, &text)?,
                    None => RunFolder::create_next(Path::new("runs"), &name, &text)?,
                }
            }
        };
        let trained = match start.policy().n_trained() {
            Some(n) => format!(", of which {n} are trained,"),
            None => String::new(),
        };
        say!(
            "{} parameters{trained} on {}; objective {}, seed {}; run folder {}",
            start.policy().config().n_parameters(),
            B::name(&device),
            describe(&config.objective),
            config.seed,
            folder.root().display()
        );
        let mut parts = Parts::new(&config, &start, &folder, rewards);
        parts.reporters.insert(0, Box::new(TrainConsole::default()));
        parts.interrupt = signals::listen();
        let trainer = Trainer::new(&config, &folder, start, parts)?;
        // Nothing is refused from here on.
        if let Some(change) = &change {
            change.write(&folder)?;
        }
        for note in notes {
            say!("note: {note}");
        }
        let outcome = trainer.run();
        let outcome = outcome.map_err(|failure| resumable(failure, &folder))?;
        Ok((folder, outcome))
    }
}

/// Loads the problems; of a large file it shows how far it is.
fn read_problems<B: DecodeBackend>(
    config: &TrainConfig,
    policy: CausalLm<B>,
    tokenizer: Tokenizer,
) -> Result<Start<B>, Failure> {
    let mut console: Option<Console> = None;
    let mut waiting = Some(Waiting::for_the_end_of("reading the problems"));
    let mut on_progress = |done: usize, total: usize| {
        waiting = None;
        if total < LARGE_FILE {
            return;
        }
        if done == 0 {
            let bar = Console::new(total as u64, "reading");
            bar.line(&format!("reading {total} problems"));
            console = Some(bar);
        }
        if let Some(bar) = &mut console {
            bar.progress(done as u64, total as u64, "reading");
            if done == total {
                bar.done();
            }
        }
    };
    let reading = Reading {
        locate: &problems::locate,
        on_progress: &mut on_progress,
    };
    let start = Start::reading(config, policy, tokenizer, reading);
    if let Some(bar) = &console {
        bar.done();
    }
    start
}

/// Files of so many problems take seconds to become tokens.
const LARGE_FILE: usize = 10_000;

/// Adds to the hint of a failure that may pass, such as that of a reward or a full disk, how to resume the run.
fn resumable(failure: Failure, folder: &RunFolder) -> Failure {
    if !matches!(failure.kind, FailureKind::Reward | FailureKind::Internal) {
        return failure;
    }
    let resume = format!(
        "resume with: rpg train --resume {}",
        folder.root().display()
    );
    let hint = match &failure.hint {
        Some(hint) => format!("{hint}; {resume}"),
        None => resume,
    };
    failure.hint(hint)
}

fn describe(objective: &ObjectiveConfig) -> String {
    match objective.kind {
        Kind::Rpg => format!(
            "rpg ({}, {}, clip {})",
            objective.kl, objective.estimator, objective.clip
        ),
        kind => kind.to_string(),
    }
}

/// Says that a model that cannot be read is that of `reference.path`.
fn of_reference(mut failure: Failure) -> Failure {
    failure.message = format!("reference.path: {}", failure.message);
    failure
}

/// The policy of a checkpoint, or that of a new run.
fn first_policy<B: DecodeBackend>(
    config: &TrainConfig,
    checkpoint: Option<&Path>,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let is_whole = |dir: &&Path| !AdapterFolder::is_one(dir);
    if let Some(dir) = checkpoint.filter(is_whole) {
        return load_model(dir, device);
    }
    let storage = base_storage::<B>(config, checkpoint)?;
    // The checkpoint names its base, which an adapter at `model.path` need not be there for any more.
    if let (Some(dir), Some(_)) = (checkpoint, &config.model.path) {
        return policy::load(dir, storage, device);
    }
    let (policy, tokenizer) = match (&config.model.path, &config.model.scratch) {
        (Some(given), _) => policy::load(given, storage, device)?,
        (None, Some(shape)) => shape.init_as(config.seed, storage, device)?,
        (None, None) => {
            return Err(Failure::input(
                "model: neither `path` nor `scratch` is given",
            ));
        }
    };
    let policy = match (checkpoint, &config.lora) {
        (Some(dir), _) => with_adapter_of(policy, dir)?,
        (None, Some(lora)) => {
            if config.model.scratch.is_some() {
                say!(
                    "note: the adapter's base is made from the seed and isn't written: nothing but this run can use the adapter"
                );
            }
            new_adapter(lora, policy, config.seed)?
        }
        (None, None) => policy,
    };
    Ok((policy, tokenizer))
}

/// In which form the weights of a policy are kept that are read from files.
fn base_storage<B: DecodeBackend>(
    config: &TrainConfig,
    checkpoint: Option<&Path>,
) -> Result<Storage, Failure> {
    let mut given = config.model.path.as_deref().into_iter().chain(checkpoint);
    match &config.lora {
        Some(lora) if lora.base != BaseWeights::F32 && !B::READS_BF16 => Err(Failure::input(
            "lora.base: this backend cannot read weights of fewer bits as they are stored; expected f32",
        )
        .hint("--set lora.base=f32, or --backend cpu")),
        Some(lora) => Ok(lora.base.storage()),
        None if given.any(AdapterFolder::is_one) => Ok(frozen::<B>()),
        None => Ok(Storage::F32),
    }
}

fn new_adapter<B: DecodeBackend>(
    lora: &LoraSection,
    policy: CausalLm<B>,
    seed: u64,
) -> Result<CausalLm<B>, Failure> {
    if policy.lora().is_some() {
        return Err(dry_run::two_adapters());
    }
    let lora = lora.adapter(policy.config());
    let adapted = policy.with_adapter(&lora, seed);
    adapted.map_err(|e| Failure::input(format!("lora: {e}")))
}

/// Refuses sizes in a run's config that differ from those of its checkpoint.
fn check_shape(
    config: &TrainConfig,
    found: &ModelConfig,
    folder: &RunFolder,
) -> Result<(), Failure> {
    let Some(shape) = &config.model.scratch else {
        return Ok(());
    };
    let given = shape.sizes();
    for ((key, given), (_, found)) in given.into_iter().zip(ScratchModel::of(found).sizes()) {
        if given != found {
            let path = folder.path("config.toml");
            return Err(Failure::input(format!(
                "{}: model.scratch.{key}: found {given}; expected {found}, the size in the run's checkpoint",
                path.display()
            ))
            .hint("a model of another size needs a new run, without --resume"));
        }
    }
    Ok(())
}

fn report(folder: &RunFolder, outcome: &Outcome, json: bool) -> Result<(), Failure> {
    let root = folder.root().display();
    if let Some(note) = outcome.updates.note() {
        say!("warning: {note}");
    }
    if outcome.interrupted {
        say!("checkpoint: {}", outcome.checkpoint.display());
        let message = match outcome.steps {
            0 => "interrupted before the end of the first step".to_owned(),
            done => format!("interrupted after step {done}"),
        };
        return Err(Failure::new(FailureKind::Interrupted, message)
            .hint(format!("resume with: rpg train --resume {root}")));
    }
    outcome.write_summary(folder)?;
    let curve = curve::draw(folder)?;
    if json {
        let summary =
            std::fs::read_to_string(folder.path("summary.json")).map_err(Failure::internal)?;
        output::line(summary.trim_end())?;
        return outcome.updates.check();
    }
    let k = outcome.k;
    let measured = if outcome.after.is_nan() {
        "not measured: evaluate.problems = 0".to_owned()
    } else {
        format!(
            "{:<24} {:>8} {:>8}\n{:<24} {:>8.3} {:>8.3}",
            "held-out problems",
            "before",
            "after",
            format!("mean@{k}"),
            outcome.before,
            outcome.after
        )
    };
    let best = best_line(folder, outcome);
    // A terminal that was closed meanwhile is no failure of the run: all of this is in its folder.
    let _ = output::line(format_args!(
        "\n{measured}{best}\n\n{} steps in {:.0} s\nrun folder      {root}\n\
         checkpoint      {}\nlearning curve  {}",
        outcome.steps,
        outcome.seconds,
        outcome.checkpoint.display(),
        curve.display()
    ));
    outcome.updates.check()
}

/// The best evaluation, and where its policy is.
fn best_line(folder: &RunFolder, outcome: &Outcome) -> String {
    let Some(best) = &outcome.best else {
        return String::new();
    };
    let kept = match best::folder(folder.root()) {
        Ok(Some(policy)) => format!(": {}", policy.display()),
        _ => String::new(),
    };
    format!(
        "\nbest mean@{} {:.3} after step {} ({} problems){kept}",
        best.k, best.score, best.step, best.problems
    )
}
