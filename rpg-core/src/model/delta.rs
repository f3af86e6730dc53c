//! A gated delta network (Yang et al., 2024, arXiv 2412.06464), with its projections.

use super::linear::Linear;
use super::mixer::{Past, Vector};
use super::{GatedDelta, ModelConfig, float, primitive};
use crate::ops::{DeltaInputs, ModelBackend};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;

/// Linear attention whose state is written over and forgotten by gates. `C`: the width of queries, keys and values,
/// `H`: value heads.
#[derive(Module, Debug)]
pub(super) struct DeltaLayer<B: Backend> {
    #[module(skip)]
    pub(super) shape: GatedDelta,
    /// To `C` outputs: queries, keys, values.
    pub(super) qkv: Linear<B>,
    /// To the gates of what is read.
    pub(super) z: Linear<B>,
    /// To `2H` outputs: `b`, `a`.
    pub(super) gates: Linear<B>,
    /// The weights of the convolution, `[C, kernel]` as a vector: nothing treats them as a matrix.
    pub(super) conv: Param<Tensor<B, 1>>,
    /// `[H]`.
    pub(super) a_log: Param<Tensor<B, 1>>,
    /// `[H]`.
    pub(super) dt_bias: Param<Tensor<B, 1>>,
    /// Of what each head reads. Multiplies by its weight in every family.
    pub(super) norm: Param<Tensor<B, 1>>,
    pub(super) output: Linear<B>,
}

impl<B: Backend> DeltaLayer<B> {
    pub(super) fn linears(&self) -> [(&'static str, &Linear<B>); 4] {
        [
            ("delta_qkv", &self.qkv),
            ("delta_z", &self.z),
            ("delta_gates", &self.gates),
            ("delta_output", &self.output),
        ]
    }

    pub(super) fn linears_mut(&mut self) -> [(&'static str, &mut Linear<B>); 4] {
        [
            ("delta_qkv", &mut self.qkv),
            ("delta_z", &mut self.z),
            ("delta_gates", &mut self.gates),
            ("delta_output", &mut self.output),
        ]
    }

    pub(super) fn vectors(&self) -> [Vector<'_, B>; 4] {
        [
            ("delta_conv", Some(&self.conv)),
            ("delta_a_log", Some(&self.a_log)),
            ("delta_dt_bias", Some(&self.dt_bias)),
            ("delta_norm", Some(&self.norm)),
        ]
    }
}

impl<B: ModelBackend> DeltaLayer<B> {
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        past: &mut impl Past<B>,
    ) -> Tensor<B, 2> {
        let GatedDelta { heads, kernel } = self.shape;
        let weight = self.conv.val().reshape([heads.width(), kernel]);
        let qkv = primitive(self.qkv.forward(x.clone()));
        let inputs = DeltaInputs {
            qkv: past.convolve(qkv, primitive(weight)),
            gates: primitive(self.gates.forward(x.clone())),
            a_log: primitive(self.a_log.val()),
            dt_bias: primitive(self.dt_bias.val()),
        };
        let read: Tensor<B, 2> = float(past.recall(inputs, heads));
        let [n, width] = read.dims();
        let read = read.reshape([n * heads.n_value_heads, heads.value_dim]);
        let weight = primitive(self.norm.val());
        let normed = B::rms_norm(primitive(read), weight, config.rms_norm_eps);
        let z = self.z.forward(x);
        let gated = float::<B, 2>(normed).reshape([n, width]) * (z.clone() * sigmoid(z));
        self.output.forward(gated)
    }
}
