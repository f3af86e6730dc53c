//! The dynamic maps from 8 bits to numbers (Dettmers, 2016, arXiv 1511.04561; Dettmers et al., 2022, arXiv 2110.02861).

use std::sync::LazyLock;

/// Decades, the last of which ends at 1.
const DECADES: i32 = 7;

/// Magnitudes are looked up by the upper half of their bits: a sign, which is 0, the exponent and 7 bits of the fraction.
const LOW_BITS: u32 = 16;
const LOW: u32 = (1 << LOW_BITS) - 1;

/// The first cell begins at 2^-23, below which every magnitude is nearest to 0; the last is that of 1.
const FIRST: u32 = 0x3400;
const ONE: u32 = 0x3f80;

/// At least the number of cells, and a power of two, so that no index needs a check.
const CELLS: usize = 4096;

/// The numbers from -1 to 1 that 8 bits stand for, and what finds the nearest.
///
/// Each of seven decades, of which the first ends at 1e-6 and the last at 1, is cut into equal parts, twice as many as the
/// decade below, and the middles of these parts are the numbers. 0 and 1 are added.
pub(super) struct Map {
    /// By code, in ascending order.
    values: [f32; 256],
    /// The code of 0.
    zero: u8,
    /// For each cell the place of its first value among the magnitudes in the upper half, and in the lower what
    /// carries into it when the lower bits of a value are above the boundary to the next magnitude.
    cells: Box<[u32; CELLS]>,
}

/// For the first moment: 127 numbers of either sign, 0 and 1.
pub(super) static SIGNED: LazyLock<Map> = LazyLock::new(|| {
    let magnitudes = magnitudes(1);
    let negative = magnitudes[1..128].iter().rev().map(|x| -x);
    let values: Vec<f32> = negative.chain(magnitudes.iter().copied()).collect();
    Map::new(&values, &magnitudes)
});

/// For the second moment: 254 positive numbers, 0 and 1.
pub(super) static UNSIGNED: LazyLock<Map> = LazyLock::new(|| {
    let magnitudes = magnitudes(2);
    Map::new(&magnitudes, &magnitudes)
});

/// 0, the middles of the parts of all decades, of which the first has so many, and 1.
fn magnitudes(first_parts: i32) -> Vec<f32> {
    let of_decade = |decade: i32| {
        let n = first_parts << decade;
        let end = 10f64.powi(decade + 1 - DECADES);
        (0..n).map(move |i| end * (0.1 + 0.9 * (f64::from(i) + 0.5) / f64::from(n)))
    };
    let middles = (0..DECADES).flat_map(of_decade);
    let all = std::iter::once(0.0).chain(middles).chain([1.0]);
    all.map(|x| x as f32).collect()
}

impl Map {
    fn new(values: &[f32], magnitudes: &[f32]) -> Self {
        let mut cells = Box::new([0; CELLS]);
        let boundaries: Vec<u32> = magnitudes.windows(2).map(boundary).collect();
        for (cell, entry) in (FIRST..=ONE).zip(cells.iter_mut()) {
            let place = boundaries.partition_point(|&boundary| boundary >> LOW_BITS < cell);
            let low = match boundaries.get(place) {
                Some(&boundary) if boundary >> LOW_BITS == cell => boundary & LOW,
                _ => LOW,
            };
            *entry = ((place as u32) << LOW_BITS) + (LOW - low);
        }
        let zero = values.len() - magnitudes.len();
        Self {
            values: values.try_into().expect("256 values"),
            zero: zero as u8,
            cells,
        }
    }

    /// The code of 0.
    pub(super) fn zero(&self) -> u8 {
        self.zero
    }

    /// The smallest number above 0.
    pub(super) fn smallest(&self) -> f32 {
        self.values[usize::from(self.zero) + 1]
    }

    /// The number that a code stands for.
    #[inline(always)]
    pub(super) fn value(&self, code: u8) -> f32 {
        self.values[usize::from(code)]
    }

    /// The codes of the numbers nearest to `values`; of the one nearer to 0 where two are equally near.
    #[inline(always)]
    pub(super) fn nearest<const N: usize>(&self, values: &[f32; N]) -> [u8; N] {
        let (cells, zero) = (&*self.cells, i32::from(self.zero));
        // In an array of its own, which is known not to be the table: only so are the look-ups vectorised.
        let mut codes = [0; N];
        for (code, x) in codes.iter_mut().zip(values) {
            let bits = x.abs().to_bits();
            let bits = bits.clamp(FIRST << LOW_BITS, ONE << LOW_BITS);
            let cell = ((bits >> LOW_BITS) - FIRST) as usize % CELLS;
            let place = ((cells[cell] + (bits & LOW)) >> LOW_BITS) as i32;
            // All ones if the sign bit is set: then this is `-place`.
            let sign = x.to_bits() as i32 >> 31;
            let place = (place ^ sign) - sign;
            // The largest magnitude, 1, has no negative.
            *code = (zero + place).max(0) as u8;
        }
        codes
    }
}

/// The largest f32 that is not above the middle of two neighbours, as bits.
fn boundary(neighbours: &[f32]) -> u32 {
    let middle = (f64::from(neighbours[0]) + f64::from(neighbours[1])) / 2.0;
    let mut boundary = middle as f32;
    if f64::from(boundary) > middle {
        boundary = boundary.next_down();
    }
    boundary.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_are_the_published_ones() {
        for map in [&*SIGNED, &*UNSIGNED] {
            assert!(map.values.is_sorted_by(|a, b| a < b), "256 different codes");
            assert_eq!(map.value(map.zero()), 0.0);
            assert_eq!(map.value(255), 1.0);
        }
        assert_eq!((SIGNED.zero(), UNSIGNED.zero()), (127, 0));
        for i in 1..=127 {
            assert_eq!(SIGNED.value(127 - i), -SIGNED.value(127 + i));
        }
        // From the map of bitsandbytes 0.50.2, which computes in f32.
        for (map, code, expected) in [
            (&SIGNED, 0, -0.992_968_74),
            (&SIGNED, 1, -0.978_906_3),
            (&SIGNED, 126, -5.5e-7),
            (&SIGNED, 128, 5.5e-7),
            (&SIGNED, 129, 3.25e-6),
            (&SIGNED, 130, 7.75e-6),
            (&SIGNED, 254, 0.992_968_74),
            (&UNSIGNED, 1, 3.250_000_3e-7),
            (&UNSIGNED, 2, 7.75e-7),
            (&UNSIGNED, 3, 2.124_999_8e-6),
            (&UNSIGNED, 126, 0.099_296_875),
            (&UNSIGNED, 127, 0.103_515_625),
            (&UNSIGNED, 254, 0.996_484_4),
        ] {
            let found = map.value(code);
            let error = (found - expected).abs() / expected.abs();
            assert!(error < 2e-7, "code {code}: {found} and {expected}");
        }
    }

    /// Of all codes, those whose numbers are nearest.
    fn nearest(map: &Map, x: f32) -> Vec<u8> {
        let distance = |code: &u8| (f64::from(map.value(*code)) - f64::from(x)).abs();
        let least = (0..=255)
            .map(|code| distance(&code))
            .fold(f64::MAX, f64::min);
        (0..=255).filter(|code| distance(code) == least).collect()
    }

    #[test]
    fn rounding_is_to_the_nearest_number() {
        for (map, signs) in [(&*SIGNED, &[1.0, -1.0][..]), (&*UNSIGNED, &[1.0])] {
            let check = |x: f32| {
                for x in signs.iter().map(|sign| sign * x) {
                    let (found, expected) = (map.nearest(&[x])[0], nearest(map, x));
                    assert!(
                        expected.contains(&found),
                        "{x:e}: {found}, not {expected:?}"
                    );
                }
            };
            // Every number, every boundary, and the values next to both.
            for pair in map.values[usize::from(map.zero())..].windows(2) {
                for x in [pair[0], f32::from_bits(boundary(pair)), pair[1]] {
                    for x in [x.next_down().abs(), x, x.next_up()] {
                        check(x);
                    }
                }
            }
            // All magnitudes by steps of 2^-10 of their own size, and what is too small or too large.
            (0..=0x3f80_0000)
                .step_by(1 << 13)
                .for_each(|bits| check(f32::from_bits(bits)));
            for x in [f32::MIN_POSITIVE, 1.0 + f32::EPSILON, 2.0, f32::INFINITY] {
                check(x.min(1.0));
                assert_eq!(map.nearest(&[x]), map.nearest(&[x.min(1.0)]));
            }
            assert_eq!(map.nearest(&[map.smallest()]), [map.zero() + 1]);
        }
    }
}
