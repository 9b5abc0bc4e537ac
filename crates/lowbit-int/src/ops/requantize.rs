//! Sums brought to fewer bits.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Operation, Values, one};
use crate::numbers::Numbers;
use crate::tensor::{Interval, Residue, Tensor};

/// What becomes of the bits that a shift takes away, and of the fraction of a real number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest; half goes to the even integer.
    HalfEven,
    /// To the nearest; half goes away from zero.
    HalfAway,
    /// To the nearest; half goes up.
    HalfUp,
    /// Down.
    Floor,
}

impl Rounding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HalfEven, Self::HalfAway, Self::HalfUp, Self::Floor];

    /// `value / 2^shift`, rounded. `shift` is at most 62, `value` below 2^62 in magnitude.
    pub fn shift(self, value: i64, shift: u32) -> i64 {
        if shift == 0 {
            return value;
        }
        let half = 1i64 << (shift - 1);
        let floor = value >> shift;
        let rest = value - (floor << shift);
        match self {
            Self::Floor => floor,
            Self::HalfUp => floor + i64::from(rest >= half),
            Self::HalfEven => floor + i64::from(rest > half || rest == half && floor & 1 == 1),
            Self::HalfAway => floor + i64::from(rest > half || rest == half && value >= 0),
        }
    }

    /// The whole number that a number of `f32` is rounded to; NaN and infinities stay what they are.
    #[inline(always)]
    pub fn whole(self, value: f32) -> f32 {
        // A half is added exactly, or to a number that is next to nothing.
        let value = f64::from(value);
        let whole = match self {
            Self::HalfEven => value.round_ties_even(),
            Self::HalfAway => value.round(),
            Self::HalfUp => (value + 0.5).floor(),
            Self::Floor => value.floor(),
        };
        whole as f32
    }
}

/// As in files: `half-even`, `half-away`, `half-up` or `floor`.
impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.serialize(f)
    }
}

/// `clamp(round((multiplier (x - zero_point) + offset) / 2^shift) + output zero_point)` to the
/// output's least and greatest integer, which is the only place where numbers are rounded or
/// saturate. It is rounded once. Of powers of two with one
/// multiplier for all channels, the shift is the difference of the exponents, less what powers of two
/// are in the multiplier, which is checked.
///
/// # Shapes
///
/// The output has the shape of the input; multipliers, offsets and shifts are one for all, or one for
/// each index of the first dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requantize {
    /// Above zero.
    pub multiplier: Vec<i64>,
    /// What is added before the shift, such as half a unit of a sum that was doubled.
    pub offset: Vec<i64>,
    /// 0 to 62.
    pub shift: Vec<u32>,
    /// What becomes of the bits that are shifted out.
    pub rounding: Rounding,
    /// What the output stands for, of at most 32 bits.
    pub numbers: Numbers,
}

impl Requantize {
    /// A shift alone.
    pub fn by_shift(shift: u32, rounding: Rounding, numbers: Numbers) -> Self {
        Self::by_multiplier(1, shift, rounding, numbers)
    }

    /// A multiplier and a shift.
    pub fn by_multiplier(
        multiplier: i64,
        shift: u32,
        rounding: Rounding,
        numbers: Numbers,
    ) -> Self {
        Self {
            multiplier: vec![multiplier],
            offset: vec![0],
            shift: vec![shift],
            rounding,
            numbers,
        }
    }

    /// How many channels have constants of their own; 1 if one of each is for all.
    pub(crate) fn channels(&self) -> usize {
        let most = self.multiplier.len().max(self.offset.len());
        most.max(self.shift.len())
    }

    /// Multiplier, offset and shift of a channel.
    pub(crate) fn constants(&self, channel: usize) -> (i64, i64, u32) {
        let [multiplier, offset] =
            [&self.multiplier, &self.offset].map(|all| of_channel(all, channel));
        (multiplier, offset, of_channel(&self.shift, channel))
    }

    /// One integer of a channel.
    pub(crate) fn apply(&self, x: i64, zero_point: i64, channel: usize) -> i64 {
        let (multiplier, offset, shift) = self.constants(channel);
        let scaled = multiplier * (x - zero_point) + offset;
        let rounded = self.rounding.shift(scaled, shift) + self.numbers.zero_point();
        rounded.clamp(self.numbers.least(), self.numbers.greatest())
    }

    /// Whether an integer lies halfway between two that the output has.
    pub(crate) fn is_tie(&self, x: i64, zero_point: i64, channel: usize) -> bool {
        let (multiplier, offset, shift) = self.constants(channel);
        let scaled = multiplier * (x - zero_point) + offset;
        let floor = scaled >> shift;
        shift > 0 && scaled - (floor << shift) == 1 << (shift - 1) && self.has_both(floor)
    }

    /// Whether the output has the integer and the next.
    fn has_both(&self, floor: i64) -> bool {
        let below = floor + self.numbers.zero_point();
        below >= self.numbers.least() && below < self.numbers.greatest()
    }

    /// Whether a channel of which this much is known can have a tie.
    pub(crate) fn can_tie(&self, input: &Tensor, channel: usize) -> bool {
        let (multiplier, offset, shift) = self.constants(channel);
        if shift == 0 {
            return false;
        }
        let zero = input.numbers.zero_point();
        let residue = input.residues[channel].plus(Residue::of(zero.wrapping_neg()));
        let residue = residue.times(multiplier).plus(Residue::of(offset));
        let half = 1i64 << (shift - 1);
        if !residue.meets(shift, half) {
            return false;
        }
        let scaled = |x: i64| multiplier * (x - zero) + offset;
        let Interval { least, greatest } = input.intervals[channel].map(scaled);
        // The first and the last halfway point within the interval, and within the output.
        let first = (least - half + (1 << shift) - 1) >> shift;
        let last = (greatest - half) >> shift;
        let first = first.max(self.numbers.least() - self.numbers.zero_point());
        let last = last.min(self.numbers.greatest() - 1 - self.numbers.zero_point());
        first <= last
    }

    fn check(&self, input: &Tensor) -> Result<(), String> {
        let channels = input.shape[0];
        let counts = [self.multiplier.len(), self.offset.len(), self.shift.len()];
        if counts.iter().any(|&n| n != 1 && n != channels) {
            return Err(format!(
                "{counts:?} multipliers, offsets and shifts given, expected 1 or {channels} each"
            ));
        }
        if self.numbers.bits() > 32 {
            return Err(format!("bits is {}, expected 1 to 32", self.numbers.bits()));
        }
        let zero = i128::from(input.numbers.zero_point());
        for (channel, interval) in input.intervals.iter().enumerate() {
            let (multiplier, offset, shift) = self.constants(channel);
            if multiplier < 1 || shift > 62 {
                return Err(format!(
                    "multiplier {multiplier} and shift {shift}, expected 1 or more and 0 to 62"
                ));
            }
            let limit = 1i128 << 61;
            for x in [interval.least, interval.greatest] {
                let scaled = (i128::from(x) - zero)
                    .saturating_mul(multiplier.into())
                    .saturating_add(offset.into());
                if !(-limit..limit).contains(&scaled) || i128::from(offset).abs() >= limit {
                    return Err(format!("{x} times {multiplier} is beyond 62 bits"));
                }
            }
            let (from, to) = (input.numbers.exponent(), self.numbers.exponent());
            if let (Some(from), Some(to)) = (from, to)
                && self.multiplier.len() == 1
                && (multiplier as u64).is_power_of_two()
            {
                let shifted = from + shift as i32 - multiplier.trailing_zeros() as i32;
                if shifted != to {
                    return Err(format!(
                        "a shift to exponent {shifted}, but the output has {to}"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Operation for Requantize {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [input] = one(inputs)?;
        self.check(input)?;
        let zero = input.numbers.zero_point();
        let channels = input.intervals.iter().enumerate();
        let intervals = channels
            .map(|(c, i)| i.map(|x| self.apply(x, zero, c)))
            .collect();
        let residues = vec![Residue::ANY; input.shape[0]];
        Tensor::new(input.shape.clone(), self.numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        let zero = inputs[0].tensor.numbers.zero_point();
        let values = inputs[0].values.iter().enumerate();
        values
            .map(|(e, &x)| self.apply(x, zero, output.channel(e)))
            .collect()
    }
}

/// A channel's number, of one for all or one each.
pub(crate) fn of_channel<T: Copy>(all: &[T], channel: usize) -> T {
    all[if all.len() == 1 { 0 } else { channel }]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quarters from -2.5 to 2.5 in units of 2^-2, by the definitions: each is
    /// `(even, away, up, floor)`.
    #[test]
    fn halves_by_hand() {
        for (value, expected) in [
            (-10, [-2, -3, -2, -3]),
            (-9, [-2, -2, -2, -3]),
            (-7, [-2, -2, -2, -2]),
            (-6, [-2, -2, -1, -2]),
            (-2, [0, -1, 0, -1]),
            (-1, [0, 0, 0, -1]),
            (0, [0; 4]),
            (2, [0, 1, 1, 0]),
            (3, [1, 1, 1, 0]),
            (6, [2, 2, 2, 1]),
            (10, [2, 3, 3, 2]),
        ] {
            assert_eq!(
                Rounding::ALL.map(|r| r.shift(value, 2)),
                expected,
                "{value}"
            );
        }
    }

    /// Against f64's own rounding, which has `ties_even` and `away`, and `floor(x + 0.5)`.
    #[test]
    fn rounding_is_that_of_f64() {
        for value in -5000i64..5000 {
            for shift in 0..12 {
                let x = value as f64 / f64::from(1u32 << shift);
                let expected = [x.round_ties_even(), x.round(), (x + 0.5).floor(), x.floor()];
                let rounded = Rounding::ALL.map(|r| r.shift(value, shift));
                assert_eq!(rounded, expected.map(|y| y as i64), "{value} {shift}");
            }
        }
    }

    /// Ties by the definitions, and the greatest float below a half, to which a half cannot be added in
    /// `f32`: 0.5 - 2^-25 is 16777215 / 33554432.
    #[test]
    fn whole_numbers_by_hand() {
        let below_half = 16_777_215.0 / 33_554_432.0;
        for (value, expected) in [
            (-1.5, [-2.0, -2.0, -1.0, -2.0]),
            (-0.5, [0.0, -1.0, 0.0, -1.0]),
            (below_half, [0.0; 4]),
            (-below_half, [0.0, 0.0, 0.0, -1.0]),
            (0.5, [0.0, 1.0, 1.0, 0.0]),
            (2.5, [2.0, 3.0, 3.0, 2.0]),
            (f32::INFINITY, [f32::INFINITY; 4]),
        ] {
            assert_eq!(Rounding::ALL.map(|r| r.whole(value)), expected, "{value}");
        }
    }

    /// A tie is where half up and `ceil(x - 0.5)` differ after the clamp; every sum of two small
    /// intervals is tried.
    #[test]
    fn ties_are_found_where_they_are() {
        for bits in [2, 4, 8] {
            for (least, greatest, shift) in [
                (-9, 9, 1),
                (-9, 9, 2),
                (3, 4, 3),
                (3, 5, 3),
                (-40, -29, 3),
                (70, 90, 2),
            ] {
                let numbers = Numbers::power_of_two(8, true, 0).unwrap();
                let mut input = Tensor::any(vec![1], numbers).unwrap();
                input.intervals = vec![Interval { least, greatest }];
                let output = Numbers::power_of_two(bits, true, shift as i32).unwrap();
                let requantize = Requantize::by_shift(shift, Rounding::HalfEven, output);
                let tie = |x: &i64| {
                    let y = *x as f64 / f64::from(1u32 << shift);
                    let limit = |y: f64| (y as i64).clamp(output.least(), output.greatest());
                    limit((y + 0.5).floor()) != limit((y - 0.5).ceil())
                };
                for x in least..=greatest {
                    assert_eq!(requantize.is_tie(x, 0, 0), tie(&x), "{bits} {x} {shift}");
                }
                let found = (least..=greatest).any(|x| tie(&x));
                assert_eq!(
                    requantize.can_tie(&input, 0),
                    found,
                    "{bits} {least} {shift}"
                );
            }
        }
    }
}
