//! The operations on `Autodiff`: each forward and backward pair is one node of the graph.

use super::{HeadLayout, HeadScores, ModelBackend, Packing, RopeTable, composed};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Tensor, TensorMetadata};

/// Defines the graph node of an operation with `$n` differentiable inputs: its name, what it keeps from the forward
/// pass, and the gradients of its inputs given that of its output.
macro_rules! node {
    ($name:ident, $n:literal, $state:ty, |$kept:pat_param, $grad:ident| $gradients:expr) => {
        #[derive(Debug)]
        struct $name;

        impl<B: ModelBackend> Backward<B, $n> for $name {
            type State = $state;

            fn backward(
                self,
                ops: Ops<Self::State, $n>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let $grad = grads.consume::<B>(&ops.node);
                let $kept = ops.state;
                let parents = ops.parents.map(|parent| parent.map(|node| node.id));
                register::<B, $n>(parents, $gradients, grads);
            }
        }
    };
}

/// Adds a node to the graph, unless none of its inputs is tracked.
macro_rules! record {
    ($node:expr, $inputs:expr, $state:expr, $output:expr) => {
        match Backward::<B, _>::prepare::<C>($node, $inputs)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish($state, $output),
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

type Float<B> = FloatTensor<B>;

node!(
    Rotary,
    1,
    (HeadLayout, RopeTable, Packing),
    |(heads, rope, packing), grad| [B::rotary_backward(heads, &rope, &packing, grad)]
);
node!(
    Attention,
    1,
    (Float<B>, Float<B>, Float<B>, HeadLayout, Packing),
    |(qkv, output, lse, heads, packing), grad| {
        [B::causal_attention_backward(
            qkv, output, lse, heads, &packing, grad,
        )]
    }
);
node!(SwiGlu, 1, Float<B>, |gate_up, grad| [B::swiglu_backward(
    gate_up, grad
)]);
node!(
    TokenLogprobs,
    1,
    (Float<B>, IntTensor<B>, f64),
    |(logits, targets, temperature), grad| {
        [B::token_logprobs_backward(
            logits,
            targets,
            temperature,
            grad,
        )]
    }
);
node!(
    RmsNorm,
    2,
    (Float<B>, Float<B>, f64),
    |(x, weight, eps), grad| B::rms_norm_backward(x, weight, eps, grad).into()
);
node!(
    HeadLogprobs,
    2,
    (Float<B>, Float<B>, IntTensor<B>, f64, usize, Float<B>),
    |(hidden, head, targets, temperature, max_logits, logprobs), grad| {
        let scores = HeadScores {
            logprobs,
            grad,
            entropy: None,
        };
        B::head_logprobs_backward(hidden, head, targets, temperature, max_logits, scores).into()
    }
);
node!(
    HeadEntropy,
    2,
    (Float<B>, Float<B>, IntTensor<B>, f64, usize, Float<B>),
    |(hidden, head, targets, temperature, max_logits, output), grad| {
        let [logprobs, entropy] = composed::unstack::<B>(output);
        let [grad, entropy_grad] = composed::unstack::<B>(grad);
        let scores = HeadScores {
            logprobs,
            grad,
            entropy: Some((entropy, entropy_grad)),
        };
        B::head_logprobs_backward(hidden, head, targets, temperature, max_logits, scores).into()
    }
);
node!(
    HeadNorm,
    3,
    (Float<B>, Float<B>, Float<B>, HeadLayout, f64),
    |(qkv, q_weight, k_weight, heads, eps), grad| {
        B::head_norm_backward(qkv, q_weight, k_weight, heads, eps, grad).into()
    }
);

#[derive(Debug)]
struct Project;

impl<B: ModelBackend> Backward<B, 2> for Project {
    // The input is kept only for the gradient of a weight that is trained.
    type State = (Option<Float<B>>, Float<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        let [of_x, of_weight] = ops.parents;
        if let (Some(parent), Some(x)) = (of_weight, x) {
            grads.register::<B>(parent.id, B::project_backward_weight(x, grad.clone()));
        }
        if let Some(parent) = of_x {
            grads.register::<B>(parent.id, B::project_backward(weight, grad));
        }
    }
}

node!(Seeded, 1, Float<B>, |seed, _grad| [seed]);

#[derive(Debug)]
struct Embed;

impl<B: ModelBackend> Backward<B, 1> for Embed {
    type State = (Float<Autodiff<B>>, IntTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (weight, ids) = ops.state;
        // Taken out, so that nothing else holds it and it can be added to in place.
        let d_weight = grads.remove::<B>(&weight).unwrap_or_else(|| {
            let primitive = &weight.primitive;
            let dtype = primitive.dtype().into();
            B::float_zeros(primitive.shape(), &B::float_device(primitive), dtype)
        });
        let d_weight = B::embed_backward(d_weight, ids, grad);
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        register::<B, 1>(parents, [d_weight], grads);
    }
}

/// A scalar whose gradient with respect to `x` is `grad`, whatever it is multiplied by: where a backward pass goes on that
/// another one has come to.
pub(crate) fn seeded<B: ModelBackend>(
    x: Tensor<Autodiff<B>, 2>,
    grad: Tensor<B, 2>,
) -> Tensor<Autodiff<B>, 1> {
    type C = NoCheckpointing;
    let x = composed::unwrap::<Autodiff<B>, 2>(x);
    let scalar = composed::unwrap(Tensor::<B, 1>::zeros([1], &B::float_device(&x.primitive)));
    let grad = composed::unwrap(grad);
    composed::wrap(record!(Seeded, [x.node.clone()], grad, scalar))
}

/// Hands each tracked parent its gradient.
fn register<B: ModelBackend, const N: usize>(
    parents: [Option<NodeId>; N],
    values: [Float<B>; N],
    grads: &mut Gradients,
) {
    for (parent, value) in parents.into_iter().zip(values) {
        if let Some(id) = parent {
            grads.register::<B>(id, value);
        }
    }
}

impl<B: ModelBackend, C: CheckpointStrategy> ModelBackend for Autodiff<B, C> {
    fn project(x: Float<Self>, weight: Float<Self>) -> Float<Self> {
        let output = B::project(x.primitive.clone(), weight.primitive.clone());
        let kept = weight.is_tracked().then_some(x.primitive);
        let nodes = [x.node, weight.node];
        record!(Project, nodes, (kept, weight.primitive), output)
    }

    fn embed(weight: Float<Self>, ids: IntTensor<Self>) -> Float<Self> {
        let output = B::embed(weight.primitive.clone(), ids.clone());
        let nodes = [weight.node.clone()];
        record!(Embed, nodes, (weight, ids), output)
    }

    fn rms_norm(x: Float<Self>, weight: Float<Self>, eps: f64) -> Float<Self> {
        let output = B::rms_norm(x.primitive.clone(), weight.primitive.clone(), eps);
        let nodes = [x.node.clone(), weight.node.clone()];
        record!(RmsNorm, nodes, (x.primitive, weight.primitive, eps), output)
    }

    fn rotary(
        qkv: Float<Self>,
        heads: HeadLayout,
        rope: &RopeTable,
        packing: &Packing,
    ) -> Float<Self> {
        let nodes = [qkv.node.clone()];
        let output = B::rotary(qkv.primitive, heads, rope, packing);
        record!(
            Rotary,
            nodes,
            (heads, rope.clone(), packing.clone()),
            output
        )
    }

    fn head_norm(
        qkv: Float<Self>,
        q_weight: Float<Self>,
        k_weight: Float<Self>,
        heads: HeadLayout,
        eps: f64,
    ) -> Float<Self> {
        let nodes = [
            qkv.node.clone(),
            q_weight.node.clone(),
            k_weight.node.clone(),
        ];
        let (qkv, q_weight, k_weight) = (qkv.primitive, q_weight.primitive, k_weight.primitive);
        let output = B::head_norm(qkv.clone(), q_weight.clone(), k_weight.clone(), heads, eps);
        record!(
            HeadNorm,
            nodes,
            (qkv, q_weight, k_weight, heads, eps),
            output
        )
    }

    fn causal_attention(
        qkv: Float<Self>,
        heads: HeadLayout,
        packing: &Packing,
    ) -> (Float<Self>, Float<Self>) {
        let nodes = [qkv.node.clone()];
        let (output, lse) = B::causal_attention(qkv.primitive.clone(), heads, packing);
        let state = (
            qkv.primitive,
            output.clone(),
            lse.clone(),
            heads,
            packing.clone(),
        );
        // Only the backward pass uses the log-sum-exp: it leaves the graph here.
        let constant = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(lse);
        (record!(Attention, nodes, state, output), constant)
    }

    fn swiglu(gate_up: Float<Self>) -> Float<Self> {
        let nodes = [gate_up.node.clone()];
        let output = B::swiglu(gate_up.primitive.clone());
        record!(SwiGlu, nodes, gate_up.primitive, output)
    }

    fn token_logprobs(
        logits: Float<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
    ) -> (Float<Self>, Float<Self>) {
        let nodes = [logits.node.clone()];
        let (logprobs, entropy) =
            B::token_logprobs(logits.primitive.clone(), targets.clone(), temperature);
        let state = (logits.primitive, targets, temperature);
        // The entropy is a diagnostic, not an objective: no gradient flows through it.
        let constant = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(entropy);
        (record!(TokenLogprobs, nodes, state, logprobs), constant)
    }

    fn head_logprobs(
        hidden: Float<Self>,
        head: Float<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> (Float<Self>, Float<Self>) {
        let nodes = [hidden.node.clone(), head.node.clone()];
        let (hidden, head) = (hidden.primitive, head.primitive);
        let (logprobs, entropy) = B::head_logprobs(
            hidden.clone(),
            head.clone(),
            targets.clone(),
            temperature,
            max_logits,
        );
        let state = (
            hidden,
            head,
            targets,
            temperature,
            max_logits,
            logprobs.clone(),
        );
        // The entropy is a diagnostic here too.
        let constant = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(entropy);
        (record!(HeadLogprobs, nodes, state, logprobs), constant)
    }

    fn head_scores(
        hidden: Float<Self>,
        head: Float<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> Float<Self> {
        let nodes = [hidden.node.clone(), head.node.clone()];
        let (hidden, head) = (hidden.primitive, head.primitive);
        let output = B::head_scores(
            hidden.clone(),
            head.clone(),
            targets.clone(),
            temperature,
            max_logits,
        );
        let state = (
            hidden,
            head,
            targets,
            temperature,
            max_logits,
            output.clone(),
        );
        record!(HeadEntropy, nodes, state, output)
    }
}
