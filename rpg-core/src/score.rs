//! Log-probabilities of given tokens, differentiable, without ever holding all logits.

use crate::model::{Activations, CausalLm, Tape, float, primitive};
use crate::ops::{ModelBackend, Packing};
use burn::backend::Autodiff;
use burn::tensor::{Int, Tensor, TensorData};
use std::borrow::Borrow;
use std::ops::Range;

/// At most this many logits exist at a time: 16 MiB of f32.
pub const MAX_LOGITS: usize = 4 << 20;

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
    /// Entropy of the distribution it was drawn from, `[M]` (nats); differentiable only with [`Entropy::Differentiable`].
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
    let packed = Packed::new(items, model.config().vocab_size);
    let hidden = model.hidden(&packed.tokens, &packed.packing);
    packed.scores(model, hidden, temperature, Entropy::Measured)
}

/// Whether a loss may contain the entropies of [`Scores`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entropy {
    /// No: they are constants.
    #[default]
    Measured,
    /// Yes: they have a gradient.
    Differentiable,
}

/// [`score`] for training: the tape takes a loss that is made of the scores back to the parameters.
///
/// # Panics
/// As [`score`] does.
pub fn score_on_tape<B: ModelBackend>(
    model: &CausalLm<Autodiff<B>>,
    items: &[impl Borrow<ScoreItem>],
    temperature: f64,
    entropy: Entropy,
    activations: Activations,
) -> (Scores<Autodiff<B>>, Tape<B>) {
    let packed = Packed::new(items, model.config().vocab_size);
    let (hidden, tape) = model.hidden_on_tape(&packed.tokens, &packed.packing, activations);
    (packed.scores(model, hidden, temperature, entropy), tape)
}

/// Texts one after the other.
struct Packed {
    tokens: Vec<u32>,
    packing: Packing,
    // For each scored token, the place of the one before it, and which it is.
    sources: Vec<i32>,
    targets: Vec<i32>,
}

impl Packed {
    fn new(items: &[impl Borrow<ScoreItem>], vocab_size: usize) -> Self {
        let items = || items.iter().map(Borrow::borrow);
        let packing = Packing::new(items().map(|item| item.tokens.len()));
        let mut tokens = Vec::with_capacity(packing.n_tokens());
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
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
        Self {
            tokens,
            packing,
            sources,
            targets,
        }
    }

    /// The scores, given the hidden states `[N, D]` of all tokens.
    fn scores<B: ModelBackend>(
        self,
        model: &CausalLm<B>,
        hidden: Tensor<B, 2>,
        temperature: f64,
        entropy: Entropy,
    ) -> Scores<B> {
        let device = hidden.device();
        let n_scored = self.targets.len();
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
        let hidden = primitive(hidden.select(0, ints(self.sources))); // [M, D]
        let head = model.head();
        let targets = ints(self.targets).into_primitive();
        match entropy {
            Entropy::Measured => {
                let (logprobs, entropy) =
                    B::head_logprobs(hidden, head, targets, temperature, MAX_LOGITS);
                Scores {
                    logprobs: float(logprobs),
                    entropy: float(entropy),
                }
            }
            Entropy::Differentiable => {
                let both = B::head_scores(hidden, head, targets, temperature, MAX_LOGITS);
                let both: Tensor<B, 2> = float(both);
                let row = |i: usize| both.clone().narrow(0, i, 1).squeeze_dim(0);
                Scores {
                    logprobs: row(0),
                    entropy: row(1),
                }
            }
        }
    }
}
