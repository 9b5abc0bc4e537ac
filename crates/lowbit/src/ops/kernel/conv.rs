//! Two-dimensional convolution and its gradients, on images stored channels last.
//!
//! Each thread takes whole images. An image is packed once: its channels in blocks whose pixels
//! lie a fixed distance apart, with its padding, so that the register tiles of [`super::tile`]
//! need no bounds. Every sum runs in an order that depends on the shape alone, so the result does
//! not depend on the number of threads.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::packing::{Packing, Rounding, Unrounding};
use super::scratch::{self, Scratch};
use super::tile::{
    ChannelTile, Products, ProductsTiles, Run, Sums, SumsTiles, channel_tiles, vectors_of,
};
use super::vector::LANES;

/// Pixels whose input and gradient stay in the first cache while weights are differentiated.
const STRIP: usize = 128;

/// Numbers of packed images that a thread keeps in the second cache while it goes through large
/// weights, and the numbers of weights that are large.
const STACK: usize = 3 << 16;
const LARGE_WEIGHTS: usize = 1 << 16;

/// Images that are packed together at most.
const STACKED: usize = 16;

/// Groups of images with sums of their own when weights are differentiated, and the numbers that
/// they may take together.
const GROUPS: usize = 32;
const GROUP_NUMBERS: usize = 1 << 24;

/// Weights whose rounding a thread differentiates at a time.
const PART: usize = 1 << 14;

/// What a convolution works on. One group of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    /// Channels in and out.
    pub(crate) channels: [usize; 2],
    /// Height and width.
    pub(crate) input: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Zeros above and to the left.
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Height and width.
    pub(crate) output: [usize; 2],
}

impl Shape {
    fn input_image(&self) -> usize {
        self.channels[0] * self.input[0] * self.input[1]
    }

    fn output_image(&self) -> usize {
        self.channels[1] * self.output[0] * self.output[1]
    }

    /// Multiplications and additions of the forward pass, padding included.
    pub(crate) fn operations(&self) -> f64 {
        let summed = self.channels[0] * self.kernel[0] * self.kernel[1];
        2.0 * (self.batch * self.output_image()) as f64 * summed as f64
    }

    /// Whether the register tiles reach the pixels of this convolution.
    pub(crate) fn is_supported(&self) -> bool {
        self.stride[1] <= 2 && self.channels.iter().chain(&self.output).all(|&n| n > 0)
    }
}

/// A run of a packed input, and the weights it meets.
#[derive(Debug, Clone, Copy)]
struct Tap {
    run: Run,
    /// The first channel of its block.
    channel: usize,
    kernel: [usize; 2],
}

/// The runs of a packed input under one pixel of the output.
struct Taps {
    block: usize,
    taps: Vec<Tap>,
    runs: Vec<Run>,
    /// Sum of the lengths.
    length: usize,
}

impl Taps {
    fn new(block: usize, taps: Vec<Tap>) -> Self {
        let runs: Vec<Run> = taps.iter().map(|tap| tap.run).collect();
        let length = runs.iter().map(|run| run.length).sum();
        Self {
            block,
            taps,
            runs,
            length,
        }
    }

    /// The taps of the convolution itself. Where whole blocks follow each other along a row, they
    /// are one run.
    fn forward(shape: &Shape, packing: &Packing) -> Self {
        let [height, width] = shape.kernel;
        let mut taps = Vec::new();
        for block in 0..packing.blocks() {
            let filled = packing.filled(block);
            let whole = shape.dilation[1] == 1 && (filled == packing.block || filled <= 4);
            for y in 0..height {
                let row = block * packing.plane() + y * shape.dilation[0] * packing.row();
                let columns = if whole { 1 } else { width };
                for x in 0..columns {
                    taps.push(Tap {
                        run: Run {
                            offset: row + x * shape.dilation[1] * packing.block,
                            length: if whole { width * packing.block } else { filled },
                        },
                        channel: block * packing.block,
                        kernel: [y, x],
                    });
                }
            }
        }
        Self::new(packing.block, taps)
    }

    /// For every number of the input under an output: its channel and its place in the kernel.
    fn places(&self) -> impl Iterator<Item = (usize, [usize; 2])> {
        self.taps.iter().flat_map(|tap| {
            (0..tap.run.length).map(|j| {
                let kernel = [tap.kernel[0], tap.kernel[1] + j / self.block];
                (tap.channel + j % self.block, kernel)
            })
        })
    }

    /// Weights in the order of the taps, rounded: for each tile of channels, `[length][tile]`.
    /// `weight(channel, summed channel, kernel)` reads one.
    fn pack_weights(
        &self,
        channels: usize,
        summed: usize,
        rounding: Option<Rounding>,
        weight: impl Fn(usize, usize, [usize; 2]) -> f32 + Sync,
    ) -> Scratch {
        let places: Vec<_> = self.places().collect();
        // Aligned: a vector in two cache lines takes two loads.
        let mut packed = scratch::take(vectors_of(channels) * LANES * self.length);
        packed.fill(0.0);
        let mut rest = &mut packed[..];
        let mut tiles = Vec::new();
        for tile in channel_tiles(channels) {
            let (this, others) = rest.split_at_mut(tile.width() * self.length);
            tiles.push((tile, this));
            rest = others;
        }
        tiles.into_par_iter().for_each(|(tile, packed)| {
            for (&(from, kernel), packed) in
                places.iter().zip(packed.chunks_exact_mut(tile.width()))
            {
                if from < summed {
                    for (v, packed) in packed[..tile.channels].iter_mut().enumerate() {
                        *packed = weight(tile.first + v, from, kernel);
                    }
                }
            }
            if let Some(rounding) = rounding {
                let mut source = scratch::take(packed.len());
                source.copy_from_slice(packed);
                rounding(&source, packed);
                // What is not there stays zero, whatever zero is rounded to.
                let lines = packed.chunks_exact_mut(tile.width());
                for (line, _) in lines.zip(&places).filter(|(_, (from, _))| *from >= summed) {
                    line.fill(0.0);
                }
            }
        });
        packed
    }
}

/// The forward pass: how the input is packed, and what is summed.
struct Forward {
    packing: Packing,
    taps: Taps,
}

impl Forward {
    fn new(shape: &Shape) -> Self {
        let size = [0, 1].map(|d| {
            (shape.output[d] - 1) * shape.stride[d] + (shape.kernel[d] - 1) * shape.dilation[d] + 1
        });
        let mut packing = Packing::new(shape.input, shape.channels[0], size, shape.padding);
        // A kernel smaller than its stride leaves rows out.
        if shape.dilation[0] == 1 && shape.kernel[0] < shape.stride[0] {
            packing.read = [shape.stride[0], shape.kernel[0]];
        }
        let taps = Taps::forward(shape, &packing);
        Self { packing, taps }
    }
}

/// The convolution of `input`, `[batch][height][width][channels]`, with `weight`,
/// `[channels out][channels in][kernel height][kernel width]`, into `output`, stored as `input`.
/// The input and the weight are rounded as they are packed.
pub(crate) fn forward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    roundings: [Option<Rounding>; 2],
    output: &mut [f32],
) {
    let Forward { packing, taps } = Forward::new(shape);
    let [inputs, outputs] = shape.channels;
    let [kh, kw] = shape.kernel;
    let weights = taps.pack_weights(outputs, inputs, roundings[1], |to, from, [y, x]| {
        weight[((to * inputs + from) * kh + y) * kw + x]
    });
    let bias = bias.map(|bias| {
        let mut padded = vec![0.0; outputs.next_multiple_of(2 * LANES)];
        padded[..outputs].copy_from_slice(bias);
        padded
    });
    let pixel = packing.block * shape.stride[1];
    let tiles = SumsTiles::new(pixel);
    let stack = stacked(&packing, taps.length * outputs, shape.output);
    output
        .par_chunks_mut(stack * shape.output_image())
        .zip(input.par_chunks(stack * shape.input_image()))
        .for_each(|(output, input)| {
            let mut packed = scratch::take(stack * packing.len());
            packing.pack_all(input, &mut packed, roundings[0]);
            let mut weights = &weights[..];
            for tile in channel_tiles(outputs) {
                let images = packed.chunks(packing.len());
                for (packed, output) in images.zip(output.chunks_mut(shape.output_image())) {
                    let first = Sums {
                        input: packed.as_ptr(),
                        input_row: shape.stride[0] * packing.row(),
                        runs: &taps.runs,
                        weights: weights.as_ptr(),
                        bias: match &bias {
                            Some(bias) => bias[tile.first..].as_ptr(),
                            None => std::ptr::null(),
                        },
                        output: output[tile.first..].as_mut_ptr(),
                        output_step: [outputs, shape.output[1] * outputs],
                        channels: tile.channels,
                    };
                    // SAFETY: `Forward` made the packing as large as the taps of the last pixel
                    // need; weights and bias are padded to whole tiles.
                    unsafe { tiles.run(tile.vectors, pixel, shape.output, first) };
                }
                weights = &weights[tile.width() * taps.length..];
            }
        });
}

/// Images that are packed together: so many that large weights are fetched seldom, and that sums
/// over small images run long, and no more than the second cache holds.
fn stacked(packing: &Packing, weights: usize, output: [usize; 2]) -> usize {
    let room = (STACK / packing.len().max(1)).clamp(1, STACKED);
    if weights >= LARGE_WEIGHTS {
        return room;
    }
    STRIP.div_ceil(output[0] * output[1]).min(room)
}

/// Pixels of the input whose gradients read the same taps: those at `first` plus multiples of the
/// stride.
struct Phase {
    first: [usize; 2],
    size: [usize; 2],
    taps: Taps,
    weights: Scratch,
}

/// The gradient with respect to the input: how the output's gradient is packed, and its phases.
struct Transposed {
    packing: Packing,
    phases: Vec<Phase>,
}

/// Along one dimension, for the pixels of the input at `phase` plus multiples of the stride: how
/// many there are, and for every place of the kernel that they meet, the output's pixel at the
/// first of them.
fn reached(shape: &Shape, d: usize, phase: usize) -> (usize, Vec<(usize, isize)>) {
    let stride = shape.stride[d] as isize;
    let count = shape.input[d]
        .saturating_sub(phase)
        .div_ceil(shape.stride[d]);
    let taps = (0..shape.kernel[d]).filter_map(|k| {
        let at = (phase + shape.padding[d]) as isize - (k * shape.dilation[d]) as isize;
        (at.rem_euclid(stride) == 0).then_some((k, at.div_euclid(stride)))
    });
    (count, taps.collect())
}

impl Transposed {
    fn new(shape: &Shape, weight: &[f32], rounding: Option<Rounding>) -> Self {
        let along = |d: usize| -> Vec<_> {
            (0..shape.stride[d].min(shape.input[d]))
                .map(|phase| reached(shape, d, phase))
                .collect()
        };
        let (rows, columns) = (along(0), along(1));
        // Margins so large that every tap of every phase is inside.
        let extent = |phases: &[(usize, Vec<(usize, isize)>)], output: usize| {
            let taps = || {
                phases
                    .iter()
                    .flat_map(|(n, taps)| taps.iter().map(move |t| (*n as isize, t.1)))
            };
            let before = taps().map(|(_, at)| -at).max().unwrap_or(0).max(0);
            let last = taps()
                .map(|(n, at)| n + at)
                .max()
                .unwrap_or(0)
                .max(output as isize);
            (before as usize, (before + last) as usize)
        };
        let (top, height) = extent(&rows, shape.output[0]);
        let (left, width) = extent(&columns, shape.output[1]);
        let [inputs, outputs] = shape.channels;
        let mut packing = Packing::new(shape.output, outputs, [height, width], [top, left]);
        // The gradient to the weight reads it in whole vectors.
        packing.block = LANES;
        let [kh, kw] = shape.kernel;
        let mut phases = Vec::new();
        for (y, (phase_rows, row_taps)) in rows.iter().enumerate() {
            for (x, (phase_columns, column_taps)) in columns.iter().enumerate() {
                let mut taps = Vec::new();
                for block in 0..packing.blocks() {
                    for &(ky, row) in row_taps {
                        for &(kx, column) in column_taps {
                            let row = (row + top as isize) as usize;
                            let column = (column + left as isize) as usize;
                            taps.push(Tap {
                                run: Run {
                                    offset: block * packing.plane()
                                        + row * packing.row()
                                        + column * packing.block,
                                    length: packing.filled(block),
                                },
                                channel: block * packing.block,
                                kernel: [ky, kx],
                            });
                        }
                    }
                }
                let taps = Taps::new(packing.block, taps);
                let weights = taps.pack_weights(inputs, outputs, rounding, |to, from, [y, x]| {
                    weight[((from * inputs + to) * kh + y) * kw + x]
                });
                phases.push(Phase {
                    first: [y, x],
                    size: [*phase_rows, *phase_columns],
                    taps,
                    weights,
                });
            }
        }
        Self { packing, phases }
    }

    /// The gradients with respect to some images of the input.
    fn images(&self, shape: &Shape, tiles: &SumsTiles, packed: &[f32], gradients: &mut [f32]) {
        let channels = shape.channels[0];
        for phase in &self.phases {
            let mut weights = &phase.weights[..];
            let first_pixel = phase.first[0] * shape.input[1] + phase.first[1];
            for tile in channel_tiles(channels) {
                let images = packed.chunks(self.packing.len());
                for (packed, gradient) in images.zip(gradients.chunks_mut(shape.input_image())) {
                    let first = Sums {
                        input: packed.as_ptr(),
                        input_row: self.packing.row(),
                        runs: &phase.taps.runs,
                        weights: weights.as_ptr(),
                        bias: std::ptr::null(),
                        output: gradient[first_pixel * channels + tile.first..].as_mut_ptr(),
                        output_step: [
                            channels * shape.stride[1],
                            channels * shape.input[1] * shape.stride[0],
                        ],
                        channels: tile.channels,
                    };
                    // SAFETY: the margins reach as far as the taps of the last pixel.
                    unsafe { tiles.run(tile.vectors, LANES, phase.size, first) };
                }
                weights = &weights[tile.width() * phase.taps.length..];
            }
        }
    }
}

/// What [`backward`] shall make.
pub(crate) struct Wanted<'a> {
    /// Room for the gradient of the input, stored as the input.
    pub(crate) input: Option<&'a mut [f32]>,
    /// Whether the gradient of the weight is wanted.
    pub(crate) weight: bool,
    /// Whether the gradient of the bias is wanted.
    pub(crate) bias: bool,
}

/// What a group of images contributes to the gradients of the parameters.
struct Sum {
    // Handed to the thread that adds up, so not one of this thread's own buffers.
    weight: Buffer,
    bias: Vec<f32>,
}

/// The gradients of [`forward`], given `gradient`, that of its output: of the weight (as the
/// weight is stored), of the bias (both empty where not wanted), and the sums of what the two
/// `unroundings` returned.
pub(crate) fn backward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    roundings: [Option<Rounding>; 2],
    unroundings: [Option<Unrounding>; 2],
    wanted: Wanted,
) -> (Vec<f32>, Vec<f32>, [f64; 2]) {
    let Forward { packing, taps } = Forward::new(shape);
    let transposed = Transposed::new(shape, weight, roundings[1]);
    let outputs = shape.channels[1];
    let width = outputs.next_multiple_of(LANES);
    let numbers = taps.length * width;
    let groups = (GROUP_NUMBERS / numbers.max(1))
        .clamp(1, GROUPS)
        .min(shape.batch.max(1));
    let images = shape.batch.div_ceil(groups).max(1);
    let stack = stacked(&packing, numbers, shape.output)
        .min(stacked(&transposed.packing, numbers, shape.output))
        .min(images);
    let sums_tiles = SumsTiles::new(LANES);
    let products_tiles = ProductsTiles::new();

    let group = |input: &[f32], gradient: &[f32], mut input_gradient: Option<&mut [f32]>| {
        let mut sum = Sum {
            weight: Buffer::new(if wanted.weight { numbers } else { 0 }),
            bias: vec![0.0; if wanted.bias { outputs } else { 0 }],
        };
        sum.weight.fill(0.0);
        let mut total = 0.0;
        let mut packed_gradients = scratch::take(stack * transposed.packing.len());
        let mut packed = scratch::take(stack * packing.len());
        let inputs = input.chunks(stack * shape.input_image());
        let gradients = gradient.chunks(stack * shape.output_image());
        for (index, (input, gradient)) in inputs.zip(gradients).enumerate() {
            let images = input.len() / shape.input_image();
            let packed_gradients = &mut packed_gradients[..images * transposed.packing.len()];
            transposed
                .packing
                .pack_all(gradient, packed_gradients, None);
            if let Some(all) = &mut input_gradient {
                let start = index * stack * shape.input_image();
                let to_input = &mut all[start..start + input.len()];
                transposed.images(shape, &sums_tiles, packed_gradients, to_input);
                if let Some(unrounding) = unroundings[0] {
                    total += unrounding(input, to_input);
                }
            }
            if wanted.weight {
                let packed = &mut packed[..images * packing.len()];
                packing.pack_all(input, packed, roundings[0]);
                let pair = [
                    (&packing, &packed[..]),
                    (&transposed.packing, &packed_gradients[..]),
                ];
                add_products(shape, &taps, &products_tiles, pair, &mut sum.weight);
            }
            if wanted.bias {
                for pixel in gradient.chunks(outputs) {
                    for (sum, g) in sum.bias.iter_mut().zip(pixel) {
                        *sum += g;
                    }
                }
            }
        }
        (sum, total)
    };
    let inputs = input.par_chunks(images * shape.input_image());
    let gradients = gradient.par_chunks(images * shape.output_image());
    let pairs = inputs.zip(gradients);
    let sums: Vec<(Sum, f64)> = match wanted.input {
        Some(all) => pairs
            .zip(all.par_chunks_mut(images * shape.input_image()))
            .map(|((x, g), dx)| group(x, g, Some(dx)))
            .collect(),
        None => pairs.map(|(x, g)| group(x, g, None)).collect(),
    };

    let to_input = sums.iter().map(|sum| sum.1).sum();
    let mut bias = vec![0.0; if wanted.bias { outputs } else { 0 }];
    for (sum, _) in &sums {
        for (bias, sum) in bias.iter_mut().zip(&sum.bias) {
            *bias += sum;
        }
    }
    let mut weights = Vec::new();
    let mut to_weight = 0.0;
    if wanted.weight {
        weights = add_up(shape, &taps, &sums);
        if let Some(unrounding) = unroundings[1] {
            let parts = weights.par_chunks_mut(PART).zip(weight.par_chunks(PART));
            let sums: Vec<f64> = parts
                .map(|(grad, weight)| unrounding(weight, grad))
                .collect();
            to_weight = sums.into_iter().sum();
        }
    }
    (weights, bias, [to_input, to_weight])
}

/// The sum of what the groups contribute to the gradient of the weight, stored as the weight.
fn add_up(shape: &Shape, taps: &Taps, groups: &[(Sum, f64)]) -> Vec<f32> {
    let [inputs, outputs] = shape.channels;
    let [kh, kw] = shape.kernel;
    let filter = inputs * kh * kw;
    let places: Vec<(usize, usize)> = taps
        .places()
        .enumerate()
        .filter(|&(_, (from, _))| from < inputs)
        .map(|(j, (from, [y, x]))| (j, (from * kh + y) * kw + x))
        .collect();
    let mut weights = vec![0.0; outputs * filter];
    let tiles: Vec<ChannelTile> = channel_tiles(outputs).collect();
    weights
        .par_chunks_mut(2 * LANES * filter)
        .zip(tiles)
        .for_each(|(weights, tile)| {
            let mut line = [0.0; 2 * LANES];
            let line = &mut line[..tile.width()];
            for &(j, place) in &places {
                line.fill(0.0);
                let start = tile.first * taps.length + j * tile.width();
                for (sum, _) in groups {
                    for (line, sum) in line.iter_mut().zip(&sum.weight[start..]) {
                        *line += sum;
                    }
                }
                for (weights, &sum) in weights.chunks_exact_mut(filter).zip(&*line) {
                    weights[place] = sum;
                }
            }
        });
    weights
}

/// Adds the contribution of some images to the gradient of the weight: for each tile of channels,
/// `[taps][tile]`.
fn add_products(
    shape: &Shape,
    taps: &Taps,
    tiles: &ProductsTiles,
    [(packing, packed), (gradients, gradient)]: [(&Packing, &[f32]); 2],
    sums: &mut [f32],
) {
    let [height, width] = shape.output;
    let images = packed.len() / packing.len();
    // Parts whose pixels stay in the first cache: some images, or some rows of one.
    let together = (STRIP / (height * width)).clamp(1, images);
    let strip = (STRIP / width).clamp(1, height);
    for image in (0..images).step_by(together) {
        for row in (0..height).step_by(strip) {
            for tile in channel_tiles(shape.channels[1]) {
                let input = image * packing.len() + row * shape.stride[0] * packing.row();
                let start = image * gradients.len()
                    + tile.first / LANES * gradients.plane()
                    + (row + gradients.top) * gradients.row()
                    + gradients.left * LANES;
                let mut place = 0;
                for run in &taps.runs {
                    let first = Products {
                        input: packed[input + run.offset..].as_ptr(),
                        input_step: [
                            packing.block * shape.stride[1],
                            packing.row() * shape.stride[0],
                            packing.len(),
                        ],
                        gradient: gradient[start..].as_ptr(),
                        gradient_step: [gradients.row(), gradients.len()],
                        gradient_plane: gradients.plane(),
                        size: [together.min(images - image), strip.min(height - row), width],
                        sums: sums[tile.first * taps.length + place * tile.width()..].as_mut_ptr(),
                        sums_row: tile.width(),
                    };
                    // SAFETY: the packed input reaches as far as the taps of the last pixel, the
                    // packed gradient holds whole vectors of channels, and so do the sums.
                    unsafe { tiles.run(tile.vectors, run.length, first) };
                    place += run.length;
                }
            }
        }
    }
}
