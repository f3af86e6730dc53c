//! Small runs over servers, and what happens to the servers meanwhile.

use burn::backend::Flex;
use rpg_cli::config::TrainConfig;
use rpg_cli::failure::Failure;
use rpg_cli::models::load_model;
use rpg_cli::run_folder::{METRICS, RunFolder};
use rpg_cli::train::report::{Activity, Event, Progress, Reporter};
use rpg_cli::train::{Outcome, Parts, Start, Team, Trainer};
use rpg_core::model::{AdapterFolder, CausalLm, ModelConfig, SaveDtype};
use rpg_core::tokenizer::Tokenizer;
use serde_json::{Map, Value};

/// The seed of the weights before the warm start.
const SEED: u64 = 7;

/// Three short steps. The heads are as small as vLLM takes them on a CPU.
const SMALL: [&str; 13] = [
    "model.scratch={hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2, \
     num_key_value_heads=1}",
    "data.task.digits=1",
    "warm_start.steps=4",
    "warm_start.batch_size=8",
    "warm_start.lr=0.01",
    "rollout.prompts_per_step=8",
    "rollout.samples_per_prompt=4",
    "rollout.server.concurrency=4",
    "optimizer={lr=0.01}",
    "train.steps=3",
    "train.max_generation_batches=0",
    "evaluate={problems=2, samples=2}",
    "checkpoint.every=1",
];

/// The setting that names servers.
pub(crate) fn servers(urls: &[&str]) -> String {
    format!("rollout.server.urls={urls:?}")
}

/// Three short steps with these settings, as flags of the command.
pub(crate) fn flags(sets: &[&str]) -> Vec<String> {
    let sets = SMALL.iter().chain(sets);
    sets.map(|set| format!("--set={set}")).collect()
}

/// A config of three short steps over these servers.
pub(crate) fn config(urls: &[&str], sets: &[&str]) -> TrainConfig {
    let sets = SMALL.iter().chain(sets).map(|set| (*set).to_owned());
    let sets: Vec<String> = sets.chain([servers(urls)]).collect();
    TrainConfig::recipe("arithmetic", &sets).unwrap()
}

/// The model that servers are started with: the policy of a run before its warm start.
pub(crate) struct Model {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tokenizer: Tokenizer,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// One of another shape.
    pub(crate) fn with(change: impl FnOnce(&mut ModelConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shape = config(&[], &[]).model.scratch.unwrap();
        let (mut shape, tokenizer) = shape.config().unwrap();
        change(&mut shape);
        let model = CausalLm::<Flex>::init(&shape, SEED, &Default::default());
        model.save_hf(dir.path(), SaveDtype::F32).unwrap();
        tokenizer.save(dir.path()).unwrap();
        Self { dir, tokenizer }
    }
}

/// The lines of a run, without what may differ between two runs.
pub(crate) fn metrics(folder: &RunFolder) -> Vec<Map<String, Value>> {
    let mut lines = folder.lines(METRICS).unwrap();
    for line in &mut lines {
        line.retain(|key, _| {
            let mut differs = ["timing_s/", "perf/throughput", "rollout/server/"].iter();
            !differs.any(|prefix| key.starts_with(prefix))
        });
    }
    lines
}

/// A run and its folder.
pub(crate) struct Run {
    config: TrainConfig,
    folder: RunFolder,
    _dir: tempfile::TempDir,
}

impl Run {
    pub(crate) fn new(config: TrainConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run"), &config.to_toml()).unwrap();
        Self {
            config,
            folder,
            _dir: dir,
        }
    }

    /// Starts the run, or resumes it from its newest checkpoint.
    pub(crate) fn go(&self) -> Result<Outcome, Failure> {
        self.go_with(Meanwhile::nothing())
    }

    /// The same while something happens.
    pub(crate) fn go_with(&self, meanwhile: Meanwhile<'_>) -> Result<Outcome, Failure> {
        self.go_over(Team::alone(), meanwhile)
    }

    /// The same over ranks, all of which call this.
    pub(crate) fn go_over(&self, team: Team, meanwhile: Meanwhile<'_>) -> Result<Outcome, Failure> {
        let checkpoint = self.folder.newest_checkpoint().ok();
        let device = Default::default();
        let scratch = self.config.model.scratch.as_ref().unwrap();
        let (mut policy, tokenizer) = match &checkpoint {
            Some(dir) if self.config.lora.is_none() => load_model::<Flex>(dir, &device)?,
            _ => scratch.init(SEED, &device)?,
        };
        if let Some(lora) = &self.config.lora {
            let adapted = match &checkpoint {
                Some(dir) => policy.with_adapter_of(&AdapterFolder::open(dir).unwrap()),
                None => {
                    let lora = lora.adapter(policy.config());
                    policy.with_adapter(&lora, SEED)
                }
            };
            policy = adapted.map_err(Failure::input)?;
        }
        let mut start = Start::new(&self.config, policy, tokenizer)?;
        if let Some(checkpoint) = checkpoint {
            start = start.resume(checkpoint);
        }
        let mut parts = Parts::over(team, &self.config, &start, &self.folder, Vec::new())?;
        parts.reporters.push(Box::new(meanwhile));
        Trainer::new(&self.config, &self.folder, start, parts)?.run()
    }

    /// All lines, without what may differ between two runs.
    pub(crate) fn metrics(&self) -> Vec<Map<String, Value>> {
        metrics(&self.folder)
    }

    /// A metric of every step.
    pub(crate) fn metric(&self, name: &str) -> Vec<f64> {
        let lines = self.folder.lines(METRICS).unwrap();
        let steps = lines.iter().filter(|line| line["phase"] == "train");
        steps.map(|line| line[name].as_f64().expect(name)).collect()
    }

    /// The names of the policies that servers can load.
    pub(crate) fn weights(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path("weights")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into())
            .collect()
    }
}

/// Does something once, as soon as a step has its first completion.
pub(crate) struct Meanwhile<'a> {
    step: u64,
    done: u64,
    act: Option<Box<dyn FnOnce() + 'a>>,
}

impl<'a> Meanwhile<'a> {
    pub(crate) fn in_step(step: u64, act: impl FnOnce() + 'a) -> Self {
        Self {
            step,
            done: 0,
            act: Some(Box::new(act)),
        }
    }

    pub(crate) fn nothing() -> Self {
        Self::in_step(0, || {})
    }
}

impl Reporter for Meanwhile<'_> {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        match event {
            Event::Start { done, .. } => self.done = *done,
            Event::Step { step, .. } => self.done = *step,
            _ => {}
        }
        Ok(())
    }

    fn on_progress(&mut self, progress: Progress) {
        // Before the first completion the servers may still be loading the weights.
        if progress.activity == Activity::Sampling
            && progress.done > 0
            && self.done + 1 == self.step
            && let Some(act) = self.act.take()
        {
            act();
        }
    }
}
