//! Requantization in `f32`, and whether it has the integers' bits.
//!
//! Both arithmetics do not fall with the sum. So they are the same everywhere if they are the same at
//! the last sum before and the first sum of every step of the output, of which there are as many as
//! the output has integers: a proof by a few hundred trials.

use crate::ops::{Requantize, Rounding};
use crate::tensor::{Interval, Residue, Tensor};

/// The order in which a file rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `QuantizeLinear`: divided by the step, rounded half to even, and the zero point added.
    Quantize,
    /// The zero point is added before rounding: QONNX's `Quant`, and what fused operators do.
    ZeroFirst(Rounding),
    /// Rounded by operators of its own before it comes to a quantizer, which finds whole steps.
    Explicit(Rounding),
}

/// One channel's requantization of a sum `s`: `round(s step ratio + offset)`, each operation rounded
/// to `f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arithmetic {
    /// What a sum of 1 is.
    pub(super) step: f32,
    /// What it is multiplied with.
    pub(super) ratio: f32,
    /// What is added.
    pub(super) offset: f32,
    /// The output's step; of an explicit form it is in `ratio` and `offset` already, and 1 here.
    pub(super) output: f32,
    pub(super) form: Form,
    pub(super) zero_point: i64,
    pub(super) least: i64,
    pub(super) greatest: i64,
}

impl Arithmetic {
    /// The integer that becomes of a sum.
    pub(super) fn apply(&self, sum: i64) -> i64 {
        let x = sum as f32 * self.step;
        let x = x * self.ratio;
        let x = (x + self.offset) / self.output;
        let zero = self.zero_point as f32;
        let (least, greatest) = (self.least as f32, self.greatest as f32);
        let y = match self.form {
            Form::Quantize => x.clamp(least - zero, greatest - zero).round_ties_even() + zero,
            Form::ZeroFirst(rounding) => round(rounding, (x + zero).clamp(least, greatest)),
            Form::Explicit(Rounding::HalfUp) => (x + 0.5).floor() + zero,
            Form::Explicit(rounding) => round(rounding, x) + zero,
        };
        (y as i64).clamp(self.least, self.greatest)
    }
}

/// Half up is half away from zero where it is said by a quantizer: QONNX has no other.
fn round(rounding: Rounding, x: f32) -> f32 {
    match rounding {
        Rounding::HalfEven => x.round_ties_even(),
        Rounding::HalfAway | Rounding::HalfUp => (x.abs() + 0.5).floor().copysign(x),
        Rounding::Floor => x.floor(),
    }
}

/// How two arithmetics compare on every sum that can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Agreement {
    /// Equal for all.
    Same,
    /// Unequal only at ties, the first of which is this.
    UnlessTie(Example),
    /// Unequal elsewhere.
    Differs(Example),
    /// The output has more integers than are tried.
    Untried,
}

/// A sum for which they are unequal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) sum: i64,
    pub(super) expected: i64,
    pub(super) found: i64,
}

/// Integers of the output that are tried.
const OUTPUTS: u64 = 1 << 17;
/// Sums that are tried one by one.
const SUMS: u64 = 1 << 10;
/// Sums on each side of a step that are tried one by one where a step is not in its place.
const AROUND: i64 = 16;

/// Compares the requantization of a tensor with `arithmetic` of each channel.
pub(super) fn compare(
    requantize: &Requantize,
    input: &Tensor,
    arithmetic: impl Fn(usize) -> Arithmetic,
) -> Agreement {
    let mut seen = Vec::new();
    let mut tie = None;
    for channel in 0..input.shape()[0] {
        let arithmetic = arithmetic(channel);
        let known = (input.intervals()[channel], input.residues()[channel]);
        let key = (known, requantize.constants(channel), arithmetic);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let channel = Channel {
            requantize,
            channel,
            zero_point: input.numbers().zero_point(),
            interval: known.0,
            residue: known.1,
            arithmetic,
        };
        match channel.compare() {
            Agreement::Same => {}
            Agreement::UnlessTie(example) => tie = tie.or(Some(example)),
            worse => return worse,
        }
    }
    tie.map_or(Agreement::Same, Agreement::UnlessTie)
}

struct Channel<'a> {
    requantize: &'a Requantize,
    channel: usize,
    zero_point: i64,
    interval: Interval,
    residue: Residue,
    arithmetic: Arithmetic,
}

impl Channel<'_> {
    fn expected(&self, x: i64) -> i64 {
        self.requantize.apply(x, self.zero_point, self.channel)
    }

    fn found(&self, x: i64) -> i64 {
        self.arithmetic.apply(x - self.zero_point)
    }

    fn compare(&self) -> Agreement {
        let Interval { least, greatest } = self.interval;
        let mut tie = None;
        if greatest.abs_diff(least) < SUMS {
            return self.try_each(least..=greatest, &mut tie);
        }
        let (first, last) = (self.expected(least), self.expected(greatest));
        if last.abs_diff(first) > OUTPUTS {
            return Agreement::Untried;
        }
        let mut steps = vec![least, greatest];
        steps.extend((first + 1..=last).map(|k| self.first_of(k)));
        for at in steps {
            if (at - 1..=at).all(|x| x < least || self.expected(x) == self.found(x)) {
                continue;
            }
            let around = (at - AROUND).max(least)..=(at + AROUND).min(greatest);
            for end in [*around.start(), *around.end()] {
                let (expected, found) = (self.expected(end), self.found(end));
                if expected != found {
                    return Agreement::Differs(Example {
                        sum: end,
                        expected,
                        found,
                    });
                }
            }
            if let worse @ Agreement::Differs(_) = self.try_each(around, &mut tie) {
                return worse;
            }
        }
        tie.map_or(Agreement::Same, Agreement::UnlessTie)
    }

    /// The first sum whose output is `k` or more.
    fn first_of(&self, k: i64) -> i64 {
        let Interval { least, greatest } = self.interval;
        let (mut low, mut high) = (least, greatest);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.expected(middle) >= k {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    fn try_each(
        &self,
        sums: std::ops::RangeInclusive<i64>,
        tie: &mut Option<Example>,
    ) -> Agreement {
        for sum in sums {
            let (expected, found) = (self.expected(sum), self.found(sum));
            if expected == found || !self.residue.meets(62, Residue::of(sum).residue) {
                continue;
            }
            let example = Example {
                sum,
                expected,
                found,
            };
            let (_, _, shift) = self.requantize.constants(self.channel);
            if shift > 0 && self.requantize.is_tie(sum, self.zero_point, self.channel) {
                *tie = tie.or(Some(example));
            } else {
                return Agreement::Differs(example);
            }
        }
        tie.map_or(Agreement::Same, Agreement::UnlessTie)
    }
}
