//! Log-probabilities of given tokens, differentiable, without ever holding all logits.

use crate::model::{Activations, CausalLm, ModelConfig, Tape, float, primitive};
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

    /// What comes before the scored tokens, if it may be shared, and the rest; all, where none is scored.
    fn parts(&self, shares_prompts: bool) -> (Option<&[u32]>, &[u32]) {
        if self.scored.is_empty() || !shares_prompts {
            return (None, &self.tokens);
        }
        let (prompt, rest) = self.tokens.split_at(self.scored.start);
        (Some(prompt), rest)
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
    let packed = Packed::new(items, model.config());
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
    let packed = Packed::new(items, model.config());
    let (hidden, tape) = model.hidden_on_tape(&packed.tokens, &packed.packing, activations);
    (packed.scores(model, hidden, temperature, entropy), tape)
}

/// Cuts a list into passes over a model of at most `max_tokens` tokens. Neighbours with the same prompt share it
/// ([`ModelConfig::shares_prompts`]), so that it counts once in a pass. One that has more tokens by itself is a pass of its
/// own; none is empty.
pub fn passes<'a, T, F: Fn(&T) -> &ScoreItem>(
    model: &ModelConfig,
    items: &'a [T],
    max_tokens: usize,
    item: F,
) -> impl Iterator<Item = &'a [T]> + use<'a, T, F> {
    let shares_prompts = model.shares_prompts();
    let mut rest = items;
    std::iter::from_fn(move || {
        let (mut n_tokens, mut n) = (0usize, 0);
        let mut prompt = None;
        for item in rest.iter().map(&item) {
            let (own, response) = item.parts(shares_prompts);
            let is_shared = own.is_some() && own == prompt;
            let n_prompt = own.filter(|_| !is_shared).map_or(0, <[u32]>::len);
            let with_it = n_tokens.saturating_add(n_prompt + response.len());
            if n > 0 && with_it > max_tokens {
                break;
            }
            (n_tokens, prompt, n) = (with_it, own, n + 1);
        }
        let (pass, later) = rest.split_at(n);
        rest = later;
        (!pass.is_empty()).then_some(pass)
    })
}

/// Texts one after the other: the prompt of neighbours, if it is the same, and then what each has after it.
///
/// A prompt is a sequence of its own also where nobody shares it, so that attention makes the same sums in both cases.
struct Packed {
    tokens: Vec<u32>,
    packing: Packing,
    // For each scored token, the place of the one before it, and which it is.
    sources: Vec<i32>,
    targets: Vec<i32>,
}

impl Packed {
    fn new(items: &[impl Borrow<ScoreItem>], model: &ModelConfig) -> Self {
        let (vocab_size, shares_prompts) = (model.vocab_size, model.shares_prompts());
        let mut tokens = Vec::new();
        let mut sequences: Vec<(usize, Option<usize>)> = Vec::new();
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        // The prompt that a text may go on from, its sequence and its last token.
        let mut prompt: Option<(&[u32], usize, usize)> = None;
        for item in items.iter().map(Borrow::borrow) {
            assert!(
                item.scored.is_empty() || item.scored.start > 0,
                "the first token of a text has no log-probability"
            );
            let (own, response) = item.parts(shares_prompts);
            prompt = match (own, prompt) {
                (Some(own), Some(shared)) if own == shared.0 => Some(shared),
                (Some(own), _) => {
                    tokens.extend(own);
                    sequences.push((own.len(), None));
                    Some((own, sequences.len() - 1, tokens.len() - 1))
                }
                (None, _) => None,
            };
            let start = tokens.len();
            tokens.extend(response);
            sequences.push((response.len(), prompt.map(|(_, sequence, _)| sequence)));
            let n_before = item.tokens.len() - response.len();
            for i in item.scored.clone() {
                let target = item.tokens[i];
                assert!(
                    (target as usize) < vocab_size,
                    "token {target} of {vocab_size}"
                );
                let source = match prompt {
                    Some((_, _, last)) if i == n_before => last,
                    _ => start + i - n_before - 1,
                };
                sources.push(source as i32);
                targets.push(target as i32);
            }
        }
        let packing = Packing::branched(sequences);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GatedDelta, Mixer};
    use crate::ops::DeltaHeads;

    fn model(change: impl FnOnce(&mut ModelConfig)) -> ModelConfig {
        let mut config = ModelConfig::from_hf_json(
            r#"{"model_type": "qwen3", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}"#,
        )
        .unwrap();
        change(&mut config);
        config
    }

    /// With a layer that has a state.
    fn hybrid() -> ModelConfig {
        let heads = DeltaHeads {
            n_key_heads: 1,
            n_value_heads: 1,
            key_dim: 8,
            value_dim: 8,
        };
        model(|config| config.layers = vec![Mixer::GatedDelta(GatedDelta { heads, kernel: 4 })])
    }

    fn cuts(items: &[ScoreItem], max_tokens: usize) -> Vec<usize> {
        cuts_for(&model(|_| ()), items, max_tokens)
    }

    fn cuts_for(model: &ModelConfig, items: &[ScoreItem], max_tokens: usize) -> Vec<usize> {
        passes(model, items, max_tokens, |item| item)
            .map(<[ScoreItem]>::len)
            .collect()
    }

    #[test]
    fn a_prompt_counts_once_in_a_pass() {
        let response = |prompt: &[u32], n: u32| {
            let response: Vec<u32> = (0..n).collect();
            ScoreItem::response(prompt, &response)
        };
        let (a, b) = ([7; 10], [8; 10]);
        let items = [
            response(&a, 5),
            response(&a, 5),
            response(&b, 5),
            response(&b, 4),
        ];
        assert_eq!(cuts(&items, 39), [4]);
        assert_eq!(cuts(&items, 38), [3, 1]);
        assert_eq!(cuts(&items, 34), [2, 2]);
        assert_eq!(cuts(&items, 19), [1, 1, 2]);
        assert_eq!(cuts(&items, 0), [1, 1, 1, 1]);
        assert_eq!(cuts(&[], 9), [0; 0]);
        assert_eq!(cuts_for(&hybrid(), &items, 39), [2, 2]);
        // Nothing is scored, and nothing is shared.
        let unscored = ScoreItem {
            tokens: vec![7; 10],
            scored: 0..0,
        };
        assert_eq!(cuts(&[unscored.clone(), unscored], 19), [1, 1]);
    }

    #[test]
    fn neighbours_share_a_prompt() {
        let items = [
            ScoreItem::response(&[1, 2], &[3, 4]),
            ScoreItem::response(&[1, 2], &[5]),
            ScoreItem::response(&[1], &[2, 6]),
            ScoreItem::response(&[1, 2], &[7]),
        ];
        let packed = Packed::new(&items, &model(|_| ()));
        assert_eq!(packed.tokens, [1, 2, 3, 4, 5, 1, 2, 6, 1, 2, 7]);
        assert_eq!(
            packed.packing.positions(),
            [0, 1, 2, 3, 2, 0, 1, 2, 0, 1, 2]
        );
        assert_eq!(packed.sources, [1, 2, 1, 5, 6, 9]);
        assert_eq!(packed.targets, [3, 4, 5, 2, 6, 7]);
        // A state passes each text by itself.
        let packed = Packed::new(&items, &hybrid());
        assert_eq!(packed.tokens, [1, 2, 3, 4, 1, 2, 5, 1, 2, 6, 1, 2, 7]);
        assert!(!packed.packing.is_branched());
        assert_eq!(packed.sources, [1, 2, 5, 7, 8, 11]);
        assert_eq!(packed.targets, [3, 4, 5, 2, 6, 7]);
    }
}
