//! Multipliers of 31 bits, and division by a constant.

/// `multiplier / 2^31 * 2^shift`, the multiplier from 2^30 to 2^31 - 1: a positive number to 31 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplier {
    pub(super) multiplier: i64,
    pub(super) shift: i32,
}

impl Multiplier {
    /// The nearest to `numerator / denominator / 2^shift`, where both are above 0, the numerator below
    /// 2^94 and the denominator below 2^32. Half goes up.
    pub(super) fn nearest(numerator: u128, denominator: u64, shift: u32) -> Self {
        let denominator = u128::from(denominator);
        // The quotient is from 2^(exponent - 1) to 2^exponent: one of two, by their lengths.
        let length = |n: u128| 128 - n.leading_zeros() as i32;
        let mut exponent = length(numerator) - length(denominator);
        let reaches = |exponent: i32| match exponent {
            0.. => numerator >= denominator << exponent,
            _ => numerator << -exponent >= denominator,
        };
        if reaches(exponent) {
            exponent += 1;
        }
        let (n, d) = match 31 - exponent {
            up @ 0.. => (numerator << up, denominator),
            down => (numerator, denominator << -down),
        };
        let mut multiplier = ((2 * n + d) / (2 * d)) as i64;
        if multiplier == 1 << 31 {
            (multiplier, exponent) = (1 << 30, exponent + 1);
        }
        Self {
            multiplier,
            shift: exponent - shift as i32,
        }
    }
}

/// A multiplier and a shift without a common factor 2.
pub(super) fn reduced(multiplier: i64, shift: u32) -> (i64, u32) {
    let twos = multiplier.trailing_zeros().min(shift);
    (multiplier >> twos, shift - twos)
}

/// Multiplier and shift that divide every integer of a magnitude of at most `most` by `divisor`,
/// rounding half away from zero, as an integer division of `x + divisor / 2` (or `x - divisor / 2`
/// below zero) does. `None` if the product would not fit 61 bits.
///
/// With `m = ceil(2^s / d)` and `e = m d - 2^s`, `|x| m / 2^s` is above `|x| / d` by
/// `|x| e / (d 2^s)`. Ties stay ties or grow, which rounds them away from zero; what is below a tie is
/// below it by at least `1 / (2 d)`, so that `|x| e < 2^(s-1)` is enough.
pub(super) fn division(divisor: u64, most: u64) -> Option<(i64, u32)> {
    let (d, most) = (u128::from(divisor), u128::from(most));
    (0..62u32).find_map(|shift| {
        let multiplier = (1u128 << shift).div_ceil(d);
        let excess = multiplier * d - (1 << shift);
        let exact = excess == 0 || 2 * most * excess < 1 << shift;
        let fits = multiplier * most < 1 << 61;
        (exact && fits).then_some((multiplier as i64, shift))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Rounding;

    /// 0.25 is 2^30 / 2^31 * 2^-1, 1 is 2^30 / 2^31 * 2^1; 3/7 is 0.857142.. / 2, and
    /// 0.857142857142857 * 2^31 is 1840700269.7; the greatest number below 1 in 40 bits is 1 in 31.
    #[test]
    fn multipliers_by_hand() {
        for (numerator, denominator, shift, multiplier, exponent) in [
            (1, 4, 0, 1 << 30, -1),
            (1, 1, 2, 1 << 30, -1),
            (1, 1, 0, 1 << 30, 1),
            (5, 1, 0, 5 << 28, 3),
            (3, 7, 0, 1_840_700_270, -1),
            (3, 7, 5, 1_840_700_270, -6),
            ((1 << 40) - 1, 1, 40, 1 << 30, 1),
            ((1 << 31) - 1, 1, 31, (1 << 31) - 1, 0),
            (1 << 90, 1 << 19, 71, 1 << 30, 1),
        ] {
            let found = Multiplier::nearest(numerator, denominator, shift);
            let shift = exponent;
            assert_eq!(found, Multiplier { multiplier, shift });
        }
    }

    /// Against the division of integers that TensorFlow Lite's pools have.
    #[test]
    fn divisions_are_those_of_integers() {
        for divisor in (1i64..200).chain([1024, 3136, 65535]) {
            let most = 200 * divisor;
            let (multiplier, shift) = division(divisor as u64, most as u64).unwrap();
            let steps = (-most..=most).step_by((divisor as usize / 50).max(1));
            let ties = (-400..400).flat_map(|k| [k * divisor / 2 - 1, k * divisor / 2]);
            for x in steps.chain(ties.filter(|x| x.abs() <= most)) {
                let half = divisor / 2;
                let expected = if x > 0 { x + half } else { x - half } / divisor;
                let found = Rounding::HalfAway.shift(multiplier * x, shift);
                assert_eq!(found, expected, "{x} / {divisor}");
            }
        }
        assert_eq!(division(3, 1 << 62), None);
    }
}
