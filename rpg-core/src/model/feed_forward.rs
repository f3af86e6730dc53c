//! Feed-forward layers: one for every token, or experts, of which each token takes some.

use super::Experts;
use super::linear::{Linear, Matrix, product};
use super::{float, primitive};
use crate::ops::{Activation, ModelBackend, Weight};
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;

/// The feed-forward layer of a block.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a block")]
pub(super) enum FeedForward<B: Backend> {
    Dense(Dense<B>),
    Experts(Mixture<B>),
}

/// A gated feed-forward layer: `[N, D]` to `[N, D]`.
#[derive(Module, Debug)]
pub(super) struct Dense<B: Backend> {
    /// To `2F` outputs: gate, up.
    pub(super) gate_up: Linear<B>,
    pub(super) down: Linear<B>,
}

/// Small ones of which each token takes some.
#[derive(Module, Debug)]
pub(super) struct Mixture<B: Backend> {
    /// `[E, D]`. It is a matrix for itself, not a layer: nothing rounds it, and no adapter adds to it.
    pub(super) router: Matrix<B>,
    pub(super) experts: Vec<Dense<B>>,
    #[module(skip)]
    pub(super) routing: Routing,
}

/// How the router's probabilities are used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routing {
    n_chosen: usize,
    is_normalised: bool,
}

impl From<&Experts> for Routing {
    fn from(experts: &Experts) -> Self {
        Self {
            n_chosen: experts.num_experts_per_tok,
            is_normalised: experts.norm_topk_prob,
        }
    }
}

impl<B: Backend> FeedForward<B> {
    /// Its linear layers and their names.
    pub(super) fn linears(&self) -> Vec<(String, &Linear<B>)> {
        match self {
            Self::Dense(dense) => dense.linears("").into(),
            Self::Experts(mixture) => {
                let experts = mixture.experts.iter().enumerate();
                experts
                    .flat_map(|(i, expert)| expert.linears(&prefix(i)))
                    .collect()
            }
        }
    }

    pub(super) fn linears_mut(&mut self) -> Vec<(String, &mut Linear<B>)> {
        match self {
            Self::Dense(dense) => dense.linears_mut("").into(),
            Self::Experts(mixture) => {
                let experts = mixture.experts.iter_mut().enumerate();
                experts
                    .flat_map(|(i, expert)| expert.linears_mut(&prefix(i)))
                    .collect()
            }
        }
    }

    /// The matrix that is no layer.
    pub(super) fn router(&self) -> Option<&Matrix<B>> {
        match self {
            Self::Dense(_) => None,
            Self::Experts(mixture) => Some(&mixture.router),
        }
    }

    pub(super) fn router_mut(&mut self) -> Option<&mut Matrix<B>> {
        match self {
            Self::Dense(_) => None,
            Self::Experts(mixture) => Some(&mut mixture.router),
        }
    }
}

/// What the names of an expert's layers begin with.
fn prefix(expert: usize) -> String {
    format!("experts.{expert}.")
}

impl<B: Backend> Dense<B> {
    fn linears(&self, prefix: &str) -> [(String, &Linear<B>); 2] {
        let linears = [("gate_up", &self.gate_up), ("down", &self.down)];
        linears.map(|(name, linear)| (format!("{prefix}{name}"), linear))
    }

    fn linears_mut(&mut self, prefix: &str) -> [(String, &mut Linear<B>); 2] {
        let linears = [("gate_up", &mut self.gate_up), ("down", &mut self.down)];
        linears.map(|(name, linear)| (format!("{prefix}{name}"), linear))
    }
}

impl<B: ModelBackend> FeedForward<B> {
    pub(super) fn forward(&self, x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
        match self {
            Self::Dense(dense) => dense.forward(x, activation),
            Self::Experts(mixture) => mixture.forward(x, activation),
        }
    }
}

impl<B: ModelBackend> Dense<B> {
    fn forward(&self, x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
        let gate_up = self.gate_up.forward(x);
        let activated = B::glu(primitive(gate_up), activation);
        self.down.forward(float(activated))
    }
}

impl<B: ModelBackend> Mixture<B> {
    /// What a token's experts give, times their probabilities, summed in the order of the experts. Each expert works once, on
    /// all tokens that take it; the others are not touched. Which experts a token takes is decided on the host and is a
    /// constant: gradients go through the probabilities and through the experts.
    fn forward(&self, x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
        let ([n_tokens, _], n_experts) = (x.dims(), self.experts.len());
        let n_chosen = self.routing.n_chosen;
        let probs = probabilities(product(x.clone(), &self.router, None));
        let values = probs.clone().into_data().convert::<f32>();
        let values = values
            .into_vec::<f32>()
            .expect("f32 data is a vector of f32");
        let plan = Plan::new(&values, n_experts, n_chosen);
        let probs = rows(probs.reshape([n_tokens * n_experts, 1]), &plan.probs);
        let weights = probs.reshape([n_tokens, n_chosen]);
        let weights = if self.routing.is_normalised {
            let sum = weights.clone().sum_dim(1);
            weights / sum
        } else {
            weights
        };
        let experts = self.experts.iter().zip(&plan.tokens);
        let outputs = experts
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(expert, tokens)| expert.forward(rows(x.clone(), tokens), activation))
            .collect();
        let weights = rows(weights.reshape([n_tokens * n_chosen, 1]), &plan.pairs);
        let outputs = Tensor::cat(outputs, 0) * weights;
        let sum = (0..n_chosen)
            .map(|i| {
                let places = plan.places.iter().skip(i).step_by(n_chosen);
                rows(outputs.clone(), &places.copied().collect::<Vec<_>>())
            })
            .reduce(|sum, output| sum + output);
        sum.expect("a token takes at least one expert")
    }
}

/// The softmax of each row. It is written out because Burn's has other sums within a graph than without one, and the same
/// tokens have to take the same experts in both.
fn probabilities<B: ModelBackend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    let largest = logits.clone().detach().max_dim(1);
    let powers = (logits - largest).exp();
    let sum = powers.clone().sum_dim(1);
    powers / sum
}

/// Some rows of a matrix. Their gradients are added in place to those of the matrix.
fn rows<B: ModelBackend>(matrix: Tensor<B, 2>, ids: &[usize]) -> Tensor<B, 2> {
    let data: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(data, [ids.len()]), &matrix.device());
    float(B::embed(
        Weight::Float(primitive(matrix)),
        ids.into_primitive(),
    ))
}

/// Which tokens take which experts. A pair is a token and an expert that it takes; pairs are counted by tokens, and for each
/// token by experts.
#[derive(Debug, PartialEq)]
struct Plan {
    /// Where the probability of each pair is among those of all tokens and experts.
    probs: Vec<usize>,
    /// The tokens of each expert, in order.
    tokens: Vec<Vec<usize>>,
    /// The pairs in the order in which the experts work on them.
    pairs: Vec<usize>,
    /// For each pair its place in that order.
    places: Vec<usize>,
}

impl Plan {
    /// `probs`: those of all experts, for each token.
    fn new(probs: &[f32], n_experts: usize, n_chosen: usize) -> Self {
        let mut plan = Self {
            probs: Vec::new(),
            tokens: vec![Vec::new(); n_experts],
            pairs: Vec::new(),
            places: Vec::new(),
        };
        let mut pairs = vec![Vec::new(); n_experts];
        let chosen: Vec<_> = probs
            .par_chunks_exact(n_experts)
            .map(|probs| chosen(probs, n_chosen))
            .collect();
        for (token, experts) in chosen.into_iter().enumerate() {
            for expert in experts {
                pairs[expert].push(plan.probs.len());
                plan.tokens[expert].push(token);
                plan.probs.push(token * n_experts + expert);
            }
        }
        plan.pairs = pairs.concat();
        plan.places = vec![0; plan.pairs.len()];
        for (place, &pair) in plan.pairs.iter().enumerate() {
            plan.places[pair] = place;
        }
        plan
    }
}

/// The experts of the highest probabilities, of equal ones the first, in order.
fn chosen(probs: &[f32], n_chosen: usize) -> Vec<usize> {
    let mut experts: Vec<usize> = (0..probs.len()).collect();
    // Stable.
    experts.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]));
    experts.truncate(n_chosen);
    experts.sort_unstable();
    experts
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::model::{CausalLm, SaveDtype, Storage};
    use crate::ops::Packing;
    use burn::backend::Flex;
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::DType;
    use std::path::{Path, PathBuf};

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3_moe")
    }

    fn model(dir: &Path, storage: Storage) -> CausalLm<Flex> {
        CausalLm::load_hf_as(dir, storage, &Default::default()).unwrap()
    }

    fn logits(model: &CausalLm<Flex>, tokens: &[u32]) -> Vec<f32> {
        let mut cache = model.new_cache(1, tokens.len());
        let hidden = model.prefill(tokens, &Packing::new([tokens.len()]), &[0], &mut cache);
        model.logits(hidden).into_data().into_vec().unwrap()
    }

    fn worst(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()))
    }

    fn layer(model: &mut CausalLm<Flex>) -> &mut Mixture<Flex> {
        match &mut model.blocks[0].feed_forward {
            FeedForward::Experts(mixture) => mixture,
            FeedForward::Dense(_) => unreachable!("the first layer has experts"),
        }
    }

    #[test]
    fn experts_that_no_token_takes_are_not_read() {
        struct Poison;
        impl ModuleMapper<Flex> for Poison {
            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<Flex, D>>,
            ) -> Param<Tensor<Flex, D>> {
                param.map(|weight| weight * f32::NAN)
            }
        }
        let model = model(&fixture(), Storage::F32);
        let expected = logits(&model, &[7]);
        let is_not_read = |expert: &usize| {
            let mut model = model.clone();
            let place = &mut layer(&mut model).experts[*expert];
            *place = place.clone().map(&mut Poison);
            let found = logits(&model, &[7]);
            assert!(found == expected || found.iter().all(|x| x.is_nan()));
            found == expected
        };
        assert_eq!((0..6).filter(is_not_read).count(), 6 - 2);
    }

    #[test]
    fn a_router_is_never_rounded() {
        let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
        let dir = tempfile::tempdir().unwrap();
        let exact = model(&fixture(), Storage::F32);
        exact.save_hf(dir.path(), SaveDtype::Bf16).unwrap();
        let expected = logits(&model(dir.path(), Storage::F32), &tokens);
        for (storage, is_packed) in [(Storage::Stored, false), (Storage::Nf4, true)] {
            let mut model = model(dir.path(), storage);
            let Matrix::Float(router) = &layer(&mut model).router else {
                unreachable!("it has few numbers, on which everything else depends");
            };
            assert_eq!(router.val().dtype(), DType::BF16);
            for expert in &layer(&mut model).experts {
                for (_, linear) in expert.linears("") {
                    assert_eq!(matches!(linear.matrix, Matrix::Packed(_)), is_packed);
                }
            }
            let error = worst(&logits(&model, &tokens), &expected);
            assert!(is_packed || error < 1e-5, "{error:e}");
        }
        let compact = model(dir.path(), Storage::F32).compact();
        let error = worst(&logits(&compact, &tokens), &expected);
        assert!(error < 1e-5, "{error:e}");
    }

    #[test]
    fn of_equal_probabilities_the_first_are_chosen() {
        for (probs, experts) in [
            ([0.1, 0.4, 0.2, 0.3], [1, 3]),
            ([0.3, 0.2, 0.2, 0.3], [0, 3]),
            ([0.2, 0.4, 0.2, 0.2], [0, 1]),
            ([0.25; 4], [0, 1]),
            ([0.0, 0.0, 0.0, 1.0], [0, 3]),
            ([0.1, f32::NAN, 0.2, 0.3], [1, 3]),
        ] {
            assert_eq!(chosen(&probs, 2), experts, "{probs:?}");
        }
    }

    #[test]
    fn each_expert_has_its_tokens_and_each_pair_its_place() {
        let probs = [[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.4, 0.1, 0.5]].concat();
        let plan = Plan::new(&probs, 3, 2);
        assert_eq!(plan.probs, [1, 2, 3, 4, 6, 8]);
        assert_eq!(plan.tokens, [vec![1, 2], vec![0, 1], vec![0, 2]]);
        assert_eq!(plan.pairs, [2, 4, 0, 3, 1, 5]);
        assert_eq!(plan.places, [2, 4, 0, 3, 1, 5]);
        let lonely = Plan::new(&probs, 3, 1);
        assert_eq!(lonely.tokens, [vec![1], vec![], vec![0, 2]]);
        assert_eq!(
            (lonely.pairs, lonely.places),
            (vec![1, 0, 2], vec![1, 0, 2])
        );
    }
}
