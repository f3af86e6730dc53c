//! Answers in running text. Each row: completion, gold answer, whether it is right.

use crate::check_completions;

#[test]
fn words_before_mathematics_change_it_as_they_change_a_number() {
    check_completions(&[
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
        ("Answer: 7 squared", "7", false),
        ("\\boxed{7 \\text{ squared}}", "7", false),
        ("Answer: 7 more apples", "7", true),
        ("Answer: 7 square metres", "7", true),
        ("Answer: 7+", "7", false),
        ("The answer is exactly $8$.", "8", true),
        ("Answer: approximately $8$", "8", true),
    ]);
}

#[test]
fn of_two_values_the_rejected_one_is_no_answer() {
    check_completions(&[
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
    check_completions(&[
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
    check_completions(&[
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
    check_completions(&[
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
    check_completions(&[
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
    check_completions(&[
        ("Answer: 36π ✓", "36\\pi", true),
        ("Answer: 4 and 5 🎉", "4,5", true),
        ("Answer: (1,2)</s>", "(1,2)", true),
        ("Answer: B</s>", "B", true),
        ("Answer: x^2+1<|im_end|>", "x^2+1", true),
        ("Answer: approx. 8 cm", "8", true),
    ]);
}

#[test]
fn what_nobody_sees_is_no_answer() {
    check_completions(&[
        ("\\boxed{6} <!-- \\boxed{7} -->", "7", false),
        ("\\boxed{6} <!-- \\boxed{7} -->", "6", true),
        ("<!-- \\boxed{7} -->", "7", false),
        ("The answer is 6. <!-- answer: 7 -->", "7", false),
        ("The answer is 6. <!-- answer: 7", "6", true),
        ("<!-- a --> 6 <!-- b --> apples", "6", true),
        ("% \\boxed{7}\nI do not know.", "7", false),
        ("It is 60 % \\boxed{60}", "60", true),
    ]);
}

#[test]
fn an_answer_that_is_denied_is_none() {
    check_completions(&[
        ("7 is not the answer.", "7", false),
        ("7 cannot be the answer.", "7", false),
        ("7 is the wrong answer.", "7", false),
        ("7 is the right answer.", "7", true),
        (
            "The answer is 8. Note that 7 is the wrong answer.",
            "8",
            true,
        ),
        ("It is false that the answer is 7.", "7", false),
        ("The area is 7. We cannot simplify the answer.", "7", true),
        ("The answer does not exist. 7", "7", false),
        ("Answer: ¬7", "7", false),
        ("\\boxed{\\text{The area under the curve is } 7}", "7", true),
        ("The profit over 3 years is 7.", "7", true),
        ("It is not true that the answer is 7.", "7", false),
        ("It is not hard to see that the answer is 7.", "7", true),
        ("The answer isn't 8 but 7.", "7", true),
        ("The answer isn't 8 but 7.", "8", false),
        ("It is not 7.", "7", false),
        ("x is not equal to 7.", "7", false),
        ("Answer: under 7", "7", false),
        ("Answer: 7 at the most", "7", false),
        ("Answer: 7 at the end", "7", true),
        ("\\boxed{\\text{a number near } 7}", "7", false),
        ("We know that the answer is 7.", "7", true),
        (
            "The text mentions 7 apples. I don't know the answer.",
            "7",
            false,
        ),
        ("\\boxed{7}? No, that is wrong.", "7", false),
        ("\\boxed{7}\n\nActually, that's wrong.", "7", false),
        ("\\boxed{7} -- this is incorrect.", "7", false),
        ("\\boxed{7}, not correct", "7", false),
        ("\\boxed{7}. This is correct.", "7", true),
        ("\\boxed{7}. That is not 8.", "7", true),
        (
            "\\boxed{7}\n\nThis is the correct answer, and 8 is not.",
            "7",
            true,
        ),
    ]);
}

#[test]
fn what_follows_a_statement_is_not_part_of_it() {
    check_completions(&[
        ("The minimum value is −4, attained at x = 1.", "-4", true),
        ("The minimum value is −4, attained at x = 1.", "1", false),
        ("The answer is 42, obtained by adding 40 and 2.", "42", true),
        (
            "The answer is 43, while 42 would be too small.",
            "42",
            false,
        ),
        (
            "\\boxed{\\text{The minimum is } 4 \\text{ at } x=1}",
            "4",
            true,
        ),
        (
            "\\boxed{\\text{The minimum is } 4 \\text{ at } x=1}",
            "1",
            false,
        ),
        ("The number is 10 which is 1000 m.", "1000", true),
        ("The distance is sqrt(2).", "\\sqrt2", true),
        ("The distance is sqrt(2).", "2", false),
        ("The value is sin(2).", "\\sin 2", true),
        ("Answer:\n\n$$\\{2,1\\}$$", "\\{1,2\\}", true),
        ("$x_1=\\boxed{2},\\quad x_2=\\boxed{3}$", "2,3", true),
        ("$x_1=\\boxed{2},\\quad x_2=\\boxed{3}$", "2", false),
    ]);
}

#[test]
fn a_verdict_may_go_on() {
    check_completions(&[
        ("\\boxed{\\text{No, it is not prime}}", "No", true),
        ("\\boxed{\\text{No, because } 9=3\\cdot 3}", "No", true),
        ("\\boxed{\\text{Yes, it converges}}", "\\text{Yes}", true),
        ("\\boxed{\\text{Yes, it converges}}", "\\text{No}", false),
        ("\\boxed{\\text{Yes, no}}", "\\text{Yes}", false),
        ("\\boxed{\\text{True, or false}}", "\\text{True}", false),
        ("\\boxed{No} and \\boxed{77}", "No", false),
        ("The answer is Yes, it is a square.", "\\text{Yes}", true),
        ("Answer: No, 91 = 7*13.", "\\text{No}", true),
        ("Answer: 42 at x = 1", "42", true),
        ("The speed is 42 at time t = 3.", "42", true),
        ("The speed is 42 at time t = 3.", "3", false),
        ("Final answer: B - the mean", "B", true),
        ("Final answer: B - the mean", "A", false),
        ("\\boxed{B - 1}", "B-1", true),
        ("\\boxed{5 \\text{; the expected answer is 4}}", "4", false),
    ]);
}
