//! An inference server that samples with a real model, speaks as vLLM and SGLang do, and misbehaves as told.

use burn::backend::Flex;
use rpg_core::StopReason;
use rpg_core::model::{AdapterFolder, CausalLm};
use rpg_core::tokenizer::Tokenizer;
use rpg_rollout::generate::{GenerateOptions, Request, generate};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What happens to a request for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No answer, until the client goes away.
    Hang,
    /// The connection is closed in the middle of the answer.
    CutOff,
    /// Half of the tokens, as vLLM answers what it aborts: with 200.
    Abort,
    /// An answer that is from other weights, as it says itself.
    WrongLabel,
    /// A token that no vocabulary has.
    OutsideVocabulary,
    /// One log-prob less than tokens.
    FewerLogprobs,
    /// An error of the server.
    Status(u16),
}

/// How weights are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    Right,
    /// An error; the next completion ends the server.
    Fails,
    /// The old weights stay, under the new label.
    KeepsWeights,
}

/// How the server was started, and what it does.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// SGLang's interface; else vLLM's.
    pub(crate) is_sglang: bool,
    /// `VLLM_SERVER_DEV_MODE=1`.
    pub(crate) dev: bool,
    /// `--enable-scale-out`.
    pub(crate) scale_out: bool,
    /// `--enable-deterministic-inference`.
    pub(crate) deterministic: bool,
    pub(crate) logprobs_mode: &'static str,
    pub(crate) max_model_len: usize,
    pub(crate) max_lora_rank: usize,
    pub(crate) api_key: Option<&'static str>,
    pub(crate) reload: Reload,
    /// How long every completion takes.
    pub(crate) delay: Duration,
    /// What happens to the next completions; then to all: nothing.
    pub(crate) troubles: VecDeque<Trouble>,
    /// What happens to all completions after those.
    pub(crate) always: Option<Trouble>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            is_sglang: false,
            dev: true,
            scale_out: true,
            deterministic: true,
            logprobs_mode: "processed_logprobs",
            max_model_len: 4096,
            max_lora_rank: 16,
            api_key: None,
            reload: Reload::Right,
            delay: Duration::ZERO,
            troubles: VecDeque::new(),
            always: None,
        }
    }
}

/// A server at a port of this machine.
pub(crate) struct Fake {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    model: PathBuf,
    tokenizer: Tokenizer,
    behaviour: Mutex<Behaviour>,
    engine: Mutex<Engine>,
    is_alive: AtomicBool,
    n_running: AtomicUsize,
    n_dropped: AtomicUsize,
    seen: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
}

struct Engine {
    policy: CausalLm<Flex>,
    label: String,
    adapters: BTreeMap<String, CausalLm<Flex>>,
    is_paused: bool,
    is_broken: bool,
}

impl Engine {
    fn start(model: &Path) -> Self {
        Self {
            policy: CausalLm::load_hf(model, &Default::default()).unwrap(),
            label: "default".into(),
            adapters: BTreeMap::new(),
            is_paused: false,
            is_broken: false,
        }
    }
}

/// The answer to a request.
enum Reply {
    Json(u16, Value),
    /// Half of it.
    CutOff(Value),
    /// None.
    Nothing,
}

impl Fake {
    /// Starts a server with the model of a folder.
    pub(crate) fn start(model: &Path, tokenizer: &Tokenizer, behaviour: Behaviour) -> Self {
        let shared = Arc::new(Shared {
            model: model.to_owned(),
            tokenizer: tokenizer.clone(),
            behaviour: Mutex::new(behaviour),
            engine: Mutex::new(Engine::start(model)),
            is_alive: AtomicBool::new(true),
            n_running: AtomicUsize::new(0),
            n_dropped: AtomicUsize::new(0),
            seen: Mutex::default(),
            connections: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listen(listener, shared.clone());
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes what it does from here on.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    /// The next completions end like this.
    pub(crate) fn trouble(&self, troubles: &[Trouble]) {
        self.behave(|behaviour| behaviour.troubles.extend(troubles));
    }

    /// The process ends: connections break, and no new ones are taken.
    pub(crate) fn kill(&self) {
        self.shared.kill();
    }

    /// It is started again, at its port, with the weights that it began with.
    pub(crate) fn restart(&self) {
        self.kill();
        *self.shared.engine.lock().unwrap() = Engine::start(&self.shared.model);
        // The old listener may take a moment to go.
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.shared.is_alive.store(true, Ordering::SeqCst);
        listen(listener, self.shared.clone());
    }

    /// The label of its weights.
    pub(crate) fn label(&self) -> String {
        self.shared.engine.lock().unwrap().label.clone()
    }

    /// The method and path of every request so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How often it was asked for this path, whatever is asked of it.
    pub(crate) fn count(&self, path: &str) -> usize {
        let is_it = |seen: &&String| seen.split([' ', '?']).nth(1) == Some(path);
        self.seen().iter().filter(is_it).count()
    }

    /// Completions whose client went away.
    pub(crate) fn n_dropped(&self) -> usize {
        self.shared.n_dropped.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(listener: TcpListener, shared: Arc<Shared>) {
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        while shared.is_alive.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    let kept = stream.try_clone().unwrap();
                    shared.connections.lock().unwrap().push(kept);
                    let shared = shared.clone();
                    thread::spawn(move || shared.serve(stream));
                }
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

impl Shared {
    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap()
    }

    fn kill(&self) {
        self.is_alive.store(false, Ordering::SeqCst);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Answers the one request of a connection.
    fn serve(&self, mut stream: TcpStream) {
        let Some((method, path, key, body)) = read_request(&stream) else {
            return;
        };
        self.seen.lock().unwrap().push(format!("{method} {path}"));
        let expected = self.behaviour().api_key;
        let reply = if expected.is_some_and(|expected| key != format!("Bearer {expected}")) {
            Reply::Json(401, json!({"error": "Unauthorized"}))
        } else {
            self.reply(&path, &body, &stream)
        };
        let (status, json, is_whole) = match reply {
            Reply::Json(status, json) => (status, json, true),
            Reply::CutOff(json) => (200, json, false),
            Reply::Nothing => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        };
        let text = json.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        let n_sent = if is_whole { text.len() } else { text.len() / 2 };
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&text.as_bytes()[..n_sent]);
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn reply(&self, path: &str, body: &Value, stream: &TcpStream) -> Reply {
        let path = path.split('?').next().unwrap_or_default();
        if self.behaviour().is_sglang {
            self.sglang(path, body, stream)
        } else {
            self.vllm(path, body, stream)
        }
    }

    fn vllm(&self, path: &str, body: &Value, stream: &TcpStream) -> Reply {
        let Behaviour {
            dev,
            scale_out,
            logprobs_mode,
            max_model_len,
            max_lora_rank,
            ..
        } = self.behaviour().clone();
        let done = |json: Value| Reply::Json(200, json);
        match path {
            "/version" => return done(json!({"version": "0.32.0"})),
            "/v1/models" => {
                let mut models = vec![json!({"id": "policy", "max_model_len": max_model_len})];
                let adapters = self.engine().adapters.keys().cloned().collect::<Vec<_>>();
                models.extend(
                    adapters
                        .iter()
                        .map(|id| json!({"id": id, "parent": "policy"})),
                );
                return done(json!({"data": models}));
            }
            "/v1/load_lora_adapter" => return self.load_adapter(body),
            "/v1/unload_lora_adapter" => {
                let name = body["lora_name"].as_str().unwrap();
                self.engine().adapters.remove(name);
                return done(json!("removed"));
            }
            "/inference/v1/generate" if !scale_out => {
                return Reply::Json(403, json!({"error": "scale-out is off"}));
            }
            "/inference/v1/generate" => return self.vllm_completion(body, stream),
            _ if !dev => return Reply::Json(404, json!({"detail": "Not Found"})),
            _ => {}
        }
        match path {
            "/server_info" => {
                let lora = (max_lora_rank > 0).then(|| json!({"max_lora_rank": max_lora_rank}));
                let model = json!({"logprobs_mode": logprobs_mode, "max_model_len": max_model_len});
                done(json!({"vllm_config": {"model_config": model, "lora_config": lora}}))
            }
            "/weight_info" => done(json!({"weight_version": self.engine().label})),
            "/pause" => {
                self.engine().is_paused = true;
                while self.n_running.load(Ordering::SeqCst) > 0 {
                    thread::sleep(Duration::from_millis(2));
                }
                done(json!({"status": "paused"}))
            }
            "/resume" => {
                self.engine().is_paused = false;
                done(json!({"status": "resumed"}))
            }
            "/collective_rpc" => {
                assert!(self.engine().is_paused, "loaded without a pause");
                let folder = body["kwargs"]["weights_path"].as_str().unwrap();
                if self.load(folder) {
                    return done(json!({"results": [null]}));
                }
                Reply::Json(500, json!({"error": "EngineDeadError"}))
            }
            "/reset_prefix_cache" => done(Value::Null),
            "/update_weight_version" => {
                self.engine().label = body["new_version"].as_str().unwrap().to_owned();
                done(json!({"success": true}))
            }
            _ => Reply::Json(404, json!({"detail": "Not Found"})),
        }
    }

    fn sglang(&self, path: &str, body: &Value, stream: &TcpStream) -> Reply {
        let behaviour = self.behaviour().clone();
        match path {
            "/get_server_info" => Reply::Json(
                200,
                json!({
                    "version": "0.5.23", "context_length": behaviour.max_model_len,
                    "enable_deterministic_inference": behaviour.deterministic,
                }),
            ),
            "/get_model_info" => Reply::Json(200, json!({"weight_version": self.engine().label})),
            "/generate" => self.sglang_completion(body, stream),
            "/update_weights_from_disk" => {
                let is_loaded = self.load(body["model_path"].as_str().unwrap());
                if is_loaded {
                    self.engine().label = body["weight_version"].as_str().unwrap().to_owned();
                }
                let status = if is_loaded { 200 } else { 400 };
                Reply::Json(status, json!({"success": is_loaded, "message": "as told"}))
            }
            _ => Reply::Json(404, json!({"detail": "Not Found"})),
        }
    }

    /// Loads a folder, or does not; whether it says that it has.
    fn load(&self, folder: &str) -> bool {
        match self.behaviour().reload {
            Reload::Right => {
                let policy = CausalLm::load_hf(Path::new(folder), &Default::default());
                self.engine().policy = policy.unwrap();
            }
            Reload::KeepsWeights => {}
            Reload::Fails => {
                self.engine().is_broken = true;
                return false;
            }
        }
        true
    }

    fn load_adapter(&self, body: &Value) -> Reply {
        let (name, folder) = (body["lora_name"].as_str(), body["lora_path"].as_str());
        let folder = AdapterFolder::open(Path::new(folder.unwrap())).unwrap();
        let mut engine = self.engine();
        let adapted = engine.policy.clone().with_adapter_of(&folder).unwrap();
        engine.adapters.insert(name.unwrap().to_owned(), adapted);
        Reply::Json(200, json!("loaded"))
    }

    fn vllm_completion(&self, body: &Value, stream: &TcpStream) -> Reply {
        let params = &body["sampling_params"];
        let adapter = body["model"].as_str();
        let ids = (&body["token_ids"], &params["seed"], &params["max_tokens"]);
        self.completion(ids, params, adapter, stream, |sampled| {
            let content = sampled.logprobs.iter().zip(&sampled.tokens);
            let content: Vec<Value> = content
                .map(|(logprob, id)| json!({"token_id": id, "logprob": logprob, "rank": 1}))
                .collect();
            let span = json!({"version": sampled.label, "start": 0, "end": sampled.tokens.len()});
            json!({"choices": [{
                "index": 0, "finish_reason": sampled.finish, "token_ids": sampled.tokens,
                "logprobs": {"content": content}, "weight_versions": [span],
            }]})
        })
    }

    fn sglang_completion(&self, body: &Value, stream: &TcpStream) -> Reply {
        let params = &body["sampling_params"];
        let ids = (
            &body["input_ids"],
            &params["sampling_seed"],
            &params["max_new_tokens"],
        );
        self.completion(ids, params, None, stream, |sampled| {
            let logprobs = sampled.logprobs.iter().zip(&sampled.tokens);
            let logprobs: Vec<Value> = logprobs.map(|(lp, id)| json!([lp, id, null])).collect();
            json!({"output_ids": sampled.tokens, "meta_info": {
                "output_token_logprobs": logprobs, "weight_version": sampled.label,
                "finish_reason": {"type": sampled.finish},
            }})
        })
    }

    /// A completion, with whatever happens to it.
    fn completion(
        &self,
        (prompt, seed, max_tokens): (&Value, &Value, &Value),
        params: &Value,
        adapter: Option<&str>,
        stream: &TcpStream,
        shape: impl Fn(&Sampled) -> Value,
    ) -> Reply {
        let prompt: Vec<u32> = serde_json::from_value(prompt.clone()).unwrap();
        let (policy, label) = {
            let engine = self.engine();
            if engine.is_broken {
                drop(engine);
                self.kill();
                return Reply::Nothing;
            }
            if engine.is_paused {
                return Reply::Json(503, json!({"error": "generation is paused"}));
            }
            match adapter {
                None => (engine.policy.clone(), engine.label.clone()),
                Some(name) => match engine.adapters.get(name) {
                    Some(adapted) => (adapted.clone(), engine.label.clone()),
                    None => {
                        return Reply::Json(404, json!({"error": {"message": "no such model"}}));
                    }
                },
            }
        };
        let vocab_size = policy.config().vocab_size;
        if prompt.iter().any(|&id| id as usize >= vocab_size) {
            return Reply::Json(400, json!({"error": {"message": "out of vocabulary"}}));
        }
        self.n_running.fetch_add(1, Ordering::SeqCst);
        let (trouble, delay) = {
            let mut behaviour = self.behaviour();
            let next = behaviour.troubles.pop_front();
            (next.or(behaviour.always), behaviour.delay)
        };
        let mut sampled = sample(&policy, &self.tokenizer, prompt, seed, max_tokens, params);
        sampled.label = label;
        let is_there = self.wait(stream, delay);
        self.n_running.fetch_sub(1, Ordering::SeqCst);
        if !is_there {
            return Reply::Nothing;
        }
        match trouble {
            None => {}
            Some(Trouble::Hang) => {
                self.wait(stream, Duration::from_secs(600));
                return Reply::Nothing;
            }
            Some(Trouble::CutOff) => return Reply::CutOff(shape(&sampled)),
            Some(Trouble::Status(status)) => {
                return Reply::Json(status, json!({"error": {"message": "as told"}}));
            }
            Some(Trouble::Abort) => {
                sampled.finish = "abort";
                sampled.tokens.truncate(sampled.tokens.len() / 2);
                sampled.logprobs.truncate(sampled.tokens.len());
            }
            Some(Trouble::WrongLabel) => sampled.label = "another".into(),
            Some(Trouble::OutsideVocabulary) => sampled.tokens[0] = 1 << 30,
            Some(Trouble::FewerLogprobs) => {
                sampled.logprobs.pop();
            }
        }
        Reply::Json(200, shape(&sampled))
    }

    /// Waits, unless the client goes away or the server ends; whether neither happened.
    fn wait(&self, stream: &TcpStream, time: Duration) -> bool {
        const TICK: Duration = Duration::from_millis(5);
        let mut left = time;
        stream.set_read_timeout(Some(TICK)).unwrap();
        while left > Duration::ZERO {
            if !self.is_alive.load(Ordering::SeqCst) {
                return false;
            }
            // Nothing to read is a time-out; at the end, nothing is read.
            let is_there = match stream.peek(&mut [0]) {
                Ok(n) => n > 0,
                Err(error) => [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
            };
            if !is_there {
                self.n_dropped.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            left = left.saturating_sub(TICK);
        }
        true
    }
}

struct Sampled {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    finish: &'static str,
    label: String,
}

fn sample(
    policy: &CausalLm<Flex>,
    tokenizer: &Tokenizer,
    prompt: Vec<u32>,
    seed: &Value,
    max_tokens: &Value,
    params: &Value,
) -> Sampled {
    let mut options = GenerateOptions::default();
    options.ignore_eos = true;
    options.max_new_tokens = max_tokens.as_u64().unwrap() as usize;
    options.stop_token_ids = serde_json::from_value(params["stop_token_ids"].clone()).unwrap();
    options.sampling.temperature = params["temperature"].as_f64().unwrap();
    let request = Request::new(prompt, [seed.as_u64().unwrap()]);
    let groups = generate(policy, tokenizer, &[request], &options).unwrap();
    let completion = groups.into_iter().next().unwrap().completions.remove(0);
    Sampled {
        tokens: completion.tokens,
        logprobs: completion.logprobs,
        finish: match completion.stop {
            StopReason::Length => "length",
            _ => "stop",
        },
        label: String::new(),
    }
}

/// Method, path, key and body of a request.
fn read_request(stream: &TcpStream) -> Option<(String, String, String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut n_bytes, mut key) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_lowercase().as_str() {
            "content-length" => n_bytes = value.parse().ok()?,
            "authorization" => key = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; n_bytes];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some((method, path, key, body))
}
