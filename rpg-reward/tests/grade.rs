//! Tables of completions, gold answers and what the verdict must be.

use rpg_reward::{AnswerSource, GradeOptions, Reason, grade, grade_batch};

fn check(rows: &[(&str, &str, bool)]) {
    let options = GradeOptions::default();
    let failed: Vec<String> = rows
        .iter()
        .filter_map(|(completion, gold, expected)| {
            let verdict = grade(completion, gold, &options);
            (verdict.correct != *expected)
                .then(|| format!("{completion:?} for {gold:?}, wanted {expected}: {verdict:?}"))
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
fn numbers() {
    check(&[
        ("\\boxed{12}", "12", true),
        ("\\boxed{12}", "13", false),
        ("\\boxed{\\frac{3}{6}}", "1/2", true),
        ("\\boxed{\\frac36}", "0.5", true),
        ("\\boxed{\\dfrac 3 6}", "0.5", true),
        ("\\boxed{-2}", "2", false),
        ("\\boxed{2\\frac{1}{4}}", "9/4", true),
        ("\\boxed{2\\frac{1}{4}}", "2/4", false),
        ("\\boxed{12{,}500}", "12500", true),
        ("\\boxed{12 500}", "12500", true),
        ("\\boxed{12,500}", "12500", true),
        ("\\boxed{1.25e3}", "1250", true),
        ("\\boxed{0.\\overline{27}}", "\\frac{3}{11}", true),
        ("\\boxed{0.666666667}", "2/3", true),
        ("\\boxed{0.67}", "2/3", false),
        ("\\boxed{1/0}", "0", false),
        ("\\boxed{2^{2^{2^{2^{2}}}}}", "1", false),
    ]);
}

#[test]
fn where_the_answer_stands() {
    let options = GradeOptions::default();
    let rows = [
        (
            "It is \\boxed{3}, no: \\boxed{4}",
            Some(AnswerSource::Boxed),
            "4",
        ),
        ("Thus 3.\nAnswer: 4\n", Some(AnswerSource::AnswerLine), "4"),
        (
            "The final answer is $\\frac{1}{4}$. I hope it is correct.",
            Some(AnswerSource::AnswerLine),
            "1/4",
        ),
        ("6 * 7 = 42\n#### 42", Some(AnswerSource::HashMarks), "42"),
        ("<answer> 42 </answer>", Some(AnswerSource::AnswerTag), "42"),
        (
            "That makes 42 in all.",
            Some(AnswerSource::LastExpression),
            "42",
        ),
        (
            "First 6.\nThat makes 42 in all.",
            Some(AnswerSource::LastNumber),
            "42",
        ),
        (
            "<think>\\boxed{5}</think> Answer: 6",
            Some(AnswerSource::AnswerLine),
            "6",
        ),
    ];
    for (completion, source, gold) in rows {
        let verdict = grade(completion, gold, &options);
        assert!(verdict.correct, "{completion:?}: {verdict:?}");
        assert_eq!(verdict.source, source, "{completion:?}");
    }
}

#[test]
fn reasons() {
    let options = GradeOptions::default();
    let deep = format!("\\boxed{{{}1{}}}", "(".repeat(300), ")".repeat(300));
    let rows = [
        ("nothing to see", "5", "no answer"),
        ("\\boxed{}", "5", "no answer"),
        ("\\boxed{5 6}", "5", "not parsed"),
        ("\\boxed{6}", "5", "wrong"),
        ("\\boxed{5}", "5", "correct"),
        ("\\boxed{0/0}", "0", "undefined value"),
        ("\\boxed{9^{9^{9^9}}}", "9", "over budget: too large"),
        (deep.as_str(), "1", "over budget: nested too deeply"),
        ("\\boxed{5}", "2 3 4 +", "gold answer not parsed"),
    ];
    for (completion, gold, reason) in rows {
        let verdict = grade(completion, gold, &options);
        assert_eq!(
            verdict.reason.to_string(),
            reason,
            "{:.80}: {verdict:?}",
            completion
        );
    }
}

#[test]
fn batches_keep_order() {
    let items: Vec<(String, String)> = (0..200)
        .map(|i| (format!("\\boxed{{{}}}", i % 7), (i % 5).to_string()))
        .collect();
    let items: Vec<(&str, &str)> = items
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let options = GradeOptions::default();
    for (index, verdict) in grade_batch(&items, &options).into_iter().enumerate() {
        let expected = if index % 7 == index % 5 {
            Reason::Correct
        } else {
            Reason::Wrong
        };
        assert_eq!(verdict.reason, expected, "item {index}");
    }
}
