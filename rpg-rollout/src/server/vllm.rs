//! vLLM's HTTP interface: tokens in and out, and its development endpoints for weights.

use super::engine::{
    Answer, Engine, Facts, LoadError, Needs, PROBE, QUICK, Remedies, STARTED, Sampling, probe,
    signed,
};
use super::http::{Client, HttpError};
use super::rollouts::Published;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A vLLM server, 0.32 or newer.
pub(super) struct Vllm {
    client: Client,
    reload_method: String,
    // The adapter that this process had it load last.
    adapter: Mutex<Option<String>>,
}

impl Vllm {
    pub(super) fn new(client: Client, reload_method: String) -> Self {
        Self {
            client,
            reload_method,
            adapter: Mutex::default(),
        }
    }

    fn ask(
        &self,
        prompt: &[u32],
        seed: u64,
        sampling: &Sampling,
        adapter: Option<&str>,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        let params = sampling.params;
        let mut body = json!({
            "token_ids": prompt,
            "sampling_params": {
                "n": 1, "seed": signed(seed), "max_tokens": sampling.max_new_tokens,
                "temperature": params.temperature, "top_p": params.top_p, "min_p": params.min_p,
                "top_k": if params.top_k == 0 { -1 } else { params.top_k as i64 },
                // What ends a completion is the policy's and the caller's, whatever the server takes as the end.
                "ignore_eos": true, "stop_token_ids": sampling.stop_tokens,
                "logprobs": 0, "detokenize": false,
            },
        });
        if let Some(adapter) = adapter {
            body["model"] = adapter.into();
        }
        let answer: Generated = self.client.sample(GENERATE, &body, timeout)?;
        let choice = answer.choices.into_iter().next().unwrap_or_default();
        let mut labels: Vec<String> = (choice.weight_versions.into_iter().flatten())
            .map(|span| span.version)
            .collect();
        if let Some(adapter) = adapter {
            // The spans are of the model below it; an adapter that the server has not got is an error.
            labels = vec![adapter.to_owned()];
        }
        Ok(Answer {
            tokens: choice.token_ids,
            logprobs: (choice.logprobs.content.iter())
                .map(|token| token.logprob)
                .collect(),
            finish: choice.finish_reason,
            labels,
        })
    }

    /// The steps between which nothing is sampled.
    fn reload(&self, published: &Published, timeout: Duration) -> Result<(), LoadError> {
        let tell = |path: &str, body: Value, timeout| self.client.tell(path, &body, timeout);
        // Not `abort`, which is what it does otherwise: it answers completions that are cut off.
        tell("/pause?mode=wait", json!({}), timeout).map_err(LoadError::passing)?;
        let load = json!({
            "method": self.reload_method,
            "kwargs": {"weights_path": published.folder.to_string_lossy()},
            "timeout": timeout.as_secs(),
        });
        tell("/collective_rpc", load, timeout).map_err(LoadError::fatal)?;
        // Keys and values of prompts that were computed with the old weights.
        tell("/reset_prefix_cache", json!({}), QUICK).map_err(LoadError::passing)?;
        let label = json!({"new_version": published.label});
        tell("/update_weight_version", label, QUICK).map_err(LoadError::passing)
    }

    fn load_adapter(&self, published: &Published, timeout: Duration) -> Result<(), LoadError> {
        let name = &published.label;
        let load = json!({"lora_name": name, "lora_path": published.folder.to_string_lossy()});
        let loaded = self.client.tell("/v1/load_lora_adapter", &load, timeout);
        loaded.map_err(LoadError::passing)?;
        let mut adapter = self.adapter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = adapter.replace(name.clone()).filter(|old| old != name) {
            let unload = json!({"lora_name": old});
            let unloaded = self.client.tell("/v1/unload_lora_adapter", &unload, QUICK);
            unloaded.map_err(LoadError::passing)?;
        }
        Ok(())
    }

    fn models(&self) -> Result<Vec<Model>, HttpError> {
        let models: Models = self.client.get("/v1/models", QUICK)?;
        Ok(models.data)
    }
}

impl Engine for Vllm {
    fn client(&self) -> &Client {
        &self.client
    }

    fn remedies(&self) -> Remedies {
        Remedies {
            tokens: "--enable-scale-out, vLLM 0.32 or newer, and the policy's own model",
            weights: "VLLM_SERVER_DEV_MODE=1 in its environment",
            context: "--max-model-len",
            logprobs: "--logprobs-mode processed_logprobs",
            adapters: "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment and --enable-lora --max-lora-rank",
            // It follows them.
            seeds: "",
        }
    }

    fn wake(&self) {
        // One without this interface is refused later.
        let _ = self.client.tell("/resume", &json!({}), QUICK);
    }

    fn facts(&self, needs: &Needs) -> Result<Facts, HttpError> {
        let version: Version = self.client.get("/version", QUICK)?;
        let max_tokens = self.models()?.first().and_then(|model| model.max_model_len);
        let info = self
            .client
            .get::<Value>("/server_info?config_format=json", PROBE);
        let is_fixed = info.as_ref().err().map(HttpError::to_string);
        let info = info.unwrap_or_default();
        let config = |place: &str| info.pointer(&format!("/vllm_config{place}"));
        let mode = config("/model_config/logprobs_mode").and_then(Value::as_str);
        let lora = config("/lora_config").map(|lora| lora["max_lora_rank"].as_u64().unwrap_or(0));
        let last = needs.vocab_size.saturating_sub(1) as u32;
        let refusal = match self.ask(&[last], 0, &probe(), None, PROBE) {
            Ok(answer) if answer.labels.is_empty() => {
                Some("its answers do not say which weights they come from".to_owned())
            }
            Ok(_) => None,
            Err(error) if error.status().is_some() => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(Facts {
            program: format!("vLLM {}", version.version),
            refusal,
            is_fixed,
            max_tokens,
            other_logprobs: mode
                .filter(|mode| *mode != LOGPROBS_MODE)
                .map(str::to_owned),
            max_lora_rank: lora.map(|rank| rank as usize),
            follows_seeds: true,
        })
    }

    fn generate(
        &self,
        prompt: &[u32],
        seed: u64,
        sampling: &Sampling,
        published: &Published,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        let adapter = published.is_adapter.then_some(published.label.as_str());
        self.ask(prompt, seed, sampling, adapter, timeout)
    }

    fn label(&self, published: &Published) -> Result<String, HttpError> {
        if published.is_adapter {
            let label = &published.label;
            let has_it = self.models()?.iter().any(|model| model.id == *label);
            return Ok(if has_it { label } else { STARTED }.to_owned());
        }
        let info: WeightInfo = self.client.get("/weight_info", QUICK)?;
        Ok(info.weight_version)
    }

    fn load(&self, published: &Published, timeout: Duration) -> Result<(), LoadError> {
        if published.is_adapter {
            return self.load_adapter(published, timeout);
        }
        let reloaded = self.reload(published, timeout);
        // Also after a failure: a server that is broken then ends, and whoever watches it starts it again.
        let resumed = self.client.tell("/resume", &json!({}), QUICK);
        reloaded.and(resumed.map_err(LoadError::passing))
    }
}

const GENERATE: &str = "/inference/v1/generate";
const LOGPROBS_MODE: &str = "processed_logprobs";

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    max_model_len: Option<usize>,
}

#[derive(Deserialize)]
struct WeightInfo {
    weight_version: String,
}

#[derive(Deserialize)]
struct Generated {
    choices: Vec<Choice>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    token_ids: Vec<u32>,
    logprobs: Logprobs,
    finish_reason: String,
    weight_versions: Option<Vec<Span>>,
}

#[derive(Deserialize, Default)]
struct Logprobs {
    content: Vec<TokenLogprob>,
}

#[derive(Deserialize)]
struct TokenLogprob {
    logprob: f32,
}

#[derive(Deserialize)]
struct Span {
    version: String,
}
