//! A weight matrix, and the product with it.

use super::lora::{self, Adapter};
use super::{float, param_id, primitive};
use crate::ops::{Int8Matrix, ModelBackend, PackedMatrix, Weight};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// A weight matrix, `[outputs, inputs]`.
#[derive(Module, Debug)]
pub(super) enum Matrix<B: Backend> {
    /// Numbers: f32, or bf16 where nothing trains them.
    Float(Param<Tensor<B, 2>>),
    /// Fewer bits, which nothing can train.
    Packed(Packed),
}

/// A packed matrix as a part of the model that is no parameter.
#[derive(Module, Clone, Debug)]
pub(super) struct Packed {
    #[module(skip)]
    pub(super) matrix: Arc<PackedMatrix>,
}

impl<B: ModelBackend> Matrix<B> {
    /// As the operations take it.
    pub(super) fn weight(&self) -> Weight<B> {
        match self {
            Self::Float(weight) => Weight::Float(primitive(weight.val())),
            Self::Packed(packed) => Weight::Packed(Arc::clone(&packed.matrix)),
        }
    }
}

impl<B: ModelBackend> Matrix<B> {
    /// Makes a packed matrix the parameter `name`, of f32.
    pub(super) fn unpack(&mut self, name: &str, device: &B::Device) {
        if let Self::Packed(packed) = self {
            let data = TensorData::new(packed.matrix.to_f32(), packed.matrix.shape());
            let weight = Tensor::from_data(data, device);
            *self = Self::Float(Param::initialized(param_id(name), weight));
        }
    }

    /// Some rows as f32.
    pub(super) fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        match self {
            Self::Float(weight) => values(weight.val().slice([rows])),
            Self::Packed(packed) => {
                let [_, n_inputs] = packed.matrix.shape();
                let mut values = vec![0.0; rows.len() * n_inputs];
                packed.matrix.widen(rows, &mut values);
                values
            }
        }
    }
}

/// A tensor's numbers as f32.
pub(super) fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.into_vec().expect("f32 data is a vector of f32")
}

/// A linear layer.
#[derive(Module, Debug)]
pub(super) struct Linear<B: Backend> {
    pub(super) matrix: Matrix<B>,
    /// `[outputs]`.
    pub(super) bias: Option<Param<Tensor<B, 1>>>,
    /// What is added to the product, in the order of the outputs.
    pub(super) adapters: Vec<Adapter<B>>,
    /// Takes the place of the matrix and the adapters in products; only sampling has it.
    #[module(skip)]
    pub(super) int8: Option<Arc<Int8Matrix>>,
}

impl<B: ModelBackend> Linear<B> {
    pub(super) fn new(matrix: Matrix<B>, bias: Option<Param<Tensor<B, 1>>>) -> Self {
        Self {
            matrix,
            bias,
            adapters: Vec::new(),
            int8: None,
        }
    }

    /// `x * weight' + bias`: `[N, inputs]` to `[N, outputs]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let int8 = self.int8.as_deref();
        let y = match &self.adapters[..] {
            adapters if int8.is_none() && !adapters.is_empty() => {
                let y = product(x.clone(), &self.matrix, None);
                let [_, n_outputs] = y.dims();
                match lora::sum(adapters, &x, n_outputs) {
                    Some(sum) => y + sum,
                    None => y,
                }
            }
            _ => product(x, &self.matrix, int8),
        };
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}

/// `x * weight'`, by the integers if there are any.
pub(super) fn product<B: ModelBackend>(
    x: Tensor<B, 2>,
    matrix: &Matrix<B>,
    int8: Option<&Int8Matrix>,
) -> Tensor<B, 2> {
    float(match int8 {
        Some(weight) => B::project_int8(primitive(x), weight),
        None => B::project(primitive(x), matrix.weight()),
    })
}
