//! One transformer block.

use super::feed_forward::FeedForward;
use super::linear::Linear;
use super::mixer::{MixerLayer, Past, Vector};
use super::{ModelConfig, Ropes, norm, times};
use crate::ops::ModelBackend;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A layer that mixes tokens and a feed-forward layer, each added to the residual stream, with norms before or after them.
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    /// Before the mixer.
    pub(super) input_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) mixer: MixerLayer<B>,
    /// After the mixer.
    pub(super) output_norm: Option<Param<Tensor<B, 1>>>,
    /// Before the feed-forward layer.
    pub(super) post_norm: Option<Param<Tensor<B, 1>>>,
    pub(super) feed_forward: FeedForward<B>,
    /// After the feed-forward layer.
    pub(super) down_norm: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Block<B> {
    /// Its linear layers and their names.
    pub(super) fn linears(&self) -> Vec<(String, &Linear<B>)> {
        let mixer = self.mixer.linears().into_iter();
        let mixer = mixer.map(|(name, linear)| (name.to_owned(), linear));
        mixer.chain(self.feed_forward.linears()).collect()
    }

    /// Its vectors and their names, biases aside.
    pub(super) fn vectors(&self) -> Vec<Vector<'_, B>> {
        let mut all = self.mixer.vectors();
        all.extend([
            ("input_norm", self.input_norm.as_ref()),
            ("output_norm", self.output_norm.as_ref()),
            ("post_norm", self.post_norm.as_ref()),
            ("down_norm", self.down_norm.as_ref()),
        ]);
        all
    }

    pub(super) fn linears_mut(&mut self) -> Vec<(String, &mut Linear<B>)> {
        let mixer = self.mixer.linears_mut().into_iter();
        let mixer = mixer.map(|(name, linear)| (name.to_owned(), linear));
        mixer.chain(self.feed_forward.linears_mut()).collect()
    }
}

impl<B: ModelBackend> Block<B> {
    /// `x`: `[N, D]`.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        config: &ModelConfig,
        ropes: &Ropes,
        past: &mut impl Past<B>,
    ) -> Tensor<B, 2> {
        let normed = |x: Tensor<B, 2>, weight: &Option<Param<Tensor<B, 1>>>| match weight {
            Some(weight) => norm(x, weight, config),
            None => x,
        };
        let added = |x, y| x + times(y, config.residual_multiplier);
        let input = normed(x.clone(), &self.input_norm);
        let output = self.mixer.forward(input, config, ropes, past);
        let x = added(x, normed(output, &self.output_norm));
        let input = normed(x.clone(), &self.post_norm);
        let output = self.feed_forward.forward(input, config.activation);
        added(x, normed(output, &self.down_norm))
    }
}
