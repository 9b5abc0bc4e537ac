//! Requantizations of 32-bit sums to bytes, with their constants prepared.

use lowbit_formats::kernel::isa::dispatch_on;
use lowbit_kernels::integer::Narrow;

use crate::ops::{Requantize, Rounding};
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

    /// Of a number below 2^62 in magnitude.
    #[inline(always)]
    fn apply(&self, x: i64) -> i64 {
        let (even, away) = (self.even & (x >> self.shift), self.away & (x >> 63));
        (x + self.add + even - away) >> self.shift
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
        let thresholds = sums
            .intervals
            .iter()
            .enumerate()
            .map(|(channel, interval)| {
                let reaches = |sum: i64| requantize.apply(sum, zero, channel) >= level;
                let Interval { least, greatest } = *interval;
                if !reaches(greatest) {
                    return i32::MAX;
                }
                let (mut low, mut high) = (least, greatest);
                while low < high {
                    let middle = low + (high - low) / 2;
                    (low, high) = if reaches(middle) {
                        (low, middle)
                    } else {
                        (middle + 1, high)
                    };
                }
                low as i32
            });
        let mut thresholds: Vec<i32> = thresholds.collect();
        thresholds.resize(padded, i32::MAX);
        thresholds
    });
    levels.collect()
}

/// A multiplier, an offset and a shift for each channel; what is left is a byte, the least integer
/// stored as 0.
#[derive(Debug, Clone)]
pub(crate) struct PerChannel {
    channels: Vec<Channel>,
    /// What is added after the shift.
    zero: i64,
    /// The greatest byte.
    greatest: i64,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    multiplier: i64,
    offset: i64,
    shift: Shift,
}

impl PerChannel {
    /// A requantization to at most 8 bits of sums of so many channels, whose zero is 0.
    pub(crate) fn of(requantize: &Requantize, channels: usize) -> Self {
        let channels = (0..channels).map(|channel| {
            let (multiplier, offset, shift) = requantize.constants(channel);
            let shift = Shift::of(shift, requantize.rounding);
            Channel {
                multiplier,
                offset,
                shift,
            }
        });
        let numbers = requantize.numbers;
        Self {
            channels: channels.collect(),
            zero: numbers.zero_point() - numbers.least(),
            greatest: numbers.greatest() - numbers.least(),
        }
    }

    /// The bytes of some pixels, whose sums lie in lines of `line`, of which as many are read as there
    /// are channels.
    pub(crate) fn lines(&self, sums: &[i32], line: usize, bytes: &mut [u8]) {
        dispatch_on(
            (self, sums),
            bytes,
            #[inline(always)]
            |(this, sums): (&Self, &[i32]), bytes: &mut [u8]| {
                let pixels = bytes.chunks_exact_mut(this.channels.len());
                for (bytes, sums) in pixels.zip(sums.chunks_exact(line)) {
                    this.pixel(sums, bytes);
                }
            },
        );
    }

    #[inline(always)]
    fn pixel(&self, sums: &[i32], bytes: &mut [u8]) {
        let pairs = bytes.iter_mut().zip(sums).zip(&self.channels);
        for ((byte, &sum), channel) in pairs {
            let scaled = channel.multiplier * i64::from(sum) + channel.offset;
            let rounded = channel.shift.apply(scaled);
            *byte = (rounded + self.zero).max(0).min(self.greatest) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    /// Against the operator's definition.
    #[test]
    fn prepared_constants_round_as_the_operator_does() {
        let numbers = Numbers::affine(5, true, 0.3, -4).unwrap();
        for rounding in Rounding::ALL {
            let requantize = Requantize {
                multiplier: vec![1, 3, 5, 8],
                offset: vec![0, -7, 4, 9],
                shift: vec![0, 2, 5, 3],
                rounding,
                numbers,
            };
            let prepared = PerChannel::of(&requantize, 4);
            for sum in -300..300 {
                let mut bytes = [0; 4];
                prepared.lines(&[sum; 16], 16, &mut bytes);
                let expected = [0, 1, 2, 3].map(|channel| {
                    (requantize.apply(sum.into(), 0, channel) - numbers.least()) as u8
                });
                assert_eq!(bytes, expected, "{rounding:?} {sum}");
            }
        }
    }
}
