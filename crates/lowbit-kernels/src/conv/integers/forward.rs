//! The forward pass.

use lowbit_formats::IntegerRange;
use lowbit_formats::kernel::isa::dispatch_on;
use rayon::prelude::*;

use super::grid::{Bytes, EXACT, both, found};
use super::{integers, looks_on_grid, on_grid};
use crate::conv::{Output, Shape};
use crate::integer::{self, Convolution};
use crate::packing::{RoundSlice, rounded};
use crate::scratch;

/// [`forward`](crate::conv::forward) in integers, where input and weight are rounded to integers of such
/// `ranges`, or are found to be such, and the CPU multiplies bytes faster than floats: the same bits.
/// Returns whether they were made: not where a width is above 8 bits, a sum could reach 2^24 of its units,
/// or a number is not there (NaN).
///
/// # Panics
/// As [`forward`](crate::conv::forward).
pub fn forward_in_integers(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    ranges: [Option<IntegerRange>; 2],
    output: Output,
) -> bool {
    shape.check(input, weight, output.numbers);
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels[1]));
    if !integer::is_faster_than_floats() {
        return false;
    }
    let made = InIntegers::new(shape, [input, weight], bias, roundings, ranges);
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
        [input, weight]: [&[f32]; 2],
        bias: Option<&'a [f32]>,
        roundings: [Option<RoundSlice<'a>>; 2],
        ranges: [Option<IntegerRange>; 2],
    ) -> Option<Self> {
        if ranges[0].is_none() && (roundings[0].is_some() || !looks_on_grid(input, None)) {
            return None;
        }
        let mut room = None;
        let (weight, of_weight) = match ranges[1] {
            Some(range) => (rounded(weight, roundings[1], &mut room), Bytes::new(range)?),
            None => on_grid(weight, roundings[1], &mut room)?,
        };
        let of_weight = of_weight.signed()?;
        let weight = integers(weight, &of_weight)?;
        let range = ranges[0].or_else(|| found_in_all(input, shape.input_image()));
        let of_input = Bytes::new(range?)?;
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
        let zero = self.of_input.zero();
        let columns = geometry.image[1];
        let left = left.min(columns);
        let copied = width.min(columns - left);
        let mut fits = true;
        for (y, packed) in packed.chunks_exact_mut(columns * pixel).enumerate() {
            let source = y.checked_sub(top).filter(|&y| y < height && copied > 0);
            let Some(source) = source else {
                packed.fill(zero);
                continue;
            };
            let source = &image[source * width * channels..][..copied * channels];
            let mut room = None;
            let source = rounded(source, self.rounding, &mut room);
            let (before, rest) = packed.split_at_mut(left * pixel);
            let (middle, after) = rest.split_at_mut(copied * pixel);
            before.fill(zero);
            after.fill(zero);
            // Weights of channels that are not there are zero.
            fits &= self.of_input.pixels(source, channels, middle, pixel);
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

/// What all numbers are found to be, image by image.
fn found_in_all(numbers: &[f32], image: usize) -> Option<IntegerRange> {
    let zeros = IntegerRange {
        exponent: 0,
        min: 0,
        max: 0,
    };
    let images = numbers.par_chunks(image).map(found);
    images.try_reduce(|| zeros, both)
}

/// Whether every partial sum of every filter, and its bias, is less than 2^24 units.
fn are_exact<'a>(
    filters: impl Iterator<Item = &'a [i8]>,
    input: &Bytes,
    bias: Option<&[f32]>,
    step: f32,
) -> bool {
    let largest = input.largest();
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
