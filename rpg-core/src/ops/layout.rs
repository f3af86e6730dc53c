//! Where things lie in packed tensors.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// How a row of queries, keys and values is divided: all query heads, then all key heads, then all
/// value heads, each `head_dim` wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl HeadLayout {
    /// Width of the queries of a token.
    pub fn q_width(self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of the keys, and of the values, of a token.
    pub fn kv_width(self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Width of a whole row.
    pub fn width(self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }

    /// Query heads per key head.
    pub fn group(self) -> usize {
        self.n_heads / self.n_kv_heads
    }
}

/// What the tokens of a layer attend to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// How a row of queries, keys and values is divided.
    pub heads: HeadLayout,
    /// The factor of the scores.
    pub scale: f64,
    /// To how many tokens a token attends, the last of which is itself; without it, to all up to itself.
    pub window: Option<usize>,
}

impl Attention {
    /// To all tokens before, with scores scaled by `1 / sqrt(head_dim)`.
    pub fn new(heads: HeadLayout) -> Self {
        Self {
            heads,
            scale: 1.0 / (heads.head_dim as f64).sqrt(),
            window: None,
        }
    }

    /// The first position to which the token at `position` attends.
    pub fn first(self, position: usize) -> usize {
        let window = self.window.unwrap_or(usize::MAX);
        (position + 1).saturating_sub(window)
    }
}

/// The function of the gate in a gated feed-forward layer. Both are `x * sigmoid(inner(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// SiLU: `inner(x) = x`.
    #[default]
    Silu,
    /// GELU with its tangent (Hendrycks and Gimpel, 2016): `inner(x) = sqrt(8 / pi) * (x + 0.044715 * x^3)`, as
    /// `(1 + tanh(y)) / 2 = sigmoid(2 * y)`.
    GeluTanh,
}

/// `sqrt(8 / pi)`.
pub(super) const GELU_SCALE: f64 = 1.595_769_121_605_730_7;

/// The share of the cube in [`Activation::GeluTanh`].
pub(super) const GELU_CUBE: f64 = 0.044_715;

/// Sequences laid one after the other, some of which may go on from another one: the responses to a prompt, which is there
/// once. Cheap to clone: the graph of a forward pass holds many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    // Sequence `s` occupies the tokens `starts[s]..starts[s + 1]`.
    starts: Arc<[usize]>,
    // The tokens that each sequence goes on from.
    prefixes: Arc<[Range<usize>]>,
    positions: Arc<[u32]>,
}

impl Packing {
    /// Sequences of these lengths, each counted from position 0.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::branched(lengths.into_iter().map(|length| (length, None)))
    }

    /// Sequences by their lengths and the earlier sequence, if any, that they go on from: their tokens attend to its tokens,
    /// and are counted from its end. Several may go on from the same one.
    ///
    /// # Panics
    /// If a sequence goes on from one that is not before it, or that itself goes on from another.
    pub fn branched(sequences: impl IntoIterator<Item = (usize, Option<usize>)>) -> Self {
        let mut starts = vec![0];
        let mut prefixes: Vec<Range<usize>> = Vec::new();
        let mut positions = Vec::new();
        for (length, from) in sequences {
            let prefix = match from {
                None => 0..0,
                Some(from) => {
                    assert!(
                        prefixes.get(from).is_some_and(Range::is_empty),
                        "a sequence goes on from an earlier one that begins at position 0"
                    );
                    starts[from]..starts[from + 1]
                }
            };
            let first = prefix.len();
            positions.extend((first..first + length).map(|position| position as u32));
            starts.push(positions.len());
            prefixes.push(prefix);
        }
        Self {
            starts: starts.into(),
            prefixes: prefixes.into(),
            positions: positions.into(),
        }
    }

    /// One token of each of several sequences, at the given positions: a decoding step.
    pub fn single_tokens(positions: &[u32]) -> Self {
        Self {
            starts: (0..=positions.len()).collect(),
            prefixes: vec![0..0; positions.len()].into(),
            positions: positions.into(),
        }
    }

    /// Number of sequences.
    pub fn n_sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of tokens of all sequences.
    pub fn n_tokens(&self) -> usize {
        self.positions.len()
    }

    /// The tokens of sequence `s`.
    pub fn range(&self, s: usize) -> Range<usize> {
        self.starts[s]..self.starts[s + 1]
    }

    /// The token ranges of all sequences.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.n_sequences()).map(|s| self.range(s))
    }

    /// The tokens that sequence `s` goes on from; none, if it begins at position 0.
    pub fn prefix(&self, s: usize) -> Range<usize> {
        self.prefixes[s].clone()
    }

    /// Whether a sequence goes on from another.
    pub fn is_branched(&self) -> bool {
        self.prefixes.iter().any(|prefix| !prefix.is_empty())
    }

    /// The longest sequence, with the one that it goes on from.
    pub fn max_len(&self) -> usize {
        let lengths = self.ranges().zip(self.prefixes.iter());
        let lengths = lengths.map(|(range, prefix)| prefix.len() + range.len());
        lengths.max().unwrap_or(0)
    }

    /// The position of every token within its sequence and what that goes on from.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }
}

/// Where a batch's tokens are in a cache: token `i` at position `positions[i]` of slot `slots[i]`.
#[derive(Debug, Clone, Copy)]
pub struct CacheRows<'a> {
    /// The slot of each token.
    pub slots: &'a [usize],
    /// The position of each token within its slot.
    pub positions: &'a [u32],
}

impl CacheRows<'_> {
    /// Slot and position of token `i`.
    pub fn of(&self, i: usize) -> (usize, usize) {
        (self.slots[i], self.positions[i] as usize)
    }
}

/// Cosines and sines of the rotary embedding, `[max_positions, half]`: a head's first `2 * half` dimensions are rotated.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeTable {
    half: usize,
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
}

impl RopeTable {
    /// The table of the given inverse frequencies (one per pair of dimensions; Su et al., 2021).
    pub fn new(inverse_frequencies: &[f64], max_positions: usize) -> Self {
        Self::scaled(inverse_frequencies, max_positions, 1.0)
    }

    /// The same for a rotation that also multiplies by `scale` (YaRN).
    pub fn scaled(inverse_frequencies: &[f64], max_positions: usize, scale: f64) -> Self {
        let angles = || {
            (0..max_positions).flat_map(|p| inverse_frequencies.iter().map(move |f| p as f64 * f))
        };
        Self {
            half: inverse_frequencies.len(),
            cos: angles().map(|a| (scale * a.cos()) as f32).collect(),
            sin: angles().map(|a| (scale * a.sin()) as f32).collect(),
        }
    }

    /// Half of the dimensions that are rotated.
    pub fn half(&self) -> usize {
        self.half
    }

    /// Number of positions.
    pub fn max_positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// Cosines and sines of a position.
    pub fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let range = position as usize * self.half..(position as usize + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
