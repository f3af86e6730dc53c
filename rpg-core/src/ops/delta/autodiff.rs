//! The operations of a delta layer on `Autodiff`.

use super::{DeltaBackend, DeltaHeads, DeltaInputs};
use crate::ops::autodiff::{Float, node, record, register};
use crate::ops::{ModelBackend, Packing};
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};

node!(
    CausalConv,
    2,
    (Float<B>, Float<B>, Packing),
    |(x, weight, packing), grad| B::causal_conv_backward(x, weight, &packing, grad).into()
);
node!(
    DeltaRule,
    4,
    (DeltaInputs<B>, DeltaHeads, Packing),
    |(inputs, heads, packing), grad| {
        let of = B::delta_rule_backward(inputs, heads, &packing, grad);
        [of.qkv, of.gates, of.a_log, of.dt_bias]
    }
);

impl<B: ModelBackend, C: CheckpointStrategy> DeltaBackend for Autodiff<B, C> {
    fn causal_conv(x: Float<Self>, weight: Float<Self>, packing: &Packing) -> Float<Self> {
        let nodes = [x.node.clone(), weight.node.clone()];
        let (x, weight) = (x.primitive, weight.primitive);
        let output = B::causal_conv(x.clone(), weight.clone(), packing);
        record!(CausalConv, nodes, (x, weight, packing.clone()), output)
    }

    fn delta_rule(inputs: DeltaInputs<Self>, heads: DeltaHeads, packing: &Packing) -> Float<Self> {
        let DeltaInputs {
            qkv,
            gates,
            a_log,
            dt_bias,
        } = inputs;
        let nodes = [qkv.node, gates.node, a_log.node, dt_bias.node];
        let inputs = DeltaInputs {
            qkv: qkv.primitive,
            gates: gates.primitive,
            a_log: a_log.primitive,
            dt_bias: dt_bias.primitive,
        };
        let output = B::delta_rule(inputs.clone(), heads, packing);
        record!(DeltaRule, nodes, (inputs, heads, packing.clone()), output)
    }
}
