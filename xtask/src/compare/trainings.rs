//! Runs of `rpg train`, some at a time: those that are there are kept, those that were stopped are resumed.

use super::Options;
use super::plan::{Entry, Part, RECIPE, SHARED, STEPS};
use super::record::Record;
use crate::build;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};
use std::time::Instant;
use xshell::Shell;

/// The name of the folder of an entry's run.
pub(super) fn run_name(entry: &Entry, seed: u64) -> String {
    format!("{}-seed{seed}", entry.name)
}

/// What is needed to make runs.
pub(super) struct Trainings<'a> {
    binary: PathBuf,
    options: &'a Options,
    threads: usize,
}

/// One run.
struct Training {
    name: String,
    // Of `rpg train`, without the folder.
    args: Vec<String>,
    seed: u64,
    is_method: bool,
}

impl Training {
    /// The supervised start that all runs of a seed share.
    fn warm_start(seed: u64) -> Self {
        Self {
            name: format!("warm-start-seed{seed}"),
            args: arguments(
                seed,
                &["train.steps=0", "evaluate.problems=0", "backend=cpu"],
            ),
            seed,
            is_method: false,
        }
    }

    fn of(entry: &Entry, seed: u64, policy: &Path) -> Self {
        let policy = format!("model={{path='{}'}}", policy.display());
        let steps = format!("train.steps={STEPS}");
        let mut sets = vec![&*policy, &*steps];
        sets.extend(SHARED);
        sets.extend(entry.sets.iter().map(String::as_str));
        Self {
            name: run_name(entry, seed),
            args: arguments(seed, &sets),
            seed,
            is_method: entry.part == Part::Methods,
        }
    }
}

fn arguments(seed: u64, sets: &[&str]) -> Vec<String> {
    let mut args = vec!["--recipe".to_owned(), RECIPE.to_owned()];
    args.extend(["--seed".to_owned(), seed.to_string()]);
    for set in sets {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    args
}

impl<'a> Trainings<'a> {
    pub(super) fn new(shell: &Shell, options: &'a Options) -> Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let logs = options.dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        Ok(Self {
            // On the CPU a seed gives the same numbers everywhere, however many threads compute them.
            binary: build(shell, "")?,
            options,
            threads: (cores / options.jobs).max(1),
        })
    }

    /// Makes the runs that are not there yet.
    pub(super) fn run(&self, entries: &[Entry]) -> Result<()> {
        let seeds = 0..self.options.seeds;
        let warm_starts: Vec<Training> = seeds.clone().map(Training::warm_start).collect();
        self.all(&warm_starts)?;
        let mut trainings = Vec::new();
        for seed in seeds {
            let policy = self.policy(seed)?;
            let of_entry = |entry| Training::of(entry, seed, &policy);
            trainings.extend(entries.iter().map(of_entry));
        }
        // The methods before their variants, and all of them once before any a second time.
        trainings.sort_by_key(|training| !training.is_method);
        self.all(&trainings)
    }

    /// The policy after the warm start.
    fn policy(&self, seed: u64) -> Result<PathBuf> {
        let run = self.options.dir.join(Training::warm_start(seed).name);
        let checkpoints = run.join("checkpoints");
        let folders = fs::read_dir(&checkpoints)
            .and_then(|folders| folders.collect::<Result<Vec<_>, _>>())
            .with_context(|| format!("cannot read {}", checkpoints.display()))?;
        let newest = folders.into_iter().map(|folder| folder.path()).max();
        newest.with_context(|| format!("{} has no checkpoint", checkpoints.display()))
    }

    fn all(&self, trainings: &[Training]) -> Result<()> {
        let mut missing = Vec::new();
        for training in trainings {
            self.check_arguments(training)?;
            let folder = self.options.dir.join(&training.name);
            if Record::read(&folder, training.seed)?.is_none() {
                missing.push(training);
            }
        }
        let started = Instant::now();
        let (next, n_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failure = Mutex::new(None);
        let work = || {
            while let Some(training) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.one(training) {
                    // No more are begun; those that run, end.
                    next.store(missing.len(), Ordering::Relaxed);
                    let mut failure = failure.lock().expect("no thread panics");
                    failure.get_or_insert(error);
                    return;
                }
                let n = n_done.fetch_add(1, Ordering::Relaxed) + 1;
                let seconds = started.elapsed().as_secs_f64();
                let left = seconds / n as f64 * (missing.len() - n) as f64 / 60.0;
                eprintln!(
                    "{n}/{} {}; about {left:.0} minutes left",
                    missing.len(),
                    training.name
                );
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.options.jobs {
                scope.spawn(work);
            }
        });
        match failure.into_inner().expect("no thread panics") {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Notes with what a run is made; refuses a run that was made with something else.
    fn check_arguments(&self, training: &Training) -> Result<()> {
        let path = self.log(training, "args");
        let args = training.args.join("\n");
        match fs::read_to_string(&path) {
            Ok(found) => ensure!(
                found == args,
                "{} was made with other settings; remove it, or name another folder with --dir",
                self.options.dir.join(&training.name).display()
            ),
            Err(_) => fs::write(&path, args)
                .with_context(|| format!("cannot write {}", path.display()))?,
        }
        Ok(())
    }

    fn log(&self, training: &Training, extension: &str) -> PathBuf {
        let logs = self.options.dir.join("logs");
        logs.join(format!("{}.{extension}", training.name))
    }

    fn one(&self, training: &Training) -> Result<()> {
        let folder = self.options.dir.join(&training.name);
        let log = self.log(training, "log");
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.binary);
        command.arg("train");
        if folder.exists() {
            command.arg("--resume").arg(&folder);
        } else {
            command.args(&training.args).arg("--run-dir").arg(&folder);
        }
        let status = command
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        ensure!(
            status.success(),
            "{} ended with {status}; it says why in {}",
            training.name,
            log.display()
        );
        Ok(())
    }
}
