//! In which form a model keeps its matrices.

use crate::model::block::Block;
use crate::model::linear::{Matrix, Packed};
use crate::model::{CausalLm, param_id};
use crate::ops::{ModelBackend, PackedMatrix};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData, bf16};
use std::sync::Arc;

/// In which form a model keeps the matrices that it is read from. Vectors are f32 always, as is the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// f32, which can be trained.
    #[default]
    F32,
    /// As they are stored, where nothing is lost: bf16, and the blocks `Q8_0`, `Q4_K` and `Q6_K` of GGUF files; others are
    /// f32. Such a model can sample, score and be the base of an adapter.
    Stored,
    /// The matrices of the blocks as 4-bit NormalFloat, as in QLoRA (Dettmers et al., 2023, arXiv 2305.14314); the embedding,
    /// the output layer and the routers of experts as they are stored.
    Nf4,
}

/// A matrix as a checkpoint has it.
pub(in crate::model) enum StoredMatrix {
    Values(Vec<f32>),
    Blocks(PackedMatrix),
}

impl Storage {
    /// Whether blocks of a GGUF file stay as they are in the parameter `name`.
    pub(super) fn keeps_blocks(self, name: &str) -> bool {
        match self {
            Self::F32 => false,
            Self::Stored => true,
            Self::Nf4 => !is_layer(name),
        }
    }

    /// The matrix of the parameter `name`.
    pub(in crate::model) fn matrix<B: ModelBackend>(
        self,
        name: &str,
        stored: StoredMatrix,
        [n_outputs, n_inputs]: [usize; 2],
        device: &B::Device,
    ) -> Matrix<B> {
        let packed = |matrix| {
            let matrix = Arc::new(matrix);
            Matrix::Packed(Packed { matrix })
        };
        let values = match stored {
            StoredMatrix::Blocks(matrix) => return packed(matrix),
            StoredMatrix::Values(values) => values,
        };
        let shape = [n_outputs, n_inputs];
        let tensor = match self {
            Self::Nf4 if is_layer(name) => return packed(PackedMatrix::nf4(&values, n_inputs)),
            Self::Stored | Self::Nf4 if is_bf16(&values) => {
                let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
                Tensor::from_data(TensorData::new(values, shape), (device, DType::BF16))
            }
            _ => Tensor::from_data(TensorData::new(values, shape), device),
        };
        Matrix::Float(Param::initialized(param_id(name), tensor))
    }
}

impl<B: ModelBackend> CausalLm<B> {
    /// Hands over the bytes of all weights as they are kept, and the sizes of each tensor before it, in an order that only
    /// depends on the shape: two models of a shape are told apart by a checksum of it, in whatever files they are.
    pub fn visit_bytes(&self, visit: &mut impl FnMut(&[u8])) {
        struct Numbers<'a, F>(&'a mut F);
        impl<B: ModelBackend, F: FnMut(&[u8])> ModuleVisitor<B> for Numbers<'_, F> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                let data = param.val().into_data();
                for size in data.shape.iter() {
                    self.0(&(*size as u64).to_le_bytes());
                }
                self.0(data.as_bytes());
            }
        }
        self.visit(&mut Numbers(visit));
        // These are no parameters.
        let linears = self.blocks.iter().flat_map(Block::linears);
        let of_blocks = linears.map(|(_, linear)| &linear.matrix);
        for matrix in [&self.embedding, self.output_layer()]
            .into_iter()
            .chain(of_blocks)
        {
            if let Matrix::Packed(packed) = matrix {
                for size in packed.matrix.shape() {
                    visit(&(size as u64).to_le_bytes());
                }
                packed.matrix.visit_bytes(visit);
            }
        }
    }
}

/// Whether a parameter belongs to a linear layer of a block: it is not the embedding, the output layer or a router.
fn is_layer(name: &str) -> bool {
    name.starts_with("blocks.") && !name.ends_with(".router")
}

/// Whether bf16 holds the values exactly.
pub(in crate::model) fn is_bf16(values: &[f32]) -> bool {
    values.iter().all(|value| value.to_bits() & 0xffff == 0)
}
