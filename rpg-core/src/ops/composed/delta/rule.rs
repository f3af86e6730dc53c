//! The gated delta rule, a token of every sequence at a time, through padded blocks.

use super::{replaced, rows};
use crate::ops::composed::attention::{Padding, repeat_heads};
use crate::ops::composed::{unwrap, wrap};
use crate::ops::delta::LENGTH_EPS;
use crate::ops::{DeltaHeads, DeltaInputs, Packing};
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData};

/// What the rule is about, for every token of padded sequences: keys and queries `[S, H, L, key_dim]`, values
/// `[S, H, L, value_dim]`, how much is kept and how much is written `[S, H, L, 1]`. Padding keeps all and writes nothing.
pub(super) struct Tokens<B: Backend> {
    pub(super) queries: Tensor<B, 4>,
    pub(super) keys: Tensor<B, 4>,
    pub(super) values: Tensor<B, 4>,
    pub(super) kept: Tensor<B, 4>,
    pub(super) written: Tensor<B, 4>,
}

/// One token of each: `[S, H, 1, key_dim]`, `[S, H, value_dim, 1]`, `[S, H, 1, 1]`.
pub(super) struct Step<B: Backend> {
    pub(super) query: Tensor<B, 4>,
    pub(super) key: Tensor<B, 4>,
    pub(super) value: Tensor<B, 4>,
    pub(super) kept: Tensor<B, 4>,
    pub(super) written: Tensor<B, 4>,
}

/// `x / |x|` for each head of `[N, heads, d]`, and `1 / |x|`.
pub(super) fn directions<B: Backend>(x: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let squares = x.clone().square().sum_dim(2);
    let scale = squares.add_scalar(LENGTH_EPS).sqrt().recip();
    (x * scale.clone(), scale)
}

/// Query and key heads: `[N, heads, key_dim]`.
pub(super) fn queries_and_keys<B: Backend>(
    qkv: &Tensor<B, 2>,
    heads: DeltaHeads,
) -> [Tensor<B, 3>; 2] {
    let ([n, _], width) = (qkv.dims(), heads.key_width());
    [0, width].map(|start| {
        let part = qkv.clone().narrow(1, start, width);
        part.reshape([n, heads.n_key_heads, heads.key_dim])
    })
}

/// `sigmoid(b)`, `a + dt_bias` and `-exp(a_log)`: `[N, H]`, `[N, H]`, `[1, H]`.
pub(super) fn gates<B: Backend>(inputs: &DeltaInputs<B>, n_heads: usize) -> [Tensor<B, 2>; 3] {
    let gates = wrap::<B, 2>(inputs.gates.clone());
    let of_head = |x: &FloatTensor<B>| wrap::<B, 1>(x.clone()).unsqueeze::<2>();
    let written = sigmoid(gates.clone().narrow(1, 0, n_heads));
    let a = gates.narrow(1, n_heads, n_heads) + of_head(&inputs.dt_bias);
    [written, a, of_head(&inputs.a_log).exp().neg()]
}

/// `ln(1 + e^x)`.
pub(super) fn softplus<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()
}

impl<B: Backend> Tokens<B> {
    pub(super) fn new(
        inputs: &DeltaInputs<B>,
        heads: DeltaHeads,
        packing: &Packing,
        padding: &Padding<B>,
    ) -> Self {
        let qkv = wrap::<B, 2>(inputs.qkv.clone());
        let real = padding.real_rows(packing, qkv.dtype());
        let [queries, keys] = queries_and_keys(&qkv, heads).map(|x| {
            let [n, _, _] = x.dims();
            let (x, _) = directions(x);
            let padded = padding.pad(x.reshape([n, heads.key_width()]), heads.key_dim);
            repeat_heads(padded, heads.group())
        });
        let values = qkv.narrow(1, 2 * heads.key_width(), heads.value_width());
        let [written, a, rate] = gates(inputs, heads.n_value_heads);
        let log_kept = softplus(a) * rate;
        Self {
            queries: queries.mul_scalar((heads.key_dim as f64).powf(-0.5)),
            keys,
            values: padding.pad(values, heads.value_dim),
            kept: (padding.pad(log_kept, 1) * real.clone()).exp(),
            written: padding.pad(written, 1) * real,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.dims()[2]
    }

    pub(super) fn step(&self, t: usize) -> Step<B> {
        let at = |x: &Tensor<B, 4>| x.clone().narrow(2, t, 1);
        Step {
            query: at(&self.queries),
            key: at(&self.keys),
            value: at(&self.values).swap_dims(2, 3),
            kept: at(&self.kept),
            written: at(&self.written),
        }
    }

    /// States before the first token: `[S, H, value_dim, key_dim]`.
    pub(super) fn nothing(&self) -> Tensor<B, 4> {
        let ([s, h, _, key_dim], [_, _, _, value_dim]) = (self.keys.dims(), self.values.dims());
        let options = (&self.keys.device(), self.keys.dtype());
        Tensor::zeros([s, h, value_dim, key_dim], options)
    }
}

impl<B: Backend> Step<B> {
    /// What the state says of the value, and how far the value is from that: `[S, H, value_dim, 1]`.
    pub(super) fn error(&self, state: &Tensor<B, 4>) -> Tensor<B, 4> {
        let decayed = state.clone() * self.kept.clone();
        self.value.clone() - (decayed * self.key.clone()).sum_dim(3)
    }

    /// The state after the token.
    pub(super) fn next(&self, state: Tensor<B, 4>) -> Tensor<B, 4> {
        let change = self.error(&state) * self.written.clone();
        state * self.kept.clone() + change * self.key.clone()
    }

    fn read(&self, state: &Tensor<B, 4>) -> Tensor<B, 4> {
        (state.clone() * self.query.clone()).sum_dim(3)
    }
}

/// The outputs `[S, H, L, value_dim]`, and the states after the last tokens.
fn run<B: Backend>(tokens: &Tokens<B>, mut state: Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let mut outputs = Vec::with_capacity(tokens.len());
    for t in 0..tokens.len() {
        let step = tokens.step(t);
        state = step.next(state);
        outputs.push(step.read(&state));
    }
    (Tensor::cat(outputs, 3).swap_dims(2, 3), state)
}

pub(in crate::ops) fn delta_rule<B: Backend>(
    inputs: DeltaInputs<B>,
    heads: DeltaHeads,
    packing: &Packing,
) -> FloatTensor<B> {
    let device = wrap::<B, 2>(inputs.qkv.clone()).device();
    let padding = Padding::new(packing, None, &device);
    let tokens = Tokens::new(&inputs, heads, packing, &padding);
    let (outputs, _) = run(&tokens, tokens.nothing());
    unwrap(padding.pack(outputs))
}

pub(in crate::ops) fn cached_delta_rule<B: Backend>(
    inputs: DeltaInputs<B>,
    heads: DeltaHeads,
    states: &mut FloatTensor<B>,
    packing: &Packing,
    slots: &[usize],
) -> FloatTensor<B> {
    let cache = wrap::<B, 4>(states.clone());
    let device = cache.device();
    let padding = Padding::new(packing, None, &device);
    let tokens = Tokens::new(&inputs, heads, packing, &padding);
    let goes_on = packing
        .ranges()
        .map(|range| f32::from(u8::from(packing.positions()[range.start] > 0)));
    let goes_on = TensorData::new(goes_on.collect(), [slots.len(), 1, 1, 1]);
    let goes_on = Tensor::<B, 4>::from_data(
        goes_on.convert_dtype(cache.dtype()),
        (&device, cache.dtype()),
    );
    let ids = slots.iter().map(|&slot| slot as i32).collect();
    let (outputs, last) = run(&tokens, rows(cache.clone(), ids) * goes_on);
    *states = unwrap(replaced(cache, last, slots));
    unwrap(padding.pack(outputs))
}
