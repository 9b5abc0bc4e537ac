//! Requantizations with their constants prepared.

use std::ops::RangeInclusive;

use lowbit_kernels::integer::{self, Arithmetic, Limits, Narrow, Requantization, Scales};

use super::Form;
use crate::ops::{Clamp, Operator, Requantize, Rounding};
use crate::tensor::{Interval, Tensor};

/// Rounding without a branch: `(x + add + (even & (x >> shift)) - (away & sign of x)) >> shift`, as
/// [`Narrow`] has it.
#[derive(Debug, Clone, Copy)]
struct Shift {
    shift: u32,
    add: i64,
    even: i64,
    away: i64,
}

impl Shift {
    fn of(shift: u32, rounding: Rounding) -> Self {
        let (half, nearest) = match shift {
            0 => (0, 0),
            _ => (1 << (shift - 1), 1),
        };
        let (add, even, away) = match rounding {
            Rounding::Floor => (0, 0, 0),
            Rounding::HalfUp => (half, 0, 0),
            Rounding::HalfAway => (half, 0, nearest),
            Rounding::HalfEven => (half - nearest, nearest, 0),
        };
        Self {
            shift,
            add,
            even,
            away,
        }
    }
}

/// The shift of a requantization of sums that lie in an interval, and what is added to a sum before.
/// `None` if it does not fit 32 bits or is not one shift for all.
pub(crate) fn narrow(requantize: &Requantize, sums: Interval) -> Option<(Narrow, i32)> {
    let (multiplier, offset, shift) = requantize.constants(0);
    if requantize.channels() != 1 || multiplier != 1 || shift > 30 {
        return None;
    }
    let half = (1u64 << shift) / 2;
    let reach = sums.magnitude().checked_add(offset.unsigned_abs())?;
    if reach.checked_add(half)? >= 1 << 30 {
        return None;
    }
    let rounding = Shift::of(shift, requantize.rounding);
    let numbers = requantize.numbers;
    let narrow = Narrow {
        shift,
        add: rounding.add as i32,
        even: rounding.even as i32,
        away: rounding.away as i32,
        zero: numbers.zero_point() as i32,
        least: numbers.least() as i32,
        greatest: numbers.greatest() as i32,
    };
    Some((narrow, offset as i32))
}

/// The least sum of each channel that becomes the least integer plus 1, 2 and so on, level after level;
/// beyond all sums where none does. Sums lie in what is proven of their channel, and what a sum becomes
/// does not fall as it rises. Channels are `padded` up to whole vectors.
pub(crate) fn thresholds(requantize: &Requantize, sums: &Tensor, padded: usize) -> Vec<Vec<i32>> {
    let numbers = requantize.numbers;
    let zero = sums.numbers.zero_point();
    let levels = numbers.least() + 1..=numbers.greatest();
    let levels = levels.map(|level| {
        let channels = sums.intervals.iter().enumerate();
        let thresholds = channels.map(|(channel, &interval)| {
            let reaches = |sum: i64| requantize.apply(sum, zero, channel) >= level;
            if !reaches(interval.greatest) {
                return i32::MAX;
            }
            first(interval, reaches) as i32
        });
        let mut thresholds: Vec<i32> = thresholds.collect();
        thresholds.resize(padded, i32::MAX);
        thresholds
    });
    levels.collect()
}

/// The least number of an interval of which something holds, as it does of all greater ones and of the
/// greatest.
fn first(interval: Interval, holds: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (interval.least, interval.greatest);
    while low < high {
        let middle = low + (high - low) / 2;
        (low, high) = if holds(middle) {
            (low, middle)
        } else {
            (middle + 1, high)
        };
    }
    low
}

/// `clamp(round((multiplier x + offset) / 2^shift) + zero, limits)` of numbers as they are kept, to
/// numbers as they are kept, with constants of each channel or one for all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    channels: Vec<Channel>,
    rounding: Rounding,
    zero: i64,
    limits: Interval,
}

/// The constants of a channel, and what its numbers lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Channel {
    multiplier: i64,
    offset: i64,
    shift: u32,
    known: Interval,
}

/// Of how many levels of all channels together the thresholds are looked for: some hundredths of a second.
const LEVELS: i64 = 1 << 18;

impl Function {
    /// What an operator makes of each number of a tensor that is kept with `from` as 0. `None` if it is no
    /// such function.
    pub(crate) fn of(
        operator: &Operator,
        from: i64,
        input: &Tensor,
        output: &Tensor,
    ) -> Option<Self> {
        let to = Form::of(output)?.base(output);
        let mut function = match operator {
            Operator::Requantize(node) => Self::requantize(node, [from, to], input)?,
            Operator::Rectifier(node) => Self::clamp(&node.clamp(input), [from, to], input),
            Operator::Clamp(clamp) => Self::clamp(clamp, [from, to], input),
            _ => return None,
        };
        // Beyond it there is nothing.
        let Interval { least, greatest } = output.interval().map(|y| y - to);
        let limits = &mut function.limits;
        limits.least = limits.least.max(least);
        limits.greatest = limits.greatest.min(greatest);
        Some(function)
    }

    /// Sums as they are, kept as a tensor.
    pub(crate) fn kept(sums: &Tensor) -> Option<Self> {
        let Interval { least, greatest } = sums.interval();
        let to = Form::of(sums)?.base(sums);
        Some(Self::clamp(&Clamp { least, greatest }, [0, to], sums))
    }

    fn clamp(clamp: &Clamp, [from, to]: [i64; 2], input: &Tensor) -> Self {
        let channel = Channel {
            multiplier: 1,
            offset: from,
            shift: 0,
            known: input.interval().map(|x| x - from),
        };
        Self {
            channels: vec![channel],
            rounding: Rounding::Floor,
            zero: -to,
            limits: Interval {
                least: clamp.least - to,
                greatest: clamp.greatest - to,
            },
        }
    }

    fn requantize(node: &Requantize, [from, to]: [i64; 2], input: &Tensor) -> Option<Self> {
        let all = [input.interval()];
        let intervals = match node.channels() {
            1 => &all[..],
            _ => &input.intervals,
        };
        let channels = intervals.iter().enumerate().map(|(channel, known)| {
            let (multiplier, offset, shift) = node.constants(channel);
            let moved = multiplier.checked_mul(from - input.numbers.zero_point())?;
            Some(Channel {
                multiplier,
                offset: offset.checked_add(moved)?,
                shift,
                known: known.map(|x| x - from),
            })
        });
        let numbers = node.numbers;
        Some(Self {
            channels: channels.collect::<Option<_>>()?,
            rounding: node.rounding,
            zero: numbers.zero_point() - to,
            limits: Interval {
                least: numbers.least() - to,
                greatest: numbers.greatest() - to,
            },
        })
    }

    /// With constants that instructions take, in as few bits as are found.
    pub(crate) fn prepare(&self) -> Option<Requantization> {
        let limits = Limits {
            least: i32::try_from(self.limits.least).ok()?,
            greatest: i32::try_from(self.limits.greatest).ok()?,
        };
        if let Some(more) = self.added() {
            return Some(Requantization::new(Arithmetic::Added(more), limits));
        }
        if let Some(scales) = self.exact_words() {
            return Some(Requantization::new(Arithmetic::Words(scales), limits));
        }
        let thresholds = self.thresholds();
        let thresholds = thresholds.as_deref();
        let arithmetic = thresholds
            .and_then(|thresholds| self.words(thresholds))
            .or_else(|| self.rounded_words())
            .map(Arithmetic::Words);
        let longs = || {
            let down = thresholds.and_then(|thresholds| self.longs(thresholds));
            down.or_else(|| self.rounded(Some)).map(Arithmetic::Longs)
        };
        Some(Requantization::new(arithmetic.or_else(longs)?, limits))
    }

    fn apply(&self, channel: &Channel, x: i64) -> i64 {
        let v = channel.multiplier * x + channel.offset;
        let rounded = self.rounding.shift(v, channel.shift) + self.zero;
        rounded.clamp(self.limits.least, self.limits.greatest)
    }

    /// What a channel's numbers become.
    fn levels(&self, channel: &Channel) -> RangeInclusive<i64> {
        let Interval { least, greatest } = channel.known;
        self.apply(channel, least)..=self.apply(channel, greatest)
    }

    /// For each channel the least number that becomes each of what its numbers become, but for the least of
    /// that. `None` if they are many.
    fn thresholds(&self) -> Option<Vec<Vec<i64>>> {
        let count = |channel: &Channel| {
            let levels = self.levels(channel);
            levels.end() - levels.start()
        };
        let total = self
            .channels
            .iter()
            .map(count)
            .try_fold(0i64, |a, b| a.checked_add(b));
        if total? > LEVELS {
            return None;
        }
        let of = |channel: &Channel| {
            let levels = self.levels(channel).skip(1);
            let mut from = channel.known;
            let thresholds = levels.map(|level| {
                from.least = first(from, |x| self.apply(channel, x) >= level);
                from.least
            });
            thresholds.collect()
        };
        Some(self.channels.iter().map(of).collect())
    }

    /// Multipliers of as many bits as fit 32-bit arithmetic, and offsets with which rounding down makes the
    /// same: proven at every threshold, between which neither changes.
    fn words(&self, thresholds: &[Vec<i64>]) -> Option<Scales<i32>> {
        let channels = self.channels.iter().zip(thresholds);
        let constants = channels.map(|(channel, thresholds)| {
            let power = |shift: u32| 2f64.powi(shift as i32);
            let real = |x: i64| {
                let v = channel.multiplier as f64 * x as f64 + channel.offset as f64;
                v / power(channel.shift) + self.zero as f64
            };
            let Interval { least, greatest } = channel.known;
            let reach = real(least).abs().max(real(greatest).abs()) + 2.0;
            let shift = (30.0 - reach.log2()).clamp(0.0, 30.0) as u32;
            let scaled = channel.multiplier as f64 / power(channel.shift) * power(shift);
            let near = (real(0) * power(shift)) as i128;
            let tried = [0, 1, -1].into_iter().find_map(|more| {
                let multiplier = scaled.round() as i64 + more;
                let offset = self.offset(channel, thresholds, [multiplier, shift.into()], near)?;
                let fits = |x: i64| i32::try_from(i128::from(multiplier) * i128::from(x) + offset);
                let _ = (fits(least).ok()?, fits(greatest).ok()?);
                Some([i32::try_from(multiplier).ok()?, i32::try_from(offset).ok()?])
            });
            tried.map(|[multiplier, offset]| [multiplier, offset, shift as i32])
        });
        let constants: Vec<[i32; 3]> = constants.collect::<Option<_>>()?;
        let [multiplier, offset, shift] =
            [0, 1, 2].map(|i| constants.iter().map(|constants| constants[i]).collect());
        Some(Scales {
            multiplier,
            offset,
            shift,
            rounding: None,
        })
    }

    /// The offset nearest to another one with which a multiplier and a shift that rounds down make what the
    /// function makes of a channel.
    fn offset(
        &self,
        channel: &Channel,
        thresholds: &[i64],
        [multiplier, shift]: [i64; 2],
        near: i128,
    ) -> Option<i128> {
        let v = |x: i64| i128::from(multiplier) * i128::from(x);
        let at = |level: i64| i128::from(level) << shift;
        let (levels, Interval { least, greatest }) = (self.levels(channel), channel.known);
        let (mut low, mut high) = (-1i128 << 62, 1i128 << 62);
        // What is beyond the limits may be anything beyond.
        if *levels.start() > self.limits.least {
            low = low.max(at(*levels.start()) - v(least));
        }
        if *levels.end() < self.limits.greatest {
            high = high.min(at(levels.end() + 1) - v(greatest) - 1);
        }
        for (level, &threshold) in levels.skip(1).zip(thresholds) {
            low = low.max(at(level) - v(threshold));
            high = high.min(at(level) - v(threshold - 1) - 1);
        }
        (low <= high).then(|| near.clamp(low, high))
    }

    /// Whether numbers of a channel in 32 bits do not overflow, with so much added to each.
    fn fits(channel: &Channel, more: i128) -> bool {
        let v =
            |x: i64| i128::from(channel.multiplier) * i128::from(x) + i128::from(channel.offset);
        let Interval { least, greatest } = channel.known;
        [least, greatest]
            .iter()
            .all(|&x| i32::try_from(v(x) + more).is_ok())
    }

    /// What is added to each number, if that is all but the limits, which some number is within or beyond on
    /// either side.
    fn added(&self) -> Option<i32> {
        let [channel] = &self.channels[..] else {
            return None;
        };
        let more = channel.offset.checked_add(self.zero)?;
        let of_ones = channel.multiplier == 1 && channel.shift == 0;
        let Interval { least, greatest } = channel.known.map(|x| x.saturating_add(more));
        let meets = least <= self.limits.greatest && greatest >= self.limits.least;
        let fits = [least, greatest].iter().all(|&y| i32::try_from(y).is_ok());
        (of_ones && meets && fits).then(|| i32::try_from(more).ok())?
    }

    /// The constants as they are, in 32 bits, where no half is rounded to the even integer or away from zero.
    fn exact_words(&self) -> Option<Scales<i32>> {
        let shifts = self.shifts();
        let mut offsets = Vec::with_capacity(shifts.len());
        for (channel, shift) in self.channels.iter().zip(&shifts) {
            let more = i128::from(shift.add) + (i128::from(self.zero) << shift.shift);
            if shift.even + shift.away > 0 || shift.shift > 30 || !Self::fits(channel, more) {
                return None;
            }
            let offset = i128::from(channel.offset) + more;
            offsets.push(i32::try_from(offset).ok()?);
        }
        let multipliers = self
            .channels
            .iter()
            .map(|c| i32::try_from(c.multiplier).ok());
        Some(Scales {
            multiplier: multipliers.collect::<Option<_>>()?,
            offset: offsets,
            shift: shifts.iter().map(|shift| shift.shift as i32).collect(),
            rounding: None,
        })
    }

    /// The constants as they are, in 32 bits.
    fn rounded_words(&self) -> Option<Scales<i32>> {
        let fits = |channel: &Channel| {
            let half = (1i128 << channel.shift) / 2;
            channel.shift < 31 && Self::fits(channel, half) && Self::fits(channel, -1)
        };
        let few = |channel: &Channel| {
            let rounded = |x: i64| (channel.multiplier * x + channel.offset) >> channel.shift;
            let Interval { least, greatest } = channel.known.map(rounded);
            [least, greatest + 1]
                .map(|y| i32::try_from(y + self.zero))
                .iter()
                .all(Result::is_ok)
        };
        let all = self
            .channels
            .iter()
            .all(|channel| fits(channel) && few(channel));
        all.then(|| self.rounded(|x| i32::try_from(x).ok()))?
    }

    fn shifts(&self) -> Vec<Shift> {
        let shifts = self
            .channels
            .iter()
            .map(|c| Shift::of(c.shift, self.rounding));
        shifts.collect()
    }

    /// The constants as they are.
    fn rounded<W>(&self, narrow: impl Fn(i64) -> Option<W>) -> Option<Scales<W>> {
        let shifts = self.shifts();
        let of_shifts = |f: fn(&Shift) -> i64| -> Option<Vec<W>> {
            shifts.iter().map(|shift| narrow(f(shift))).collect()
        };
        let of_channels = |f: fn(&Channel) -> i64| -> Option<Vec<W>> {
            self.channels
                .iter()
                .map(|channel| narrow(f(channel)))
                .collect()
        };
        Some(Scales {
            multiplier: of_channels(|channel| channel.multiplier)?,
            offset: of_channels(|channel| channel.offset)?,
            shift: of_channels(|channel| channel.shift.into())?,
            rounding: Some(integer::Rounding {
                add: of_shifts(|shift| shift.add)?,
                even: of_shifts(|shift| shift.even)?,
                away: of_shifts(|shift| shift.away)?,
                zero: narrow(self.zero)?,
            }),
        })
    }

    /// Multipliers as they are, and offsets with which rounding down makes the same.
    fn longs(&self, thresholds: &[Vec<i64>]) -> Option<Scales<i64>> {
        let channels = self.channels.iter().zip(thresholds);
        let offsets = channels.map(|(channel, thresholds)| {
            i32::try_from(channel.multiplier).ok()?;
            let half = (1i128 << channel.shift) / 2;
            let near = i128::from(channel.offset) + half + (i128::from(self.zero) << channel.shift);
            let constants = [channel.multiplier, channel.shift.into()];
            let offset = self.offset(channel, thresholds, constants, near)?;
            i64::try_from(offset).ok()
        });
        let all = |f: fn(&Channel) -> i64| self.channels.iter().map(f).collect();
        Some(Scales {
            multiplier: all(|channel| channel.multiplier),
            offset: offsets.collect::<Option<_>>()?,
            shift: all(|channel| channel.shift.into()),
            rounding: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    /// Against the operator's definition, for each number of what is known: constants that are taken as
    /// they are, found ones, and those of 64 bits.
    #[test]
    fn prepared_constants_round_as_the_operator_does() {
        let wide = Numbers::power_of_two(40, true, 0).unwrap();
        let numbers = Numbers::affine(5, true, 0.3, -4).unwrap();
        let mut input = Tensor::any(vec![4], wide).unwrap();
        let known = Interval {
            least: -300,
            greatest: 299,
        };
        input.intervals = vec![known; 4];
        for rounding in Rounding::ALL {
            for (multiplier, more) in [
                ([1, 3, 5, 8], 0),
                ([1 << 30, 3 << 29, (1 << 30) + 1, 1 << 29], 30),
                ([1 << 50; 4], 50),
            ] {
                let requantize = Requantize {
                    multiplier: multiplier.to_vec(),
                    offset: [0, -7, 4, 9].map(|o: i64| o << more).to_vec(),
                    shift: [0, 2, 5, 3].map(|s: u32| s + more).to_vec(),
                    rounding,
                    numbers,
                };
                let output = Tensor::any(vec![4], numbers).unwrap();
                let function = Function::of(&requantize.clone().into(), 0, &input, &output);
                let prepared = function.unwrap().prepare().unwrap();
                for sum in -300i32..300 {
                    let mut bytes = [0u8; 4];
                    prepared.lines(&[sum; 16], 16, &mut bytes, 4);
                    let expected = [0, 1, 2, 3].map(|channel| {
                        (requantize.apply(sum.into(), 0, channel) - numbers.least()) as u8
                    });
                    assert_eq!(bytes, expected, "{rounding:?} {sum}");
                }
            }
        }
    }
}
