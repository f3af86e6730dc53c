//! How much memory a run will take, before anything is loaded.

use crate::config::{GradientCheckpointing, TrainConfig};
use crate::optim::OptimizerKind;
use rpg_core::model::{Activations, ModelConfig, Storage};
use rpg_core::ops::PackedFormat;
use rpg_rollout::rollouts::RolloutWeights;
use serde::Serialize;

/// Bytes of an f32.
const F32: usize = 4;

/// The program, its tokenizer and its problems.
const PROGRAM: usize = 64 << 20;

/// What the memory of a run depends on, besides its config.
#[derive(Debug, Clone)]
pub struct RunSizes {
    /// The shape of the policy.
    pub model: ModelConfig,
    /// The bytes of its weights as they are stored.
    pub stored_bytes: usize,
    /// The longest prompt, in tokens.
    pub longest_prompt: usize,
    /// The mean length of prompts.
    pub mean_prompt: usize,
    /// The shape of the model at `reference.path`.
    pub reference: Option<ModelConfig>,
    /// The parameters of the adapter, if the policy is one whose training goes on.
    pub adapter: Option<usize>,
    /// How many ranks share out completions and moments.
    pub ranks: usize,
}

impl RunSizes {
    /// The parameters of the adapter that is trained, if one is, and how its base is kept.
    fn adapter(&self, config: &TrainConfig) -> Option<(usize, Storage)> {
        match (&config.lora, self.adapter) {
            (Some(lora), _) => {
                let adapter = lora.adapter(&self.model);
                Some((adapter.n_parameters(&self.model), lora.base.storage()))
            }
            (None, Some(n_parameters)) => Some((n_parameters, Storage::Stored)),
            (None, None) => None,
        }
    }
}

/// A part of the memory of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// What it is.
    pub name: &'static str,
    /// Its size.
    pub bytes: usize,
    /// Whether it exists while the policy samples.
    pub sampling: bool,
    /// Whether it exists during an update.
    pub updating: bool,
}

/// The memory of a run by its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The parts; none is empty.
    pub parts: Vec<MemoryPart>,
    /// The parameters of the policy.
    pub parameters: usize,
    /// Those that are trained.
    pub trained_parameters: usize,
    /// Tokens of a step's prompts, each of which its samples share if the model lets them, and of the completions, if these are as long as they may be.
    pub tokens_per_step: usize,
}

impl MemoryPlan {
    /// The memory that a run with this config will take, for each rank.
    pub fn new(config: &TrainConfig, sizes: &RunSizes) -> Self {
        let model = &sizes.model;
        let parameters = model.n_parameters();
        let adapter = sizes.adapter(config);
        let trained_parameters = adapter.map_or(parameters, |(n, _)| n);
        let (weights, of_adapter) = match adapter {
            Some((n, storage)) => (base_bytes(storage, sizes), F32 * n),
            None => (F32 * parameters, 0),
        };
        let ranks = sizes.ranks.max(1);
        let moments = match config.optimizer.kind {
            OptimizerKind::Adamw8bit => 2 * trained_parameters + trained_parameters / 32,
            _ => 2 * F32 * trained_parameters,
        };
        let n_prompts = config.rollout.prompts_per_step.get();
        let n_samples = config.rollout.samples_per_prompt.get();
        let n_completions = n_prompts * n_samples;
        let new_tokens = config.rollout.max_new_tokens.get();
        let n_passed = if model.shares_prompts() {
            n_prompts
        } else {
            n_completions
        };
        let tokens_per_step = n_passed * sizes.mean_prompt + n_completions * new_tokens;
        let gradients = gradient_bytes(adapter.is_some(), model, trained_parameters);
        let activations = activation_bytes(config, sizes, tokens_per_step.div_ceil(ranks));
        let logits = logit_bytes(config, model);
        let part = |name, bytes, sampling, updating| MemoryPart {
            name,
            bytes,
            sampling,
            updating,
        };
        let mut parts = vec![
            part("program and problems", PROGRAM, true, true),
            part("weights", weights + of_adapter, true, true),
            part(
                "reference",
                reference_bytes(config, sizes, trained_parameters),
                true,
                true,
            ),
            part(
                "policies of steps ahead",
                past_bytes(config, trained_parameters),
                true,
                true,
            ),
            part("moments", moments.div_ceil(ranks), true, true),
            part("gradients", gradients, false, true),
            part("activations", activations, false, true),
            part("logits", logits, false, true),
            part(
                "exchange of ranks",
                exchanged_bytes(ranks, trained_parameters)
                    .saturating_sub(gradients + activations + logits),
                false,
                true,
            ),
            part(
                "copies for sampling",
                sampler_bytes(config, sizes, trained_parameters),
                true,
                false,
            ),
            part(
                "KV cache",
                cache_bytes(config, sizes, n_prompts.div_ceil(ranks) * n_samples),
                true,
                false,
            ),
        ];
        parts.retain(|part| part.bytes > 0);
        Self {
            parts,
            parameters,
            trained_parameters,
            tokens_per_step,
        }
    }

    /// The memory while the policy samples, and that during an update.
    pub fn phases(&self) -> [usize; 2] {
        let sum = |of: fn(&MemoryPart) -> bool| {
            let parts = self.parts.iter().filter(|part| of(part));
            parts.map(|part| part.bytes).sum()
        };
        [sum(|part| part.sampling), sum(|part| part.updating)]
    }

    /// The most memory at any time.
    pub fn peak(&self) -> usize {
        let [sampling, updating] = self.phases();
        sampling.max(updating)
    }
}

/// What would lower the memory of a run to `limit`, in the order in which it costs least: keys and their values, and the
/// memory with all up to there. Where nothing is enough, it is all that helps.
pub fn advice(config: &TrainConfig, sizes: &RunSizes, limit: usize) -> Vec<(String, usize)> {
    let mut config = config.clone();
    let mut peak = MemoryPlan::new(&config, sizes).peak();
    let mut advice = Vec::new();
    for set in [
        "train.gradient_checkpointing=on",
        "train.micro_batch_tokens=1024",
        "rollout.max_slots=64",
        "rollout.max_slots=16",
        "optimizer.kind=adamw_8bit",
        "lora={}",
        "lora.base=nf4",
    ] {
        if peak <= limit {
            break;
        }
        let mut changed = config.clone();
        match set {
            "train.gradient_checkpointing=on" => {
                changed.train.gradient_checkpointing = GradientCheckpointing::On;
            }
            "lora={}" if sizes.adapter(&config).is_some() => continue,
            "lora.base=nf4" if config.lora.is_none() => continue,
            _ => {
                let Ok(other) = TrainConfig::from_toml(&config.to_toml(), "", &[set.to_owned()])
                else {
                    continue;
                };
                changed = other;
            }
        }
        let lower = MemoryPlan::new(&changed, sizes).peak();
        if lower < peak {
            (config, peak) = (changed, lower);
            advice.push((set.to_owned(), peak));
        }
    }
    advice
}

/// The base of an adapter.
fn base_bytes(storage: Storage, sizes: &RunSizes) -> usize {
    let model = &sizes.model;
    let all = model.n_parameters();
    match storage {
        Storage::Stored => sizes.stored_bytes.min(F32 * all),
        Storage::Nf4 => {
            let outside = embedding_parameters(model);
            let stored = sizes.stored_bytes as f64 / all as f64;
            PackedFormat::Nf4.bytes(all - outside) + (stored * outside as f64) as usize
        }
        _ => F32 * all,
    }
}

fn embedding_parameters(model: &ModelConfig) -> usize {
    let matrices = if model.tie_word_embeddings { 1 } else { 2 };
    matrices * model.vocab_size * model.hidden_size
}

fn reference_bytes(config: &TrainConfig, sizes: &RunSizes, n_trained: usize) -> usize {
    if let Some(reference) = &sizes.reference {
        return F32 * reference.n_parameters();
    }
    if config.reference.rule.needs_model() {
        // A copy of what is trained; the rest is shared.
        return F32 * n_trained;
    }
    0
}

/// The policies with which steps are sampled ahead, and that of the step at hand.
fn past_bytes(config: &TrainConfig, n_trained: usize) -> usize {
    match config.rollout.max_staleness.get() {
        0 => 0,
        n => F32 * n_trained * (n + 1),
    }
}

/// The gradients, and that of the output layer a second time, before it is added.
fn gradient_bytes(is_adapter: bool, model: &ModelConfig, n_trained: usize) -> usize {
    let head = if is_adapter {
        0
    } else {
        F32 * model.vocab_size * model.hidden_size
    };
    F32 * n_trained + head
}

/// Gradients for other ranks and from them, when those of the rank and all activations are gone; and about as much, the whole state of
/// the optimizer and what has been received of it, on the rank that writes a checkpoint.
fn exchanged_bytes(ranks: usize, n_trained: usize) -> usize {
    match ranks {
        1 => 0,
        _ => 2 * F32 * n_trained,
    }
}

fn activation_bytes(config: &TrainConfig, sizes: &RunSizes, tokens_per_step: usize) -> usize {
    let model = &sizes.model;
    let longest = sizes.longest_prompt + config.rollout.max_new_tokens.get();
    let per_update = tokens_per_step.div_ceil(config.train.mini_batches.get());
    let n_tokens = config
        .train
        .micro_batch_tokens
        .get()
        .max(longest)
        .min(per_update.max(longest));
    let all = model.activation_bytes(n_tokens);
    let layers = 0..model.num_hidden_layers;
    let blocks = layers.map(|layer| model.block_activation_bytes(layer, n_tokens));
    let block = blocks.max().unwrap_or(0);
    // The backward pass of a block has gradients of most of what it has computed.
    let residual = F32 * n_tokens * model.hidden_size;
    match config.train.activations(model) {
        Activations::Keep => all + block / 2,
        Activations::Recompute => residual * (model.num_hidden_layers + 2) + block + block / 2,
    }
}

/// The logits of some tokens at a time.
fn logit_bytes(config: &TrainConfig, model: &ModelConfig) -> usize {
    let n_tokens = config.train.micro_batch_tokens.get();
    F32 * (n_tokens * model.vocab_size).min(rpg_core::score::MAX_LOGITS)
}

fn sampler_bytes(config: &TrainConfig, sizes: &RunSizes, n_trained: usize) -> usize {
    let model = &sizes.model;
    let averaged = match config.optimizer.kind {
        OptimizerKind::AdamwScheduleFree => F32 * n_trained,
        _ => 0,
    };
    let int8 = match config.rollout.weights {
        RolloutWeights::Int8 => model.n_parameters(),
        _ => 0,
    };
    averaged + int8
}

fn cache_bytes(config: &TrainConfig, sizes: &RunSizes, n_completions: usize) -> usize {
    if config.rollout.servers().is_some() {
        return 0;
    }
    let model = &sizes.model;
    let capacity = sizes.longest_prompt + config.rollout.max_new_tokens.get();
    let options = config.generate_options(config.sampling());
    let n_slots = options.n_slots(model, n_completions, capacity);
    // And the logits of a token of each, twice.
    n_slots * (model.cache_bytes(capacity) + 2 * F32 * model.vocab_size) + model.state_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes() -> RunSizes {
        let smol = serde_json::json!({
            "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "max_position_embeddings": 8192, "vocab_size": 49152, "tie_word_embeddings": true,
        });
        let model = ModelConfig::from_hf_json(&smol.to_string()).unwrap();
        RunSizes {
            stored_bytes: 2 * model.n_parameters(),
            model,
            longest_prompt: 200,
            mean_prompt: 80,
            reference: None,
            adapter: None,
            ranks: 1,
        }
    }

    fn plan(sets: &[&str]) -> MemoryPlan {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = TrainConfig::recipe("finetune", &sets).unwrap();
        MemoryPlan::new(&config, &sizes())
    }

    fn part(plan: &MemoryPlan, name: &str) -> usize {
        let part = plan.parts.iter().find(|part| part.name == name);
        part.map_or(0, |part| part.bytes)
    }

    const FILES: [&str; 2] = ["model.path='m'", "data.train='d'"];

    #[test]
    fn what_is_trained_decides_over_gradients_and_moments() {
        let full = plan(&FILES);
        assert_eq!(full.parameters, 134_515_008);
        assert_eq!(part(&full, "moments"), 8 * full.parameters);
        let eight = plan(&[FILES[0], FILES[1], "optimizer.kind=adamw_8bit"]);
        assert!(part(&eight, "moments") * 100 < part(&full, "moments") * 26);
        let ahead = "rollout.max_staleness=2";
        let of_ahead = |plan: &MemoryPlan| part(plan, "policies of steps ahead");
        assert_eq!(of_ahead(&full), 0);
        let stale = plan(&[FILES[0], FILES[1], ahead]);
        assert_eq!(of_ahead(&stale), 3 * 4 * full.parameters);
        let stale = plan(&[FILES[0], FILES[1], ahead, "lora={rank=16}"]);
        assert_eq!(of_ahead(&stale), 3 * 4 * stale.trained_parameters);
        let lora = plan(&[FILES[0], FILES[1], "lora={rank=16}"]);
        // For each of 30 blocks: rank * (inputs + outputs) of seven modules.
        let outputs = [576, 192, 192, 576, 1536, 1536, 576];
        let inputs = [576, 576, 576, 576, 576, 576, 1536];
        let of_block: usize = outputs.iter().zip(inputs).map(|(o, i)| 16 * (o + i)).sum();
        assert_eq!(lora.trained_parameters, 30 * of_block);
        assert_eq!(part(&lora, "gradients"), 4 * lora.trained_parameters);
        assert_eq!(
            part(&lora, "weights"),
            2 * full.parameters + 4 * lora.trained_parameters
        );
        let nf4 = plan(&[FILES[0], FILES[1], "lora={base='nf4'}"]);
        let embedding = 49152 * 576;
        assert_eq!(
            part(&nf4, "weights"),
            2 * embedding
                + (full.parameters - embedding).div_ceil(64) * 36
                + 4 * lora.trained_parameters
        );
        assert!(nf4.peak() < lora.peak() && lora.peak() < full.peak());
    }

    #[test]
    fn ranks_share_out_moments_and_samples() {
        let plan = |ranks| {
            let config = TrainConfig::recipe("finetune", &FILES.map(str::to_owned)).unwrap();
            MemoryPlan::new(&config, &RunSizes { ranks, ..sizes() })
        };
        let [one, four] = [1, 4].map(plan);
        assert_eq!(4 * part(&four, "moments"), part(&one, "moments"));
        assert_eq!(part(&four, "weights"), part(&one, "weights"));
        // What is exchanged takes the place of gradients, activations and logits.
        let of_update = |plan: &MemoryPlan| {
            let parts = plan.parts.iter();
            let parts = parts.filter(|part| part.updating && !part.sampling);
            parts.map(|part| part.bytes).sum::<usize>()
        };
        assert_eq!(part(&one, "exchange of ranks"), 0);
        assert!(of_update(&one) < 8 * one.parameters);
        assert_eq!(of_update(&four), 8 * one.parameters);
        // Shares are whole prompts: of 8, three ranks have 3 at most.
        let slots = |plan: &MemoryPlan| part(plan, "KV cache");
        assert_eq!(8 * slots(&plan(3)), 3 * slots(&one));
    }

    /// Qwen3-30B-A3B has 30.5 billion parameters, of which a token takes 3.3.
    #[test]
    fn experts_are_counted() {
        let mut json = serde_json::json!({
            "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
            "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151_936,
            "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": true,
        });
        let model =
            |json: &serde_json::Value| ModelConfig::from_hf_json(&json.to_string()).unwrap();
        let sizes = |json: &serde_json::Value| RunSizes {
            model: model(json),
            stored_bytes: 2 * model(json).n_parameters(),
            longest_prompt: 200,
            mean_prompt: 80,
            reference: None,
            adapter: None,
            ranks: 1,
        };
        let lora = [
            FILES[0],
            FILES[1],
            "lora={rank=16}",
            "train.gradient_checkpointing=on",
        ]
        .map(str::to_owned);
        let config = TrainConfig::recipe("finetune", &lora).unwrap();
        let plan = MemoryPlan::new(&config, &sizes(&json));
        assert_eq!(plan.parameters, 30_532_122_624);
        // Attention alone: queries and the output, keys and values.
        let of_block = 16 * (2 * (2048 + 4096) + 2 * (2048 + 512));
        assert_eq!(plan.trained_parameters, 48 * of_block);
        // More experts of a token need more activations, and a dense layer has its own width.
        json["num_experts_per_tok"] = 16.into();
        let more = MemoryPlan::new(&config, &sizes(&json));
        assert!(part(&more, "activations") > part(&plan, "activations"));
        json["mlp_only_layers"] = (0..48).collect();
        let dense = MemoryPlan::new(&config, &sizes(&json));
        assert_eq!(
            plan.parameters - dense.parameters,
            48 * 2048 * (128 * (1 + 3 * 768) - 3 * 6144)
        );
    }

    #[test]
    fn states_do_not_grow_with_the_length_of_completions() {
        let hybrid = serde_json::json!({
            "model_type": "qwen3_5_text", "hidden_size": 1024, "intermediate_size": 3584,
            "num_hidden_layers": 24, "num_attention_heads": 8, "num_key_value_heads": 2,
            "linear_num_key_heads": 16, "linear_num_value_heads": 16,
            "max_position_embeddings": 262_144, "vocab_size": 248_320, "tie_word_embeddings": true,
        });
        let model = ModelConfig::from_hf_json(&hybrid.to_string()).unwrap();
        let (states, vocab_size) = (model.state_bytes(), model.vocab_size);
        // 18 layers with 16 heads of 128 x 128 and three inputs of 6144, 6 with keys and values of 2 heads of 256.
        assert_eq!(states, 4 * 18 * (16 * 128 * 128 + 3 * 6144));
        let sizes = RunSizes { model, ..sizes() };
        for new_tokens in [100, 1000] {
            let mut sets = FILES.map(str::to_owned).to_vec();
            sets.push(format!("rollout.max_new_tokens={new_tokens}"));
            sets.push("rollout.max_slots=8".into());
            let config = TrainConfig::recipe("finetune", &sets).unwrap();
            let found = part(&MemoryPlan::new(&config, &sizes), "KV cache");
            let of_tokens = 4 * 6 * 2 * 2 * 256 * (200 + new_tokens);
            // The states of eight slots, and what is kept for a ninth.
            assert_eq!(found, 9 * states + 8 * (of_tokens + 2 * 4 * vocab_size));
        }
    }

    #[test]
    fn what_helps_is_named_until_it_fits() {
        let sets = FILES.map(str::to_owned);
        let config = TrainConfig::recipe("finetune", &sets).unwrap();
        let sizes = sizes();
        let peak = MemoryPlan::new(&config, &sizes).peak();
        assert_eq!(advice(&config, &sizes, peak), []);
        let all = advice(&config, &sizes, 0);
        let keys: Vec<&str> = all.iter().map(|(set, _)| set.as_str()).collect();
        assert!(
            keys.contains(&"lora={}") && keys.contains(&"lora.base=nf4"),
            "{keys:?}"
        );
        assert!(all.windows(2).all(|pair| pair[1].1 < pair[0].1), "{all:?}");
        let some = advice(&config, &sizes, all[0].1);
        assert_eq!(some, all[..1]);
    }
}
