//! SGLang's HTTP interface.

use super::engine::{
    Answer, Engine, Facts, LoadError, Needs, PROBE, QUICK, Remedies, Sampling, probe, signed,
};
use super::http::{Client, HttpError};
use super::rollouts::Published;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// An SGLang server.
pub(super) struct Sglang {
    client: Client,
}

impl Sglang {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    fn ask(
        &self,
        prompt: &[u32],
        seed: u64,
        sampling: &Sampling,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        let params = sampling.params;
        let body = json!({
            "input_ids": prompt,
            "sampling_params": {
                "n": 1, "sampling_seed": signed(seed), "max_new_tokens": sampling.max_new_tokens,
                "temperature": params.temperature, "top_p": params.top_p, "min_p": params.min_p,
                "top_k": if params.top_k == 0 { -1 } else { params.top_k as i64 },
                // Otherwise it would not look at the tokens that end a completion either.
                "ignore_eos": sampling.stop_tokens.is_empty(),
                "stop_token_ids": sampling.stop_tokens,
            },
            "return_logprob": true, "logprob_start_len": -1,
        });
        let answer: Generated = self.client.sample("/generate", &body, timeout)?;
        let meta = answer.meta_info;
        let (logprobs, tokens) = (meta.output_token_logprobs.iter())
            .map(|&(logprob, token, _)| (logprob, token))
            .unzip();
        Ok(Answer {
            tokens: answer.output_ids.unwrap_or(tokens),
            logprobs,
            finish: meta
                .finish_reason
                .map_or_else(String::new, |reason| reason.kind),
            labels: meta.weight_version.into_iter().collect(),
        })
    }
}

impl Engine for Sglang {
    fn client(&self) -> &Client {
        &self.client
    }

    fn remedies(&self) -> Remedies {
        Remedies {
            tokens: "the policy's own model",
            weights: "a version that has /get_model_info with weight_version",
            context: "--context-length",
            logprobs: "SGLANG_RETURN_ORIGINAL_LOGPROB unset",
            adapters: "vLLM instead, which loads adapters: --enable-lora --max-lora-rank",
            seeds: "--enable-deterministic-inference",
        }
    }

    fn facts(&self, needs: &Needs) -> Result<Facts, HttpError> {
        let info: ServerInfo = self.client.get("/get_server_info", QUICK)?;
        let model: ModelInfo = self.client.get("/get_model_info", QUICK)?;
        let is_unlabelled = model.weight_version.is_none();
        let last = needs.vocab_size.saturating_sub(1) as u32;
        let refusal = match self.ask(&[last], 0, &probe(), PROBE) {
            Ok(_) => None,
            Err(error) if error.status().is_some() => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(Facts {
            program: format!("SGLang {}", info.version),
            refusal,
            is_fixed: is_unlabelled.then(|| "it does not say which weights it has".to_owned()),
            max_tokens: info.context_length.or(info.max_req_input_len),
            other_logprobs: None,
            max_lora_rank: Some(0),
            follows_seeds: info.enable_deterministic_inference,
        })
    }

    fn generate(
        &self,
        prompt: &[u32],
        seed: u64,
        sampling: &Sampling,
        _: &Published,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        self.ask(prompt, seed, sampling, timeout)
    }

    fn label(&self, _: &Published) -> Result<String, HttpError> {
        let model: ModelInfo = self.client.get("/get_model_info", QUICK)?;
        Ok(model.weight_version.unwrap_or_default())
    }

    fn load(&self, published: &Published, timeout: Duration) -> Result<(), LoadError> {
        let load = json!({
            "model_path": published.folder.to_string_lossy(), "weight_version": published.label,
            "abort_all_requests": false, "flush_cache": true,
        });
        let loaded = self
            .client
            .tell("/update_weights_from_disk", &load, timeout);
        loaded.map_err(LoadError::fatal)
    }
}

#[derive(Deserialize)]
struct ServerInfo {
    version: String,
    context_length: Option<usize>,
    max_req_input_len: Option<usize>,
    #[serde(default)]
    enable_deterministic_inference: bool,
}

#[derive(Deserialize)]
struct ModelInfo {
    weight_version: Option<String>,
}

#[derive(Deserialize)]
struct Generated {
    output_ids: Option<Vec<u32>>,
    meta_info: MetaInfo,
}

#[derive(Deserialize)]
struct MetaInfo {
    #[serde(default)]
    output_token_logprobs: Vec<(f32, u32, Option<String>)>,
    finish_reason: Option<FinishReason>,
    weight_version: Option<String>,
}

#[derive(Deserialize)]
struct FinishReason {
    #[serde(rename = "type")]
    kind: String,
}
