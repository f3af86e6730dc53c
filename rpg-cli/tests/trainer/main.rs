//! The training loop as a library, with sampling, reward, optimizer, ranks and reporting replaced.

mod correction;
mod experts;
mod filter;
mod mass;
mod ranks;
mod reference;
mod staleness;
mod truncated;

use burn::backend::{Autodiff, Flex};
use burn::module::ParamId;
use burn::optim::GradientsParams;
use rpg_cli::config::TrainConfig;
use rpg_cli::failure::{Failure, FailureKind};
use rpg_cli::interrupt::Interrupt;
use rpg_cli::optim::{Optimizer, OptimizerState, StateError};
use rpg_cli::run_folder::{METRICS, RunFolder};
use rpg_cli::train::report::{Event, Reporter};
use rpg_cli::train::{Outcome, Parts, Start, Team, Trainer};
use rpg_core::model::CausalLm;
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Completion, Group, StopReason};
use rpg_reward::{Reward, RewardError, RewardItem, Score};
use rpg_rollout::generate::{GenerateError, GenerateOptions, Progress, Request};
use rpg_rollout::rollouts::Rollouts;
use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GOOD: &str = "Answer: 7";
const BAD: &str = "Answer: 8";

/// What happened, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// How a sampler's log-probs differ from the policy's.
#[derive(Clone, Copy)]
struct Mismatch {
    /// What is added to those of the tokens of the two texts.
    offsets: [f32; 2],
    is_exact: bool,
}

/// Samples two texts in turn, whatever the policy is, with the log-probs that the policy gives them, but for a mismatch.
struct ScriptedRollouts {
    mismatch: Mismatch,
    /// Why each of the texts ends.
    stops: [StopReason; 2],
    tokenizer: Tokenizer,
    policy: Option<CausalLm<Flex>>,
    log: Log,
    synced: Arc<Mutex<Vec<f64>>>,
}

impl Rollouts<Flex> for ScriptedRollouts {
    fn sync(&mut self, policy: &CausalLm<Flex>) -> Result<(), GenerateError> {
        self.policy = Some(policy.clone());
        self.log.lock().unwrap().push("sync".into());
        let known = log_prob(policy, &self.tokenizer, GOOD);
        self.synced.lock().unwrap().push(known);
        Ok(())
    }

    fn sample(
        &mut self,
        requests: &[Request],
        _options: &GenerateOptions,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Group>, GenerateError> {
        let policy = self.policy.as_ref().expect("`sync` comes first");
        self.log.lock().unwrap().push("sample".into());
        let n_completions = requests.iter().map(|request| request.seeds.len()).sum();
        let progress = Progress {
            n_finished: n_completions,
            n_completions,
            n_new_tokens: 0,
        };
        if on_progress(progress).is_break() {
            return Err(GenerateError::Interrupted);
        }
        let completion = |prompt: &[u32], text: &str, offset: f32, stop: StopReason| {
            let tokens = self.tokenizer.encode(text, false).unwrap();
            let item = ScoreItem::response(prompt, &tokens);
            let logprobs = score(policy, &[item], 1.0).logprobs.into_data();
            Completion {
                tokens,
                logprobs: logprobs.iter::<f32>().map(|x| x + offset).collect(),
                text: text.into(),
                stop,
            }
        };
        let groups = requests.iter().enumerate().map(|(prompt_idx, request)| {
            let texts = [GOOD, BAD].into_iter().zip(self.mismatch.offsets);
            let texts = texts.zip(self.stops).cycle();
            let samples = request.seeds.iter().zip(texts);
            Group {
                prompt_idx,
                prompt_tokens: request.prompt_tokens.clone(),
                completions: samples
                    .map(|(_, ((text, offset), stop))| {
                        completion(&request.prompt_tokens, text, offset, stop)
                    })
                    .collect(),
            }
        });
        Ok(groups.collect())
    }

    fn is_exact(&self) -> bool {
        self.mismatch.is_exact
    }

    fn release(&mut self) {
        self.policy = None;
    }
}

/// Scores texts, whatever the problem is, for a number of batches; then it fails.
struct Taste {
    score: fn(&str) -> Score,
    batches_left: AtomicUsize,
}

/// Likes one text.
fn likes_good(text: &str) -> Score {
    let likes = f64::from(u8::from(text == GOOD));
    Score::new(likes).with_part("correct", likes)
}

impl Reward for Taste {
    fn name(&self) -> &str {
        "taste"
    }

    fn score(
        &self,
        items: &[RewardItem<'_>],
        _on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Vec<Result<Score, RewardError>> {
        let decrement = |left: usize| left.checked_sub(1);
        let left = &self.batches_left;
        let works = left.fetch_update(Relaxed, Relaxed, decrement).is_ok();
        let score = |item: &RewardItem<'_>| {
            works
                .then(|| (self.score)(item.completion))
                .ok_or(RewardError::Failed {
                    message: "no taste left".into(),
                })
        };
        items.iter().map(score).collect()
    }
}

/// When a run is asked to stop.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    AfterStep(u64),
    /// After so many updates, which leaves no time to finish the step.
    AfterUpdate(usize),
}

/// Records what it is told, and requests a stop.
struct Recorder {
    log: Log,
    interrupt: Interrupt,
    stop: Option<Stop>,
    n_updates: usize,
}

impl Reporter for Recorder {
    fn on(&mut self, event: &Event<'_>) -> Result<(), Failure> {
        let line = match event {
            Event::Start { done, steps, .. } => format!("start {done}/{steps}"),
            Event::Graded { groups, .. } => format!("graded {}", groups.len()),
            Event::Evaluated {
                moment, evaluation, ..
            } => format!("evaluated {moment:?} {}", evaluation.mean_at_k),
            Event::Updated { update, updates } => {
                self.n_updates += 1;
                if self.stop == Some(Stop::AfterUpdate(self.n_updates)) {
                    self.interrupt.request();
                    std::thread::sleep(Duration::from_millis(2100));
                }
                format!("update {update}/{updates}")
            }
            Event::Step { step, rollout, .. } => {
                if self.stop == Some(Stop::AfterStep(*step)) {
                    self.interrupt.request();
                }
                format!("step {step}, {} kept", rollout.kept.len())
            }
            Event::End => "end".into(),
            other => format!("{other:?}"),
        };
        self.log.lock().unwrap().push(line);
        Ok(())
    }
}

/// The config's optimizer, whose updates are logged.
struct LoggedOptimizer {
    inner: Box<dyn Optimizer<Flex>>,
    log: Log,
}

impl Optimizer<Flex> for LoggedOptimizer {
    fn step(
        &mut self,
        point: CausalLm<Autodiff<Flex>>,
        grads: GradientsParams,
        lr: f64,
        grad_scale: f64,
    ) -> CausalLm<Autodiff<Flex>> {
        self.log.lock().unwrap().push("optimizer".into());
        self.inner.step(point, grads, lr, grad_scale)
    }

    fn averages(&self) -> bool {
        self.inner.averages()
    }

    fn policy(&self, point: CausalLm<Flex>) -> CausalLm<Flex> {
        self.inner.policy(point)
    }

    fn n_updates(&self) -> u64 {
        self.inner.n_updates()
    }

    fn restrict(&mut self, own: HashSet<ParamId>) {
        self.inner.restrict(own);
    }

    fn state(&self, point: &CausalLm<Flex>) -> OptimizerState {
        self.inner.state(point)
    }

    fn load_state(
        &mut self,
        policy: CausalLm<Flex>,
        state: &OptimizerState,
    ) -> Result<CausalLm<Flex>, StateError> {
        self.inner.load_state(policy, state)
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

fn log_prob(policy: &CausalLm<Flex>, tokenizer: &Tokenizer, text: &str) -> f64 {
    let encode = |text: &str| tokenizer.encode(text, false).unwrap();
    let item = ScoreItem::response(&encode("1+2=\n"), &encode(text));
    let logprobs = score(policy, &[item], 1.0).logprobs.into_data();
    logprobs.iter::<f64>().sum()
}

fn config(sets: &[&str]) -> TrainConfig {
    let small = [
        "model.scratch={hidden_size=16, intermediate_size=24, num_hidden_layers=1, \
         num_attention_heads=2, num_key_value_heads=1}",
        "data.task.digits=1",
        "warm_start.steps=0",
        "rollout.prompts_per_step=4",
        "rollout.samples_per_prompt=2",
        "optimizer={lr=0.01}",
        "train.steps=2",
        "train.mini_batches=2",
        "evaluate={problems=2, samples=2}",
        "checkpoint.every=1",
    ];
    let sets: Vec<String> = small
        .iter()
        .chain(sets)
        .map(|set| set.to_string())
        .collect();
    TrainConfig::recipe("arithmetic", &sets).unwrap()
}

/// A run with every part replaced.
struct TestRun {
    config: TrainConfig,
    score: fn(&str) -> Score,
    mismatch: Mismatch,
    stops: [StopReason; 2],
    team: Team,
    folder: RunFolder,
    log: Log,
    /// What tells the policies apart that the sampler was given, in order: the log-prob of a text.
    synced: Arc<Mutex<Vec<f64>>>,
    _dir: tempfile::TempDir,
}

impl TestRun {
    fn new(config: TrainConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run"), &config.to_toml()).unwrap();
        Self {
            config,
            score: likes_good,
            mismatch: Mismatch {
                offsets: [0.0; 2],
                is_exact: true,
            },
            stops: [StopReason::Eos; 2],
            team: Team::alone(),
            folder,
            log: Log::default(),
            synced: Arc::default(),
            _dir: dir,
        }
    }

    /// Starts the run, or resumes it from its newest checkpoint.
    fn start_or_resume(&self, batches: usize, stop: Option<Stop>) -> Result<Outcome, Failure> {
        let device = Default::default();
        let checkpoint = self.folder.newest_checkpoint().ok();
        let (policy, tokenizer) = match &checkpoint {
            Some(dir) => rpg_cli::models::load_model::<Flex>(dir, &device)?,
            None => self
                .config
                .model
                .scratch
                .as_ref()
                .unwrap()
                .init(7, &device)?,
        };
        let mut start = Start::new(&self.config, policy, tokenizer.clone())?;
        // In these tests the path of a reference is the seed of its weights.
        if let Some(seed) = &self.config.reference.path {
            let seed = seed.to_str().unwrap().parse().unwrap();
            let shape = self.config.model.scratch.as_ref().unwrap();
            let (reference, tokenizer) = shape.init(seed, &device)?;
            start = start.reference(&self.config, reference, &tokenizer)?;
        }
        if let Some(checkpoint) = checkpoint {
            start = start.resume(checkpoint);
        }
        let reward = Taste {
            score: self.score,
            batches_left: AtomicUsize::new(batches),
        };
        let mut parts = Parts::new(&self.config, &start, &self.folder, vec![Box::new(reward)])?;
        parts.rollouts = Box::new(ScriptedRollouts {
            mismatch: self.mismatch,
            stops: self.stops,
            tokenizer,
            policy: None,
            log: self.log.clone(),
            synced: self.synced.clone(),
        });
        parts.optimizer = Box::new(LoggedOptimizer {
            inner: parts.optimizer,
            log: self.log.clone(),
        });
        parts.team = self.team.clone();
        parts.reporters.push(Box::new(Recorder {
            log: self.log.clone(),
            interrupt: parts.interrupt.clone(),
            stop,
            n_updates: 0,
        }));
        Trainer::new(&self.config, &self.folder, start, parts)?.run()
    }

    /// The log-prob of a text under the policy of the newest checkpoint.
    fn log_prob(&self, text: &str) -> f64 {
        let dir = self.folder.newest_checkpoint().unwrap();
        let (policy, tokenizer) =
            rpg_cli::models::load_model::<Flex>(&dir, &Default::default()).unwrap();
        log_prob(&policy, &tokenizer, text)
    }

    fn metrics(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let mut lines = self.folder.lines(METRICS).unwrap();
        let is_time = |key: &str| key.starts_with("timing_s/") || key == "perf/throughput";
        lines
            .iter_mut()
            .for_each(|line| line.retain(|key, _| !is_time(key)));
        lines
    }
}

impl TestRun {
    /// Both runs have ended with the same metrics, and with the same bytes in policy and optimizer.
    fn assert_same(&self, other: &Self) {
        assert_eq!(self.metrics(), other.metrics());
        let [found, expected] = [self, other].map(|run| run.folder.newest_checkpoint().unwrap());
        for file in ["model.safetensors", "optimizer.safetensors"] {
            let [found, expected] =
                [&found, &expected].map(|dir| fs::read(dir.join(file)).unwrap());
            assert!(found == expected, "{file} differs");
        }
    }
}

#[test]
fn the_loop_is_algorithm_2() {
    let run = TestRun::new(config(&[]));
    let outcome = run.start_or_resume(usize::MAX, None).unwrap();
    let step = |step: u64| {
        let (one, two) = ("update 1/2".to_owned(), "update 2/2".to_owned());
        [
            "sync".to_owned(),
            "sample".to_owned(),
            "graded 4".to_owned(),
            "optimizer".to_owned(),
            one,
            "optimizer".to_owned(),
            two,
            format!("step {step}, 4 kept"),
        ]
    };
    let evaluation = |moment: &str| {
        let of_half = format!("evaluated {moment} 0.5");
        ["sync", "sample", "graded 2", of_half.as_str()].map(str::to_owned)
    };
    let expected = [
        vec!["start 0/2".to_owned()],
        evaluation("Before").to_vec(),
        step(1).to_vec(),
        step(2).to_vec(),
        evaluation("After").to_vec(),
        vec!["end".to_owned()],
    ];
    assert_eq!(*run.log.lock().unwrap(), expected.concat());
    assert_eq!((outcome.before, outcome.after), (0.5, 0.5));
    assert_eq!((outcome.steps, outcome.interrupted), (2, false));
}

#[test]
fn a_rewarded_completion_becomes_more_probable() {
    let run = TestRun::new(config(&["train.steps=12", "train.mini_batches=1"]));
    // The first checkpoint is that of the policy before the first step.
    assert!(run.start_or_resume(1, None).is_err());
    let before = run.log_prob(GOOD) - run.log_prob(BAD);
    run.start_or_resume(usize::MAX, None).unwrap();
    let after = run.log_prob(GOOD) - run.log_prob(BAD);
    assert!(after > before + 1.0, "{before} {after}");
}

#[test]
fn every_epoch_updates_from_all_completions_until_the_kl_divergence_is_too_large() {
    let updates = |sets: &[&str]| {
        let run = TestRun::new(config(sets));
        run.start_or_resume(usize::MAX, None).unwrap().updates.all
    };
    assert_eq!(updates(&["train.epochs=3"]), 2 * 3 * 2);
    // The first update of a step starts at the sampling policy, so only the second can be too far from it.
    assert_eq!(
        updates(&["train.epochs=3", "train.stop_at_kl=1e-12"]),
        2 * 2
    );
    assert_eq!(
        updates(&["train.epochs=3", "train.stop_at_kl=1e3"]),
        2 * 3 * 2
    );
}

#[test]
fn a_failing_reward_ends_the_run_after_the_last_whole_step() {
    let run = TestRun::new(config(&[]));
    // The first batch is the evaluation's, the second that of step 1.
    let failure = run.start_or_resume(2, None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Reward);
    assert!(failure.message.contains("no taste left"), "{failure}");
    let checkpoint = run.folder.newest_checkpoint().unwrap();
    assert!(checkpoint.ends_with("step-000001"), "{checkpoint:?}");
}

/// Settings of runs that are stopped: with a reference of its own, with an optimizer that averages, with one that rounds, and
/// with steps that are sampled ahead.
const STOPPED: [&[&str]; 5] = [
    &["train.steps=4", "reference.rule={every_steps=3}"],
    &[
        "train.steps=4",
        "optimizer={kind='adamw_schedule_free', lr=0.01, warmup_updates=3}",
    ],
    &["train.steps=4", "optimizer={kind='adamw_8bit', lr=0.01}"],
    &["train.steps=4", "rollout.max_staleness=1"],
    &[
        "train.steps=4",
        "rollout.max_staleness=2",
        "reference.rule={every_steps=3}",
        "optimizer={kind='adamw_schedule_free', lr=0.01, warmup_updates=3}",
    ],
];

#[test]
fn a_stopped_and_resumed_run_gives_the_numbers_of_an_uninterrupted_one() {
    for sets in STOPPED {
        let straight = TestRun::new(config(sets));
        straight.start_or_resume(usize::MAX, None).unwrap();
        let stopped = TestRun::new(config(sets));
        let stop = Some(Stop::AfterStep(2));
        let outcome = stopped.start_or_resume(usize::MAX, stop).unwrap();
        assert!(outcome.interrupted && outcome.after.is_nan());
        assert_eq!(outcome.steps, 2);
        let outcome = stopped.start_or_resume(usize::MAX, None).unwrap();
        assert_eq!((outcome.steps, outcome.interrupted), (4, false));
        stopped.assert_same(&straight);
    }
}

#[test]
fn a_step_that_cannot_be_finished_in_time_is_dropped_and_repeated() {
    for sets in STOPPED {
        let straight = TestRun::new(config(sets));
        straight.start_or_resume(usize::MAX, None).unwrap();
        let stopped = TestRun::new(config(sets));
        // The first update of step 3.
        let stop = Some(Stop::AfterUpdate(5));
        let outcome = stopped.start_or_resume(usize::MAX, stop).unwrap();
        assert_eq!((outcome.steps, outcome.interrupted), (2, true));
        assert!(outcome.checkpoint.ends_with("step-000002"));
        let log = std::mem::take(&mut *stopped.log.lock().unwrap());
        let last = log.iter().rfind(|line| *line != "sample");
        assert_eq!(last.map(String::as_str), Some("update 1/2"));
        let outcome = stopped.start_or_resume(usize::MAX, None).unwrap();
        assert_eq!((outcome.steps, outcome.interrupted), (4, false));
        stopped.assert_same(&straight);
    }
}

#[test]
fn averaged_weights_sample_and_others_are_trained() {
    let difference = |sets: &[&str], name: &str| {
        let run = TestRun::new(config(sets));
        run.start_or_resume(usize::MAX, None).unwrap();
        let steps = run.metrics().into_iter();
        let steps = steps.filter(|line| line["phase"] == "train");
        let name = format!("sampling/{name}_logp_difference/max");
        let differences = steps.map(|line| line.get(&name)?.as_f64());
        differences.collect::<Option<Vec<f64>>>()
    };
    let [_, averaged, ..] = STOPPED;
    let found = difference(averaged, "averaged").unwrap();
    // Before the first update the two are one, up to the rounding of a batch.
    assert!(found[0] < 1e-5, "{found:?}");
    assert!(found[1..].iter().all(|&d| d > 1e-3), "{found:?}");
    assert_eq!(difference(averaged, "sampling"), None);
    let found = difference(&["train.steps=4"], "sampling").unwrap();
    assert!(found.iter().all(|&d| d < 1e-5), "{found:?}");
    assert_eq!(difference(&["train.steps=4"], "averaged"), None);
}
