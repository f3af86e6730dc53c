//! Schedule-free AdamW against the authors' Python package, and what it saves and restores.

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor, TensorData};
use rpg_cli::optim::{
    AdamW, AdamW8bit, AdamWConfig, AdamWScheduleFree, Optimizer, OptimizerState,
    ScheduleFreeConfig, StateError, constant_with_warmup,
};
use rpg_cli::train::{Learner, TapedLoss};
use rpg_core::model::{Activations, CausalLm, ModelConfig};
use rpg_core::score::{Entropy, ScoreItem, score_on_tape};
use serde::Deserialize;

/// The values of every parameter, flat, in the order in which a model's parameters are visited.
type Values = Vec<Vec<f64>>;

/// What `fixtures/make_schedule_free.py` has written.
#[derive(Deserialize)]
struct Golden {
    initial: Values,
    gradients: Vec<Values>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    warmup_steps: u64,
    r: f64,
    weight_lr_power: f64,
    /// The learning rate is halved after so many updates.
    halved_after: Option<u64>,
    points: Vec<Point>,
}

/// The trained point and the average after an update.
#[derive(Deserialize)]
struct Point {
    update: u64,
    y: Values,
    x: Values,
}

impl Case {
    fn optimizer(&self) -> AdamWScheduleFree<Flex> {
        AdamWScheduleFree::new(ScheduleFreeConfig {
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
            r: self.r,
            weight_lr_power: self.weight_lr_power,
        })
    }

    fn learning_rate(&self, update: u64) -> f64 {
        let is_halved = self.halved_after.is_some_and(|after| update > after);
        let lr = if is_halved { self.lr / 2.0 } else { self.lr };
        constant_with_warmup(lr, self.warmup_steps, update)
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("fixtures/schedule_free.json")).unwrap()
}

fn tiny_model() -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2,
        "max_position_embeddings": 8, "vocab_size": 3, "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, 1, &Default::default())
}

fn tensor<const D: usize>(values: &[f64], like: [usize; D], dtype: DType) -> Tensor<Flex, D> {
    assert_eq!(values.len(), like.iter().product::<usize>());
    let data = TensorData::new(values.to_vec(), like).convert_dtype(dtype);
    Tensor::from_data(data, (&Default::default(), dtype))
}

/// Gives every parameter its values, in a number type.
struct Write<'a>(std::slice::Iter<'a, Vec<f64>>, DType);

impl ModuleMapper<Autodiff<Flex>> for Write<'_> {
    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Autodiff<Flex>, D>>,
    ) -> Param<Tensor<Autodiff<Flex>, D>> {
        let values = self.0.next().expect("values for every parameter");
        param.map(|old| Tensor::from_inner(tensor(values, old.dims(), self.1)).require_grad())
    }
}

/// Registers every parameter's gradient.
struct Gradients<'a>(std::slice::Iter<'a, Vec<f64>>, DType, GradientsParams);

impl ModuleVisitor<Autodiff<Flex>> for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Autodiff<Flex>, D>>) {
        let values = self.0.next().expect("values for every parameter");
        let grad = tensor(values, param.val().dims(), self.1);
        self.2.register::<Flex, D>(param.id, grad);
    }
}

struct Read(Values);

impl ModuleVisitor<Flex> for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
        self.0.push(param.val().into_data().iter::<f64>().collect());
    }
}

fn values(model: &CausalLm<Flex>) -> Values {
    let mut read = Read(Vec::new());
    model.visit(&mut read);
    read.0
}

fn largest_difference(a: &Values, b: &Values) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.concat().into_iter().zip(b.concat());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The largest differences of `y` and of `x` from the package's, which computes in f64.
fn differences(golden: &Golden, case: &Case, dtype: DType) -> [f64; 2] {
    let mut point = tiny_model()
        .into_trainable()
        .map(&mut Write(golden.initial.iter(), dtype));
    let mut optimizer = case.optimizer();
    let mut largest = [0f64; 2];
    let mut n_compared = 0;
    for (update, gradients) in (1..).zip(&golden.gradients) {
        let mut grads = Gradients(gradients.iter(), dtype, GradientsParams::new());
        point.visit(&mut grads);
        point = optimizer.step(point, grads.2, case.learning_rate(update), 1.0);
        if let Some(expected) = case.points.iter().find(|point| point.update == update) {
            n_compared += 1;
            let (y, x) = (point.valid(), optimizer.policy(point.valid()));
            largest[0] = largest[0].max(largest_difference(&values(&y), &expected.y));
            largest[1] = largest[1].max(largest_difference(&values(&x), &expected.x));
        }
    }
    assert_eq!((n_compared, optimizer.n_updates()), (case.points.len(), 50));
    largest
}

#[test]
fn fifty_updates_are_those_of_the_python_package() {
    let golden = golden();
    for case in &golden.cases {
        // One pass over memory in f32, tensor operations in f64.
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
            let differences = differences(&golden, case, dtype);
            assert!(
                differences.iter().all(|&difference| difference < tolerance),
                "{}, {dtype:?}: y and x differ by {differences:?}",
                case.name
            );
        }
    }
}

const CONFIG: ScheduleFreeConfig = ScheduleFreeConfig {
    betas: [0.9, 0.95],
    eps: 1e-8,
    weight_decay: 0.1,
    r: 0.0,
    weight_lr_power: 2.0,
};

fn optimizer(beta_1: f64) -> AdamWScheduleFree<Flex> {
    AdamWScheduleFree::new(ScheduleFreeConfig {
        betas: [beta_1, CONFIG.betas[1]],
        ..CONFIG
    })
}

fn loss(policy: &CausalLm<Autodiff<Flex>>) -> TapedLoss<Flex> {
    let item = ScoreItem::response(&[0, 1], &[2, 0, 1]);
    let (scores, tape) = score_on_tape(policy, &[item], 1.0, Entropy::Measured, Activations::Keep);
    (scores.logprobs.sum().neg(), tape)
}

/// A learner after so many updates.
fn trained(optimizer: Box<dyn Optimizer<Flex>>, n_updates: usize) -> Learner<Flex> {
    let mut learner = Learner::new(tiny_model(), optimizer);
    (0..n_updates).for_each(|_| update(&mut learner));
    learner
}

fn update(learner: &mut Learner<Flex>) {
    let step = learner.step([()], |point, ()| Ok(loss(point)), 0.01, 1.0);
    assert!(!step.unwrap().skipped);
}

/// The point that is trained.
fn point(learner: &mut Learner<Flex>) -> Values {
    let mut found = Vec::new();
    let look = |point: &CausalLm<Autodiff<Flex>>, ()| {
        found = values(&point.valid());
        Err(rpg_cli::failure::Failure::interrupted())
    };
    learner.step([()], look, 0.01, 1.0).unwrap_err();
    found
}

#[test]
fn the_policy_is_the_average_and_what_is_trained_is_not() {
    let mut learner = trained(Box::new(optimizer(0.9)), 0);
    assert_eq!(values(&learner.policy().unwrap()), point(&mut learner));
    let mut learner = trained(Box::new(optimizer(0.9)), 5);
    let policy = values(&learner.policy().unwrap());
    assert!(largest_difference(&policy, &point(&mut learner)) > 1e-4);
    // After the warm start, reinforcement learning begins at the policy, with a new average.
    learner.reset_optimizer().unwrap();
    assert_eq!(learner.optimizer().n_updates(), 0);
    assert_eq!(
        learner.optimizer_state().unwrap(),
        OptimizerState::default()
    );
    assert_eq!(values(&learner.policy().unwrap()), policy);
    assert_eq!(point(&mut learner), policy);
    // Without averages the two are one.
    let config = AdamWConfig {
        betas: CONFIG.betas,
        eps: CONFIG.eps,
        weight_decay: CONFIG.weight_decay,
    };
    let mut learner = trained(Box::new(AdamW::new(config)), 5);
    assert_eq!(values(&learner.policy().unwrap()), point(&mut learner));
}

#[test]
fn an_average_of_all_updates_learns() {
    let value = |learner: &Learner<Flex>| {
        let (loss, _) = loss(&learner.policy().unwrap().into_trainable());
        loss.into_data().iter::<f64>().sum::<f64>()
    };
    let before = value(&trained(Box::new(optimizer(0.9)), 0));
    let after = value(&trained(Box::new(optimizer(0.9)), 300));
    assert!(after < 0.5 * before, "{before} {after}");
}

#[test]
fn a_restored_state_continues_bit_for_bit() {
    let mut straight = trained(Box::new(optimizer(0.9)), 3);
    let mut restored = optimizer(0.9);
    let start = restored.load_state(
        straight.policy().unwrap(),
        &straight.optimizer_state().unwrap(),
    );
    assert_eq!(restored.n_updates(), 3);
    let mut resumed = Learner::new(start.unwrap(), Box::new(restored));
    assert_eq!(point(&mut resumed), point(&mut straight));
    for _ in 0..3 {
        update(&mut straight);
        update(&mut resumed);
    }
    assert_eq!(
        resumed.optimizer_state().unwrap(),
        straight.optimizer_state().unwrap()
    );
    assert_eq!(
        values(&resumed.policy().unwrap()),
        values(&straight.policy().unwrap())
    );
}

#[test]
fn with_another_share_of_the_average_the_average_stays() {
    let mut before = trained(Box::new(optimizer(0.9)), 3);
    let mut restored = optimizer(0.5);
    let start = restored.load_state(before.policy().unwrap(), &before.optimizer_state().unwrap());
    let mut after = Learner::new(start.unwrap(), Box::new(restored));
    let [policy, again] = [&before, &after].map(|learner| values(&learner.policy().unwrap()));
    assert!(largest_difference(&policy, &again) < 1e-6);
    assert!(largest_difference(&point(&mut before), &point(&mut after)) > 1e-4);
}

#[test]
fn a_state_that_does_not_fit_is_an_error() {
    let learner = trained(Box::new(optimizer(0.9)), 2);
    let load = |change: &dyn Fn(&mut OptimizerState)| {
        let mut state = learner.optimizer_state().unwrap();
        change(&mut state);
        let mut restored = optimizer(0.9);
        restored
            .load_state(learner.policy().unwrap(), &state)
            .map(|_| ())
    };
    let names: Vec<String> = learner
        .optimizer_state()
        .unwrap()
        .tensors
        .into_keys()
        .collect();
    assert!(load(&|_| ()).is_ok());
    // Three tensors for each of eight parameters, and three numbers.
    assert_eq!(names.len(), 3 * 8 + 3);
    for name in names {
        let removed = load(&|state| drop(state.tensors.remove(&name)));
        assert!(removed.is_err(), "{name}");
        let short = TensorData::from([0f32; 3]);
        let replaced =
            load(&|state| drop(state.tensors.insert(name.clone(), short.clone().into())));
        assert!(
            matches!(replaced, Err(StateError::Mismatch(_))),
            "{name}: {replaced:?}"
        );
    }
    assert!(load(&|state| state.n_updates = u64::MAX).is_err());
}

#[test]
fn the_state_of_another_optimizer_is_refused() {
    let config = AdamWConfig {
        betas: CONFIG.betas,
        eps: CONFIG.eps,
        weight_decay: CONFIG.weight_decay,
    };
    // The moments of so small a model are f32 with every kind.
    let kinds = || -> [Box<dyn Optimizer<Flex>>; 3] {
        [
            Box::new(AdamW::new(config)),
            Box::new(AdamW8bit::new(config)),
            Box::new(optimizer(0.9)),
        ]
    };
    for (i, saved) in kinds().into_iter().enumerate() {
        let learner = trained(saved, 2);
        for (j, mut restored) in kinds().into_iter().enumerate() {
            let loaded = restored.load_state(
                learner.policy().unwrap(),
                &learner.optimizer_state().unwrap(),
            );
            match loaded {
                Ok(_) => assert_eq!(i, j),
                Err(error) => {
                    assert!(i != j && matches!(error, StateError::Other), "{error}");
                    assert!(error.to_string().contains("optimizer.kind"), "{error}");
                }
            }
        }
    }
}
