//! How every random draw gets its seed.
//!
//! A draw belongs to a place in the run - its step, its prompt, its sample - and its seed is a hash of
//! that place. So results do not depend on how the work was split into batches, on the number of
//! threads, or on whether the run was resumed.

/// Hashes a path of integers under a run seed to one 64-bit seed.
///
/// Each part goes through the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), so that
/// neighbouring paths give unrelated seeds. The length is mixed in, so that `[1]` and `[1, 0]` differ.
///
/// ```
/// use rpg_core::seed::derive;
/// assert_ne!(derive(7, &[1, 2]), derive(7, &[2, 1]));
/// assert_eq!(derive(7, &[1, 2]), derive(7, &[1, 2]));
/// ```
pub fn derive(run_seed: u64, path: &[u64]) -> u64 {
    path.iter()
        .fold(mix(run_seed ^ mix(path.len() as u64)), |state, &part| {
            mix(state ^ mix(part.wrapping_add(GOLDEN)))
        })
}

/// The seed of one completion.
pub fn of_sample(run_seed: u64, step: u64, prompt: u64, sample: u64) -> u64 {
    derive(run_seed, &[stream::SAMPLE, step, prompt, sample])
}

/// The first element of a path says what the draw is for, so that different uses never share a seed.
pub mod stream {
    /// Sampling a token of a completion.
    pub const SAMPLE: u64 = 1;
    /// Ordering a data set.
    pub const SHUFFLE: u64 = 2;
    /// Generating problems.
    pub const PROBLEMS: u64 = 3;
    /// Initialising weights.
    pub const INIT: u64 = 4;
    /// Sampling for an evaluation.
    pub const EVALUATE: u64 = 5;
    /// Splitting a data set.
    pub const SPLIT: u64 = 6;
    /// Splitting a step's rollouts into mini-batches.
    pub const MINI_BATCH: u64 = 7;
    /// Drawing problems again for the interval of a score.
    pub const BOOTSTRAP: u64 = 8;
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(GOLDEN);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn places_of_a_run_have_distinct_seeds() {
        let mut seen = HashSet::new();
        for run in 0..3 {
            for step in 0..20 {
                for prompt in 0..20 {
                    for sample in 0..20 {
                        assert!(seen.insert(of_sample(run, step, prompt, sample)));
                    }
                }
            }
        }
    }

    #[test]
    fn bits_are_balanced() {
        let n = 4096;
        for bit in 0..64 {
            let ones = (0..n).filter(|&i| derive(0, &[i]) >> bit & 1 == 1).count() as i64;
            // Five standard deviations of a fair coin.
            assert!(
                (ones - n as i64 / 2).abs() < 160,
                "bit {bit}: {ones} of {n}"
            );
        }
    }
}
