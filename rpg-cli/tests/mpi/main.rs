//! `mpirun -n N rpg train`: real processes, started, killed and resumed as a user does.

#[path = "../../../rpg-rollout/tests/server/fake.rs"]
#[allow(dead_code)]
mod fake;
#[path = "../servers/runs.rs"]
#[allow(dead_code)]
mod runs;

use fake::{Behaviour, Fake};
use runs::Model;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Flags that cut the built-in recipe down to seconds.
const SMALL: [&str; 14] = [
    "model.scratch.hidden_size=32",
    "model.scratch.intermediate_size=64",
    "model.scratch.num_hidden_layers=1",
    "warm_start.steps=4",
    "warm_start.batch_size=8",
    "rollout.prompts_per_step=5",
    "rollout.samples_per_prompt=2",
    "rollout.max_new_tokens=16",
    "evaluate.problems=6",
    "evaluate.samples=2",
    "evaluate.every=2",
    "train.max_generation_batches=0",
    "checkpoint.every=1",
    // Rounding must not become steps of the size of the learning rate.
    "optimizer.eps=1e-3",
];

/// The longest that the end of a job may take once a rank has ended.
const SECONDS: Duration = Duration::from_secs(30);

fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.env("RAYON_NUM_THREADS", "1");
    command.args([
        "--allow-run-as-root",
        "--oversubscribe",
        "--bind-to",
        "none",
    ]);
    // Ranks that wait leave the cores to the others.
    command.args(["--mca", "mpi_yield_when_idle", "1"]);
    command
}

/// `rpg train` on so many ranks.
fn ranks(n: usize, flags: &[String]) -> Command {
    let mut command = mpirun();
    command.args(["-n", &n.to_string(), env!("CARGO_BIN_EXE_rpg"), "train"]);
    command.args(flags);
    command
}

/// The flags of a new run in `dir`.
fn new_run(dir: &Path, more: &[&str]) -> Vec<String> {
    let sets = SMALL.iter().chain(more);
    let sets = sets.flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
    let dir = dir.to_str().unwrap().to_owned();
    ["--run-dir".to_owned(), dir]
        .into_iter()
        .chain(sets)
        .collect()
}

fn resumed(dir: &Path) -> Vec<String> {
    vec!["--resume".to_owned(), dir.to_str().unwrap().to_owned()]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The metrics without times.
fn metrics(dir: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
        line.retain(|key, _| {
            let mut differs = ["timing_s/", "perf/throughput", "rollout/server/"].iter();
            !differs.any(|prefix| key.starts_with(prefix))
        });
        line
    };
    text.lines().map(line).collect()
}

fn assert_near(found: &Path, expected: &Path) {
    let (found, expected) = (metrics(found), metrics(expected));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
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
}

fn checkpoint(dir: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> = fs::read_dir(dir.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all.pop().unwrap()
}

fn assert_same_bits(found: &Path, expected: &Path) {
    assert_eq!(metrics(found), metrics(expected));
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [found, expected] =
            [found, expected].map(|dir| fs::read(checkpoint(dir).join(name)).unwrap());
        assert!(found == expected, "{name} differs");
    }
}

/// A job that runs until something happens to one of its ranks.
struct Job(Child);

impl Job {
    /// Starts a job, and waits for it to have done a few steps.
    fn start(dir: &Path, mut command: Command) -> Self {
        let job = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut job = Self(job.unwrap());
        let start = Instant::now();
        let n_lines =
            || fs::read_to_string(dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        while n_lines() < 9 {
            let ended = job.0.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < 4 * SECONDS,
                "the job does not begin"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        job
    }

    /// Sends a signal to one of the ranks.
    fn signal(&self, name: &str, rank: usize) {
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| parent(pid) == Some(self.0.id()))
            .collect();
        // The launcher starts the ranks in their order.
        pids.sort_unstable();
        let killed = Command::new("kill")
            .args([format!("-{name}"), pids[rank].to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    fn end(mut self) -> Output {
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            if start.elapsed() > SECONDS {
                let _ = self.0.kill();
                panic!("the job goes on");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.0.wait_with_output().unwrap()
    }
}

/// The parent of a process: the second field after its name, which is in parentheses.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[test]
fn ranks_give_the_numbers_of_one_process_and_always_the_same_bits() {
    let temp = tempfile::tempdir().unwrap();
    let dir = |name: &str| temp.path().join(name);
    let flags = |name: &str| new_run(&dir(name), &["train.steps=3"]);
    let mut one = Command::new(env!("CARGO_BIN_EXE_rpg"));
    succeed(
        one.arg("train")
            .args(flags("one"))
            .env("RAYON_NUM_THREADS", "1"),
    );
    for n in [2, 4] {
        let [first, second] = ["first", "second"].map(|name| format!("{name}-{n}"));
        succeed(&mut ranks(n, &flags(&first)));
        assert_near(&dir(&first), &dir("one"));
        succeed(&mut ranks(n, &flags(&second)));
        assert_same_bits(&dir(&second), &dir(&first));
    }
}

/// The exchanges of the threads that sample do not meet those of the updates.
#[test]
fn ranks_sample_ahead_over_a_server() {
    let temp = tempfile::tempdir().unwrap();
    let dir = |name: &str| temp.path().join(name);
    let model = Model::new();
    let server = Fake::start(model.dir.path(), &model.tokenizer, Behaviour::default());
    let server = runs::servers(&[&server.url()]);
    let train = |name: &str, steps: &str, n: usize| {
        let staleness = format!("rollout.max_staleness={n}");
        // Completions that end at once leave a gradient of rounding.
        let sets = [&server, steps, &staleness, "optimizer={lr=1e-4, eps=1e-3}"];
        let run_dir = ["--run-dir".to_owned(), dir(name).display().to_string()];
        run_dir.into_iter().chain(runs::flags(&sets)).collect()
    };
    let flags: Vec<String> = train("one", "train.steps=4", 1);
    let mut one = Command::new(env!("CARGO_BIN_EXE_rpg"));
    succeed(one.arg("train").args(flags).env("RAYON_NUM_THREADS", "1"));
    for name in ["first", "second"] {
        succeed(&mut ranks(2, &train(name, "train.steps=4", 1)));
    }
    assert_near(&dir("first"), &dir("one"));
    assert_same_bits(&dir("second"), &dir("first"));
    let job = Job::start(
        &dir("stopped"),
        ranks(2, &train("stopped", "train.steps=100000", 2)),
    );
    job.signal("TERM", 1);
    let output = job.end();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
}

#[test]
fn a_killed_rank_ends_the_job_which_resumes_with_the_same_bits() {
    let temp = tempfile::tempdir().unwrap();
    let [straight, killed] = ["straight", "killed"].map(|name| temp.path().join(name));
    let flags = |dir: &Path| new_run(dir, &["train.steps=40"]);
    succeed(&mut ranks(2, &flags(&straight)));
    let job = Job::start(&killed, ranks(2, &flags(&killed)));
    job.signal("KILL", 1);
    assert!(!job.end().status.success());
    assert!(metrics(&killed).len() < metrics(&straight).len());
    succeed(&mut ranks(2, &resumed(&killed)));
    assert_same_bits(&killed, &straight);
}

#[test]
fn an_interrupt_of_one_rank_stops_all_of_them() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let job = Job::start(&dir, ranks(2, &new_run(&dir, &["train.steps=100000"])));
    job.signal("TERM", 1);
    let output = job.end();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("interrupted after step").count(), 1, "{said}");
    // One process goes on.
    let mut one = Command::new(env!("CARGO_BIN_EXE_rpg"));
    let done = metrics(&dir).len();
    let steps = format!("train.steps={done}");
    succeed(one.arg("train").args(resumed(&dir)).args(["--set", &steps]));
}

#[test]
fn a_rank_that_is_stuck_ends_the_job_in_time() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let flags = new_run(&dir, &["train.steps=100000", "distributed.timeout_s=2"]);
    let job = Job::start(&dir, ranks(2, &flags));
    job.signal("STOP", 1);
    let output = job.end();
    let said = text(&output.stderr);
    assert!(!output.status.success());
    let expected =
        "error: rank 0: has waited for the others for more than distributed.timeout_s = 2 s";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_dry_run_is_of_all_ranks_and_printed_once() {
    let mut command = mpirun();
    let train = [env!("CARGO_BIN_EXE_rpg"), "train", "--dry-run", "--json"];
    let plan = |command: &mut Command| -> Value {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let of_two = plan(command.args(["-n", "2"]).args(train));
    let of_one = plan(Command::new(train[0]).args(&train[1..]));
    let moments = |plan: &Value| {
        let parts = plan["memory"]["parts"].as_array().unwrap().iter();
        let mut moments = parts.filter(|part| part["name"] == "moments");
        moments.next().unwrap()["bytes"].as_u64().unwrap()
    };
    assert_eq!(2 * moments(&of_two), moments(&of_one));
    let machine = |plan: &Value| plan["machine"]["total_bytes"].as_u64().unwrap();
    assert_eq!(machine(&of_two), machine(&of_one) / 2);
}

#[test]
fn what_is_wrong_is_said_once_before_there_is_a_run_folder() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let train = |command: &mut Command, more: &[&str]| {
        command.args(["-n", "1", env!("CARGO_BIN_EXE_rpg"), "train"]);
        command.args(new_run(&dir, more));
    };
    let check = |sets: [&str; 2], expected: &str| {
        let mut command = mpirun();
        train(&mut command, &[sets[0]]);
        train(command.arg(":"), &[sets[1]]);
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!dir.exists());
    };
    check(
        ["optimizer.lr=0.5", "optimizer.lr=0.25"],
        "error: rank 1: optimizer.lr: found 0.25; expected 0.5, as on rank 0",
    );
    check(["optimizer.lr=0.5", "optimizer.lr=-1"], "error: rank 1: ");
    check(["optimizer.lr=-1", "optimizer.lr=-1"], "error: ");
}
