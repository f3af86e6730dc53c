//! AdamW with moments of 8 bits (Dettmers et al., 2022, arXiv 2110.02861), as bitsandbytes' `AdamW8bit`: 2.03 bytes per
//! parameter in place of 8.

use super::slots::{Primitive, Saved, Slot, Slots};
use super::state::EIGHT_BIT;
use super::{AdamWConfig, Optimizer, OptimizerState, StateError, StateTensor, n_updates, zeros};
use burn::backend::Autodiff;
use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{DType, TensorData, TensorMetadata};
use rpg_core::model::CausalLm;
use rpg_core::ops::{Codes8, DecodeBackend, Moments8};
use std::collections::HashSet;
use std::sync::Arc;

/// The optimizer and its state: two moments per parameter, of 8 bits where it has at least
/// [`MIN_VALUES`](Self::MIN_VALUES) values.
#[derive(Debug)]
pub struct AdamW8bit<B: DecodeBackend> {
    config: AdamWConfig,
    n_updates: u32,
    moments: Slots<Moments<B>>,
}

impl<B: DecodeBackend> AdamW8bit<B> {
    /// Smaller parameters, such as those of norms, keep f32 moments: that costs little (`min_8bit_size` of bitsandbytes).
    pub const MIN_VALUES: usize = 4096;

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

impl<B: DecodeBackend> Optimizer<B> for AdamW8bit<B> {
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
            Moments::zeros,
            |param, grad, moments| match moments {
                Moments::Full([first, second]) => B::adamw(param, grad, first, second, update),
                Moments::Codes(codes) => B::adamw_8bit(param, grad, Arc::make_mut(codes), update),
            },
        )
    }

    fn n_updates(&self) -> u64 {
        self.n_updates.into()
    }

    fn restrict(&mut self, own: HashSet<ParamId>) {
        self.moments.restrict(own);
    }

    /// The moments as flat tensors, named by the parameter's id: `ID.0` and `ID.1`, of bytes with their scales as `ID.0.absmax`
    /// and `ID.1.absmax`, or of f32; and the number of values that share a scale.
    fn state(&self, _point: &CausalLm<B>) -> OptimizerState {
        let mut tensors = self.moments.tensors::<B>();
        if !tensors.is_empty() {
            let block = TensorData::from([Moments8::BLOCK as f64]);
            tensors.insert(EIGHT_BIT.to_owned(), block.into());
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
        state.check_kind(Some(EIGHT_BIT))?;
        let mut loaded = self.fresh();
        // A state without tensors is the one before the first update.
        if !state.tensors.is_empty() {
            let (found, expected) = (state.number(EIGHT_BIT)?, Moments8::BLOCK);
            if found != expected as f64 {
                let what = format!("`{EIGHT_BIT}`: found {found}; expected {expected}");
                return Err(StateError::Mismatch(what));
            }
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

/// The moments of one parameter. Codes are shared only while they are saved.
#[derive(Debug)]
enum Moments<B: DecodeBackend> {
    Full([Primitive<B>; 2]),
    Codes(Arc<Moments8>),
}

/// The ends of the names of a moment's codes and scales.
const FIRST: [&str; 2] = ["0", "0.absmax"];
const SECOND: [&str; 2] = ["1", "1.absmax"];

impl<B: DecodeBackend> Moments<B> {
    fn zeros(param: &Primitive<B>) -> Self {
        let n = param.shape().num_elements();
        if n < AdamW8bit::<B>::MIN_VALUES {
            Self::Full([zeros::<B>(param), zeros::<B>(param)])
        } else {
            Self::Codes(Arc::new(Moments8::zeros(n)))
        }
    }
}

impl<B: DecodeBackend> Slot<B> for Moments<B> {
    fn tensors(&self) -> Vec<(&'static str, StateTensor)> {
        match self {
            Self::Full(moments) => Slot::<B>::tensors(moments),
            Self::Codes(moments) => {
                let first = save(moments, FIRST, |moments| &moments.first);
                let second = save(moments, SECOND, |moments| &moments.second);
                first.into_iter().chain(second).collect()
            }
        }
    }

    fn load(saved: &Saved<'_>, param: &Primitive<B>) -> Result<Self, StateError> {
        let n = param.shape().num_elements();
        if n < AdamW8bit::<B>::MIN_VALUES {
            return Slot::<B>::load(saved, param).map(Self::Full);
        }
        Ok(Self::Codes(Arc::new(Moments8 {
            first: load(saved, FIRST, n)?,
            second: load(saved, SECOND, n)?,
        })))
    }
}

/// The tensors of one of the moments, which are read from where they are.
fn save(
    moments: &Arc<Moments8>,
    [codes, scales]: [&'static str; 2],
    moment: fn(&Moments8) -> &Codes8,
) -> [(&'static str, StateTensor); 2] {
    let (n, n_blocks) = (moment(moments).codes.len(), moment(moments).scales.len());
    let (of_codes, of_scales) = (Arc::clone(moments), Arc::clone(moments));
    let read_codes = move || TensorData::new(moment(&of_codes).codes.clone(), [n]);
    let read_scales = move || TensorData::new(moment(&of_scales).scales.clone(), [n_blocks]);
    [
        (codes, StateTensor::new(DType::U8, vec![n], read_codes)),
        (
            scales,
            StateTensor::new(DType::F32, vec![n_blocks], read_scales),
        ),
    ]
}

fn load(saved: &Saved<'_>, [codes, scales]: [&str; 2], n: usize) -> Result<Codes8, StateError> {
    let codes = saved.tensor(codes, DType::U8, n)?.data();
    let n_blocks = Moments8::n_blocks(n);
    let scales = saved.tensor(scales, DType::F32, n_blocks)?.data();
    let typed = "`tensor` has checked the type";
    Ok(Codes8 {
        codes: codes.into_vec().expect(typed),
        scales: scales.into_vec().expect(typed),
    })
}
