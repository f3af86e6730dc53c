//! The operations of a delta layer. One unit of work of the rule is a key head of a sequence, with the value heads it
//! serves; of the convolution, some tokens.

mod backward;
mod conv;
mod rule;

use super::{Values, all_f32, dims, from_vec, in_place};
use crate::ops::{DeltaBackend, DeltaDecode, DeltaHeads, DeltaInputs, Packing, composed};
use burn::backend::Flex;
use burn_flex::FlexTensor;
use rule::Operands;

fn are_f32(inputs: &DeltaInputs<Flex>) -> bool {
    all_f32(&[&inputs.qkv, &inputs.gates, &inputs.a_log, &inputs.dt_bias])
}

/// Runs `work` on the numbers of the inputs.
fn with_operands<R>(
    inputs: &DeltaInputs<Flex>,
    heads: DeltaHeads,
    work: impl FnOnce(&Operands) -> R,
) -> R {
    work(&Operands {
        qkv: &Values::new(&inputs.qkv),
        gates: &Values::new(&inputs.gates),
        a_log: &Values::new(&inputs.a_log),
        dt_bias: &Values::new(&inputs.dt_bias),
        heads,
    })
}

impl DeltaBackend for Flex {
    fn causal_conv(x: FlexTensor, weight: FlexTensor, packing: &Packing) -> FlexTensor {
        if !all_f32(&[&x, &weight]) {
            return composed::causal_conv::<Self>(x, weight, packing);
        }
        let [n, c] = dims(&x);
        let y = conv::forward(&Values::new(&x), &Values::new(&weight), c, packing);
        from_vec(y, [n, c])
    }

    fn causal_conv_backward(
        x: FlexTensor,
        weight: FlexTensor,
        packing: &Packing,
        grad: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&x, &weight, &grad]) {
            return composed::causal_conv_backward::<Self>(x, weight, packing, grad);
        }
        let ([n, c], [_, k]) = (dims(&x), dims(&weight));
        let (x, weight, grad) = (Values::new(&x), Values::new(&weight), Values::new(&grad));
        let (dx, d_weight) = conv::backward(&x, &weight, c, packing, &grad);
        (from_vec(dx, [n, c]), from_vec(d_weight, [c, k]))
    }

    fn delta_rule(inputs: DeltaInputs<Self>, heads: DeltaHeads, packing: &Packing) -> FlexTensor {
        if !are_f32(&inputs) {
            return composed::delta_rule::<Self>(inputs, heads, packing);
        }
        let output = with_operands(&inputs, heads, |operands| rule::forward(operands, packing));
        from_vec(output, [packing.n_tokens(), heads.value_width()])
    }

    fn delta_rule_backward(
        inputs: DeltaInputs<Self>,
        heads: DeltaHeads,
        packing: &Packing,
        grad: FlexTensor,
    ) -> DeltaInputs<Self> {
        if !are_f32(&inputs) || !all_f32(&[&grad]) {
            return composed::delta_rule_backward::<Self>(inputs, heads, packing, grad);
        }
        let grad = Values::new(&grad);
        let of = with_operands(&inputs, heads, |operands| {
            backward::backward(operands, packing, &grad)
        });
        let (n, n_heads) = (packing.n_tokens(), heads.n_value_heads);
        DeltaInputs {
            qkv: from_vec(of.qkv, [n, heads.width()]),
            gates: from_vec(of.gates, [n, 2 * n_heads]),
            a_log: from_vec(of.a_log, [n_heads]),
            dt_bias: from_vec(of.dt_bias, [n_heads]),
        }
    }
}

impl DeltaDecode for Flex {
    fn cached_conv(
        x: FlexTensor,
        weight: FlexTensor,
        inputs: &mut FlexTensor,
        packing: &Packing,
        slots: &[usize],
    ) -> FlexTensor {
        if !all_f32(&[&x, &weight, inputs]) {
            return composed::cached_conv::<Self>(x, weight, inputs, packing, slots);
        }
        let [n, c] = dims(&x);
        let (x, weight) = (Values::new(&x), Values::new(&weight));
        let y = in_place(inputs, |inputs| {
            conv::cached(&x, &weight, c, inputs, packing, slots)
        });
        from_vec(y, [n, c])
    }

    fn cached_delta_rule(
        inputs: DeltaInputs<Self>,
        heads: DeltaHeads,
        states: &mut FlexTensor,
        packing: &Packing,
        slots: &[usize],
    ) -> FlexTensor {
        if !are_f32(&inputs) || !all_f32(&[states]) {
            return composed::cached_delta_rule::<Self>(inputs, heads, states, packing, slots);
        }
        let output = with_operands(&inputs, heads, |operands| {
            in_place(states, |states| {
                rule::cached(operands, states, packing, slots)
            })
        });
        from_vec(output, [packing.n_tokens(), heads.value_width()])
    }
}
