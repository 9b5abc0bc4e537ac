//! A neuron's state in fixed point: what digital hardware holds of it.

use serde::{Deserialize, Serialize};

use super::step::{BLOCK, Block, block};
use super::{Neuron, Reset};

/// The integers, times `step`, that a state is.
///
/// A step of time rounds each part of a sum by itself, as hardware does: `L(v) + R(c)`, with the
/// leak `L` of [`Leak`] and what comes in, `R(c)`, rounded to the nearest multiple of the step, ties to
/// even. The sum is then brought into the range. Where what comes in decays at once
/// ([`Gain::Decay`](super::Gain::Decay)), that is `L(v + R(c))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// A power of two.
    pub step: f32,
    /// The least integer.
    pub min: f32,
    /// The greatest, at most `2^24` above the least, so that f32 holds sums of two.
    pub max: f32,
    /// What becomes of a sum outside the range.
    pub overflow: Overflow,
    /// How a state decays.
    pub leak: Leak,
}

/// What becomes of a sum outside a range of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The nearer end.
    Saturate,
    /// Its lowest bits, as two's complement.
    Wrap,
}

/// How a state decays by the factor `a` on a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leak {
    /// `round(a v)`.
    Product(LeakRounding),
    /// `v - round((1 - a) v)`. With `a = 1 - 2^-k` and rounding down this is a decay by shift,
    /// `v - (v >> k)`.
    Difference(LeakRounding),
    /// `v - (v >> k)`, and one step towards zero where that changes nothing and `v` is not zero: the
    /// decay of Xylo, which lets small states reach zero.
    ShiftToZero,
}

/// To which integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeakRounding {
    /// The nearest, ties to even.
    Nearest,
    /// The nearest that is no greater in magnitude.
    TowardZero,
    /// The nearest that is no greater.
    Down,
}

impl LeakRounding {
    #[inline(always)]
    fn of(self, x: &mut [f64; BLOCK]) {
        match self {
            Self::Nearest => {
                for x in x {
                    *x = x.round_ties_even();
                }
            }
            Self::TowardZero => {
                for x in x {
                    *x = x.trunc();
                }
            }
            Self::Down => {
                for x in x {
                    *x = x.floor();
                }
            }
        }
    }
}

impl Grid {
    /// The state after its decay; before and after, multiples of the step.
    #[inline(always)]
    pub(super) fn leak(&self, state: &Block, decay: &Block) -> Block {
        let unit = 1.0 / self.step;
        // Products of 24 bits and 24 are exact in f64.
        let mut moved = [0.0f64; BLOCK];
        match self.leak {
            Leak::Product(rounding) => {
                for j in 0..BLOCK {
                    moved[j] = f64::from(state[j] * unit) * f64::from(decay[j]);
                }
                rounding.of(&mut moved);
                block!(|j| moved[j] as f32 * self.step)
            }
            Leak::Difference(rounding) => {
                for j in 0..BLOCK {
                    moved[j] = f64::from(state[j] * unit) * (1.0 - f64::from(decay[j]));
                }
                rounding.of(&mut moved);
                block!(|j| state[j] - moved[j] as f32 * self.step)
            }
            Leak::ShiftToZero => {
                for j in 0..BLOCK {
                    let v = f64::from(state[j] * unit);
                    let shifted = (v * (1.0 - f64::from(decay[j]))).floor();
                    // Nothing is left to shift only above zero: below, the shift gives -1.
                    let least = if v > 0.0 { 1.0 } else { 0.0 };
                    moved[j] = if shifted == 0.0 { least } else { shifted };
                }
                block!(|j| state[j] - moved[j] as f32 * self.step)
            }
        }
    }

    /// The nearest number of the grid in its range, ties to even.
    fn nearest(&self, x: f32) -> f32 {
        let integer = (x / self.step).round_ties_even();
        integer.clamp(self.min, self.max) * self.step
    }

    /// What comes in, on the grid.
    #[inline(always)]
    pub(super) fn round(&self, x: &mut Block) {
        let unit = 1.0 / self.step;
        for x in x {
            *x = (*x * unit).round_ties_even() * self.step;
        }
    }

    /// A sum, brought into the range.
    #[inline(always)]
    pub(super) fn limit(&self, x: &mut Block) {
        let unit = 1.0 / self.step;
        match self.overflow {
            Overflow::Saturate => {
                let (min, max) = (self.min * self.step, self.max * self.step);
                for x in x {
                    let above = if *x < min { min } else { *x };
                    *x = if above > max { max } else { above };
                }
            }
            Overflow::Wrap => {
                let span = self.max - self.min + 1.0;
                for x in x {
                    let integer = *x * unit;
                    let turns = ((integer - self.min) / span).floor();
                    *x = (integer - turns * span) * self.step;
                }
            }
        }
    }
}

impl Neuron {
    /// The neuron whose own numbers are on its grid, if it has one: what a reset sets a potential to, and
    /// the least potential.
    pub(super) fn on_its_grid(&self) -> Self {
        let mut neuron = *self;
        let Some(grid) = &self.grid else {
            return neuron;
        };
        neuron.min_potential = self.min_potential.map(|min| grid.nearest(min));
        if let Some(firing) = &mut neuron.firing
            && let Reset::To(value) = &mut firing.reset
        {
            *value = grid.nearest(*value);
        }
        neuron
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaked(leak: Leak, v: f32, a: f32) -> f32 {
        let grid = Grid {
            step: 0.25,
            min: -32768.0,
            max: 32767.0,
            overflow: Overflow::Saturate,
            leak,
        };
        grid.leak(&[v * 0.25; BLOCK], &[a; BLOCK])[7] * 4.0
    }

    /// By hand: 0.75 * 7 = 5.25 and 0.25 * 7 = 1.75.
    #[test]
    fn leaks_round_as_they_say() {
        use LeakRounding::{Down, Nearest, TowardZero};
        let cases = [
            (Leak::Product(Nearest), 5.0, -5.0),
            (Leak::Product(TowardZero), 5.0, -5.0),
            (Leak::Product(Down), 5.0, -6.0),
            (Leak::Difference(Nearest), 5.0, -5.0),
            (Leak::Difference(TowardZero), 6.0, -6.0),
            (Leak::Difference(Down), 6.0, -5.0),
            (Leak::ShiftToZero, 6.0, -5.0),
        ];
        for (leak, above, below) in cases {
            assert_eq!(leaked(leak, 7.0, 0.75), above, "{leak:?}");
            assert_eq!(leaked(leak, -7.0, 0.75), below, "{leak:?}");
        }
        // 3 >> 2 is 0 and -3 >> 2 is -1; zero stays.
        for (v, after) in [(3.0, 2.0), (1.0, 0.0), (0.0, 0.0), (-3.0, -2.0)] {
            assert_eq!(leaked(Leak::ShiftToZero, v, 0.75), after);
        }
        assert_eq!(leaked(Leak::Difference(Down), 3.0, 0.75), 3.0);
    }

    #[test]
    fn sums_saturate_or_wrap() {
        let limited = |overflow, x: f32| {
            let grid = Grid {
                step: 0.5,
                min: -8.0,
                max: 7.0,
                overflow,
                leak: Leak::Product(LeakRounding::Nearest),
            };
            let mut x = [x * 0.5; BLOCK];
            grid.limit(&mut x);
            x[0] * 2.0
        };
        for (x, saturated, wrapped) in [
            (7.0, 7.0, 7.0),
            (8.0, 7.0, -8.0),
            (25.0, 7.0, -7.0),
            (-8.0, -8.0, -8.0),
            (-9.0, -8.0, 7.0),
        ] {
            assert_eq!(limited(Overflow::Saturate, x), saturated);
            assert_eq!(limited(Overflow::Wrap, x), wrapped);
        }
    }
}
