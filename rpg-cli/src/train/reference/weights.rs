//! What is done to the weights of a reference as a whole.

use crate::checksums;
use crate::failure::Failure;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorPrimitive};
use rpg_core::model::{CausalLm, Mixer, ModelConfig};
use rpg_core::ops::DecodeBackend;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use xxhash_rust::xxh3::Xxh3;

/// `share * policy + (1 - share) * reference`, weight by weight. The two have one shape; of models with an adapter, the
/// adapters' weights are mixed.
pub(super) fn mixed<B: DecodeBackend>(
    reference: CausalLm<B>,
    policy: &CausalLm<B>,
    share: f64,
) -> CausalLm<B> {
    let mut weights = Weights::<B> {
        trained: policy.trained(),
        weights: HashMap::new(),
    };
    policy.visit(&mut weights);
    reference.map(&mut Mix {
        policy: weights.weights,
        share,
    })
}

/// The checksum of a model's weights, whatever file they are from.
pub(in crate::train) fn checksum<B: DecodeBackend>(model: &CausalLm<B>) -> String {
    let mut hash = Xxh3::new();
    model.visit_bytes(&mut |bytes| hash.update(bytes));
    checksums::as_text(&hash)
}

/// Refuses to average models whose weights are not of one shape.
pub(in crate::train) fn check_shapes(
    policy: &ModelConfig,
    reference: &ModelConfig,
) -> Result<(), Failure> {
    /// The keys of [`ModelConfig`] that say nothing about the weights.
    const OTHERS: [&str; 17] = [
        "model_type",
        "max_position_embeddings",
        "rope_theta",
        "rope_scaling",
        "local_rope_theta",
        "rotary_dim",
        "long_context",
        "rms_norm_eps",
        "activation",
        "attention_scale",
        "embedding_multiplier",
        "residual_multiplier",
        "logits_divisor",
        "router_aux_loss_coef",
        "eos_token_ids",
        "pad_token_id",
        "bos_token_id",
    ];
    let table = |config: &ModelConfig| {
        let mut table = serde_json::to_value(config).map_err(Failure::internal)?;
        // Of a layer, what it attends to says nothing about its weights, and that it has a state does.
        let states: Vec<_> = config.layers.iter().map(Mixer::gated_delta).collect();
        table["layers"] = serde_json::to_value(states).map_err(Failure::internal)?;
        Ok::<_, Failure>(table)
    };
    let (policy, reference) = (table(policy)?, table(reference)?);
    for (key, of_policy) in policy.as_object().into_iter().flatten() {
        let of_reference = reference.get(key).unwrap_or(&Value::Null);
        if of_policy != of_reference && !OTHERS.contains(&key.as_str()) {
            return Err(Failure::input(format!(
                "reference.path: its {key} is {of_reference}, the policy's {of_policy}: weights of different shapes have \
                 no moving average"
            ))
            .hint("give another reference.rule, or a reference of the policy's shape"));
        }
    }
    Ok(())
}

struct Weights<B: DecodeBackend> {
    trained: Option<HashSet<ParamId>>,
    weights: HashMap<ParamId, B::FloatTensorPrimitive>,
}

impl<B: DecodeBackend> ModuleVisitor<B> for Weights<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let is_trained = |all: &HashSet<ParamId>| all.contains(&param.id);
        if self.trained.as_ref().is_none_or(is_trained) {
            let weight = param.val().into_primitive().tensor();
            self.weights.insert(param.id, weight);
        }
    }
}

struct Mix<B: DecodeBackend> {
    policy: HashMap<ParamId, B::FloatTensorPrimitive>,
    share: f64,
}

impl<B: DecodeBackend> ModuleMapper<B> for Mix<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(policy) = self.policy.remove(&param.id) else {
            return param;
        };
        let (id, reference, mapper) = param.consume();
        let policy = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(policy));
        let mixed = policy * self.share + reference * (1.0 - self.share);
        Param::from_mapped_value(id, mixed, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;
    use burn::backend::Flex;

    #[test]
    fn only_weights_of_one_shape_have_an_average() {
        let config = TrainConfig::recipe("arithmetic", &[]).unwrap();
        let shape = config.model.scratch.unwrap();
        let (model, _) = shape.init::<Flex>(0, &Default::default()).unwrap();
        let policy = model.config();
        let with = |change: &dyn Fn(&mut ModelConfig)| {
            let mut other = policy.clone();
            change(&mut other);
            check_shapes(policy, &other).map_err(|error| error.message)
        };
        assert_eq!(with(&|_| {}), Ok(()));
        assert_eq!(with(&|other| other.max_position_embeddings = 7), Ok(()));
        let error = with(&|other| other.hidden_size = 7).unwrap_err();
        let expected = "reference.path: its hidden_size is 7, the policy's 128: weights of";
        assert!(error.starts_with(expected), "{error}");
        assert!(with(&|other| other.tie_word_embeddings = false).is_err());
        assert!(with(&|other| other.qk_norm = None).is_err());
    }
}
