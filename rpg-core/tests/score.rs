//! Scores of texts that share their prompts.

use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rpg_core::model::{Activations, CausalLm};
use rpg_core::ops::Packing;
use rpg_core::score::{Entropy, ScoreItem, score, score_on_tape};
use std::path::Path;

fn fixture(name: &str) -> CausalLm<Flex> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    CausalLm::load_hf(&fixtures.join(name), &Default::default()).unwrap()
}

/// Three groups of responses, and some texts by themselves.
fn items() -> Vec<ScoreItem> {
    let tokens =
        |seed: u32, n: u32| -> Vec<u32> { (0..n).map(|i| (seed * 7 + i * 5) % 29).collect() };
    let mut items = Vec::new();
    for (group, n_prompt) in [(1, 5), (2, 1), (3, 9)] {
        let prompt = tokens(group, n_prompt);
        items.extend((1..5).map(|i| ScoreItem::response(&prompt, &tokens(group + i, 2 * i))));
    }
    items.push(ScoreItem {
        tokens: tokens(8, 12),
        scored: 4..9,
    });
    items.push(ScoreItem {
        tokens: tokens(8, 12),
        scored: 1..12,
    });
    items
}

/// With full attention, windows, layers without positions, norms over whole rows, experts, and states, which share nothing.
const MODELS: [&str; 7] = [
    "qwen3",
    "mistral_window",
    "gemma3",
    "smollm3",
    "olmo2",
    "qwen3_moe",
    "qwen35",
];

#[test]
fn a_text_scores_the_same_whatever_is_beside_it() {
    for name in MODELS {
        let model = fixture(name);
        let together = score(&model, &items(), 0.7).logprobs.into_data();
        let alone: Vec<f32> = items()
            .iter()
            .flat_map(|item| {
                score(&model, &[item], 0.7)
                    .logprobs
                    .into_data()
                    .into_vec()
                    .unwrap()
            })
            .collect::<Vec<f32>>();
        let together = together.into_vec::<f32>().unwrap();
        assert_eq!(together.len(), alone.len());
        let far = |(a, b): &(&f32, &f32)| (*a - *b).abs() > 2e-6;
        assert_eq!(together.iter().zip(&alone).find(far), None, "{name}");
        // And to rounding what it scores as one sequence.
        let mut start = 0;
        for item in items() {
            let packing = Packing::new([item.tokens.len()]);
            let logits = model.logits(model.hidden(&item.tokens, &packing)) / 0.7;
            let logprobs = burn::tensor::activation::log_softmax(logits, 1);
            for i in item.scored {
                let target = item.tokens[i] as usize;
                let expected = logprobs.clone().slice([i - 1..i, target..target + 1]);
                let expected: f32 = expected.into_scalar();
                assert!(
                    (alone[start] - expected).abs() < 2e-6,
                    "{name}: {} {expected}",
                    alone[start]
                );
                start += 1;
            }
        }
    }
}

struct Flat<'a>(&'a GradientsParams, Vec<f32>);

impl ModuleVisitor<Autodiff<Flex>> for Flat<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<Flex>, D>>) {
        let grad = self.0.get::<Flex, D>(param.id).expect("a gradient");
        self.1.extend(grad.into_data().into_vec::<f32>().unwrap());
    }
}

#[test]
fn the_gradient_is_that_of_the_texts_one_by_one() {
    for name in MODELS {
        let model = fixture(name).into_trainable();
        let gradient = |passes: &[Vec<ScoreItem>]| {
            let mut sums = GradientsParams::new();
            for pass in passes {
                let (scores, tape) =
                    score_on_tape(&model, pass, 0.7, Entropy::Measured, Activations::Recompute);
                tape.backward(&model, scores.logprobs.square().sum(), &mut sums);
            }
            let mut flat = Flat(&sums, Vec::new());
            burn::module::Module::visit(&model, &mut flat);
            flat.1
        };
        let together = gradient(&[items()]);
        let one_by_one: Vec<Vec<ScoreItem>> = items().into_iter().map(|item| vec![item]).collect();
        let one_by_one = gradient(&one_by_one);
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
        let error = norm(&mut together.iter().zip(&one_by_one).map(|(a, b)| a - b));
        let error = error / norm(&mut one_by_one.iter().copied());
        assert!(error < 2e-6, "{name}: {error:e}");
    }
}
