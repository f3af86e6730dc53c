//! A pool of external processes: answers in order, crashes, time limits, bad answers.
#![cfg(unix)]

use std::time::{Duration, Instant};

use rpg_reward::external::{
    ErrorPolicy, ExternalConfig, ExternalReward, MathReward, Reward, RewardError, RewardItem,
};

/// A pool of shell scripts.
fn pool(script: &str) -> ExternalConfig {
    ExternalConfig {
        batch_timeout: 20.0,
        ..ExternalConfig::new(["sh", "-c", script])
    }
}

fn items(count: usize) -> Vec<RewardItem<'static>> {
    vec![
        RewardItem {
            prompt: "2 + 2",
            completion: "\\boxed{4}",
            gold: "4"
        };
        count
    ]
}

/// Answers every line with its number among those that this process has read.
const COUNTING: &str = r#"n=0; while read -r line; do echo "{\"score\": $n}"; n=$((n+1)); done"#;

#[test]
fn answers_come_in_order_and_processes_stay() {
    let reward = ExternalReward::new(ExternalConfig {
        processes: 2,
        ..pool(COUNTING)
    });
    let scores = |n| -> Vec<f64> {
        reward
            .score(&items(n))
            .into_iter()
            .map(|s| s.expect("a score").score)
            .collect()
    };
    assert_eq!(scores(5), [0.0, 1.0, 2.0, 0.0, 1.0]);
    assert_eq!(scores(2), [3.0, 2.0]);
    assert_eq!(scores(0), [0.0; 0]);
    assert_eq!(reward.errors(), 0);
}

#[test]
fn large_batches_do_not_block() {
    let reward = ExternalReward::new(pool(COUNTING));
    let long = "x".repeat(20_000);
    let items = vec![
        RewardItem {
            prompt: "",
            completion: &long,
            gold: "4"
        };
        100
    ];
    assert!(reward.score(&items).iter().all(Result::is_ok));
}

#[test]
fn a_process_that_ends_is_started_again() {
    // Answers one line and ends.
    let once = r#"read -r line; echo '{"score": 1}'"#;
    let config = ExternalConfig {
        processes: 1,
        max_restarts: 2,
        ..pool(once)
    };
    let reward = ExternalReward::new(config.clone());
    assert!(reward.score(&items(3)).iter().all(Result::is_ok));
    let scores = reward.score(&items(5));
    assert_eq!(scores.iter().filter(|s| s.is_ok()).count(), 3);
    assert_eq!(scores[4], Err(RewardError::Ended { restarts: 2 }));
    assert_eq!(reward.errors(), 2);
    let lenient = ExternalReward::new(ExternalConfig {
        on_error: ErrorPolicy::Score(-1.0),
        ..config
    });
    let last = lenient
        .score(&items(5))
        .pop()
        .expect("five scores")
        .expect("a score");
    assert_eq!(
        (last.score, last.parts["error"], lenient.errors()),
        (-1.0, 1.0, 2)
    );
}

#[test]
fn a_process_that_hangs_is_stopped_in_time() {
    let config = ExternalConfig {
        batch_timeout: 0.3,
        ..pool("exec sleep 60")
    };
    let reward = ExternalReward::new(config);
    let start = Instant::now();
    for _ in 0..2 {
        let scores = reward.score(&items(3));
        assert!(
            scores
                .iter()
                .all(|s| *s == Err(RewardError::Timeout { seconds: 0.3 })),
            "{scores:?}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_no_score_is_an_error() {
    let rows = [
        ("echo nonsense", "expected"),
        (r#"echo '{"score": null}'"#, "null"),
        (r#"echo '{"id": 7, "score": 1}'"#, "another item"),
        (r#"echo '{"score": 1e999}'"#, "number out of range"),
    ];
    for (script, message) in rows {
        let reward = ExternalReward::new(pool(&format!("while read -r line; do {script}; done")));
        let error = reward.score(&items(1)).remove(0).expect_err(script);
        assert!(matches!(error, RewardError::BadAnswer { .. }), "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
    }
    let missing = ExternalReward::new(ExternalConfig::new(["/no/such/program"]));
    assert!(matches!(
        missing.score(&items(1))[0],
        Err(RewardError::Start { .. })
    ));
}

#[test]
fn the_python_example_answers() {
    let found = std::process::Command::new("python3")
        .arg("--version")
        .output();
    if !found.is_ok_and(|o| o.status.success()) {
        println!("skipped: no python3");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/length_reward.py");
    let reward = ExternalReward::new(ExternalConfig::new(["python3", script]));
    let score = reward.score(&items(1)).remove(0).expect("a score");
    assert_eq!((score.score, score.parts["found"]), (0.999, 1.0));
}

#[test]
fn the_grader_is_a_reward() {
    let mut batch = items(2);
    batch[1].gold = "5";
    let scores: Vec<f64> = MathReward::default()
        .score(&batch)
        .into_iter()
        .map(|s| s.expect("a score").score)
        .collect();
    assert_eq!(scores, [1.0, 0.0]);
}
