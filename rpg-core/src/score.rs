//! Log-probabilities of given tokens, differentiable, without ever holding all logits.

use crate::model::{CausalLm, float, primitive};
use crate::ops::{ModelBackend, Packing};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorData};
use std::borrow::Borrow;
use std::ops::Range;

/// At most this many logits exist at a time: 64 MiB of f32.
const MAX_LOGITS: usize = 16 << 20;

/// A text whose tail is scored: `tokens[scored]`, each given all tokens before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreItem {
    /// Prompt and response.
    pub tokens: Vec<u32>,
    /// Which tokens to score; the first of a text cannot be scored.
    pub scored: Range<usize>,
}

impl ScoreItem {
    /// A response, given its prompt.
    pub fn response(prompt: &[u32], response: &[u32]) -> Self {
        let tokens = [prompt, response].concat();
        let scored = prompt.len()..tokens.len();
        Self { tokens, scored }
    }
}

/// The result of scoring: all scored tokens of all items, concatenated.
#[derive(Debug, Clone)]
pub struct Scores<B: ModelBackend> {
    /// Log-probability of each token at the given temperature, `[M]`; differentiable.
    pub logprobs: Tensor<B, 1>,
    /// Entropy of the distribution it was drawn from, `[M]` (nats); differentiable only from [`score_with_entropy`].
    pub entropy: Tensor<B, 1>,
}

/// Scores the items under the model.
///
/// # Panics
/// If an item scores its first token, or a token outside the vocabulary.
pub fn score<B: ModelBackend>(
    model: &CausalLm<B>,
    items: &[impl Borrow<ScoreItem>],
    temperature: f64,
) -> Scores<B> {
    score_by(model, items, |hidden, head, targets| {
        let (logprobs, entropy) = B::head_logprobs(hidden, head, targets, temperature, MAX_LOGITS);
        Scores {
            logprobs: float(logprobs),
            entropy: float(entropy),
        }
    })
}

/// [`score`] with entropies that are differentiable too, for losses that they are part of.
///
/// # Panics
/// As [`score`] does.
pub fn score_with_entropy<B: ModelBackend>(
    model: &CausalLm<B>,
    items: &[impl Borrow<ScoreItem>],
    temperature: f64,
) -> Scores<B> {
    score_by(model, items, |hidden, head, targets| {
        let both = B::head_scores(hidden, head, targets, temperature, MAX_LOGITS);
        let both: Tensor<B, 2> = float(both);
        let row = |i: usize| both.clone().narrow(0, i, 1).squeeze_dim(0);
        Scores {
            logprobs: row(0),
            entropy: row(1),
        }
    })
}

/// The scores that `scores` makes of the scored tokens' hidden states `[M, D]`, the output layer `[V, D]` and the tokens
/// `[M]`.
fn score_by<B: ModelBackend>(
    model: &CausalLm<B>,
    items: &[impl Borrow<ScoreItem>],
    scores: impl FnOnce(FloatTensor<B>, FloatTensor<B>, IntTensor<B>) -> Scores<B>,
) -> Scores<B> {
    let vocab_size = model.config().vocab_size;
    let items = || items.iter().map(Borrow::borrow);
    let packing = Packing::new(items().map(|item| item.tokens.len()));
    let mut tokens = Vec::with_capacity(packing.n_tokens());
    let mut sources: Vec<i32> = Vec::new();
    let mut targets: Vec<i32> = Vec::new();
    for (item, range) in items().zip(packing.ranges()) {
        assert!(
            item.scored.is_empty() || item.scored.start > 0,
            "the first token of a text has no log-probability"
        );
        tokens.extend(&item.tokens);
        for i in item.scored.clone() {
            assert!(
                (item.tokens[i] as usize) < vocab_size,
                "token {} of {vocab_size}",
                item.tokens[i]
            );
            sources.push((range.start + i - 1) as i32);
            targets.push(item.tokens[i] as i32);
        }
    }
    let hidden = model.hidden(&tokens, &packing);
    let device = hidden.device();
    let n_scored = targets.len();
    if n_scored == 0 {
        let empty = Tensor::zeros([0], &device);
        return Scores {
            logprobs: empty.clone(),
            entropy: empty,
        };
    }
    let ints = |values: Vec<i32>| {
        Tensor::<B, 1, Int>::from_data(TensorData::new(values, [n_scored]), &device)
    };
    let hidden = hidden.select(0, ints(sources)); // [M, D]
    scores(
        primitive(hidden),
        primitive(model.head()),
        ints(targets).into_primitive(),
    )
}
