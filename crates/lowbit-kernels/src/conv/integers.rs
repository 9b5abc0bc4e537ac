//! The forward pass in integers, where input and weight are integers of 8 bits times powers of two.
//!
//! Every partial sum is then an integer times the product of both steps. While that integer is below
//! 2^24 an `f32` holds it, so that sums of floats are exact, too, in any order and with or without
//! fused multiply-add: the integers' sums are the same bits.

use lowbit_formats::IntegerRange;
use lowbit_formats::kernel::isa::dispatch_on;
use rayon::prelude::*;

use super::{Output, Shape};
use crate::integer::{self, Convolution};
use crate::packing::RoundSlice;
use crate::scratch;

/// What an `f32` holds every integer below of.
const EXACT: u64 = 1 << 24;

/// Exponents of steps beyond which sums of products could leave the normal numbers.
const MOST_EXPONENT: i32 = 48;

/// Integers that a byte holds, counted from the least, times a power of two.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    step: f32,
    least: i32,
    greatest: i32,
}

impl Bytes {
    /// `None` where a byte does not hold them, zero is not among them, or the step is too far from 1.
    fn new(range: IntegerRange) -> Option<Self> {
        let near = range.exponent.abs() <= MOST_EXPONENT;
        let fits = near && range.min <= 0 && range.max >= 0 && range.max - range.min <= 255;
        fits.then(|| Self {
            step: f32::from_bits(((127 + range.exponent) as u32) << 23),
            least: range.min as i32,
            greatest: range.max as i32,
        })
    }

    /// The bytes of numbers on the grid, counted from the least. Returns whether all are there: a NaN
    /// is not.
    fn bytes(&self, numbers: &[f32], bytes: &mut [u8]) -> bool {
        let inverse = 1.0 / self.step;
        let [low, high] = [self.least, self.greatest].map(|k| k as f32 * self.step);
        // Added to an integer below 2^22 in magnitude, this leaves it in the last bits.
        const SHIFTER: f32 = (3u32 << 22) as f32;
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
}

/// [`forward`](super::forward) in integers, where input and weight are rounded to integers of such
/// `ranges` and the CPU multiplies bytes faster than floats: the same bits. Returns whether they were
/// made: not where a width is above 8 bits, a sum could reach 2^24 of its units, or a number is not
/// there (NaN).
///
/// # Panics
/// As [`forward`](super::forward).
pub fn forward_in_integers(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    ranges: [IntegerRange; 2],
    output: Output,
) -> bool {
    shape.check(input, weight, output.numbers);
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels[1]));
    if !integer::is_faster_than_floats() {
        return false;
    }
    let made = InIntegers::new(shape, weight, bias, roundings, ranges);
    made.is_some_and(|made| made.all(input, output))
}

/// A convolution in integers.
struct InIntegers<'a> {
    shape: &'a Shape,
    convolution: Convolution,
    rounding: Option<RoundSlice<'a>>,
    of_input: Bytes,
    /// Of the sums.
    step: f32,
    bias: Option<&'a [f32]>,
}

impl<'a> InIntegers<'a> {
    fn new(
        shape: &'a Shape,
        weight: &[f32],
        bias: Option<&'a [f32]>,
        roundings: [Option<RoundSlice<'a>>; 2],
        [of_input, of_weight]: [IntegerRange; 2],
    ) -> Option<Self> {
        let has_sign = of_weight.min >= -128 && of_weight.max <= 127;
        let of_input = Bytes::new(of_input)?;
        let of_weight = Bytes::new(of_weight).filter(|_| has_sign)?;
        let weight = integers(weight, roundings[1], &of_weight)?;
        let step = of_input.step * of_weight.step;
        let filter = weight.len() / shape.channels[1];
        let filters = || weight.chunks_exact(filter);
        if !are_exact(filters(), &of_input, bias, step) {
            return None;
        }
        // Inputs are counted from the least.
        let sums = filters().map(|filter| filter.iter().map(|&w| i32::from(w)).sum::<i32>());
        let from_zero: Vec<i32> = sums.map(|sum| of_input.least * sum).collect();
        let [inputs, outputs] = shape.channels;
        let [height, width] = shape.kernel;
        let at = |o: usize, i: usize, y: usize, x: usize| {
            weight[((o * inputs + i) * height + y) * width + x]
        };
        let image = [0, 1].map(|d| {
            let reach = shape.dilation[d] * (shape.kernel[d] - 1) + 1;
            (shape.output[d] - 1) * shape.stride[d] + reach
        });
        let geometry = integer::Shape {
            image,
            inputs,
            outputs,
            groups: 1,
            kernel: shape.kernel,
            stride: shape.stride,
            dilation: shape.dilation,
        };
        Some(Self {
            shape,
            convolution: Convolution::new(geometry, at, &from_zero),
            rounding: roundings[0],
            of_input,
            step,
            bias,
        })
    }

    /// All images; returns whether all numbers were on the grid.
    fn all(&self, input: &[f32], output: Output) -> bool {
        let Output { numbers, after } = output;
        let geometry = self.convolution.shape();
        let row = self.shape.output[1] * self.shape.channels[1];
        let image = self.shape.output_image();
        let images = numbers.par_chunks_mut(image);
        let images = images.zip(input.par_chunks(self.shape.input_image()));
        let made = images.enumerate().map(|(i, (output, input))| {
            let mut packed = scratch::take_of(geometry.bytes());
            let mut sums = scratch::take_of(self.shape.output[1] * geometry.sums());
            let fits = self.pack(input, &mut packed);
            for (y, output) in output.chunks_exact_mut(row).enumerate() {
                self.convolution.row(&packed, y, &mut sums);
                self.scale(&sums, output);
                if let Some(after) = after {
                    after.apply(output, i * image + y * row);
                }
            }
            fits
        });
        made.reduce(|| true, |a, b| a && b)
    }

    /// The image in bytes, with its padding. Returns whether all numbers were on the grid.
    fn pack(&self, image: &[f32], packed: &mut [u8]) -> bool {
        let geometry = self.convolution.shape();
        let (pixel, channels) = (geometry.pixel(), geometry.inputs);
        let [height, width] = self.shape.input;
        let [top, left] = self.shape.padding;
        let zero = (-self.of_input.least) as u8;
        let columns = geometry.image[1];
        let left = left.min(columns);
        let copied = width.min(columns - left);
        let mut line = self.rounding.map(|_| scratch::take(copied * channels));
        let mut codes = (pixel != channels).then(|| scratch::take_of(copied * channels));
        let mut fits = true;
        for (y, packed) in packed.chunks_exact_mut(columns * pixel).enumerate() {
            let source = y.checked_sub(top).filter(|&y| y < height && copied > 0);
            let Some(source) = source else {
                packed.fill(zero);
                continue;
            };
            let mut source = &image[source * width * channels..][..copied * channels];
            if let (Some(rounding), Some(line)) = (self.rounding, &mut line) {
                rounding(source, line);
                source = line;
            }
            let (before, rest) = packed.split_at_mut(left * pixel);
            let (middle, after) = rest.split_at_mut(copied * pixel);
            before.fill(zero);
            after.fill(zero);
            let Some(codes) = &mut codes else {
                fits &= self.of_input.bytes(source, middle);
                continue;
            };
            fits &= self.of_input.bytes(source, codes);
            // Weights of channels that are not there are zero.
            let pixels = middle.chunks_exact_mut(pixel);
            for (packed, codes) in pixels.zip(codes.chunks_exact(channels)) {
                packed[..channels].copy_from_slice(codes);
            }
        }
        fits
    }

    /// The numbers of a row's sums.
    fn scale(&self, sums: &[i32], output: &mut [f32]) {
        let (channels, padded) = (self.shape.channels[1], self.convolution.shape().sums());
        let step = self.step;
        dispatch_on(
            (sums, self.bias),
            output,
            #[inline(always)]
            move |(sums, bias): (&[i32], Option<&[f32]>), output: &mut [f32]| {
                let pixels = output.chunks_exact_mut(channels);
                for (output, sums) in pixels.zip(sums.chunks_exact(padded)) {
                    for (y, &sum) in output.iter_mut().zip(sums) {
                        *y = sum as f32 * step;
                    }
                    for (y, bias) in output.iter_mut().zip(bias.unwrap_or(&[])) {
                        *y += bias;
                    }
                }
            },
        );
    }
}

/// The integers of numbers that `rounding` rounds to the grid; `None` where one is not there.
fn integers(numbers: &[f32], rounding: Option<RoundSlice>, grid: &Bytes) -> Option<Vec<i8>> {
    let rounded = rounding.map(|rounding| {
        let mut rounded = scratch::take(numbers.len());
        rounding(numbers, &mut rounded);
        rounded
    });
    let mut bytes = scratch::take_of(numbers.len());
    let fits = grid.bytes(rounded.as_deref().unwrap_or(numbers), &mut bytes);
    let signed = |byte: u8| (i32::from(byte) + grid.least) as i8;
    fits.then(|| bytes.iter().map(|&byte| signed(byte)).collect())
}

/// Whether every partial sum of every filter, and its bias, is less than 2^24 units.
fn are_exact<'a>(
    filters: impl Iterator<Item = &'a [i8]>,
    input: &Bytes,
    bias: Option<&[f32]>,
    step: f32,
) -> bool {
    let largest = u64::from(
        input
            .least
            .unsigned_abs()
            .max(input.greatest.unsigned_abs()),
    );
    let reach = |filter: &[i8]| -> u64 {
        let sum: u64 = filter.iter().map(|w| u64::from(w.unsigned_abs())).sum();
        largest * sum
    };
    let units = |channel: usize| match bias {
        None => Some(0),
        Some(bias) => {
            let units = f64::from(bias[channel]) / f64::from(step);
            // A sum of negative zeros alone would have their sign.
            let is_there = units.fract() == 0.0 && bias[channel].to_bits() != (-0f32).to_bits();
            (is_there && units.abs() < EXACT as f64).then_some(units.abs() as u64)
        }
    };
    filters
        .enumerate()
        .all(|(channel, filter)| units(channel).is_some_and(|bias| reach(filter) + bias < EXACT))
}
