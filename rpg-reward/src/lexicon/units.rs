//! What may be said beside a number: units, currencies, words that multiply, endings of ordinals.

/// What a name beside a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A unit of measurement, a count, or a word that belongs to one; one letter is a unit in upright type only.
    Unit,
    /// A unit where it is set apart from the number: `5 in`, but not `5in`.
    Apart,
    /// A unit whose name in plain letters is a product or a function: `5\,\mathrm{nm}`.
    Upright,
    /// A word that divides: `per`.
    Per,
    /// A currency, before or after its amount.
    Currency,
    /// The ending of an ordinal number.
    Ordinal,
    /// A word that multiplies the number by a power: base and exponent.
    Multiplier(u32, u32),
}

/// The names in the order of their bytes.
const NAMES: &[(&str, Kind)] = {
    use Kind::{Apart, Currency, Multiplier, Ordinal, Per, Unit};
    &[
        ("A", Apart),
        ("AM", Unit),
        ("AUD", Currency),
        ("Bq", Apart),
        ("C", Apart),
        ("CAD", Currency),
        ("CNY", Currency),
        ("EUR", Currency),
        ("F", Apart),
        ("GBP", Currency),
        ("GHz", Unit),
        ("GPa", Unit),
        ("Gy", Apart),
        ("H", Apart),
        ("HK", Currency),
        ("HKD", Currency),
        ("Hz", Unit),
        ("INR", Currency),
        ("J", Unit),
        ("JPY", Currency),
        ("K", Unit),
        ("L", Unit),
        ("M", Apart),
        ("MHz", Unit),
        ("MPa", Unit),
        ("MeV", Unit),
        ("N", Unit),
        ("PM", Unit),
        ("Pa", Unit),
        ("RMB", Currency),
        ("Rs", Currency),
        ("Sv", Apart),
        ("T", Apart),
        ("US", Currency),
        ("USD", Currency),
        ("V", Unit),
        ("W", Unit),
        ("Wb", Apart),
        ("atm", Unit),
        ("billion", Multiplier(10, 9)),
        ("cc", Unit),
        ("cent", Currency),
        ("centimeter", Unit),
        ("centimeters", Unit),
        ("cents", Currency),
        ("cm", Unit),
        ("cubic", Unit),
        ("dB", Apart),
        ("day", Unit),
        ("days", Unit),
        ("dm", Unit),
        ("dollar", Currency),
        ("dollars", Currency),
        ("dozen", Multiplier(12, 1)),
        ("eV", Unit),
        ("euro", Currency),
        ("euros", Currency),
        ("feet", Unit),
        ("foot", Unit),
        ("ft", Unit),
        ("g", Unit),
        ("gallon", Unit),
        ("gallons", Unit),
        ("gram", Unit),
        ("grams", Unit),
        ("h", Unit),
        ("hPa", Unit),
        ("hour", Unit),
        ("hours", Unit),
        ("hp", Unit),
        ("hr", Unit),
        ("hrs", Unit),
        ("hundred", Multiplier(10, 2)),
        ("in", Apart),
        ("inch", Unit),
        ("inches", Unit),
        ("kHz", Unit),
        ("kJ", Unit),
        ("kN", Apart),
        ("kPa", Unit),
        ("kV", Apart),
        ("kW", Unit),
        ("kWh", Unit),
        ("keV", Unit),
        ("kg", Unit),
        ("kilogram", Unit),
        ("kilograms", Unit),
        ("kilometer", Unit),
        ("kilometers", Unit),
        ("km", Unit),
        ("kmh", Unit),
        ("kmph", Unit),
        ("kph", Unit),
        ("l", Unit),
        ("lb", Unit),
        ("lbs", Unit),
        ("liter", Unit),
        ("liters", Unit),
        ("litre", Unit),
        ("litres", Unit),
        ("lm", Apart),
        ("lx", Apart),
        ("ly", Apart),
        ("m", Unit),
        ("mA", Apart),
        ("mL", Unit),
        ("meter", Unit),
        ("meters", Unit),
        ("metre", Unit),
        ("metres", Unit),
        ("mg", Unit),
        ("mi", Unit),
        ("mile", Unit),
        ("miles", Unit),
        ("million", Multiplier(10, 6)),
        ("min", Unit),
        ("mins", Unit),
        ("minute", Unit),
        ("minutes", Unit),
        ("ml", Unit),
        ("mm", Unit),
        ("mol", Unit),
        ("month", Unit),
        ("months", Unit),
        ("mph", Unit),
        ("nd", Ordinal),
        ("ohm", Unit),
        ("ohms", Unit),
        ("ounce", Unit),
        ("ounces", Unit),
        ("oz", Unit),
        ("per", Per),
        ("points", Unit),
        ("pound", Unit),
        ("pounds", Unit),
        ("ppb", Apart),
        ("ppm", Apart),
        ("pts", Unit),
        ("rad", Unit),
        ("radian", Unit),
        ("radians", Unit),
        ("rd", Ordinal),
        ("rpm", Unit),
        ("rupees", Currency),
        ("s", Unit),
        ("sec", Unit),
        ("second", Unit),
        ("seconds", Unit),
        ("secs", Unit),
        ("sq", Unit),
        ("square", Unit),
        ("st", Ordinal),
        ("th", Ordinal),
        ("thousand", Multiplier(10, 3)),
        ("times", Unit),
        ("ton", Unit),
        ("tons", Unit),
        ("trillion", Multiplier(10, 12)),
        ("unit", Unit),
        ("units", Unit),
        ("usd", Currency),
        ("ways", Unit),
        ("week", Unit),
        ("weeks", Unit),
        ("yard", Unit),
        ("yards", Unit),
        ("yd", Unit),
        ("year", Unit),
        ("years", Unit),
    ]
};

/// Names of units, in the singular, and their symbols.
const SYMBOLS: [(&str, &str); 22] = [
    ("hour", "h"),
    ("hr", "h"),
    ("minute", "min"),
    ("second", "s"),
    ("sec", "s"),
    ("foot", "ft"),
    ("feet", "ft"),
    ("inch", "in"),
    ("inche", "in"),
    ("yr", "year"),
    ("yard", "yd"),
    ("mile", "mi"),
    ("pound", "lb"),
    ("ounce", "oz"),
    ("meter", "m"),
    ("metre", "m"),
    ("centimeter", "cm"),
    ("kilometer", "km"),
    ("gram", "g"),
    ("kilogram", "kg"),
    ("liter", "L"),
    ("litre", "L"),
];

/// The symbols that may follow a prefix such as `k` or `\mu`.
const PREFIXED: [&str; 20] = [
    "m", "s", "g", "N", "J", "W", "V", "K", "L", "l", "A", "C", "F", "T", "H", "Hz", "Pa", "eV",
    "mol", "bar",
];

/// What `name` is beside a number, in plain letters.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    let index = NAMES.binary_search_by(|(known, _)| known.cmp(&name)).ok()?;
    Some(NAMES[index].1)
}

/// What `name` is beside a number in upright letters, where a prefix may precede a symbol.
pub(crate) fn upright_kind(name: &str) -> Option<Kind> {
    kind(name).or_else(|| {
        let symbol = name.get(1..)?;
        (is_prefix(&name[..1]) && takes_prefix(symbol)).then_some(Kind::Upright)
    })
}

/// Whether a word after a number is a unit or a currency rather than a product of variables.
pub(crate) fn is_unit(word: &str) -> bool {
    word.len() > 1 && matches!(kind(word), Some(Kind::Unit | Kind::Currency | Kind::Per))
}

/// The shortest name of a unit, whatever it is called: `h` for `hours`.
pub(crate) fn symbol(name: &str) -> Option<&str> {
    let singular = name.strip_suffix('s').filter(|rest| rest.len() > 1);
    let one = singular.unwrap_or(name);
    let found = SYMBOLS.iter().find(|(known, _)| *known == one);
    match upright_kind(name)? {
        Kind::Unit | Kind::Apart | Kind::Upright | Kind::Currency => {
            Some(found.map_or(one, |(_, symbol)| symbol))
        }
        _ => None,
    }
}

/// Whether a word names a currency.
pub(crate) fn is_currency(word: &str) -> bool {
    kind(word) == Some(Kind::Currency)
}

/// Whether a name multiplies the unit after it: `k`, `\mu`. A `d` may be a differential.
pub(crate) fn is_prefix(name: &str) -> bool {
    matches!(name, "k" | "M" | "G" | "T" | "m" | "n" | "p" | "mu")
}

/// Whether a unit may have a prefix.
pub(crate) fn takes_prefix(symbol: &str) -> bool {
    PREFIXED.contains(&symbol) || symbol == "Omega"
}

/// The base and the exponent of the factor that a word after a number means: 10 and 6 for `million`.
pub(crate) fn multiplier(word: &str) -> Option<(u32, u32)> {
    match kind(word) {
        Some(Kind::Multiplier(base, exponent)) => Some((base, exponent)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, is_unit, upright_kind};

    #[test]
    fn every_name_is_found() {
        for pair in NAMES.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
        }
    }

    #[test]
    fn a_prefix_makes_a_unit_of_a_symbol_only() {
        for (name, is) in [
            ("nm", true),
            ("GHz", true),
            ("kPa", true),
            ("mmol", true),
            ("kcm", false),
            ("AB", false),
            ("µ", false),
        ] {
            assert_eq!(upright_kind(name).is_some(), is, "{name}");
        }
        assert!(is_unit("cm") && !is_unit("m") && !is_unit("nm") && !is_unit("in"));
    }
}
