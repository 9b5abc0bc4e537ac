//! Functions in floats as multipliers and shifts that have the same integers.
//!
//! Both do not fall. So they are equal everywhere if they are equal at both sides of every step of the one
//! and at the ends of what can be.

use std::fmt;

use crate::numbers::Numbers;
use crate::ops::{Requantize, Rounding};
use crate::tensor::{Interval, Residue, Tensor};

/// What a function in floats about is: `ratio x + offset`, in steps of the output from its zero point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) ratio: f64,
    pub(super) offset: f64,
}

/// An integer of which no multiplier and shift that were tried make what the floats make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unstated {
    sum: i64,
    made: i64,
}

impl fmt::Display for Unstated {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { sum, made } = self;
        write!(
            f,
            "floats make {made} of {sum}, which no multiplier and shift does that has the others"
        )
    }
}

/// A multiplier, an offset and a shift.
type Constants = (i64, i64, u32);

/// Steps of the output that are tried.
const STEPS: usize = 1 << 17;
/// Floats beside a ratio that are tried, in units of its last place.
const NEIGHBOURS: [i32; 13] = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6];

/// The requantization of a tensor that makes `made(channel, x)` of every integer `x`, counted from the
/// zero point, that can be; `made` does not fall and is about `line`.
pub(super) fn state(
    input: &Tensor,
    numbers: Numbers,
    line: impl Fn(usize) -> Line,
    made: impl Fn(usize, i64) -> i64,
) -> Result<Requantize, Unstated> {
    let count = input.shape().len().min(1) * input.intervals().len();
    let channels: Vec<Channel> = (0..count)
        .map(|channel| Channel::new(input, numbers, channel, line(channel), &made))
        .collect();
    let mut failed = Unstated { sum: 0, made: 0 };
    for rounding in [Rounding::HalfEven, Rounding::HalfAway, Rounding::Floor] {
        let found: Result<Vec<Constants>, Unstated> = channels
            .iter()
            .map(|channel| channel.constants(rounding))
            .collect();
        match found {
            Ok(constants) => return Ok(requantize(&constants, rounding, numbers)),
            Err(unstated) if rounding == Rounding::HalfEven => failed = unstated,
            Err(_) => {}
        }
    }
    Err(failed)
}

/// The same by two requantizations, both half to even, of which the first keeps some bits behind the point:
/// products that a float rounds to a tie, of which there is none in a product with a multiplier, are ties
/// then.
pub(super) fn state_twice(
    input: &Tensor,
    numbers: Numbers,
    line: impl Fn(usize) -> Line,
    made: impl Fn(usize, i64) -> i64,
) -> Option<[Requantize; 2]> {
    let wide = Numbers::affine(32, true, numbers.scale(), 0).ok()?;
    let pairs = (0..input.intervals().len())
        .map(|channel| Channel::new(input, numbers, channel, line(channel), &made).twice(wide));
    let pairs: Option<Vec<[Constants; 2]>> = pairs.collect();
    let (first, second): (Vec<Constants>, Vec<Constants>) =
        pairs?.into_iter().map(|[a, b]| (a, b)).unzip();
    Some([
        requantize(&first, Rounding::HalfEven, wide),
        requantize(&second, Rounding::HalfEven, numbers),
    ])
}

/// One of constants for each channel, or for all where they are the same.
pub(super) fn requantize(
    constants: &[Constants],
    rounding: Rounding,
    numbers: Numbers,
) -> Requantize {
    let alike = constants.iter().all(|c| *c == constants[0]);
    let constants = &constants[..if alike { 1 } else { constants.len() }];
    Requantize {
        multiplier: constants.iter().map(|c| c.0).collect(),
        offset: constants.iter().map(|c| c.1).collect(),
        shift: constants.iter().map(|c| c.2).collect(),
        rounding,
        numbers,
    }
}

struct Channel {
    numbers: Numbers,
    line: Line,
    /// Integers at both sides of every step, and what is made of them; too many if there are none.
    points: Vec<(i64, i64)>,
}

impl Channel {
    fn new(
        input: &Tensor,
        numbers: Numbers,
        channel: usize,
        line: Line,
        made: impl Fn(usize, i64) -> i64,
    ) -> Self {
        let zero = input.numbers().zero_point();
        let (interval, residue) = (input.intervals()[channel], input.residues()[channel]);
        Self {
            numbers,
            line,
            points: points(interval, residue, |x| made(channel, x - zero))
                .into_iter()
                .map(|(x, y)| (x - zero, y))
                .collect(),
        }
    }

    /// The first constants that have every point.
    fn constants(&self, rounding: Rounding) -> Result<Constants, Unstated> {
        let mut failed = None;
        let ratio = self.line.ratio as f32;
        let is_float = f64::from(ratio) == self.line.ratio;
        for neighbour in NEIGHBOURS {
            let moved = f32::from_bits(ratio.to_bits().wrapping_add_signed(neighbour));
            let ratio = if neighbour == 0 && !is_float {
                self.line.ratio
            } else {
                f64::from(moved)
            };
            match self.misses(constants(ratio, self.line.offset), rounding) {
                Ok(constants) => return Ok(constants),
                Err(miss) => failed = failed.or(miss),
            }
        }
        if rounding == Rounding::Floor
            && let Ok(constants) = self.misses(self.between(), rounding)
        {
            return Ok(constants);
        }
        Err(failed.unwrap_or(Unstated { sum: 0, made: 0 }))
    }

    /// The constants, or the first point that they have not.
    fn misses(
        &self,
        constants: Option<Constants>,
        rounding: Rounding,
    ) -> Result<Constants, Option<Unstated>> {
        let constants = constants.ok_or(None)?;
        if self.points.is_empty() {
            return Err(None);
        }
        let requantize = requantize(&[constants], rounding, self.numbers);
        let limit = 1i128 << 61;
        for &(sum, made) in &self.points {
            let scaled = i128::from(sum) * i128::from(constants.0) + i128::from(constants.1);
            if scaled.abs() >= limit || requantize.apply(sum, 0, 0) != made {
                return Err(Some(Unstated { sum, made }));
            }
        }
        Ok(constants)
    }

    /// Constants of two requantizations that have every point.
    fn twice(&self, wide: Numbers) -> Option<[Constants; 2]> {
        let limit = 1i128 << 61;
        let most = 30 - self.numbers.bits().min(20);
        let mut kept = (8..=most).rev().filter_map(|bits| {
            let unit = f64::from(bits).exp2();
            let Line { ratio, offset } = self.line;
            let first = constants(ratio * unit, offset * unit)?;
            Some([first, (1, 0, bits)])
        });
        kept.find(|[first, second]| {
            let fine = requantize(&[*first], Rounding::HalfEven, wide);
            let coarse = requantize(&[*second], Rounding::HalfEven, self.numbers);
            let has = |&(sum, made): &(i64, i64)| {
                let scaled = i128::from(sum) * i128::from(first.0) + i128::from(first.1);
                scaled.abs() < limit && coarse.apply(fine.apply(sum, 0, 0), 0, 0) == made
            };
            !self.points.is_empty() && self.points.iter().all(has)
        })
    }

    /// A line between the points: above the output at each of them, or on it, and below the next output.
    /// The room above all that are below, less that below all that are above, is a concave function of
    /// the ratio.
    fn between(&self) -> Option<Constants> {
        let zero = self.numbers.zero_point();
        let ends = [self.numbers.least(), self.numbers.greatest()];
        let room = |ratio: f64| {
            let (mut above, mut below) = (f64::INFINITY, f64::NEG_INFINITY);
            for &(x, y) in &self.points {
                let at = (y - zero) as f64 - ratio * x as f64;
                if y > ends[0] {
                    below = below.max(at);
                }
                if y < ends[1] {
                    above = above.min(at + 1.0);
                }
            }
            (above, below)
        };
        let (mut low, mut high) = (self.line.ratio * 0.999, self.line.ratio * 1.001);
        for _ in 0..100 {
            let [a, b] = [low + (high - low) / 3.0, high - (high - low) / 3.0];
            let [(above, below), (more, less)] = [room(a), room(b)];
            if above - below < more - less {
                low = a;
            } else {
                high = b;
            }
        }
        let ratio = low + (high - low) / 2.0;
        let (multiplier, shift) = super::multiplier_and_shift(ratio).ok()?;
        let (above, below) = room(multiplier as f64 * (-f64::from(shift)).exp2());
        let offset = match [above, below].map(f64::is_finite) {
            [true, true] => below + (above - below) / 2.0,
            [true, false] => above - 1.0,
            [false, true] => below,
            [false, false] => 0.0,
        };
        let offset = (offset * f64::from(shift).exp2()).round();
        (offset.abs() < 61f64.exp2()).then_some((multiplier, offset as i64, shift))
    }
}

/// A ratio and an offset in integers.
pub(super) fn constants(ratio: f64, offset: f64) -> Option<Constants> {
    let (multiplier, shift) = super::multiplier_and_shift(ratio).ok()?;
    let unit = f64::from(shift).exp2();
    let mut constants = (multiplier, offset * unit, shift);
    // A multiplier with few bits may have a shift too short for the offset.
    while constants.1.fract() != 0.0 && constants.2 < 40 && constants.0 < 1 << 30 {
        constants = (2 * constants.0, 2.0 * constants.1, constants.2 + 1);
    }
    let offset = constants.1.round();
    (offset.abs() < 61f64.exp2()).then_some((constants.0, offset as i64, constants.2))
}

/// The least and the greatest integer that can be, and both sides of every step between them; nothing if
/// there are more steps than are tried.
fn points(interval: Interval, residue: Residue, made: impl Fn(i64) -> i64) -> Vec<(i64, i64)> {
    let period = 1i64 << residue.bits;
    let first = interval.least + ((residue.residue - interval.least) & (period - 1));
    if first > interval.greatest {
        return vec![];
    }
    let last = (interval.greatest - first) >> residue.bits;
    let at = |n: i64| first + n * period;
    let mut points = vec![(first, made(first))];
    let mut tried = 0;
    let end = made(at(last));
    while points[points.len() - 1].1 < end {
        let before = points[points.len() - 1].1;
        // The first of which more is made.
        let (mut low, mut high) = (tried, last);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if made(at(middle)) > before {
                high = middle;
            } else {
                low = middle;
            }
        }
        points.extend([(at(low), before), (at(high), made(at(high)))]);
        tried = high;
        if points.len() > 2 * STEPS {
            return vec![];
        }
    }
    points.push((at(last), end));
    points
}
