//! Kinds of answers that can be read as each other. Each row: gold answer, boxed answer, whether they are equal.

use crate::check_boxed;

#[test]
fn values_in_order_are_the_same_in_any_dress() {
    check_boxed(&[
        ("\\langle 1, 2\\rangle", "1, 2", true),
        ("\\langle 1, 2\\rangle", "2, 1", false),
        ("(1, 2]", "\\langle 1, 2\\rangle", false),
        ("x=1, y=2", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", true),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "y=2, x=1", true),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "y=1, x=2", false),
        (
            "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
            "\\vec{i}+2\\vec{j}",
            true,
        ),
        (
            "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
            "2\\vec{i}+\\vec{j}",
            false,
        ),
        ("(1, 2)", "\\vec{i}+2\\vec{j}+3\\vec{k}", false),
        ("(1, 2, 0)", "\\vec{i}+2\\vec{j}", true),
        ("(1, 2)", "\\vec{i}\\cdot\\vec{i}+2\\vec{j}", false),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "(1, 2, 3, 4)",
            false,
        ),
    ]);
}

#[test]
fn a_named_point_is_no_interval() {
    check_boxed(&[
        ("(x,y)=(1,2)", "(1,2)", true),
        ("(x,y)=(1,2)", "x=1, y=2", true),
        ("(x,y)=(1,2)", "1<x<2", false),
        ("1<x<2", "(x,y)=(1,2)", false),
        ("1<x<2", "x\\in(1,2)", true),
    ]);
}

#[test]
fn conditions_that_exclude_nothing_as_alternatives_hold_together() {
    check_boxed(&[
        ("\\mathbb{R}", "x\\ne 1, x\\ne 2", false),
        ("\\text{all real numbers}", "x>1, x<2", false),
        ("1<x<2", "x>1, x<2", true),
        ("1<x<2", "x<1, x>2", false),
        ("x<1 \\text{ or } x>2", "x<1, x>2", true),
        ("x\\ne 1, x\\ne 2", "\\mathbb{R}\\setminus\\{1,2\\}", true),
        ("x\\ne 1, x\\ne 2", "\\mathbb{R}\\setminus\\{1\\}", false),
    ]);
}

#[test]
fn inequalities_are_solved_by_their_sign() {
    check_boxed(&[
        ("|x|<3", "x^2<9", true),
        ("|x|<3", "x^2<3", false),
        ("|x|<3", "x^2\\le 9", false),
        ("x^2<9", "(-3,3)", true),
        ("x^2>2", "|x|>\\sqrt{2}", true),
        ("x^2-5x+6\\ge 0", "x\\le 2 \\text{ or } x\\ge 3", true),
        ("x^2-5x+6\\ge 0", "x\\le 2 \\text{ or } x>3", false),
        ("x^3>8", "(2,\\infty)", true),
        ("x^3-x<0", "(-\\infty,-1)\\cup(0,1)", true),
        ("(x-1)^2>0", "x\\ne 1", true),
        ("(x-1)^2>0", "\\mathbb{R}", false),
        ("x^2+1>0", "\\mathbb{R}", true),
        ("(x-1)^2\\le 0", "\\{1\\}", true),
        (
            "\\frac{x-1}{x-2}\\ge 0",
            "(-\\infty,1]\\cup(2,\\infty)",
            true,
        ),
        (
            "\\frac{x-1}{x-2}\\ge 0",
            "(-\\infty,1]\\cup[2,\\infty)",
            false,
        ),
        ("\\frac1x<1", "(-\\infty,0)\\cup(1,\\infty)", true),
        ("|x-1|+|x+1|\\le 4", "[-2,2]", true),
        ("|x-1|+|x+1|\\le 4", "[-2,2)", false),
        ("|x-2|>-1", "\\mathbb{R}", true),
        ("\\pi x>1", "(\\frac1\\pi,\\infty)", true),
        ("3x<0.9", "(-\\infty,0.3)", true),
    ]);
}

#[test]
fn letters_of_parts_are_names() {
    check_boxed(&[
        ("12, 35", "(a) 12, (b) 35", true),
        ("12, 35", "(a) 35, (b) 12", false),
        ("35, 12", "(a) 12, (b) 35", false),
        ("(a) 12, (b) 35", "12, 35", true),
        ("(a) 12, (b) 35", "(a) 35, (b) 12", false),
        ("(a) 12, (b) 35", "(b) 35, (a) 12", false),
        ("(a) 12, (b) 35", "\\text{(a) } 12, \\text{(b) } 35", true),
        (
            "(a) 12, (b) 35",
            "\\text{(a) } 12 \\quad \\text{(b) } 35",
            true,
        ),
        ("(a) 12; (b) 35; (c) -1", "12, 35, -1", true),
        ("(i) 12, (ii) 35", "12, 35", true),
        ("(i) 12, (ii) 35", "(a) 12, (b) 35", false),
        ("x=12, y=35", "(a) x=12, (b) y=35", true),
        ("(a)(b)", "ab", true),
        ("(a)+(b)", "a+b", true),
        ("12", "(a) 12, (b) 35", false),
        ("35", "(a) 12, (b) 35", false),
        ("5", "(A) 5", true),
    ]);
}

#[test]
fn brackets_turned_outwards_are_open_ends() {
    check_boxed(&[
        ("]1,2[", "(1,2)", true),
        ("(1,2)", "]1,2[", true),
        ("]1,2]", "(1,2]", true),
        ("[1,2[", "[1,2)", true),
        ("[1,2[", "[1,2]", false),
        ("]1,2]", "[1,2]", false),
        (
            "]-\\infty,1[\\cup]2,+\\infty[",
            "(-\\infty,1)\\cup(2,\\infty)",
            true,
        ),
        (
            "(-\\infty,1)\\cup(2,\\infty)",
            "\\left]-\\infty,1\\right[\\cup\\left]2,+\\infty\\right[",
            true,
        ),
        ("x\\in]1,2[", "1<x<2", true),
        ("1<x<2", "x\\in]1,2[", true),
        ("[1,2]", "[1,2]", true),
        ("[[1,2],[3,4]]", "[[1,2],[3,4]]", true),
        ("f([1,2])", "f([1,2])", true),
    ]);
}

#[test]
fn all_values_after_a_not_equals_sign_are_excluded() {
    check_boxed(&[
        ("x \\ne \\pm 1", "\\mathbb{R}\\setminus\\{-1,1\\}", true),
        ("x \\ne \\pm 1", "\\mathbb{R}\\setminus\\{1\\}", false),
        ("x \\ne \\pm 1", "x\\ne 1", false),
        ("x \\ne \\pm 1", "x\\ne 1, x\\ne -1", true),
        ("x \\ne \\pm 1", "x\\ne 1, -1", true),
        ("x \\ne \\pm 1", "x\\ne 1 \\text{ and } x\\ne -1", true),
        (
            "x \\ne \\pm 1",
            "(-\\infty,-1)\\cup(-1,1)\\cup(1,\\infty)",
            true,
        ),
        ("\\mathbb{R}\\setminus\\{1,2\\}", "x\\ne 1,2", true),
        ("\\mathbb{R}\\setminus\\{1,2\\}", "x\\ne 1", false),
        ("x\\ne 1,2", "x=1,2", false),
        ("x\\ne 1", "\\mathbb{R}\\setminus\\{1\\}", true),
    ]);
}

#[test]
fn letters_without_a_count_are_no_parts() {
    check_boxed(&[
        ("1, 2", "(a) 1, 2", false),
        ("(a)", "(a)", true),
        ("B", "(B)", true),
        ("B", "(b)", true),
        ("3", "(a) 3", false),
        ("(1,2)", "(a) 1, (b) 2", true),
        ("P(A)=0.5", "P(B)=0.5", false),
    ]);
}

#[test]
fn inequalities_are_compared_with_their_solutions() {
    check_boxed(&[
        ("x\\in]-1,1[", "|x|<1", true),
        ("|x|<1", "x\\in]-1,1[", true),
        ("x\\in[-1,1[", "-1\\le x<1", true),
        ("x\\in(-\\infty,2)", "x<2", true),
        ("x<2", "x\\in(-\\infty,2]", false),
        ("(x-1)(x+2)\\le0", "[-2,1]", true),
        ("x\\le-2 \\text{ or } x\\ge1", "(x-1)(x+2)\\ge0", true),
        ("x\\le-2 \\text{ or } x\\ge1", "(x-1)(x+2)>0", false),
        ("x^4-5x^2+4<0", "(-2,-1)\\cup(1,2)", true),
        ("\\frac{1}{x^2}>0", "x\\ne 0", true),
        ("x^2\\ge0", "\\mathbb{R}", true),
        ("x^2<0", "\\emptyset", true),
        ("x^2<-1", "x^2<-2", true),
        ("0<x<1 \\text{ or } x>2", "x\\in(0,1)\\cup(2,\\infty)", true),
        ("k<2", "m<2", false),
        ("a<2", "k^2<4", false),
        ("x+y<3", "y<3-x", true),
        ("xy<1", "x<\\frac1y", false),
    ]);
}

#[test]
fn letters_and_numbers_of_parts_may_be_written_in_many_ways() {
    check_boxed(&[
        ("5, 8", "a) 5,\\ b) 8", true),
        ("5, 8", "a) 8,\\ b) 5", false),
        ("5, 8", "(a)\\ 5 \\quad (b)\\ 8", true),
        ("5, 8", "(a)\\ 8 \\quad (b)\\ 5", false),
        ("5, 8", "\\text{(1) } 5,\\ \\text{(2) } 8", true),
        ("5, 8", "(1) 8, (2) 5", false),
        ("5", "a) 5, b) 8", false),
        ("(a) + (b)", "a+b", true),
    ]);
}

#[test]
fn a_set_is_no_element_of_itself() {
    check_boxed(&[
        ("\\{\\{1\\},\\{1,2\\}\\}", "\\{\\{2,1\\},\\{1\\}\\}", true),
        ("\\{\\{1\\},\\{1,2\\}\\}", "\\{1,\\{1,2\\}\\}", false),
        (
            "\\{\\emptyset,\\{1\\}\\}",
            "\\{\\{1\\},\\varnothing\\}",
            true,
        ),
        ("\\{\\emptyset,\\{1\\}\\}", "\\{\\emptyset,1\\}", false),
        ("\\{1,\\{2\\}\\}", "\\{2,\\{1\\}\\}", false),
    ]);
}

#[test]
fn a_set_may_be_described_with_any_letter_and_alternatives() {
    check_boxed(&[
        ("\\{x \\mid x>2\\}", "\\{t \\mid t>2\\}", true),
        ("\\{x \\mid x>2\\}", "\\{t \\mid t\\ge2\\}", false),
        ("t>2", "\\{t \\mid t>2\\}", true),
        (
            "(-\\infty,2]\\cup(5,\\infty)",
            "\\{x: x\\le2 \\text{ or } x>5\\}",
            true,
        ),
        (
            "(-\\infty,2]\\cup(5,\\infty)",
            "\\{x: x\\le2 \\text{ or } x\\ge5\\}",
            false,
        ),
        ("(2,5)", "\\{x : x>2, x<5\\}", true),
        ("(2,5)", "\\{x : x>2 \\text{ or } x<5\\}", false),
    ]);
}

#[test]
fn signs_of_logic_have_several_names() {
    check_boxed(&[
        ("p\\lor\\neg q", "p\\vee\\lnot q", true),
        ("p\\lor\\neg q", "p\\lor q", false),
        ("\\neg(p\\land q)", "\\lnot (p\\wedge q)", true),
        ("\\neg(p\\land q)", "\\neg p\\land q", false),
        ("7", "\\neg 7", false),
    ]);
}
