//! The gradients of the gated delta rule: backwards in time, with the states of some tokens at a time.

use super::rule::{Step, Tokens, directions, gates, queries_and_keys, softplus};
use crate::ops::composed::attention::{Padding, sum_heads};
use crate::ops::composed::{unwrap, wrap};
use crate::ops::{DeltaHeads, DeltaInputs, Packing};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

/// Tokens whose states exist at a time.
const SEGMENT: usize = 32;

/// Gradients of a token.
struct OfStep<B: Backend> {
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    kept: Tensor<B, 4>,
    written: Tensor<B, 4>,
}

impl<B: Backend> Step<B> {
    /// The gradients of the token, and in `of_state` that of the state before it in place of that of the state after it.
    /// `grad`: of what was read, `[S, H, value_dim, 1]`.
    fn backward(
        self,
        before: &Tensor<B, 4>,
        grad: Tensor<B, 4>,
        of_state: &mut Tensor<B, 4>,
    ) -> OfStep<B> {
        let error = self.error(before);
        let change = error.clone() * self.written.clone();
        let decayed = before.clone() * self.kept.clone();
        let after = decayed.clone() + change.clone() * self.key.clone();
        let of_after = of_state.clone() + grad.clone() * self.query.clone();
        let of_change = (of_after.clone() * self.key.clone()).sum_dim(3);
        let of_error = of_change.clone() * self.written.clone();
        let of_decayed = of_after.clone() - of_error.clone() * self.key.clone();
        let sum = |x: Tensor<B, 4>| x.sum_dim(2);
        let of_key = sum(of_after * change) - sum(decayed * of_error.clone());
        *of_state = of_decayed.clone() * self.kept.clone();
        OfStep {
            query: sum(after * grad),
            key: of_key,
            value: of_error.swap_dims(2, 3),
            kept: sum(of_decayed * before.clone()).sum_dim(3),
            written: sum(of_change * error),
        }
    }
}

/// The gradients of all tokens, given that of the outputs, `[S, H, L, value_dim]`.
fn of_tokens<B: Backend>(tokens: &Tokens<B>, grad: Tensor<B, 4>) -> Tokens<B> {
    let n = tokens.len();
    let mut firsts = Vec::new();
    let mut state = tokens.nothing();
    for t in 0..n {
        if t % SEGMENT == 0 {
            firsts.push(state.clone());
        }
        state = tokens.step(t).next(state);
    }
    let mut of_state = tokens.nothing();
    let mut steps = Vec::with_capacity(n);
    for (segment, first) in firsts.into_iter().enumerate().rev() {
        let range = segment * SEGMENT..n.min((segment + 1) * SEGMENT);
        let mut before = vec![first];
        for t in range.start..range.end - 1 {
            let state = before[before.len() - 1].clone();
            before.push(tokens.step(t).next(state));
        }
        for (t, before) in range.zip(before).rev() {
            let grad = grad.clone().narrow(2, t, 1).swap_dims(2, 3);
            steps.push(tokens.step(t).backward(&before, grad, &mut of_state));
        }
    }
    let join = |of: fn(&OfStep<B>) -> &Tensor<B, 4>| {
        Tensor::cat(steps.iter().rev().map(|step| of(step).clone()).collect(), 2)
    };
    Tokens {
        queries: join(|step| &step.query),
        keys: join(|step| &step.key),
        values: join(|step| &step.value),
        kept: join(|step| &step.kept),
        written: join(|step| &step.written),
    }
}

/// The gradient of `x` (`[N, heads, d]`), given that of `x / |x|`.
fn of_directions<B: Backend>(x: Tensor<B, 3>, grad: Tensor<B, 3>) -> Tensor<B, 3> {
    let (direction, scale) = directions(x);
    let along = (direction.clone() * grad.clone()).sum_dim(2);
    (grad - direction * along) * scale
}

pub(in crate::ops) fn delta_rule_backward<B: Backend>(
    inputs: DeltaInputs<B>,
    heads: DeltaHeads,
    packing: &Packing,
    grad: FloatTensor<B>,
) -> DeltaInputs<B> {
    let qkv = wrap::<B, 2>(inputs.qkv.clone());
    let padding = Padding::new(packing, None, &qkv.device());
    let tokens = Tokens::new(&inputs, heads, packing, &padding);
    // A padded row repeats token 0: its gradient is set to zero.
    let real = padding.real_rows(packing, qkv.dtype());
    let grad = padding.pad(wrap::<B, 2>(grad), heads.value_dim) * real;
    let of = of_tokens(&tokens, grad);
    let packed = |x: Tensor<B, 4>| padding.pack(sum_heads(x, heads.group()));
    let scale = (heads.key_dim as f64).powf(-0.5);
    let [queries, keys] = queries_and_keys(&qkv, heads);
    let [n, _] = qkv.dims();
    let mut parts: Vec<Tensor<B, 2>> = [
        (queries, packed(of.queries.mul_scalar(scale))),
        (keys, packed(of.keys)),
    ]
    .map(|(x, grad)| {
        let shape = x.dims();
        of_directions(x, grad.reshape(shape)).reshape([n, heads.key_width()])
    })
    .into();
    parts.push(padding.pack(of.values));
    let [written, a, rate] = gates(&inputs, heads.n_value_heads);
    let of_written = padding.pack(of.written);
    let of_b = of_written * written.clone() * (written.neg() + 1.0);
    let of_log = padding.pack(of.kept * tokens.kept);
    let of_a = of_log.clone() * rate.clone() * sigmoid(a.clone());
    let of_rate = of_log * softplus(a) * rate;
    let summed = |x: Tensor<B, 2>| unwrap(x.sum_dim(0).squeeze_dim::<1>(0));
    DeltaInputs {
        qkv: unwrap(Tensor::cat(parts, 1)),
        dt_bias: summed(of_a.clone()),
        gates: unwrap(Tensor::cat(vec![of_b, of_a], 1)),
        a_log: summed(of_rate),
    }
}
