//! Words, choices, names and units beside a value. Each row: gold answer, boxed answer, whether they are equal.

use crate::check_boxed;

#[test]
fn units_words_and_layout_do_not_matter() {
    check_boxed(&[
        ("30", "30\\text{ cm}", true),
        ("30", "30\\,\\mathrm{cm}", true),
        ("30", "30 cm", true),
        ("30", "30cm", true),
        ("30", "30\\text{ in}^2", true),
        ("30", "30\\ \\text{square inches}", true),
        ("30", "30^\\circ", true),
        ("30^\\circ", "30", true),
        ("30", "30°", true),
        ("30", "30 degrees", true),
        ("30", "30\\text{ m/s}", true),
        ("30", "30 \\frac{\\text{m}}{\\text{s}}", true),
        ("30", "30\\text{ km}/\\text{h}", true),
        ("30 \\text{ mph}", "30", true),
        ("30", "30 miles per hour", true),
        ("30", "30 apples", true),
        ("30", "\\text{30}", true),
        ("30", "\\mathbf{30}", true),
        ("30", "30^{\\text{th}}", true),
        ("30", "30^{th}", true),
        ("30", "5 \\text{ hours } 30 \\text{ minutes}", false),
        ("30", "\\text{30 or 31}", false),
        ("30", "\\text{The answer is } 30", true),
        ("30", "x = 30\\text{ cm}", true),
        ("30", "\\left(30\\right)", true),
        ("30", "{30}", true),
        ("30", "\\displaystyle 30", true),
        ("30", "30\\,", true),
        ("30", "30.", true),
        ("30", "30x", false),
        ("30", "\\$30", true),
        ("30", "\\approx 30", true),
        ("\\frac{1}{2}", "\\left(\\frac{1}{2}\\right)", true),
        ("(1, 2)", "\\left( 1, 2 \\right)", true),
        ("(1,2)", "\\bigl(1,\\,2\\bigr)", true),
    ]);
}

#[test]
fn currencies_rates_and_products_of_units_are_dropped() {
    check_boxed(&[
        ("18", "\\$18/\\text{day}", true),
        ("18", "18/hour", true),
        ("18", "17/hour", false),
        ("18", "36/2", true),
        ("5", "USD 5", true),
        ("5", "US\\$5", true),
        ("5", "Rs. 5", true),
        ("5", "Rs. 6", false),
        ("5", "5\\ \\mathrm{kg \\cdot m/s}", true),
        ("5", "5\\,\\mathrm{kg\\,m^2/s^2}", true),
        ("5", "5\\mathrm{mc^2}", false),
        ("3", "3\\,\\mu\\mathrm{m}", true),
        ("3\\mu", "3\\mu", true),
        ("3\\mu", "3", false),
    ]);
}

#[test]
fn the_letter_of_a_choice_before_its_value_is_dropped() {
    check_boxed(&[
        ("5", "(B) 5", true),
        ("5", "\\mathrm{(B)}~5", true),
        ("5", "(B) 6", false),
        ("3x", "(B)\\ 3x", true),
        ("5", "(A) 6 (B) 5", false),
        ("5", "(A) 5, (B) 6", false),
        ("B", "(A) B", false),
        ("5B", "(B)5", true),
    ]);
}

#[test]
fn opposite_words_at_the_same_value_are_not_equal() {
    check_boxed(&[
        (
            "\\text{increasing on }(0,1)",
            "\\text{decreasing on }(0,1)",
            false,
        ),
        (
            "\\text{increasing on }(0,1)",
            "\\text{increasing on }(0,1)",
            true,
        ),
        ("\\text{maximum at }x=2", "\\text{minimum at }x=2", false),
        ("\\text{maximum at }x=2", "x=2", true),
        ("4:15 PM", "4:15 AM", false),
        ("4:15 PM", "4:15 p.m.", true),
        ("4:15 AM", "4:15 p.m.", false),
        ("4:15", "4:15 PM", true),
        ("4:15", "4:16 PM", false),
    ]);
}

#[test]
fn words_and_choices_are_compared_by_their_letters() {
    check_boxed(&[
        ("\\mathbb{\\mu}hello", "\\mathbb{\\mu}hello", true),
        ("\\mathbb{\\mu}hello", "\\mathbb{\\nu}hello", false),
        ("\\text{Yes}", "yes", true),
        ("Yes", "\\text{YES}", true),
        ("Yes", "\\text{Yes.}", true),
        ("Yes", "No", false),
        ("\\text{even}", "even", true),
        ("\\text{even}", "\\text{odd}", false),
        ("No solution", "\\text{no solution}", true),
        ("\\text{Monday}", "\\textbf{Monday}", true),
        ("B", "(B)", true),
        ("B", "\\text{B}", true),
        ("B", "\\textbf{(B)}", true),
        ("B", "\\text{(B)}", true),
        ("(B)", "B", true),
        ("B", "b", true),
        ("B", "B.", true),
        ("B", "\\textbf{(B)}\\ 12", true),
        ("B", "C", false),
        ("B", "(A)", false),
        ("B", "BC", false),
        ("\\text{B and C}", "C, B", true),
        ("B", "\\text{B, C}", false),
        ("B", "\\text{B or C}", false),
        ("E", "\\sqrt{e}", false),
        ("B", "\\hat{B}", false),
        ("B", "A, B", false),
        ("B", "(A) or (B)", false),
        ("B", "2B", false),
        ("\\text{(C)}", "C", true),
        ("x \\equiv 2 \\pmod{5}", "x \\equiv 7 \\pmod 5", true),
        ("x \\equiv 2 \\pmod{5}", "x \\equiv 2 \\pmod 7", false),
        (
            "x \\equiv 2 \\pmod{5}",
            "x \\equiv 2 \\ (\\text{mod } 5)",
            true,
        ),
        ("x \\equiv 2 \\pmod{5}", "2 \\pmod 5", true),
        ("3:45", "3:45", true),
    ]);
}

#[test]
fn marks_on_a_variable_make_another_one() {
    check_boxed(&[
        ("y''", "y''", true),
        ("y''", "y^{\\prime\\prime}", true),
        ("y''", "y'", false),
        ("y'", "y", false),
        ("f'(2)", "f(2)", false),
        ("f'(x)", "f^{\\prime}(x)", true),
        ("P(A')", "P(A)", false),
        ("\\bar{x}", "x", false),
        ("\\bar{x}", "\\overline{x}", true),
        ("\\overline{abc}", "abc", false),
        ("\\hat{x}", "\\vec{x}", false),
        ("\\tilde{x}", "\\hat{x}", false),
        ("\\overrightarrow{AB}", "\\vec{AB}", true),
        ("30^\\circ 15'", "30^\\circ 15'", true),
        ("3 - 4i", "\\overline{3+4i}", true),
    ]);
}

#[test]
fn names_of_functions_and_operators_count() {
    check_boxed(&[
        ("\\operatorname{Re}(z)", "\\operatorname{Im}(z)", false),
        ("\\operatorname{Re}(z)", "\\Re(z)", true),
        ("\\operatorname{rank}(A)", "\\operatorname{rank} A", true),
        ("\\operatorname{rank}(A)", "A", false),
        ("\\text{Re}(z)", "z", false),
        ("\\operatorname{Var}(X)", "\\text{Var}(X)", true),
        ("\\text{sin}(x)", "x", false),
        ("\\text{sin}(x)", "\\sin x", true),
        ("\\text{The point is } (1,2)", "(1,2)", true),
        ("5 \\operatorname{cm}", "5", true),
        ("p \\land q", "p \\lor q", false),
        ("p \\land q", "q \\wedge p", true),
        ("(p \\lor q) \\land r", "r \\land (q \\lor p)", true),
        ("(p \\lor q) \\land r", "(p \\land q) \\lor r", false),
        ("x<1 \\lor x>2", "(-\\infty,1)\\cup(2,\\infty)", true),
        ("\\vec{a}\\times\\vec{b}", "\\vec{a}\\cdot\\vec{b}", false),
        ("\\vec{a}\\times\\vec{b}", "\\vec{b}\\times\\vec{a}", false),
        ("\\vec{a}\\times\\vec{b}", "-\\vec{b}\\times\\vec{a}", true),
        (
            "\\mathbf{a}\\times\\mathbf{b}",
            "\\mathbf{b}\\times\\mathbf{a}",
            false,
        ),
        ("\\vec{a}\\cdot\\vec{b}", "\\vec{b}\\cdot\\vec{a}", true),
        ("f\\circ g", "g\\circ f", false),
        ("f \\circ g", "f\\circ g", true),
        ("x \\not= 2", "x \\ne 2", true),
        ("25^\\circ", "25℃", true),
    ]);
}

#[test]
fn an_equation_that_names_a_quantity_is_its_value() {
    check_boxed(&[
        ("109", "m+n=109", true),
        ("109", "m+n=108", false),
        ("6", "\\sum_{i=1}^3 i = 6", true),
        ("7", "\\sum_{i=1}^3 i = 7", false),
        ("12", "xy = 12", true),
        ("0.4", "P(X = 2) = 0.4", true),
        ("3/5", "\\sin A = \\frac35", true),
        ("5", "|\\vec{v}| = 5", true),
        ("3", "f'(2) = 3", true),
        ("1/3", "\\int_0^1 x^2\\,dx = \\frac13", true),
        ("1/3", "\\int_0^1 x^2\\,dx = \\frac14", false),
        ("2x", "f'(x) = 2x", true),
        ("2x", "\\frac{dy}{dx} = 2x", true),
        ("\\frac{dy}{dx} = 2x", "2x", true),
        ("y' = 2x", "2x", true),
        ("x+1", "\\frac{x^2-1}{x-1} = x+1", true),
        ("x+1", "x-1 = x+1", false),
        ("11", "10 = 11", false),
        ("x+y=7", "7", false),
        (
            "\\langle 2,-1,4\\rangle",
            "2\\mathbf{i}-\\mathbf{j}+4\\mathbf{k}",
            true,
        ),
        (
            "\\langle 2,-1,4\\rangle",
            "2\\hat{i}+\\hat{j}+4\\hat{k}",
            false,
        ),
        ("3\\mathbf{i}+\\mathbf{j}", "(3, 1)", true),
        ("3\\mathbf{i}+\\mathbf{k}", "(3, 1)", false),
        ("\\begin{pmatrix}2\\\\-1\\end{pmatrix}", "(2,-1)^T", true),
    ]);
}

#[test]
fn words_before_a_number_count_where_they_differ() {
    check_boxed(&[
        ("\\text{March } 14", "\\text{March } 14", true),
        ("\\text{March } 14", "\\text{May } 14", false),
        ("14 \\text{ March}", "14 \\text{ May}", false),
        ("\\text{March 14}", "March 14", true),
        ("\\text{gain of } 10", "\\text{loss of } 10", false),
        ("\\text{gain of } 10", "10", true),
        ("\\text{Alice wins by } 5", "\\text{Bob wins by } 5", false),
        ("\\text{row } 3", "\\text{column } 3", false),
        ("\\text{The area is } 5", "\\text{The answer is } 5", true),
        ("5", "\\text{The answer is } 5", true),
        ("\\$5", "USD 5", true),
    ]);
}

#[test]
fn text_that_repeats_the_gold_answer_is_right() {
    check_boxed(&[
        ("X\\sim N(0,1)", "X \\sim N(0, 1)", true),
        ("X\\sim N(0,1)", "X \\sim N(0, 2)", false),
        ("x \\mapsto x^2", "x\\mapsto x^2", true),
        (
            "\\triangle ABC \\sim \\triangle DEF",
            "\\triangle ABC\\sim\\triangle DEF",
            true,
        ),
        ("x^3 - 3x + 2 = (x-1)^2(x+2)", "x^3-3x+2=(x-1)^2(x+2)", true),
        (
            "\\sum_{n=0}^\\infty \\frac{x^n}{n!}",
            "\\sum_{n=0}^{\\infty}\\dfrac{x^n}{n!}",
            true,
        ),
        (
            "\\sum_{n=0}^\\infty \\frac{x^n}{n!}",
            "\\sum_{n=0}^\\infty\\dfrac{x^n}{n!}",
            true,
        ),
        ("\\sum_{k=1}^n \\frac{1}{k}", "\\sum_{i=1}^n \\frac1i", true),
        (
            "\\sum_{k=1}^n \\frac{1}{k}",
            "\\sum_{i=1}^n \\frac1n",
            false,
        ),
        ("\\gcd(a,b)", "\\gcd(b,a)", true),
        ("\\frac{0}{0}", "\\frac{0}{0}", false),
        ("a \\heartsuit b", "a\\heartsuit b", true),
    ]);
}

#[test]
fn units_in_upright_letters_are_dropped_however_they_are_joined() {
    check_boxed(&[
        ("300", "300\\ \\mathrm{kg}\\cdot\\mathrm{m}^{-3}", true),
        ("300", "300\\,\\mu\\text{m}", true),
        (
            "1.6\\times10^{-19}",
            "1.6 \\times 10^{-19} \\mathrm{~C}",
            true,
        ),
        ("9.8", "9.8\\ \\mathrm{m}\\cdot\\mathrm{s}^{-2}", true),
        ("9.8", "9.9\\ \\mathrm{m}\\cdot\\mathrm{s}^{-2}", false),
        ("7", "There are 7 ways.", true),
        ("7", "\\text{There are 7 ways}", true),
        ("7", "\\text{There are at least 7 ways}", false),
        ("7", "Answer: 7", true),
    ]);
}
