//! Schedule-free AdamW ("The Road Less Scheduled", Defazio et al., 2024, arXiv 2405.15682): an average of the iterates
//! takes the place of a falling learning rate.
//!
//! Three points in place of one: gradients are taken at `y`, steps are made by `z`, and the policy is `x`, the average
//! of the `z` of all updates. It agrees with `AdamWScheduleFree` of the authors' Python package `schedulefree`
//! (`tests/schedule_free.rs`), and keeps what that keeps: `z` and the second moment, beside the `y` that is trained.

use super::slots::{self, Primitive, Saved, Slots};
use super::state::SCHEDULE_FREE as LR_MAX;
use super::{Optimizer, OptimizerState, StateError, StateTensor, n_updates};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use rpg_core::model::CausalLm;
use rpg_core::ops::{DecodeBackend, ScheduleFreeUpdate};
use std::collections::{BTreeMap, HashSet};

/// The constants of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleFreeConfig {
    /// The share of `x` in `y`, above 0, and the decay rate of the second moment.
    pub betas: [f64; 2],
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, at `y`.
    pub weight_decay: f64,
    /// The weight of an update in the average is its number to this power, ...
    pub r: f64,
    /// ... times the largest learning rate so far to this power.
    pub weight_lr_power: f64,
}

/// The optimizer and its state: `z` and the second moment per parameter.
#[derive(Debug)]
pub struct AdamWScheduleFree<B: DecodeBackend> {
    config: ScheduleFreeConfig,
    n_updates: u32,
    lr_max: f64,
    weight_sum: f64,
    slots: Slots<[Primitive<B>; 2]>,
}

/// The names of the other numbers in the state.
const WEIGHT_SUM: &str = "weight_sum";
const BETA_1: &str = "beta_1";

/// The end of the names of the trained point's tensors.
const POINT: &str = "y";

impl<B: DecodeBackend> AdamWScheduleFree<B> {
    /// An optimizer before its first update.
    ///
    /// # Panics
    /// If `betas[0]` is not above 0: `x` could not be told from `y` and `z`.
    pub fn new(config: ScheduleFreeConfig) -> Self {
        let beta_1 = config.betas[0];
        assert!(beta_1 > 0.0, "betas[0] is {beta_1}; expected it above 0");
        Self {
            config,
            n_updates: 0,
            lr_max: 0.0,
            weight_sum: 0.0,
            slots: Slots::new(),
        }
    }

    /// The same optimizer before its first update.
    fn fresh(&self) -> Self {
        Self {
            slots: self.slots.emptied(),
            ..Self::new(self.config)
        }
    }

    /// Counts an update, and returns its share in the average.
    fn next_share(&mut self, lr: f64) -> f64 {
        self.n_updates += 1;
        self.lr_max = self.lr_max.max(lr);
        let weight = f64::from(self.n_updates).powf(self.config.r)
            * self.lr_max.powf(self.config.weight_lr_power);
        self.weight_sum += weight;
        // All learning rates may have been 0.
        if self.weight_sum > 0.0 {
            weight / self.weight_sum
        } else {
            0.0
        }
    }
}

impl<B: DecodeBackend> Optimizer<B> for AdamWScheduleFree<B> {
    fn step(
        &mut self,
        point: CausalLm<Autodiff<B>>,
        grads: GradientsParams,
        lr: f64,
        grad_scale: f64,
    ) -> CausalLm<Autodiff<B>> {
        let share = self.next_share(lr);
        let update = ScheduleFreeUpdate {
            lr,
            beta_1: self.config.betas[0],
            beta_2: self.config.betas[1],
            eps: self.config.eps,
            weight_decay: self.config.weight_decay,
            time: self.n_updates,
            share,
            grad_scale,
        };
        self.slots.update(
            point,
            grads,
            |y| [y.clone(), super::zeros::<B>(y)],
            |y, grad, [z, second]| B::adamw_schedule_free(y, grad, z, second, update),
        )
    }

    fn averages(&self) -> bool {
        true
    }

    /// `x = y + (1 - 1 / beta_1) * (z - y)`.
    fn policy(&self, point: CausalLm<B>) -> CausalLm<B> {
        point.map(&mut Interpolate {
            slots: &self.slots,
            share_of_z: 1.0 - 1.0 / self.config.betas[0],
        })
    }

    fn n_updates(&self) -> u64 {
        self.n_updates.into()
    }

    fn restrict(&mut self, own: HashSet<ParamId>) {
        self.slots.restrict(own);
    }

    /// `z` and the second moment as flat tensors, named by the parameter's id, `ID.0` and `ID.1`; `y` as `ID.y`: what
    /// is computed from `x` and `z` is it only up to rounding.
    fn state(&self, point: &CausalLm<B>) -> OptimizerState {
        let mut tensors = self.slots.tensors::<B>();
        if !tensors.is_empty() {
            point.visit(&mut ReadPoint {
                slots: &self.slots,
                tensors: &mut tensors,
            });
            for (name, value) in [
                (LR_MAX, self.lr_max),
                (WEIGHT_SUM, self.weight_sum),
                (BETA_1, self.config.betas[0]),
            ] {
                tensors.insert(name.to_owned(), TensorData::from([value]).into());
            }
        }
        OptimizerState {
            n_updates: self.n_updates(),
            tensors,
        }
    }

    fn load_state(
        &mut self,
        policy: CausalLm<B>,
        state: &OptimizerState,
    ) -> Result<CausalLm<B>, StateError> {
        state.check_kind(Some(LR_MAX))?;
        let mut loaded = self.fresh();
        let mut point = policy;
        // A state without tensors is the one before the first update.
        if !state.tensors.is_empty() {
            loaded.lr_max = state.number(LR_MAX)?;
            loaded.weight_sum = state.number(WEIGHT_SUM)?;
            loaded.slots.load(&point, &state.tensors)?;
            let beta_1 = self.config.betas[0];
            point = if state.number(BETA_1)? == beta_1 {
                load_point(point, &loaded.slots, &state.tensors)?
            } else {
                // The average and `z` stay; gradients are taken elsewhere between them.
                point.map(&mut Interpolate {
                    slots: &loaded.slots,
                    share_of_z: 1.0 - beta_1,
                })
            };
        }
        loaded.n_updates = n_updates(state)?;
        *self = loaded;
        Ok(point)
    }

    fn reset(&mut self) {
        *self = self.fresh();
    }
}

/// Moves every parameter on the line to its `z`.
struct Interpolate<'a, B: DecodeBackend> {
    slots: &'a Slots<[Primitive<B>; 2]>,
    share_of_z: f64,
}

impl<B: DecodeBackend> ModuleMapper<B> for Interpolate<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some([z, _]) = self.slots.get(param.id) else {
            return param;
        };
        let z = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(z.clone()));
        param.map(|from| (z - from.clone()).mul_scalar(self.share_of_z) + from)
    }
}

/// Of the parameters that are trained.
struct ReadPoint<'a, B: DecodeBackend> {
    slots: &'a Slots<[Primitive<B>; 2]>,
    tensors: &'a mut BTreeMap<String, StateTensor>,
}

impl<B: DecodeBackend> ModuleVisitor<B> for ReadPoint<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.slots.get(param.id).is_some() {
            let y = param.val().into_primitive().tensor();
            let name = slots::name(param.id, POINT);
            self.tensors.insert(name, slots::saved::<B>(&y));
        }
    }
}

fn load_point<B: DecodeBackend>(
    policy: CausalLm<B>,
    slots: &Slots<[Primitive<B>; 2]>,
    tensors: &BTreeMap<String, StateTensor>,
) -> Result<CausalLm<B>, StateError> {
    let mut loader = LoadPoint {
        slots,
        tensors,
        outcome: Ok(()),
    };
    let point = policy.map(&mut loader);
    loader.outcome.map(|()| point)
}

/// Of the parameters that are trained.
struct LoadPoint<'a, B: DecodeBackend> {
    slots: &'a Slots<[Primitive<B>; 2]>,
    tensors: &'a BTreeMap<String, StateTensor>,
    outcome: Result<(), StateError>,
}

impl<B: DecodeBackend> ModuleMapper<B> for LoadPoint<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if self.slots.get(param.id).is_none() {
            return param;
        }
        let value = param.val().into_primitive().tensor();
        let saved = Saved::new(self.tensors, param.id, param.val().shape());
        match saved.like::<B>(POINT, &value) {
            Ok(y) => param.map(|_| Tensor::from_primitive(TensorPrimitive::Float(y))),
            Err(error) => {
                // The first error is the one that is told.
                self.outcome = std::mem::replace(&mut self.outcome, Ok(())).and(Err(error));
                param
            }
        }
    }
}
