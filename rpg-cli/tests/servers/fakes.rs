//! Runs over two servers, and what happens to these.

use crate::fake::{Behaviour, Fake, Reload, Trouble};
use crate::runs::{Meanwhile, Model, Run, config, flags, metrics, servers};
use rpg_cli::failure::FailureKind;
use rpg_cli::run_folder::{METRICS, RunFolder};
use rpg_cli::train::{Team, ThreadRanks};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Two servers with one model.
struct Pair {
    a: Fake,
    b: Fake,
    _model: Model,
}

impl Pair {
    fn start() -> Self {
        let model = Model::new();
        let start = || {
            // So that some completions are under way whenever something happens.
            let behaviour = Behaviour {
                delay: Duration::from_millis(20),
                ..Behaviour::default()
            };
            Fake::start(model.dir.path(), &model.tokenizer, behaviour)
        };
        Self {
            a: start(),
            b: start(),
            _model: model,
        }
    }

    fn run(&self, sets: &[&str]) -> Run {
        Run::new(config(&[&self.a.url(), &self.b.url()], sets))
    }

    fn both(&self) -> [&Fake; 2] {
        [&self.a, &self.b]
    }
}

#[test]
fn what_happens_to_servers_changes_no_number_of_a_run() {
    let pair = Pair::start();
    let alone = Run::new(config(&[&pair.b.url()], &[]));
    alone.go().unwrap();
    assert!(
        alone
            .metric("sampling/sampling_logp_difference/max")
            .iter()
            .all(|&d| d < 1e-5)
    );
    let check = |what: &str, happens: &dyn Fn(&Pair)| {
        let run = pair.run(&[]);
        run.go_with(Meanwhile::in_step(2, || happens(&pair)))
            .expect(what);
        assert_eq!(run.metrics(), alone.metrics(), "{what}");
        assert!(run.metric("rollout/server/retried")[1] > 0.0, "{what}");
        // The newest policy, and the one before it.
        assert!(run.weights().len() <= 2, "{what}: {:?}", run.weights());
    };
    check("restarted", &|pair| pair.a.restart());
    let troubles = [
        Trouble::WrongLabel,
        Trouble::Abort,
        Trouble::CutOff,
        Trouble::Status(500),
    ];
    check("wrong answers", &|pair| pair.a.trouble(&troubles));
    check("killed", &|pair| pair.a.kill());
}

#[test]
fn ranks_share_the_servers_and_the_first_gives_them_the_weights() {
    let pair = Pair::start();
    // The gradient is nearly nothing here: AdamW must not make steps of its rounding.
    let calm = &["optimizer={lr=1e-4, eps=1e-3}"];
    let alone = pair.run(calm);
    alone.go().unwrap();
    let loaded = || pair.both().map(|server| server.count("/collective_rpc"));
    let by_one = loaded();
    let run = pair.run(calm);
    thread::scope(|scope| {
        let ranks = ThreadRanks::all(2).into_iter().map(|rank| {
            let run = &run;
            scope.spawn(move || run.go_over(Team::new(rank), Meanwhile::nothing()).unwrap())
        });
        let ranks: Vec<_> = ranks.collect();
        ranks
            .into_iter()
            .for_each(|rank| assert_eq!(rank.join().unwrap().steps, 3));
    });
    assert_eq!(loaded(), by_one.map(|n| 2 * n));
    // The completions are the same, and all else is up to rounding.
    for (name, tolerance) in [
        ("critic/score/mean", 0.0),
        ("response_length/mean", 0.0),
        ("actor/grad_norm", 1e-4),
    ] {
        let (one, two) = (alone.metric(name), run.metric(name));
        for (a, b) in one.iter().zip(&two) {
            assert!((a - b).abs() <= tolerance, "{name}: {a} {b}");
        }
    }
}

#[test]
fn a_server_with_other_weights_than_it_says_ends_the_run() {
    let pair = Pair::start();
    pair.b
        .behave(|behaviour| behaviour.reload = Reload::KeepsWeights);
    let run = pair.run(&[]);
    let failure = run.go().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Sampler, "{failure}");
    let named = pair
        .both()
        .map(|server| failure.message.contains(&server.url()));
    assert_eq!(named, [false, true], "{failure}");
    assert!(
        failure
            .message
            .contains("its log-probs are not those of the policy"),
        "{failure}"
    );
    // Once its reload is right, the run goes on, though the server says that it has these weights.
    pair.b.behave(|behaviour| behaviour.reload = Reload::Right);
    assert_eq!(run.go().unwrap().steps, 3);
}

#[test]
fn rescored_log_probs_are_compared_with_those_of_the_servers() {
    let pair = Pair::start();
    let run = pair.run(&["rollout.log_probs=rescored"]);
    run.go().unwrap();
    let means = run.metric("rollout_corr/rollout_is_mean");
    assert!(
        means.len() == 3 && means.iter().all(|&v| (v - 1.0).abs() < 1e-5),
        "{means:?}"
    );
}

#[test]
fn of_a_policy_with_an_adapter_servers_load_the_adapter() {
    let pair = Pair::start();
    let run = pair.run(&["lora={rank=2}"]);
    run.go().unwrap();
    assert!(
        run.metric("sampling/sampling_logp_difference/max")
            .iter()
            .all(|&d| d < 1e-5)
    );
    for server in pair.both() {
        assert_eq!(server.count("/collective_rpc"), 0);
        assert!(server.count("/v1/load_lora_adapter") > 1);
    }
}

#[test]
fn servers_sample_a_step_ahead_with_the_policy_of_the_step_before() {
    let pair = Pair::start();
    let check = |happens: &dyn Fn(&Pair)| {
        let run = pair.run(&["train.steps=4", "rollout.max_staleness=1"]);
        run.go_with(Meanwhile::in_step(2, || happens(&pair)))
            .unwrap();
        assert_eq!(run.metric("rollout/staleness/max"), [0.0, 1.0, 1.0, 1.0]);
        let differences = run.metric("sampling/stale_logp_difference/max");
        let is_stale: Vec<bool> = differences.iter().map(|&d| d > 1e-4).collect();
        assert_eq!(is_stale, [false, true, true, true], "{differences:?}");
        run.metrics()
    };
    let quiet = check(&|_| {});
    assert_eq!(check(&|pair| pair.a.restart()), quiet);
}

#[test]
fn an_adapter_that_is_sampled_ahead_survives_restarts_and_resumes() {
    let pair = Pair::start();
    let run = |sets: &[&str]| {
        let ahead = ["train.steps=5", "lora={rank=2}", "rollout.max_staleness=1"];
        pair.run(&[&ahead[..], sets].concat())
    };
    let straight = run(&[]);
    straight.go().unwrap();
    let restarted = run(&[]);
    let restart = Meanwhile::in_step(2, || pair.a.restart());
    restarted.go_with(restart).unwrap();
    assert_eq!(restarted.metrics(), straight.metrics());
    // The checkpoint has the adapter with which the next step is sampled, beside the one that was trained.
    let stopped = run(&["rollout.server.timeout_s=1"]);
    let kill = Meanwhile::in_step(3, || pair.both().into_iter().for_each(Fake::kill));
    let failure = stopped.go_with(kill).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Sampler, "{failure}");
    pair.both().into_iter().for_each(Fake::restart);
    stopped.go().unwrap();
    assert_eq!(stopped.metrics(), straight.metrics());
}

#[test]
fn a_run_that_has_lost_all_servers_stops_and_resumes() {
    for n in [0, 1] {
        check_resumed(&format!("rollout.max_staleness={n}"));
    }
}

fn check_resumed(staleness: &str) {
    let pair = Pair::start();
    let temp = tempfile::tempdir().unwrap();
    let [straight, stopped] = ["straight", "stopped"].map(|name| temp.path().join(name));
    let train = |dir: &Path| {
        let mut command = rpg();
        command.arg("train");
        let urls = pair.both().map(Fake::url);
        let servers = servers(&[&urls[0], &urls[1]]);
        let more = [
            "train.steps=5",
            "rollout.server.timeout_s=1",
            staleness,
            &servers,
        ];
        command.arg("--run-dir").arg(dir).args(flags(&more));
        command.spawn().unwrap()
    };
    let (code, said) = ended(train(&straight));
    assert_eq!(code, Some(0), "{said}");
    let run = train(&stopped);
    while !has_step(&stopped) {
        thread::sleep(Duration::from_millis(10));
    }
    pair.both().into_iter().for_each(Fake::kill);
    let (code, said) = ended(run);
    assert_eq!(code, Some(5), "{said}");
    let resume = format!("rpg train --resume {}", stopped.display());
    for expected in [
        "no server has worked for 1 s",
        &pair.a.url(),
        &pair.b.url(),
        &resume,
    ] {
        assert!(said.contains(expected), "{said}");
    }
    pair.both().into_iter().for_each(Fake::restart);
    let (code, said) = ended(
        rpg()
            .args(["train", "--resume"])
            .arg(&stopped)
            .spawn()
            .unwrap(),
    );
    assert_eq!(code, Some(0), "{said}");
    let [straight, stopped] = [straight, stopped].map(|dir| RunFolder::open(&dir).unwrap());
    assert_eq!(metrics(&stopped), metrics(&straight));
}

fn rpg() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rpg"));
    // One thread computes for the loop and for whoever samples ahead of it.
    command.env("RAYON_NUM_THREADS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The exit code of a command, and what it has said.
fn ended(command: Child) -> (Option<i32>, String) {
    let output = command.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Whether a run has ended a step.
fn has_step(dir: &Path) -> bool {
    let lines = std::fs::read_to_string(dir.join(METRICS)).unwrap_or_default();
    lines.contains(r#""phase":"train""#)
}
