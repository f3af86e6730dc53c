//! AdamW (Loshchilov and Hutter, 2019), in one pass over parameters, gradients and moments.

use super::slots::{Primitive, Slots};
use super::{Optimizer, OptimizerState, StateError, n_updates, zeros};
use burn::backend::Autodiff;
use burn::module::ParamId;
use burn::optim::GradientsParams;
use rpg_core::model::CausalLm;
use rpg_core::ops::{AdamWUpdate, DecodeBackend};
use std::collections::HashSet;

/// The constants of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl AdamWConfig {
    /// The update of this number.
    pub(super) fn update(&self, lr: f64, time: u32, grad_scale: f64) -> AdamWUpdate {
        AdamWUpdate {
            lr: lr as f32,
            beta_1: self.betas[0] as f32,
            beta_2: self.betas[1] as f32,
            eps: self.eps as f32,
            weight_decay: self.weight_decay as f32,
            time,
            grad_scale: grad_scale as f32,
        }
    }
}

/// The optimizer and its state: two moments per parameter.
#[derive(Debug)]
pub struct AdamW<B: DecodeBackend> {
    config: AdamWConfig,
    n_updates: u32,
    moments: Slots<[Primitive<B>; 2]>,
}

impl<B: DecodeBackend> AdamW<B> {
    /// An optimizer before its first update.
    pub fn new(config: AdamWConfig) -> Self {
        Self {
            config,
            n_updates: 0,
            moments: Slots::new(),
        }
    }

    /// The same optimizer before its first update.
    fn fresh(&self) -> Self {
        Self {
            moments: self.moments.emptied(),
            ..Self::new(self.config)
        }
    }
}

impl<B: DecodeBackend> Optimizer<B> for AdamW<B> {
    fn step(
        &mut self,
        policy: CausalLm<Autodiff<B>>,
        grads: GradientsParams,
        lr: f64,
        grad_scale: f64,
    ) -> CausalLm<Autodiff<B>> {
        self.n_updates += 1;
        let update = self.config.update(lr, self.n_updates, grad_scale);
        self.moments.update(
            policy,
            grads,
            |param| [zeros::<B>(param), zeros::<B>(param)],
            |param, grad, [first, second]| B::adamw(param, grad, first, second, update),
        )
    }

    fn n_updates(&self) -> u64 {
        self.n_updates.into()
    }

    fn restrict(&mut self, own: HashSet<ParamId>) {
        self.moments.restrict(own);
    }

    /// The moments as flat tensors, named by the parameter's id: `ID.0` and `ID.1`.
    fn state(&self, _point: &CausalLm<B>) -> OptimizerState {
        OptimizerState {
            n_updates: self.n_updates(),
            tensors: self.moments.tensors::<B>(),
        }
    }

    fn load_state(
        &mut self,
        policy: CausalLm<B>,
        state: &OptimizerState,
    ) -> Result<CausalLm<B>, StateError> {
        state.check_kind(None)?;
        let mut loaded = self.fresh();
        // A state without moments is the one before the first update.
        if !state.tensors.is_empty() {
            loaded.moments.load(&policy, &state.tensors)?;
        }
        loaded.n_updates = n_updates(state)?;
        *self = loaded;
        Ok(policy)
    }

    fn reset(&mut self) {
        *self = self.fresh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::global_norm;
    use burn::backend::Flex;
    use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
    use burn::tensor::{Tensor, TensorData};
    use rpg_core::model::ModelConfig;
    use rpg_core::score::{ScoreItem, score};

    type Grad = Autodiff<Flex>;

    fn model() -> CausalLm<Grad> {
        let json = serde_json::json!({
            "model_type": "qwen3", "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "max_position_embeddings": 16, "vocab_size": 5,
        });
        let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
        CausalLm::<Flex>::init(&config, 1, &Default::default()).into_trainable()
    }

    const CONFIG: AdamWConfig = AdamWConfig {
        betas: [0.9, 0.99],
        eps: 1e-8,
        weight_decay: 0.1,
    };

    fn items() -> Vec<ScoreItem> {
        vec![
            ScoreItem::response(&[0, 1], &[2, 3, 4]),
            ScoreItem::response(&[4], &[2]),
        ]
    }

    fn loss(model: &CausalLm<Grad>) -> Tensor<Grad, 1> {
        score(model, &items(), 1.0).logprobs.sum().neg()
    }

    fn value(model: &CausalLm<Grad>) -> f64 {
        loss(model).into_data().iter::<f64>().next().unwrap()
    }

    fn update(model: CausalLm<Grad>, optimizer: &mut AdamW<Flex>) -> CausalLm<Grad> {
        let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
        let norm = global_norm(&model, &grads);
        assert!(norm.is_finite() && norm > 0.0);
        optimizer.step(model, grads, 0.01, (1.0 / norm).min(1.0))
    }

    #[test]
    fn many_steps_descend_and_stay_finite() {
        let (mut model, mut optimizer) = (model(), AdamW::new(CONFIG));
        let before = value(&model);
        for _ in 0..100 {
            model = update(model, &mut optimizer);
        }
        let after = value(&model);
        assert!(
            after.is_finite() && after < 0.1 * before,
            "{before} {after}"
        );
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        let (mut model, mut optimizer) = (model(), AdamW::new(CONFIG));
        for _ in 0..3 {
            model = update(model, &mut optimizer);
        }
        let mut restored = AdamW::<Flex>::new(CONFIG);
        let state = optimizer.state(&model.valid());
        restored.load_state(model.valid(), &state).unwrap();
        assert_eq!(restored.n_updates(), 3);
        let straight = update(update(model.clone(), &mut optimizer), &mut optimizer);
        let resumed = update(update(model, &mut restored), &mut restored);
        assert_eq!(value(&straight).to_bits(), value(&resumed).to_bits());
    }

    #[test]
    fn a_state_that_does_not_fit_is_an_error() {
        let model = model();
        let mut optimizer = AdamW::new(CONFIG);
        let model = update(model, &mut optimizer);
        let load = |change: &dyn Fn(&mut OptimizerState)| {
            let mut state = optimizer.state(&model.valid());
            change(&mut state);
            AdamW::<Flex>::new(CONFIG)
                .load_state(model.valid(), &state)
                .is_ok()
        };
        assert!(load(&|_| ()));
        assert!(!load(&|state| drop(state.tensors.pop_first())));
        assert!(!load(&|state| {
            let shorter = TensorData::from([0f32; 3]);
            let first = state.tensors.values_mut().next().unwrap();
            assert!(first.shape() != [3]);
            *first = shorter.into();
        }));
        assert!(!load(&|state| state.n_updates = u64::MAX));
    }

    #[test]
    fn the_global_norm_is_that_of_all_gradients_as_one_vector() {
        let model = model();
        let grads = GradientsParams::from_grads(loss(&model).backward(), &model);
        struct Collect<'a>(&'a GradientsParams, Vec<f64>);
        impl ModuleVisitor<Grad> for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Grad, D>>) {
                let grad = self
                    .0
                    .get::<Flex, D>(param.id)
                    .expect("every parameter has one");
                self.1.extend(grad.into_data().iter::<f64>());
            }
        }
        let mut all = Collect(&grads, Vec::new());
        model.visit(&mut all);
        let expected = all.1.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((global_norm(&model, &grads) - expected).abs() < 1e-6 * expected);
    }
}
