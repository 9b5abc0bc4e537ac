//! The grid of k bits on the interval from 0 to 1.

use std::cmp::Ordering;
use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, ScalarFormat, Wide};

/// The `2^bits` numbers `i / (2^bits - 1)`, from 0 to 1: `round((2^bits - 1) x) / (2^bits - 1)`.
///
/// DoReFa-Net (arXiv 1606.06160), equation 5. Numbers outside 0..1, infinities included, become
/// the nearer end; minus zero becomes zero; NaN stays NaN, which no code holds. The product and
/// the quotient are those of f32.
///
/// Text: `unit(4)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitGrid {
    bits: u8,
}

impl UnitGrid {
    /// The grid of `bits` bits.
    ///
    /// # Errors
    ///
    /// If `bits` is not in 1..=16.
    pub fn new(bits: u8) -> Result<Self, FormatError> {
        check_range("unit", "bits", bits, 1..=16)?;
        Ok(Self { bits })
    }

    /// The number of steps from 0 to 1, `2^bits - 1`.
    pub fn steps(&self) -> u32 {
        (1 << self.bits) - 1
    }
}

impl FormatText for UnitGrid {
    const EXAMPLES: &'static [&'static str] = &["unit(4)", "unit(8)"];

    fn has_name(name: &str) -> bool {
        name == "unit"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (numbers, options) = call.split(1)?;
        match options.first() {
            None => Ok(Self::new(numbers[0].number("bits")?)?),
            Some(option) => Err(Reason(format!(
                "`{}` is one argument too many",
                option.key()
            ))),
        }
    }
}

impl fmt::Display for UnitGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unit({})", self.bits)
    }
}

impl ScalarFormat for UnitGrid {
    type Grid<'a> = UnitSteps;

    fn grid(&self) -> UnitSteps {
        UnitSteps {
            steps: self.steps() as f32,
        }
    }

    fn bits(&self) -> u32 {
        self.bits.into()
    }

    /// The values as rounded to f32 part where the exact ones do, at `(i + 1/2) / steps`.
    fn compare_boundary(&self, x: Wide, (lower, _): (f64, f64), _: Rounding) -> Ordering {
        let steps = f64::from(self.steps());
        let twice = 2.0 * (lower * steps).round() + 1.0;
        // One rounding leaves the sign of the difference.
        let difference = x.nearest().mul_add(2.0 * steps, -twice);
        difference.total_cmp(&0.0).then(x.compare(x.nearest()))
    }

    fn encode(&self, value: f32) -> u32 {
        // A float becomes the nearest integer of the target's range, and NaN zero.
        ((value * self.steps() as f32).round() as u32).min(self.steps())
    }

    fn decode(&self, code: u32) -> f32 {
        (code & self.steps()) as f32 / self.steps() as f32
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let values = u64::from(self.steps()) + 1;
        let extent = Extent::of_steps(0.0, 1.0);
        Facts::new(self, Extent { values, ..extent })
    }

    fn min(&self) -> f32 {
        0.0
    }

    fn max(&self) -> f32 {
        1.0
    }
}

/// The constants of rounding to a [`UnitGrid`].
#[derive(Debug, Clone, Copy)]
pub struct UnitSteps {
    steps: f32,
}

impl Grid for UnitSteps {
    const EVERY_MODE: bool = true;

    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let x = if x > 1.0 { 1.0 } else { x };
        // Minus zero compares equal to zero, hence `<=`.
        let x = if x <= 0.0 { 0.0 } else { x };
        rounding.to_integer(x * self.steps, random) / self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bits_by_hand() {
        // Thirds; the ties are at 1/6, 1/2 and 5/6, of which f32 holds 1/2: 1.5 steps, to 2.
        let grid = UnitGrid::new(2).unwrap().grid();
        for (x, thirds) in [(0.1, 0.0), (0.2, 1.0), (0.5, 2.0), (0.8, 2.0), (0.9, 3.0)] {
            assert_eq!(grid.round(x, Rounding::NearestEven, 0), thirds / 3.0);
        }
        assert_eq!(grid.round(-0.0, Rounding::Down, 0).to_bits(), 0);
        assert_eq!(grid.round(f32::NEG_INFINITY, Rounding::Up, 0), 0.0);
        assert_eq!(grid.round(7.0, Rounding::Down, 0), 1.0);
        assert!(grid.round(f32::NAN, Rounding::Up, 0).is_nan());
    }

    /// The f32 next to `i / steps` times `steps` is `i` again, so that every mode leaves the
    /// values where they are.
    #[test]
    fn values_stay_in_every_mode() {
        for bits in 1..=16 {
            let format = UnitGrid::new(bits).unwrap();
            for i in 0..=format.steps() {
                let value = i as f32 / format.steps() as f32;
                for rounding in [Rounding::Down, Rounding::Up, Rounding::ToOdd] {
                    assert_eq!(format.grid().round(value, rounding, 0), value);
                }
            }
        }
    }
}
