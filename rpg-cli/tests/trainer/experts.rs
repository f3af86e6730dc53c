//! Experts that no token of a step has taken: their gradient is zero, as that of parameters on which nothing depends.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use rpg_cli::config::TrainConfig;
use rpg_cli::optim::Optimizer;
use rpg_cli::train::Learner;
use rpg_core::model::{Activations, CausalLm, ModelConfig};
use rpg_core::score::{Entropy, ScoreItem, score_on_tape};

/// Sixteen experts in each of two layers.
pub(crate) fn policy() -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "qwen3_moe", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 13, "max_position_embeddings": 16,
        "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, 3, &Default::default())
}

/// Three tokens that are read and as many log-probs: at most six of the sixteen experts of a layer work.
fn items(step: u32) -> Vec<ScoreItem> {
    vec![ScoreItem::response(
        &[step],
        &[step + 3, 2 * step + 1, step + 5],
    )]
}

fn step(learner: &mut Learner<Flex>, step: u32) {
    let loss = |policy: &CausalLm<Autodiff<Flex>>, part: Vec<ScoreItem>| {
        let (entropy, activations) = (Entropy::Measured, Activations::Keep);
        let (scores, tape) = score_on_tape(policy, &part, 1.0, entropy, activations);
        Ok((scores.logprobs.sum().neg(), tape))
    };
    let report = learner.step([items(step)], loss, LR, 1.0);
    assert!(!report.unwrap().skipped);
}

const LR: f64 = 0.01;

fn optimizer(kind: &str) -> Box<dyn Optimizer<Flex>> {
    let kind = format!("optimizer={{lr=0.01, kind='{kind}', weight_decay=0.5}}");
    let config = TrainConfig::recipe("arithmetic", &[kind]).unwrap();
    config.optimizer.build()
}

/// Every parameter.
fn weights(model: &CausalLm<Flex>) -> Vec<Vec<f32>> {
    struct Read(Vec<Vec<f32>>);
    impl ModuleVisitor<Flex> for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
            self.0.push(param.val().into_data().into_vec().unwrap());
        }
    }
    let mut read = Read(Vec::new());
    model.visit(&mut read);
    read.0
}

#[test]
fn weights_without_a_gradient_decay_and_stay_otherwise() {
    let before = policy();
    let mut learner = Learner::new(before.clone(), optimizer("adamw"));
    step(&mut learner, 1);
    let after = weights(&learner.policy().unwrap());
    let decayed = |w: &f32| w * (1.0 - (LR * 0.5) as f32);
    let is_decayed = |(before, after): &(Vec<f32>, Vec<f32>)| {
        let mut pairs = before.iter().zip(after);
        pairs.all(|(before, after)| (decayed(before) - after).abs() <= 3e-7 * before.abs())
    };
    let pairs: Vec<_> = weights(&before).into_iter().zip(after).collect();
    let n = pairs.iter().filter(|pair| is_decayed(pair)).count();
    // Two matrices each of at least ten experts in two layers.
    assert!((2 * 2 * 10..2 * 2 * 16).contains(&n), "{n}");
}

#[test]
fn a_restored_state_continues_bit_for_bit() {
    for kind in ["adamw", "adamw_8bit", "adamw_schedule_free"] {
        let mut learner = Learner::new(policy(), optimizer(kind));
        step(&mut learner, 1);
        let (state, saved) = (
            learner.optimizer_state().unwrap(),
            learner.policy().unwrap(),
        );
        let mut restored = optimizer(kind);
        let point = restored.load_state(saved, &state).unwrap();
        let mut resumed = Learner::new(point, restored);
        for learner in [&mut learner, &mut resumed] {
            (2..5).for_each(|number| step(learner, number));
        }
        let [straight, resumed] =
            [learner, resumed].map(|learner| weights(&learner.policy().unwrap()));
        assert!(straight == resumed, "{kind}");
    }
}
