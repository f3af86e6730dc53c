//! Backward passes block by block.

use super::linear::Matrix;
use super::{CausalLm, float, primitive, times, token_ids};
use crate::ops::{ModelBackend, Packing, seeded};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

/// What a forward pass keeps of the blocks for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// What each operation needs: the memory is that of everything that the blocks compute.
    #[default]
    Keep,
    /// What goes into each block; the rest is computed again when the backward pass reaches the block (activation
    /// checkpointing; Chen et al., 2016, arXiv 1604.06174). On the CPU the gradients are the same bit for bit.
    Recompute,
}

/// The forward pass of a model that is trained, ready for one backward pass.
///
/// Every block has a graph of its own: the backward pass frees what belongs to a block before it turns to the next, and
/// adds each gradient to the sums at once, so that there is never a second gradient of the whole model.
#[derive(Debug)]
pub struct Tape<B: ModelBackend> {
    tokens: Vec<u32>,
    packing: Packing,
    segments: Vec<Segment<B>>,
    // What the last block gave. The graph of the loss begins here.
    output: Tensor<Autodiff<B>, 2>,
}

/// What is kept of a block.
#[derive(Debug)]
enum Segment<B: ModelBackend> {
    /// Nothing: neither it nor what is before it is trained.
    Constant,
    Input {
        x: Tensor<B, 2>,
        is_tracked: bool,
    },
    Graph {
        input: Tensor<Autodiff<B>, 2>,
        output: Tensor<Autodiff<B>, 2>,
    },
}

impl<B: ModelBackend> CausalLm<Autodiff<B>> {
    /// [`hidden`](Self::hidden), whose result begins a graph of its own, and the tape that leads from there back to the
    /// parameters.
    ///
    /// # Panics
    /// If there is not one token per position of the packing.
    pub fn hidden_on_tape(
        &self,
        tokens: &[u32],
        packing: &Packing,
        activations: Activations,
    ) -> (Tensor<Autodiff<B>, 2>, Tape<B>) {
        let mut x = self.embed_all(tokens, packing).inner();
        let mut is_tracked = has_trained(&self.embedding);
        let mut segments = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let is_trained = is_tracked || has_trained(block);
            let segment = match activations {
                Activations::Keep if is_trained => {
                    let input = leaf(x, is_tracked);
                    let output = self.run(block, input.clone(), packing);
                    x = output.clone().inner();
                    Segment::Graph { input, output }
                }
                _ => {
                    let input = x.clone();
                    x = self.run(&block.valid(), x, packing);
                    if is_trained {
                        Segment::Input {
                            x: input,
                            is_tracked,
                        }
                    } else {
                        Segment::Constant
                    }
                }
            };
            segments.push(segment);
            is_tracked = is_trained;
        }
        let output = leaf(x, is_tracked);
        let tape = Tape {
            tokens: tokens.to_vec(),
            packing: packing.clone(),
            segments,
            output: output.clone(),
        };
        (self.final_norm(output), tape)
    }
}

impl<B: ModelBackend> Tape<B> {
    /// Adds the gradients of `loss`, which was made of the hidden states that came with this tape, to `sums`: those of
    /// every parameter of `model` that requires one. Where a parameter had no part in the loss, as an expert that no token
    /// has taken, it is 0.
    pub fn backward(
        self,
        model: &CausalLm<Autodiff<B>>,
        loss: Tensor<Autodiff<B>, 1>,
        sums: &mut GradientsParams,
    ) {
        let mut grads = loss.backward();
        let mut grad = self.output.grad_remove(&mut grads);
        add(model, GradientsParams::from_grads(grads, model), sums);
        for (block, segment) in model.blocks.iter().zip(self.segments).rev() {
            let Some(of_output) = grad.take() else {
                break;
            };
            let (input, output) = match segment {
                Segment::Constant => break,
                Segment::Graph { input, output } => (input, output),
                Segment::Input { x, is_tracked } => {
                    let input = leaf(x, is_tracked);
                    let output = model.run(block, input.clone(), &self.packing);
                    (input, output)
                }
            };
            let mut grads = seeded(output, of_output).backward();
            grad = input.grad_remove(&mut grads);
            add(block, GradientsParams::from_grads(grads, block), sums);
        }
        if let (Some(grad), Matrix::Float(embedding)) = (grad, &model.embedding) {
            let grad = times(grad, model.config.embedding_multiplier);
            embed_backward(embedding, &self.tokens, grad, sums);
        }
        complete(model, sums);
    }
}

/// A tensor that begins a graph.
fn leaf<B: Backend>(x: Tensor<B, 2>, is_tracked: bool) -> Tensor<Autodiff<B>, 2> {
    Tensor::<Autodiff<B>, 2>::from_inner(x).set_require_grad(is_tracked)
}

/// Adds the gradient of the embedded tokens to that of the embedding, which also the output layer may have given one.
fn embed_backward<B: ModelBackend>(
    embedding: &Param<Tensor<Autodiff<B>, 2>>,
    tokens: &[u32],
    grad: Tensor<B, 2>,
    sums: &mut GradientsParams,
) {
    // Taken out, so that nothing else holds it and it can be added to in place.
    let sum = sums.remove::<B, 2>(embedding.id);
    let sum = sum.unwrap_or_else(|| embedding.val().inner().zeros_like());
    let ids = token_ids::<B>(tokens, &grad.device());
    let sum = B::embed_backward(primitive(sum), ids.into_primitive(), primitive(grad));
    sums.register::<B, 2>(embedding.id, float(sum));
}

/// Whether a part of the model has a parameter that requires a gradient.
fn has_trained<B: AutodiffBackend>(module: &impl Module<B>) -> bool {
    struct Any(bool);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Any {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0 |= param.val().is_require_grad();
        }
    }
    let mut any = Any(false);
    module.visit(&mut any);
    any.0
}

/// Adds the gradients of a part of the model to the sums.
fn add<B: AutodiffBackend>(
    module: &impl Module<B>,
    grads: GradientsParams,
    sums: &mut GradientsParams,
) {
    struct Add<'a> {
        grads: GradientsParams,
        sums: &'a mut GradientsParams,
    }
    impl<B: AutodiffBackend> ModuleVisitor<B> for Add<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) else {
                return;
            };
            let sum = match self.sums.remove::<B::InnerBackend, D>(param.id) {
                Some(sum) => sum + grad,
                None => grad,
            };
            self.sums.register(param.id, sum);
        }
    }
    module.visit(&mut Add { grads, sums });
}

/// Gives every parameter that requires a gradient one: 0 where there is none yet. So what an update does depends neither on
/// how its tokens are divided among tapes nor on what was updated before it.
fn complete<B: AutodiffBackend>(module: &impl Module<B>, sums: &mut GradientsParams) {
    struct Complete<'a>(&'a mut GradientsParams);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Complete<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let value = param.val();
            if value.is_require_grad() && self.0.get::<B::InnerBackend, D>(param.id).is_none() {
                let zero = value.inner().zeros_like();
                self.0.register(param.id, zero);
            }
        }
    }
    module.visit(&mut Complete(sums));
}
