//! What names, conditions and parameters stand for. Each row: gold answer, boxed answer, whether they are equal.

use crate::check_boxed;

#[test]
fn the_letter_of_a_parameter_does_not_matter() {
    check_boxed(&[
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=n\\pi, n\\in\\mathbb{N}",
            false,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=-n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=2n\\pi, n\\in\\mathbb{Z}",
            false,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=\\pi+n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=\\frac\\pi2+n\\pi, n\\in\\mathbb{Z}",
            false,
        ),
        (
            "x=\\frac\\pi4+k\\pi, k\\in\\mathbb{Z}",
            "x=-\\frac{3\\pi}4+n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=\\frac\\pi4+k\\pi, k\\in\\mathbb{Z}",
            "\\left\\{\\frac{\\pi}4+n\\pi \\mid n\\in\\mathbb{Z}\\right\\}",
            true,
        ),
        (
            "x=\\frac\\pi4+k\\pi, k\\in\\mathbb{Z}",
            "\\frac{\\pi}4+n\\pi \\text{ where } n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=\\frac\\pi4+k\\pi, k\\in\\mathbb{Z}",
            "x=\\frac{\\pi}4+n\\pi \\ (n\\in\\mathbb{Z})",
            true,
        ),
        (
            "x=\\pm\\frac\\pi3+2k\\pi, k\\in\\mathbb{Z}",
            "x=\\pm\\frac\\pi3+2n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=\\pm\\frac\\pi3+2k\\pi, k\\in\\mathbb{Z}",
            "x=\\frac\\pi3+2n\\pi, n\\in\\mathbb{Z}",
            false,
        ),
        (
            "x=\\pm\\frac\\pi3+2k\\pi, k\\in\\mathbb{Z}",
            "x=\\frac\\pi3+2n\\pi \\text{ or } x=-\\frac\\pi3+2n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=2k, y=3k, k\\in\\mathbb{Z}",
            "x=2n, y=3n, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=2k, y=3k, k\\in\\mathbb{Z}",
            "x=3n, y=2n, n\\in\\mathbb{Z}",
            false,
        ),
        (
            "(x,y)=(2k,3k), k\\in\\mathbb{Z}",
            "(2n,3n), n\\in\\mathbb{Z}",
            true,
        ),
        (
            "(x,y)=(2k,3k), k\\in\\mathbb{Z}",
            "(3n,2n), n\\in\\mathbb{Z}",
            false,
        ),
        (
            "\\{2k \\mid k\\in\\mathbb{Z}\\}",
            "\\{2n \\mid n\\in\\mathbb{Z}\\}",
            true,
        ),
        (
            "\\{2k+1 \\mid k\\in\\mathbb{Z}\\}",
            "\\{2n-1 \\mid n\\in\\mathbb{Z}\\}",
            true,
        ),
        (
            "\\{2k+1 \\mid k\\in\\mathbb{N}\\}",
            "\\{2n-1 \\mid n\\in\\mathbb{N}\\}",
            false,
        ),
        (
            "\\{2k+1 \\mid k\\in\\mathbb{Z}\\}",
            "\\{2n \\mid n\\in\\mathbb{Z}\\}",
            false,
        ),
        (
            "\\{k^2 \\mid k\\in\\mathbb{Z}\\}",
            "\\{n^2 \\mid n\\in\\mathbb{Z}\\}",
            true,
        ),
        (
            "\\{k^2 \\mid k\\in\\mathbb{Z}\\}",
            "\\{k \\mid k\\in\\mathbb{Z}\\}",
            false,
        ),
        (
            "2k\\pi<x<\\pi+2k\\pi, k\\in\\mathbb{Z}",
            "2n\\pi<x<\\pi+2n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "2k\\pi<x<\\pi+2k\\pi, k\\in\\mathbb{Z}",
            "2k\\pi<x<\\pi+2k\\pi, k\\in\\mathbb{Z}",
            true,
        ),
        (
            "2k\\pi<x<\\pi+2k\\pi, k\\in\\mathbb{Z}",
            "2k\\pi<x<2\\pi+2k\\pi, k\\in\\mathbb{Z}",
            false,
        ),
    ]);
}

#[test]
fn the_letters_of_arguments_do_not_matter() {
    check_boxed(&[
        ("f(x)=x^2", "f(t)=t^2", true),
        ("f(x)=x^2", "f(t)=x^2", false),
        ("f(x)=2x", "f(t)=t+x", false),
        ("f(x,y)=x-y", "f(a,b)=a-b", true),
        ("f(x,y)=x-y", "f(a,b)=b-a", false),
        ("f(x,y)=x-y", "f(y,x)=y-x", true),
    ]);
}

#[test]
fn limits_and_extremes_may_name_a_quantity() {
    check_boxed(&[
        ("3", "\\lim_{x\\to 0} f(x) = 3", true),
        ("4", "\\lim_{x\\to 0} f(x) = 3", false),
        ("\\lim_{x\\to 0} f(x) = 3", "3", true),
        ("\\infty", "\\lim_{x\\to\\infty} x = \\infty", true),
        ("7", "\\max_{x} f(x) = 7", true),
        ("7", "\\max(3,7)", true),
        ("7", "\\max(3,8)=7", false),
        ("3", "\\deg p = 3", true),
        ("3", "\\sup S = 3", true),
        ("3", "\\inf S = 2", false),
        (
            "3",
            "\\lim_{x\\to 0} \\frac{\\sin 3x}{x} = 3\\lim_{x\\to 0}\\frac{\\sin 3x}{3x}=3",
            true,
        ),
        ("\\lim_{x\\to 0} f(x)", "\\lim_{x\\to 1} f(x)", false),
        ("\\lim_{x\\to 0} f(x)", "\\lim_{x\\to 0} f(x)", true),
    ]);
}

#[test]
fn an_answer_may_state_a_condition() {
    check_boxed(&[
        ("\\frac1x", "\\frac1x, x\\ne 0", true),
        ("\\frac1x", "\\frac1x, \\quad x\\ne 0", true),
        ("\\frac1x", "\\frac2x, x\\ne 0", false),
    ]);
}

#[test]
fn the_positive_numbers_have_names() {
    check_boxed(&[
        ("(0,\\infty)", "\\mathbb{R}^+", true),
        ("[0,\\infty)", "\\mathbb{R}^+", false),
        ("x\\in\\mathbb{R}^+", "x>0", true),
        ("\\mathbb{R}^+", "\\mathbb{R}", false),
        ("\\mathbb{R}^2", "\\mathbb{R}^2", true),
        ("\\mathbb{R}^2", "\\mathbb{R}^3", false),
    ]);
}

#[test]
fn kinds_that_look_alike_are_kept_apart() {
    check_boxed(&[
        ("12 \\text{ and } 5", "12-5", false),
        ("(3,4)", "3+4i", false),
        ("3+4i", "(3,4)", false),
        ("5:3", "3:5", false),
        ("\\frac53", "5:3", true),
        ("1:2:3", "3:2:1", false),
        ("1:2:3", "2:4:6", true),
        ("x>2", "x=2", false),
        ("x=2", "x>1", false),
        ("\\{2\\}", "x>2", false),
        ("2", "x\\ge 2", false),
        ("x\\ge 2", "2", false),
        ("[2,3]", "\\{2,3\\}", false),
        ("(2,3)", "\\{2,3\\}", false),
        ("\\{2,3\\}", "(2,3)", false),
        ("\\{2,3\\}", "[2,3]", false),
        ("2,3", "[2,3]", false),
        ("x=2,3", "[2,3]", false),
        ("(2,3)", "x=2,y=3", true),
        ("(2,3)", "x=3,y=2", false),
        ("\\mathbb{Z}", "\\mathbb{N}", false),
        ("\\mathbb{Z}", "\\text{integers}", false),
        ("A\\cap B", "A\\cup B", false),
        ("A\\cap B", "B\\cap A", true),
        ("A\\setminus B", "B\\setminus A", false),
        ("\\overline{A}", "A", false),
        ("x^2+1=0", "x^2=-1", true),
        ("x^2+1=0", "x^2=1", false),
        ("x^2=4", "x=2", false),
        ("x=2", "x^2=4", false),
        ("2x=4", "x=2", true),
        ("|x|<3", "|x|\\le3", false),
        ("|x|<3", "|y|<3", false),
        ("x^2-4>0", "x>2", false),
        ("x^2-4>0", "x>2 \\text{ or } x<-2", true),
        ("x^2-4>0", "x>2, x<-2", true),
        ("x^2-4>0", "|x|>2", true),
        ("x<-2 \\text{ or } x>2", "-2<x<2", false),
        ("x(x-1)<0", "0<x<1", true),
        ("0<x<1", "x(x-1)<0", true),
        ("0<x<1", "x^2<x", true),
        ("x>0", "\\frac1x>0", true),
        ("x>0", "x\\ge0", false),
        ("x\\ge0", "\\sqrt{x}\\ge0", false),
        ("x\\ne0", "x^2>0", true),
        ("x>1", "x^3>1", true),
        ("x>1", "x^2>1", false),
        ("x>\\frac12", "2x-1>0", true),
        ("e^x>1", "x>0", false),
        ("(1,2]", "1<x\\le2", true),
        ("a<b", "b>a", true),
        ("a\\le b<c", "c>b\\ge a", true),
        ("5\\%", "0.05", true),
        ("5\\%", "5", true),
        ("5", "5\\%", true),
        ("0.5", "5\\%", false),
        ("50\\%", "\\frac12", true),
        ("1:2", "50\\%", false),
    ]);
}

#[test]
fn families_of_values_are_compared_as_a_whole() {
    check_boxed(&[
        ("x=2k\\pi", "x=2k\\pi, k\\in\\mathbb{Z}", true),
        ("x=2k\\pi, k\\in\\mathbb{Z}", "x=2k\\pi", true),
        ("x=2k\\pi, k\\in\\mathbb{Z}", "x=4k\\pi", false),
        ("x=2k\\pi, k\\in\\mathbb{N}", "x=2k\\pi", false),
        ("x=2k\\pi, k\\in\\mathbb{Z}", "x=0", false),
        (
            "x=2k\\pi \\text{ or } x=\\pi+2k\\pi, k\\in\\mathbb{Z}",
            "x=2n\\pi \\text{ or } x=\\pi+2n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        (
            "x=2k\\pi \\text{ or } x=\\pi+2k\\pi, k\\in\\mathbb{Z}",
            "x=2n\\pi, n\\in\\mathbb{Z}",
            false,
        ),
        (
            "x\\in\\{2k\\pi \\mid k\\in\\mathbb{Z}\\}",
            "x=2n\\pi, n\\in\\mathbb{Z}",
            true,
        ),
        ("n\\ge 3, n\\in\\mathbb{Z}", "n\\ge3", true),
        ("n\\ge 3", "n\\ge3, n\\in\\mathbb{Z}", false),
        ("n>2, n\\in\\mathbb{Z}", "n\\ge3, n\\in\\mathbb{Z}", false),
    ]);
}

#[test]
fn what_is_said_of_one_thing_holds_for_no_other() {
    check_boxed(&[
        ("\\lim_{n\\to\\infty} a_n=2", "2", true),
        ("2", "\\lim_{n\\to\\infty} a_n = \\frac42 = 2", true),
        ("f'(x)=2x", "f'(t)=2t", true),
        ("f'(x)=2x", "f''(x)=2x", false),
        ("P(A)=0.5", "P(B)=0.5", false),
        ("P(A\\cap B)=0.5", "0.5", true),
    ]);
}

#[test]
fn accents_and_marks_tell_names_apart() {
    check_boxed(&[
        ("\\hat{\\theta}", "\\hat\\theta", true),
        ("\\hat{\\theta}", "\\theta", false),
        ("\\dot{x}=-x", "\\dot x=-x", true),
        ("\\dot{x}=-x", "\\ddot x=-x", false),
        ("\\dot{x}=-x", "x=-x", false),
        ("3\\hat{i}-4\\hat{k}", "3\\hat{\\imath}-4\\hat{k}", true),
        ("A^T", "A^\\top", true),
        ("A^T", "A", false),
        ("z^*", "z^*", true),
        ("z^*", "z", false),
        ("7", "7^", false),
        ("f^{(4)}(x)", "f''''(x)", true),
        ("f^{(4)}(x)", "f^4(x)", false),
        ("\\arg(z)", "\\arg z", true),
        ("\\arg(z)", "\\arg w", false),
        ("\\ker(T)", "\\ker T", true),
        ("\\operatorname{Im}(z)", "\\operatorname{Im}(w)", false),
        ("\\operatorname{Im}(z)", "\\operatorname{Im}(2z)", false),
        ("\\operatorname{Re}(2z)", "2\\operatorname{Re}(z)", true),
    ]);
}

#[test]
fn what_is_computed_or_asked_for_may_have_any_name() {
    check_boxed(&[
        ("0.6", "P(A|B)=\\frac35", true),
        ("P(A\\mid B)=\\frac35", "P(A|B)=0.6", true),
        ("P(A\\mid B)=\\frac35", "P(B\\mid A)=0.6", false),
        ("4", "P(4|5)", false),
        ("12", "\\sum a_i=12", true),
        ("12", "\\sum_{i\\in S} a_i=13", false),
        ("4", "\\sum 4", false),
        ("2:3", "AB:BC=2:3", true),
        ("2:3", "AB:BC=3:2", false),
        ("2:3", "\\frac{a}{b}=\\frac23", true),
        ("4x+3", "(f\\circ g)(x)=4x+3", true),
        ("4x+3", "(f\\circ g)(x)=3x+4", false),
        ("x=2y=3z", "3z=2y=x", true),
        ("x=2y=3z", "3z", false),
        ("x=2y=3z", "x=3z", false),
        ("AB=CD", "CD=AB", true),
        ("AB=CD", "CD", false),
        ("CD", "AB=CD", true),
        ("\\frac59", "\\frac59\\ (\\approx 0.556)", true),
        ("\\frac59", "\\frac49\\ (\\approx 0.444)", false),
        ("4", "4\\approx 5", false),
        ("347", "347\\approx 350", true),
        // A guess beside the calculation is no rounding of it.
        ("43", "4 + 39 \\approx 165", false),
        ("73", "219 / 3 ≈ 681", false),
        ("5", "45 / 9 ≈ 5.25", false),
        ("3", "12 / 4 ≈ 3.66", false),
        ("70", "54 + 16 ≈ 80", false),
        ("1280", "80 * 16 ≈ 128 minutes", false),
        ("21", "3 * 7 ≈ 21", true),
        ("\\frac13", "\\frac13 \\approx 0.3", true),
        ("\\frac23", "\\frac23 \\approx 0.66", true),
        ("\\frac23", "\\frac23 \\approx 0.67", true),
        ("\\frac23", "\\frac23 \\approx 0.7", true),
        ("\\frac23", "\\frac23 \\approx 0.76", false),
        ("\\pi", "\\pi \\approx \\frac{22}{7}", true),
        ("\\pi", "\\pi \\approx \\frac{22}{5}", false),
        ("12345", "12345 \\approx 12000", true),
        ("12345", "12345 \\approx 13400", false),
        // Nor is a round number that is far away, or the next step up.
        ("43", "4 + 39 \\approx 1000", false),
        ("43", "4 + 39 \\approx 45", false),
        ("43", "4 + 39 \\approx 42", false),
        ("43", "4 + 39 \\approx 43", true),
        ("43", "4 + 39 \\approx -43", false),
        ("43", "4 + 39 \\approx 40", false),
        ("43", "4 + 39 \\approx 0", false),
        ("5", "5 \\approx 10", false),
        ("\\frac{1}{1000}", "\\frac{1}{1000} \\approx 0.1", false),
        ("\\frac23", "\\frac23 \\approx 1", true),
        ("\\frac72", "\\frac72 \\approx 4", true),
        ("\\frac72", "\\frac72 \\approx 5", false),
        ("347", "347 \\approx 340", true),
        ("347", "347 \\approx 300", false),
        ("\\frac{13}{8}", "\\frac{13}{8} \\approx 1.63", true),
        ("\\frac{13}{8}", "\\frac{13}{8} \\approx 1.64", false),
        ("\\pi", "3.14 \\approx \\pi", true),
        ("\\pi", "3.24 \\approx \\pi", false),
        ("-\\frac23", "-\\frac23 \\approx -0.67", true),
        ("-\\frac13", "-\\frac13 \\approx -0.3", true),
        ("-\\frac23", "-\\frac23 \\approx 0.67", false),
        ("\\sqrt{2}", "x = \\sqrt{2} = 1.41", true),
        ("\\sqrt{2}", "x = \\sqrt{2} = 1.51", false),
        ("x", "x \\approx 3", false),
    ]);
}
