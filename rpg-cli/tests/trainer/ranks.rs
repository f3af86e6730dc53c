//! Ranks as threads of one process: they give what one gives, up to rounding, and of themselves always the same bits.

use super::{config, experts};
use burn::backend::Flex;
use rpg_cli::config::{ScratchModel, TrainConfig};
use rpg_cli::failure::{Failure, FailureKind};
use rpg_cli::interrupt::Interrupt;
use rpg_cli::optim::{AdamW, AdamWConfig};
use rpg_cli::run_folder::{METRICS, RunFolder, SAMPLES};
use rpg_cli::train::{Learner, Outcome, Parts, Start, StepReport, Team, ThreadRanks, Trainer};
use rpg_core::model::{Activations, CausalLm};
use rpg_core::score::{Entropy, ScoreItem, score, score_on_tape};
use rpg_reward::{Reward, RewardError, RewardItem, Score};
use serde_json::{Map, Value};
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

fn dense() -> CausalLm<Flex> {
    let shape: ScratchModel = toml::from_str(
        "hidden_size = 16\nintermediate_size = 24\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
         num_key_value_heads = 1",
    )
    .unwrap();
    let (policy, _) = shape.init(1, &Default::default()).unwrap();
    policy
}

fn learner(policy: CausalLm<Flex>, team: &Team) -> Learner<Flex> {
    let optimizer = AdamW::new(AdamWConfig {
        betas: [0.9, 0.99],
        eps: 1e-3,
        weight_decay: 0.0,
    });
    Learner::over(team, policy, Box::new(optimizer), |policy, _| Ok(policy)).unwrap()
}

fn items() -> Vec<ScoreItem> {
    let item = |i: u32| ScoreItem::response(&[i, i + 1], &[i + 2, 3, i]);
    (1..=4).map(item).collect()
}

/// What an update on a share of the items reports, the log-probs after it, and how many values the rank's state has.
fn step(policy: fn() -> CausalLm<Flex>, team: &Team) -> (StepReport, Vec<f64>, usize) {
    let mut learner = learner(policy(), team);
    let items = items();
    let report = learner.step(
        items[team.share(items.len())].chunks(1),
        |policy, part| {
            let (entropy, activations) = (Entropy::Measured, Activations::Recompute);
            let (scores, tape) = score_on_tape(policy, part, 1.0, entropy, activations);
            Ok((scores.logprobs.sum().neg() / items.len() as f64, tape))
        },
        0.01,
        1.0,
    );
    let logprobs = score(&learner.policy().unwrap(), &items, 1.0).logprobs;
    let state = learner.optimizer_state().unwrap();
    let n_values = state.tensors.values().map(|tensor| tensor.shape()[0]);
    (
        report.unwrap(),
        logprobs.into_data().iter::<f64>().collect(),
        n_values.sum(),
    )
}

#[test]
fn shares_give_the_update_of_the_whole() {
    // What one rank's tokens take, another's need not.
    for policy in [dense, experts::policy] {
        let whole = step(policy, &Team::alone());
        // Of five ranks one has no item.
        for world in [2, 4, 5] {
            let shares = ThreadRanks::run(world, |team| step(policy, &team));
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs().max(1.0);
            for share in &shares {
                // The ranks agree bit for bit with each other, and up to rounding with a single rank.
                assert_eq!((&share.0, &share.1), (&shares[0].0, &shares[0].1));
                assert!(near(share.0.grad_norm, whole.0.grad_norm));
                for (a, b) in share.1.iter().zip(&whole.1) {
                    assert!(near(*a, *b), "{a} {b}");
                }
            }
            // The first rank collects the state of all; the others have their shards.
            assert_eq!(shares[0].2, whole.2);
            let others: usize = shares[1..].iter().map(|share| share.2).sum();
            assert!(others < whole.2 && others * world > whole.2 * (world - 1) / 2);
        }
    }
}

/// What happens on a rank when its reward scores a batch.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Fail,
    Interrupt,
}

/// Scores completions by their lengths, and acts at one of its batches.
struct Lengths {
    act: Option<Act>,
    batches_left: AtomicUsize,
    interrupt: Interrupt,
}

impl Reward for Lengths {
    fn name(&self) -> &str {
        "lengths"
    }

    fn score(
        &self,
        items: &[RewardItem<'_>],
        _on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Vec<Result<Score, RewardError>> {
        let acts = self.batches_left.fetch_sub(1, Ordering::Relaxed) == 1;
        let act = self.act.filter(|_| acts);
        if act == Some(Act::Interrupt) {
            self.interrupt.request();
        }
        let score = |item: &RewardItem<'_>| {
            if act == Some(Act::Fail) {
                let message = "no lengths left".into();
                return Err(RewardError::Failed { message });
            }
            Ok(Score::new((item.completion.chars().count() % 3) as f64))
        };
        items.iter().map(score).collect()
    }
}

fn small(sets: &[&str]) -> TrainConfig {
    let fixed = [
        "warm_start.steps=2",
        "warm_start.batch_size=5",
        "rollout.prompts_per_step=5",
        "rollout.max_new_tokens=6",
        "evaluate={problems=3, samples=2, every=1}",
        "train.steps=3",
        "optimizer={lr=0.01, eps=1e-3}",
        "checkpoint.samples_per_step=5",
    ];
    config(&[&fixed[..], sets].concat())
}

fn new_folder() -> (tempfile::TempDir, RunFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), "").unwrap();
    (dir, folder)
}

/// Starts or resumes a run on one of the ranks; `act` is what happens at a batch of its reward, counted from 1.
fn train(
    config: &TrainConfig,
    folder: &RunFolder,
    team: Team,
    act: Option<(Act, usize)>,
) -> Result<Outcome, Failure> {
    let device = Default::default();
    let checkpoint = folder.newest_checkpoint().ok();
    let (policy, tokenizer) = match &checkpoint {
        Some(dir) => rpg_cli::models::load_model::<Flex>(dir, &device)?,
        None => config.model.scratch.as_ref().unwrap().init(7, &device)?,
    };
    let mut start = Start::new(config, policy, tokenizer)?;
    if let Some(checkpoint) = checkpoint {
        start = start.resume(checkpoint);
    }
    let interrupt = Interrupt::default();
    let reward = Lengths {
        act: act.map(|(act, _)| act),
        batches_left: AtomicUsize::new(act.map_or(0, |(_, batch)| batch)),
        interrupt: interrupt.clone(),
    };
    let rewards: Vec<Box<dyn Reward>> = vec![Box::new(reward)];
    let mut parts = Parts::over(team.clone(), config, &start, folder, rewards)?;
    parts.interrupt = interrupt;
    let trainer = Trainer::new(config, folder, start, parts);
    trainer.map_err(|failure| team.tell(failure))?.run()
}

/// Trains on so many ranks to the end.
fn train_on(world: usize, config: &TrainConfig, folder: &RunFolder) {
    let outcomes = ThreadRanks::run(world, |team| train(config, folder, team, None).unwrap());
    let first = &outcomes[0];
    for outcome in &outcomes {
        assert_eq!(outcome.after, first.after);
        assert_eq!(outcome.checkpoint, first.checkpoint);
    }
}

type Line = Map<String, Value>;

/// The lines of a file without times.
fn lines(folder: &RunFolder, name: &str) -> Vec<Line> {
    let mut lines = folder.lines(name).unwrap();
    let is_time = |key: &str| key.starts_with("timing_s/") || key == "perf/throughput";
    lines
        .iter_mut()
        .for_each(|line| line.retain(|key, _| !is_time(key)));
    lines
}

/// The same numbers up to rounding, and the same completions exactly.
fn assert_near(found: &RunFolder, expected: &RunFolder) {
    let metrics = [found, expected].map(|folder| lines(folder, METRICS));
    assert_eq!(metrics[0].len(), metrics[1].len());
    for (found, expected) in metrics[0].iter().zip(&metrics[1]) {
        assert_eq!(found.len(), expected.len());
        for (name, expected) in expected {
            let (a, b) = (found[name].as_f64(), expected.as_f64());
            let is_near = a
                .zip(b)
                .map(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
            assert!(
                is_near.unwrap_or(found[name] == *expected),
                "{name}: {a:?} {b:?}"
            );
        }
    }
    let completions = [found, expected].map(|folder| {
        let lines = lines(folder, SAMPLES).into_iter();
        let keys = |line: Line| ["id", "completion", "reward"].map(|key| line[key].clone());
        lines.map(keys).collect::<Vec<_>>()
    });
    assert_eq!(completions[0], completions[1]);
    assert!(!completions[0].is_empty());
}

fn assert_same_bits(found: &RunFolder, expected: &RunFolder) {
    for name in [METRICS, SAMPLES] {
        assert_eq!(lines(found, name), lines(expected, name));
    }
    let [found, expected] = [found, expected].map(|folder| folder.newest_checkpoint().unwrap());
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [found, expected] = [&found, &expected].map(|dir| fs::read(dir.join(name)).unwrap());
        assert!(found == expected, "{name} differs");
    }
}

/// Settings of runs: the optimizers, policies that are scored, and steps that are sampled ahead.
const SETTINGS: [&[&str]; 4] = [
    &["reference.rule={every_steps=2}"],
    &["optimizer={kind='adamw_schedule_free', lr=0.01, eps=1e-3}"],
    &["rollout.max_staleness=1"],
    // A parameter of more than a block of codes.
    &[
        "optimizer={kind='adamw_8bit', lr=0.01, eps=1e-3}",
        "model.scratch.intermediate_size=300",
    ],
];

#[test]
fn any_number_of_ranks_gives_the_numbers_of_one() {
    for sets in SETTINGS {
        let config = small(sets);
        let (_dir, alone) = new_folder();
        train(&config, &alone, Team::alone(), None).unwrap();
        for world in [2, 3, 4] {
            let (_dirs, folders): (Vec<_>, Vec<_>) =
                [(); 2].map(|()| new_folder()).into_iter().unzip();
            folders
                .iter()
                .for_each(|folder| train_on(world, &config, folder));
            assert_near(&folders[0], &alone);
            assert_same_bits(&folders[1], &folders[0]);
        }
    }
}

#[test]
fn an_interrupt_of_one_rank_stops_all_and_any_number_goes_on() {
    for sets in SETTINGS {
        let config = small(sets);
        let (_dir, straight) = new_folder();
        train_on(3, &config, &straight);
        for world in [1, 2, 3] {
            let (_dir, folder) = new_folder();
            let outcomes = ThreadRanks::run(3, |team| {
                // The batches of the first evaluation, step 1 and its evaluation come before.
                let act = (team.rank() == 1).then_some((Act::Interrupt, 4));
                train(&config, &folder, team, act).unwrap()
            });
            for outcome in outcomes {
                assert_eq!((outcome.steps, outcome.interrupted), (1, true));
            }
            train_on(world, &config, &folder);
            if world == 3 {
                assert_same_bits(&folder, &straight);
            } else {
                assert_near(&folder, &straight);
            }
        }
    }
}

#[test]
fn a_failure_of_one_rank_is_that_of_all_after_the_last_whole_step() {
    // Which batch is that of step 2: ahead, it comes before the evaluation of step 1.
    for (n, batch) in [(0, 4), (1, 3)] {
        let config = small(&[&format!("rollout.max_staleness={n}")]);
        let (_dir, folder) = new_folder();
        let failures = ThreadRanks::run(3, |team| {
            let act = (team.rank() == 2).then_some((Act::Fail, batch));
            train(&config, &folder, team, act).unwrap_err()
        });
        for failure in failures {
            assert_eq!(failure.kind, FailureKind::Reward);
            assert!(failure.message.starts_with("rank 2: "), "{failure}");
            assert!(failure.message.contains("no lengths left"), "{failure}");
        }
        let checkpoint = folder.newest_checkpoint().unwrap();
        assert!(checkpoint.ends_with("step-000003"), "{checkpoint:?}");
    }
}

#[test]
fn ranks_that_differ_are_refused() {
    let configs = [small(&[]), small(&["optimizer.lr=0.02"])];
    let (_dir, folder) = new_folder();
    let failures = ThreadRanks::run(2, |team| {
        train(&configs[team.rank()], &folder, team, None).unwrap_err()
    });
    let expected = "rank 1: optimizer.lr: found 0.02; expected 0.01, as on rank 0";
    for failure in failures {
        assert_eq!(failure.kind, FailureKind::Input);
        assert_eq!(failure.message, expected);
    }
    assert!(folder.newest_checkpoint().is_err());
}
