//! The process pool of a command: answers in order, crashes, time limits, bad answers.
#![cfg(unix)]

use rpg_reward::command::{CommandConfig, CommandReward};
use rpg_reward::{ErrorPolicy, Reward, RewardError, RewardItem, Score};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// A pool of processes of a shell script.
fn pool(script: &str, set: impl FnOnce(&mut CommandConfig)) -> CommandReward {
    let mut config = CommandConfig::new(["sh", "-c", script]);
    config.timeout_seconds = 20.0;
    set(&mut config);
    CommandReward::new(config)
}

fn items(count: usize) -> Vec<RewardItem<'static>> {
    vec![
        RewardItem {
            prompt: "2 + 2",
            completion: "\\boxed{4}",
            tokens: &[],
            gold: "4",
            columns: None
        };
        count
    ]
}

fn score_all(reward: &CommandReward, items: &[RewardItem<'_>]) -> Vec<Result<Score, RewardError>> {
    reward.score(items, &mut |_| ControlFlow::Continue(()))
}

/// Answers each line with its index among the lines that the process has read.
const COUNTING: &str = r#"n=0; while read -r line; do echo "{\"score\": $n}"; n=$((n+1)); done"#;

#[test]
fn answers_come_in_order_and_processes_are_kept() {
    let reward = pool(COUNTING, |config| config.processes = 2);
    let scores = |n| -> Vec<f64> {
        score_all(&reward, &items(n))
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
fn a_large_batch_does_not_block() {
    let reward = pool(COUNTING, |_| {});
    let long = "x".repeat(20_000);
    let items = vec![
        RewardItem {
            prompt: "",
            completion: &long,
            tokens: &[],
            gold: "4",
            columns: None
        };
        100
    ];
    assert!(score_all(&reward, &items).iter().all(Result::is_ok));
}

#[test]
fn a_process_that_ends_is_restarted() {
    // Answers one line and ends.
    let once = r#"read -r line; echo '{"score": 1}'"#;
    let reward = pool(once, |_| {});
    assert!(score_all(&reward, &items(5)).iter().all(Result::is_ok));
    assert!(score_all(&reward, &items(3)).iter().all(Result::is_ok));
    assert_eq!(reward.errors(), 0);
}

/// Does what the completion says, or else answers with the length of the line.
const OBEDIENT: &str = r#"while read -r line; do case "$line" in
    *crash*) exit 3;;
    *hang*) sleep 60;;
    *babble*) echo "let me see"; echo '{"score": 7}';;
    *) echo "{\"score\": ${#line}}";;
esac; done"#;

fn obedient<'a>(completions: &[&'a str]) -> Vec<RewardItem<'a>> {
    let item = |completion: &&'a str| RewardItem {
        prompt: "",
        completion,
        tokens: &[],
        gold: "",
        columns: None,
    };
    completions.iter().map(item).collect()
}

#[test]
fn only_the_failing_item_has_no_score_whatever_the_number_of_processes() {
    let batch = [
        "a", "crash", "bb", "hang", "crash", "ccc", "babble", "dddd", "eeeee", "crash",
    ];
    let failures = |processes, on_error| {
        let reward = pool(OBEDIENT, |config| {
            config.processes = processes;
            config.on_error = on_error;
            config.timeout_seconds = 1.0;
        });
        let scores = score_all(&reward, &obedient(&batch));
        let errors = reward.errors();
        (scores, errors)
    };
    let (expected, errors) = failures(1, ErrorPolicy::Skip);
    assert_eq!(errors, 5);
    let ended = Err(RewardError::Ended {
        status: "exit status: 3".into(),
        restarts: 1,
    });
    for (completion, score) in batch.iter().zip(&expected) {
        match *completion {
            "crash" => assert_eq!(*score, ended),
            "hang" => assert_eq!(*score, Err(RewardError::Timeout { seconds: 1.0 })),
            "babble" => assert!(matches!(score, Err(RewardError::BadAnswer { .. }))),
            _ => assert!(score.is_ok(), "{completion}: {score:?}"),
        }
    }
    let five = expected[8].as_ref().expect("a score").score;
    assert_eq!(five - expected[0].as_ref().expect("a score").score, 4.0);
    for processes in [2, 3, 10] {
        assert_eq!(
            failures(processes, ErrorPolicy::Skip),
            (expected.clone(), 5)
        );
    }
    let (lenient, errors) = failures(2, ErrorPolicy::Score(-1.0));
    assert_eq!(errors, 5);
    for (score, expected) in lenient.into_iter().zip(&expected) {
        let score = score.expect("a score");
        match expected {
            Ok(expected) => assert_eq!(score, *expected),
            Err(error) => assert_eq!(
                (score.score, score.parts["error"], score.error.as_ref()),
                (-1.0, 1.0, Some(error))
            ),
        }
    }
}

#[test]
fn the_first_failure_stops_the_batch() {
    let batch = ["a", "b", "crash", "c", "crash", "d", "e", "f"];
    for processes in 1..=8 {
        let reward = pool(OBEDIENT, |config| config.processes = processes);
        let scores = score_all(&reward, &obedient(&batch));
        let first = scores.iter().position(Result::is_err);
        assert_eq!(first, Some(2), "{processes} processes");
        assert!(matches!(scores[2], Err(RewardError::Ended { .. })));
    }
}

#[test]
fn a_caller_who_stops_need_not_wait() {
    let reward = pool(OBEDIENT, |_| {});
    let start = Instant::now();
    let mut n_done = 0;
    let scores = reward.score(&obedient(&["a", "hang", "b", "c"]), &mut |done| {
        n_done = done;
        if start.elapsed() < Duration::from_millis(300) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!((n_done, scores[1].clone()), (3, Err(RewardError::NotAsked)));
    assert!(scores[0].is_ok() && scores[3].is_ok());
    assert_eq!(reward.errors(), 0);
}

#[test]
fn a_command_that_ends_at_once_is_noticed_before_the_first_item() {
    let check = |script: &str| {
        let reward = pool(script, |_| {});
        reward.start().expect("sh starts");
        std::thread::sleep(Duration::from_millis(300));
        reward.check_running()
    };
    assert_eq!(check(COUNTING), Ok(()));
    let error = check("exit 7").expect_err("it has ended");
    assert!(error.to_string().contains("exit status: 7"), "{error}");
}

#[test]
fn no_process_outlives_the_pool() {
    let file = |name: &str| std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let started = file("rpg-reward-started");
    // The process that hangs has a child, which does not see the end of the input and is not our child.
    let script = format!(
        "sleep 300 & echo $! >> {0}; echo $$ >> {0}; wait; :",
        started.display()
    );
    let reward = pool(&script, |config| {
        config.timeout_seconds = 0.5;
        config.max_restarts = 0;
    });
    assert!(score_all(&reward, &items(2)).iter().all(Result::is_err));
    reward.start().expect("sh starts");
    std::thread::sleep(Duration::from_millis(200));
    drop(reward);
    let ids = std::fs::read_to_string(&started).expect("the file exists");
    let _ = std::fs::remove_file(&started);
    assert!(ids.lines().count() >= 6, "{ids}");
    for id in ids.lines() {
        let alive = || {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // A zombie waits to be reaped by the process that adopted it; it no longer runs.
            !state.is_empty() && !state.contains(") Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!alive(), "process {id} still runs");
    }
}

#[test]
fn a_helper_that_holds_the_pipes_delays_neither_the_batch_nor_the_end() {
    let found = std::process::Command::new("setsid").arg("true").status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: no setsid");
        return;
    }
    let name = format!("rpg-reward-helpers-{}", std::process::id());
    let helpers = std::env::temp_dir().join(name);
    let long = "x".repeat(100_000);
    let items = obedient(&[&long, &long, &long]);
    let timeout = Err(RewardError::Timeout { seconds: 0.5 });
    let batch_timeout = Err(RewardError::BatchTimeout { seconds: 0.5 });
    let ended = Err(RewardError::Ended {
        status: "exit status: 3".into(),
        restarts: 0,
    });
    // The end of the script, its limits, and the outcome of every item.
    let rows = [
        ("exit 3", 20.0, 20.0, ended),
        ("exit 3", 0.5, 20.0, timeout.clone()),
        ("exit 3", 20.0, 0.5, batch_timeout),
        ("exec sleep 1000", 0.5, 20.0, timeout),
        ("exit 3", 20.0, 20.0, Err(RewardError::NotAsked)),
    ];
    for (end, seconds, batch_seconds, expected) in rows {
        // A shell would give a helper in the background an empty input.
        let script = format!(
            "exec 3<&0; setsid sleep 1000 <&3 & echo $! >> {}; {end}",
            helpers.display()
        );
        let reward = pool(&script, |config| {
            config.processes = 1;
            config.timeout_seconds = seconds;
            config.batch_timeout_seconds = batch_seconds;
            config.max_restarts = 0;
            config.on_error = ErrorPolicy::Skip;
        });
        let start = Instant::now();
        let stops = expected == Err(RewardError::NotAsked);
        let scores = reward.score(&items, &mut |_| {
            if stops && start.elapsed() > Duration::from_millis(300) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{expected:?}");
        assert_eq!(scores, vec![expected; 3]);
        let start = Instant::now();
        drop(reward);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    // Answers without reading.
    let script = format!(
        "exec 3<&0; setsid sleep 1000 <&3 & echo $! >> {}; \
         for n in 1 2 3; do echo '{{\"score\": 1}}'; done; exec sleep 1000",
        helpers.display()
    );
    let reward = pool(&script, |config| config.processes = 1);
    let start = Instant::now();
    assert!(score_all(&reward, &items).iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(reward);
    let ids = std::fs::read_to_string(&helpers).expect("the file exists");
    let _ = std::fs::remove_file(&helpers);
    let ids: Vec<&str> = ids.lines().collect();
    let killed = std::process::Command::new("kill").args(&ids).status();
    // All of them still held the pipes.
    assert!(killed.is_ok_and(|status| status.success()), "{ids:?}");
}

#[test]
fn programs_are_found_on_the_path_as_the_system_finds_them() {
    let find = |program: &str| CommandConfig::new([program]).find_program();
    assert!(find("sh").is_some_and(|path| path.is_absolute()));
    assert!(find("/bin/sh").is_some());
    for missing in ["no-such-program", "/bin", "./sh", "/no/such/program"] {
        assert_eq!(find(missing), None, "{missing}");
    }
    assert_eq!(CommandConfig::new([""; 0]).find_program(), None);
}

#[test]
fn a_process_that_hangs_is_killed_in_time() {
    let reward = pool("exec sleep 60", |config| config.timeout_seconds = 0.3);
    let start = Instant::now();
    for _ in 0..2 {
        let scores = score_all(&reward, &items(3));
        assert_eq!(scores[0], Err(RewardError::Timeout { seconds: 0.3 }));
        assert!(scores.iter().all(Result::is_err), "{scores:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_command_that_never_answers_is_given_up() {
    let (timeout, not_flushed, given_up) = (
        Err(RewardError::Timeout { seconds: 0.3 }),
        Err(RewardError::NotFlushed { seconds: 0.3 }),
        Err(RewardError::GivenUp { seconds: 0.3 }),
    );
    // As a program does whose output goes into a buffer.
    let buffers = r#"while read -r line; do out="$out{\"score\": 1}
"; done; printf %s "$out""#;
    let silent = "exec sleep 60";
    // One answer, and none in time any more.
    let once = format!("read -r line; echo '{{\"score\": 1}}'; {buffers}");
    for (script, processes, n_asked, expected) in [
        (silent, 1, 3, &timeout),
        (buffers, 1, 2, &not_flushed),
        (buffers, 3, 3, &not_flushed),
    ] {
        let reward = pool(script, |config| {
            config.processes = processes;
            config.timeout_seconds = 0.3;
            config.on_error = ErrorPolicy::Skip;
        });
        let start = Instant::now();
        let scores = score_all(&reward, &items(300));
        assert!(start.elapsed() < Duration::from_secs(10), "{script}");
        assert_eq!(scores[0], *expected, "{script}");
        let count = |outcome: &Result<Score, RewardError>| {
            scores.iter().filter(|score| *score == outcome).count()
        };
        let asked = count(expected);
        assert!(asked <= n_asked, "{script}: {asked}");
        assert_eq!(asked + count(&given_up), 300, "{script}");
        // The next batch is no more patient.
        let start = Instant::now();
        assert_eq!(score_all(&reward, &items(300))[299], given_up);
        assert!(start.elapsed() < Duration::from_secs(5), "{script}");
    }
    // Whoever has answered is asked again.
    let reward = pool(&once, |config| {
        config.processes = 1;
        config.timeout_seconds = 0.3;
        config.on_error = ErrorPolicy::Skip;
    });
    let scores = score_all(&reward, &items(7));
    for (item_idx, score) in scores.iter().enumerate() {
        match item_idx % 2 {
            0 => assert!(score.is_ok(), "{item_idx}"),
            _ => assert_eq!(*score, not_flushed, "{item_idx}"),
        }
    }
}

#[test]
fn a_batch_that_takes_too_long_keeps_what_was_answered() {
    let slow = r#"while read -r line; do echo '{"score": 1}'; sleep 0.4; done"#;
    let reward = pool(slow, |config| {
        config.processes = 1;
        config.batch_timeout_seconds = 1.0;
        config.on_error = ErrorPolicy::Skip;
    });
    let start = Instant::now();
    let scores = score_all(&reward, &items(100));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(scores[0].is_ok());
    let late = Err(RewardError::BatchTimeout { seconds: 1.0 });
    assert_eq!(scores[99], late);
    let n_late = scores.iter().filter(|score| **score == late).count();
    assert_eq!(reward.errors(), n_late);
    assert_eq!(
        scores.iter().filter(|score| score.is_ok()).count(),
        100 - n_late
    );
}

#[test]
fn an_invalid_score_is_an_error() {
    let rows = [
        ("echo nonsense", "expected"),
        (r#"echo '{"score": null}'"#, "null"),
        (r#"echo '{"id": 7, "score": 1}'"#, "`id` is 7; expected 0"),
        (r#"echo '{"score": 1e999}'"#, "number out of range"),
        (
            r#"echo '{"score": 1, "parts": {"correct": 0.5}}'"#,
            "expected 0 or 1",
        ),
    ];
    for (script, message) in rows {
        let reward = pool(&format!("while read -r line; do {script}; done"), |_| {});
        let error = score_all(&reward, &items(1)).remove(0).expect_err(script);
        assert!(matches!(error, RewardError::BadAnswer { .. }), "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
    }
    let missing = CommandReward::new(CommandConfig::new(["/no/such/program"]));
    assert!(matches!(
        score_all(&missing, &items(1))[0],
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
    let reward = CommandReward::new(CommandConfig::new(["python3", script]));
    let score = score_all(&reward, &items(1)).remove(0).expect("a score");
    assert_eq!((score.score, score.parts["found"]), (0.999, 1.0));
}

#[test]
fn columns_are_sent_as_they_are() {
    // Answers with the number of lines so far that end with the columns.
    let script = r#"n=0; while read -r line; do
        case "$line" in *'"gold":"g","columns":{"a b":[1.50,"\\n"],"c":null}}') n=$((n+1));; esac
        echo "{\"score\": $n}"
    done"#;
    let script = script.replace(r"\\n", r"\n");
    let reward = pool(&script, |config| config.processes = 1);
    let item = |columns| RewardItem {
        prompt: "p",
        completion: "c",
        tokens: &[],
        gold: "g",
        columns,
    };
    let columns = Some(r#"{"a b":[1.50,"\n"],"c":null}"#);
    let items = [item(columns), item(None), item(columns)];
    let scores: Vec<f64> = score_all(&reward, &items)
        .into_iter()
        .map(|score| score.unwrap().score)
        .collect();
    assert_eq!(scores, [1.0, 1.0, 2.0]);
}
