//! How large a model of some shape is.

use super::{ModelConfig, NormPlacement};

impl ModelConfig {
    /// The number of norms of a block, those of queries and keys aside.
    fn n_block_norms(&self) -> usize {
        match self.norms {
            NormPlacement::Before | NormPlacement::After => 2,
            NormPlacement::Both => 4,
        }
    }

    /// The bytes of f32 that a forward pass over so many tokens keeps for the backward pass, if nothing is computed twice
    /// ([`Activations::Keep`](super::Activations::Keep)).
    pub fn activation_bytes(&self, n_tokens: usize) -> usize {
        let layers = 0..self.num_hidden_layers;
        layers
            .map(|layer| self.block_activation_bytes(layer, n_tokens))
            .sum()
    }

    /// The same for one of the blocks.
    pub fn block_activation_bytes(&self, layer: usize, n_tokens: usize) -> usize {
        let (d, heads) = (self.hidden_size, self.heads());
        // Inputs of attention, feed-forward and the norms, rows of queries, keys and values, what attention gives and its
        // log-sum-exp.
        let rows = heads.width() * (1 + usize::from(self.qk_norm.is_some()));
        let attended = heads.q_width() + heads.n_heads;
        let inputs = (2 + self.n_block_norms()) * d;
        let feed_forward = match self.experts_of(layer) {
            // Gate, up and their product.
            None => 3 * self.intermediate_size,
            Some(experts) => experts.activations(d),
        };
        4 * n_tokens * (inputs + rows + attended + feed_forward)
    }

    /// The most inputs of a product in the blocks.
    pub fn widest_input(&self) -> usize {
        let width = |layer| match self.experts_of(layer) {
            None => self.intermediate_size,
            Some(experts) => experts.moe_intermediate_size,
        };
        let widths = (0..self.num_hidden_layers).map(width);
        let others = self.hidden_size.max(self.heads().q_width());
        widths.fold(others, usize::max)
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        let (d, f, heads) = (self.hidden_size, self.intermediate_size, self.heads());
        let biases = [(self.qkv_bias, heads.width()), (self.output_bias, d)];
        let biases: usize = biases.iter().filter(|b| b.0).map(|b| b.1).sum();
        let qk_norms: usize = self.qk_norm_widths().into_iter().flatten().sum();
        let norms = self.n_block_norms() * d + qk_norms;
        let block = d * heads.width() + heads.q_width() * d + biases + norms;
        let mlp_biases = if self.mlp_bias { 2 * f + d } else { 0 };
        let feed_forward = |layer| match self.experts_of(layer) {
            None => 3 * d * f + mlp_biases,
            Some(experts) => experts.n_parameters(d),
        };
        let layers = 0..self.num_hidden_layers;
        let blocks: usize = layers.map(|layer| block + feed_forward(layer)).sum();
        let embeddings = if self.tie_word_embeddings { 1 } else { 2 };
        blocks + embeddings * self.vocab_size * d + d
    }
}
