//! Two ranks, as threads of one process: an update from two halves of a batch equals that from the whole.

use super::experts;
use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use rpg_cli::config::ScratchModel;
use rpg_cli::failure::Failure;
use rpg_cli::optim::{AdamW, AdamWConfig};
use rpg_cli::train::{Learner, OneRank, Ranks, StepReport};
use rpg_core::model::{Activations, CausalLm};
use rpg_core::score::{Entropy, ScoreItem, score, score_on_tape};
use std::sync::{Arc, Barrier, Mutex};

const WORLD: usize = 2;

/// Where the ranks exchange values: each waits until the values of all are in.
struct Exchange<T> {
    values: Mutex<Vec<Option<T>>>,
    barrier: Barrier,
}

impl<T: Clone> Exchange<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            values: Mutex::new((0..WORLD).map(|_| None).collect()),
            barrier: Barrier::new(WORLD),
        })
    }

    /// The values of all ranks, in their order.
    fn all(&self, rank: usize, value: T) -> Vec<T> {
        self.values.lock().unwrap()[rank] = Some(value);
        self.barrier.wait();
        let all = self
            .values
            .lock()
            .unwrap()
            .iter()
            .flatten()
            .cloned()
            .collect();
        self.barrier.wait();
        all
    }
}

/// One of [`WORLD`] threads.
#[derive(Clone)]
pub(crate) struct ThreadRank {
    rank: usize,
    values: Arc<Exchange<Vec<f64>>>,
    gradients: Arc<Exchange<Vec<TensorData>>>,
}

impl ThreadRank {
    /// Every rank of a world.
    pub(crate) fn all() -> [Self; WORLD] {
        let (values, gradients) = (Exchange::new(), Exchange::new());
        std::array::from_fn(|rank| Self {
            rank,
            values: values.clone(),
            gradients: gradients.clone(),
        })
    }
}

impl Ranks<Flex> for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        WORLD
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<Vec<f64>>, Failure> {
        Ok(self.values.all(self.rank, values.to_vec()))
    }

    fn sum_gradients(
        &self,
        policy: &CausalLm<Autodiff<Flex>>,
        grads: GradientsParams,
    ) -> Result<GradientsParams, Failure> {
        let mut collect = Collect(&grads, Vec::new());
        policy.visit(&mut collect);
        let mut sum = Sum {
            ranks: self.gradients.all(self.rank, collect.1),
            next: 0,
            grads: GradientsParams::new(),
        };
        policy.visit(&mut sum);
        Ok(sum.grads)
    }
}

struct Collect<'a>(&'a GradientsParams, Vec<TensorData>);

impl ModuleVisitor<Autodiff<Flex>> for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<Flex>, D>>) {
        let grad = self.0.get::<Flex, D>(param.id);
        self.1
            .push(grad.expect("every parameter has one").into_data());
    }
}

struct Sum {
    ranks: Vec<Vec<TensorData>>,
    next: usize,
    grads: GradientsParams,
}

impl ModuleVisitor<Autodiff<Flex>> for Sum {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<Flex>, D>>) {
        let device = param.val().device();
        let of_rank = |grads: &Vec<TensorData>| {
            Tensor::<Flex, D>::from_data(grads[self.next].clone(), &device)
        };
        let sum = self.ranks.iter().map(of_rank).reduce(|a, b| a + b);
        self.next += 1;
        self.grads.register::<Flex, D>(param.id, sum.unwrap());
    }
}

fn dense() -> CausalLm<Flex> {
    let shape: ScratchModel = toml::from_str(
        "hidden_size = 16\nintermediate_size = 24\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
         num_key_value_heads = 1",
    )
    .unwrap();
    let (policy, _) = shape.init(1, &Default::default()).unwrap();
    policy
}

fn learner(policy: CausalLm<Flex>) -> Learner<Flex> {
    let optimizer = AdamW::new(AdamWConfig {
        betas: [0.9, 0.99],
        eps: 1e-3,
        weight_decay: 0.0,
    });
    Learner::new(policy, Box::new(optimizer))
}

fn items() -> Vec<ScoreItem> {
    let item = |i: u32| ScoreItem::response(&[i, i + 1], &[i + 2, 3, i]);
    (1..=4).map(item).collect()
}

fn step(
    policy: fn() -> CausalLm<Flex>,
    items: &[ScoreItem],
    ranks: &dyn Ranks<Flex>,
) -> (StepReport, Vec<f64>) {
    let mut learner = learner(policy());
    let n = ranks.sum(&[items.len() as f64]).unwrap()[0];
    let report = learner.step(
        items.chunks(1),
        |policy, part| {
            let (entropy, activations) = (Entropy::Measured, Activations::Recompute);
            let (scores, tape) = score_on_tape(policy, part, 1.0, entropy, activations);
            Ok((scores.logprobs.sum().neg() / n, tape))
        },
        0.01,
        1.0,
        ranks,
    );
    let logprobs = score(&learner.policy(), &self::items(), 1.0).logprobs;
    (
        report.unwrap(),
        logprobs.into_data().iter::<f64>().collect(),
    )
}

#[test]
fn two_halves_give_the_update_of_the_whole() {
    check_halves(dense);
    // What one rank's tokens take, another's need not.
    check_halves(experts::policy);
}

fn check_halves(policy: fn() -> CausalLm<Flex>) {
    let items = items();
    let whole = step(policy, &items, &OneRank);
    let halves: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(2)
            .zip(ThreadRank::all())
            .map(|(half, rank)| scope.spawn(move || step(policy, half, &rank)))
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.collect()
    });
    // The ranks agree bit for bit with each other, and up to rounding with a single rank.
    assert_eq!(halves[0], halves[1]);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs().max(1.0);
    assert!(near(halves[0].0.grad_norm, whole.0.grad_norm));
    for (a, b) in halves[0].1.iter().zip(&whole.1) {
        assert!(near(*a, *b), "{a} {b}");
    }
}
