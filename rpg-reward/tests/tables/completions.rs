//! Tables of completions, gold answers and the expected verdict.

use crate::check_completions;
use rpg_reward::{AnswerSource, GradeOptions, Reason, grade, grade_batch};

#[test]
fn numbers_are_compared_by_value() {
    check_completions(&[
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
fn the_source_of_an_answer_is_reported() {
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
            "6 * 7 = 42\n#### 42\nThe answer is",
            Some(AnswerSource::HashMarks),
            "42",
        ),
        ("6 * 7", Some(AnswerSource::LastExpression), "42"),
        (
            "First 6.\nIn all, 42 remain.",
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
fn every_verdict_has_its_reason() {
    let options = GradeOptions::default();
    let deep = format!("\\boxed{{{}1{}}}", "(".repeat(300), ")".repeat(300));
    let rows = [
        ("nothing to see", "5", "no answer"),
        ("\\boxed{}", "5", "no answer"),
        ("We get 5.\nThe answer is", "5", "no answer"),
        ("#### 5\nBut the answer is not 5", "5", "no answer"),
        ("It took 24:30:22", "22", "wrong"),
        ("#### 24:30:22", "22", "wrong"),
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
fn a_batch_keeps_its_order() {
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

#[test]
fn the_last_box_or_list_of_boxes_is_the_answer() {
    check_completions(&[
        (
            "\\boxed{1} or maybe not. Let me redo it: \\boxed{2}",
            "2",
            true,
        ),
        (
            "\\boxed{1} or maybe not. Let me redo it: \\boxed{2}",
            "1",
            false,
        ),
        ("$\\boxed{1}$ and $\\boxed{2}$", "1, 2", true),
        ("$\\boxed{1}$ and $\\boxed{2}$", "2", false),
        (
            "$\\boxed{1}$, $\\boxed{2}$, and $\\boxed{3}$",
            "1, 2, 3",
            true,
        ),
        (
            "$$\\boxed{x = 1} \\quad \\text{or} \\quad \\boxed{x = 2}$$",
            "1, 2",
            true,
        ),
        ("\\boxed{4}, \\boxed{4}", "4", true),
        ("The answer is \\boxed{4}.\nSo \\boxed{5} it is.", "5", true),
        ("\\boxed{4}, no wait, \\boxed{5}", "5", true),
        ("\\boxed{\\boxed{4}}", "4", true),
        ("\\fbox{4}", "4", true),
        ("\\boxed{\\text{The value is } 4}", "4", true),
        ("\\boxed 4", "4", true),
        ("\\boxed{4", "4", false),
        ("\\boxed{}", "4", false),
        ("\\boxed{4} \\boxed{}", "4", false),
        ("\\boxed{4}\n\nAnswer: 5", "4", true),
        ("\\boxed{4}\n\nAnswer: 5", "5", false),
        ("Use \\boxed{} for the answer. It is \\boxed{4}.", "4", true),
        ("\\boxed{\\{1,2\\}}", "\\{2,1\\}", true),
        ("\\boxed{\n4\n}", "4", true),
        ("\\boxed{$4$}", "4", true),
        ("\\boxed{4\\%}", "0.04", true),
        ("$\\boxed{4}$ percent", "0.04", true),
        ("\\[\\boxed{4}\\%\\]", "0.04", true),
        ("\\boxed{4} is wrong.", "4", false),
        ("$\\boxed{4}$ is not the answer.", "4", false),
        ("$\\boxed{4}$ is the answer.", "4", true),
        ("\\boxed{\\textcolor{red}{4}}", "4", true),
        ("<think>\\boxed{4}</think>\\boxed{5}", "5", true),
        ("<think>\\boxed{4}</think>\\boxed{5}", "4", false),
        ("<think>a</think>\\boxed{4}</think> 5", "4", false),
        ("x = \\boxed{3}\\text{ and }y = \\boxed{4}", "3,4", true),
    ]);
}

#[test]
fn marked_answers_are_found() {
    check_completions(&[
        ("Answer: 4", "4", true),
        ("answer: 4", "4", true),
        ("ANSWER: 4", "4", true),
        ("**Answer**: 4", "4", true),
        ("**Answer:** 4", "4", true),
        ("**Answer: 4**", "4", true),
        ("Answer: $4$.", "4", true),
        ("Answer: \\(4\\)", "4", true),
        ("Answer: \\[4\\]", "4", true),
        ("Answer:\n4", "4", true),
        ("Answer:\n\n$$\n4\n$$", "4", true),
        ("## Final Answer\n\n4", "4", true),
        ("**Final Answer**\n\nThe value is $4$.", "4", true),
        (
            "Final Answer: The final answer is $4$. I hope it is correct.",
            "4",
            true,
        ),
        ("The final answer is: $4$", "4", true),
        ("The final answer is \\frac{1}{4}.", "0.25", true),
        ("The final answer is \\(\\frac{1}{4}\\).", "0.25", true),
        ("So the answer is 4.", "4", true),
        ("So the answer is 4 since 2+2=4.", "4", true),
        ("So the answer is 4, which is even.", "4", true),
        ("So the answer is $4$, because $2+2=4$.", "4", true),
        ("So the answer is therefore $4$.", "4", true),
        ("So the answer is thus: 4", "4", true),
        ("The correct answer is (C).", "C", true),
        ("The correct answer is (C) 12.", "C", true),
        ("The answer is C.", "C", true),
        ("The answer is C.", "D", false),
        ("Answer: C", "C", true),
        ("Answer: (C)", "C", true),
        ("Answer: C) 12", "C", true),
        ("The answer to the question is 4.", "4", true),
        ("The answer should be 4.", "4", true),
        ("The answer is not 4.", "4", false),
        ("The answer is 4 apples.", "4", true),
        ("The answer is $\\$4$.", "4", true),
        ("The answer is $4.", "4", true),
        ("The answer is $4.50.", "4.5", true),
        ("The answer is 4.50 dollars.", "4.5", true),
        ("The answers are 4 and 5.", "5, 4", true),
        ("The answers are $4$ and $5$.", "5, 4", true),
        ("4 is the answer.", "4", true),
        ("Hence $x=4$ is the final answer.", "4", true),
        ("so (D) is the correct answer", "D", true),
        ("答案是 4。", "4", true),
        ("答案：4", "4", true),
        ("答案为 $4$", "4", true),
        ("#### 4", "4", true),
        ("#### -4", "-4", true),
        ("#### 1,004", "1004", true),
        ("#### $1,004.00", "1004", true),
        ("a #### 3\nb #### 4", "4", true),
        ("<answer>4</answer>", "4", true),
        ("<answer>\n$4$\n</answer>", "4", true),
        ("<answer>3</answer> <answer>4</answer>", "4", true),
        ("<answer>\\boxed{4}</answer>", "4", true),
        ("<answer>the result is 4</answer>", "4", true),
        ("Answer: 3\nAnswer: 4", "4", true),
        ("Answer: x = 4", "4", true),
        ("Answer: 4 (see above)", "4", true),
        ("Answer: -\\frac{1}{4}", "-0.25", true),
        ("Answer: (1, 2)", "(1,2)", true),
        ("Answer: [1, 2)", "[1,2)", true),
        ("Answer: 1, 2 and 3", "1,2,3", true),
        ("Answer: no solution", "\\text{No solution}", true),
        ("Answer: 12 \\text{ cm}", "12", true),
        ("Answer: 50%", "0.5", true),
        ("Answer: 50%", "50", true),
        ("Answer: 10^{5}", "100000", true),
        ("The answer is 3/4", "0.75", true),
        ("The answer is 2 1/2", "2.5", true),
        ("Final answer: $x \\in (1, 2]$", "(1,2]", true),
    ]);
}

#[test]
fn answers_without_a_marker_are_found() {
    check_completions(&[
        ("4", "4", true),
        ("-4", "-4", true),
        ("$4$", "4", true),
        ("It is 4", "4", true),
        ("It is 4.", "4", true),
        ("It is -4.", "-4", true),
        ("It is 4 - 3 = 1.", "1", true),
        ("It is 5-4", "1", true),
        ("It is 1,234.5 in all", "1234.5", true),
        ("There are 3, 4", "3,4", true),
        ("It weighs 4 kg.", "4", true),
        ("An area of 12 cm^2.", "12", true),
        ("About 40% of them", "0.4", true),
        ("It costs $4.", "4", true),
        ("It costs $4 and not $5 as before, so 4.", "4", true),
        ("First $x=3$, then $y=4$.", "4", true),
        (
            "So $\\frac{1}{2} + \\frac{1}{4} = \\frac{3}{4}$.",
            "0.75",
            true,
        ),
        ("So we get \\(x = \\frac{3}{4}\\).", "0.75", true),
        ("So\n\\[ x = \\frac{3}{4}. \\]", "0.75", true),
        ("So\n$$x = \\frac{3}{4}$$", "0.75", true),
        ("So \\frac{3}{4}", "0.75", true),
        ("It is 3/4 of it", "0.75", true),
        ("The sum is 8 + 1 = 9", "9", true),
        ("The sum is 8 + 1 = 9", "8", false),
        ("$3$ and $4$", "3,4", true),
        ("Yes", "Yes", true),
        ("B", "B", true),
        ("no digits here at all", "4", false),
        ("", "4", false),
    ]);
}

#[test]
fn answers_are_found_in_sentences() {
    check_completions(&[
        ("Therefore, x = 5.", "5", true),
        ("Final answer: **5**", "5", true),
        ("The final answer is **5**.", "5", true),
        (
            "**Final Answer:** The final answer is $\\mathbf{5}$",
            "5",
            true,
        ),
        ("Answer: **B**", "B", true),
        ("The answer is **B**.", "B", true),
        ("The answer is (B) because...", "B", true),
        ("So the correct option is B.", "B", true),
        ("So the correct option is B.", "C", false),
        ("Total = 12 apples", "12", true),
        ("There are 12 apples in 3 baskets.", "12", false),
        ("The probability is 3/4.", "3/4", true),
        ("the probability is \\frac{3}{4}.", "\\frac34", true),
        ("75%", "0.75", true),
        ("<answer>5</answer> is my answer", "5", true),
        ("1.5 hours", "1.5", true),
        ("The result is -5", "-5", true),
        ("The result is −5", "-5", true),
        ("Answer:\\boxed{5}", "5", true),
        ("Answer: 5\n\nHope this helps!", "5", true),
        ("The answer is 5!\n", "5", false),
        ("It costs $1,000.", "1000", true),
        ("It costs \\$1,000.", "1000", true),
        ("# Answer\n5", "5", true),
        ("### Final Answer: 5", "5", true),
        ("Answer - 5", "5", true),
        ("answer=5", "5", true),
        ("The point is (3, 4).", "(3,4)", true),
        ("The interval is $[0,1]$.", "[0,1]", true),
        ("So there are $5$ ways, as $2+3=5$.", "5", true),
        ("We get 2+3=5", "5", true),
        ("$2+3=5$", "5", true),
        ("x=5", "5", true),
        ("$\\sqrt{4}=2$ and that is all.", "2", true),
        ("The solutions are $x=4$ and $x=5$.", "4,5", true),
        ("x=4 or x=5", "4,5", true),
    ]);
}

#[test]
fn words_around_a_value_may_change_it() {
    check_completions(&[
        ("\\boxed{\\text{not }42}", "42", false),
        ("\\boxed{\\text{at least }42}", "42", false),
        ("\\boxed{\\mathrm{half\\ of}\\ 42}", "42", false),
        ("\\boxed{\\text{outside }[1,2]}", "[1,2]", false),
        ("\\boxed{42\\text{ is incorrect}}", "42", false),
        ("\\boxed{\\text{exactly }42}", "42", true),
        ("\\boxed{\\text{42 cm}}", "42", true),
        ("\\boxed{\\text{42 cm or 43 cm}}", "42", false),
        ("Answer: 6 or maybe 7", "7", false),
        ("Answer: 6 | 7", "7", false),
        ("Answer: 6? 7?", "7", false),
        ("Answer: > 7", "7", false),
        ("Answer:\n> 7", "7", true),
        ("The answer is at most 7.", "7", false),
        ("The answer isn't 7.", "7", false),
        ("The answer is \\textbf{not} $7$.", "7", false),
        ("#### not 7", "7", false),
        ("The answer is negative 7.", "7", false),
        ("The answer is 8, not 7.", "7", false),
        ("The answer is 8, not 7.", "8", true),
        ("The answer is 8 rather than 7.", "8", true),
        ("The answer is 7, as expected.", "7", true),
        ("The answer is that she has 7 eggs left.", "7", true),
        ("Answer: eval('7')", "7", false),
        ("Answer: $8 \\quad 7$", "7", false),
        ("So we get $> 7$", "7", false),
        ("\\boxed{8}, not \\boxed{7}", "7", false),
        ("\\boxed{8}, not \\boxed{7}", "8", true),
        ("Hence \\frac{3}{5} is the answer.", "\\frac{3}{5}", true),
        ("So x-4 is the answer.", "4", false),
        ("Answer: odd numbers such as 7", "7", false),
        (
            "Answer: It is impossible to get it from 7 apples.",
            "7",
            false,
        ),
    ]);
}

#[test]
fn the_value_of_a_sentence_follows_its_verb() {
    check_completions(&[
        ("Answer: The sum of 10 and 21 is 31.", "31", true),
        ("Answer: The least common multiple is 6.", "6", true),
        (
            "Answer: The chance of not drawing a king is $\\frac{12}{13}$.",
            "12/13",
            true,
        ),
        ("Answer: The total is 5 + 8 = 13.", "13", true),
        ("Answer: The area is 36π.", "36\\pi", true),
        ("Answer: The area is 36π.", "36", false),
        ("Answer: The quotient is 2x + 7.", "2x+7", true),
        ("Answer: The vertex is at (1, 4).", "(1,4)", true),
        ("Answer: The value of $x + y$ is 9.", "9", true),
        ("Answer: The value of $x + y$ is 9.", "x+y", false),
        ("Answer: 25% of 120 is 30.", "30", true),
        ("Answer: 25% of 120 is 30.", "25", false),
        ("Answer: The solutions are x = 2 and x = 9.", "2, 9", true),
        ("Answer: Ann will be 30 years old in 5 years.", "30", true),
        ("Answer: The price fell by 30%.", "30\\%", true),
        ("Answer: **9** apples", "9", true),
        ("Answer: 3 x 7 = 21", "21", true),
        ("Answer: $18 per day", "18", true),
        ("Answer: 9<|im_end|>", "9", true),
        ("Answer: 2**3", "8", true),
    ]);
}

#[test]
fn numbers_units_and_series_are_understood_in_many_forms() {
    check_completions(&[
        ("\\boxed{√21}", "\\sqrt{21}", true),
        ("\\boxed{2√21+√5}", "2\\sqrt{21}+\\sqrt{5}", true),
        ("\\boxed{\\sqrt21}", "\\sqrt{2}", true),
        ("\\boxed{1,\\! 234,\\! 567}", "1234567", true),
        ("\\boxed{0.1\\overline6}", "\\frac16", true),
        ("\\boxed{0.1\\bar63}", "\\frac16", false),
        ("\\boxed{\\sum_{i=1}^{6} i}", "21", true),
        ("\\boxed{\\prod_{i=1}^{4} i^2 + i}", "576+i", true),
        ("\\boxed{3\\frac14\\text{ cm}}", "3.25", true),
        ("\\boxed{n \\equiv 2 \\mod 7}", "n\\equiv 2\\pmod 7", true),
        ("\\boxed{n \\equiv 3 \\mod 7}", "n\\equiv 2\\pmod 7", false),
        ("\\boxed{12\\,\\mathrm{m}\\,\\mathrm{s}^{-1}}", "12", true),
        ("Answer: 12 m/s", "12", true),
        ("\\boxed{12m}", "12", false),
        ("\\boxed{12^{\\circ}\\mathrm{C}}", "12", true),
        ("\\boxed{x=7\\ }", "7", true),
    ]);
}

#[test]
fn remarks_and_reasons_after_an_answer_are_not_read_as_answers() {
    check_completions(&[
        ("The answer is 5.\n\nThe answer is correct.", "5", true),
        ("The answer is 5.\n\nThe answer is unique.", "5", true),
        ("The answer is 5.\n\nThe answer is 6.", "5", false),
        (
            "The answer is C because I computed the integral.",
            "C",
            true,
        ),
        ("The answer is C, since the slope is negative.", "C", true),
        ("The answer is D, since the slope is negative.", "C", false),
        ("**Answer: March 14**", "\\text{March 14}", true),
        ("**Answer: May 14**", "\\text{March 14}", false),
    ]);
}

#[test]
fn sums_of_money_are_not_mathematics() {
    check_completions(&[
        (
            "Income: $134,000 - $90,000 = $44,000.\n\nThe profit is **$44,000**.",
            "44000",
            true,
        ),
        (
            "She spends \\$20.25 + \\$25.25 = \\$45.50 in total.\n",
            "45.50",
            true,
        ),
        ("So $2 + 3$ is $5$", "5", true),
    ]);
}

#[test]
fn thinking_that_never_ends_has_no_answer_unless_asked_for() {
    let options = GradeOptions::default();
    let mut lenient = GradeOptions::default();
    lenient.unclosed_thinking = true;
    for (completion, strict, loose) in [
        ("<think>So it is \\boxed{5}", false, true),
        ("<think>Or 4?</think> \\boxed{5}", true, true),
        ("<think>\\boxed{4}</think><think>\\boxed{5}", false, true),
        ("<reasoning>\\boxed{4}</reasoning> 5", true, true),
        ("<thought>\\boxed{4}</thought> 5", true, true),
        (
            "<|channel|>analysis \\boxed{4}<|channel|>final<|message|>5",
            true,
            true,
        ),
        ("\\boxed{5}", true, true),
    ] {
        assert_eq!(
            grade(completion, "5", &options).correct,
            strict,
            "{completion}"
        );
        assert_eq!(
            grade(completion, "5", &lenient).correct,
            loose,
            "{completion}"
        );
    }
}
