//! AdamW with 8-bit moments against bitsandbytes and against f32 moments.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive};
use rpg_core::ops::{AdamWUpdate, DecodeBackend, Moments8};
use serde::Deserialize;

/// What `fixtures/make_adamw_8bit.py` has written: the state after an update.
#[derive(Deserialize)]
struct Point {
    update: u32,
    param: Vec<f32>,
    codes: [String; 2],
    scales: [Vec<f32>; 2],
}

/// The `noise` of the fixture: a multiple of 2^-11 from -1, below 1.
fn noise(seed: u32, i: usize) -> f32 {
    let mut h = (i as u32).wrapping_mul(2_654_435_761);
    h = h.wrapping_add(seed * 40_503 + 12_345);
    h ^= h >> 15;
    h = h.wrapping_mul(2_246_822_519);
    h ^= h >> 13;
    (h >> 20) as f32 / 2048.0 - 1.0
}

/// The `gradient` of the fixture.
fn gradient(update: u32, i: usize) -> f32 {
    if i.is_multiple_of(17) {
        return 0.0;
    }
    let x = noise(update, i);
    let away_from_zero = if x >= 0.0 { x + 0.125 } else { x - 0.125 };
    away_from_zero * 0.5f32.powi((i % 5 + 3 * (i / 256)) as i32)
}

fn update(time: u32) -> AdamWUpdate {
    AdamWUpdate {
        lr: 0.01,
        beta_1: 0.9,
        beta_2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        time,
        grad_scale: 1.0,
    }
}

type Primitive = <Flex as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;

fn tensor(values: Vec<f32>, dtype: DType) -> Primitive {
    let data = TensorData::new(values.clone(), [values.len()]).convert_dtype(dtype);
    let tensor = Tensor::<Flex, 1>::from_data(data, (&Default::default(), dtype));
    tensor.into_primitive().tensor()
}

fn values(tensor: &Primitive) -> Vec<f32> {
    let tensor = Tensor::<Flex, 1>::from_primitive(TensorPrimitive::Float(tensor.clone()));
    tensor.into_data().iter::<f32>().collect()
}

fn step8(
    param: Vec<f32>,
    grad: Vec<f32>,
    moments: &mut Moments8,
    update: AdamWUpdate,
    dtype: DType,
) -> Vec<f32> {
    let (param, grad) = (tensor(param, dtype), tensor(grad, dtype));
    values(&Flex::adamw_8bit(param, grad, moments, update))
}

/// Parameters of so many values, with 8-bit and with f32 moments.
struct Pair {
    time: u32,
    eight: Vec<f32>,
    moments: Moments8,
    full: Vec<f32>,
    full_moments: [Primitive; 2],
}

impl Pair {
    fn new(start: Vec<f32>) -> Self {
        let zeros = || tensor(vec![0.0; start.len()], DType::F32);
        Self {
            time: 0,
            eight: start.clone(),
            moments: Moments8::zeros(start.len()),
            full_moments: [zeros(), zeros()],
            full: start,
        }
    }

    /// One update of both, by what `grad` makes of their values.
    fn step(&mut self, grad: impl Fn(&[f32]) -> Vec<f32>, change: impl Fn(&mut AdamWUpdate)) {
        self.time += 1;
        let mut update = update(self.time);
        change(&mut update);
        let grads = grad(&self.eight);
        let eight = std::mem::take(&mut self.eight);
        self.eight = step8(eight, grads, &mut self.moments, update, DType::F32);
        let grads = tensor(grad(&self.full), DType::F32);
        let full = tensor(std::mem::take(&mut self.full), DType::F32);
        let [m, v] = &mut self.full_moments;
        self.full = values(&Flex::adamw(full, grads, m, v, update));
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(byte).collect()
}

#[test]
fn fifty_updates_are_those_of_bitsandbytes() {
    let points: Vec<Point> =
        serde_json::from_str(include_str!("fixtures/adamw_8bit.json")).unwrap();
    let n = 1100;
    let mut param: Vec<f32> = (0..n).map(|i| noise(0, i)).collect();
    let mut moments = Moments8::zeros(n);
    let mut n_compared = 0;
    for time in 1..=50 {
        let grad = (0..n).map(|i| gradient(time, i)).collect();
        param = step8(param, grad, &mut moments, update(time), DType::F32);
        let Some(expected) = points.iter().find(|point| point.update == time) else {
            continue;
        };
        n_compared += 1;
        let found = [&moments.first, &moments.second];
        for (i, moment) in found.into_iter().enumerate() {
            // The package computes in another order: a value next to a boundary may fall to its other side.
            let expected_codes = bytes(&expected.codes[i]);
            let pairs = moment.codes.iter().zip(&expected_codes);
            let apart = pairs.map(|(a, b)| a.abs_diff(*b));
            let (n_apart, largest) = apart.fold((0, 0), |(n, largest), apart| {
                (n + usize::from(apart > 0), largest.max(apart))
            });
            assert!(
                n_apart <= 3 && largest <= 1,
                "update {time}, moment {i}: {n_apart} codes differ, by up to {largest}"
            );
            assert_eq!(moment.scales.len(), expected.scales[i].len());
            for (found, expected) in moment.scales.iter().zip(&expected.scales[i]) {
                let error = (found - expected).abs() / expected;
                assert!(error < 1e-5, "update {time}: scale {found}, not {expected}");
            }
        }
        let differences = param.iter().zip(&expected.param);
        let largest = differences.fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(
            largest < 2e-5,
            "update {time}: parameters differ by {largest}"
        );
    }
    assert_eq!(n_compared, points.len());
}

#[test]
fn a_quadratic_is_descended_as_with_f32_moments() {
    let n = 4096 + 100;
    let curvature = |i: usize| 1.0 + 0.75 * noise(7, i);
    let start: Vec<f32> = (0..n).map(|i| 2.0 * noise(3, i)).collect();
    let loss = |x: &[f32]| -> f64 {
        let term = |(i, x): (usize, &f32)| 0.5 * f64::from(curvature(i) * x * x);
        x.iter().enumerate().map(term).sum()
    };
    let grad = |x: &[f32]| -> Vec<f32> {
        x.iter()
            .enumerate()
            .map(|(i, x)| curvature(i) * x)
            .collect()
    };
    let mut pair = Pair::new(start.clone());
    for _ in 0..50 {
        pair.step(grad, |update| update.lr = 0.05);
    }
    let (before, eight, full) = (loss(&start), loss(&pair.eight), loss(&pair.full));
    let norm = |a: &[f32], b: &[f32]| {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let apart = norm(&pair.eight, &pair.full) / norm(&start, &pair.full);
    assert!(
        full < 0.05 * before && eight < 1.1 * full,
        "{before} {eight} {full}"
    );
    // In the upper tenth of its block's range a first moment is rounded by up to 7% of itself, 4% in the mean square, and the
    // root of a second one by a quarter of that; such errors of either sign cancel over the updates that a moment averages.
    assert!(apart < 0.02, "apart by {apart} of the way");
}

#[test]
fn small_gradients_beside_large_ones_take_no_larger_steps() {
    // Every other gradient is 1e-4 of its neighbours: its second moment is 1e-8 of theirs, nearest to 0.
    let n = 512;
    let lr = 1e-3;
    let mut pair = Pair::new(vec![0.0; n]);
    for time in 1..=200 {
        let before = pair.eight.clone();
        let grad = |_: &[f32]| {
            let size = |i: usize| if i.is_multiple_of(2) { 1e-4 } else { 1.0 };
            (0..n).map(|i| (noise(time, i) + 0.5) * size(i)).collect()
        };
        pair.step(grad, |update| {
            (update.lr, update.beta_2, update.weight_decay) = (lr, 0.999, 0.0);
        });
        for (i, (after, before)) in pair.eight.iter().zip(before).enumerate() {
            let step = (after - before).abs() / lr;
            assert!(
                step < 1.5,
                "update {time}, value {i}: {step} times the learning rate"
            );
        }
    }
    assert!(pair.moments.second.codes.iter().all(|&code| code > 0));
}

#[test]
fn the_form_for_any_backend_gives_the_same_bits() {
    // f64 goes by the provided method.
    let n = 600;
    let start: Vec<f32> = (0..n).map(|i| noise(0, i)).collect();
    let run = |dtype| {
        let (mut param, mut moments) = (start.clone(), Moments8::zeros(n));
        for time in 1..=3 {
            let grad = (0..n).map(|i| gradient(time, i)).collect();
            param = step8(param, grad, &mut moments, update(time), dtype);
        }
        (param, moments)
    };
    assert!(run(DType::F32) == run(DType::F64));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // Several units of parallel work and a part of a block.
    let n = 3 * 64 * Moments8::BLOCK + 77;
    let run = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
        pool.build().unwrap().install(|| {
            let (mut param, mut moments) = (vec![0.5; n], Moments8::zeros(n));
            for time in 1..=2 {
                let grad = (0..n).map(|i| noise(time, i)).collect();
                param = step8(param, grad, &mut moments, update(time), DType::F32);
            }
            (param, moments)
        })
    };
    assert!(run(1) == run(3));
}

#[test]
fn gradients_of_zero_and_next_to_it_stay_finite() {
    let n = 300;
    let mut pair = Pair::new(vec![1.0; n]);
    for size in [0.0, 1e-30, 1e-19, 1e-30, 0.0, 1.0] {
        pair.step(|_| (0..n).map(|i| noise(1, i) * size).collect(), |_| ());
        let [first, second] = pair.moments.to_f32();
        let all = pair.eight.iter().chain(&first).chain(&second);
        assert!(all.into_iter().all(|x| x.is_finite()), "{size}");
    }
    // 2.03 bytes per value.
    let Moments8 { first, second } = &pair.moments;
    assert_eq!((first.codes.len(), first.scales.len()), (n, 2));
    assert_eq!((second.codes.len(), second.scales.len()), (n, 2));
}
