//! Where the values of a table part.

use crate::error::FormatError;
use crate::scalar::codebook::Decision;
use crate::scalar::levels::{Boundary, Levels};

/// The scaled table and how it is decided upon.
pub(crate) struct Parts<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) decision: &'a Decision,
    pub(crate) scale: f32,
}

impl Parts<'_> {
    pub(crate) fn levels(&self) -> Result<Levels, FormatError> {
        let entries: Vec<(f32, u32)> = (0..).zip(self.values).map(|(i, &x)| (x, i)).collect();
        let thresholds = self.thresholds(self.values.len() - 1)?;
        let between = |(index, pair): (usize, &[(f32, u32)])| {
            let [(lower, _), (upper, code)] = [pair[0], pair[1]];
            match self.decision {
                Decision::Nearest => Boundary::midpoint(lower, upper, code % 2 == 0),
                Decision::GeometricMean { .. } if lower * upper.signum() <= 0.0 || upper == 0.0 => {
                    Boundary::midpoint(lower, upper, code % 2 == 0)
                }
                Decision::GeometricMean { .. } if upper > 0.0 => {
                    Boundary::geometric_mean(lower, upper)
                }
                Decision::GeometricMean { .. } => {
                    Boundary::geometric_mean(-upper, -lower).mirrored()
                }
                Decision::Thresholds(_) => Boundary::same(thresholds[index]),
            }
        };
        let boundaries: Vec<Boundary> = entries.windows(2).enumerate().map(between).collect();
        Ok(Levels::new(&entries, &boundaries))
    }

    pub(crate) fn levels_with_sign(&self) -> Result<Levels, FormatError> {
        let has_zero = self.values[0] == 0.0;
        let magnitudes = &self.values[usize::from(has_zero)..];
        let thresholds = self.thresholds(self.values.len())?;
        // With a zero in the table its own threshold says nothing.
        let thresholds = thresholds.get(usize::from(has_zero)..).unwrap_or(&[]);
        let sign = sign_bit(magnitudes.len());
        let codes = 1u32..;
        let positive: Vec<(f32, u32)> = magnitudes.iter().copied().zip(codes).collect();
        let mut entries: Vec<(f32, u32)> = positive
            .iter()
            .rev()
            .map(|&(x, code)| (-x, code | sign))
            .collect();
        entries.push((0.0, 0));
        entries.extend(&positive);
        // From zero to the first magnitude, from the first to the second, and so on.
        let upward: Vec<Boundary> = (0..magnitudes.len())
            .map(|index| {
                let upper = magnitudes[index];
                let lower = if index == 0 {
                    0.0
                } else {
                    magnitudes[index - 1]
                };
                match self.decision {
                    Decision::Nearest if index == 0 && !has_zero => {
                        Boundary::same(f32::from_bits(1))
                    }
                    Decision::Nearest => Boundary::midpoint(lower, upper, index % 2 == 1),
                    Decision::GeometricMean { .. } if index == 0 && has_zero => {
                        Boundary::midpoint(lower, upper, false)
                    }
                    Decision::GeometricMean { zero_up_to } if index == 0 => {
                        Boundary::above(zero_up_to * self.scale)
                    }
                    Decision::GeometricMean { .. } => Boundary::geometric_mean(lower, upper),
                    Decision::Thresholds(_) => Boundary::above(thresholds[index]),
                }
            })
            .collect();
        // A magnitude reaches its value from `first` on, so a negative number does until
        // `-first`, and the next number above it belongs to the upper neighbour.
        let mut boundaries: Vec<Boundary> = upward.iter().rev().map(Boundary::mirrored).collect();
        boundaries.extend(&upward);
        Ok(Levels::new(&entries, &boundaries))
    }

    /// The thresholds times the scale, `count` of them; none if there are none given.
    fn thresholds(&self, count: usize) -> Result<Vec<f32>, FormatError> {
        let Decision::Thresholds(thresholds) = self.decision else {
            return Ok(Vec::new());
        };
        let scaled: Vec<f32> = thresholds.iter().map(|t| t * self.scale).collect();
        let ascending = scaled.windows(2).all(|pair| pair[0] <= pair[1]);
        let negative = count == self.values.len() && scaled.iter().any(|&t| t < 0.0);
        if scaled.len() != count || !ascending || negative || !scaled.iter().all(|t| t.is_finite())
        {
            let expected = format!("{count} finite ascending numbers, not negative with a sign");
            return Err(FormatError::parameter(
                "table",
                "thresholds",
                format!("{thresholds:?}"),
                expected,
            ));
        }
        Ok(scaled)
    }
}

impl Boundary {
    /// One where no number is as near to both.
    pub(crate) fn same(first: f32) -> Self {
        Self {
            even: first,
            away: first,
            up: first,
            down: first,
        }
    }

    /// A tie of magnitudes goes to the lower one, or away from zero.
    fn of_magnitudes(lower: f32, away: f32) -> Self {
        Self {
            even: lower,
            away,
            up: away,
            down: lower,
        }
    }

    /// The lower value up to and at `threshold`, from zero on; ties away from zero, the upper one
    /// there, but for zero itself.
    fn above(threshold: f32) -> Self {
        Self::of_magnitudes(threshold.next_up(), threshold.max(f32::from_bits(1)))
    }

    /// The geometric mean of two positive numbers, rounded to nearest.
    fn geometric_mean(lower: f32, upper: f32) -> Self {
        let mean = (f64::from(lower) * f64::from(upper)).sqrt() as f32;
        // Between neighbours of `f32` rounding may reach one of them, which stays what it is.
        Self::of_magnitudes(mean.next_up().min(upper), mean.max(lower.next_up()))
    }

    /// The boundary of the same numbers with the other sign.
    pub(crate) fn mirrored(&self) -> Self {
        Self {
            even: (-self.even).next_up(),
            away: (-self.away).next_up(),
            up: (-self.down).next_up(),
            down: (-self.up).next_up(),
        }
    }
}

/// The bit above `magnitudes` codes that are counted from 1.
pub(crate) fn sign_bit(magnitudes: usize) -> u32 {
    1 << (magnitudes.ilog2() + 1)
}
