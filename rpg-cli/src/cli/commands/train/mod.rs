//! `rpg train`: starts or resumes a training run.

mod load;

use super::{dry_run, output};
use crate::backend::{Device, OnBackend};
use crate::best;
use crate::checkpoint::read_state;
use crate::cli::args::TrainArgs;
use crate::cli::beat::Waiting;
use crate::cli::console::TrainConsole;
use crate::cli::launch::Launch;
use crate::cli::say::say;
use crate::cli::{curve, policy, signals};
use crate::config::TrainConfig;
use crate::failure::{Failure, FailureKind};
use crate::run_folder::RunFolder;
use crate::train::{ConfigChange, Outcome, Parts, Start, StartedCommands, Team, Trainer};
use load::{check_shape, first_policy, read_problems, with_reference};
use rpg_core::ops::DecodeBackend;
use rpg_losses::{Kind, ObjectiveConfig};
use rpg_reward::Reward;
use std::path::{Path, PathBuf};

pub(super) fn run(args: TrainArgs) -> Result<(), Failure> {
    let launch = Launch::start()?;
    if args.print_config || args.dry_run {
        let looked = launch.team().first(|| look(&args, &launch));
        let looked = looked.map_err(|failure| launch.team().tell(failure));
        return launch.end(looked).map(|_| ());
    }
    let json = args.json;
    let trained = train(args, &launch);
    match launch.end(trained)? {
        Some((folder, outcome)) => report(&folder, &outcome, json),
        None => Ok(()),
    }
}

/// Shows what a run would be, without starting it.
fn look(args: &TrainArgs, launch: &Launch) -> Result<(), Failure> {
    let (config, ..) = given(args)?;
    if args.print_config {
        return output::line(config.to_toml().trim_end());
    }
    dry_run::run(&config, launch, args.json)
}

/// The config that the flags give, a name for the run, and how they change the config of a run that is resumed.
fn given(args: &TrainArgs) -> Result<(TrainConfig, String, Option<ConfigChange>), Failure> {
    match &args.resume {
        Some(root) => {
            let (config, change) = resumed(args, root)?;
            Ok((config, String::new(), change))
        }
        None => {
            let (config, name) = resolve(args)?;
            Ok((config, name, None))
        }
    }
}

/// Trains, as one of the ranks that were started together.
fn train(args: TrainArgs, launch: &Launch) -> Result<(RunFolder, Outcome), Failure> {
    let team = launch.team().clone();
    let (config, name, change) = given(&args).map_err(|failure| team.tell(failure))?;
    launch.watch(&config.distributed);
    for warning in config.objective.warnings() {
        say!("warning: objective: {warning}");
    }
    for warning in config.warnings() {
        say!("warning: {warning}");
    }
    dry_run::check_memory(&config, launch).map_err(|failure| team.tell(failure))?;
    let backend = args.backend.unwrap_or(config.backend);
    let device = Device::find(backend, launch.local_rank());
    let device = device.map_err(|failure| team.tell(failure))?;
    let team = launch.connected(config.distributed.transport, &device)?;
    device.run(Run {
        args,
        config,
        name,
        change,
        team,
    })
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
    team: Team,
}

impl OnBackend for Run {
    type Output = Result<(RunFolder, Outcome), Failure>;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output {
        let team = &self.team;
        // Until the run begins, a failure is that of all ranks.
        let tell = |failure| team.tell(failure);
        let Ready {
            start,
            rewards,
            folder,
            notes,
        } = self.prepare::<B>(&device).map_err(tell)?;
        let parts = Parts::over(team.clone(), &self.config, &start, &folder, rewards);
        let mut parts = parts.map_err(tell)?;
        parts.reporters.insert(0, Box::new(TrainConsole::default()));
        parts.interrupt = signals::listen();
        let trainer = Trainer::new(&self.config, &folder, start, parts).map_err(tell)?;
        // Nothing is refused from here on.
        if let Some(change) = &self.change
            && team.is_first()
        {
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

/// All that a run needs, checked, and its folder.
struct Ready<B: DecodeBackend> {
    start: Start<B>,
    rewards: Vec<Box<dyn Reward>>,
    folder: RunFolder,
    notes: Vec<String>,
}

impl Run {
    /// Everything that can be wrong is found before the run folder is created.
    fn prepare<B: DecodeBackend>(&self, device: &B::Device) -> Result<Ready<B>, Failure> {
        let config = &self.config;
        let commands = StartedCommands::start(&config.reward)?;
        let (resumed, checkpoint) = self.resumed()?;
        let waiting = Waiting::for_the_end_of("loading the policy");
        let (policy, tokenizer) = first_policy::<B>(config, checkpoint.as_deref(), device)?;
        drop(waiting);
        if let (Some(folder), Some(_)) = (&resumed, &checkpoint) {
            check_shape(config, policy.config(), folder)?;
        }
        policy::note_on_ends(&policy, &tokenizer);
        let mut start = read_problems(config, policy, tokenizer)?;
        for server in start.check_sampler(config)? {
            say!("server: {server}");
        }
        start = with_reference(config, start, device)?;
        let rewards = commands.check()?;
        start.check_ranks(config, &self.team)?;
        let mut notes = Vec::new();
        let folder = match (resumed, checkpoint) {
            (Some(folder), Some(checkpoint)) => {
                say!("resuming from {}", checkpoint.display());
                if let Some(change) = &self.change {
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
            (None, _) => self.new_folder()?,
        };
        let trained = match start.policy().n_trained() {
            Some(n) => format!(", of which {n} are trained,"),
            None => String::new(),
        };
        let ranks = if self.team.is_alone() {
            String::new()
        } else {
            format!(", {} ranks", self.team.world())
        };
        say!(
            "{} parameters{trained} on {}{ranks}; objective {}, seed {}; run folder {}",
            start.policy().config().n_parameters(),
            B::name(device),
            describe(&config.objective),
            config.seed,
            folder.root().display()
        );
        Ok(Ready {
            start,
            rewards,
            folder,
            notes,
        })
    }

    /// The folder of a run that is resumed, which the first rank locks, and the checkpoint from which all ranks go on.
    fn resumed(&self) -> Result<(Option<RunFolder>, Option<PathBuf>), Failure> {
        let Some(root) = &self.args.resume else {
            return Ok((None, None));
        };
        let mut folder = RunFolder::open(root)?;
        let checkpoint = self.team.first(|| {
            folder = RunFolder::open_to_resume(root)?;
            let (checkpoint, notes) = folder.newest_whole_checkpoint()?;
            for note in notes {
                say!("warning: {note}");
            }
            Ok(checkpoint)
        })?;
        Ok((Some(folder), checkpoint))
    }

    /// The folder of a new run, which the first rank creates.
    fn new_folder(&self) -> Result<RunFolder, Failure> {
        let mut created = None;
        let root = self.team.first(|| {
            let text = self.config.to_toml();
            let folder = match &self.args.run_dir {
                Some(root) => RunFolder::create(root, &text)?,
                None => RunFolder::create_next(Path::new("runs"), &self.name, &text)?,
            };
            let root = folder.root().to_owned();
            created = Some(folder);
            Ok(root)
        })?;
        match created {
            Some(folder) => Ok(folder),
            None => RunFolder::open(&root),
        }
    }
}

/// Adds to the hint of a failure that may pass, such as that of a reward or a full disk, how to resume the run.
fn resumable(failure: Failure, folder: &RunFolder) -> Failure {
    if !(failure.kind.may_pass() || failure.kind == FailureKind::Internal) {
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
