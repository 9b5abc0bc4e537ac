//! Two fixed-point grids that a flag tells apart.

use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{FormatText, Grid, ScalarFormat, power_of_two};

/// Integers of `k` bits without the lowest one, in steps of `s = 2^(1-k)` where the flag is set, and of
/// `s 2^(1-k)` where it is not: `+-(1 .. 2^(k-1) - 1) s`, and between `-s` and `s` as many values again.
///
/// The flag quantization `FQ` of WAGEUBN for the errors that reach a convolution on the way back (Yang et
/// al., arXiv 1909.02384, section III-D; `Q_E2`): a product with it is one of `k`-bit integers, and
/// small errors survive. `scale_log2` multiplies every value by a power of two.
///
/// The number of steps is rounded first and clamped after. Minus zero becomes zero, infinities the
/// limits, and NaN stays NaN, which no code holds. A code is the flag and the integer in two's
/// complement; `s` itself has the flag.
///
/// Text: `flag(8)`, `flag(8,scale_log2=-3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flag {
    bits: u8,
    scale_log2: i8,
}

impl Flag {
    /// Integers of `bits` bits beside the flag.
    ///
    /// # Errors
    ///
    /// If `bits` is not in 2..=12.
    pub fn new(bits: u8) -> Result<Self, FormatError> {
        check_range("flag", "bits", bits, 2..=12)?;
        Ok(Self {
            bits,
            scale_log2: 0,
        })
    }

    /// The same with every value multiplied by `2^scale_log2`.
    ///
    /// # Errors
    ///
    /// If `scale_log2` is not in -104..=127, within which every value is a normal number of f32.
    pub fn with_scale_log2(self, scale_log2: i8) -> Result<Self, FormatError> {
        check_range("flag", "scale_log2", scale_log2, -104..=127)?;
        Ok(Self { scale_log2, ..self })
    }

    /// The same with every value multiplied by `2^log2`; `None` where it would be out of range.
    pub fn times_power_of_two(self, log2: i32) -> Option<Self> {
        let log2 = i32::from(self.scale_log2).checked_add(log2)?;
        self.with_scale_log2(i8::try_from(log2).ok()?).ok()
    }

    /// Bits of the integers.
    pub fn integer_bits(&self) -> u8 {
        self.bits
    }

    /// The power of two that multiplies every value.
    pub fn scale_log2(&self) -> i8 {
        self.scale_log2
    }

    /// The largest integer.
    fn largest(&self) -> u32 {
        (1 << (self.bits - 1)) - 1
    }

    /// Powers of two of the steps with and without the flag.
    fn steps_log2(&self) -> [i32; 2] {
        let places = i32::from(self.bits) - 1;
        let log2 = i32::from(self.scale_log2);
        [log2 - places, log2 - 2 * places]
    }
}

impl FormatText for Flag {
    const EXAMPLES: &'static [&'static str] = &["flag(8)"];

    fn has_name(name: &str) -> bool {
        name == "flag"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (numbers, options) = call.split(1)?;
        let mut format = Self::new(numbers[0].number("bits")?)?;
        for option in options {
            format = match option.key() {
                "scale_log2" => format.with_scale_log2(option.number("scale_log2")?)?,
                other => return Err(Reason::option(other, "scale_log2=number")),
            };
        }
        Ok(format)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scale_log2 {
            0 => write!(f, "flag({})", self.bits),
            log2 => write!(f, "flag({},scale_log2={log2})", self.bits),
        }
    }
}

impl ScalarFormat for Flag {
    type Grid<'a> = FlagGrid;

    fn grid(&self) -> FlagGrid {
        let [coarse, fine] = self.steps_log2();
        FlagGrid {
            coarse: power_of_two(coarse),
            per_coarse: power_of_two(-coarse),
            fine: power_of_two(fine),
            per_fine: power_of_two(-fine),
            largest: self.largest() as f32,
        }
    }

    fn bits(&self) -> u32 {
        u32::from(self.bits) + 1
    }

    fn encode(&self, value: f32) -> u32 {
        let grid = self.grid();
        let (flag, integer) = match value.abs() < grid.coarse {
            true => (0, value * grid.per_fine),
            false => (1, value * grid.per_coarse),
        };
        // A float becomes the nearest integer of the target's range, and NaN zero.
        let integer = integer as i32 as u32;
        (flag << self.bits) | (integer & ((1 << self.bits) - 1))
    }

    fn decode(&self, code: u32) -> f32 {
        let unused = u32::BITS - u32::from(self.bits);
        let integer = (code << unused) as i32 >> unused;
        // The lowest integer is not used.
        let integer = integer.max(-(self.largest() as i32));
        let grid = self.grid();
        let step = match code >> self.bits & 1 {
            1 => grid.coarse,
            _ => grid.fine,
        };
        integer as f32 * step
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        fields(digits, &[("flag", 1)], "number")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        let [_, exponent] = self.steps_log2();
        let max = i128::from(self.largest()) << (self.bits - 1);
        Some(IntegerRange {
            exponent,
            min: -max,
            max,
        })
    }

    fn facts(&self) -> Facts {
        let largest = u64::from(self.largest());
        let extent = Extent::of_steps(self.min(), self.max());
        let values = 4 * largest + 1;
        Facts::new(self, Extent { values, ..extent })
    }

    fn min(&self) -> f32 {
        -self.max()
    }

    fn max(&self) -> f32 {
        let grid = self.grid();
        grid.largest * grid.coarse
    }
}

/// The constants of rounding to a [`Flag`] format.
#[derive(Debug, Clone, Copy)]
pub struct FlagGrid {
    coarse: f32,
    per_coarse: f32,
    fine: f32,
    per_fine: f32,
    largest: f32,
}

impl Grid for FlagGrid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let is_fine = x.abs() < self.coarse;
        let (per_step, step) = match is_fine {
            true => (self.per_fine, self.fine),
            false => (self.per_coarse, self.coarse),
        };
        let largest = match is_fine {
            // The next one is the first of the others.
            true => self.largest + 1.0,
            false => self.largest,
        };
        let scaled = match (rounding, x * per_step) {
            // A number that scaling brought down to zero still lies between two steps.
            (Rounding::Down | Rounding::Up | Rounding::ToOdd, 0.0) => x,
            (_, scaled) => scaled,
        };
        let integer = rounding.to_integer(scaled, random);
        let integer = if integer > largest { largest } else { integer };
        let integer = if integer < -largest {
            -largest
        } else {
            integer
        };
        // Minus zero becomes zero.
        integer * step + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(bits: u8, x: f32, rounding: Rounding) -> f32 {
        Flag::new(bits).unwrap().grid().round(x, rounding, 0)
    }

    /// Three bits: quarters up to 3/4, and sixteenths up to 3/16.
    #[test]
    fn three_bits_by_hand() {
        let nearest = |x| round(3, x, Rounding::NearestEven);
        for (x, sixteenths) in [
            (0.02, 0.0),
            (0.04, 1.0),
            // 1.5 and 2.5 sixteenths, to even.
            (0.093_75, 2.0),
            (0.156_25, 2.0),
            (0.2, 3.0),
            // 3.5 sixteenths: four of them are a quarter.
            (0.218_75, 4.0),
            (0.3, 4.0),
            // 1.5 quarters.
            (0.375, 8.0),
            (0.6, 8.0),
            (0.63, 12.0),
            (5.0, 12.0),
            (f32::INFINITY, 12.0),
        ] {
            assert_eq!(nearest(x), sixteenths / 16.0, "{x}");
            assert_eq!(nearest(-x), -sixteenths / 16.0, "-{x}");
        }
        assert_eq!(nearest(-0.01).to_bits(), 0);
        assert!(nearest(f32::NAN).is_nan());
        assert_eq!(round(3, 0.24, Rounding::Down), 3.0 / 16.0);
        assert_eq!(round(3, 0.24, Rounding::Up), 0.25);
        assert_eq!(round(3, -0.26, Rounding::Up), -0.25);
    }

    /// `Q_E2` of WAGEUBN's authors for 8 bits and a largest magnitude of about one, which a shift of one
    /// brings into the format: with `sc = 2^-7`, `sc clip(round(e / sc), +-127)` from `sc` on, and
    /// `sc clip(round(e / sc 128) / 128, +-1)` below it.
    #[test]
    fn eight_bits_are_the_papers() {
        let sc = 2f64.powi(-7);
        let paper = |e: f64| {
            let scaled = e / sc;
            match scaled.abs() >= 1.0 {
                true => sc * scaled.round_ties_even().clamp(-127.0, 127.0),
                false => sc * ((scaled * 128.0).round_ties_even() / 128.0).clamp(-1.0, 1.0),
            }
        };
        for i in -40_000..40_000 {
            let e = f64::from(i) * 3e-5;
            for e in [e as f32, (e * e * e) as f32] {
                let rounded = round(8, e, Rounding::NearestEven);
                assert_eq!(f64::from(rounded), paper(e.into()), "{e}");
            }
        }
    }

    #[test]
    fn codes_hold_all_values() {
        for (bits, scale_log2) in [(2, 0), (3, 1), (8, 0), (8, -104), (12, 127)] {
            let format = Flag::new(bits).unwrap();
            let format = format.with_scale_log2(scale_log2).unwrap();
            let values: std::collections::BTreeSet<i64> = (0..1u32 << format.bits())
                .map(|code| format.decode(code))
                .filter(|value| {
                    let kept = format.grid().round(*value, Rounding::Down, 0) == *value;
                    assert!(!kept || format.decode(format.encode(*value)) == *value);
                    kept
                })
                .map(|value| (f64::from(value) / f64::from(format.grid().fine)) as i64)
                .collect();
            assert_eq!(values.len() as u64, format.facts().values, "{format}");
            let range = format.integer_range().unwrap();
            let ends = [range.min, range.max].map(|end| i64::try_from(end).unwrap());
            assert_eq!(ends, [*values.first().unwrap(), *values.last().unwrap()]);
        }
    }
}
