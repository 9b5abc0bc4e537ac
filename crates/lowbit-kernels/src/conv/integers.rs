//! The forward pass in integers, where input and weight are integers of 8 bits times powers of two.
//!
//! Every partial sum is then an integer times the product of both steps. While that integer is below
//! 2^24 an `f32` holds it, so that sums of floats are exact, too, in any order and with or without
//! fused multiply-add: the integers' sums are the same bits.

use lowbit_formats::kernel::isa::dispatch_on;
use rayon::prelude::*;

use super::Shape;
use crate::integer::{self, Convolution};
use crate::packing::RoundSlice;

/// What an `f32` holds every integer below of.
const EXACT: u64 = 1 << 24;

/// Numbers `k step` for integers `k` from `least` to `greatest`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Integers {
    /// The distance of neighbours.
    pub step: f32,
    /// The least integer.
    pub least: i32,
    /// The greatest integer.
    pub greatest: i32,
}

impl Integers {
    /// Whether the step is a power of two whose reciprocal is one, too, and not so far from 1 that sums
    /// of products leave the normal numbers.
    fn has_near_power(&self) -> bool {
        let is_power = self.step.to_bits() << 9 == 0;
        is_power && (2f32.powi(-48)..=2f32.powi(48)).contains(&self.step)
    }

    fn spans(&self, width: i32) -> bool {
        let difference = self.greatest.checked_sub(self.least);
        difference.is_some_and(|difference| (0..width).contains(&difference))
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

/// [`forward`](super::forward) in integers, where input and weight are rounded to such `grids` and the
/// CPU multiplies bytes faster than floats: the same bits. Returns whether they were made: not where a
/// width is above 8 bits, a step is no power of two, a sum could reach 2^24 of its units, or a number is
/// on no grid.
///
/// # Panics
/// As [`forward`](super::forward).
pub fn forward_in_integers(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    roundings: [Option<RoundSlice>; 2],
    grids: [Integers; 2],
    output: &mut [f32],
) -> bool {
    shape.check(input, weight, output);
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels[1]));
    if !integer::is_faster_than_floats() {
        return false;
    }
    let made = InIntegers::new(shape, weight, bias, roundings, grids);
    made.is_some_and(|made| made.all(input, output))
}

/// A convolution in integers.
struct InIntegers<'a> {
    shape: &'a Shape,
    convolution: Convolution,
    rounding: Option<RoundSlice<'a>>,
    of_input: Integers,
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
        [of_input, of_weight]: [Integers; 2],
    ) -> Option<Self> {
        let bytes = of_input.spans(256) && of_weight.least >= -128 && of_weight.greatest <= 127;
        let zero = (of_input.least..=of_input.greatest).contains(&0);
        let powers = of_input.has_near_power() && of_weight.has_near_power();
        if !(bytes && zero && powers) {
            return None;
        }
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
    fn all(&self, input: &[f32], output: &mut [f32]) -> bool {
        let geometry = self.convolution.shape();
        let sums = self.shape.output[1] * geometry.sums();
        let line = self.shape.input[1] * self.shape.channels[0];
        let room = || {
            (
                vec![0u8; geometry.bytes()],
                vec![0i32; sums],
                vec![0f32; line],
            )
        };
        let images = output.par_chunks_mut(self.shape.output_image());
        let images = images.zip(input.par_chunks(self.shape.input_image()));
        let made = images.map_init(room, |(packed, sums, line), (output, image)| {
            let fits = self.pack(image, packed, line);
            let row = self.shape.output[1] * self.shape.channels[1];
            for (y, output) in output.chunks_exact_mut(row).enumerate() {
                self.convolution.row(packed, y, sums);
                self.scale(sums, output);
            }
            fits
        });
        made.reduce(|| true, |a, b| a && b)
    }

    /// The image in bytes, with its padding; `line` has room for a row of it. Returns whether all numbers
    /// were on the grid.
    fn pack(&self, image: &[f32], packed: &mut [u8], line: &mut [f32]) -> bool {
        let geometry = self.convolution.shape();
        let (pixel, channels) = (geometry.pixel(), geometry.inputs);
        let [height, width] = self.shape.input;
        let [top, left] = self.shape.padding;
        let zero = (-self.of_input.least) as u8;
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
            let mut source = &image[source * width * channels..][..copied * channels];
            if let Some(rounding) = self.rounding {
                let line = &mut line[..source.len()];
                rounding(source, line);
                source = line;
            }
            let (before, rest) = packed.split_at_mut(left * pixel);
            let (middle, after) = rest.split_at_mut(copied * pixel);
            before.fill(zero);
            after.fill(zero);
            if pixel == channels {
                fits &= self.of_input.bytes(source, middle);
                continue;
            }
            // Weights of channels that are not there are zero.
            let pixels = middle
                .chunks_exact_mut(pixel)
                .zip(source.chunks_exact(channels));
            for (packed, source) in pixels {
                fits &= self.of_input.bytes(source, &mut packed[..channels]);
            }
        }
        fits
    }

    /// The numbers of a row's sums.
    fn scale(&self, sums: &[i32], output: &mut [f32]) {
        let channels = self.shape.channels[1];
        let sums = sums.chunks_exact(self.convolution.shape().sums());
        for (output, sums) in output.chunks_exact_mut(channels).zip(sums) {
            let step = self.step;
            dispatch_on(
                (sums, self.bias),
                output,
                #[inline(always)]
                move |(sums, bias): (&[i32], Option<&[f32]>), output: &mut [f32]| match bias {
                    Some(bias) => {
                        for ((y, &sum), bias) in output.iter_mut().zip(sums).zip(bias) {
                            *y = sum as f32 * step + bias;
                        }
                    }
                    None => {
                        for (y, &sum) in output.iter_mut().zip(sums) {
                            *y = sum as f32 * step;
                        }
                    }
                },
            );
        }
    }
}

/// The integers of numbers that `rounding` rounds to the grid; `None` where one is not there.
fn integers(numbers: &[f32], rounding: Option<RoundSlice>, grid: &Integers) -> Option<Vec<i8>> {
    let mut rounded = numbers.to_vec();
    if let Some(rounding) = rounding {
        rounding(numbers, &mut rounded);
    }
    let mut bytes = vec![0; rounded.len()];
    let fits = grid.bytes(&rounded, &mut bytes);
    let signed = |byte: u8| (i32::from(byte) + grid.least) as i8;
    fits.then(|| bytes.into_iter().map(signed).collect())
}

/// Whether every partial sum of every filter, and its bias, is less than 2^24 units.
fn are_exact<'a>(
    filters: impl Iterator<Item = &'a [i8]>,
    input: &Integers,
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
