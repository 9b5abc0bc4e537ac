//! Rounding to the nearest number of a floating-point format, in as few instructions as it takes.
//!
//! The formats' own grids round in every mode and keep every special case; a partial sum is rounded
//! at each of billions of steps, nearly always to the nearest.

use lowbit_formats::float::Specials;
use lowbit_formats::{Float, Grid, Rounding};

const SIGN: u32 = 1 << 31;
const EXPONENT: u32 = 0x7F80_0000;

/// Rounding to the nearest, to be attempted with a sum that was rounded to f32.
pub(super) trait Nearest: Grid {
    /// Whether `x` is in the middle of two numbers. Where the f32 next to a sum is not, it lies on
    /// the same side of every middle as the sum: rounding to f32 keeps the order of numbers, of
    /// which every middle is one that f32 has.
    fn is_middle(&self, x: f32) -> bool;
}

/// Formats whose steps f32 additions can round to: to `x` is added, and taken away again, the
/// `c = 1.5 2^23 step` of its step, whose last place is that step. `x + c` stays between the powers
/// of two around `c` for numbers of either sign, and the even sum is the even number of steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Narrow {
    /// Exponents, in place, of the smallest normal and of the largest value.
    exponents: [u32; 2],
    /// Added to the exponent of `x`, gives `c`.
    lift: u32,
    /// Taken from the exponent of `x`, gives half a step.
    to_half: u32,
    max: f32,
    /// What a larger magnitude becomes.
    overflow: u32,
}

impl Narrow {
    /// The rounding to a format that has minus zero and subnormals, and whose `c` f32 holds.
    pub(super) fn new(format: &Float) -> Option<Self> {
        let max = format.max_finite();
        let exponents = [format.min_normal(), max].map(|x| x.to_bits() & EXPONENT);
        let up = 23 - u32::from(format.mantissa());
        let fits = (1..=21).contains(&format.mantissa())
            && format.has_subnormals()
            && format.specials() != Specials::Fnuz
            && exponents[0] > 24 << 23
            && (exponents[1] >> 23) + up <= 254;
        let overflow = match format.specials() {
            _ if format.saturates() => max,
            Specials::Ieee => f32::INFINITY,
            _ => f32::NAN,
        };
        fits.then(|| Self {
            exponents,
            lift: up << 23 | 1 << 22,
            to_half: (u32::from(format.mantissa()) + 1) << 23,
            max,
            overflow: overflow.to_bits(),
        })
    }
}

impl Narrow {
    /// The exponent whose steps `x` is rounded to, in place. Numbers beyond the largest are rounded
    /// more than to those, and stay too large.
    #[inline(always)]
    fn exponent(&self, x: f32) -> u32 {
        let [least, greatest] = self.exponents;
        (x.to_bits() & EXPONENT).max(least).min(greatest)
    }
}

impl Nearest for Narrow {
    #[inline(always)]
    fn is_middle(&self, x: f32) -> bool {
        let exponent = self.exponent(x);
        let c = f32::from_bits(exponent + self.lift);
        let half = f32::from_bits(exponent - self.to_half);
        (x - ((x + c) - c)).abs() == half
    }
}

impl Grid for Narrow {
    #[inline(always)]
    fn round(&self, x: f32, _: Rounding, _: u32) -> f32 {
        let bits = x.to_bits();
        let exponent = self.exponent(x);
        let c = f32::from_bits(exponent + self.lift);
        let magnitude = ((x + c) - c).abs();
        let rounded = if magnitude > self.max {
            self.overflow
        } else {
            magnitude.to_bits()
        };
        f32::from_bits(rounded | bits & SIGN)
    }
}

/// A [`Narrow`] whose numbers are known not to go beyond the largest, and, unless `SMALL`, to be
/// multiples of the smallest one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounded<const SMALL: bool> {
    least: u32,
    lift: u32,
    to_half: u32,
}

impl Narrow {
    /// The same for numbers that stay below `2^(highest + 1)`, if that is within the format.
    pub(super) fn bounded<const SMALL: bool>(&self, highest: i32) -> Option<Bounded<SMALL>> {
        let greatest = (self.exponents[1] >> 23) as i32 - 127;
        // The largest number has its exponent and may have any bits.
        (highest < greatest).then_some(Bounded {
            least: self.exponents[0],
            lift: self.lift,
            to_half: self.to_half,
        })
    }
}

impl<const SMALL: bool> Bounded<SMALL> {
    #[inline(always)]
    fn exponent(&self, x: f32) -> u32 {
        let exponent = x.to_bits() & EXPONENT;
        if SMALL {
            exponent.max(self.least)
        } else {
            exponent
        }
    }
}

impl<const SMALL: bool> Nearest for Bounded<SMALL> {
    #[inline(always)]
    fn is_middle(&self, x: f32) -> bool {
        let exponent = self.exponent(x);
        let c = f32::from_bits(exponent.wrapping_add(self.lift));
        // Of zero, no half.
        let half = f32::from_bits(exponent.wrapping_sub(self.to_half));
        (x - ((x + c) - c)).abs() == half
    }
}

impl<const SMALL: bool> Grid for Bounded<SMALL> {
    #[inline(always)]
    fn round(&self, x: f32, _: Rounding, _: u32) -> f32 {
        let c = f32::from_bits(self.exponent(x).wrapping_add(self.lift));
        let rounded = (x + c) - c;
        if SMALL {
            // What a negative number leaves is minus zero.
            f32::from_bits(rounded.to_bits() | x.to_bits() & SIGN)
        } else {
            rounded
        }
    }
}

/// Formats with the exponents of f32, where the same number of bits is always cut: a carry moves into
/// the exponent, and beyond the largest number to infinity. Of NaN only the one that operations make
/// stays NaN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wide {
    shift: u32,
    /// One less than half of the bits that are cut.
    below_half: u32,
    kept: u32,
}

impl Wide {
    /// The rounding to a format.
    pub(super) fn new(format: &Float) -> Option<Self> {
        let plain = Float::new(8, format.mantissa()).ok()?;
        let shift = 23 - u32::from(format.mantissa());
        let fits = *format == plain && (1..=21).contains(&format.mantissa());
        fits.then(|| Self {
            shift,
            below_half: (1 << (shift - 1)) - 1,
            kept: u32::MAX << shift,
        })
    }
}

impl Nearest for Wide {
    #[inline(always)]
    fn is_middle(&self, x: f32) -> bool {
        x.to_bits() & !self.kept == self.below_half + 1
    }
}

impl Grid for Wide {
    #[inline(always)]
    fn round(&self, x: f32, _: Rounding, _: u32) -> f32 {
        let bits = x.to_bits();
        let odd = bits >> self.shift & 1;
        f32::from_bits((bits + self.below_half + odd) & self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_formats::Format;

    /// Every 32,771st f32 and many that lie next to a number or in the middle of two, against the
    /// format's own rounding.
    fn check(format: &Float, grid: impl Nearest) {
        let near = (0..1u32 << 13).flat_map(|k| {
            let middle = k << 19;
            [middle.wrapping_sub(1), middle, middle + 1]
        });
        let far = (0..1u32 << 17).map(|k| k * 32_771);
        let own = Format::Float(*format);
        for bits in near.chain(far) {
            let x = f32::from_bits(bits);
            if x.is_nan() {
                continue;
            }
            let rounded = grid.round(x, Rounding::NearestEven, 0);
            let expected = own.round(x, Rounding::NearestEven, 0);
            let same = rounded.to_bits() == expected.to_bits();
            assert!(
                same || rounded.is_nan() && expected.is_nan(),
                "{format} {x}"
            );
        }
    }

    #[test]
    fn rounds_as_the_format_does() {
        let (mut narrow, mut wide) = (0, 0);
        for exponent in 2..=8 {
            for mantissa in 0..=21 {
                for specials in [Specials::Ieee, Specials::Fn, Specials::Finite] {
                    let Ok(format) = Float::with_specials(exponent, mantissa, specials) else {
                        continue;
                    };
                    for format in [format, format.saturating()] {
                        if let Some(grid) = Narrow::new(&format) {
                            check(&format, grid);
                            narrow += 1;
                        }
                        if let Some(grid) = Wide::new(&format) {
                            check(&format, grid);
                            wide += 1;
                        }
                    }
                }
            }
        }
        assert!(narrow > 500 && wide == 21, "{narrow} {wide}");
    }

    /// What inf - inf gives on either kind of CPU stays NaN.
    #[test]
    fn nan_of_operations_stays() {
        for mantissa in [1, 7, 10, 21] {
            let grid = Wide::new(&Float::new(8, mantissa).unwrap()).unwrap();
            for bits in [0x7FC0_0000, 0xFFC0_0000] {
                let rounded = grid.round(f32::from_bits(bits), Rounding::NearestEven, 0);
                assert!(rounded.is_nan());
            }
        }
    }
}
