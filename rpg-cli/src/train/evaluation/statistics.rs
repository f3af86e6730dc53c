//! The statistics of an evaluation, as pure functions of which completions are right.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// A mean over problems, and the interval that covers its expectation with a probability of about 95%.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// How often the problems are drawn again; verl's bootstrap does it as often.
const RESAMPLES: usize = 1000;

impl Estimate {
    /// The mean of one value per problem, with the percentile interval of the bootstrap (Efron, 1979): the problems are
    /// drawn again with replacement, all samples of a problem together, and the interval lies between the 2.5% and the
    /// 97.5% quantile of the means. `None` without values.
    ///
    /// Draws come from `seed`: equal values have equal intervals.
    pub fn of(values: &[f64], seed: u64) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut means: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn = (0..n).map(|_| values[random.random_range(0..n)]);
                drawn.sum::<f64>() / n as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        Some(Self {
            value: values.iter().sum::<f64>() / n as f64,
            low: quantile(&means, 0.025),
            high: quantile(&means, 0.975),
        })
    }
}

/// The quantile of sorted values, interpolated between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

/// pass@k of a problem with `n` samples of which `n_right` are right: the probability that `k` of them, drawn without
/// replacement, have a right one among them, `1 - C(n - n_right, k) / C(n, k)`. Its expectation is the probability that
/// one of `k` new samples is right (Chen et al., 2021, arXiv 2107.03374, eq. 1).
///
/// # Panics
/// If `k` or `n_right` is more than `n`.
pub fn pass_at_k(n: usize, n_right: usize, k: usize) -> f64 {
    assert!(
        k <= n && n_right <= n,
        "k = {k} and {n_right} right of {n} samples"
    );
    if n - n_right < k {
        return 1.0;
    }
    // The quotient of the binomials as a product, so that no factorial overflows.
    let none_right: f64 = (n - n_right + 1..=n)
        .map(|i| 1.0 - k as f64 / i as f64)
        .product();
    1.0 - none_right
}

/// The numbers of samples for which pass@k is reported: 1, 2, 4, ... below `k`, and `k`.
pub fn powers_up_to(k: usize) -> Vec<usize> {
    let powers = (0..usize::BITS).map(|i| 1usize << i);
    powers.take_while(|&n| n < k).chain([k]).collect()
}

/// The classes of equal answers, by a number for each answer. An answer is in the first class whose first member it is
/// the `same` as.
pub fn classes(answers: &[&str], same: impl Fn(&str, &str) -> bool) -> Vec<usize> {
    let mut first: Vec<&str> = Vec::new();
    answers
        .iter()
        .map(|answer| {
            // Most answers repeat the text of an earlier one.
            let known = first
                .iter()
                .position(|other| other == answer)
                .or_else(|| first.iter().position(|other| same(other, answer)));
            known.unwrap_or_else(|| {
                first.push(answer);
                first.len() - 1
            })
        })
        .collect()
}

/// The share of right answers in the class with most votes; the mean of these shares where several have as many: the
/// expectation if one of them is drawn. 0 without a vote. A vote is its class and whether it is right.
pub fn majority(votes: &[(usize, bool)]) -> f64 {
    let n_classes = votes.iter().map(|(class, _)| class + 1).max().unwrap_or(0);
    let mut counts = vec![(0usize, 0usize); n_classes];
    for &(class, is_right) in votes {
        counts[class].0 += 1;
        counts[class].1 += usize::from(is_right);
    }
    let most = counts.iter().map(|(n, _)| *n).max().unwrap_or(0);
    if most == 0 {
        return 0.0;
    }
    let winners = counts.iter().filter(|(n, _)| *n == most);
    let shares: Vec<f64> = winners
        .map(|&(n, n_right)| n_right as f64 / n as f64)
        .collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of the subsets of `k` of `n` samples, the first `n_right` of which are right, that have a right one.
    fn pass_by_counting(n: usize, n_right: usize, k: usize) -> f64 {
        let subsets = (0u32..1 << n).filter(|subset| subset.count_ones() as usize == k);
        let right = (1u32 << n_right) - 1;
        let (n_passed, n_all) = subsets.fold((0, 0), |(n_passed, n_all), subset| {
            (n_passed + u32::from(subset & right != 0), n_all + 1)
        });
        f64::from(n_passed) / f64::from(n_all)
    }

    #[test]
    fn pass_at_k_is_the_share_of_subsets_with_a_right_sample() {
        for n in 1..=10 {
            for n_right in 0..=n {
                for k in 1..=n {
                    let (found, expected) =
                        (pass_at_k(n, n_right, k), pass_by_counting(n, n_right, k));
                    assert!(
                        (found - expected).abs() < 1e-12,
                        "{n} {n_right} {k}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn pass_at_k_by_hand() {
        for (n, n_right, k, expected) in [
            // One minus the chance of two wrong ones: 3/4 * 2/3.
            (4, 1, 2, 0.5),
            (4, 2, 2, 1.0 - 1.0 / 6.0),
            (4, 0, 4, 0.0),
            (4, 1, 4, 1.0),
            (200, 1, 100, 0.5),
            // Binomials of these do not fit into an f64.
            (10_000, 1, 5_000, 0.5),
        ] {
            let found = pass_at_k(n, n_right, k);
            assert!(
                (found - expected).abs() < 1e-12,
                "{n} {n_right} {k}: {found}"
            );
        }
        // pass@1 is the share of right samples.
        assert!((pass_at_k(7, 3, 1) - 3.0 / 7.0).abs() < 1e-15);
    }

    #[test]
    fn pass_is_reported_for_powers_of_two() {
        for (k, expected) in [
            (1, &[1][..]),
            (2, &[1, 2]),
            (6, &[1, 2, 4, 6]),
            (8, &[1, 2, 4, 8]),
        ] {
            assert_eq!(powers_up_to(k), expected);
        }
    }

    #[test]
    fn the_majority_is_that_of_equal_answers() {
        let same =
            |one: &str, other: &str| one.trim_end_matches(".0") == other.trim_end_matches(".0");
        let answers = ["3.0", "4", "3", "4.0", "3", "5"];
        assert_eq!(classes(&answers, same), [0, 1, 0, 1, 0, 2]);
        for (votes, expected) in [
            (&[][..], 0.0),
            (&[(0, true)], 1.0),
            (&[(0, true), (1, false), (1, false)], 0.0),
            (&[(0, true), (1, false), (0, true)], 1.0),
            // Of two that are equally frequent one is right, of three too.
            (&[(0, true), (1, false)], 0.5),
            (&[(0, false), (1, true), (2, false)], 1.0 / 3.0),
            // A command that takes one of two equal answers for right.
            (&[(0, true), (0, false), (1, true)], 0.5),
        ] {
            assert_eq!(majority(votes), expected, "{votes:?}");
        }
    }

    #[test]
    fn a_bootstrap_interval_is_near_the_normal_one() {
        // 400 problems whose means are 0, 1/4, ... 1, 80 of each: mean 1/2, variance 1/8.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 5) / 4.0).collect();
        let estimate = Estimate::of(&values, 3).unwrap();
        let half = 1.96 * (0.125f64 / 400.0).sqrt();
        assert!((estimate.value - 0.5).abs() < 1e-12);
        // The quantiles of 1000 draws have a standard error of 8% of this half width.
        for (found, expected) in [(estimate.low, 0.5 - half), (estimate.high, 0.5 + half)] {
            assert!((found - expected).abs() < 0.25 * half, "{found} {expected}");
        }
        assert_eq!(Estimate::of(&values, 3), Some(estimate));
        assert_ne!(Estimate::of(&values, 4), Some(estimate));
    }

    #[test]
    fn the_quantiles_of_two_problems_are_those_of_a_coin() {
        // Each mean is 0, 1/2 or 1 with the probabilities 1/4, 1/2, 1/4: both ends are beyond 2.5%.
        let estimate = Estimate::of(&[0.0, 1.0], 0).unwrap();
        assert_eq!(
            (estimate.value, estimate.low, estimate.high),
            (0.5, 0.0, 1.0)
        );
        let certain = Estimate::of(&[1.0; 5], 0).unwrap();
        assert_eq!((certain.value, certain.low, certain.high), (1.0, 1.0, 1.0));
        assert_eq!(Estimate::of(&[], 0), None);
        let quantiles = [0.0, 0.5, 0.75, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0], share));
        assert_eq!(quantiles, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_they_say() {
        // Of 60 problems each is right with probability 0.3.
        let n_covered = (0..400u64)
            .filter(|&seed| {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let values: Vec<f64> = (0..60)
                    .map(|_| f64::from(u8::from(random.random_bool(0.3))))
                    .collect();
                let estimate = Estimate::of(&values, seed).unwrap();
                estimate.low <= 0.3 && 0.3 <= estimate.high
            })
            .count();
        // 95% of 400 are 380, with a standard deviation of 4.4; percentile intervals of 60 values cover a little less.
        assert!((360..=392).contains(&n_covered), "{n_covered}");
    }
}
