//! The training problems of one or several files, in the order of a run.

use super::PromptedProblem;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rpg_core::seed::{derive, stream};
use std::ops::Range;

/// Problems of files. Without weights they are one set, in a new order every epoch; with weights every file is a set
/// of its own, and the sets take turns.
#[derive(Debug, Clone)]
pub struct Mixture {
    problems: Vec<PromptedProblem>,
    sets: Vec<ShuffledSet>,
    // Of the sets; empty if there is one.
    weights: Vec<f64>,
    turns: Turns,
}

/// Some of the problems, shuffled once per epoch.
#[derive(Debug, Clone)]
struct ShuffledSet {
    range: Range<usize>,
    seed: u64,
    // The epoch of the last access, and its order.
    epoch: u64,
    order: Vec<usize>,
}

/// Whose turn it is: smooth weighted round-robin, by which no set is ever a whole problem ahead of its share.
#[derive(Debug, Clone, Default)]
struct Turns {
    // How many problems have been taken, of each set.
    taken: Vec<u64>,
    credits: Vec<f64>,
}

impl Mixture {
    /// The problems of one set, which must not be empty.
    pub fn new(problems: Vec<PromptedProblem>, seed: u64) -> Self {
        let set = ShuffledSet::new(0..problems.len(), seed);
        Self {
            problems,
            sets: vec![set],
            weights: Vec::new(),
            turns: Turns::default(),
        }
    }

    /// Sets with weights above 0; none may be empty.
    pub fn weighted(sets: Vec<(f64, Vec<PromptedProblem>)>, seed: u64) -> Self {
        let mut problems = Vec::new();
        let mut ranges = Vec::with_capacity(sets.len());
        let mut weights = Vec::with_capacity(sets.len());
        for (i, (weight, set)) in sets.into_iter().enumerate() {
            let range = problems.len()..problems.len() + set.len();
            // Sets of the same size have orders of their own.
            ranges.push(ShuffledSet::new(
                range,
                derive(seed, &[stream::SHUFFLE, i as u64]),
            ));
            weights.push(weight);
            problems.extend(set);
        }
        Self {
            problems,
            sets: ranges,
            weights,
            turns: Turns::default(),
        }
    }

    /// All problems, in the order of the files.
    pub fn problems(&self) -> &[PromptedProblem] {
        &self.problems
    }

    /// The weights of the sets, and how many problems each has; nothing for a single set.
    pub fn weights(&self) -> impl Iterator<Item = (f64, usize)> {
        let sizes = self.sets.iter().map(|set| set.range.len());
        self.weights.iter().copied().zip(sizes)
    }

    /// The problem at a position of the run's order, which never ends.
    pub(super) fn get(&mut self, index: u64) -> &PromptedProblem {
        let (set, index) = match self.weights.len() {
            0 => (0, index),
            _ => self.turns.at(index, &self.weights),
        };
        &self.problems[self.sets[set].get(index)]
    }
}

impl ShuffledSet {
    fn new(range: Range<usize>, seed: u64) -> Self {
        let order = epoch_order(range.len(), seed, 0);
        Self {
            range,
            seed,
            epoch: 0,
            order,
        }
    }

    fn get(&mut self, index: u64) -> usize {
        let n = self.range.len() as u64;
        let epoch = index / n;
        if epoch != self.epoch {
            self.order = epoch_order(self.range.len(), self.seed, epoch);
            self.epoch = epoch;
        }
        self.range.start + self.order[(index % n) as usize]
    }
}

impl Turns {
    /// Whose turn it is at a position, and how many turns it has had before.
    fn at(&mut self, index: u64, weights: &[f64]) -> (usize, u64) {
        if self.taken.is_empty() || self.taken.iter().sum::<u64>() > index {
            *self = Self {
                taken: vec![0; weights.len()],
                credits: vec![0.0; weights.len()],
            };
        }
        let behind = index - self.taken.iter().sum::<u64>();
        for _ in 0..behind {
            self.next(weights);
        }
        let set = self.next(weights);
        (set, self.taken[set] - 1)
    }

    fn next(&mut self, weights: &[f64]) -> usize {
        let mut set = 0;
        for (i, weight) in weights.iter().enumerate() {
            self.credits[i] += weight;
            if self.credits[i] > self.credits[set] {
                set = i;
            }
        }
        self.credits[set] -= weights.iter().sum::<f64>();
        self.taken[set] += 1;
        set
    }
}

fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let seed = derive(seed, &[stream::SHUFFLE, epoch]);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_core::{Problem, Prompt};

    fn problems(name: &str, n: usize) -> Vec<PromptedProblem> {
        let problem = |i: usize| PromptedProblem {
            problem: Problem {
                id: format!("{name}{i}"),
                data_source: String::new(),
                prompt: Prompt::Text(String::new()),
                answer: String::new(),
                columns: None,
            },
            prompt_tokens: vec![1].into(),
        };
        (0..n).map(problem).collect()
    }

    fn ids(data: &mut Mixture, range: Range<u64>) -> Vec<String> {
        range.map(|i| data.get(i).problem.id.clone()).collect()
    }

    #[test]
    fn every_epoch_has_every_problem_once_and_its_own_order() {
        let mut data = Mixture::new(problems("", 10), 7);
        let (first, second) = (ids(&mut data, 0..10), ids(&mut data, 10..20));
        assert_ne!(first, second);
        // Going back, as a resumed run may, gives the same order again.
        assert_eq!(ids(&mut data, 0..10), first);
        for mut order in [first, second] {
            order.sort();
            let all: Vec<String> = (0..10).map(|i: i32| i.to_string()).collect();
            assert_eq!(order, all);
        }
    }

    #[test]
    fn weighted_sets_have_their_share_at_every_point_of_a_run() {
        let sets = || {
            vec![
                (3.0, problems("a", 4)),
                (1.0, problems("b", 100)),
                (0.5, problems("c", 4)),
            ]
        };
        let mut data = Mixture::weighted(sets(), 7);
        let all = ids(&mut data, 0..900);
        for n in 1..=900 {
            for (name, share) in [("a", 3.0 / 4.5), ("b", 1.0 / 4.5), ("c", 0.5 / 4.5)] {
                let found = all[..n].iter().filter(|id| id.starts_with(name)).count();
                let off = (found as f64 - share * n as f64).abs();
                assert!(off < 1.0, "{name}: {found} of {n}");
            }
        }
        // Within a set, every epoch has every problem once.
        let mut own: Vec<&String> = all
            .iter()
            .filter(|id| id.starts_with('a'))
            .take(4)
            .collect();
        own.sort();
        assert_eq!(own, ["a0", "a1", "a2", "a3"]);
        let mut own: Vec<&String> = all
            .iter()
            .filter(|id| id.starts_with('b'))
            .take(100)
            .collect();
        own.sort();
        own.dedup();
        assert_eq!(own.len(), 100);
        // From any position, in any order.
        let mut again = Mixture::weighted(sets(), 7);
        assert_eq!(ids(&mut again, 450..460), all[450..460]);
        assert_eq!(ids(&mut again, 3..5), all[3..5]);
        // Sets of the same size have different orders.
        let strip = |name: &str| -> Vec<String> {
            let own = all.iter().filter_map(|id| id.strip_prefix(name));
            own.take(4 * 4).map(str::to_owned).collect()
        };
        assert_ne!(strip("a"), strip("c"));
    }
}
