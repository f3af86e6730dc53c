//! Backward passes block by block, with what the blocks computed kept or computed again, against Burn's one graph.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rpg_core::model::{Activations, CausalLm};
use rpg_core::score::{Entropy, ScoreItem, score, score_on_tape};
use std::path::Path;

type Model = CausalLm<Autodiff<Flex>>;

fn fixture(name: &str) -> CausalLm<Flex> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    CausalLm::load_hf(&fixtures.join(name), &Default::default()).unwrap()
}

const FAMILIES: [&str; 14] = [
    "llama",
    "llama_untied_bias",
    "qwen2",
    "qwen3",
    "llama_mlp_bias",
    "qwen2_window",
    "qwen3_moe",
    "qwen3_moe_step",
    "smollm3",
    "olmo2",
    "granite",
    "phi3",
    "gemma3",
    "qwen35",
];

/// Texts of `n` tokens in all, with tails that are scored.
fn items(model: &Model, n: usize) -> Vec<ScoreItem> {
    let vocab = model.config().vocab_size as u32;
    let tokens: Vec<u32> = (0..n as u32).map(|i| (i * i + 7 * i) % vocab).collect();
    tokens
        .chunks(16)
        .map(|text| ScoreItem::response(&text[..1], &text[1..]))
        .collect()
}

/// The gradient of every parameter, in bits.
fn bits(model: &Model, grads: &GradientsParams) -> Vec<Vec<u32>> {
    struct Read<'a>(&'a GradientsParams, Vec<Vec<u32>>);
    impl ModuleVisitor<Autodiff<Flex>> for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<Flex>, D>>) {
            let grad = self.0.get::<Flex, D>(param.id).expect("a gradient");
            let grad = grad.into_data().into_vec::<f32>().unwrap();
            self.1.push(grad.into_iter().map(f32::to_bits).collect());
        }
    }
    let mut read = Read(grads, Vec::new());
    model.visit(&mut read);
    read.1
}

/// The gradient of the sum of two losses, one for each half of the texts.
fn on_tape(model: &Model, items: &[ScoreItem], activations: Activations) -> Vec<Vec<u32>> {
    let mut sums = GradientsParams::new();
    for half in items.chunks(items.len().div_ceil(2)) {
        let (scores, tape) = score_on_tape(model, half, 0.7, Entropy::Differentiable, activations);
        let loss = (scores.logprobs.square() + scores.entropy * 0.1).sum();
        tape.backward(model, loss, &mut sums);
    }
    bits(model, &sums)
}

#[test]
fn what_is_computed_again_gives_the_same_gradients_bit_for_bit() {
    for name in FAMILIES {
        let model = fixture(name).into_trainable();
        // More rows than the product of few rows takes, and fewer.
        for n in [300, 48] {
            let items = items(&model, n);
            let kept = on_tape(&model, &items, Activations::Keep);
            let again = on_tape(&model, &items, Activations::Recompute);
            assert!(kept == again, "{name}, {n} tokens");
        }
    }
}

#[test]
fn the_gradients_are_those_of_one_graph() {
    for name in FAMILIES {
        let model = fixture(name).into_trainable();
        let items = items(&model, 300);
        let loss = score(&model, &items, 0.7).logprobs.square().sum();
        let one_graph = GradientsParams::from_grads(loss.backward(), &model);
        let (scores, tape) =
            score_on_tape(&model, &items, 0.7, Entropy::Measured, Activations::Keep);
        let mut sums = GradientsParams::new();
        tape.backward(&model, scores.logprobs.square().sum(), &mut sums);
        assert!(bits(&model, &one_graph) == bits(&model, &sums), "{name}");
    }
}

/// Two tokens that are read, of which each takes two of six experts in a layer.
#[test]
fn the_gradient_of_an_expert_without_tokens_is_zero() {
    let model = fixture("qwen3_moe").into_trainable();
    let is_zero = |grad: &Vec<u32>| grad.iter().all(|&bits| f32::from_bits(bits) == 0.0);
    for activations in [Activations::Keep, Activations::Recompute] {
        let gradients = on_tape(&model, &[ScoreItem::response(&[5], &[7, 9])], activations);
        // Of each expert two matrices; its tokens are at most two in the first layer and in the last.
        let n_zero = gradients.iter().filter(|grad| is_zero(grad)).count();
        assert!((2 * 2 * 2..=2 * 2 * 4).contains(&n_zero), "{n_zero}");
    }
}
