//! Values with units and words beside them. Each row: gold answer, boxed answer, whether they are equal.

use crate::check_boxed;

/// Each form, with `#` for the number, is 300 with the right number only.
fn check_forms(forms: &[&str]) {
    let row = |form: &&str, number| ("300", form.replace('#', number), number == "300");
    let rows: Vec<_> = forms
        .iter()
        .flat_map(|form| ["300", "301"].map(|number| row(form, number)))
        .collect();
    check_boxed(&rows);
}

#[test]
fn units_in_upright_type_are_dropped_however_they_are_joined() {
    check_forms(&[
        r"#\mathrm{m}",
        r"#\,\mathrm{kg}",
        r"#\mathrm{~m}",
        r"#\mathrm{~cm^2}",
        r"#\,\mathrm{kg}\cdot\mathrm{m}^{-3}",
        r"#\,\mathrm{kg\,m^{-3}}",
        r"#\,\mathrm{kg/m^3}",
        r"#\,\mathrm{N\cdot m}",
        r"#\ \mathrm{kg}/\mathrm{m}^3",
        r"#\ \frac{\mathrm{kg}}{\mathrm{m}^3}",
        r"#\ \frac{\mathrm m}{\mathrm s}",
        r"#\ \frac{\text{m}}{\text{s}^2}",
        r"#\ \mathrm{J}/(\mathrm{kg}\cdot\mathrm{K})",
        r"#\,\mathrm{L\cdot atm/(mol\cdot K)}",
        r"#\ \text{m s}^{-1}",
        r"#\ \text{m}/\text{s}^2",
        r"#\ (\text{cm})",
        r"#\,{\rm m/s}",
        r"#\,\operatorname{cm}",
        r"#\,\mathrm{\Omega\cdot m}",
        r"#\ \mathrm{\frac{m}{s}}",
        r"#\ \mathsf{m}",
        r"#\,\mathrm{dB}",
        r"#\,\mathrm{min}",
        r"#\,\mathrm{C}",
        r"#\ \mathrm{A}",
        r"#/\mathrm{s}",
    ]);
    check_boxed(&[
        (
            r"1.6\times10^{-19}",
            r"1.6\times 10^{-19}\,\mathrm{C}",
            true,
        ),
        (
            r"1.6\times10^{-19}",
            r"1.6\times 10^{-18}\,\mathrm{C}",
            false,
        ),
        (r"12\pi", r"12\pi\,\mathrm{m}", true),
        (r"\sqrt3", r"\sqrt{3}\mathrm{m}", true),
        ("5x", r"5x\,\mathrm{m}", true),
        ("(3, 4)", r"(3\,\mathrm{cm}, 4\,\mathrm{cm})", true),
        ("8", r"3\,\mathrm{m}+5\,\mathrm{m}", true),
        ("x>5", r"x>5\,\mathrm{m}", true),
        ("-5", r"-5\,\mathrm{m/s^2}", true),
        ("-5", r"5\,\mathrm{m/s^2}", false),
        ("30", r"\frac{60\text{ km}}{2\text{ h}}", true),
        ("60", r"60\frac{\text{km}}{2}", false),
        ("20", r"20\,\mathrm{cm}\times 1", false),
        (r"5\,\mathrm{m/s}", r"5 \text{ meters per second}", true),
        (r"5\,\mathrm{m/s}", r"6 \text{ meters per second}", false),
    ]);
}

#[test]
fn prefixes_belong_to_the_unit_after_them() {
    check_forms(&[
        r"#\,\Omega",
        r"#\,\mathrm{k}\Omega",
        r"#\,\mathrm{k\Omega}",
        r"#\ \text{k}\Omega",
        r"#\,\mu\mathrm{m}",
        r"#\,\mu\text{F}",
        r"#\,\mathrm{\mu s}",
        r"#\,\mathrm{nm}",
        r"#\,\mathrm{mA}",
        r"#\,\mathrm{MHz}",
        "# μm",
        "# µm",
    ]);
    check_boxed(&[
        (r"3\mu", "3", false),
        (r"3\mu m", "3", false),
        (r"5\Omega", "5", false),
        (r"5\Omega", r"5\,\Omega", true),
        (r"5\,\Omega", r"5\ \text{ohms}", true),
    ]);
}

#[test]
fn letters_in_plain_type_are_variables() {
    check_boxed(&[
        ("5m", "5m", true),
        ("5m", "5 m", true),
        ("5m", "5n", false),
        ("5m", "5", false),
        ("5", "5m", false),
        ("5", "5 m", false),
        ("5s", "5", false),
        ("5", "5mn", false),
        ("5/m", "5", false),
        (r"5\frac{m}{s}", "5", false),
        ("9.8", r"9.8 \frac{m}{s^2}", false),
        ("2\\sec x", r"\frac{2}{\cos x}", true),
        (r"2\min(3,4)", "6", true),
        ("2", r"2\min(3,4)", false),
    ]);
}

#[test]
fn upright_letters_that_are_no_units_are_names() {
    check_boxed(&[
        ("2e", r"2\mathrm{e}", true),
        ("2", r"2\mathrm{e}", false),
        ("2i", r"2\mathrm{i}", true),
        ("2", r"2\mathrm{d}x", false),
        ("2", r"2\,\mathrm{d}m", false),
        ("2x", r"2\mathrm{x}", true),
        ("2", r"2\mathrm{x}", false),
        ("2AB", r"2\mathrm{AB}", true),
        ("2", r"2\mathrm{AB}", false),
        ("AC", r"\mathrm{A}\mathrm{C}", true),
        ("A", r"\mathrm{A}\mathrm{C}", false),
        ("2", r"2\text{x}", false),
        (r"2\text{x}", r"2\text{x}", true),
        ("5m", r"\text{5m}", true),
        ("5", r"5\mathrm{mc^2}", false),
        ("mc^2", r"\mathrm{mc^2}", true),
        ("5", r"5\,\mathrm{C}_3^2", false),
        ("5x", r"5x\mathrm{m}", false),
        ("2", r"2\mathrm{H_2O}", false),
        ("e^{kt}", r"e^\mathrm{kt}", true),
        ("e^k t", r"e^\mathrm{kt}", false),
        ("x+1", r"\mathbf{x+1}", true),
        (r"\operatorname{Var}(X)", r"\mathrm{Var}(X)", true),
        ("3", r"3\operatorname{Li}(x)", false),
        (r"x_{\max}=5", "5", true),
        (r"x_{\max}=5", r"x_{\min}=5", false),
        ("42", r"\mathrm{half\ of}\ 42", false),
        ("42", r"\mathrm{The\ answer\ is}\ 42", true),
    ]);
}

#[test]
fn units_in_plain_letters_are_dropped_where_they_end_the_value() {
    check_forms(&[
        "# m/s^2",
        "# km/h",
        "# kg m/s",
        "# cm^2",
        "# cm²",
        "# sq ft",
        "# min",
        "# sec",
        "# in",
        "# ft.",
        "# miles per hour",
        "# dollars per hour",
        "#/hour",
        r"#/\text{person}",
        r"#\ \text{in.}",
        "# students",
        r"#\,\mathrm{apples}",
        r"#\text{ apples per day}",
        r"#\text{ times per day}",
        r"#\text{ more than Bob}",
    ]);
    check_boxed(&[
        ("5", "5in", false),
        ("5", "5 cm x", false),
        ("5", r"5\ \mathrm{m}^{2}x", false),
        ("2", "2abcd", false),
    ]);
}

#[test]
fn degrees_of_temperature_are_dropped() {
    check_forms(&[
        r"#^\circ C",
        r"#^{\circ}\mathrm{C}",
        r"#\,^\circ\text{C}",
        r"#\ {}^\circ\mathrm{C}",
        r"#^{\circ}{\rm C}",
        r"#\,\mathrm{^\circ C}",
        r"#\text{ °C}",
        "#°C",
        "#℃",
        r"#\text{ degrees Celsius}",
    ]);
    check_boxed(&[
        ("-3", r"-3^\circ\mathrm{C}", true),
        ("3", r"-3^\circ\mathrm{C}", false),
        ("5", r"5^\circ\text{ below zero}", false),
    ]);
}

#[test]
fn currencies_are_dropped_before_and_after_the_amount() {
    check_forms(&[
        r"\$#",
        "Rs. #",
        "Rs.#",
        "Rs #",
        r"\text{Rs. }#",
        r"\mathrm{Rs.}\ #",
        "₹#",
        "#₹",
        "USD #",
        "# USD",
        "# EUR",
        r"\text{USD }#",
        r"\text{US}\$#",
        "€#",
        "# €",
        r"\pounds #",
        r"\yen#",
        r"#\text{ euros}",
        r"\$#/\text{day}",
        r"\$#\text{ per day}",
        r"# \text{ dollars per person}",
        r"\$# \text{ each}",
    ]);
    check_boxed(&[
        ("-500", r"-\$500", true),
        ("500", r"-\$500", false),
        ("5.5", r"\$5\frac12", true),
        (r"\$500", r"\text{Rs. }500", true),
        ("CAD", "CAD", true),
    ]);
}

#[test]
fn a_multiplier_counts_unless_only_one_side_says_it() {
    check_boxed(&[
        ("500000", "5 hundred thousand", true),
        ("500000", r"\frac12\text{ million}", true),
        ("7000000", r"5\text{ million}+2\text{ million}", true),
        ("2.5e6", r"2.5\,\mathrm{million}", true),
        ("60", r"5\text{ dozen eggs}", true),
        ("3.2", r"3.2\text{ million}", true),
        (r"5 \text{ million}", r"5 \text{ billion}", false),
        ("5000000", r"5 \text{ billion}", false),
        (r"5 \text{ million}", "6", false),
        ("3.2 million", "32 million", false),
    ]);
}

#[test]
fn the_half_of_the_day_counts_unless_only_one_side_says_it() {
    check_boxed(&[
        ("16:15", r"4:15\text{ PM}", true),
        (r"4:15\text{ p.m.}", "16:15", true),
        ("16:15", r"4:15\text{ AM}", false),
        ("16:15", "4:15", false),
        ("4:15", r"4:15\text{ PM}", true),
        ("0:30", r"12:30\text{ AM}", true),
        ("12:30", r"12:30\text{ PM}", true),
        (r"12:30\text{ AM}", r"12:30\text{ PM}", false),
    ]);
}

#[test]
fn a_rate_is_no_quotient() {
    check_boxed(&[
        ("5", "5/min", true),
        ("5", r"5/\text{s}", true),
        ("5", r"5/\text{n}", false),
        ("5", "5/million", false),
        ("2x", r"2x/\text{day}", true),
        ("2x", r"2x/\text{A}", false),
        ("2x", r"2x/\Omega", false),
        ("2x", r"2x/\mathrm{m}", false),
    ]);
}

#[test]
fn endings_of_ordinals_are_dropped_after_numbers() {
    check_boxed(&[
        ("3", r"3^{\text{rd}}", true),
        ("21", r"21^\text{st}", true),
        ("4", r"\text{4th}", true),
        ("2", r"2^{\mathrm{nd}}", true),
        ("3", r"4^{\text{th}}", false),
        ("2nd", "2dn", true),
        ("x^{th}", "x", false),
    ]);
}

#[test]
fn words_beside_equal_values_count_where_they_say_something_else() {
    check_boxed(&[
        (r"8\text{ a.m.}", "8 AM", true),
        (r"8\text{ a.m.}", r"8\text{ p.m.}", false),
        ("4:15 p.m.", r"4:15\,\mathrm{PM}", true),
        ("4:15 p.m.", r"4:15\,\mathrm{AM}", false),
        (r"10\text{ profit}", r"10\text{ loss}", false),
        (r"10\text{ m north}", r"10\text{ m south}", false),
        (r"10\text{ m north}", r"10\text{ m}", true),
        (r"5\text{ to the left}", r"5\text{ to the right}", false),
        (r"30\%\text{ increase}", r"30\%\text{ decrease}", false),
        (r"30\%", r"30\%\text{ increase}", true),
        (r"3\text{ on Monday}", r"3\text{ on Tuesday}", false),
        (r"\text{Alice } 5", r"\text{Bob } 5", false),
        (
            r"\text{Alice } 5, \text{Bob } 6",
            r"\text{Alice } 5, \text{Bob } 6",
            true,
        ),
        (
            r"\text{Alice } 5, \text{Bob } 6",
            r"\text{Bob } 5, \text{Alice } 6",
            false,
        ),
        (
            r"\text{Both: Alice } 5, \text{Bob } 6",
            r"\text{Both: Alice } 5, \text{Carl } 6",
            false,
        ),
        (r"\text{Team A by } 3", r"\text{Team B by } 3", false),
        (r"\text{A total of } 3", r"\text{The total is } 3", true),
        (r"30^\circ\text{ N}", r"30^\circ\text{ S}", false),
        (r"5\,\mathrm{N}", r"5\,\mathrm{s}", true),
        (r"\text{5 years older}", r"\text{5 years younger}", false),
        (r"2\text{ wins}", r"2\text{ losses}", false),
        (r"\text{3:45 PM}", r"\text{3:45 AM}", false),
        ("15:45", r"\text{3:45 PM}", true),
        (r"\text{at least }5", r"\text{at least }5", true),
        ("5", r"\text{at least }5", false),
        ("5", r"5\text{ at most}", false),
        ("5", r"5\text{ or more}", false),
        ("5", r"5\text{ is wrong}", false),
        (
            r"5\ \text{ft}\ 3\ \text{in}",
            r"5\text{ ft }3\text{ in}",
            true,
        ),
        (r"5\ \text{ft}\ 3\ \text{in}", "5", false),
        (
            r"5\ \text{ft}\ 3\ \text{in}",
            r"5\text{ ft }4\text{ in}",
            false,
        ),
        ("3", r"5\text{ ft }3\text{ in}", false),
    ]);
}

#[test]
fn fractions_and_binomials_in_infix_form_have_signs_of_their_own() {
    check_boxed(&[
        (r"\frac52", r"{5 \over 2}", true),
        ("10", r"{5 \choose 2}", true),
        (r"\frac52", "{5⊘2}", false),
        ("10", "{5©2}", false),
    ]);
}

#[test]
fn numbers_with_units_of_their_own_are_one_quantity() {
    check_boxed(&[
        (
            r"5\text{ hours }30\text{ minutes}",
            r"5\text{ h }30\text{ min}",
            true,
        ),
        (
            r"5\text{ hours }30\text{ minutes}",
            "5 hours and 30 minutes",
            true,
        ),
        (
            r"5\text{ hours and }30\text{ minutes}",
            r"5\text{ hours}, 30\text{ minutes}",
            true,
        ),
        (
            r"5\text{ hours }30\text{ minutes}",
            r"30\text{ hours }5\text{ minutes}",
            false,
        ),
        ("5 hours and 30 minutes", "30 hours and 5 minutes", false),
        (
            r"5\text{ ft }3\text{ in}",
            r"5 \text{ feet } 3 \text{ inches}",
            true,
        ),
        (r"5\text{ ft }3\text{ in}", r"5\text{ m }3\text{ cm}", false),
        (r"5\text{ ft }3\text{ in}", "8", false),
        ("8", r"5\text{ ft }3\text{ in}", false),
        ("5", r"5\text{ ft }3\text{ in}", false),
        (
            r"x=5\text{ ft }3\text{ in}",
            r"5\text{ ft }3\text{ in}",
            true,
        ),
        // Without its units, two numbers.
        ("5, 30", r"5\text{ hours}, 30\text{ minutes}", true),
        ("3, 4", r"3\text{ cm and }4\text{ cm}", true),
        (
            r"3\text{ kg}, 2\text{ N}",
            r"3\text{ kilograms}, 2\text{ newtons}",
            true,
        ),
        (
            r"3 \text{ apples and } 5 \text{ pears}",
            r"5 \text{ apples and } 3 \text{ pears}",
            false,
        ),
        ("5", "5 3 in", false),
    ]);
}

#[test]
fn what_a_quantity_is_counts_where_both_sides_say_it() {
    check_boxed(&[
        (r"\text{August } 31", r"\text{August 31}", true),
        (r"\text{August } 31", "31", false),
        ("31", r"\text{August } 31", true),
        (r"5 \text{ m north}", r"5\text{ m east}", false),
        (r"5 \text{ m north}", r"5\text{ m north}", true),
        (r"5 \text{ m north}", "5", true),
        (r"\text{6 boys}", r"6\text{ girls}", false),
        (r"\text{6 boys}", r"6\text{ boys}", true),
    ]);
}
