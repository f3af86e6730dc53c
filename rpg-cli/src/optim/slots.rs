//! What an optimizer keeps for each parameter.

use super::{StateError, StateTensor};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::BackendTypes;
use burn::tensor::{DType, Tensor, TensorMetadata, TensorPrimitive};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use std::collections::{BTreeMap, HashMap};

pub(super) type Primitive<B> = <B as BackendTypes>::FloatTensorPrimitive;

/// Two tensors for each parameter that has been updated, of its shape.
#[derive(Debug)]
pub(super) struct Slots<B: DecodeBackend>(HashMap<ParamId, [Primitive<B>; 2]>);

impl<B: DecodeBackend> Slots<B> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    pub(super) fn get(&self, id: ParamId) -> Option<&[Primitive<B>; 2]> {
        self.0.get(&id)
    }

    /// The policy after an update: `each` is given a parameter, its gradient and its slots, which are at first what
    /// `first` makes of the parameter, and returns the parameter's new value.
    ///
    /// # Panics
    /// If no parameter has a gradient: the policy was not tracked.
    pub(super) fn update(
        &mut self,
        policy: CausalLm<Autodiff<B>>,
        grads: GradientsParams,
        first: fn(&Primitive<B>) -> [Primitive<B>; 2],
        each: impl FnMut(Primitive<B>, Primitive<B>, &mut [Primitive<B>; 2]) -> Primitive<B>,
    ) -> CausalLm<Autodiff<B>> {
        assert!(
            !grads.is_empty(),
            "no parameter of the policy has a gradient"
        );
        policy.map(&mut Updater {
            slots: self,
            grads,
            first,
            each,
        })
    }

    /// The slots as flat tensors, named by the parameter's id: `ID.0` and `ID.1`.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, StateTensor)> {
        self.0.iter().flat_map(|(&id, slots)| {
            let named = move |(i, slot): (usize, &Primitive<B>)| (name(id, i), saved::<B>(slot));
            slots.iter().enumerate().map(named)
        })
    }

    /// The slots of the parameters of `policy`, as [`tensors`](Self::tensors) has named them.
    pub(super) fn load(
        policy: &CausalLm<B>,
        tensors: &BTreeMap<String, StateTensor>,
    ) -> Result<Self, StateError> {
        let mut loader = Loader::<B> {
            tensors,
            slots: HashMap::new(),
            missing: None,
        };
        policy.visit(&mut loader);
        match loader.missing {
            Some(what) => Err(StateError::Mismatch(what)),
            None => Ok(Self(loader.slots)),
        }
    }
}

fn name(id: ParamId, i: usize) -> String {
    format!("{}.{i}", id.val())
}

/// A tensor as a flat list of f32.
pub(super) fn saved<B: DecodeBackend>(tensor: &Primitive<B>) -> StateTensor {
    let n = tensor.shape().num_elements();
    let flat = B::float_reshape(tensor.clone(), [n].into());
    let flat = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat));
    StateTensor::new(DType::F32, vec![n], move || flat.to_data().convert::<f32>())
}

/// A tensor of the shape of `like` from the flat list that [`saved`] has made of it, if it is one.
pub(super) fn loaded<B: DecodeBackend, const D: usize>(
    saved: Option<&StateTensor>,
    like: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    let shape = like.shape();
    let saved = saved.filter(|saved| {
        saved.dtype() == DType::F32
            && saved.shape().iter().product::<usize>() == shape.num_elements()
    })?;
    let device = (&like.device(), DType::F32);
    Some(Tensor::<B, 1>::from_data(saved.data(), device).reshape(shape))
}

struct Updater<'a, B: DecodeBackend, F> {
    slots: &'a mut Slots<B>,
    grads: GradientsParams,
    first: fn(&Primitive<B>) -> [Primitive<B>; 2],
    each: F,
}

impl<B, F> ModuleMapper<Autodiff<B>> for Updater<'_, B, F>
where
    B: DecodeBackend,
    F: FnMut(Primitive<B>, Primitive<B>, &mut [Primitive<B>; 2]) -> Primitive<B>,
{
    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Autodiff<B>, D>>,
    ) -> Param<Tensor<Autodiff<B>, D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(grad) = self.grads.remove::<B, D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let value = tensor.inner().into_primitive().tensor();
        let slots = self.slots.0.entry(id);
        let slots = slots.or_insert_with(|| (self.first)(&value));
        let value = (self.each)(value, grad.into_primitive().tensor(), slots);
        let value = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(value));
        Param::from_mapped_value(id, Tensor::from_inner(value).require_grad(), mapper)
    }
}

struct Loader<'a, B: DecodeBackend> {
    tensors: &'a BTreeMap<String, StateTensor>,
    slots: HashMap<ParamId, [Primitive<B>; 2]>,
    missing: Option<String>,
}

impl<B: DecodeBackend> ModuleVisitor<B> for Loader<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        let load = |i: usize| loaded(self.tensors.get(&name(param.id, i)), &value);
        if let (Some(first), Some(second)) = (load(0), load(1)) {
            let slots = [first, second].map(|slot| slot.into_primitive().tensor());
            self.slots.insert(param.id, slots);
        } else {
            let shape = value.shape().to_vec();
            let what = format!("no moments for a parameter of shape {shape:?}");
            self.missing.get_or_insert(what);
        }
    }
}
