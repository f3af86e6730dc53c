//! What the KL terms of PPO's family are in expectation, by exact sums over a small policy: the table of
//! `docs/rpg-loss.md`, row by row.

use rpg_losses::reference::{Unit, unit_loss};
use rpg_losses::{
    AdvantageKind, Advantages, Kind, KlEstimator, KlPlacement, KlWeight, Level, ObjectiveConfig,
    TokenLogProbs, step_advantages,
};
use std::fs;
use std::path::Path;

/// Probabilities of five outcomes under the policy, the policy that sampled, and the reference.
struct Bandit {
    p: [f64; 5],
    old: [f64; 5],
    reference: [f64; 5],
}

const P: [f64; 5] = [0.1, 0.35, 0.2, 0.05, 0.3];
const OLD: [f64; 5] = [0.3, 0.2, 0.1, 0.15, 0.25];
const REFERENCE: [f64; 5] = [0.2, 0.1, 0.4, 0.2, 0.1];

const ON_POLICY: Bandit = Bandit {
    p: P,
    old: P,
    reference: REFERENCE,
};
const OFF_POLICY: Bandit = Bandit {
    p: P,
    old: OLD,
    reference: REFERENCE,
};

/// Gradients in the logits of the policy.
impl Bandit {
    /// Of `KL(pi, other)`.
    fn reverse(&self, other: &[f64; 5]) -> [f64; 5] {
        let u: Vec<f64> = (0..5).map(|x| (self.p[x] / other[x]).ln()).collect();
        let mean: f64 = (0..5).map(|x| self.p[x] * u[x]).sum();
        std::array::from_fn(|x| self.p[x] * (u[x] - mean))
    }

    /// Of `KL(other, pi)`.
    fn forward(&self, other: &[f64; 5]) -> [f64; 5] {
        std::array::from_fn(|x| self.p[x] - other[x])
    }

    /// `sum_x old(x) * coefficient(x) * grad lp(x)`.
    fn expected(&self, coefficient: impl Fn(Unit) -> f64) -> [f64; 5] {
        let weighted: [f64; 5] =
            std::array::from_fn(|x| self.old[x] * coefficient(self.unit(x, 0.0)));
        let sum: f64 = weighted.iter().sum();
        std::array::from_fn(|x| weighted[x] - sum * self.p[x])
    }

    fn unit(&self, x: usize, advantage: f64) -> Unit {
        Unit {
            lp: self.p[x].ln(),
            lp_old: self.old[x].ln(),
            lp_ref: self.reference[x].ln(),
            advantage,
        }
    }
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12)
}

/// PPO whose bounds no weight leaves, with this KL term and nothing else.
fn config(placement: KlPlacement, estimator: KlEstimator, weight: KlWeight) -> ObjectiveConfig {
    let mut config = ObjectiveConfig::for_kind(Kind::Ppo);
    config.kl_placement = placement;
    config.kl_estimator = estimator;
    config.kl_weight = weight;
    config.beta = 1.0;
    config.eps_low = 1.0;
    config.eps_high = 1e9;
    config
}

/// What a gradient is to be.
#[derive(Clone, Copy)]
enum Is {
    Zero,
    /// Of `KL(pi, ref)`.
    Reverse,
    /// Of `KL(ref, pi)`.
    Forward,
    /// Of `-KL(old, pi)`.
    AwayFromOld,
    /// Of `KL(pi, ref) - KL(pi, old)`.
    ReverseLessOld,
    /// Of none of these, nor along one.
    None,
}

fn check(name: &str, bandit: &Bandit, actual: [f64; 5], is: Is) {
    let reverse = bandit.reverse(&bandit.reference);
    let forward = bandit.forward(&bandit.reference);
    let away = bandit.forward(&bandit.old).map(|x| -x);
    let old = bandit.reverse(&bandit.old);
    let less_old: [f64; 5] = std::array::from_fn(|x| reverse[x] - old[x]);
    let dot = |a: &[f64; 5], b: &[f64; 5]| -> f64 { (0..5).map(|x| a[x] * b[x]).sum() };
    let is_along = |other: &[f64; 5]| {
        let norms = (dot(&actual, &actual) * dot(other, other)).sqrt();
        norms > 0.0 && dot(&actual, other).abs() / norms > 0.999
    };
    let holds = match is {
        Is::Zero => close(&actual, &[0.0; 5]),
        Is::Reverse => close(&actual, &reverse),
        Is::Forward => close(&actual, &forward),
        Is::AwayFromOld => close(&actual, &away),
        Is::ReverseLessOld => close(&actual, &less_old),
        Is::None => {
            ![reverse, forward, away, old].iter().any(is_along) && !close(&actual, &[0.0; 5])
        }
    };
    assert!(holds, "{name}: {actual:?}");
}

type Row = (KlEstimator, KlWeight, fn(f64, f64, f64) -> f64, Is, Is);

/// Estimator and weight, the coefficient of `grad lp` in `w`, `u` and `r`, and what it is on and off policy.
#[rustfmt::skip]
const ROWS: [Row; 9] = [
    (KlEstimator::K1, KlWeight::None, |_, _, _| 1.0, Is::Zero, Is::AwayFromOld),
    (KlEstimator::K1, KlWeight::Detached, |w, _, _| w, Is::Zero, Is::Zero),
    (KlEstimator::K1, KlWeight::Full, |w, u, _| w * (u + 1.0), Is::Reverse, Is::Reverse),
    (KlEstimator::K2, KlWeight::None, |_, u, _| u, Is::Reverse, Is::None),
    (KlEstimator::K2, KlWeight::Detached, |w, u, _| w * u, Is::Reverse, Is::Reverse),
    (KlEstimator::K2, KlWeight::Full, |w, u, _| w * (u * u / 2.0 + u), Is::None, Is::None),
    (KlEstimator::K3, KlWeight::None, |_, u, _| 1.0 - (-u).exp(), Is::Forward, Is::None),
    (KlEstimator::K3, KlWeight::Detached, |w, _, r| w - r, Is::Forward, Is::Forward),
    (KlEstimator::K3, KlWeight::Full, |w, u, _| w * u, Is::Reverse, Is::Reverse),
];

#[test]
fn each_term_in_the_loss_has_the_gradient_of_the_table() {
    for (estimator, weight, coefficient, on, off) in ROWS {
        let config = config(KlPlacement::Loss, estimator, weight);
        let name = format!("{estimator}, {weight}");
        for (bandit, is) in [(ON_POLICY, on), (OFF_POLICY, off)] {
            for x in 0..5 {
                let unit = bandit.unit(x, 0.0);
                let (w, u) = ((unit.lp - unit.lp_old).exp(), unit.lp - unit.lp_ref);
                let r = (unit.lp_ref - unit.lp_old).exp();
                let (actual, expected) = (unit_loss(&config, unit).grad, coefficient(w, u, r));
                assert!(
                    (actual - expected).abs() <= 1e-12,
                    "{name}: {actual}, not {expected}"
                );
            }
            check(
                &name,
                &bandit,
                bandit.expected(|unit| unit_loss(&config, unit).grad),
                is,
            );
        }
    }
}

/// `-k1` as a constant in the advantage: of the policy that is trained, and of the one that sampled.
#[test]
fn k1_in_the_reward_has_the_gradient_of_the_table() {
    let ppo = config(KlPlacement::Reward, KlEstimator::K1, KlWeight::Full);
    for (bandit, is_old) in [(ON_POLICY, Is::Reverse), (OFF_POLICY, Is::ReverseLessOld)] {
        let of_policy = bandit.expected(|unit| {
            let advantage = -(unit.lp - unit.lp_ref);
            unit_loss(&ppo, Unit { advantage, ..unit }).grad
        });
        check("k1 of the policy", &bandit, of_policy, Is::Reverse);
        let of_old = bandit.expected(|unit| {
            let log_probs = TokenLogProbs {
                logp_old: &[vec![unit.lp_old]],
                logp_ref: &[vec![unit.lp_ref]],
            };
            // A group of one has no advantage of its own.
            let values = step_advantages(&ppo, &[3.0], &[0], &[vec![true]], Some(log_probs));
            let Advantages::PerToken(values) = values else {
                panic!("{values:?}")
            };
            let advantage = values[0][0];
            unit_loss(&ppo, Unit { advantage, ..unit }).grad
        });
        check("k1 of the sampling policy", &bandit, of_old, is_old);
    }
}

/// Two binary tokens, the second one's probabilities independent of the first: `k3` per token under the geometric
/// mean of the weights, gradient through it (TRL#6586).
#[test]
fn a_sequence_weight_times_a_kl_per_token_is_the_gradient_of_neither_divergence() {
    let (p, f) = ([0.3_f64, 0.8], [0.6_f64, 0.5]);
    for old in [p, [0.5, 0.6]] {
        let probability = |theta: f64, token: usize| [theta, 1.0 - theta][token];
        // The slope of the log-probability in the logit of the first token.
        let slope = |theta: f64, token: usize| [1.0 - theta, -theta][token];
        let mut actual = [0.0; 2];
        let mut direct = [0.0; 2];
        for x in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            let q: f64 = (0..2).map(|t| probability(old[t], x[t])).product();
            let log = |a: [f64; 2], b: [f64; 2], t: usize| {
                (probability(a[t], x[t]) / probability(b[t], x[t])).ln()
            };
            let s = ((log(p, old, 0) + log(p, old, 1)) / 2.0).exp();
            let k3 = |t: usize| (-log(p, f, t)).exp() - 1.0 + log(p, f, t);
            let sum = k3(0) + k3(1);
            for t in 0..2 {
                let kept = 1.0 - (-log(p, f, t)).exp();
                actual[t] += q * s * (sum / 2.0 + kept) * slope(p[t], x[t]);
                direct[t] += q * s * kept * slope(p[t], x[t]);
            }
        }
        let odds = |t: usize| (p[t] / (1.0 - p[t])).ln() - (f[t] / (1.0 - f[t])).ln();
        let reverse: [f64; 2] = std::array::from_fn(|t| p[t] * (1.0 - p[t]) * odds(t));
        let forward: [f64; 2] = std::array::from_fn(|t| p[t] - f[t]);
        for divergence in [reverse, forward] {
            assert!(
                (0..2).any(|t| (actual[t] - divergence[t]).abs() > 0.01),
                "{actual:?}"
            );
        }
        // On policy it is the forward KL but for the extra term, which comes through the weight.
        assert_eq!(close(&direct, &forward), old == p, "{direct:?}");
    }
}

/// The documentation prints these rows.
#[test]
fn the_table_is_in_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rpg-loss.md");
    // The package alone has no `docs`.
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let names = [
        "1",
        "w",
        "w*(u + 1)",
        "u",
        "w*u",
        "w*(u^2/2 + u)",
        "1 - exp(-u)",
        "w - r",
        "w*u",
    ];
    for ((estimator, weight, _, on, off), coefficient) in ROWS.into_iter().zip(names) {
        let term = match weight {
            KlWeight::Detached => format!("SG(w)*{estimator}"),
            KlWeight::Full => format!("w*{estimator}"),
            _ => estimator.to_string(),
        };
        let words = |is: Is| match is {
            Is::Zero => "0",
            Is::Reverse => "grad KL(pi, ref)",
            Is::Forward => "grad KL(ref, pi)",
            Is::AwayFromOld => "-grad KL(old, pi)",
            Is::ReverseLessOld => "grad (KL(pi, ref) - KL(pi, old))",
            Is::None => "none",
        };
        let line = format!(
            "| `{term}` | `{coefficient}` | {} | {}",
            words(on),
            words(off)
        );
        assert!(text.contains(&line), "docs/rpg-loss.md lacks {line}");
    }
}

/// Reward-to-go after the statistics of a group, before those of the batch.
#[test]
fn the_penalty_in_the_reward_works_with_any_advantage() {
    let mask = [vec![true, true], vec![true, false]];
    let log_probs = TokenLogProbs {
        logp_old: &[vec![-1.0, -2.0], vec![-0.5, 0.0]],
        logp_ref: &[vec![-1.5, -1.0], vec![-1.5, 0.0]],
    };
    let (rewards, groups) = ([1.0, 0.0], [4, 4]);
    // u of the sampling policy: 0.5, -1 and 1.
    let k = |estimator: KlEstimator, u: f64| match estimator {
        KlEstimator::K1 => u,
        KlEstimator::K2 => u * u / 2.0,
        _ => (-u).exp() - 1.0 + u,
    };
    for estimator in KlEstimator::ALL {
        let mut config = config(KlPlacement::Reward, *estimator, KlWeight::None);
        config.beta = 0.5;
        let [a, b, c] = [0.5, -1.0, 1.0].map(|u| -0.5 * k(*estimator, u));
        let values = |config: &ObjectiveConfig| {
            step_advantages(config, &rewards, &groups, &mask, Some(log_probs))
        };
        let check = |config: &ObjectiveConfig, expected: &[f64]| match values(config) {
            Advantages::PerToken(rows) => assert!(close(&rows.concat(), expected), "{rows:?}"),
            Advantages::PerResponse(row) => assert!(close(&row, expected), "{row:?}"),
        };
        for (advantage, size) in [
            (AdvantageKind::GroupMean, 0.5),
            (AdvantageKind::LeaveOneOut, 1.0),
        ] {
            config.advantage = advantage;
            config.level = Level::Token;
            check(&config, &[size + a + b, size + b, -size + c, 0.0]);
            config.level = Level::Sequence;
            check(&config, &[size + a + b, -size + c]);
        }
        config.advantage = AdvantageKind::BatchMean;
        let returns = [1.0 + a + b, c];
        let mean = returns.iter().sum::<f64>() / 2.0;
        check(&config, &returns.map(|value| value - mean));
        config.level = Level::Token;
        let returns = [1.0 + a + b, 1.0 + b, c];
        let mean = returns.iter().sum::<f64>() / 3.0;
        let [x, y, z] = returns.map(|value| value - mean);
        check(&config, &[x, y, z, 0.0]);
        // Whitened over tokens, the penalty goes in before.
        config.kind = Kind::ReinforcePpBaseline;
        config.advantage = AdvantageKind::GroupMean;
        let values = [0.5 + a + b, 0.5 + b, -0.5 + c];
        let mean = values.iter().sum::<f64>() / 3.0;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let [x, y, z] = values.map(|value| (value - mean) / (squares / 2.0 + 1e-8).sqrt());
        check(&config, &[x, y, z, 0.0]);
    }
}
