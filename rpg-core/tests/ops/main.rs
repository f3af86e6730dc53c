//! The fused operations against the composed ones, and every gradient against finite differences.

mod delta;

use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rpg_core::ops::{
    Activation, AdamWUpdate, Attention, CacheRows, DecodeBackend, HeadLayout, ModelBackend,
    PackedMatrix, Packing, RopeTable, ScheduleFreeUpdate, Weight,
};
use std::sync::Arc;

type Grad = Autodiff<Flex>;

fn random(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random::<f64>() * 2.0 - 1.0).collect()
}

/// An input of an operation: values and shape.
#[derive(Clone)]
struct Input(Vec<f64>, Vec<usize>);

fn input(seed: u64, shape: &[usize]) -> Input {
    Input(random(seed, shape.iter().product()), shape.to_vec())
}

type Floats = Vec<<Grad as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive>;
type Primitive = <Grad as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;

struct Outcome {
    output: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

/// Runs `op` in the given type and returns its output and the gradients of `sum(output * weights)`.
fn run(inputs: &[Input], dtype: DType, op: &dyn Fn(Floats) -> Primitive) -> Outcome {
    let device = Default::default();
    let tensors: Vec<Tensor<Grad, 1>> = inputs
        .iter()
        .map(|Input(values, _)| {
            let data = TensorData::new(values.clone(), [values.len()]).convert_dtype(dtype);
            Tensor::from_data(data, (&device, dtype)).require_grad()
        })
        .collect();
    let primitives = tensors
        .iter()
        .zip(inputs)
        .map(|(tensor, Input(_, shape))| {
            use burn::tensor::ops::FloatTensorOps;
            let primitive = tensor.clone().into_primitive().tensor();
            Grad::float_reshape(primitive, shape.clone().into())
        })
        .collect();
    let output = op(primitives);
    let n = burn::tensor::TensorMetadata::shape(&output).num_elements();
    use burn::tensor::ops::FloatTensorOps;
    let flat = Grad::float_reshape(output, [n].into());
    let flat = Tensor::<Grad, 1>::from_primitive(TensorPrimitive::Float(flat));
    let weights = TensorData::new(random(99, n), [n]).convert_dtype(dtype);
    let weights = Tensor::<Grad, 1>::from_data(weights, (&device, dtype));
    let values = |data: TensorData| data.convert::<f64>().to_vec::<f64>().unwrap();
    let output = values(flat.clone().into_data());
    let grads = (flat * weights).sum().backward();
    let gradients = tensors
        .iter()
        .map(|t| values(t.grad(&grads).expect("tracked").into_data()))
        .collect();
    Outcome { output, gradients }
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(1f64, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0f64, |m, (a, b)| m.max((a - b).abs())) / scale
}

/// f32 (fused) against f64 (composed), and the gradients of the latter against finite differences.
fn check(name: &str, inputs: &[Input], op: &dyn Fn(Floats) -> Primitive) {
    let composed = run(inputs, DType::F64, op);
    let fused = run(inputs, DType::F32, op);
    let error = worst(&composed.output, &fused.output);
    assert!(error < 2e-6, "{name}: outputs differ by {error:e}");
    for (i, (a, b)) in composed.gradients.iter().zip(&fused.gradients).enumerate() {
        let error = worst(a, b);
        assert!(
            error < 4e-6,
            "{name}: gradients of input {i} differ by {error:e}"
        );
    }
    let objective = |inputs: &[Input]| -> f64 {
        let output = run(inputs, DType::F64, op).output;
        let weights = random(99, output.len());
        output.iter().zip(weights).map(|(o, w)| o * w).sum()
    };
    for (i, gradient) in composed.gradients.iter().enumerate() {
        let n = gradient.len();
        for j in (0..n).step_by(n.div_ceil(25)) {
            let shifted = |by: f64| {
                let mut moved = inputs.to_vec();
                moved[i].0[j] += by;
                objective(&moved)
            };
            let h = 1e-5;
            let numeric = (shifted(h) - shifted(-h)) / (2.0 * h);
            let error = (numeric - gradient[j]).abs() / gradient[j].abs().max(1.0);
            assert!(
                error < 1e-8,
                "{name}: input {i}[{j}]: {numeric} against {}",
                gradient[j]
            );
        }
    }
}

fn take<const N: usize>(floats: Floats) -> [Primitive; N] {
    floats.try_into().unwrap()
}

const LAYOUTS: [HeadLayout; 3] = [
    HeadLayout {
        n_heads: 2,
        n_kv_heads: 2,
        head_dim: 4,
    },
    HeadLayout {
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
    },
    HeadLayout {
        n_heads: 3,
        n_kv_heads: 1,
        head_dim: 6,
    },
];

#[test]
fn project_agrees() {
    // Tiles that are full and not, and more rows than the kernel for few rows takes.
    for (m, n, k) in [
        (1, 1, 1),
        (1, 70, 33),
        (3, 9, 16),
        (31, 130, 50),
        (64, 4, 7),
        (65, 5, 20),
        (70, 37, 72),
    ] {
        let x: Tensor<Flex, 2> = flex(1, &[m, k], DType::F64).reshape([m, k]);
        let weight: Tensor<Flex, 2> = flex(2, &[n, k], DType::F64).reshape([n, k]);
        let values = |x: Tensor<Flex, 2>, weight: Tensor<Flex, 2>| -> Vec<f64> {
            let dtype = x.dtype();
            let y = Flex::project(primitive(x), Weight::Float(primitive(weight)));
            let y = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(y));
            assert_eq!((y.dims(), y.dtype()), ([m, n], dtype));
            y.into_data().iter::<f64>().collect()
        };
        let expected = values(x.clone(), weight.clone());
        let got = values(x.clone().cast(DType::F32), weight.clone().cast(DType::F32));
        let error = worst(&expected, &got);
        assert!(error < 1e-6, "{m}x{n}x{k}: {error:e}");
        // Weights that bf16 holds exactly.
        let rounded = weight.clone().cast(DType::BF16);
        let expected = values(x.clone(), rounded.clone().cast(DType::F64));
        let from_bf16 = values(x.clone().cast(DType::F32), rounded.clone());
        let error = worst(&expected, &from_bf16);
        assert!(error < 1e-6, "{m}x{n}x{k}, bf16: {error:e}");
        // A row's result does not depend on its neighbours.
        for (weight, all) in [(weight.cast(DType::F32), got), (rounded, from_bf16)] {
            let alone = x.clone().narrow(0, m - 1, 1).cast(DType::F32);
            let y = Flex::project(primitive(alone), Weight::Float(primitive(weight)));
            let y = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(y));
            let alone: Vec<f64> = y.into_data().iter::<f64>().collect();
            if m <= 64 {
                assert_eq!(alone, all[(m - 1) * n..], "{m}x{n}x{k}");
            }
        }
    }
}

/// Frozen weights: as bf16, and packed. Every operation does with them what it does with the same weights as f32, and gives
/// no gradient for them.
#[test]
fn frozen_weights_are_used_as_they_are_stored() {
    let device = Default::default();
    for (m, n, k) in [(3, 300, 32), (100, 700, 70), (65, 40, 2048)] {
        let weight: Tensor<Flex, 2> = flex(2, &[n, k], DType::F32).reshape([n, k]);
        let rounded = weight.clone().cast(DType::BF16);
        let data = weight.into_data().into_vec::<f32>().unwrap();
        let packed = PackedMatrix::nf4(&data, k);
        let widened = TensorData::new(packed.to_f32(), [n, k]);
        let widened = Tensor::<Flex, 2>::from_data(widened, &device);
        let x: Tensor<Flex, 2> = flex(1, &[m, k], DType::F32).reshape([m, k]);
        let ids: Vec<i32> = (0..m).map(|i| (i * 7 % n) as i32).collect();
        for (frozen, plain) in [
            (
                Weight::Float(primitive(rounded.clone())),
                rounded.cast(DType::F32),
            ),
            (Weight::Packed(Arc::new(packed)), widened),
        ] {
            // The product, the rows of tokens and the output layer, and what they make of the gradient of `x`.
            let run = |weight: Weight<Flex>| -> Vec<Vec<f64>> {
                let weight: Weight<Grad> = match weight {
                    Weight::Float(weight) => Weight::Float(Grad::from_inner(weight)),
                    Weight::Packed(matrix) => Weight::Packed(matrix),
                };
                let x = Tensor::<Grad, 2>::from_inner(x.clone()).require_grad();
                let ids = || Tensor::<Grad, 1, Int>::from_ints(&*ids, &device).into_primitive();
                let y = Grad::project(x.clone().into_primitive().tensor(), weight.clone());
                let y = Tensor::<Grad, 2>::from_primitive(TensorPrimitive::Float(y));
                let rows = Grad::embed(weight.clone(), ids());
                let rows = Tensor::<Grad, 2>::from_primitive(TensorPrimitive::Float(rows));
                let hidden = x.clone().into_primitive().tensor();
                let both = Grad::head_scores(hidden, weight, ids(), 0.9, 1000);
                let both = Tensor::<Grad, 2>::from_primitive(TensorPrimitive::Float(both));
                let loss = y.clone().square().mean() + both.clone().sum();
                let grad = x.grad(&loss.backward()).unwrap();
                let tensors = [y.inner(), rows.inner().cast(DType::F32), both.inner(), grad];
                let numbers = tensors.map(|tensor| tensor.into_data().iter::<f64>().collect());
                numbers.into()
            };
            let (found, expected) = (run(frozen), run(Weight::Float(primitive(plain))));
            for (found, expected) in found.iter().zip(&expected) {
                let error = worst(expected, found);
                assert!(error < 2e-6, "{m}x{n}x{k}: {error:e}");
            }
        }
    }
}

#[test]
fn rms_norm_agrees() {
    for (n, d) in [(1, 1), (3, 7), (70, 33)] {
        let inputs = [input(1, &[n, d]), input(2, &[d])];
        check(&format!("rms_norm {n}x{d}"), &inputs, &|floats| {
            let [x, weight] = take(floats);
            Grad::rms_norm(x, weight, 1e-5)
        });
    }
}

#[test]
fn head_norm_agrees() {
    for heads in LAYOUTS {
        let d = heads.head_dim;
        let inputs = [
            input(1, &[37, heads.width()]),
            input(2, &[d]),
            input(3, &[d]),
        ];
        check(&format!("head_norm {heads:?}"), &inputs, &|floats| {
            let [qkv, q, k] = take(floats);
            Grad::head_norm(qkv, q, k, heads, 1e-6)
        });
        // All heads together.
        let inputs = [
            input(1, &[37, heads.width()]),
            input(2, &[heads.q_width()]),
            input(3, &[heads.kv_width()]),
        ];
        check(&format!("norm of all {heads:?}"), &inputs, &|floats| {
            let [qkv, q, k] = take(floats);
            Grad::head_norm(qkv, q, k, heads, 1e-6)
        });
    }
}

fn rope(rotated: usize) -> RopeTable {
    let half = rotated / 2;
    let frequencies: Vec<f64> = (0..half)
        .map(|i| 100f64.powf(-(i as f64) / half as f64))
        .collect();
    RopeTable::new(&frequencies, 256)
}

#[test]
fn rotary_agrees() {
    // All of a head, and its first dimensions alone.
    let cases = LAYOUTS.map(|heads| (heads, heads.head_dim));
    for (heads, rotated) in cases.into_iter().chain([(LAYOUTS[1], 6), (LAYOUTS[2], 2)]) {
        let rope = rope(rotated);
        let packing = Packing::new([5, 1, 40]);
        check(
            &format!("rotary {heads:?}, {rotated} dimensions"),
            &[input(1, &[46, heads.width()])],
            &|floats| {
                let [qkv] = take(floats);
                Grad::rotary(qkv, heads, &rope, &packing)
            },
        );
    }
}

#[test]
fn causal_attention_agrees() {
    // Several sequences, some of which go on from others.
    let alone = |lengths: &[usize]| lengths.iter().map(|&n| (n, None)).collect::<Vec<_>>();
    let sequences = [
        alone(&[3, 1, 9]),
        alone(&[70, 2]),
        alone(&[130]),
        vec![
            (1, None),
            (2, Some(0)),
            (5, None),
            (3, Some(2)),
            (4, Some(2)),
        ],
        vec![(70, None), (66, Some(0)), (0, Some(0)), (3, Some(0))],
        vec![(4, None), (130, Some(0))],
    ];
    for (heads, sequences) in LAYOUTS.into_iter().cycle().zip(sequences) {
        let packing = Packing::branched(sequences.clone());
        let inputs = [input(1, &[packing.n_tokens(), heads.width()])];
        // Windows within a block of queries, across several, of a token alone, and longer than the texts.
        for window in [None, Some(1), Some(5), Some(64), Some(65), Some(1000)] {
            let attention = Attention {
                scale: 0.7,
                window,
                ..Attention::new(heads)
            };
            let name = format!("{attention:?} {sequences:?}");
            check(&name, &inputs, &|floats| {
                let [qkv] = take(floats);
                Grad::causal_attention(qkv, attention, &packing).0
            });
        }
    }
}

#[test]
fn sequences_that_go_on_from_one_attend_as_whole_ones() {
    let attend = |qkv: &Tensor<Flex, 2>, attention: Attention, packing: &Packing| {
        let (output, _) = Flex::causal_attention(primitive(qkv.clone()), attention, packing);
        Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(output))
    };
    for (heads, [prompt, first, second]) in
        LAYOUTS
            .into_iter()
            .zip([[5, 3, 7], [70, 66, 1], [1, 130, 64]])
    {
        let n = prompt + first + second;
        let shape = [n, heads.width()];
        let qkv: Tensor<Flex, 2> = flex(1, &shape, DType::F32).reshape(shape);
        let branched = [(prompt, None), (first, Some(0)), (second, Some(0))];
        let branched = Packing::branched(branched);
        let [to_first, to_second] = [prompt..prompt + first, prompt + first..n];
        for window in [None, Some(2), Some(65)] {
            let attention = Attention {
                window,
                ..Attention::new(heads)
            };
            let found = attend(&qkv, attention, &branched);
            for own in [to_first.clone(), to_second.clone()] {
                let whole = [
                    qkv.clone().narrow(0, 0, prompt),
                    qkv.clone().slice([own.clone()]),
                ];
                let whole = Tensor::cat(whole.into(), 0);
                let packing = Packing::new([whole.dims()[0]]);
                let expected = attend(&whole, attention, &packing).narrow(0, prompt, own.len());
                let error = (found.clone().slice([own]) - expected)
                    .abs()
                    .max()
                    .into_scalar();
                assert!(error < 1e-6, "{window:?} {heads:?}: {error:e}");
            }
        }
    }
}

#[test]
fn tokens_outside_the_window_change_nothing() {
    let (heads, n, window) = (LAYOUTS[1], 130, 20);
    let shape = [n, heads.width()];
    let qkv: Tensor<Flex, 2> = flex(1, &shape, DType::F32).reshape(shape);
    let of = |qkv: Tensor<Flex, 2>, window: Option<usize>| -> Vec<f32> {
        let attention = Attention {
            window,
            ..Attention::new(heads)
        };
        let packing = Packing::new([qkv.dims()[0]]);
        let (output, _) = Flex::causal_attention(primitive(qkv), attention, &packing);
        let output = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(output));
        output.into_data().into_vec().unwrap()
    };
    let (all, width) = (of(qkv.clone(), Some(window)), heads.q_width());
    for token in [0, 19, 20, 64, 129] {
        let first = (token + 1usize).saturating_sub(window);
        let seen = of(qkv.clone().narrow(0, first, token + 1 - first), None);
        let last = &seen[seen.len() - width..];
        for (a, b) in all[token * width..][..width].iter().zip(last) {
            assert!((a - b).abs() < 1e-6, "token {token}: {a} against {b}");
        }
    }
}

#[test]
fn gated_layers_agree() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for (n, f) in [(1, 1), (40, 19)] {
            let mut inputs = input(1, &[n, 2 * f]);
            inputs.0.iter_mut().for_each(|x| *x *= 4.0);
            check(&format!("{activation:?} {n}x{f}"), &[inputs], &|floats| {
                let [gate_up] = take(floats);
                Grad::glu(gate_up, activation)
            });
        }
    }
}

/// Arguments, and what SiLU and GELU make of them.
const ACTIVATIONS: [(f64, f64, f64); 8] = [
    (-9.0, -0.0011105511838760856, -0.0),
    (-3.0, -0.14227761953270035, -0.0036373920817729943),
    (-0.7, -0.2322685594822837, -0.16942986529488321),
    (0.0, 0.0, 0.0),
    (0.4, 0.2394750640449808, 0.2621611694273562),
    (1.0, 0.7310585786300049, 0.8411919906082768),
    (2.5, 2.3103545499468914, 2.484915733910001),
    (20.0, 19.999999958776925, 20.0),
];

#[test]
fn activations_are_those_of_torch() {
    // torch 2.15: `silu(x)`, `gelu(x, approximate="tanh")`, in f64.
    for (x, silu, gelu) in ACTIVATIONS {
        for (activation, expected) in [(Activation::Silu, silu), (Activation::GeluTanh, gelu)] {
            for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
                let data = TensorData::new(vec![x, 1.0], [1, 2]).convert_dtype(dtype);
                let gate_up = Tensor::<Flex, 2>::from_data(data, (&Default::default(), dtype));
                let y = Flex::glu(primitive(gate_up), activation);
                let y = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(y));
                let y = y.into_data().iter::<f64>().next().unwrap();
                let error = (y - expected).abs() / expected.abs().max(1.0);
                assert!(error < tolerance, "{activation:?}({x}) in {dtype:?}: {y}");
            }
        }
    }
}

#[test]
fn token_logprobs_agree() {
    for (m, v, temperature) in [(1, 2, 1.0), (9, 300, 0.7), (40, 31, 1.5)] {
        let targets: Vec<i32> = (0..m).map(|i| (i * 7 % v) as i32).collect();
        let name = format!("token_logprobs {m}x{v} at {temperature}");
        check(&name, &[input(1, &[m, v])], &|floats| {
            let [logits] = take(floats);
            let targets = TensorData::from(targets.as_slice());
            let targets = Tensor::<Grad, 1, Int>::from_data(targets, &Default::default());
            Grad::token_logprobs(logits, targets.into_primitive(), temperature).0
        });
    }
}

#[test]
fn head_logprobs_agree_in_chunks_of_any_size() {
    let (m, v, d) = (11, 31, 6);
    let targets: Vec<i32> = (0..m).map(|i| i * 7 % v as i32).collect();
    let inputs = [input(1, &[m as usize, d]), input(2, &[v, d])];
    for max_logits in [1, 4 * v, 1000 * v] {
        check(
            &format!("head_logprobs, {max_logits} at a time"),
            &inputs,
            &|floats| {
                let [hidden, head] = take(floats);
                let targets = TensorData::from(targets.as_slice());
                let targets = Tensor::<Grad, 1, Int>::from_data(targets, &Default::default());
                Grad::head_logprobs(
                    hidden,
                    Weight::Float(head),
                    targets.into_primitive(),
                    0.9,
                    max_logits,
                )
                .0
            },
        );
    }
}

#[test]
fn head_logprobs_agree_in_blocks_of_the_vocabulary() {
    let (m, v, d) = (7, 600, 5);
    let targets: Vec<i32> = (0..m).map(|i| i * 97 % v as i32).collect();
    let inputs = [input(1, &[m as usize, d]), input(2, &[v, d])];
    check("head_logprobs, three blocks", &inputs, &|floats| {
        let [hidden, head] = take(floats);
        let targets = TensorData::from(targets.as_slice());
        let targets = Tensor::<Grad, 1, Int>::from_data(targets, &Default::default());
        Grad::head_logprobs(
            hidden,
            Weight::Float(head),
            targets.into_primitive(),
            0.9,
            1,
        )
        .0
    });
}

#[test]
fn entropies_of_the_output_layer_agree_with_their_gradients() {
    // Rows by chunks, and the vocabulary by blocks; at 0.2 most of the probability is on few tokens.
    for (m, v, d, max_logits, temperature) in [
        (11, 31, 6, 1, 0.9),
        (11, 31, 6, 1000, 0.2),
        (7, 600, 5, 1, 1.5),
    ] {
        let targets: Vec<i32> = (0..m).map(|i| i * 97 % v as i32).collect();
        let inputs = [input(1, &[m as usize, d]), input(2, &[v, d])];
        let name = format!("head_scores {m}x{v}, {max_logits} at a time, at {temperature}");
        check(&name, &inputs, &|floats| {
            let [hidden, head] = take(floats);
            let targets = TensorData::from(targets.as_slice());
            let targets = Tensor::<Grad, 1, Int>::from_data(targets, &Default::default());
            Grad::head_scores(
                hidden,
                Weight::Float(head),
                targets.into_primitive(),
                temperature,
                max_logits,
            )
        });
    }
}

#[test]
fn embed_agrees_alone_and_with_shared_weights() {
    let ids = [3, 0, 3, 5, 3, 1];
    let ids = || Tensor::<Grad, 1, Int>::from_ints(ids, &Default::default()).into_primitive();
    let inputs = [input(1, &[6, 4])];
    check("embed", &inputs, &|floats| {
        let [weight] = take(floats);
        Grad::embed(Weight::Float(weight), ids())
    });
    // The output layer's gradient comes first.
    check("embed, shared with the output layer", &inputs, &|floats| {
        let [weight] = take(floats);
        let hidden = Grad::embed(Weight::Float(weight.clone()), ids());
        Grad::head_logprobs(hidden, Weight::Float(weight), ids(), 0.9, 1000).0
    });
}

fn flex(seed: u64, shape: &[usize], dtype: DType) -> Tensor<Flex, 1> {
    let values = random(seed, shape.iter().product());
    let data = TensorData::new(values.clone(), [values.len()]).convert_dtype(dtype);
    Tensor::from_data(data, (&Default::default(), dtype))
}

fn primitive<const D: usize>(tensor: Tensor<Flex, D>) -> burn::backend::flex::FlexTensor {
    tensor.into_primitive().tensor()
}

#[test]
fn decoding_with_a_cache_equals_attention_over_the_whole_sequence() {
    for dtype in [DType::F32, DType::F64] {
        for heads in LAYOUTS {
            for window in [None, Some(1), Some(4), Some(10), Some(12)] {
                let attention = Attention {
                    window,
                    ..Attention::new(heads)
                };
                check_cache(attention, dtype);
            }
        }
    }
}

fn check_cache(attention: Attention, dtype: DType) {
    let heads = attention.heads;
    let (n_slots, capacity, len, prompt) = (4, 20, 13, 9);
    let cache_shape = [n_slots, heads.n_kv_heads, capacity, heads.head_dim];
    // What a slot held before must not matter.
    let mut keys = primitive(flex(8, &cache_shape, dtype).reshape(cache_shape));
    let mut values = primitive(flex(9, &cache_shape, dtype).reshape(cache_shape));
    let qkv: Tensor<Flex, 2> = flex(7, &[len, heads.width()], dtype).reshape([len, heads.width()]);
    let packing = Packing::new([len]);
    let (whole, _) = Flex::causal_attention(primitive(qkv.clone()), attention, &packing);
    let whole: Tensor<Flex, 2> = Tensor::from_primitive(TensorPrimitive::Float(whole));

    // The prompt goes into slot 3 and is copied to slots 0 and 2, which then decode.
    let positions: Vec<u32> = (0..prompt as u32).collect();
    let slots = vec![3; prompt];
    let rows = CacheRows {
        slots: &slots,
        positions: &positions,
    };
    let prompt_rows = primitive(qkv.clone().narrow(0, 0, prompt));
    Flex::cache_write(&mut keys, &mut values, prompt_rows, heads, &rows);
    for cache in [&mut keys, &mut values] {
        Flex::cache_copy(cache, 3, &[0, 2], prompt);
    }
    for position in prompt..len {
        let row = qkv.clone().narrow(0, position, 1).repeat_dim(0, 2);
        let rows = CacheRows {
            slots: &[2, 0],
            positions: &[position as u32; 2],
        };
        Flex::cache_write(&mut keys, &mut values, primitive(row.clone()), heads, &rows);
        let out = Flex::cached_attention(primitive(row), &keys, &values, attention, &rows);
        let out: Tensor<Flex, 2> = Tensor::from_primitive(TensorPrimitive::Float(out));
        let expected = whole.clone().narrow(0, position, 1).repeat_dim(0, 2);
        let error = (out - expected).abs().max().into_data().convert::<f64>();
        let error = error.to_vec::<f64>().unwrap()[0];
        assert!(
            error < 1e-6,
            "{attention:?} {dtype:?} position {position}: {error:e}"
        );
    }
}

/// Enough values that Burn would add them in parallel as they are ready.
#[test]
fn a_sum_of_squares_does_not_depend_on_the_number_of_threads() {
    for (n, dtype) in [
        (1, DType::F32),
        (20_000, DType::F32),
        (5_000_001, DType::F32),
        (100, DType::F64),
    ] {
        let values: Vec<f64> = (0..n)
            .map(|i| ((i * i % 1013) as f64 - 500.0) / 97.0)
            .collect();
        let expected: f64 = values.iter().map(|x| x * x).sum();
        let data = TensorData::new(values, [n]).convert_dtype(dtype);
        let tensor = Tensor::<Flex, 1>::from_data(data, (&Default::default(), dtype));
        let sum = || {
            let sum = Flex::square_sum(primitive(tensor.clone()));
            let sum = Tensor::<Flex, 1>::from_primitive(TensorPrimitive::Float(sum));
            sum.into_data().iter::<f64>().next().unwrap()
        };
        let on_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n);
            pool.build().unwrap().install(sum)
        };
        let found = on_threads(1);
        assert!(
            (found / expected - 1.0).abs() < 1e-6,
            "{n}: {found} {expected}"
        );
        for threads in [2, 3, 7] {
            for _ in 0..20 {
                assert_eq!(
                    on_threads(threads).to_bits(),
                    found.to_bits(),
                    "{n}, {threads} threads"
                );
            }
        }
    }
}

#[test]
fn adamw_follows_the_published_update() {
    let update = |time| AdamWUpdate {
        lr: 0.1,
        beta_1: 0.9,
        beta_2: 0.99,
        eps: 1e-8,
        weight_decay: 0.01,
        time,
        grad_scale: 0.5,
    };
    for dtype in [DType::F32, DType::F64] {
        let (mut p, mut m, mut v) = (0.7f64, 0.0f64, 0.0f64);
        let scalar = |x: f64| {
            let data = TensorData::new(vec![x], [1]).convert_dtype(dtype);
            primitive(Tensor::<Flex, 1>::from_data(
                data,
                (&Default::default(), dtype),
            ))
        };
        let (mut param, mut m_t, mut v_t) = (scalar(p), scalar(0.0), scalar(0.0));
        for time in 1..=5 {
            let gradient = (time as f64).sin();
            let g = gradient * 0.5;
            m = 0.9 * m + 0.1 * g;
            v = 0.99 * v + 0.01 * g * g;
            let m_hat = m / (1.0 - 0.9f64.powi(time));
            let v_hat = v / (1.0 - 0.99f64.powi(time));
            p = p - 0.1 * 0.01 * p - 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
            param = Flex::adamw(
                param,
                scalar(gradient),
                &mut m_t,
                &mut v_t,
                update(time as u32),
            );
            let got = Tensor::<Flex, 1>::from_primitive(TensorPrimitive::Float(param.clone()));
            let got = got.into_data().convert::<f64>().to_vec::<f64>().unwrap()[0];
            assert!(
                (got - p).abs() < 2e-6,
                "{dtype:?} step {time}: {got} against {p}"
            );
        }
    }
}

/// The three points and the second moment of one parameter, as the paper states the update.
struct ScheduleFree {
    x: f64,
    y: f64,
    z: f64,
    v: f64,
}

impl ScheduleFree {
    fn step(&mut self, gradient: f64, update: &ScheduleFreeUpdate) {
        let g = gradient * update.grad_scale;
        self.v = update.beta_2 * self.v + (1.0 - update.beta_2) * g * g;
        let v_hat = self.v / (1.0 - update.beta_2.powi(update.time as i32));
        self.z -= update.lr * (g / (v_hat.sqrt() + update.eps) + update.weight_decay * self.y);
        self.x = (1.0 - update.share) * self.x + update.share * self.z;
        self.y = update.beta_1 * self.x + (1.0 - update.beta_1) * self.z;
    }
}

#[test]
fn schedule_free_adamw_follows_the_published_update() {
    // Not a multiple of any vector's width.
    let n = 1003;
    let gradients: Vec<Vec<f64>> = (1..=6).map(|time| random(time, n)).collect();
    // In one pass over memory, and in tensor operations.
    for (dtype, tolerance) in [(DType::F32, 5e-7), (DType::F64, 1e-15)] {
        let tensor = |values: Vec<f64>| {
            let data = TensorData::new(values, [n]).convert_dtype(dtype);
            primitive(Tensor::<Flex, 1>::from_data(
                data,
                (&Default::default(), dtype),
            ))
        };
        let start = random(77, n);
        let of = |&x: &f64| ScheduleFree {
            x,
            y: x,
            z: x,
            v: 0.0,
        };
        let mut expected: Vec<ScheduleFree> = start.iter().map(of).collect();
        let (mut y, mut z) = (tensor(start.clone()), tensor(start));
        let mut v = tensor(vec![0.0; n]);
        for (time, gradient) in (1u32..).zip(&gradients) {
            let update = ScheduleFreeUpdate {
                lr: 0.02,
                beta_1: 0.9,
                beta_2: 0.95,
                eps: 1e-3,
                weight_decay: 0.1,
                time,
                share: 1.0 / f64::from(time),
                grad_scale: 0.5,
            };
            let pairs = expected.iter_mut().zip(gradient);
            pairs.for_each(|(point, &gradient)| point.step(gradient, &update));
            let gradient = tensor(gradient.clone());
            y = Flex::adamw_schedule_free(y, gradient, &mut z, &mut v, update);
            for (name, found, value) in [
                ("y", &y, (|e| e.y) as fn(&ScheduleFree) -> f64),
                ("z", &z, |e| e.z),
                ("v", &v, |e| e.v),
            ] {
                let found =
                    Tensor::<Flex, 1>::from_primitive(TensorPrimitive::Float(found.clone()));
                let found: Vec<f64> = found.into_data().iter::<f64>().collect();
                for (found, expected) in found.into_iter().zip(&expected) {
                    let difference = (found - value(expected)).abs();
                    assert!(
                        difference < tolerance,
                        "{dtype:?} step {time}: {name} differs by {difference}"
                    );
                }
            }
        }
    }
}
