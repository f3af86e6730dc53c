//! The model on WGPU against the model on the CPU. Needs a Vulkan driver; a software one will do.

use burn::backend::{Autodiff, Flex, Wgpu};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, BackendTypes};
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};
use rpg_core::model::{CausalLm, ModelConfig};
use rpg_core::ops::{
    Activation, Attention, CacheRows, DecodeBackend, DeltaHeads, DeltaInputs, HeadLayout,
    ModelBackend, Packing, RopeTable, Weight,
};
use rpg_core::score::{ScoreItem, score};

const FAMILIES: [&str; 2] = ["qwen3", "qwen3_5_text"];

fn config(family: &str) -> ModelConfig {
    let json = serde_json::json!({
        "model_type": family, "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6,
        "linear_value_head_dim": 5, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "vocab_size": 11, "tie_word_embeddings": true,
    });
    ModelConfig::from_hf_json(&json.to_string()).unwrap()
}

const HEADS: HeadLayout = HeadLayout {
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 8,
};

const DELTA_HEADS: DeltaHeads = DeltaHeads {
    n_key_heads: 2,
    n_value_heads: 4,
    key_dim: 6,
    value_dim: 5,
};

/// The operations of the model that have a gradient.
#[derive(Debug, Clone, Copy)]
enum Op {
    Embed,
    Linear,
    RmsNorm,
    HeadNorm,
    Rotary,
    WidthNorm,
    PartialRotary,
    CausalAttention,
    Window,
    Swiglu,
    Geglu,
    TokenLogprobs,
    HeadLogprobs,
    CausalConv,
    DeltaRule,
}

const OPS: [(Op, &[&[usize]]); 15] = [
    (Op::Embed, &[&[31, 16]]),
    (Op::Linear, &[&[9, 16], &[16, 24]]),
    (Op::RmsNorm, &[&[9, 16], &[16]]),
    (Op::HeadNorm, &[&[9, 64], &[8], &[8]]),
    (Op::Rotary, &[&[9, 64]]),
    (Op::WidthNorm, &[&[9, 64], &[32], &[16]]),
    (Op::PartialRotary, &[&[9, 64]]),
    (Op::CausalAttention, &[&[9, 64]]),
    (Op::Window, &[&[9, 64]]),
    (Op::Swiglu, &[&[9, 48]]),
    (Op::Geglu, &[&[9, 48]]),
    (Op::TokenLogprobs, &[&[9, 31]]),
    (Op::HeadLogprobs, &[&[9, 16], &[31, 16]]),
    (Op::CausalConv, &[&[9, 44], &[44, 4]]),
    (Op::DeltaRule, &[&[9, 44], &[9, 8], &[4], &[4]]),
];

type Primitive<B> = <B as BackendTypes>::FloatTensorPrimitive;

impl Op {
    fn apply<B: ModelBackend>(self, inputs: Vec<Primitive<B>>) -> Primitive<B> {
        let packing = Packing::branched([(6, None), (1, None), (2, Some(0))]);
        let targets = || {
            let targets: Vec<i32> = (0..9).map(|i| i * 7 % 31).collect();
            let data = TensorData::from(targets.as_slice());
            Tensor::<B, 1, Int>::from_data(data, &Default::default()).into_primitive()
        };
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().unwrap();
        let rank_2 = |x| Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(x));
        match self {
            Self::Linear => {
                let product = rank_2(next()).matmul(rank_2(next()));
                product.into_primitive().tensor()
            }
            Self::Embed => B::embed(Weight::Float(next()), targets()),
            Self::RmsNorm => B::rms_norm(next(), next(), 1e-6),
            Self::HeadNorm | Self::WidthNorm => B::head_norm(next(), next(), next(), HEADS, 1e-6),
            Self::Rotary => {
                let rope = RopeTable::new(&[1.0, 0.3, 0.1, 0.03], 16);
                B::rotary(next(), HEADS, &rope, &packing)
            }
            Self::PartialRotary => {
                let rope = RopeTable::new(&[1.0, 0.3, 0.1], 16);
                B::rotary(next(), HEADS, &rope, &packing)
            }
            Self::CausalAttention | Self::Window => {
                let attention = Attention {
                    window: matches!(self, Self::Window).then_some(3),
                    ..Attention::new(HEADS)
                };
                B::causal_attention(next(), attention, &packing).0
            }
            Self::CausalConv => B::causal_conv(next(), next(), &packing),
            Self::DeltaRule => {
                let inputs = DeltaInputs {
                    qkv: next(),
                    gates: next(),
                    a_log: next(),
                    dt_bias: next(),
                };
                B::delta_rule(inputs, DELTA_HEADS, &packing)
            }
            Self::Swiglu => B::glu(next(), Activation::Silu),
            Self::Geglu => B::glu(next(), Activation::GeluTanh),
            Self::TokenLogprobs => B::token_logprobs(next(), targets(), 0.8).0,
            Self::HeadLogprobs => {
                B::head_logprobs(next(), Weight::Float(next()), targets(), 0.8, 100).0
            }
        }
    }

    /// The output, and the gradients of its sum weighted by the cosines of its indices.
    fn run<B: ModelBackend>(self, shapes: &[&[usize]]) -> Vec<Vec<f32>> {
        use burn::tensor::TensorMetadata;
        use burn::tensor::ops::FloatTensorOps;
        let device = Default::default();
        let wave = |n: usize, phase: f32| -> Tensor<Autodiff<B>, 1> {
            let values: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7 + phase).cos()).collect();
            Tensor::from_data(TensorData::new(values, [n]), &device)
        };
        let leaves: Vec<Tensor<Autodiff<B>, 1>> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| wave(shape.iter().product(), i as f32).require_grad())
            .collect();
        let inputs = leaves
            .iter()
            .zip(shapes)
            .map(|(leaf, shape)| {
                let flat = leaf.clone().into_primitive().tensor();
                Autodiff::<B>::float_reshape(flat, shape.to_vec().into())
            })
            .collect();
        let output = self.apply::<Autodiff<B>>(inputs);
        let n = output.shape().num_elements();
        let output = Autodiff::<B>::float_reshape(output, [n].into());
        let output = Tensor::<Autodiff<B>, 1>::from_primitive(TensorPrimitive::Float(output));
        let values = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        let mut results = vec![values(output.clone().into_data())];
        let grads = (output * wave(n, 0.5)).sum().backward();
        let gradients = leaves
            .iter()
            .map(|leaf| leaf.grad(&grads).unwrap().into_data());
        results.extend(gradients.map(values));
        results
    }
}

#[test]
fn every_operation_equals_the_cpu() {
    for (op, shapes) in OPS {
        let pairs = op
            .run::<Flex>(shapes)
            .into_iter()
            .zip(op.run::<Wgpu>(shapes));
        for (i, (cpu, gpu)) in pairs.enumerate() {
            close(&format!("{op:?}, result {i}"), &cpu, &gpu, 2e-6);
        }
    }
}

fn close(name: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}");
    let scale = a.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    assert!(worst < tolerance, "{name}: {worst:e}");
}

struct Gradients<'a, B: AutodiffBackend>(
    &'a GradientsParams,
    Vec<f32>,
    std::marker::PhantomData<B>,
);

impl<B: AutodiffBackend> ModuleVisitor<B> for Gradients<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let grad = self
            .0
            .get::<B::InnerBackend, D>(param.id)
            .expect("every parameter has one");
        self.1.extend(grad.into_data().iter::<f32>());
    }
}

/// Log-probs of two packed texts, and the gradient of their sum.
fn train<B: ModelBackend>(family: &str) -> (Vec<f32>, Vec<f32>) {
    let model = CausalLm::<B>::init(&config(family), 3, &Default::default()).into_trainable();
    let items = [
        ScoreItem::response(&[1, 2, 3], &[4, 5, 6, 7]),
        ScoreItem::response(&[8], &[9, 1]),
    ];
    let scores = score(&model, &items, 0.8);
    let grads = GradientsParams::from_grads(scores.logprobs.clone().sum().backward(), &model);
    let mut gradients = Gradients::<Autodiff<B>>(&grads, Vec::new(), std::marker::PhantomData);
    model.visit(&mut gradients);
    (
        scores.logprobs.into_data().iter::<f32>().collect(),
        gradients.1,
    )
}

/// Logits of the last of four tokens: the first three from a prefilled and copied cache.
fn decode<B: DecodeBackend>(family: &str) -> (Vec<f32>, Vec<f32>) {
    let model = CausalLm::<B>::init(&config(family), 3, &Default::default());
    let mut cache = model.new_cache(3, 8);
    model.prefill(&[1, 2, 3], &Packing::new([3]), &[1], &mut cache);
    cache.copy_prefix(1, &[0, 2], 3);
    let rows = CacheRows {
        slots: &[2, 0],
        positions: &[3, 3],
    };
    let logits = model.logits(model.decode(&[4, 4], &rows, &mut cache));
    let whole = model.logits(
        model
            .hidden(&[1, 2, 3, 4], &Packing::new([4]))
            .narrow(0, 3, 1),
    );
    let values = |t: Tensor<B, 2>| t.into_data().iter::<f32>().collect();
    (values(logits), values(whole.repeat_dim(0, 2)))
}

#[test]
fn training_equals_the_cpu() {
    for family in FAMILIES {
        let (logprobs, gradients) = train::<Wgpu>(family);
        let (expected_logprobs, expected_gradients) = train::<Flex>(family);
        close(family, &expected_logprobs, &logprobs, 1e-5);
        close(family, &expected_gradients, &gradients, 1e-4);
    }
}

#[test]
fn decoding_with_a_cache_equals_the_whole_sequence() {
    for family in FAMILIES {
        let (logits, whole) = decode::<Wgpu>(family);
        close(family, &whole, &logits, 1e-5);
        close(family, &decode::<Flex>(family).0, &logits, 1e-5);
    }
}
