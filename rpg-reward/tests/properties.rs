//! Properties of equality on generated expressions.

use proptest::prelude::*;
use rpg_reward::{GradeOptions, grade};

fn equal(gold: &str, answer: &str) -> bool {
    grade(
        &format!("\\boxed{{{answer}}}"),
        gold,
        &GradeOptions::default(),
    )
    .correct
}

/// Numbers as they occur in answers.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (0i64..100_000).prop_map(|n| n.to_string()),
        (1i64..500, 2i64..500).prop_map(|(a, b)| format!("\\frac{{{a}}}{{{b}}}")),
        (1i64..300, 1u32..1000).prop_map(|(a, b)| format!("{a}.{b}")),
        (2i64..60).prop_map(|n| format!("\\sqrt{{{n}}}")),
        Just("\\pi".to_string()),
    ]
}

/// Expressions, some with variables, that all have a value.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => number(),
        2 => prop_oneof![Just("x"), Just("y"), Just("n"), Just("\\theta")].prop_map(String::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}+{b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}-\\left({b}\\right)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})\\cdot({b})")),
            (inner.clone(), number()).prop_map(|(a, b)| format!("\\frac{{{a}}}{{{b}+1}}")),
            (inner.clone(), 2u32..4).prop_map(|(a, n)| format!("({a})^{{{n}}}")),
            inner.clone().prop_map(|a| format!("\\sin({a})")),
            inner.prop_map(|a| format!("\\sqrt{{({a})^2+1}}")),
        ]
    })
}

/// Answers of any kind.
fn answer() -> impl Strategy<Value = String> {
    let list = prop::collection::vec(expression(), 2..4).boxed();
    prop_oneof![
        4 => expression(),
        1 => list.clone().prop_map(|v| format!("({})", v.join(", "))),
        1 => list.clone().prop_map(|v| format!("\\{{{}\\}}", v.join(", "))),
        1 => list.prop_map(|v| v.join(", ")),
        1 => expression().prop_map(|e| format!("z = {e}")),
        1 => (0i64..50, 51i64..99).prop_map(|(a, b)| format!("[{a}, {b})")),
        1 => (0i64..50).prop_map(|a| format!("x > {a}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equality_is_reflexive(a in answer()) {
        prop_assert!(equal(&a, &a), "{a}");
    }

    #[test]
    fn equality_is_symmetric_for_expressions(a in expression(), b in expression()) {
        prop_assert_eq!(equal(&a, &b), equal(&b, &a), "{} {}", a, b);
    }

    #[test]
    fn a_product_equals_itself_with_its_factors_swapped(a in expression(), b in expression()) {
        let (left, right) = (format!("({a})({b})"), format!("({b})({a})"));
        prop_assert!(equal(&left, &right), "{left}");
        prop_assert!(equal(&right, &left), "{right}");
    }

    #[test]
    fn layout_does_not_matter(a in answer()) {
        let spaced = a.replace(',', " , ").replace('+', " +\\, ");
        prop_assert!(equal(&a, &spaced), "{spaced}");
        let sized = a.replace("\\left(", "\\big(").replace("\\right)", "\\big)");
        prop_assert!(equal(&a, &sized), "{sized}");
        let display = a.replace("\\frac", "\\dfrac");
        prop_assert!(equal(&a, &display), "{display}");
        prop_assert!(equal(&a, &format!("\\displaystyle {a}")), "{a}");
        prop_assert!(equal(&a, &format!("$ {a} $")), "{a}");
    }

    #[test]
    fn redundant_braces_do_not_matter(a in expression()) {
        prop_assert!(equal(&a, &format!("{{{a}}}")), "{a}");
        prop_assert!(equal(&a, &format!("\\left({a}\\right)")), "{a}");
    }

    #[test]
    fn a_changed_digit_is_never_equal(number in "[1-9][0-9]{0,24}(\\.[0-9]{1,12})?", place in 0usize..40, by in 1u8..10) {
        let digits: Vec<usize> =
            number.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
        let digit = digits[place % digits.len()];
        let mut changed = number.clone().into_bytes();
        changed[digit] = b'0' + (changed[digit] - b'0' + by) % 10;
        let changed = String::from_utf8(changed).expect("digits");
        prop_assert!(!equal(&number, &changed), "{number} {changed}");
        let whole = number.split('.').next().expect("a whole part");
        let other = changed.split('.').next().expect("a whole part");
        if whole != other {
            for form in ["\\sqrt{#}", "\\ln #+\\pi", "\\frac{1}{#}", "x^2+#", "\\sin(x)+10^{-7}#"] {
                let (a, b) = (form.replace('#', whole), form.replace('#', other));
                prop_assert!(!equal(&a, &b), "{a} {b}");
            }
        }
    }

    #[test]
    fn one_more_is_never_equal(a in expression()) {
        prop_assert!(!equal(&a, &format!("{a}+1")), "{a}");
        let next = a.clone() + "+10^{-40}";
        // A decimal may be a rounded value.
        prop_assert!(a.contains('.') || !equal(&a, &next), "{a}");
    }

    #[test]
    fn no_text_makes_the_grader_panic(text in "[\\\\{}()$a-z0-9^_+=<>|,.:;!% \n*/&-]{0,120}") {
        let options = GradeOptions::default();
        let _ = grade(&text, "1", &options);
        let _ = grade(&format!("\\boxed{{{text}}}"), &text, &options);
        let _ = grade(&format!("The answer is {text}"), "\\frac12", &options);
    }

    #[test]
    fn no_unicode_makes_the_grader_panic(text in "\\PC{0,60}") {
        let options = GradeOptions::default();
        let _ = grade(&text, "1", &options);
        let _ = grade(&format!("Answer: {text}"), &text, &options);
    }
}
