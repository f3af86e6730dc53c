//! The operations on `Autodiff`: each forward and backward pair is one node of the graph.

use super::{
    Activation, Attention, HeadLayout, HeadScores, ModelBackend, Packing, RopeTable, Weight,
    composed,
};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{CheckpointStrategy, NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::AutodiffBackend;
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

pub(in crate::ops) use {node, record};

pub(in crate::ops) type Float<B> = FloatTensor<B>;

node!(
    Rotary,
    1,
    (HeadLayout, RopeTable, Packing),
    |(heads, rope, packing), grad| [B::rotary_backward(heads, &rope, &packing, grad)]
);
node!(
    CausalAttention,
    1,
    (Float<B>, Float<B>, Float<B>, Attention, Packing),
    |(qkv, output, lse, attention, packing), grad| {
        [B::causal_attention_backward(
            qkv, output, lse, attention, &packing, grad,
        )]
    }
);
node!(
    Glu,
    1,
    (Float<B>, Activation),
    |(gate_up, activation), grad| [B::glu_backward(gate_up, activation, grad)]
);
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
    HeadNorm,
    3,
    (Float<B>, Float<B>, Float<B>, HeadLayout, f64),
    |(qkv, q_weight, k_weight, heads, eps), grad| {
        B::head_norm_backward(qkv, q_weight, k_weight, heads, eps, grad).into()
    }
);

/// The output layer: log-probabilities `[M]`, or these and the entropies, `[2, M]`.
#[derive(Debug)]
struct Head;

/// What its backward pass needs.
#[derive(Debug, Clone)]
struct HeadState<B: ModelBackend> {
    hidden: Float<B>,
    head: Weight<B>,
    is_trained: bool,
    targets: IntTensor<B>,
    temperature: f64,
    max_logits: usize,
    output: Float<B>,
    has_entropy: bool,
}

impl<B: ModelBackend> Backward<B, 2> for Head {
    type State = HeadState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (grad, state) = (grads.consume::<B>(&ops.node), ops.state);
        let scores = if state.has_entropy {
            let [logprobs, entropy] = composed::unstack::<B>(state.output);
            let [grad, entropy_grad] = composed::unstack::<B>(grad);
            HeadScores {
                logprobs,
                grad,
                entropy: Some((entropy, entropy_grad)),
            }
        } else {
            HeadScores {
                logprobs: state.output,
                grad,
                entropy: None,
            }
        };
        let (of_hidden, of_head) = B::head_logprobs_backward(
            state.hidden,
            state.head,
            state.targets,
            state.temperature,
            state.max_logits,
            scores,
            state.is_trained,
        );
        let [hidden, head] = ops.parents;
        if let (Some(parent), Some(value)) = (head, of_head) {
            grads.register::<B>(parent.id, value);
        }
        if let Some(parent) = hidden {
            grads.register::<B>(parent.id, of_hidden);
        }
    }
}

/// A weight on the inner backend, and what has its place in the graph.
struct Parent<B: ModelBackend, C: CheckpointStrategy> {
    inner: Weight<B>,
    place: Float<Autodiff<B, C>>,
    is_trained: bool,
}

impl<B: ModelBackend, C: CheckpointStrategy> Parent<B, C> {
    /// A packed matrix has no place: the other input, `beside`, stands in for it, and gets no second gradient.
    fn new(weight: Weight<Autodiff<B, C>>, beside: &Float<Autodiff<B, C>>) -> Self {
        match weight {
            Weight::Float(weight) => Self {
                inner: Weight::Float(weight.primitive.clone()),
                is_trained: weight.is_tracked(),
                place: weight,
            },
            Weight::Packed(matrix) => Self {
                inner: Weight::Packed(matrix),
                is_trained: false,
                place: beside.clone(),
            },
        }
    }
}

#[derive(Debug)]
struct Project;

impl<B: ModelBackend> Backward<B, 2> for Project {
    // The input is kept only for the gradient of a weight that is trained.
    type State = (Option<Float<B>>, Weight<B>);

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
pub(in crate::ops) fn register<B: ModelBackend, const N: usize>(
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
    fn project(x: Float<Self>, weight: Weight<Self>) -> Float<Self> {
        let weight = Parent::new(weight, &x);
        let output = B::project(x.primitive.clone(), weight.inner.clone());
        let kept = weight.is_trained.then_some(x.primitive);
        let nodes = [x.node, weight.place.node];
        record!(Project, nodes, (kept, weight.inner), output)
    }

    fn embed(weight: Weight<Self>, ids: IntTensor<Self>) -> Float<Self> {
        match weight {
            Weight::Float(weight) => {
                let inner = Weight::Float(weight.primitive.clone());
                let output = B::embed(inner, ids.clone());
                let nodes = [weight.node.clone()];
                record!(Embed, nodes, (weight, ids), output)
            }
            Weight::Packed(matrix) => {
                let output = B::embed(Weight::Packed(matrix), ids);
                <Self as AutodiffBackend>::from_inner(output)
            }
        }
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
        attention: Attention,
        packing: &Packing,
    ) -> (Float<Self>, Float<Self>) {
        let nodes = [qkv.node.clone()];
        let (output, lse) = B::causal_attention(qkv.primitive.clone(), attention, packing);
        let state = (
            qkv.primitive,
            output.clone(),
            lse.clone(),
            attention,
            packing.clone(),
        );
        // Only the backward pass uses the log-sum-exp: it leaves the graph here.
        let constant = <Self as AutodiffBackend>::from_inner(lse);
        (record!(CausalAttention, nodes, state, output), constant)
    }

    fn glu(gate_up: Float<Self>, activation: Activation) -> Float<Self> {
        let nodes = [gate_up.node.clone()];
        let output = B::glu(gate_up.primitive.clone(), activation);
        record!(Glu, nodes, (gate_up.primitive, activation), output)
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
        let constant = <Self as AutodiffBackend>::from_inner(entropy);
        (record!(TokenLogprobs, nodes, state, logprobs), constant)
    }

    fn head_logprobs(
        hidden: Float<Self>,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> (Float<Self>, Float<Self>) {
        let head = Parent::new(head, &hidden);
        let nodes = [hidden.node.clone(), head.place.node];
        let (logprobs, entropy) = B::head_logprobs(
            hidden.primitive.clone(),
            head.inner.clone(),
            targets.clone(),
            temperature,
            max_logits,
        );
        let state = HeadState {
            hidden: hidden.primitive,
            head: head.inner,
            is_trained: head.is_trained,
            targets,
            temperature,
            max_logits,
            output: logprobs.clone(),
            has_entropy: false,
        };
        // The entropy is a diagnostic here too.
        let constant = <Self as AutodiffBackend>::from_inner(entropy);
        (record!(Head, nodes, state, logprobs), constant)
    }

    fn head_scores(
        hidden: Float<Self>,
        head: Weight<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
        max_logits: usize,
    ) -> Float<Self> {
        let head = Parent::new(head, &hidden);
        let nodes = [hidden.node.clone(), head.place.node];
        let output = B::head_scores(
            hidden.primitive.clone(),
            head.inner.clone(),
            targets.clone(),
            temperature,
            max_logits,
        );
        let state = HeadState {
            hidden: hidden.primitive,
            head: head.inner,
            is_trained: head.is_trained,
            targets,
            temperature,
            max_logits,
            output: output.clone(),
            has_entropy: true,
        };
        record!(Head, nodes, state, output)
    }
}
