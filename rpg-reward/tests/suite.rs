//! A file of cases of your own, named by the environment variable `RPG_REWARD_CASES`.

use rpg_reward::GradeOptions;
use rpg_reward::suite::{Summary, Timed, read_line};

#[test]
fn the_cases_of_a_file_are_graded_as_expected() {
    let Some(path) = std::env::var_os("RPG_REWARD_CASES") else {
        println!("skipped: RPG_REWARD_CASES is not set");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("RPG_REWARD_CASES is a readable file");
    let mut summary = Summary::default();
    for (index, line) in text.lines().enumerate() {
        let case = read_line(line, index + 1).expect("a case");
        summary.add(&Timed::grade(&case, &GradeOptions::default()));
    }
    assert_eq!(summary.total.false_positives, 0, "{summary}");
    assert!(summary.total.agreement() >= 0.98, "{summary}");
}
