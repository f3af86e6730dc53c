//! Rollouts over HTTP, against servers in this process that sample with a tiny model and misbehave as told.

mod fake;

use burn::backend::Flex;
use fake::{Behaviour, Fake, Reload, Trouble};
use rpg_core::model::{CausalLm, LoraConfig, ModelConfig, SaveDtype};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Completion, Group};
use rpg_rollout::generate::{GenerateError, GenerateOptions, Request, generate};
use rpg_rollout::rollouts::{EngineKind, Rollouts};
use rpg_rollout::server::engine::Needs;
use rpg_rollout::server::error::ServerError;
use rpg_rollout::server::fleet::Servers;
use rpg_rollout::server::options::ServerOptions;
use rpg_rollout::server::rollouts::{Publish, Published, ServerRollouts};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const VOCABULARY: usize = 29;

/// Random weights in the shape of Qwen3, and of another vocabulary.
fn model_of(vocab_size: usize, seed: u64) -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "vocab_size": vocab_size, "eos_token_id": 2,
        "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, seed, &Default::default())
}

fn model(seed: u64) -> CausalLm<Flex> {
    model_of(VOCABULARY, seed)
}

/// One letter per token.
fn tokenizer() -> Tokenizer {
    let vocab: serde_json::Map<String, serde_json::Value> = (0..VOCABULARY as u8)
        .map(|id| (char::from(b'A' + id).to_string(), id.into()))
        .collect();
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"}, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "A"},
    });
    Tokenizer::from_json(&json.to_string(), None).unwrap()
}

fn requests() -> Vec<Request> {
    (0..5u32)
        .map(|i| {
            let prompt: Vec<u32> = (0..=i).map(|j| 3 + (i + 5 * j) % 26).collect();
            Request::new(prompt, (0..4).map(|j| u64::from(100 * i + j)))
        })
        .collect()
}

fn options() -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.max_new_tokens = 20;
    options.sampling.temperature = 0.8;
    options
}

fn needs() -> Needs {
    Needs {
        max_tokens: 40,
        vocab_size: VOCABULARY,
        adapter: false,
        lora_rank: None,
    }
}

/// Writes policies below a folder, named by how many came before.
struct Folders {
    root: PathBuf,
    n: usize,
    confirmed: Arc<Mutex<Vec<String>>>,
}

impl Publish<Flex> for Folders {
    fn publish(&mut self, policy: &CausalLm<Flex>) -> Result<Published, String> {
        self.n += 1;
        let label = format!("policy-{}", self.n);
        let folder = self.root.join(&label);
        let is_adapter = policy.lora().is_some();
        std::fs::create_dir_all(&folder).unwrap();
        if is_adapter {
            policy.save_adapter(&folder, "base").unwrap();
        } else {
            policy.save_hf(&folder, SaveDtype::F32).unwrap();
        }
        Ok(Published {
            label,
            folder,
            is_adapter,
        })
    }

    fn confirmed(&mut self, label: &str) {
        self.confirmed.lock().unwrap().push(label.to_owned());
    }
}

/// Servers that began with other weights than the policy's, and a folder for new ones.
struct Stage {
    dir: tempfile::TempDir,
    fakes: Vec<Fake>,
    confirmed: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    fn new(behaviours: impl IntoIterator<Item = Behaviour>) -> Self {
        Self::with_model(&model(1), behaviours)
    }

    fn with_model(model: &CausalLm<Flex>, behaviours: impl IntoIterator<Item = Behaviour>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        model.save_hf(&base, SaveDtype::F32).unwrap();
        let fakes = behaviours.into_iter();
        let fakes = fakes.map(|behaviour| Fake::start(&base, &tokenizer(), behaviour));
        Self {
            fakes: fakes.collect(),
            confirmed: Arc::default(),
            dir,
        }
    }

    fn options(&self) -> ServerOptions {
        let mut options = ServerOptions::default();
        options.urls = self.fakes.iter().map(Fake::url).collect();
        options.concurrency = 3;
        options.request_timeout = Duration::from_secs(2);
        options.timeout = Duration::from_secs(5);
        options.max_difference = 1e-3;
        options
    }

    fn rollouts(&self) -> ServerRollouts<'static, Flex> {
        self.rollouts_with(self.options(), needs())
    }

    fn rollouts_with(&self, options: ServerOptions, needs: Needs) -> ServerRollouts<'static, Flex> {
        let servers = Servers::ask(options, needs).unwrap();
        let publish = Folders {
            root: self.dir.path().to_owned(),
            n: 0,
            confirmed: self.confirmed.clone(),
        };
        ServerRollouts::new(servers, tokenizer(), Box::new(publish))
    }
}

fn sglang() -> Behaviour {
    Behaviour {
        is_sglang: true,
        ..Behaviour::default()
    }
}

fn sample(rollouts: &mut ServerRollouts<Flex>) -> Result<Vec<Group>, GenerateError> {
    rollouts.sample(&requests(), &options(), &mut |_| ControlFlow::Continue(()))
}

fn expected(policy: &CausalLm<Flex>, options: &GenerateOptions) -> Vec<Group> {
    generate(policy, &tokenizer(), &requests(), options).unwrap()
}

/// The same tokens and texts; log-probs to what the order of additions in a batch's products leaves.
fn same(name: &str, found: &[Group], expected: &[Group]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.prompt_idx, expected.prompt_idx, "{name}");
        assert_eq!(found.prompt_tokens, expected.prompt_tokens, "{name}");
        assert_eq!(
            found.completions.len(),
            expected.completions.len(),
            "{name}"
        );
        for (a, b) in found.completions.iter().zip(&expected.completions) {
            let of = |c: &Completion| (c.tokens.clone(), c.text.clone(), c.stop);
            assert_eq!(of(a), of(b), "{name}");
            for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
                assert!((a - b).abs() < 1e-5, "{name}: {a} and {b}");
            }
        }
    }
}

fn server_error(result: Result<Vec<Group>, GenerateError>) -> ServerError {
    match result {
        Err(GenerateError::Server(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn completions_are_those_of_this_process_however_many_servers_there_are() {
    for (name, behaviour) in [("vllm", Behaviour::default()), ("sglang", sglang())] {
        for n_servers in [1, 3] {
            let stage = Stage::new(vec![behaviour.clone(); n_servers]);
            let mut server_options = stage.options();
            if behaviour.is_sglang {
                server_options.engine = EngineKind::Sglang;
            }
            let mut rollouts = stage.rollouts_with(server_options, needs());
            assert!(!Rollouts::<Flex>::is_exact(&rollouts));
            assert!(matches!(
                sample(&mut rollouts),
                Err(GenerateError::NoPolicy)
            ));
            for seed in [2, 3] {
                rollouts.sync(&model(seed)).unwrap();
                let groups = sample(&mut rollouts).unwrap();
                same(name, &groups, &expected(&model(seed), &options()));
                let metrics = rollouts.take_metrics();
                let sum = |key: &str| -> f64 {
                    let ends =
                        |(name, value): (&String, &f64)| name.ends_with(key).then_some(*value);
                    metrics.iter().filter_map(ends).sum()
                };
                assert_eq!(
                    (sum("/completions"), sum("/failures")),
                    (20.0, 0.0),
                    "{name}"
                );
                assert!(
                    sum("/mismatch_max") < 1e-4 && metrics.contains_key("rollout/server/sync_s")
                );
            }
            rollouts.release();
            assert!(matches!(
                sample(&mut rollouts),
                Err(GenerateError::NoPolicy)
            ));
        }
    }
}

#[test]
fn what_ends_a_completion_is_what_ends_it_in_this_process() {
    let stage = Stage::new([Behaviour::default()]);
    let mut rollouts = stage.rollouts();
    rollouts.sync(&model(2)).unwrap();
    let mut check = |name: &str, change: &dyn Fn(&mut GenerateOptions)| {
        let mut options = options();
        change(&mut options);
        let go_on = &mut |_| ControlFlow::Continue(());
        let groups = rollouts.sample(&requests(), &options, go_on).unwrap();
        same(name, &groups, &expected(&model(2), &options));
    };
    check("ignore_eos", &|options| options.ignore_eos = true);
    check("stop_token_ids", &|options| {
        options.stop_token_ids = vec![7, 8]
    });
    check("stop_strings", &|options| {
        options.stop_strings = vec!["K".into()]
    });
    check("temperature", &|options| options.sampling.temperature = 1.3);
    check("greedy", &|options| options.sampling.temperature = 0.0);
    let mut options = options();
    options.min_new_tokens = 3;
    let refused = rollouts.sample(&requests(), &options, &mut |_| ControlFlow::Continue(()));
    let error = server_error(refused);
    assert!(error.is_input() && error.to_string().starts_with("min_new_tokens: found 3"));
}

#[test]
fn what_goes_wrong_with_a_completion_changes_none() {
    let troubles = [
        Trouble::Hang,
        Trouble::CutOff,
        Trouble::Abort,
        Trouble::WrongLabel,
        Trouble::OutsideVocabulary,
        Trouble::FewerLogprobs,
        Trouble::Status(500),
        Trouble::Status(503),
    ];
    let expected = expected(&model(2), &options());
    for engine in [EngineKind::Vllm, EngineKind::Sglang] {
        let behaviour = Behaviour {
            is_sglang: engine == EngineKind::Sglang,
            ..Behaviour::default()
        };
        for trouble in troubles {
            let stage = Stage::new(vec![behaviour.clone(); 2]);
            let mut server_options = stage.options();
            server_options.engine = engine;
            let mut rollouts = stage.rollouts_with(server_options, needs());
            rollouts.sync(&model(2)).unwrap();
            stage.fakes[0].trouble(&[trouble, trouble]);
            let name = format!("{engine:?} {trouble:?}");
            same(&name, &sample(&mut rollouts).unwrap(), &expected);
            let retried = rollouts.take_metrics()["rollout/server/retried"];
            assert!(retried >= 2.0, "{name}");
        }
    }
}

#[test]
fn a_server_that_is_never_right_is_left_out_and_alone_ends_the_rollout() {
    let wrong = |always| Behaviour {
        always: Some(always),
        ..Behaviour::default()
    };
    // Asked what it is, it may not answer: it turns wrong later.
    let stage = Stage::new([Behaviour::default(), Behaviour::default()]);
    let mut server_options = stage.options();
    server_options.timeout = Duration::from_secs(1);
    let mut rollouts = stage.rollouts_with(server_options, needs());
    rollouts.sync(&model(2)).unwrap();
    stage.fakes[0].behave(|behaviour| *behaviour = wrong(Trouble::OutsideVocabulary));
    same(
        "two",
        &sample(&mut rollouts).unwrap(),
        &expected(&model(2), &options()),
    );
    stage.fakes[1].kill();
    let error = server_error(sample(&mut rollouts));
    assert!(!error.is_input());
    let text = error.to_string();
    assert!(
        text.contains("is not in the policy's vocabulary of 29"),
        "{text}"
    );
    assert!(
        text.contains(&stage.fakes[1].url()) && text.contains("cannot be asked"),
        "{text}"
    );
}

#[test]
fn a_server_that_is_started_again_gets_the_weights_before_it_is_used() {
    for n_servers in [1, 2] {
        let slow = Behaviour {
            delay: Duration::from_millis(20),
            ..Behaviour::default()
        };
        let stage = Stage::new(vec![slow; n_servers]);
        let mut rollouts = stage.rollouts();
        rollouts.sync(&model(2)).unwrap();
        let mut was_restarted = false;
        let groups = rollouts.sample(&requests(), &options(), &mut |progress| {
            if progress.n_finished > 4 && !was_restarted {
                stage.fakes[0].restart();
                was_restarted = true;
            }
            ControlFlow::Continue(())
        });
        same(
            "restarted",
            &groups.unwrap(),
            &expected(&model(2), &options()),
        );
        // It comes back for the next one.
        same(
            "next",
            &sample(&mut rollouts).unwrap(),
            &expected(&model(2), &options()),
        );
        let deadline = Instant::now() + Duration::from_secs(5);
        while stage.fakes[0].label() != "policy-1" {
            assert!(Instant::now() < deadline, "{:?}", stage.fakes[0].seen());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_failed_reload_is_never_tried_again_on_the_same_server() {
    let stage = Stage::new([Behaviour::default(), Behaviour::default()]);
    let mut rollouts = stage.rollouts();
    stage.fakes[0].behave(|behaviour| behaviour.reload = Reload::Fails);
    for seed in [2, 3] {
        rollouts.sync(&model(seed)).unwrap();
        same(
            "one is lost",
            &sample(&mut rollouts).unwrap(),
            &expected(&model(seed), &options()),
        );
    }
    assert_eq!(stage.fakes[0].count("/collective_rpc"), 1);
    assert_eq!(stage.fakes[1].count("/collective_rpc"), 2);
    let confirmed = stage.confirmed.lock().unwrap().last().cloned();
    assert_eq!(confirmed.as_deref(), Some("policy-2"));
    // Nobody asks the broken one for completions; it is started again, and right then.
    stage.fakes[0].kill();
    thread::sleep(Duration::from_millis(1200));
    stage.fakes[0].behave(|behaviour| behaviour.reload = Reload::Right);
    stage.fakes[0].restart();
    let deadline = Instant::now() + Duration::from_secs(5);
    while stage.fakes[0].label() != "policy-2" {
        assert!(Instant::now() < deadline, "{:?}", stage.fakes[0].seen());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_keeps_its_old_weights_under_the_new_label_ends_the_rollout() {
    for is_sglang in [false, true] {
        let behaviour = Behaviour {
            is_sglang,
            reload: Reload::KeepsWeights,
            ..Behaviour::default()
        };
        let stage = Stage::new([behaviour]);
        let mut server_options = stage.options();
        if is_sglang {
            server_options.engine = EngineKind::Sglang;
        }
        let mut rollouts = stage.rollouts_with(server_options, needs());
        rollouts.sync(&model(2)).unwrap();
        let error = server_error(sample(&mut rollouts));
        assert!(!error.is_input());
        let start = format!(
            "{}: its log-probs are not those of the policy policy-1",
            stage.fakes[0].url()
        );
        assert!(error.to_string().starts_with(&start), "{error}");
        let metrics = rollouts.take_metrics();
        assert!(metrics["rollout/server/0/mismatch_mean"] > 1e-3);
    }
}

#[test]
fn a_rollout_that_is_stopped_ends_at_once_and_closes_its_connections() {
    let slow = Behaviour {
        delay: Duration::from_secs(60),
        ..Behaviour::default()
    };
    let stage = Stage::new([Behaviour::default()]);
    let mut server_options = stage.options();
    server_options.request_timeout = Duration::from_secs(600);
    let mut rollouts = stage.rollouts_with(server_options, needs());
    rollouts.sync(&model(2)).unwrap();
    same(
        "first",
        &sample(&mut rollouts).unwrap(),
        &expected(&model(2), &options()),
    );
    stage.fakes[0].behave(|behaviour| *behaviour = slow);
    let began = Instant::now();
    let mut polls = 0;
    let stopped = rollouts.sample(&requests(), &options(), &mut |_| {
        polls += 1;
        if began.elapsed() > Duration::from_millis(500) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(stopped, Err(GenerateError::Interrupted)));
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    assert!(polls >= 5, "{polls}");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(stage.fakes[0].n_dropped(), 3);
    // Sampling goes on where it is asked for.
    stage.fakes[0].behave(|behaviour| behaviour.delay = Duration::ZERO);
    same(
        "again",
        &sample(&mut rollouts).unwrap(),
        &expected(&model(2), &options()),
    );
}

#[test]
fn servers_that_cannot_be_used_are_refused_with_what_mends_them() {
    type Change = fn(&mut Behaviour);
    let rows: [(Change, &str, &str); 7] = [
        (
            |b| b.dev = false,
            "cannot be given weights",
            "VLLM_SERVER_DEV_MODE=1",
        ),
        (|b| b.scale_out = false, "answers 403", "--enable-scale-out"),
        (
            |b| b.logprobs_mode = "raw_logprobs",
            "gives raw_logprobs",
            "--logprobs-mode processed_logprobs",
        ),
        (
            |b| b.max_model_len = 39,
            "takes 39 tokens",
            "--max-model-len 40",
        ),
        (
            |b| b.api_key = Some("secret"),
            "answers 401",
            "give the key",
        ),
        (
            |b| (b.is_sglang, b.deterministic) = (true, false),
            "without regard to seeds",
            "--enable-deterministic-inference",
        ),
        (
            |b| (b.is_sglang, b.max_model_len) = (true, 39),
            "SGLang 0.5.23 takes 39 tokens",
            "--context-length 40",
        ),
    ];
    let check = |stage: &Stage, options, fault: &str, hint: &str| {
        let error = Servers::ask(options, needs()).unwrap_err();
        assert!(error.is_input());
        let text = error.to_string();
        assert!(
            text.starts_with(&stage.fakes[0].url()) && text.contains(fault),
            "{text}"
        );
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    };
    for (change, fault, hint) in rows {
        let mut behaviour = Behaviour::default();
        change(&mut behaviour);
        let stage = Stage::new([behaviour.clone()]);
        let mut options = stage.options();
        if behaviour.is_sglang {
            options.engine = EngineKind::Sglang;
        }
        check(&stage, options, fault, hint);
    }
    let stage = Stage::with_model(&model_of(28, 1), [Behaviour::default()]);
    check(
        &stage,
        stage.options(),
        "out of vocabulary",
        "the policy's own model",
    );
    stage.fakes[0].kill();
    check(
        &stage,
        stage.options(),
        "cannot be asked",
        "http://HOST:PORT",
    );
    let none = Servers::ask(ServerOptions::default(), needs()).unwrap_err();
    assert!(matches!(none, ServerError::NoServers));
}

#[test]
fn servers_say_what_they_are_and_take_a_key() {
    let behaviour = Behaviour {
        api_key: Some("secret"),
        ..Behaviour::default()
    };
    let stage = Stage::new([behaviour]);
    let mut options = stage.options();
    options.api_key = Some("secret".into());
    let servers = Servers::ask(options, needs()).unwrap();
    let expected = format!("{}: vLLM 0.32.0, context 4096", stage.fakes[0].url());
    assert_eq!(servers.descriptions(), [expected]);
}

#[test]
fn adapters_are_loaded_under_a_name_of_their_own_and_the_old_one_goes() {
    let stage = Stage::new([Behaviour::default()]);
    let base = model(1);
    let lora = LoraConfig {
        rank: 2,
        alpha: 4.0,
        target_modules: LoraConfig::all_modules(base.config()),
        use_rslora: false,
    };
    let needs = Needs {
        adapter: true,
        lora_rank: Some(2),
        ..needs()
    };
    let mut rollouts = stage.rollouts_with(stage.options(), needs.clone());
    for seed in [5, 6] {
        let policy = base.clone().with_adapter(&lora, seed).unwrap();
        rollouts.sync(&policy).unwrap();
        same(
            "adapter",
            &sample(&mut rollouts).unwrap(),
            &expected(&policy, &options()),
        );
    }
    assert_eq!(stage.fakes[0].count("/v1/unload_lora_adapter"), 1);
    assert_eq!(stage.fakes[0].count("/collective_rpc"), 0);
    let small = Stage::new([Behaviour {
        max_lora_rank: 1,
        ..Behaviour::default()
    }]);
    let error = Servers::ask(small.options(), needs).unwrap_err();
    assert!(
        error.hint().unwrap().contains("--max-lora-rank 2"),
        "{error}"
    );
}

#[test]
fn a_process_that_does_not_load_waits_for_the_one_that_does() {
    let stage = Stage::new([Behaviour::default(), Behaviour::default()]);
    let mut waiting_options = stage.options();
    waiting_options.loads = false;
    let mut waiting = stage.rollouts_with(waiting_options, needs());
    let mut loading = stage.rollouts();
    waiting.sync(&model(2)).unwrap();
    let waited = thread::scope(|scope| {
        let waited = scope.spawn(move || sample(&mut waiting));
        thread::sleep(Duration::from_millis(300));
        assert!(!waited.is_finished());
        loading.sync(&model(2)).unwrap();
        same(
            "loads",
            &sample(&mut loading).unwrap(),
            &expected(&model(2), &options()),
        );
        waited.join().unwrap()
    });
    same("waits", &waited.unwrap(), &expected(&model(2), &options()));
    assert_eq!(stage.fakes[0].count("/collective_rpc"), 1);
}

#[test]
fn weights_that_servers_have_are_not_loaded_again_and_broken_ones_never() {
    struct Same(PathBuf);
    impl Publish<Flex> for Same {
        fn publish(&mut self, _: &CausalLm<Flex>) -> Result<Published, String> {
            Ok(Published {
                label: "same".into(),
                folder: self.0.clone(),
                is_adapter: false,
            })
        }

        fn confirmed(&mut self, _: &str) {}
    }
    let stage = Stage::new([Behaviour::default()]);
    let rollouts = |folder: &Path| {
        let servers = Servers::ask(stage.options(), needs()).unwrap();
        ServerRollouts::<Flex>::new(servers, tokenizer(), Box::new(Same(folder.to_owned())))
    };
    let folder = stage.dir.path().join("base");
    // Another process loads them once more: they may be wrong, which may be why the first one has ended.
    for n_loaded in [1, 2] {
        let mut rollouts = rollouts(&folder);
        for _ in 0..2 {
            rollouts.sync(&model(1)).unwrap();
            same(
                "same",
                &sample(&mut rollouts).unwrap(),
                &expected(&model(1), &options()),
            );
        }
        assert_eq!(stage.fakes[0].count("/collective_rpc"), n_loaded);
    }
    let weights = folder.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let damages = [
        (bytes[..bytes.len() - 1].to_vec(), "its header says"),
        (bytes[..7].to_vec(), "fill whole buffer"),
        (vec![255; 64], "a header of 18446744073709551615 bytes"),
    ];
    for (damaged, fault) in damages {
        std::fs::write(&weights, damaged).unwrap();
        let error = rollouts(&folder).sync(&model(1)).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = rollouts(empty.path()).sync(&model(1)).unwrap_err();
    assert!(
        error.to_string().ends_with("has no safetensors file"),
        "{error}"
    );
}
