//! What an optimizer keeps for each parameter.

use super::{StateError, StateTensor};
use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::BackendTypes;
use burn::tensor::{DType, Shape, Tensor, TensorMetadata, TensorPrimitive};
use rpg_core::model::CausalLm;
use rpg_core::ops::DecodeBackend;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;

pub(super) type Primitive<B> = <B as BackendTypes>::FloatTensorPrimitive;

/// What an optimizer keeps for one parameter.
pub(super) trait Slot<B: DecodeBackend>: Sized {
    /// Flat tensors to save, by the ends of their names.
    fn tensors(&self) -> Vec<(&'static str, StateTensor)>;

    /// What [`tensors`](Self::tensors) has given, for a parameter like `param`.
    fn load(saved: &Saved<'_>, param: &Primitive<B>) -> Result<Self, StateError>;
}

/// Two tensors of the parameter's shape.
impl<B: DecodeBackend> Slot<B> for [Primitive<B>; 2] {
    fn tensors(&self) -> Vec<(&'static str, StateTensor)> {
        let [first, second] = self;
        vec![("0", saved::<B>(first)), ("1", saved::<B>(second))]
    }

    fn load(saved: &Saved<'_>, param: &Primitive<B>) -> Result<Self, StateError> {
        Ok([saved.like::<B>("0", param)?, saved.like::<B>("1", param)?])
    }
}

/// What is kept for each parameter that has been updated.
#[derive(Debug)]
pub(super) struct Slots<S> {
    slots: HashMap<ParamId, S>,
    // `None`: all.
    own: Option<HashSet<ParamId>>,
}

impl<S> Slots<S> {
    pub(super) fn new() -> Self {
        Self {
            slots: HashMap::new(),
            own: None,
        }
    }

    /// Keeps something for these parameters alone.
    pub(super) fn restrict(&mut self, own: HashSet<ParamId>) {
        self.slots.retain(|id, _| own.contains(id));
        self.own = Some(own);
    }

    /// Nothing kept yet, for the same parameters.
    pub(super) fn emptied(&self) -> Self {
        Self {
            slots: HashMap::new(),
            own: self.own.clone(),
        }
    }

    pub(super) fn get(&self, id: ParamId) -> Option<&S> {
        self.slots.get(&id)
    }

    /// The policy after an update: `each` is given a parameter, its gradient and its slots, which are at first what
    /// `first` makes of the parameter, and returns the parameter's new value.
    ///
    /// # Panics
    /// If no parameter has a gradient, and there is no restriction to some: the policy was not tracked.
    pub(super) fn update<B: DecodeBackend>(
        &mut self,
        policy: CausalLm<Autodiff<B>>,
        grads: GradientsParams,
        first: fn(&Primitive<B>) -> S,
        each: impl FnMut(Primitive<B>, Primitive<B>, &mut S) -> Primitive<B>,
    ) -> CausalLm<Autodiff<B>> {
        assert!(
            self.own.is_some() || !grads.is_empty(),
            "no parameter of the policy has a gradient"
        );
        policy.map(&mut Updater {
            slots: self,
            grads,
            first,
            each,
        })
    }

    /// What is kept as flat tensors, named by the parameter's id: `ID.0` for the end `0`.
    pub(super) fn tensors<B: DecodeBackend>(&self) -> BTreeMap<String, StateTensor>
    where
        S: Slot<B>,
    {
        let named = |(&id, slot): (&ParamId, &S)| {
            let tensors = slot.tensors().into_iter();
            tensors.map(move |(end, tensor)| (name(id, end), tensor))
        };
        self.slots.iter().flat_map(named).collect()
    }

    /// Takes up what is kept for the parameters of `policy`, as [`tensors`](Self::tensors) has named it.
    pub(super) fn load<B: DecodeBackend>(
        &mut self,
        policy: &CausalLm<B>,
        tensors: &BTreeMap<String, StateTensor>,
    ) -> Result<(), StateError>
    where
        S: Slot<B>,
    {
        let mut loader = Loader::<B, S> {
            trained: self.own.clone().or_else(|| policy.trained()),
            tensors,
            slots: Ok(HashMap::new()),
            backend: PhantomData,
        };
        policy.visit(&mut loader);
        self.slots = loader.slots?;
        Ok(())
    }
}

/// The name of a parameter's tensor.
pub(super) fn name(id: ParamId, end: &str) -> String {
    format!("{}.{end}", id.val())
}

/// A tensor as a flat list of f32.
pub(super) fn saved<B: DecodeBackend>(tensor: &Primitive<B>) -> StateTensor {
    let n = tensor.shape().num_elements();
    let flat = B::float_reshape(tensor.clone(), [n].into());
    let flat = Tensor::<B, 1>::from_primitive(TensorPrimitive::Float(flat));
    StateTensor::new(DType::F32, vec![n], move || flat.to_data().convert::<f32>())
}

/// The saved tensors of a parameter.
pub(super) struct Saved<'a> {
    tensors: &'a BTreeMap<String, StateTensor>,
    id: ParamId,
    shape: Shape,
}

impl<'a> Saved<'a> {
    pub(super) fn new(
        tensors: &'a BTreeMap<String, StateTensor>,
        id: ParamId,
        shape: Shape,
    ) -> Self {
        Self { tensors, id, shape }
    }

    /// The tensor whose name ends so, if it has `n` numbers of this type.
    pub(super) fn tensor(
        &self,
        end: &str,
        dtype: DType,
        n: usize,
    ) -> Result<&'a StateTensor, StateError> {
        let name = name(self.id, end);
        let saved = self.tensors.get(&name);
        let found = match saved {
            Some(saved) if saved.dtype() == dtype && saved.shape() == [n] => return Ok(saved),
            Some(saved) => format!("{:?} {:?}", saved.dtype(), saved.shape()),
            None => "nothing".to_owned(),
        };
        let shape = self.shape.to_vec();
        Err(StateError::Mismatch(format!(
            "`{name}`: found {found}; expected {dtype:?} {:?} for a parameter of shape {shape:?}",
            [n]
        )))
    }

    /// A tensor of the shape of `param` from the flat list that [`saved`] has made of it.
    pub(super) fn like<B: DecodeBackend>(
        &self,
        end: &str,
        param: &Primitive<B>,
    ) -> Result<Primitive<B>, StateError> {
        let shape = param.shape();
        let data = self.tensor(end, DType::F32, shape.num_elements())?.data();
        let device = B::float_device(param);
        let flat = Tensor::<B, 1>::from_data(data, (&device, DType::F32));
        Ok(B::float_reshape(flat.into_primitive().tensor(), shape))
    }
}

struct Updater<'a, B: DecodeBackend, S, F> {
    slots: &'a mut Slots<S>,
    grads: GradientsParams,
    first: fn(&Primitive<B>) -> S,
    each: F,
}

impl<B, S, F> ModuleMapper<Autodiff<B>> for Updater<'_, B, S, F>
where
    B: DecodeBackend,
    F: FnMut(Primitive<B>, Primitive<B>, &mut S) -> Primitive<B>,
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
        let slots = self.slots.slots.entry(id);
        let slots = slots.or_insert_with(|| (self.first)(&value));
        let value = (self.each)(value, grad.into_primitive().tensor(), slots);
        let value = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(value));
        Param::from_mapped_value(id, Tensor::from_inner(value).require_grad(), mapper)
    }
}

struct Loader<'a, B, S> {
    trained: Option<HashSet<ParamId>>,
    tensors: &'a BTreeMap<String, StateTensor>,
    slots: Result<HashMap<ParamId, S>, StateError>,
    backend: PhantomData<B>,
}

impl<B: DecodeBackend, S: Slot<B>> ModuleVisitor<B> for Loader<'_, B, S> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self
            .trained
            .as_ref()
            .is_some_and(|all| !all.contains(&param.id))
        {
            return;
        }
        // The first error is the one that is told.
        let Ok(slots) = &mut self.slots else {
            return;
        };
        let value = param.val().into_primitive().tensor();
        let saved = Saved::new(self.tensors, param.id, value.shape());
        match S::load(&saved, &value) {
            Ok(slot) => drop(slots.insert(param.id, slot)),
            Err(error) => self.slots = Err(error),
        }
    }
}
