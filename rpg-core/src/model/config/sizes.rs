//! How large a model of some shape is.

use super::{Mixer, ModelConfig, NormPlacement};

impl ModelConfig {
    /// The number of norms of a block, those of queries and keys aside.
    fn n_block_norms(&self) -> usize {
        match self.norms {
            NormPlacement::Before | NormPlacement::After => 2,
            NormPlacement::Both => 4,
        }
    }

    /// The bytes of f32 that a forward pass over so many tokens keeps for the backward pass, if nothing is computed twice
    /// ([`Activations::Keep`](crate::model::Activations::Keep)).
    pub fn activation_bytes(&self, n_tokens: usize) -> usize {
        let layers = 0..self.num_hidden_layers;
        layers
            .map(|layer| self.block_activation_bytes(layer, n_tokens))
            .sum()
    }

    /// The same for one of the blocks.
    pub fn block_activation_bytes(&self, layer: usize, n_tokens: usize) -> usize {
        let d = self.hidden_size;
        // Inputs of the mixer, feed-forward and the norms.
        let inputs = (2 + self.n_block_norms()) * d;
        let mixer = self.mixer_activations(&self.layers[layer]);
        let feed_forward = match self.experts_of(layer) {
            // Gate, up and their product.
            None => 3 * self.intermediate_size,
            Some(experts) => experts.activations(d),
        };
        4 * n_tokens * (inputs + mixer + feed_forward)
    }

    /// The most inputs of a product in the blocks.
    pub fn widest_input(&self) -> usize {
        let width = |(layer, mixer): (usize, &Mixer)| {
            let feed_forward = match self.experts_of(layer) {
                None => self.intermediate_size,
                Some(experts) => experts.moe_intermediate_size,
            };
            let output = match mixer {
                Mixer::Attention(_) => self.heads().q_width(),
                Mixer::GatedDelta(delta) => delta.heads.value_width(),
            };
            feed_forward.max(output)
        };
        let widths = self.layers.iter().enumerate().map(width);
        widths.fold(self.hidden_size, usize::max)
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let mlp_biases = if self.mlp_bias { 2 * f + d } else { 0 };
        let feed_forward = |layer| match self.experts_of(layer) {
            None => 3 * d * f + mlp_biases,
            Some(experts) => experts.n_parameters(d),
        };
        let block = |layer: usize| {
            let mixer = self.mixer_parameters(&self.layers[layer]);
            self.n_block_norms() * d + mixer + feed_forward(layer)
        };
        let blocks: usize = (0..self.num_hidden_layers).map(block).sum();
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        blocks + embeddings * self.vocab_size * d + d
    }
}
