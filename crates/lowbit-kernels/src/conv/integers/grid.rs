//! Numbers that are integers of 8 bits times a power of two.

use lowbit_formats::IntegerRange;
use lowbit_formats::kernel::isa::dispatch_on;

use crate::scratch;

/// What an `f32` holds every integer below of.
pub(super) const EXACT: u64 = 1 << 24;

/// Exponents of steps beyond which sums of products could leave the normal numbers.
const MOST_EXPONENT: i32 = 48;

/// Added to an integer below 2^22 in magnitude, this leaves it in the last bits.
const SHIFTER: f32 = (3u32 << 22) as f32;

/// `2^exponent` of a normal number.
fn power(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// The integer next to a number whose magnitude is below 2^22.
#[inline(always)]
fn integer(x: f32) -> i32 {
    ((x + SHIFTER).to_bits() as i32).wrapping_sub(SHIFTER.to_bits() as i32)
}

/// Integers that a byte holds, counted from the least, times a power of two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) step: f32,
    inverse: f32,
    pub(super) least: i32,
    greatest: i32,
}

impl Bytes {
    /// `None` where a byte does not hold them, zero is not among them, or the step is too far from 1.
    pub(super) fn new(range: IntegerRange) -> Option<Self> {
        let near = range.exponent.abs() <= MOST_EXPONENT;
        let fits = near && range.min <= 0 && range.max >= 0 && range.max - range.min <= 255;
        fits.then(|| Self {
            step: power(range.exponent),
            inverse: power(-range.exponent),
            least: range.min as i32,
            greatest: range.max as i32,
        })
    }

    /// The same counted from -128, where they are integers of a byte with sign.
    pub(super) fn signed(self) -> Option<Self> {
        let signed = self.least >= -128 && self.greatest <= 127;
        signed.then_some(Self {
            least: -128,
            greatest: 127,
            ..self
        })
    }

    /// The largest magnitude.
    pub(super) fn largest(&self) -> u64 {
        let ends = [self.least, self.greatest];
        u64::from(ends.map(i32::unsigned_abs).into_iter().max().unwrap_or(0))
    }

    /// The byte of zero.
    pub(super) fn zero(&self) -> u8 {
        (-self.least) as u8
    }

    /// The bytes of numbers on the grid, counted from the least. Returns whether all are there: a NaN
    /// is not.
    pub(super) fn bytes(&self, numbers: &[f32], bytes: &mut [u8]) -> bool {
        let inverse = self.inverse;
        let [low, high] = [self.least, self.greatest].map(|k| k as f32 * self.step);
        let zero = (SHIFTER.to_bits() as i32).wrapping_add(self.least);
        dispatch_on(
            numbers,
            bytes,
            #[inline(always)]
            move |numbers: &[f32], bytes: &mut [u8]| {
                let mut outside = 0u32;
                for (byte, &x) in bytes.iter_mut().zip(numbers) {
                    outside |= u32::from(!(x >= low && x <= high));
                    let k = (x * inverse + SHIFTER).to_bits() as i32;
                    *byte = k.wrapping_sub(zero) as u8;
                }
                outside == 0
            },
        )
    }

    /// The same of pixels of so many channels, which lie `pixel` bytes apart: the bytes between stay.
    pub(super) fn pixels(
        &self,
        numbers: &[f32],
        channels: usize,
        bytes: &mut [u8],
        pixel: usize,
    ) -> bool {
        if pixel == channels {
            return self.bytes(numbers, bytes);
        }
        let mut together = scratch::take_of(numbers.len());
        let fits = self.bytes(numbers, &mut together);
        let pixels = bytes.chunks_exact_mut(pixel);
        for (bytes, pixel) in pixels.zip(together.chunks_exact(channels)) {
            bytes[..channels].copy_from_slice(pixel);
        }
        fits
    }

    /// The integer of a number on the grid.
    #[inline(always)]
    pub(super) fn integer(&self, x: f32) -> i32 {
        integer(x * self.inverse)
    }
}

/// The integers, below 256 in magnitude, times a power of two that numbers are found to be, their step as
/// large as it can be; zeros are so many times one. `None` where they are others.
pub(super) fn found(numbers: &[f32]) -> Option<IntegerRange> {
    let largest = largest_bits(numbers);
    if largest == 0 {
        return Some(IntegerRange {
            exponent: 0,
            min: 0,
            max: 0,
        });
    }
    // 256 steps are above the largest; what is not finite is not near.
    let exponent = (largest >> 23) as i32 - 127 - 7;
    if exponent.abs() > MOST_EXPONENT + 8 {
        return None;
    }
    let inverse = power(-exponent);
    let (all, bits, [min, max]) = dispatch_on(
        numbers,
        (),
        #[inline(always)]
        move |numbers: &[f32], ()| {
            let (mut off, mut bits, mut min, mut max) = (0u32, 0i32, 0i32, 0i32);
            for &x in numbers {
                let steps = x * inverse;
                let k = integer(steps);
                off |= u32::from(k as f32 != steps);
                bits |= k;
                min = min.min(k);
                max = max.max(k);
            }
            (off == 0, bits, [min, max])
        },
    );
    let zeros = bits.trailing_zeros();
    all.then(|| IntegerRange {
        exponent: exponent + zeros as i32,
        min: i128::from(min >> zeros),
        max: i128::from(max >> zeros),
    })
}

/// The integers of both.
pub(super) fn both(a: IntegerRange, b: IntegerRange) -> Option<IntegerRange> {
    let is_zero = |range: &IntegerRange| range.min == 0 && range.max == 0;
    if is_zero(&a) {
        return Some(b);
    }
    if is_zero(&b) {
        return Some(a);
    }
    let exponent = a.exponent.min(b.exponent);
    let [a, b] = [a, b].map(|range| {
        let by = range.exponent - exponent;
        (by < 8).then(|| [range.min << by, range.max << by])
    });
    let (a, b) = (a?, b?);
    Some(IntegerRange {
        exponent,
        min: a[0].min(b[0]),
        max: a[1].max(b[1]),
    })
}

/// The bits of the largest magnitude, of which that of a NaN is the largest.
fn largest_bits(numbers: &[f32]) -> u32 {
    dispatch_on(
        numbers,
        (),
        #[inline(always)]
        |numbers: &[f32], ()| {
            let magnitudes = numbers.iter().map(|x| x.to_bits() & 0x7fff_ffff);
            magnitudes.fold(0, u32::max)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(exponent: i32, min: i128, max: i128) -> Option<IntegerRange> {
        Some(IntegerRange { exponent, min, max })
    }

    #[test]
    fn grids_are_found() {
        assert_eq!(found(&[0.0, -0.0]), range(0, 0, 0));
        assert_eq!(found(&[0.75, -0.25]), range(-2, -1, 3));
        assert_eq!(found(&[255.0, 1.0]), range(0, 0, 255));
        assert_eq!(found(&[256.0, 1.0]), None);
        assert_eq!(found(&[256.0, 2.0, -128.0]), range(1, -64, 128));
        assert_eq!(found(&[0.1, 1.0]), None);
        for x in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, 1e-40] {
            assert_eq!(found(&[x, 1.0]), None, "{x}");
            assert_eq!(found(&[x]), None, "{x}");
        }
    }

    #[test]
    fn grids_of_both() {
        let of = |a: &[f32], b: &[f32]| both(found(a).unwrap(), found(b).unwrap());
        assert_eq!(of(&[0.0], &[3.0]), range(0, 0, 3));
        assert_eq!(of(&[-4.0], &[3.0]), range(0, -4, 3));
        assert_eq!(of(&[1.0], &[0.5, 0.25]), range(-2, 0, 4));
        assert_eq!(of(&[256.0], &[1.0]), None);
    }
}
