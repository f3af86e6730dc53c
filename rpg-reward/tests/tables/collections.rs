//! Lists, sets, intervals, matrices, branches, conditions. Each row: gold answer, boxed answer, whether they are equal.

use crate::check_boxed;

#[test]
fn lists_and_sets_have_no_order_and_tuples_do() {
    check_boxed(&[
        ("1,2", "2, 1", true),
        ("1,2", "1", false),
        ("1,2", "1,2,3", false),
        ("1,2", "1 \\text{ and } 2", true),
        ("1,2", "1 \\text{ or } 2", true),
        ("1,2", "\\{1,2\\}", true),
        ("\\{1,2\\}", "2,1", true),
        ("1,2", "x=1, x=2", true),
        ("1,2", "x=1 \\text{ or } x=2", true),
        ("1,2", "x = 1, 2", true),
        ("1,2", "(1,2]", false),
        ("1,2", "[1,2]", false),
        ("x=1, x=2", "1, 2", true),
        ("1, 2, \\text{ and } 3", "1,2,3", true),
        ("\\pm 2", "2, -2", true),
        ("\\pm 2", "-2, 2", true),
        ("\\pm 2", "2", false),
        ("x = \\pm 2", "\\pm 2", true),
        ("-3 \\pm \\sqrt{5}", "-3+\\sqrt5, -3-\\sqrt5", true),
        ("-3 \\pm \\sqrt{5}", "3 \\pm \\sqrt{5}", false),
        (
            "\\frac{1 \\pm \\sqrt{5}}{2}",
            "\\frac{1 + \\sqrt{5}}{2}, \\frac{1 - \\sqrt{5}}{2}",
            true,
        ),
        ("(1,2)", "(1, 2)", true),
        ("(1,2)", "(2,1)", false),
        ("(1,2)", "[1,2]", false),
        ("(1,2)", "(1,2]", false),
        ("(1,2)", "(1,2,3)", false),
        ("(1,2)", "\\langle 1, 2\\rangle", true),
        ("(1,2)", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", true),
        ("(1,2)", "x=1, y=2", true),
        ("(1,2)", "(x,y)=(1,2)", true),
        ("(x,y) = (1,2)", "(1,2)", true),
        ("x=1, y=2", "y=2, x=1", true),
        ("x=1, y=2", "x=2, y=1", false),
        ("x=3, y=4", "\\begin{cases} x=3 \\\\ y=4 \\end{cases}", true),
        (
            "x=1, y=2",
            "\\left\\{\\begin{array}{l}x=1\\\\y=2\\end{array}\\right.",
            true,
        ),
        ("a=1,b=2;a=3,b=4", "(1,2),(3,4)", true),
        ("a=1,b=2;a=3,b=4", "(1,2),(4,3)", false),
        ("1, 2", "\\text{1 and 2}", true),
        ("A, C", "C, A", true),
        ("A, C", "A, B", false),
        ("(1,2),(3,4)", "(3,4),(1,2)", true),
        ("(1,2),(3,4)", "(1,2), (4,3)", false),
        ("(1,2),(3,4)", "\\{(3,4),(1,2)\\}", true),
        ("(\\frac12, 3)", "(0.5, 3)", true),
        ("\\{1,2,3\\}", "\\{3,2,1\\}", true),
        ("\\{1,2,3\\}", "\\{1,3\\}", false),
        ("\\{1,2,3\\}", "\\{1\\} \\cup \\{2,3\\}", true),
        ("\\{1,2,3\\}", "\\{1,2,3,4\\} \\setminus \\{4\\}", true),
        ("\\{a,b\\}", "\\{b,a\\}", true),
        ("\\emptyset", "\\varnothing", true),
        ("\\emptyset", "\\{\\}", true),
        ("\\emptyset", "0", false),
        ("5", "\\{5\\}", true),
        ("3:4", "6:8", true),
        ("3:4", "4:3", false),
        ("100, 200, 300", "100,200,300", true),
        ("1,2,3", "{1,2,3}", true),
    ]);
}

#[test]
fn intervals_and_inequalities_are_compared_as_sets() {
    check_boxed(&[
        ("(1,3)", "(1, 3)", true),
        ("[1,3)", "[1,3)", true),
        ("[1,3)", "(1,3]", false),
        ("(-\\infty, 2)", "(-\\infty,2)", true),
        ("(-\\infty, 2)", "(-∞, 2)", true),
        ("(-\\infty, 2)", "(-inf, 2)", true),
        ("(-\\infty, 2)", "x < 2", true),
        ("x < 2", "(-\\infty, 2)", true),
        ("x < 2", "(-\\infty, 2]", false),
        ("|x| < 3", "(-3, 3)", true),
        ("|x-1| \\le 3", "[-2, 4]", true),
        ("|x-1| > 3", "(-\\infty,-2)\\cup(4,\\infty)", true),
        ("(1, 3)", "x > 1 \\text{ and } x < 3", true),
        ("(1, 3)", "x > 1 \\text{ or } x < 3", false),
        ("x > 0", "x > 0, y > 0", false),
        ("x > 0, y > 0", "y > 0, x > 0", true),
        ("x > 0, y > 0", "x > 0", false),
        ("\\mathbb{R}", "\\text{all real numbers}", true),
        ("x < 2", "2 > x", true),
        ("x < 2", "x \\le 2", false),
        ("x < 2", "y < 2", false),
        ("x < 2", "x-2 < 0", true),
        ("x < 2", "2x < 4", true),
        ("x < 2", "-x > -2", true),
        ("x < 2", "-x < -2", false),
        ("x \\geq 2", "x >= 2", true),
        ("x \\geq 2", "x ≥ 2", true),
        ("x \\geq 2", "x \\geqslant 2", true),
        ("1 < x \\le 3", "(1,3]", true),
        ("1 < x \\le 3", "3 \\ge x > 1", true),
        ("1 < x \\le 3", "1<x<3", false),
        ("1 < x \\le 3", "x \\in (1,3]", true),
        ("x<1 \\text{ or } x>3", "(-\\infty,1)\\cup(3,\\infty)", true),
        ("x<1 \\text{ or } x>3", "x>3 \\text{ or } x<1", true),
        (
            "(-\\infty,1)\\cup(3,\\infty)",
            "(3,\\infty)\\cup(-\\infty,1)",
            true,
        ),
        (
            "(-\\infty,1)\\cup(3,\\infty)",
            "(-\\infty,1]\\cup(3,\\infty)",
            false,
        ),
        (
            "(-\\infty,1)\\cup(1,\\infty)",
            "\\mathbb{R} \\setminus \\{1\\}",
            true,
        ),
        ("(0,2)", "(0,1] \\cup (1,2)", true),
        ("(0,2)", "(0,1) \\cup (1,2)", false),
        ("[0,1] \\cap [1,2]", "\\{1\\}", true),
        ("x+y<1", "2x+2y<2", true),
        ("x+y<1", "1>x+y", true),
        ("x+y<1", "x+y>1", false),
        ("\\{x \\mid x > 3\\}", "x>3", true),
        ("\\{x \\mid x > 3\\}", "(3, \\infty)", true),
        ("x > \\sqrt{2}", "(\\sqrt2, \\infty)", true),
        ("x > 0.5", "x > \\frac12", true),
        ("\\infty", "+\\infty", true),
        ("\\infty", "-\\infty", false),
        ("\\mathbb{R}", "(-\\infty,\\infty)", true),
    ]);
}

#[test]
fn matrices_are_compared_cell_by_cell() {
    check_boxed(&[
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}",
            true,
        ),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}",
            false,
        ),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\begin{pmatrix}1&2\\end{pmatrix}",
            false,
        ),
        (
            "\\begin{pmatrix}1/2\\\\0.5\\end{pmatrix}",
            "\\begin{pmatrix}0.5\\\\\\frac12\\end{pmatrix}",
            true,
        ),
        (
            "\\begin{pmatrix}2&4\\\\6&8\\end{pmatrix}",
            "2\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            true,
        ),
        ("\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", "-2", true),
        ("\\begin{pmatrix}1\\\\2\\\\3\\end{pmatrix}", "(1,2,3)", true),
        (
            "\\left[\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right]",
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            true,
        ),
        (
            "\\begin{pmatrix}7&10\\\\15&22\\end{pmatrix}",
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}^2",
            true,
        ),
    ]);
}

#[test]
fn branches_go_with_their_conditions() {
    let gold = "\\begin{cases} 2 & n \\text{ even} \\\\ 1 & n \\text{ odd}\\end{cases}";
    check_boxed(&[
        (
            gold,
            "\\begin{cases} 1 & n \\text{ odd} \\\\ 2 & \\text{if } n \\text{ is even}\\end{cases}",
            true,
        ),
        (
            gold,
            "\\begin{cases} 1 & n \\text{ even} \\\\ 2 & n \\text{ odd}\\end{cases}",
            false,
        ),
        (
            gold,
            "\\begin{cases} 2 & n \\text{ even} \\\\ 1 & \\text{otherwise}\\end{cases}",
            true,
        ),
        (
            "\\begin{cases} x & x \\ge 0 \\\\ -x & x < 0\\end{cases}",
            "f(x) = \\begin{cases} -x & \\text{if } x < 0 \\\\ x & \\text{if } x \\ge 0\\end{cases}",
            true,
        ),
        (
            "\\begin{cases} x & x \\ge 0 \\\\ -x & x < 0\\end{cases}",
            "\\begin{cases} -x & x \\ge 0 \\\\ x & x < 0\\end{cases}",
            false,
        ),
        (
            "\\begin{cases} x & x \\ge 0 \\\\ -x & x < 0\\end{cases}",
            "\\begin{cases} x & x > 0 \\\\ -x & x \\le 0\\end{cases}",
            false,
        ),
        (
            "x=1, y=2",
            "\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}",
            true,
        ),
    ]);
}

#[test]
fn a_chain_of_equations_without_a_value_is_compared_as_a_whole() {
    check_boxed(&[
        ("x=y=z", "z", false),
        ("x=y=z", "z=x=y", true),
        ("x=y=2z", "2z", false),
        ("AB=BC=CA", "AB=CA", false),
        (
            "\\frac{x-1}{2}=\\frac{y}{3}=z",
            "z=\\frac{x-1}{2}=\\frac{y}{3}",
            true,
        ),
        (
            "\\frac{x-1}{2}=\\frac{y}{3}=z",
            "\\frac{x-1}{3}=\\frac{y}{2}=z",
            false,
        ),
        ("(x+1)^2", "y = x^2+2x+1 = (x+1)^2", true),
        ("12", "S = a+b+c = 12", true),
        ("x=y=3", "3", true),
    ]);
}

#[test]
fn the_conditions_of_a_set_count_and_sets_nest() {
    check_boxed(&[
        ("\\{x : x > 2\\}", "(2, \\infty)", true),
        ("\\{x \\in \\mathbb{R} : x > 2\\}", "x > 2", true),
        ("\\{x \\in \\mathbb{Z} : x > 2\\}", "(2, \\infty)", false),
        (
            "\\{x \\in \\mathbb{Z} : x > 2\\}",
            "\\{x \\in \\mathbb{Z} \\mid x > 2\\}",
            true,
        ),
        (
            "\\{x \\in \\mathbb{Z} : x > 2\\}",
            "\\{x \\in \\mathbb{Z} \\mid x > 3\\}",
            false,
        ),
        (
            "\\{2n : n \\in \\mathbb{Z}\\}",
            "\\{n : n \\in \\mathbb{Z}\\}",
            false,
        ),
        (
            "\\{2n : n \\in \\mathbb{Z}\\}",
            "\\{2n \\mid n \\in \\mathbb{Z}\\}",
            true,
        ),
        ("\\{(x,y) : x^2+y^2=1\\}", "\\{(x,y) : x^2+y^2=2\\}", false),
        ("\\{\\{1\\},\\{2,3\\}\\}", "\\{\\{2,3\\},\\{1\\}\\}", true),
        ("\\{\\{1\\},\\{2,3\\}\\}", "\\{1,2,3\\}", false),
        ("\\{\\{1\\}\\}", "\\{1\\}", false),
    ]);
}

#[test]
fn conditions_beside_a_value_are_conditions() {
    check_boxed(&[
        ("(n-1)^2", "n^2-2n+1 \\text{ where } n \\ge 2", true),
        ("(n-1)^2", "n^2-2n \\text{ where } n \\ge 2", false),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=k\\pi \\text{ for } k \\in \\mathbb{Z}",
            true,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=k\\pi \\quad (k \\in \\mathbb{Z})",
            true,
        ),
        (
            "x=k\\pi, k\\in\\mathbb{Z}",
            "x=2k\\pi, k\\in\\mathbb{Z}",
            false,
        ),
        ("k\\pi, k\\in\\mathbb{Z}", "k\\pi", true),
        ("2^n", "2^n \\text{ for all } n \\in \\mathbb{N}", true),
        ("x > 2", "x > 2, x \\ne 3", false),
        ("2^n, n \\ge 1", "2^n, n \\ge 2", false),
    ]);
}
