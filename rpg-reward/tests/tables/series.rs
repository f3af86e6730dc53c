//! Sums and products with an index, and integrals. Each row: gold answer, boxed answer, whether they are equal.

use crate::check_boxed;

#[test]
fn finite_sums_are_compared_by_their_value() {
    check_boxed(&[
        ("\\frac{n(n+1)}{2}", "\\sum_{k=1}^{n} k", true),
        ("\\frac{n(n+1)}{2}", "\\sum_{k=1}^{n-1} k", false),
        ("\\frac{n(n-1)}{2}", "\\sum_{k=1}^{n-1} k", true),
        ("\\frac{n(n-1)}{2}", "\\sum_{k=0}^{n-1} k", true),
        ("\\frac{n(n+1)(2n+1)}{6}", "\\sum_{i=1}^{n} i^2", true),
        ("\\frac{n^2(n+1)^2}{4}", "\\sum_{i=1}^{n} i^3", true),
        (
            "\\frac{n^2(n+1)^2}{4}",
            "\\left(\\sum_{i=1}^{n} i\\right)^2",
            true,
        ),
        ("n^2", "\\sum_{k=1}^{n} (2k-1)", true),
        ("n^2+1", "\\sum_{k=1}^{n} (2k-1)", false),
        ("2^{n+1}-1", "\\sum_{k=0}^{n} 2^k", true),
        ("2^{n}-1", "\\sum_{k=0}^{n} 2^k", false),
        ("2^{n}-1", "\\sum_{k=0}^{n-1} 2^k", true),
        ("(n-1)2^{n+1}+2", "\\sum_{k=1}^{n} k2^k", true),
        ("\\frac{1-x^{n+1}}{1-x}", "\\sum_{k=0}^{n} x^k", true),
        ("\\frac{n}{n+1}", "\\sum_{k=1}^{n} \\frac{1}{k(k+1)}", true),
        ("\\frac{n}{n+2}", "\\sum_{k=1}^{n} \\frac{1}{k(k+1)}", false),
        (
            "1-\\frac1{n+1}",
            "\\sum_{k=1}^{n} \\left(\\frac{1}{k}-\\frac1{k+1}\\right)",
            true,
        ),
        (
            "\\frac{n}{2n+1}",
            "\\sum_{k=1}^{n} \\frac{1}{(2k-1)(2k+1)}",
            true,
        ),
        ("\\sum_{k=1}^{n} k", "\\frac{n(n+1)}{2}", true),
        ("2049300", "\\sum_{k=1}^{2024} k", true),
        ("2049301", "\\sum_{k=1}^{2024} k", false),
        ("\\frac{1+(-1)^n}{2}", "\\sum_{k=0}^{n} (-1)^k", true),
        ("2^n", "\\sum_{k=0}^{n} \\binom{n}{k}", true),
        ("3^n", "\\sum_{k=0}^{n} \\binom{n}{k}", false),
        ("3^n", "\\sum_{k=0}^{n} \\binom{n}{k}2^k", true),
        ("(n+1)!-1", "\\sum_{k=1}^{n} k\\cdot k!", true),
        ("n!", "\\prod_{k=1}^{n} k", true),
        ("(n+1)!", "\\prod_{k=1}^{n} k", false),
        ("H_n", "\\sum_{k=1}^n \\frac1k", false),
        ("\\sum_{k=1}^n \\frac1k", "\\sum_{i=1}^n \\frac1i", true),
        (
            "\\sum_{k=1}^n \\frac1k",
            "\\sum_{i=1}^{n-1} \\frac1i + \\frac1n",
            true,
        ),
        (
            "\\sum_{k=1}^n \\frac1k",
            "\\sum_{i=1}^{n-1} \\frac1i",
            false,
        ),
    ]);
}

#[test]
fn sums_without_end_are_compared_by_their_value() {
    check_boxed(&[
        ("1", "\\sum_{k=1}^{\\infty} \\frac{1}{k(k+1)}", true),
        ("\\frac34", "\\sum_{k=1}^{\\infty} \\frac{1}{k(k+2)}", true),
        (
            "\\frac14",
            "\\sum_{k=1}^{\\infty} \\frac{1}{k(k+1)(k+2)}",
            true,
        ),
        (
            "\\frac13",
            "\\sum_{k=1}^{\\infty} \\frac{1}{k(k+1)(k+2)}",
            false,
        ),
        ("\\frac34", "\\sum_{n=2}^{\\infty} \\frac{1}{n^2-1}", true),
        ("2", "\\sum_{n=0}^\\infty \\frac{1}{2^n}", true),
        ("2", "\\sum_{n=1}^\\infty \\frac{1}{2^n}", false),
        ("1", "\\sum_{n=1}^\\infty \\frac{1}{2^n}", true),
        ("2", "\\sum_{n=1}^\\infty \\frac{n}{2^n}", true),
        ("6", "\\sum_{n=1}^\\infty \\frac{n^2}{2^n}", true),
        (
            "\\frac{3}{2}",
            "\\sum_{n=1}^\\infty \\frac{2^n+3^n}{6^n}",
            true,
        ),
        (
            "\\frac34",
            "\\sum_{n=0}^\\infty \\left(-\\frac13\\right)^n",
            true,
        ),
        ("\\frac34", "\\sum_{n=0}^\\infty \\frac{(-1)^n}{3^n}", true),
        ("\\frac{1}{1-x}", "\\sum_{n=0}^\\infty x^n", true),
        ("\\frac{1}{1+x}", "\\sum_{n=0}^\\infty x^n", false),
        ("\\frac{1}{1+x}", "\\sum_{n=0}^\\infty (-1)^n x^n", true),
        (
            "\\frac{1}{1+x^2}",
            "\\sum_{n=0}^\\infty (-1)^n x^{2n}",
            true,
        ),
        ("\\frac{x}{(1-x)^2}", "\\sum_{n=1}^\\infty n x^n", true),
        (
            "\\frac{\\pi^2}{6}",
            "\\sum_{n=1}^\\infty \\frac{1}{n^2}",
            true,
        ),
        (
            "\\frac{\\pi^2}{6}-1",
            "\\sum_{n=2}^\\infty \\frac{1}{n^2}",
            true,
        ),
        (
            "\\frac{\\pi^2}{8}",
            "\\sum_{n=0}^\\infty \\frac{1}{(2n+1)^2}",
            true,
        ),
        (
            "\\frac{\\pi^4}{90}",
            "\\sum_{n=1}^\\infty \\frac{1}{n^4}",
            true,
        ),
        (
            "\\frac{\\pi^2}{24}",
            "\\sum_{n=1}^\\infty \\frac{1}{(2n)^2}",
            true,
        ),
        (
            "\\frac{\\pi^2}{6}",
            "\\sum_{n=1}^\\infty \\frac{1}{n^3}",
            false,
        ),
        ("-1", "\\sum_{n=0}^\\infty 2^n", false),
        ("2", "\\sum_{n=1}^\\infty \\frac{1}{n}", false),
        ("2", "\\sum_{n=1}^\\infty n", false),
        ("-\\frac1{12}", "\\sum_{n=1}^\\infty n", false),
        ("\\frac12", "\\sum_{n=0}^\\infty (-1)^n", false),
        ("\\sum_{n=1}^\\infty n", "\\sum_{n=1}^\\infty n", true),
        (
            "\\sum_{n=1}^{\\infty} \\frac{1}{n^3}",
            "\\sum_{k=1}^{\\infty} \\frac{1}{k^3}",
            true,
        ),
        (
            "\\sum_{n=1}^{\\infty} \\frac{1}{n^3}",
            "\\sum_{k=2}^{\\infty} \\frac{1}{k^3}",
            false,
        ),
        (
            "\\sum_{n=1}^{\\infty} \\frac{1}{n^2}",
            "\\frac{\\pi^2}{6}",
            true,
        ),
        ("e", "\\sum_{n=0}^\\infty \\frac{1}{n!}", true),
        ("e^x", "\\sum_{n=0}^\\infty \\frac{x^n}{n!}", true),
        ("e^{-x}", "\\sum_{n=0}^\\infty \\frac{x^n}{n!}", false),
        ("e-1", "\\sum_{n=1}^\\infty \\frac{1}{n!}", true),
        ("2e", "\\sum_{n=1}^\\infty \\frac{n^2}{n!}", true),
        ("1", "\\sum_{n=1}^\\infty \\frac{n}{(n+1)!}", true),
        ("1.6449", "\\sum_{n=1}^\\infty \\frac{1}{n^2}", false),
        ("\\ln 2", "\\sum_{n=1}^\\infty \\frac{(-1)^{n+1}}{n}", true),
    ]);
}

#[test]
fn integrals_of_powers_are_compared_by_their_value() {
    check_boxed(&[
        ("\\frac13", "\\int_0^1 x^2\\,dx", true),
        ("\\frac13", "\\int_0^1 x^2dx", true),
        ("\\frac12", "\\int_0^1 x^2\\,dx", false),
        ("\\frac12", "\\int_0^1 xdx", true),
        ("\\frac12", "\\int_0^1 x\\,dx", true),
        ("1", "\\int_0^1 dx", true),
        ("\\frac16", "\\int_0^1 x(1-x)\\,dx", true),
        ("\\frac16", "\\int_0^1 (x-x^2)\\,dx", true),
        ("\\frac23", "\\int_0^1 \\sqrt{x}\\,dx", true),
        ("\\ln 2", "\\int_1^2 \\frac{1}{x}\\,dx", true),
        ("\\ln 2", "\\int_{-1}^2 \\frac{1}{x}\\,dx", false),
        ("0", "\\int_{-1}^1 \\frac{1}{x^2}\\,dx", false),
        ("-2", "\\int_{-1}^1 \\frac{1}{x^2}\\,dx", false),
        ("\\frac12", "\\int_1^2 \\frac{1}{x^2}\\,dx", true),
        ("\\frac{a^3}{3}", "\\int_0^a x^2\\,dx", true),
        ("\\frac{b^2-a^2}{2}", "\\int_a^b t\\,dt", true),
        ("\\frac{a^3}{3}", "\\int_0^x x^2\\,dx", false),
        ("2\\pi", "\\int_0^{2\\pi} 1\\,dx", true),
        ("\\frac{\\pi}{3}", "\\pi\\int_0^1 x^2\\,dx", true),
        ("\\frac43", "\\int_0^1 x^2dx + 1", true),
        ("2", "\\int_0^\\pi \\sin x\\,dx", false),
        (
            "\\int_0^\\pi \\sin x\\,dx",
            "\\int_0^\\pi \\sin t\\,dt",
            true,
        ),
        (
            "\\int_0^\\pi \\sin x\\,dx",
            "\\int_0^{2\\pi} \\sin x\\,dx",
            false,
        ),
        (
            "\\int_0^\\infty e^{-x^2}\\,dx",
            "\\int_0^\\infty e^{-x^2}\\,dx",
            true,
        ),
        (
            "\\int_{-\\infty}^\\infty e^{-x^2}\\,dx",
            "\\int_{-\\infty}^\\infty e^{-x^2}\\,dx",
            true,
        ),
        (
            "\\int_{-\\infty}^\\infty e^{-x^2}\\,dx",
            "\\int_{0}^\\infty e^{-x^2}\\,dx",
            false,
        ),
        (
            "\\sqrt\\pi",
            "\\int_{-\\infty}^\\infty e^{-x^2}\\,dx=\\sqrt\\pi",
            true,
        ),
        ("\\frac13", "\\int_0^1 x^2dx=\\frac13", true),
        ("\\int_0^1 x^2dx=\\frac13", "\\frac13", true),
        ("3", "\\int_0^1 f(x)dx+\\int_1^2 f(x)dx=3", true),
        ("3", "2\\int_0^1 f(x)dx=3", true),
        ("3", "\\frac12\\int_0^1 f(x)dx=3", true),
        ("3", "\\frac12\\int_0^1 f(x)dx=4", false),
        ("\\frac{x^3}{3}+C", "\\int x^2dx=\\frac{x^3}{3}+C", true),
        ("\\int_0^1 f(x)\\,dx", "\\int_0^1 f(t)\\,dt", true),
        ("\\int_0^1 f(x)\\,dx", "\\int_0^1 g(x)\\,dx", false),
        ("\\int_0^1\\int_0^1 xy\\,dx\\,dy", "\\frac14", true),
        ("V=\\pi\\int_0^1 x^4 dx", "\\frac{\\pi}{5}", true),
        ("\\frac{\\pi}{5}", "V=\\pi\\int_0^1 x^4 dx", true),
        (
            "\\frac{\\pi}{5}",
            "V=\\pi\\int_0^1 x^4 dx=\\frac{\\pi}{5}",
            true,
        ),
        (
            "\\int_0^1 \\frac{dx}{1+x^2}",
            "\\int_0^1 \\frac{dx}{1+x^2}",
            true,
        ),
        ("\\int_0^1 xy\\,dx", "\\frac{y}{2}", true),
        ("xy", "\\int_0^1 xy\\,dx", false),
        ("\\frac{n(n+1)}{2}x", "\\sum_{k=1}^n kx", true),
        ("\\int_0^2 2xdx", "4", true),
        ("\\int_0^1 axdx", "\\frac a2", true),
        ("\\int_0^1 axb\\,dx", "\\frac{ab}2", true),
    ]);
}

#[test]
fn sums_are_compared_with_sums_and_may_have_names() {
    check_boxed(&[
        ("x^2", "\\sum_{k=1}^{n} x", false),
        ("nx", "\\sum_{k=1}^{n} x", true),
        ("\\frac{n(n+1)}{2}", "\\sum_{k=1}^{m} k", false),
        ("S_n=n^2", "\\sum_{k=1}^n (2k-1)", true),
        ("S=\\sum_{k=1}^n k", "\\frac{n(n+1)}2", true),
        ("\\frac{n(n+1)}{2}", "\\sum_{k=1}^n k=\\frac{n(n+1)}2", true),
        ("5", "\\sum_{k=1}^n k=5", true),
        ("6", "\\sum_{k=1}^3 k=6", true),
        ("7", "\\sum_{k=1}^3 k=7", false),
        ("2", "\\sum_{k=0}^\\infty \\frac1{2^k}=2", true),
        ("3", "\\sum_{k=0}^\\infty \\frac1{2^k}=3", false),
        ("\\sum_{k=0}^\\infty \\frac{x^k}{k!}", "e^x", true),
        ("\\sum_{k=0}^\\infty \\frac{(-1)^kx^k}{k!}", "e^{-x}", true),
        (
            "\\sum_{n=0}^\\infty a_n x^n",
            "\\sum_{k=0}^\\infty a_k x^k",
            true,
        ),
        (
            "\\sum_{n=0}^\\infty a_n x^n",
            "\\sum_{k=1}^\\infty a_k x^k",
            false,
        ),
        ("\\prod_{k=1}^n \\frac{k}{k+1}", "\\frac{1}{n+1}", true),
        ("\\sum_{k=1}^n k", "\\sum_{k=1}^n k^2", false),
        ("\\sum_{k=1}^n k(n-k)", "\\frac{n^3-n}{6}", true),
        ("\\sum_{k=1}^{2n} k", "n(2n+1)", true),
        ("\\sum_{k=n}^{2n} k", "\\frac{3n(n+1)}{2}", true),
        ("\\sum_{d\\mid n} d", "\\sum_{d\\mid n} d", true),
    ]);
}

#[test]
fn terms_may_be_written_in_another_way() {
    check_boxed(&[
        (
            "\\sum_{n=1}^\\infty \\frac{1}{n^2+1}",
            "\\sum_{k=1}^\\infty \\frac{1}{1+k^2}",
            true,
        ),
        (
            "\\sum_{n=1}^\\infty \\frac{1}{n^2+1}",
            "\\sum_{k=0}^\\infty \\frac{1}{1+k^2}",
            false,
        ),
        (
            "\\sum_{n=1}^\\infty \\frac{1}{n^2+1}",
            "\\sum_{k=1}^\\infty \\frac{1}{2+k^2}",
            false,
        ),
    ]);
}
