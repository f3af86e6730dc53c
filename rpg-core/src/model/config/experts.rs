//! Feed-forward layers with experts.

use super::ConfigError;
use super::keys::Keys;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Feed-forward layers that are many small ones, the experts, of which each token takes a few (Shazeer et al., 2017,
/// arXiv 1701.06538): those to which a router, a linear layer with a softmax, gives the highest probabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// How many a layer has.
    pub num_experts: usize,
    /// How many of them a token takes.
    pub num_experts_per_tok: usize,
    /// The width of an expert.
    pub moe_intermediate_size: usize,
    /// Whether the probabilities of the experts that a token takes are divided by their sum. What these give is
    /// multiplied by them.
    pub norm_topk_prob: bool,
    /// For each layer of the model whether it has experts.
    pub layers: Vec<bool>,
}

impl Experts {
    /// The keys of transformers' Qwen3-MoE. A layer has experts if `decoder_sparse_step` divides its number, counted from
    /// 1, and `mlp_only_layers` does not name it.
    pub(super) fn read(keys: &Keys, n_layers: usize) -> Result<Self, ConfigError> {
        let count_or = |key: &'static str, absent: usize| {
            let given = keys.optional_count(key)?;
            Ok::<_, ConfigError>(given.unwrap_or(absent))
        };
        let step = count_or("decoder_sparse_step", 1)?;
        let dense = dense_layers(keys, n_layers)?;
        let has_experts = |layer: usize| (layer + 1).is_multiple_of(step) && !dense[layer];
        Ok(Self {
            num_experts: num_experts(keys)?,
            num_experts_per_tok: count_or("num_experts_per_tok", 8)?,
            moe_intermediate_size: count_or("moe_intermediate_size", 768)?,
            norm_topk_prob: keys.flag("norm_topk_prob")?.unwrap_or(false),
            layers: (0..n_layers).map(has_experts).collect(),
        })
    }

    pub(super) fn write(&self, json: &mut Value) {
        let layers = self.layers.iter().enumerate();
        let dense = layers.filter(|(_, has_experts)| !**has_experts);
        json["num_experts"] = self.num_experts.into();
        json["num_experts_per_tok"] = self.num_experts_per_tok.into();
        json["moe_intermediate_size"] = self.moe_intermediate_size.into();
        json["norm_topk_prob"] = self.norm_topk_prob.into();
        json["decoder_sparse_step"] = 1.into();
        json["mlp_only_layers"] = dense.map(|(layer, _)| layer).collect();
    }

    pub(super) fn check(&self, n_layers: usize) -> Result<(), ConfigError> {
        let refuse = |key, found: usize, expected| {
            let found = format!("found {found}");
            Err(ConfigError::Key {
                key,
                found,
                expected,
            })
        };
        let n = self.num_experts_per_tok;
        if n == 0 || n > self.num_experts {
            return refuse("num_experts_per_tok", n, "from 1 to num_experts");
        }
        if self.layers.len() != n_layers {
            let n = self.layers.len();
            return refuse("experts.layers", n, "one entry per layer");
        }
        Ok(())
    }

    /// The parameters of a layer: the router, and gate, up and down of each expert.
    pub(super) fn n_parameters(&self, hidden_size: usize) -> usize {
        self.num_experts * hidden_size * (1 + 3 * self.moe_intermediate_size)
    }

    /// The numbers that a layer's backward pass needs of a token: its probabilities; for each expert that it takes, what
    /// goes into it, gate, up and their product, and what it gives, plain and weighted.
    pub(super) fn activations(&self, hidden_size: usize) -> usize {
        let of_expert = 3 * (hidden_size + self.moe_intermediate_size);
        2 * self.num_experts + self.num_experts_per_tok * of_expert
    }
}

/// The number of experts, under the name of the checkpoints or that of transformers 5.
fn num_experts(keys: &Keys) -> Result<usize, ConfigError> {
    let [given, local] = ["num_experts", "num_local_experts"].map(|key| keys.optional_count(key));
    match (given?, local?) {
        (Some(given), Some(local)) if given != local => {
            let expected = "the number that `num_experts` gives";
            Err(keys.error("num_local_experts", &local.into(), expected))
        }
        (given, local) => Ok(given.or(local).unwrap_or(128)),
    }
}

/// For each layer whether `mlp_only_layers` names it.
fn dense_layers(keys: &Keys, n_layers: usize) -> Result<Vec<bool>, ConfigError> {
    let key = "mlp_only_layers";
    let mut dense = vec![false; n_layers];
    let Some(value) = keys.get(key) else {
        return Ok(dense);
    };
    match serde_json::from_value::<Vec<usize>>(value.clone()) {
        Ok(named) if named.iter().all(|&layer| layer < n_layers) => {
            named.into_iter().for_each(|layer| dense[layer] = true);
            Ok(dense)
        }
        _ => Err(keys.error(
            key,
            value,
            "a list of layers, each below `num_hidden_layers`",
        )),
    }
}
