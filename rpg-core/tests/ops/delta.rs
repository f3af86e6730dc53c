//! The operations of gated delta networks.

use super::{Grad, Input, check, input, primitive, run, take, worst};
use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive};
use rpg_core::ops::{DeltaBackend, DeltaDecode, DeltaHeads, DeltaInputs, Packing};

#[test]
fn causal_conv_agrees() {
    // Sequences longer and shorter than the kernel, and one longer than a block of rows and than a partial sum.
    for (c, k, lengths) in [
        (1, 4, vec![1]),
        (19, 4, vec![5, 1, 3, 40]),
        (7, 2, vec![300, 2]),
        (5, 1, vec![3]),
    ] {
        let packing = Packing::new(lengths.clone());
        let inputs = [input(1, &[packing.n_tokens(), c]), input(2, &[c, k])];
        let name = format!("causal_conv of {k} in {c} columns, {lengths:?}");
        check(&name, &inputs, &|floats| {
            let [x, weight] = take(floats);
            Grad::causal_conv(x, weight, &packing)
        });
    }
}

/// Value heads of their own, several for each key head, and more numbers of a value than pass together.
const DELTA_HEADS: [DeltaHeads; 3] = [
    DeltaHeads {
        n_key_heads: 2,
        n_value_heads: 2,
        key_dim: 4,
        value_dim: 3,
    },
    DeltaHeads {
        n_key_heads: 1,
        n_value_heads: 3,
        key_dim: 5,
        value_dim: 21,
    },
    DeltaHeads {
        n_key_heads: 2,
        n_value_heads: 4,
        key_dim: 35,
        value_dim: 6,
    },
];

/// Queries, keys and values, gates, logarithms of rates and biases.
fn delta_inputs(heads: DeltaHeads, n: usize) -> [Input; 4] {
    let n_heads = heads.n_value_heads;
    [
        input(1, &[n, heads.width()]),
        input(2, &[n, 2 * n_heads]),
        input(3, &[n_heads]),
        input(4, &[n_heads]),
    ]
}

fn delta_floats<B: DeltaBackend>(
    [qkv, gates, a_log, dt_bias]: [B::FloatTensorPrimitive; 4],
) -> DeltaInputs<B> {
    DeltaInputs {
        qkv,
        gates,
        a_log,
        dt_bias,
    }
}

#[test]
fn delta_rule_agrees() {
    // Within a segment of tokens whose states exist together, and across several.
    for (heads, lengths) in DELTA_HEADS
        .into_iter()
        .zip([vec![3, 1, 9], vec![70, 2], vec![131]])
    {
        let packing = Packing::new(lengths.clone());
        let name = format!("delta_rule {heads:?} {lengths:?}");
        check(&name, &delta_inputs(heads, packing.n_tokens()), &|floats| {
            Grad::delta_rule(delta_floats(take(floats)), heads, &packing)
        });
    }
}

/// What is written later replaces what a key stood for; what is forgotten is gone.
#[test]
fn delta_rule_writes_over_and_forgets() {
    let heads = DeltaHeads {
        n_key_heads: 1,
        n_value_heads: 1,
        key_dim: 2,
        value_dim: 1,
    };
    let device = Default::default();
    let primitives = |rows: &[[f32; 7]], a_log: f32| {
        let qkv: Vec<f32> = rows.iter().flat_map(|row| row[..5].to_vec()).collect();
        let gates: Vec<f32> = rows.iter().flat_map(|row| row[5..].to_vec()).collect();
        let of = |values: Vec<f32>| {
            let n = values.len();
            Tensor::<Flex, 1>::from_data(TensorData::new(values, [n]), &device)
        };
        let rows = rows.len() as i32;
        delta_floats::<Flex>([
            primitive(of(qkv).reshape([rows, 5])),
            primitive(of(gates).reshape([rows, 2])),
            primitive(of(vec![a_log])),
            primitive(of(vec![0.0])),
        ])
    };
    let read = |rows: &[[f32; 7]], a_log: f32| -> f32 {
        let inputs = primitives(rows, a_log);
        let y = Flex::delta_rule(inputs, heads, &Packing::new([rows.len()]));
        let y = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(y));
        y.into_data().iter::<f32>().last().unwrap()
    };
    // Queries, keys, value, b, a: all is written, and with a = -30 nothing is forgotten.
    let write = [1.0, 0.0, 3.0, 0.0, 7.0, 30.0, -30.0];
    let again = [1.0, 0.0, 2.0, 0.0, -4.0, 30.0, -30.0];
    let other = [1.0, 0.0, 0.0, 5.0, 9.0, 30.0, -30.0];
    let scale = 0.5f32.sqrt();
    for (rows, expected) in [
        (vec![write], 7.0),
        (vec![write, again], -4.0),
        (vec![write, other], 7.0),
        (vec![write, again, other], -4.0),
    ] {
        let found = read(&rows, 0.0);
        assert!((found - scale * expected).abs() < 1e-5, "{found}");
    }
    // softplus(1) = 1.3132617, at a rate of e^2.
    let forget = [1.0, 0.0, 0.0, 5.0, 9.0, 30.0, 1.0];
    let expected = scale * 7.0 * (-1.313_261_7f32 * 2f32.exp()).exp();
    let found = read(&[write, forget], 2.0);
    assert!((found / expected - 1.0).abs() < 1e-5, "{found}");
}

/// In one piece, and token by token from what a cache holds.
#[test]
fn a_delta_layer_goes_on_from_its_slot() {
    let (heads, kernel) = (DELTA_HEADS[1], 4);
    let c = heads.width();
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
        let tensor = |Input(values, shape): Input| -> Tensor<Flex, 2> {
            let data = TensorData::new(values, [shape.iter().product::<usize>()]);
            let data = data.convert_dtype(dtype);
            let flat = Tensor::<Flex, 1>::from_data(data, (&Default::default(), dtype));
            flat.reshape([-1, *shape.last().unwrap() as i32])
        };
        let values = |y: burn::backend::flex::FlexTensor| -> Vec<f64> {
            let y = Tensor::<Flex, 2>::from_primitive(TensorPrimitive::Float(y));
            y.into_data().iter::<f64>().collect()
        };
        let packing = Packing::new([6, 13]);
        let [qkv, gates, a_log, dt_bias] = delta_inputs(heads, packing.n_tokens()).map(tensor);
        let weight = tensor(input(5, &[c, kernel]));
        let rows = |x: &Tensor<Flex, 2>, tokens: &[usize]| {
            let part = |&t: &usize| x.clone().narrow(0, t, 1);
            primitive(Tensor::cat(tokens.iter().map(part).collect(), 0))
        };
        let inputs = |tokens: &[usize]| {
            let vector = |x: &Tensor<Flex, 2>| primitive(x.clone().squeeze_dim::<1>(0));
            let of_tokens = [&qkv, &gates].map(|x| rows(x, tokens));
            let [qkv, gates] = of_tokens;
            delta_floats::<Flex>([qkv, gates, vector(&a_log), vector(&dt_bias)])
        };
        let all: Vec<usize> = (0..packing.n_tokens()).collect();
        let conv = Flex::causal_conv(rows(&qkv, &all), primitive(weight.clone()), &packing);
        let rule = Flex::delta_rule(inputs(&all), heads, &packing);
        let whole = [values(conv), values(rule)];
        // Slots that hold something else.
        let cache = |seed, shape: [usize; 4]| primitive(tensor(input(seed, &shape)).reshape(shape));
        let mut kept = cache(6, [4, 1, kernel - 1, c]);
        let state = [4, heads.n_value_heads, heads.value_dim, heads.key_dim];
        let mut states = cache(7, state);
        let of_slot_0 = |x: &burn::backend::flex::FlexTensor| -> Vec<f64> {
            let x = Tensor::<Flex, 4>::from_primitive(TensorPrimitive::Float(x.clone()));
            x.narrow(0, 0, 1).into_data().iter::<f64>().collect()
        };
        let before = [of_slot_0(&kept), of_slot_0(&states)];
        let mut found = whole.each_ref().map(|y| vec![0.0; y.len()]);
        let mut run = |tokens: &[usize], piece: &Packing, slots: &[usize]| {
            let (x, weight) = (rows(&qkv, tokens), primitive(weight.clone()));
            let conv = Flex::cached_conv(x, weight, &mut kept, piece, slots);
            let rule = Flex::cached_delta_rule(inputs(tokens), heads, &mut states, piece, slots);
            for (found, y) in found.iter_mut().zip([values(conv), values(rule)]) {
                let width = y.len() / tokens.len();
                for (y, &t) in y.chunks_exact(width).zip(tokens) {
                    found[t * width..(t + 1) * width].copy_from_slice(y);
                }
            }
        };
        // Fewer tokens than the kernel reaches back, and more; then both, then one alone.
        run(&[0, 1, 6, 7, 8, 9, 10], &Packing::new([2, 5]), &[3, 1]);
        for position in 2..6 {
            let at = position as u32;
            let piece = Packing::single_tokens(&[at, at + 3]);
            run(&[position, 6 + position + 3], &piece, &[3, 1]);
        }
        for position in 9..13 {
            run(
                &[6 + position],
                &Packing::single_tokens(&[position as u32]),
                &[1],
            );
        }
        for (whole, found) in whole.iter().zip(&found) {
            let error = worst(whole, found);
            assert!(error < tolerance, "{dtype:?}: {error:e}");
        }
        assert_eq!([of_slot_0(&kept), of_slot_0(&states)], before);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_delta_layer() {
    let heads = DELTA_HEADS[2];
    let packing = Packing::new([70, 300, 1, 9]);
    let n = packing.n_tokens();
    let run_all = || {
        let inputs = delta_inputs(heads, n);
        let rule = run(&inputs, DType::F32, &|floats| {
            Grad::delta_rule(delta_floats(take(floats)), heads, &packing)
        });
        let inputs = [input(1, &[n, 33]), input(2, &[33, 4])];
        let conv = run(&inputs, DType::F32, &|floats| {
            let [x, weight] = take(floats);
            Grad::causal_conv(x, weight, &packing)
        });
        [rule, conv].map(|outcome| (outcome.output, outcome.gradients))
    };
    let [one, three] = [1, 3].map(|n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
        pool.build().unwrap().install(run_all)
    });
    assert!(one == three);
}
