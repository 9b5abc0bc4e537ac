//! The gradient with respect to the input: a convolution of the output's gradient for each phase of the
//! stride.

use lowbit_formats::kernel::isa::dispatch_on;

use super::grid::{Bytes, EXACT};
use crate::conv::Shape;
use crate::conv::to_input::Line;
use crate::integer::{self, Convolution};
use crate::scratch;

/// Pixels of the input whose gradients read the same places of the kernel.
struct Phase {
    /// The first, and how many.
    first: [usize; 2],
    size: [usize; 2],
    /// The first pixel of the packed gradient that the first reads.
    origin: [usize; 2],
    /// None where no place of the kernel meets them.
    convolution: Option<Convolution>,
}

/// How gradients are packed, and the sums that are made of them.
pub(super) struct ToInput {
    shape: Shape,
    /// Rows and columns of a packed gradient, and those before its first pixel.
    packed: [usize; 2],
    before: [usize; 2],
    phases: Vec<Phase>,
    /// Of the weight.
    step: f32,
    /// The largest sum of magnitudes of weights that meet a pixel.
    reach: u64,
}

/// The places of the kernel that a phase meets along a dimension, in the order of the gradient's pixels,
/// from one of which to the next it is so far.
fn in_order(line: &Line) -> (Vec<usize>, usize) {
    let places = line.met.iter().rev().map(|&(place, _)| place).collect();
    let step = match line.met[..] {
        [.., (_, before), (_, last)] => (before - last) as usize,
        _ => 1,
    };
    (places, step)
}

impl ToInput {
    /// With the integers of the weight, times `step`.
    pub(super) fn new(shape: &Shape, weight: &[i8], step: f32) -> Self {
        let lines = [0, 1].map(|d| Line::all(shape, d));
        let extents = [0, 1].map(|d| Line::extent(&lines[d], shape.output[d]));
        let packed = extents.map(|(_, all)| all);
        let before = extents.map(|(before, _)| before);
        let [rows, columns] = &lines;
        let phases = rows
            .iter()
            .flat_map(|rows| columns.iter().map(move |columns| [rows, columns]));
        let made = phases.map(|lines| Self::phase(shape, weight, lines, [packed, before]));
        let (phases, reach): (Vec<Phase>, Vec<u64>) = made.unzip();
        Self {
            shape: *shape,
            packed,
            before,
            phases,
            step,
            reach: reach.into_iter().max().unwrap_or(0),
        }
    }

    /// A phase, and the largest sum of magnitudes of its weights.
    fn phase(
        shape: &Shape,
        weight: &[i8],
        lines: [&Line; 2],
        [packed, before]: [[usize; 2]; 2],
    ) -> (Phase, u64) {
        let [inputs, outputs] = shape.channels;
        let [height, width] = shape.kernel;
        let places = lines.map(in_order);
        let kernel = places.each_ref().map(|(places, _)| places.len());
        let size = lines.map(|line| line.count);
        let empty = kernel.contains(&0) || size.contains(&0);
        let at = |to: usize, from: usize, y: usize, x: usize| {
            let (y, x) = (places[0].0[y], places[1].0[x]);
            weight[((from * inputs + to) * height + y) * width + x]
        };
        let sums = |to: usize| {
            let all = (0..outputs).flat_map(|from| (0..kernel[0]).map(move |y| (from, y)));
            let all = all.flat_map(|(from, y)| (0..kernel[1]).map(move |x| (from, y, x)));
            all.map(|(from, y, x)| i32::from(at(to, from, y, x)))
                .fold((0, 0), |(sum, reach), w| {
                    (sum + w, reach + w.unsigned_abs())
                })
        };
        let of_each: Vec<(i32, u32)> = (0..inputs).map(sums).collect();
        let convolution = (!empty).then(|| {
            let geometry = integer::Shape {
                image: [places[0].1 * (kernel[0] - 1) + size[0], packed[1]],
                inputs: outputs,
                outputs: inputs,
                groups: 1,
                kernel,
                stride: [1, 1],
                dilation: places.each_ref().map(|(_, step)| *step),
            };
            // Gradients are counted from -128.
            let from_zero: Vec<i32> = of_each.iter().map(|(sum, _)| -128 * sum).collect();
            Convolution::new(geometry, at, &from_zero)
        });
        let origin = [0, 1].map(|d| {
            let first = lines[d].met.last().map_or(0, |&(_, at)| at);
            (before[d] as isize + first) as usize
        });
        let phase = Phase {
            first: lines.map(|line| line.first),
            size,
            origin,
            convolution,
        };
        let reach = of_each.iter().map(|&(_, reach)| u64::from(reach)).max();
        (phase, reach.unwrap_or(0))
    }

    /// Whether every sum over such gradients is below 2^24 units.
    pub(super) fn is_exact(&self, gradient: &Bytes) -> bool {
        gradient.largest() * self.reach < EXACT
    }

    /// The gradients with respect to some images, given those of the output, which are on the grid,
    /// counted from -128.
    pub(super) fn images(&self, gradient: &[f32], grid: &Bytes, to: &mut [f32]) {
        let shape = &self.shape;
        let pixel = shape.channels[1].next_multiple_of(4);
        let [rows, columns] = self.packed;
        // A row more: windows of a phase's last row end in it.
        let mut packed = scratch::take_of((rows + 1) * columns * pixel);
        packed.fill(grid.zero());
        let most = self.phases.iter().flat_map(|phase| &phase.convolution);
        let most = most.map(row_sums).max();
        let mut sums = scratch::take_of(most.unwrap_or(0));
        let step = self.step * grid.step;
        let images = gradient.chunks(shape.output_image());
        for (gradient, to) in images.zip(to.chunks_mut(shape.input_image())) {
            self.pack(gradient, grid, &mut packed);
            for phase in &self.phases {
                let start = (phase.origin[0] * columns + phase.origin[1]) * pixel;
                phase.rows(&packed[start..], &mut sums, |y, sums| {
                    phase.scale(shape, y, (sums, step), to);
                });
            }
        }
    }

    /// The bytes of an image, whose margins are there already.
    fn pack(&self, gradient: &[f32], grid: &Bytes, packed: &mut [u8]) {
        let channels = self.shape.channels[1];
        let pixel = channels.next_multiple_of(4);
        let width = self.shape.output[1];
        let row = self.packed[1] * pixel;
        let start = self.before[0] * row + self.before[1] * pixel;
        for (y, gradient) in gradient.chunks(width * channels).enumerate() {
            let packed = &mut packed[start + y * row..][..width * pixel];
            // Weights of channels that are not there are zero.
            grid.pixels(gradient, channels, packed, pixel);
        }
    }
}

/// Sums of a row.
fn row_sums(convolution: &Convolution) -> usize {
    convolution.shape().output()[1] * convolution.shape().sums()
}

impl Phase {
    /// Hands on the sums of each row, made of the packed gradient from the phase's origin on; none where
    /// they are zero.
    fn rows(&self, packed: &[u8], sums: &mut [i32], mut to: impl FnMut(usize, &[i32])) {
        let Some(convolution) = &self.convolution else {
            return (0..self.size[0]).for_each(|y| to(y, &[]));
        };
        let packed = &packed[..convolution.shape().bytes()];
        let sums = &mut sums[..row_sums(convolution)];
        for y in 0..self.size[0] {
            convolution.row(packed, y, sums);
            to(y, sums);
        }
    }

    /// The gradients of a row, from its sums or zero.
    fn scale(&self, shape: &Shape, y: usize, (sums, step): (&[i32], f32), to: &mut [f32]) {
        let channels = shape.channels[0];
        let padded = channels.next_multiple_of(crate::vector::LANES);
        let row = (self.first[0] + y * shape.stride[0]) * shape.input[1] + self.first[1];
        let apart = channels * shape.stride[1];
        let to = &mut to[row * channels..];
        let (count, none) = (self.size[1], sums.is_empty());
        dispatch_on(
            sums,
            to,
            #[inline(always)]
            move |sums: &[i32], to: &mut [f32]| {
                for (x, to) in to.chunks_mut(apart).take(count).enumerate() {
                    let to = &mut to[..channels];
                    if none {
                        to.fill(0.0);
                        continue;
                    }
                    for (to, &sum) in to.iter_mut().zip(&sums[x * padded..]) {
                        *to = sum as f32 * step;
                    }
                }
            },
        );
    }
}
