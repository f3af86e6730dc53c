//! Answers in running text. Each row: completion, gold answer, whether it is right.

use rpg_reward::{GradeOptions, grade};

fn check(rows: &[(&str, &str, bool)]) {
    let options = GradeOptions::default();
    let failed: Vec<String> = rows
        .iter()
        .filter_map(|(completion, gold, expected)| {
            let verdict = grade(completion, gold, &options);
            (verdict.correct != *expected)
                .then(|| format!("{completion:?} for {gold:?}, expected {expected}: {verdict:?}"))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} rows failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn words_before_mathematics_change_it_as_they_change_a_number() {
    check(&[
        ("The answer is at least $\\frac{3}{4}$.", "\\frac34", false),
        ("The answer is twice \\(2\\sqrt{3}\\).", "2\\sqrt3", false),
        ("The answer is half of $50\\%$.", "50\\%", false),
        ("The answer is negative $12$.", "12", false),
        ("The answer is between $8$ and 77.", "8", false),
        ("Answer: one of $8$", "8", false),
        ("Answer: either $8$ or 77", "8", false),
        ("Answer: > $8$", "8", false),
        ("Answer: ≠ $x^2$", "x^2", false),
        ("Answer: > -3", "-3", false),
        ("The answer is exactly $8$.", "8", true),
        ("Answer: approximately $8$", "8", true),
    ]);
}

#[test]
fn of_two_values_the_rejected_one_is_no_answer() {
    check(&[
        ("The answer is 77 rather than $8$.", "8", false),
        ("The answer is 77 rather than $8$.", "77", true),
        ("The answer is 77 instead of $8$.", "8", false),
        ("Answer: 77, not $8$", "8", false),
        ("Answer: $8$ apples or 77", "8", false),
        ("Answer: 8 apples + 1", "8", false),
        ("Answer: $8$ apples + 1", "8", false),
        ("Answer: $4$ or $5$", "4, 5", true),
        ("Answer: 77, not $8$", "77", true),
        ("The answer is (B), not 77.", "B", true),
        ("The answer is $x^2+1$, not $x^2$.", "x^2+1", true),
        ("The answer is 2√3, not 3.", "2\\sqrt3", true),
        ("The answer isn't $8$.", "8", false),
        ("#### not ½", "\\frac12", false),
        ("\\boxed{8}. This isn't 77.", "8", true),
        ("Wait, the answer is not 5, it is 6.", "6", true),
        ("Wait, the answer is not 5, it is 6.", "5", false),
        ("The answer is not 5 but 6.", "6", true),
        ("The answer is not 5 but 6.", "5", false),
        ("Answer: it can't be 12", "12", false),
        ("Answer: 12 is wrong", "12", false),
        (
            "The answer that she gave was wrong.\nThe total is 12.",
            "12",
            true,
        ),
        ("\\boxed{8} isn't right.", "8", false),
        ("\\boxed{(B)} and \\boxed{77}", "B", false),
    ]);
}

#[test]
fn what_gives_a_reason_is_no_part_of_the_answer() {
    check(&[
        ("My answer is 5, because 2 + 2 = 4.", "5", true),
        ("My answer is 5, because 2 + 2 = 4.", "4", false),
        ("Answer: 5 when n = 3", "5", true),
        ("Answer: 5 when n = 3", "3", false),
        ("Answer: $x^2$ if $n = 3$", "x^2", true),
        ("The answer is B, since the slope is negative.", "B", true),
        ("The answer is No, since 17 is prime.", "No", true),
        (
            "The answer is no solution (see above).",
            "\\text{no solution}",
            true,
        ),
        (
            "The answer is False, which is what we wanted.",
            "False",
            true,
        ),
        ("Answer: the maximum is 5, as shown in step 2.", "5", true),
        ("The answer is No. This is correct.", "No", true),
        ("The answer is no; 9 is not prime.", "\\text{No}", true),
        ("The answer is 12; 13 is too large.", "12", true),
        ("Answer: 12; 13; 14", "12, 13, 14", true),
    ]);
}

#[test]
fn the_object_of_a_verb_is_the_answer_whatever_its_kind() {
    check(&[
        ("Answer: The total is (B).", "B", true),
        ("Answer: The total cost of the 3 items is (B).", "B", true),
        ("Answer: The total is 4 and 5.", "5, 4", true),
        ("Answer: The total is [0, 1).", "[0,1)", true),
        ("<answer> The result is No. </answer>", "No", true),
        ("\\boxed{The answer is 3/4}", "\\frac34", true),
        ("\\boxed{The answer is (1,2)}", "(1,2)", true),
        ("\\boxed{Answer: 7}", "7", true),
        ("\\boxed{\\text{The sum of 3 and 4 is } 7}", "7", true),
        ("\\boxed{\\text{The sum of 3 and 4 is } 7}", "4", false),
    ]);
}

#[test]
fn without_a_marker_the_last_statement_counts_as_a_whole() {
    check(&[
        ("So the area is 36π.", "36\\pi", true),
        ("So the area is 36π.", "36", false),
        ("The length is 2√3.", "2\\sqrt3", true),
        ("The length is 2√3.", "3", false),
        ("The polynomial is x^2+1.", "x^2+1", true),
        ("The roots are 4 and 5.", "4, 5", true),
        ("The roots are 4 and 5.", "5", false),
        ("The solutions are x = 4 or x = 5.", "4, 5", true),
        ("First we have 77. Then it becomes (B)", "B", true),
        ("The interval is (-∞, 3].", "(-\\infty,3]", true),
        (
            "So the train arrives at 5:30 PM.",
            "5:30 \\text{ AM}",
            false,
        ),
        ("They meet at 3:45 PM.", "3:45 \\text{ PM}", true),
        ("The time is 3:45 PM.", "3:45 \\text{ AM}", false),
        (
            "She has 17 and gives 5 away, so 17 - 5 = 12 remain.",
            "12",
            true,
        ),
        (
            "She has 17 and gives 5 away, so 17 - 5 = 12 remain.",
            "5",
            false,
        ),
        ("No value is given in the text.", "0", false),
        ("First 7q.\nSo wz7+2", "2", false),
        ("We are left with **8**.\n", "8", true),
    ]);
}

#[test]
fn a_marker_may_be_followed_by_a_subject() {
    check(&[
        ("The answer, after rounding, is 36π.", "36\\pi", true),
        ("Answer (in cm): 36π", "36\\pi", true),
        ("Answer to part 2: (B)", "B", true),
        ("Answer to part 2: (B)", "2", false),
        ("The answer for x = 3 is 8.", "8", true),
        ("The answer for x = 3 is 8.", "3", false),
        ("Answer - 36π", "36\\pi", true),
        ("So (1,2) is the answer.", "(1,2)", true),
        ("Hence 4 and 5 is the answer.", "4,5", true),
        ("Therefore [0, 1) is the final answer", "[0,1)", true),
    ]);
}

#[test]
fn signs_without_meaning_and_tags_end_an_answer() {
    check(&[
        ("Answer: 36π ✓", "36\\pi", true),
        ("Answer: 4 and 5 🎉", "4,5", true),
        ("Answer: (1,2)</s>", "(1,2)", true),
        ("Answer: B</s>", "B", true),
        ("Answer: x^2+1<|im_end|>", "x^2+1", true),
        ("Answer: approx. 8 cm", "8", true),
    ]);
}
