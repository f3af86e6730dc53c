//! The model on WGPU against the model on the CPU. Needs a Vulkan driver; a software one will do.

use burn::backend::{Autodiff, Flex, Wgpu};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use rpg_rollout::cache::KvCache;
use rpg_rollout::model::{CausalLm, ModelConfig};
use rpg_rollout::ops::{CacheRows, ModelBackend, Packing};
use rpg_rollout::score::{ScoreItem, score};

fn config() -> ModelConfig {
    let json = serde_json::json!({
        "model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "vocab_size": 11, "tie_word_embeddings": true,
    });
    ModelConfig::from_hf_json(&json.to_string()).unwrap()
}

fn close(name: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}");
    let scale = a.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    assert!(worst < tolerance, "{name}: {worst:e}");
}

struct Gradients<'a, B: AutodiffBackend>(
    &'a GradientsParams,
    Vec<f32>,
    std::marker::PhantomData<B>,
);

impl<B: AutodiffBackend> ModuleVisitor<B> for Gradients<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let grad = self
            .0
            .get::<B::InnerBackend, D>(param.id)
            .expect("every parameter has one");
        self.1.extend(grad.into_data().iter::<f32>());
    }
}

/// Log-probs of two packed texts, and the gradient of their sum.
fn train<B: ModelBackend>() -> (Vec<f32>, Vec<f32>) {
    let model = CausalLm::<B>::init(&config(), 3, &Default::default()).into_trainable();
    let items = [
        ScoreItem::response(&[1, 2, 3], &[4, 5, 6, 7]),
        ScoreItem::response(&[8], &[9, 1]),
    ];
    let scores = score(&model, &items, 0.8);
    let grads = GradientsParams::from_grads(scores.logprobs.clone().sum().backward(), &model);
    let mut gradients = Gradients::<Autodiff<B>>(&grads, Vec::new(), std::marker::PhantomData);
    model.visit(&mut gradients);
    (
        scores.logprobs.into_data().iter::<f32>().collect(),
        gradients.1,
    )
}

/// Logits of the last of four tokens: the first three from a prefilled and copied cache.
fn decode<B: ModelBackend>() -> (Vec<f32>, Vec<f32>) {
    let model = CausalLm::<B>::init(&config(), 3, &Default::default());
    let mut cache = KvCache::<B>::new(model.config(), 3, 8, &model.device());
    model.prefill(&[1, 2, 3], &Packing::new([3]), &[1], &mut cache);
    cache.copy_prefix(1, &[0, 2], 3);
    let rows = CacheRows {
        slots: &[2, 0],
        positions: &[3, 3],
    };
    let logits = model.logits(model.decode(&[4, 4], &rows, &mut cache));
    let whole = model.logits(
        model
            .hidden(&[1, 2, 3, 4], &Packing::new([4]))
            .narrow(0, 3, 1),
    );
    let values = |t: Tensor<B, 2>| t.into_data().iter::<f32>().collect();
    (values(logits), values(whole.repeat_dim(0, 2)))
}

#[test]
fn training_equals_the_cpu() {
    let (logprobs, gradients) = train::<Wgpu>();
    let (expected_logprobs, expected_gradients) = train::<Flex>();
    close("log-probs", &expected_logprobs, &logprobs, 1e-5);
    close("gradients", &expected_gradients, &gradients, 1e-4);
}

#[test]
fn decoding_with_a_cache_equals_the_whole_sequence() {
    let (logits, whole) = decode::<Wgpu>();
    close("cache on wgpu", &whole, &logits, 1e-5);
    close("wgpu and cpu", &decode::<Flex>().0, &logits, 1e-5);
}
