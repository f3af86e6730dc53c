//! AdamW with 8-bit moments: what it learns beside AdamW, and what it saves and restores.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use rpg_cli::optim::{
    AdamW, AdamW8bit, AdamWConfig, Optimizer, OptimizerState, StateError, StateTensor,
};
use rpg_cli::train::{Learner, TapedLoss};
use rpg_core::model::{Activations, CausalLm, ModelConfig};
use rpg_core::score::{Entropy, ScoreItem, score_on_tape};

const CONFIG: AdamWConfig = AdamWConfig {
    betas: [0.9, 0.99],
    eps: 1e-8,
    weight_decay: 0.1,
};

/// Its embedding has 4096 values, the fewest with 8-bit moments, its matrices of the feed-forward layer more; others have fewer.
fn small_model() -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 70, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "max_position_embeddings": 16, "vocab_size": 64, "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, 1, &Default::default())
}

/// A model whose layers have parameters that are neither matrices nor norms.
fn hybrid_model() -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "qwen3_5_text", "hidden_size": 64, "intermediate_size": 70, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "max_position_embeddings": 16, "vocab_size": 64, "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, 1, &Default::default())
}

fn loss(policy: &CausalLm<Autodiff<Flex>>) -> TapedLoss<Flex> {
    let items = [
        ScoreItem::response(&[0, 1], &[2, 40, 1, 63]),
        ScoreItem::response(&[17], &[5, 4, 5]),
    ];
    let (scores, tape) = score_on_tape(policy, &items, 1.0, Entropy::Measured, Activations::Keep);
    (scores.logprobs.sum().neg(), tape)
}

fn value(learner: &Learner<Flex>) -> f64 {
    let (loss, _) = loss(&learner.policy().unwrap().into_trainable());
    loss.into_data().iter::<f64>().sum()
}

/// A learner after so many updates.
fn trained(optimizer: Box<dyn Optimizer<Flex>>, n_updates: usize) -> Learner<Flex> {
    trained_from(small_model(), optimizer, n_updates)
}

fn trained_from(
    model: CausalLm<Flex>,
    optimizer: Box<dyn Optimizer<Flex>>,
    n_updates: usize,
) -> Learner<Flex> {
    let mut learner = Learner::new(model, optimizer);
    (0..n_updates).for_each(|_| update(&mut learner));
    learner
}

fn update(learner: &mut Learner<Flex>) {
    let step = learner.step([()], |point, ()| Ok(loss(point)), 0.003, 1.0);
    assert!(!step.unwrap().skipped);
}

fn optimizer() -> AdamW8bit<Flex> {
    AdamW8bit::new(CONFIG)
}

struct Read(Vec<f32>);

impl ModuleVisitor<Flex> for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
        self.0.extend(param.val().into_data().iter::<f32>());
    }
}

fn values(learner: &Learner<Flex>) -> Vec<f32> {
    let mut read = Read(Vec::new());
    learner.policy().unwrap().visit(&mut read);
    read.0
}

#[test]
fn fifty_updates_lower_the_loss_as_far_as_with_f32_moments() {
    let start = trained(Box::new(optimizer()), 0);
    let eight = trained(Box::new(optimizer()), 50);
    let full = trained(Box::new(AdamW::new(CONFIG)), 50);
    let [before, eight_bits, f32_moments] = [&start, &eight, &full].map(value);
    assert!(
        f32_moments < 0.1 * before && eight_bits < 1.1 * f32_moments,
        "{before}: {eight_bits} and {f32_moments}"
    );
    let [start, eight, full] = [&start, &eight, &full].map(values);
    let distance = |a: &[f32], b: &[f32]| {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let apart = distance(&eight, &full) / distance(&start, &full);
    assert!(apart < 0.1, "apart by {apart} of the way");
}

#[test]
fn large_parameters_have_codes_and_small_ones_f32_moments() {
    let learner = trained(Box::new(optimizer()), 1);
    let state = learner.optimizer_state().unwrap();
    let ends = |end: &str, dtype: DType| -> Vec<usize> {
        let of_kind = state.tensors.iter().filter(|(name, tensor)| {
            name.split_once('.').is_some_and(|(_, found)| found == end) && tensor.dtype() == dtype
        });
        let mut sizes: Vec<usize> = of_kind.map(|(_, tensor)| tensor.shape()[0]).collect();
        sizes.sort();
        sizes
    };
    for moment in ["0", "1"] {
        assert_eq!(
            ends(moment, DType::U8),
            [4096, 64 * 64, 64 * 70, 2 * 64 * 70]
        );
        assert_eq!(ends(moment, DType::F32), [64, 64, 64, 2048]);
        let scales = ends(&format!("{moment}.absmax"), DType::F32);
        assert_eq!(scales, [16, 16, 18, 35]);
    }
}

#[test]
fn every_parameter_of_a_hybrid_is_trained() {
    let start = values(&Learner::new(hybrid_model(), Box::new(optimizer())));
    let optimizers: [Box<dyn Optimizer<Flex>>; 2] =
        [Box::new(optimizer()), Box::new(AdamW::new(CONFIG))];
    for optimizer in optimizers {
        let learner = trained_from(hybrid_model(), optimizer, 50);
        let before = value(&Learner::new(hybrid_model(), Box::new(AdamW::new(CONFIG))));
        let after = value(&learner);
        assert!(after < 0.1 * before, "{before}: {after}");
        let changed = values(&learner);
        let changed = changed.iter().zip(&start).filter(|(a, b)| a != b).count();
        // Rows of the embedding that no gradient reaches still decay.
        assert!(
            changed * 100 > start.len() * 99,
            "{changed} of {}",
            start.len()
        );
    }
}

#[test]
fn a_restored_state_continues_bit_for_bit() {
    for model in [small_model(), hybrid_model()] {
        restore(model);
    }
}

fn restore(model: CausalLm<Flex>) {
    let mut straight = trained_from(model, Box::new(optimizer()), 3);
    let mut restored = optimizer();
    let start = restored.load_state(
        straight.policy().unwrap(),
        &straight.optimizer_state().unwrap(),
    );
    assert_eq!(restored.n_updates(), 3);
    let mut resumed = Learner::new(start.unwrap(), Box::new(restored));
    assert_eq!(
        resumed.optimizer_state().unwrap(),
        straight.optimizer_state().unwrap()
    );
    for _ in 0..3 {
        update(&mut straight);
        update(&mut resumed);
    }
    assert_eq!(
        resumed.optimizer_state().unwrap(),
        straight.optimizer_state().unwrap()
    );
    assert!(values(&resumed) == values(&straight));
    straight.reset_optimizer().unwrap();
    assert_eq!(
        straight.optimizer_state().unwrap(),
        OptimizerState::default()
    );
}

#[test]
fn a_state_that_is_being_saved_does_not_change() {
    let mut learner = trained(Box::new(optimizer()), 2);
    let state = learner.optimizer_state().unwrap();
    let read = || -> Vec<TensorData> { state.tensors.values().map(StateTensor::data).collect() };
    let before = read();
    update(&mut learner);
    assert_eq!(read(), before);
    assert_ne!(learner.optimizer_state().unwrap(), state);
}

#[test]
fn a_state_that_does_not_fit_names_the_tensor() {
    let learner = trained(Box::new(optimizer()), 2);
    let load = |change: &dyn Fn(&mut OptimizerState)| {
        let mut state = learner.optimizer_state().unwrap();
        change(&mut state);
        let loaded = optimizer().load_state(learner.policy().unwrap(), &state);
        loaded.map(|_| ())
    };
    assert!(load(&|_| ()).is_ok());
    for name in learner.optimizer_state().unwrap().tensors.into_keys() {
        let removed = load(&|state| drop(state.tensors.remove(&name)));
        let short = TensorData::from([0f32; 3]);
        let replaced =
            load(&|state| drop(state.tensors.insert(name.clone(), short.clone().into())));
        let is_mark = name == "block_size";
        for found in [removed, replaced] {
            let error = found.unwrap_err();
            let is_named = error.to_string().contains(&format!("`{name}`"));
            let is_other = matches!(error, StateError::Other);
            assert!(is_named || (is_mark && is_other), "{name}: {error}");
        }
    }
    let other = TensorData::from([2048f64]);
    let replaced = load(&|state| {
        let name = "block_size".to_owned();
        state.tensors.insert(name, other.clone().into());
    });
    let message = replaced.unwrap_err().to_string();
    assert!(
        message.contains("`block_size`: found 2048; expected 256"),
        "{message}"
    );
    assert!(load(&|state| state.n_updates = u64::MAX).is_err());
}
