//! Requantization in `f32`, and whether it has the integers' bits.
//!
//! Both arithmetics do not fall with the sum. So they are the same everywhere if every step of the output,
//! of which there are as many as it has integers, has the same first sum in both: a proof by a few hundred
//! trials. Where a step has two first sums, those between them are the sums for which it is not the same.

use std::ops::Range;

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
    /// A sum of integers times the ratio, which is not rounded before it is rounded half to even.
    Product,
    /// A sum of integers times the ratio, and the zero point, in `f64`, rounded half to even.
    ProductZeroFirst,
    /// By operators on integers.
    Integers,
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
        if self.form == Form::Product {
            let product = half_even_product(sum, self.ratio);
            let moved = product.saturating_add(self.zero_point);
            return moved.clamp(self.least, self.greatest);
        }
        if self.form == Form::ProductZeroFirst {
            let moved = sum as f64 * f64::from(self.ratio) + self.zero_point as f64;
            let clamped = moved.clamp(self.least as f64, self.greatest as f64);
            return clamped.round_ties_even() as i64;
        }
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
            Form::Product | Form::ProductZeroFirst | Form::Integers => {
                unreachable!("integers are no floats")
            }
        };
        (y as i64).clamp(self.least, self.greatest)
    }
}

/// A sum times a float above zero, rounded half to even once.
fn half_even_product(sum: i64, ratio: f32) -> i64 {
    // 24 bits and an exponent.
    let bits = ratio.to_bits();
    let mantissa = i128::from(bits & 0x7f_ffff | 0x80_0000);
    let exponent = (bits >> 23) as i32 - 150;
    let product = i128::from(sum) * mantissa;
    let rounded = if exponent >= 0 {
        product.saturating_mul(1 << exponent.min(100))
    } else {
        // The product is below 2^87.
        let shift = exponent.unsigned_abs().min(100);
        let (floor, half) = (product >> shift, 1i128 << (shift - 1));
        let rest = product - (floor << shift);
        floor + i128::from(rest > half || rest == half && floor & 1 == 1)
    };
    rounded.clamp(i64::MIN.into(), i64::MAX.into()) as i64
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
const OUTPUTS: u64 = 1 << 16;
/// Steps of the output for which ratios and offsets are moved.
const NUDGED: usize = 1 << 12;
/// Sums that are tried one by one.
const SUMS: u64 = 1 << 10;

/// Floats beside a ratio that are tried, in units of its last place.
const NUDGES: [i32; 13] = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6];
/// Fractions of the output's step that are added where half goes up: more than what is lost of numbers
/// below 256, and less than what is between a tie and the next sum after a shift by 15, by 13, ...
const OFFSETS: [f32; 5] = [0.0, 1.0 / 65536.0, 1.0 / 16384.0, 1.0 / 4096.0, 1.0 / 512.0];

/// A requantization in floats, and how it compares with the integers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit {
    /// One for all channels, or one each.
    pub(super) arithmetic: Vec<Arithmetic>,
    pub(super) agreement: Agreement,
}

impl Fit {
    /// The requantization of a tensor by `arithmetic` of each channel, of which `count` differ. With
    /// `nudges` and where that has other bits, a channel's ratio and offset are moved a little: a ratio
    /// that is no float has two neighbours, of which either may have the integers' bits, and one just
    /// above a power of two moves ties away from zero.
    pub(super) fn of(
        requantize: &Requantize,
        input: &Tensor,
        count: usize,
        nudges: bool,
        arithmetic: impl Fn(usize) -> Arithmetic,
    ) -> Self {
        let channels = input.shape()[0];
        let given: Vec<Arithmetic> = (0..channels).map(arithmetic).collect();
        let mut seen: Vec<(Key, (Arithmetic, Agreement))> = Vec::new();
        let mut fitted = |channel: usize, nudges| {
            let channel = Channel::new(requantize, input, channel, given[channel]);
            let key = (channel.key(), nudges);
            if let Some((_, found)) = seen.iter().find(|(known, _)| *known == key) {
                return found.clone();
            }
            let found = channel.fit(nudges);
            seen.push((key, found.clone()));
            found
        };
        let mut all = |nudges| -> (Vec<Arithmetic>, Agreement) {
            let mut worst = Agreement::Same;
            let mut arithmetic = Vec::new();
            for channel in 0..channels {
                let (found, agreement) = fitted(channel, nudges);
                arithmetic.push(found);
                if agreement.rank() > worst.rank() {
                    worst = agreement;
                }
            }
            (arithmetic, worst)
        };
        let (mut arithmetic, mut agreement) = all(false);
        arithmetic.truncate(count);
        if nudges && agreement != Agreement::Same {
            let (nudged, better) = all(true);
            if better.rank() < agreement.rank() {
                (arithmetic, agreement) = (nudged, better);
            }
        }
        Self {
            arithmetic,
            agreement,
        }
    }
}

impl Agreement {
    fn rank(&self) -> u32 {
        match self {
            Self::Same => 0,
            Self::UnlessTie(_) => 1,
            Self::Differs(_) => 2,
            Self::Untried => 3,
        }
    }
}

/// All that a channel's agreement depends on.
type Key = ((Interval, Residue, (i64, i64, u32), Arithmetic), bool);

/// What has to be tried of a channel.
enum Trials {
    /// All sums, which are few.
    Sums,
    /// The first sum of every step of the output, from that of this integer on: of the first the least
    /// sum, and beyond the last integer one more than the greatest.
    Steps(i64, Vec<i64>),
    /// The output has more integers than are tried.
    TooMany,
}

struct Channel<'a> {
    requantize: &'a Requantize,
    channel: usize,
    zero_point: i64,
    interval: Interval,
    residue: Residue,
    arithmetic: Arithmetic,
}

impl<'a> Channel<'a> {
    fn new(
        requantize: &'a Requantize,
        input: &Tensor,
        channel: usize,
        arithmetic: Arithmetic,
    ) -> Self {
        Self {
            requantize,
            channel,
            zero_point: input.numbers().zero_point(),
            interval: input.intervals()[channel],
            residue: input.residues()[channel],
            arithmetic,
        }
    }

    fn key(&self) -> (Interval, Residue, (i64, i64, u32), Arithmetic) {
        let constants = self.requantize.constants(self.channel);
        (self.interval, self.residue, constants, self.arithmetic)
    }

    /// The arithmetic as it is, or the first beside it that has the integers' bits, if there is one.
    fn fit(mut self, nudges: bool) -> (Arithmetic, Agreement) {
        let given = self.arithmetic;
        let trials = self.trials();
        let mut best = (given, self.compare(&trials));
        let many = matches!(&trials, Trials::Steps(_, sums) if sums.len() > NUDGED);
        if !nudges || many || matches!(trials, Trials::TooMany) {
            return best;
        }
        let offsets = match self.requantize.rounding {
            Rounding::HalfUp => &OFFSETS[..],
            _ => &OFFSETS[..1],
        };
        for &offset in offsets {
            for nudge in NUDGES {
                if best.1.rank() == 0 || best.1 == Agreement::Untried {
                    return best;
                }
                let bits = given.ratio.to_bits().wrapping_add_signed(nudge);
                self.arithmetic.ratio = f32::from_bits(bits);
                self.arithmetic.offset = given.offset + offset * given.output;
                let agreement = self.compare(&trials);
                if agreement.rank() < best.1.rank() {
                    best = (self.arithmetic, agreement);
                }
            }
        }
        best
    }

    fn expected(&self, x: i64) -> i64 {
        self.requantize.apply(x, self.zero_point, self.channel)
    }

    fn found(&self, x: i64) -> i64 {
        self.arithmetic.apply(x - self.zero_point)
    }

    /// What has to be tried.
    fn trials(&self) -> Trials {
        let Interval { least, greatest } = self.interval;
        if greatest.abs_diff(least) < SUMS {
            return Trials::Sums;
        }
        let (first, last) = (self.expected(least), self.expected(greatest));
        if last.abs_diff(first) > OUTPUTS {
            return Trials::TooMany;
        }
        let sums = (first..=last + 1).map(|k| self.first(k, |x| self.expected(x)));
        Trials::Steps(first, sums.collect())
    }

    fn compare(&self, trials: &Trials) -> Agreement {
        let Interval { least, greatest } = self.interval;
        let Arithmetic {
            step,
            ratio,
            offset,
            ..
        } = self.arithmetic;
        // Floats that are no numbers fall.
        if ![step, ratio, offset].iter().all(|value| value.is_finite()) {
            return Agreement::Untried;
        }
        let mut tie = None;
        let (first, sums) = match trials {
            Trials::Sums => return self.try_each(least..greatest + 1, &mut tie),
            Trials::Steps(first, sums) => (*first, sums),
            Trials::TooMany => return Agreement::Untried,
        };
        let mut tried = least;
        for (k, &at) in (first..).zip(sums) {
            let found = self.found_first(k, at);
            let between = tried.max(at.min(found))..at.max(found);
            tried = tried.max(between.end);
            if let worse @ Agreement::Differs(_) = self.try_each(between, &mut tie) {
                return worse;
            }
        }
        tie.map_or(Agreement::Same, Agreement::UnlessTie)
    }

    /// The first sum of which the floats make `k` or more, which is `at` in integers.
    fn found_first(&self, k: i64, at: i64) -> i64 {
        let Interval { least, greatest } = self.interval;
        let is_below = at == least || self.found(at - 1) < k;
        if is_below && (at > greatest || self.found(at) >= k) {
            at
        } else {
            self.first(k, |x| self.found(x))
        }
    }

    /// The first sum of which a function that does not fall makes `k` or more; one more than the
    /// greatest sum if there is none.
    fn first(&self, k: i64, f: impl Fn(i64) -> i64) -> i64 {
        let Interval { least, greatest } = self.interval;
        let (mut low, mut high) = (least, greatest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if f(middle) >= k {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Of all sums of a range that can be, by what is known of their last bits.
    fn try_each(&self, sums: Range<i64>, tie: &mut Option<Example>) -> Agreement {
        let Residue { bits, residue } = self.residue;
        let period = 1i64 << bits;
        let mut next = sums.start + ((residue - sums.start) & (period - 1));
        while next < sums.end {
            let sum = next;
            next += period;
            let (expected, found) = (self.expected(sum), self.found(sum));
            if expected == found {
                continue;
            }
            let example = Example {
                sum,
                expected,
                found,
            };
            if self.requantize.is_tie(sum, self.zero_point, self.channel) {
                *tie = tie.or(Some(example));
            } else {
                return Agreement::Differs(example);
            }
        }
        tie.map_or(Agreement::Same, Agreement::UnlessTie)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arithmetic, Form, half_even_product};

    /// 1/2 and the zero point 1 are 3/2, which is rounded to 2; rounded before, it is 0, and then 1. Of an
    /// even zero point both are the same.
    #[test]
    fn an_odd_zero_point_moves_ties() {
        let apply = |form, zero_point| {
            let arithmetic = Arithmetic {
                step: 1.0,
                ratio: 0.5,
                offset: 0.0,
                output: 1.0,
                form,
                zero_point,
                least: -128,
                greatest: 127,
            };
            [1, -1, 3, 2].map(|sum| arithmetic.apply(sum))
        };
        assert_eq!(apply(Form::ProductZeroFirst, 1), [2, 0, 2, 2]);
        assert_eq!(apply(Form::Quantize, 1), [1, 1, 3, 2]);
        for form in [Form::ProductZeroFirst, Form::Quantize] {
            assert_eq!(apply(form, 2), [2, 2, 4, 3]);
        }
    }

    /// A half goes to the even integer, and the product is not rounded before: the float nearest to 1/6 is
    /// above it, so that three of it are above a half, and as a float a half.
    #[test]
    fn products_are_rounded_once() {
        let halves = [(3, 2), (5, 2), (7, 4), (-3, -2), (-5, -2), (-1, 0), (4, 2)];
        for (sum, expected) in halves {
            assert_eq!(half_even_product(sum, 0.5), expected, "{sum}");
        }
        let sixth = 1.0f32 / 6.0;
        assert_eq!((3.0 * sixth).round_ties_even(), 0.0);
        assert_eq!(half_even_product(3, sixth), 1);
        assert_eq!(half_even_product(-3, sixth), -1);
        assert_eq!(half_even_product(1 << 40, 3.0), 3 << 40);
        assert_eq!(half_even_product(i64::MAX, 1e-30), 0);
    }
}
