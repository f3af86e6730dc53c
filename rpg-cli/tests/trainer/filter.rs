//! Dynamic sampling: which groups are left out.

use crate::{GOOD, TestRun, config};
use rpg_reward::Score;

/// Its own opinion on both texts, and nothing on which is right.
pub(crate) fn differs(text: &str) -> Score {
    Score::new(f64::from(u8::from(text == GOOD)))
}

/// The same, and both are right.
fn all_right(text: &str) -> Score {
    differs(text).with_part("correct", 1.0)
}

/// The same score for both, of which one is right.
fn equal(text: &str) -> Score {
    Score::new(0.5).with_part("correct", differs(text).score)
}

/// With the built-in grader: one of the four sums of the first step is 7 or 8, so that one of the texts is right.
pub(crate) const GRADED: &[&str] = &["reward.weights.correct=1"];

#[test]
fn groups_are_left_out_by_accuracy_or_by_reward() {
    // Score, more config; the share of equal groups by accuracy and by reward.
    type Row = (fn(&str) -> Score, &'static [&'static str], f64, f64);
    let rows: [Row; 4] = [
        (all_right, &[], 1.0, 0.0),
        (equal, &[], 0.0, 1.0),
        // Where nobody says what is right, rewards decide.
        (differs, &[], 0.0, 0.0),
        (differs, GRADED, 0.75, 0.0),
    ];
    for (score, sets, by_accuracy, by_reward) in rows {
        for (filter, expected) in [(None, by_accuracy), (Some("reward"), by_reward)] {
            let mut sets = sets.to_vec();
            let filter = filter.map(|filter| format!("train.filter={filter}"));
            sets.extend(filter.as_deref());
            sets.extend(["train.steps=1", "evaluate.problems=0"]);
            let mut run = TestRun::new(config(&sets));
            run.score = score;
            run.start_or_resume(usize::MAX, None).unwrap();
            let metrics = &run.metrics()[0];
            assert_eq!(metrics["train/frac_equal_groups"], expected, "{sets:?}");
            assert_eq!(metrics["frac_reward_zero_std"], by_reward, "{sets:?}");
            let kept = format!("step 1, {} kept", 4.0 * (1.0 - expected));
            assert!(
                run.log.lock().unwrap().contains(&kept),
                "{sets:?}: {:?}",
                run.log
            );
        }
    }
}
