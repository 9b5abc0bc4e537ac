//! Numbers rounded to bfloat16, two in the 32 bits of an `f32`: the first of a pair in the lower half, as
//! `vdpbf16ps` reads them.
//!
//! Rounding is to the nearest, ties to even. What is below the least normal number becomes zero, which is
//! what the sums take it for.

// Pairs seen as their halves.
#![allow(unsafe_code)]

use lowbit_formats::kernel::isa::dispatch_on;

/// Whether a number stays as it is.
pub fn is_bfloat16(x: f32) -> bool {
    x.to_bits() & 0xffff == 0 && !x.is_subnormal()
}

/// The bfloat16 next to a number, in the upper half.
#[inline(always)]
fn upper(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    let is_normal = rounded & 0x7fff_ffff >= f32::MIN_POSITIVE.to_bits();
    let rounded = if is_normal { rounded } else { bits & 1 << 31 };
    if x.is_nan() { 0x7fc0_0000 } else { rounded }
}

/// Two numbers.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(upper(first) >> 16 | upper(second))
}

/// Pairs of neighbouring channels of pixels, `[pixels][ceil(channels / 2)]`; a last channel alone is one
/// with zero.
///
/// # Panics
/// If `pairs` is too short.
pub(crate) fn pair_channels(pixels: &[f32], channels: usize, pairs: &mut [f32]) {
    let together = channels.div_ceil(2);
    assert!(pairs.len() >= pixels.len() / channels * together);
    if channels.is_multiple_of(2) {
        return pair_neighbours(pixels, pairs);
    }
    for (pairs, pixel) in pairs
        .chunks_exact_mut(together)
        .zip(pixels.chunks_exact(channels))
    {
        let (last, all) = pixel.split_last().expect("a pixel has a channel");
        pair_neighbours(all, pairs);
        pairs[together - 1] = pair(*last, 0.0);
    }
}

/// Pairs of each two numbers: bfloat16 in their order.
fn pair_neighbours(numbers: &[f32], pairs: &mut [f32]) {
    const { assert!(cfg!(target_endian = "little")) };
    let halves = 2 * pairs.len();
    // SAFETY: a pair has the room of two halves, which need no more alignment, and every pattern of bits is
    // a number.
    let halves =
        unsafe { std::slice::from_raw_parts_mut(pairs.as_mut_ptr().cast::<u16>(), halves) };
    dispatch_on(
        numbers,
        halves,
        #[inline(always)]
        |numbers: &[f32], halves: &mut [u16]| {
            for (half, &number) in halves.iter_mut().zip(numbers) {
                *half = (upper(number) >> 16) as u16;
            }
        },
    );
}

/// Pairs of pixels of rows, `[rows][ceil(width / 2)][channels]`; a last pixel alone is one with zeros.
///
/// # Panics
/// If `pairs` is too short.
pub(crate) fn pair_pixels(rows: &[f32], [width, channels]: [usize; 2], pairs: &mut [f32]) {
    let (row, together) = (width * channels, width.div_ceil(2) * channels);
    assert!(pairs.len() >= rows.len() / row * together);
    dispatch_on(
        rows,
        pairs,
        #[inline(always)]
        move |rows: &[f32], pairs: &mut [f32]| {
            for (pairs, row) in pairs.chunks_exact_mut(together).zip(rows.chunks_exact(row)) {
                let two = pairs
                    .chunks_exact_mut(channels)
                    .zip(row.chunks(2 * channels));
                for (pairs, pixels) in two {
                    let (first, second) = pixels.split_at(channels);
                    if second.is_empty() {
                        for (pair_of, &first) in pairs.iter_mut().zip(first) {
                            *pair_of = pair(first, 0.0);
                        }
                    } else {
                        for ((to, &first), &second) in pairs.iter_mut().zip(first).zip(second) {
                            *to = pair(first, second);
                        }
                    }
                }
            }
        },
    );
}

/// Pairs of every number and the one `distance` further on; beyond the end there are zeros.
///
/// # Panics
/// If `pairs` is shorter than `numbers`.
pub(crate) fn pair_with_next(numbers: &[f32], distance: usize, pairs: &mut [f32]) {
    let both = numbers.len().saturating_sub(distance);
    let (first, alone) = pairs[..numbers.len()].split_at_mut(both);
    dispatch_on(
        numbers,
        first,
        #[inline(always)]
        move |numbers: &[f32], pairs: &mut [f32]| {
            let next = numbers.get(distance..).unwrap_or(&[]);
            for ((to, &first), &second) in pairs.iter_mut().zip(numbers).zip(next) {
                *to = pair(first, second);
            }
        },
    );
    for (to, &number) in alone.iter_mut().zip(&numbers[both..]) {
        *to = pair(number, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowbit_formats::{Format, Rounding};

    /// Every upper half with lower halves around the ties: the format `bf16`, without subnormal numbers.
    #[test]
    fn numbers_are_those_of_the_format() {
        let format: Format = "bf16".parse().unwrap();
        for high in 0..=0xffff_u32 {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(high << 16 | low);
                let rounded = format.round(x, Rounding::NearestEven, 0);
                let expected = if rounded.abs() < f32::MIN_POSITIVE {
                    0.0
                } else {
                    rounded
                };
                let made = f32::from_bits(upper(x));
                assert!(
                    made == expected || made.is_nan() && x.is_nan(),
                    "{x:e}: {made:e}"
                );
                assert!(x.is_nan() || made.is_sign_negative() == x.is_sign_negative());
            }
        }
    }

    fn two(pair: &f32) -> [f32; 2] {
        [pair.to_bits() << 16, pair.to_bits() & 0xffff_0000].map(f32::from_bits)
    }

    #[test]
    fn pairs_by_hand() {
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut pairs = [9.0; 4];
        pair_channels(&numbers, 3, &mut pairs);
        let expected = [[1.0, 2.0], [3.0, 0.0], [4.0, 5.0], [6.0, 0.0]];
        assert_eq!(pairs.each_ref().map(two), expected);
        pair_channels(&numbers, 2, &mut pairs);
        assert_eq!(
            pairs.each_ref().map(two)[..3],
            [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
        );
        // One row of three pixels of two channels.
        pair_pixels(&numbers, [3, 2], &mut pairs);
        let expected = [[1.0, 3.0], [2.0, 4.0], [5.0, 0.0], [6.0, 0.0]];
        assert_eq!(pairs.each_ref().map(two), expected);
        pair_with_next(&numbers[..4], 3, &mut pairs);
        let expected = [[1.0, 4.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]];
        assert_eq!(pairs.each_ref().map(two), expected);
        pair_with_next(&numbers[..2], 3, &mut pairs);
        assert_eq!(pairs.each_ref().map(two)[..2], [[1.0, 0.0], [2.0, 0.0]]);
    }
}
