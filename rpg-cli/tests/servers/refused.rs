//! Servers that cannot sample are refused before there is a run.

use crate::fake::{Behaviour, Fake};
use crate::runs::{Model, flags, servers};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

/// What `rpg train` with these settings says, which begins no run.
fn check(sets: &[&str], expected: &[&str]) {
    let temp = tempfile::tempdir().unwrap();
    let run = temp.path().join("run");
    for dry_run in [&[][..], &["--dry-run"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rpg"));
        command.args(["train", "--run-dir"]).arg(&run).args(dry_run);
        let output = command.args(flags(sets)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{sets:?}: {said}");
        for expected in expected {
            assert!(said.contains(expected), "{sets:?}: {said}");
        }
        assert!(!run.exists(), "{sets:?}");
    }
}

/// Something that is no inference server: it answers every request with 404.
fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    url
}

#[test]
fn there_must_be_a_server() {
    // Nothing listens where a listener was.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = format!("http://{gone}");
    check(
        &[&servers(&[&gone])],
        &[&gone, "hint: start it, or correct its address"],
    );
    let other = web_server();
    for engine in ["vllm", "sglang"] {
        let engine = format!("rollout.server.engine={engine}");
        check(&[&servers(&[&other]), &engine], &[&other, "404"]);
    }
}

#[test]
fn a_server_that_lacks_something_is_refused_with_the_flag_that_mends_it() {
    let model = Model::new();
    let small = Model::with(|shape| shape.vocab_size -= 1);
    let refused = |model: &Model, set: &str, change: &dyn Fn(&mut Behaviour), flag: &str| {
        let start = |change: &dyn Fn(&mut Behaviour)| {
            let mut behaviour = Behaviour::default();
            change(&mut behaviour);
            Fake::start(model.dir.path(), &model.tokenizer, behaviour)
        };
        let server = start(change);
        let hint = format!("hint: start it with {flag}");
        check(&[&servers(&[&server.url()]), set], &[&server.url(), &hint]);
    };
    let vllm = "rollout.server.engine=vllm";
    refused(
        &model,
        vllm,
        &|server| server.dev = false,
        "VLLM_SERVER_DEV_MODE=1",
    );
    refused(
        &model,
        vllm,
        &|server| server.scale_out = false,
        "--enable-scale-out",
    );
    let raw: &dyn Fn(&mut Behaviour) = &|server| server.logprobs_mode = "raw_logprobs";
    refused(&model, vllm, raw, "--logprobs-mode processed_logprobs");
    refused(
        &model,
        vllm,
        &|server| server.max_model_len = 8,
        "--max-model-len ",
    );
    refused(
        &small,
        vllm,
        &|_| {},
        "--enable-scale-out, vLLM 0.32 or newer, and the policy's own model",
    );
    let no_adapters: &dyn Fn(&mut Behaviour) = &|server| server.max_lora_rank = 1;
    refused(
        &model,
        "lora={rank=2}",
        no_adapters,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
    );
    let sglang = "rollout.server.engine=sglang";
    let by_chance: &dyn Fn(&mut Behaviour) = &|server| {
        server.is_sglang = true;
        server.deterministic = false;
    };
    refused(
        &model,
        sglang,
        by_chance,
        "--enable-deterministic-inference",
    );
}

#[test]
fn a_dry_run_says_what_the_servers_are() {
    let model = Model::new();
    let behaviour = Behaviour {
        api_key: Some("key"),
        ..Behaviour::default()
    };
    let server = Fake::start(model.dir.path(), &model.tokenizer, behaviour);
    let url = servers(&[&server.url()]);
    check(&[&url], &[&server.url(), "401"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rpg"));
    command
        .args(["train", "--dry-run"])
        .env("RPG_SERVER_API_KEY", "key");
    let output = command.args(flags(&[&url])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = format!("server: {}: vLLM 0.32.0, context 4096", server.url());
    assert!(said.contains(&expected), "{said}");
}
