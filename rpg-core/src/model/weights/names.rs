//! What Hugging Face calls the tensors of each parameter.

use crate::model::{Experts, Family, GatedDelta, Mixer, ModelConfig, NormPlacement};

/// A tensor as Hugging Face names it.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

impl Source {
    /// Its part of a parameter: rows of a matrix, numbers of a vector, as which tensors of more dimensions are kept.
    pub(super) fn n_rows(&self) -> usize {
        match &self.shape[..] {
            &[rows, _] => rows,
            other => other.iter().product(),
        }
    }
}

/// The number of the block and the part of it that a parameter's name names.
pub(super) fn in_block(name: &str) -> (usize, &str) {
    let of_block = name.strip_prefix("blocks.");
    let parts = of_block.and_then(|name| name.split_once('.'));
    let parts = parts.and_then(|(layer, part)| Some((layer.parse().ok()?, part)));
    parts.unwrap_or_else(|| unreachable!("no parameter is called {name}"))
}

/// The tensors whose rows, stacked, make up the parameter `name`.
pub(super) fn sources(config: &ModelConfig, name: &str) -> Vec<Source> {
    let (d, vocab_size) = (config.hidden_size, config.vocab_size);
    let one = |name: &str, shape: &[usize]| {
        vec![Source {
            name: name.into(),
            shape: shape.to_vec(),
        }]
    };
    match name {
        "embedding" => return one("model.embed_tokens.weight", &[vocab_size, d]),
        "lm_head" => return one("lm_head.weight", &[vocab_size, d]),
        "norm" => return one("model.norm.weight", &[d]),
        _ => {}
    }
    let (layer, part) = in_block(name);
    let source = |(tensor, shape): (String, Vec<usize>)| Source {
        name: format!("model.layers.{layer}.{tensor}"),
        shape,
    };
    let experts = config.experts.as_ref();
    let tensors = match config.layers[layer] {
        Mixer::GatedDelta(delta) if part.starts_with("delta_") => {
            of_delta(config.hidden_size, delta, part)
        }
        _ => experts
            .and_then(|experts| of_experts(config, experts, part))
            .unwrap_or_else(|| of_block(config, part)),
    };
    tensors.into_iter().map(source).collect()
}

/// The tensors of a router, or of a part of an expert.
fn of_experts(
    config: &ModelConfig,
    experts: &Experts,
    part: &str,
) -> Option<Vec<(String, Vec<usize>)>> {
    let (d, f) = (config.hidden_size, experts.moe_intermediate_size);
    if part == "router" {
        let shape = vec![experts.num_experts, d];
        return Some(vec![("mlp.gate.weight".into(), shape)]);
    }
    let (expert, part) = part.strip_prefix("experts.")?.split_once('.')?;
    let tensors: &[(&str, [usize; 2])] = match part {
        "gate_up" => &[("gate_proj", [f, d]), ("up_proj", [f, d])],
        "down" => &[("down_proj", [d, f])],
        _ => unreachable!("no part of an expert is called {part}"),
    };
    let named = |(name, shape): &(&str, [usize; 2])| {
        let name = format!("mlp.experts.{expert}.{name}.weight");
        (name, shape.to_vec())
    };
    Some(tensors.iter().map(named).collect())
}

/// The tensors of a part of a gated delta network, and their shapes.
fn of_delta(
    d: usize,
    GatedDelta { heads, kernel }: GatedDelta,
    part: &str,
) -> Vec<(String, Vec<usize>)> {
    let (n_heads, width) = (heads.n_value_heads, heads.value_width());
    let tensors: &[(&str, &[usize])] = match part {
        "delta_qkv" => &[("in_proj_qkv.weight", &[heads.width(), d])],
        "delta_z" => &[("in_proj_z.weight", &[width, d])],
        "delta_gates" => &[
            ("in_proj_b.weight", &[n_heads, d]),
            ("in_proj_a.weight", &[n_heads, d]),
        ],
        "delta_output" => &[("out_proj.weight", &[d, width])],
        "delta_conv" => &[("conv1d.weight", &[heads.width(), 1, kernel])],
        "delta_a_log" => &[("A_log", &[n_heads])],
        "delta_dt_bias" => &[("dt_bias", &[n_heads])],
        "delta_norm" => &[("norm.weight", &[heads.value_dim])],
        _ => unreachable!("no part of a gated delta network is called {part}"),
    };
    let named = |(name, shape): &(&str, &[usize])| (format!("linear_attn.{name}"), shape.to_vec());
    tensors.iter().map(named).collect()
}

/// The tensors of a part of a block, and their shapes.
fn of_block(config: &ModelConfig, part: &str) -> Vec<(String, Vec<usize>)> {
    let (d, f, heads) = (config.hidden_size, config.intermediate_size, config.heads());
    let (q, kv) = (heads.q_width(), heads.kv_width());
    let q_and_gates = config.qkv_width() - 2 * kv;
    let is_fused = config.model_type == Family::Phi3;
    let qkv: &[(&str, usize)] = if is_fused {
        &[("self_attn.qkv_proj", heads.width())]
    } else {
        &[
            ("self_attn.q_proj", q_and_gates),
            ("self_attn.k_proj", kv),
            ("self_attn.v_proj", kv),
        ]
    };
    let gate_up: &[(&str, usize)] = if is_fused {
        &[("mlp.gate_up_proj", 2 * f)]
    } else {
        &[("mlp.gate_proj", f), ("mlp.up_proj", f)]
    };
    let output = [("self_attn.o_proj", d)];
    let down = [("mlp.down_proj", d)];
    let weights = |tensors: &[(&str, usize)], columns: usize| -> Vec<_> {
        let of = |&(name, rows): &(&str, usize)| (format!("{name}.weight"), vec![rows, columns]);
        tensors.iter().map(of).collect()
    };
    let vectors = |tensors: &[(&str, usize)], kind: &str| -> Vec<_> {
        let of = |&(name, rows): &(&str, usize)| (format!("{name}.{kind}"), vec![rows]);
        tensors.iter().map(of).collect()
    };
    let norm = |name: &str, width: usize| vectors(&[(name, width)], "weight");
    let [q_norm, k_norm] = config.qk_norm_widths().unwrap_or_default();
    match part {
        "qkv" => weights(qkv, d),
        "qkv_bias" => vectors(qkv, "bias"),
        "output" => weights(&output, q),
        "output_bias" => vectors(&output, "bias"),
        "gate_up" => weights(gate_up, d),
        "gate_up_bias" => vectors(gate_up, "bias"),
        "down" => weights(&down, f),
        "down_bias" => vectors(&down, "bias"),
        "q_norm" => norm("self_attn.q_norm", q_norm),
        "k_norm" => norm("self_attn.k_norm", k_norm),
        "input_norm" => norm("input_layernorm", d),
        // With two norms this one is before the feed-forward layer; where others are after, it is after attention.
        "post_norm" if config.norms == NormPlacement::Before => norm("post_attention_layernorm", d),
        "post_norm" => norm("pre_feedforward_layernorm", d),
        "output_norm" => norm("post_attention_layernorm", d),
        "down_norm" => norm("post_feedforward_layernorm", d),
        _ => unreachable!("no part of a block is called {part}"),
    }
}
