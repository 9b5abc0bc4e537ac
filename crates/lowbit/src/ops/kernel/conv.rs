//! Two-dimensional convolution and its gradients, on images stored channels last.
//!
//! Each thread takes whole images. An image is packed once: its channels in blocks whose pixels
//! lie a fixed distance apart, with its padding, so that the register tiles of [`super::tile`]
//! need no bounds. Every sum runs in an order that depends on the shape alone, so the result does
//! not depend on the number of threads.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::scratch;
use super::tile::{Products, ProductsTiles, Run, Sums, SumsTiles};
use super::vector::LANES;

/// Pixels whose input and gradient stay in the first cache while weights are differentiated.
const STRIP: usize = 128;

/// Groups of images with sums of their own when weights are differentiated, and the numbers that
/// they may take together.
const GROUPS: usize = 32;
const GROUP_NUMBERS: usize = 1 << 24;

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

/// What happens to a row of the input while it is packed.
pub(crate) type Rounding<'a> = &'a (dyn Fn(&mut [f32]) + Sync);

/// Images packed as `[blocks of channels][rows][columns][block]`, zeros where the image ends.
#[derive(Debug, Clone, Copy)]
struct Packing {
    image: [usize; 2],
    channels: usize,
    /// Channels that lie together: 4 or 16.
    block: usize,
    rows: usize,
    columns: usize,
    top: usize,
    left: usize,
}

impl Packing {
    fn new(image: [usize; 2], channels: usize, size: [usize; 2], before: [usize; 2]) -> Self {
        Self {
            image,
            channels,
            block: if channels <= 4 { 4 } else { LANES },
            rows: size[0],
            columns: size[1],
            top: before[0],
            left: before[1],
        }
    }

    fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    fn row(&self) -> usize {
        self.columns * self.block
    }

    fn plane(&self) -> usize {
        self.rows * self.row()
    }

    fn len(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// The channels of the block that are there.
    fn filled(&self, block: usize) -> usize {
        (self.channels - block * self.block).min(self.block)
    }

    /// Packs `image`, `[height][width][channels]`, rounding it on the way.
    fn pack(&self, image: &[f32], packed: &mut [f32], rounding: Option<Rounding>) {
        let [height, width] = self.image;
        let copied = width.min(self.columns - self.left);
        let line = width * self.channels;
        let mut rounded = rounding.map(|_| scratch::take(line));
        for row in 0..self.rows {
            let inside = (self.top..self.top + height).contains(&row);
            let source = if inside {
                let source = &image[(row - self.top) * line..][..line];
                match (&mut rounded, rounding) {
                    (Some(rounded), Some(rounding)) => {
                        let rounded = &mut rounded[..line];
                        rounded.copy_from_slice(source);
                        rounding(rounded);
                        &rounded[..]
                    }
                    _ => source,
                }
            } else {
                &[]
            };
            for block in 0..self.blocks() {
                let packed = &mut packed[block * self.plane() + row * self.row()..][..self.row()];
                if !inside {
                    packed.fill(0.0);
                    continue;
                }
                let (left, rest) = packed.split_at_mut(self.left * self.block);
                let (middle, right) = rest.split_at_mut(copied * self.block);
                left.fill(0.0);
                right.fill(0.0);
                self.pack_line(source, middle, block);
            }
        }
    }

    fn pack_line(&self, source: &[f32], packed: &mut [f32], block: usize) {
        let first = block * self.block;
        let filled = self.filled(block);
        if self.channels == self.block {
            packed.copy_from_slice(&source[..packed.len()]);
        } else if filled == LANES {
            let (packed, _) = packed.as_chunks_mut::<LANES>();
            for (packed, source) in packed.iter_mut().zip(source[first..].chunks(self.channels)) {
                packed.copy_from_slice(&source[..LANES]);
            }
        } else {
            let packed = packed.chunks_exact_mut(self.block);
            for (packed, source) in packed.zip(source.chunks_exact(self.channels)) {
                packed[..filled].copy_from_slice(&source[first..first + filled]);
                packed[filled..].fill(0.0);
            }
        }
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

    /// Weights in the order of the taps: for each tile of channels, `[length][tile]`.
    /// `weight(channel, summed channel, kernel)` reads one.
    fn pack_weights(
        &self,
        channels: usize,
        summed: usize,
        weight: impl Fn(usize, usize, [usize; 2]) -> f32 + Sync,
    ) -> Vec<f32> {
        let places: Vec<_> = self.places().collect();
        let mut packed =
            vec![0.0; channel_tiles(channels).map(|t| t.width()).sum::<usize>() * self.length];
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
        });
        packed
    }
}

/// Channels that a register tile makes together.
#[derive(Debug, Clone, Copy)]
struct ChannelTile {
    first: usize,
    vectors: usize,
    channels: usize,
}

impl ChannelTile {
    fn width(&self) -> usize {
        self.vectors * LANES
    }
}

/// Tiles of two vectors, and one of one vector where that is enough.
fn channel_tiles(channels: usize) -> impl Iterator<Item = ChannelTile> {
    (0..channels).step_by(2 * LANES).map(move |first| {
        let left = channels - first;
        ChannelTile {
            first,
            vectors: if left > LANES { 2 } else { 1 },
            channels: left.min(2 * LANES),
        }
    })
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
        let packing = Packing::new(shape.input, shape.channels[0], size, shape.padding);
        let taps = Taps::forward(shape, &packing);
        Self { packing, taps }
    }
}

/// The convolution of `input`, `[batch][height][width][channels]`, with `weight`,
/// `[channels out][channels in][kernel height][kernel width]`, into `output`, stored as `input`.
/// The rows of the input are rounded on the way in.
pub(crate) fn forward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    rounding: Option<Rounding>,
    output: &mut [f32],
) {
    let Forward { packing, taps } = Forward::new(shape);
    let [inputs, outputs] = shape.channels;
    let [kh, kw] = shape.kernel;
    let weights = taps.pack_weights(outputs, inputs, |to, from, [y, x]| {
        weight[((to * inputs + from) * kh + y) * kw + x]
    });
    let bias = bias.map(|bias| {
        let mut padded = vec![0.0; outputs.next_multiple_of(2 * LANES)];
        padded[..outputs].copy_from_slice(bias);
        padded
    });
    let pixel = packing.block * shape.stride[1];
    let tiles = SumsTiles::new(pixel);
    output
        .par_chunks_mut(shape.output_image())
        .zip(input.par_chunks(shape.input_image()))
        .for_each(|(output, input)| {
            let mut packed = scratch::take(packing.len());
            packing.pack(input, &mut packed, rounding);
            let mut weights = weights.as_slice();
            for tile in channel_tiles(outputs) {
                for row in 0..shape.output[0] {
                    let first = Sums {
                        input: packed[row * shape.stride[0] * packing.row()..].as_ptr(),
                        runs: &taps.runs,
                        weights: weights.as_ptr(),
                        bias: match &bias {
                            Some(bias) => bias[tile.first..].as_ptr(),
                            None => std::ptr::null(),
                        },
                        output: output[row * shape.output[1] * outputs + tile.first..].as_mut_ptr(),
                        output_pixel: outputs,
                        channels: tile.channels,
                    };
                    // SAFETY: `Forward` made the packing as large as the taps of the last pixel
                    // need; weights and bias are padded to whole tiles.
                    unsafe { tiles.row(tile.vectors, pixel, shape.output[1], first) };
                }
                weights = &weights[tile.width() * taps.length..];
            }
        });
}

/// Pixels of the input whose gradients read the same taps: those at `first` plus multiples of the
/// stride.
struct Phase {
    first: [usize; 2],
    size: [usize; 2],
    taps: Taps,
    weights: Vec<f32>,
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
    fn new(shape: &Shape, weight: &[f32]) -> Self {
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
                let weights = taps.pack_weights(inputs, outputs, |to, from, [y, x]| {
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

    /// The gradient with respect to one image of the input.
    fn image(&self, shape: &Shape, tiles: &SumsTiles, packed: &[f32], gradient: &mut [f32]) {
        let channels = shape.channels[0];
        for phase in &self.phases {
            let mut weights = phase.weights.as_slice();
            for tile in channel_tiles(channels) {
                for i in 0..phase.size[0] {
                    let pixel =
                        (phase.first[0] + i * shape.stride[0]) * shape.input[1] + phase.first[1];
                    let first = Sums {
                        input: packed[i * self.packing.row()..].as_ptr(),
                        runs: &phase.taps.runs,
                        weights: weights.as_ptr(),
                        bias: std::ptr::null(),
                        output: gradient[pixel * channels + tile.first..].as_mut_ptr(),
                        output_pixel: channels * shape.stride[1],
                        channels: tile.channels,
                    };
                    // SAFETY: the margins reach as far as the taps of the last pixel.
                    unsafe { tiles.row(tile.vectors, LANES, phase.size[1], first) };
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
#[derive(Default)]
struct Sum {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Called with an image's input and the gradient of what it was rounded to, which becomes that of
/// the input itself; what it returns is added up.
pub(crate) type Unrounding<'a> = &'a (dyn Fn(&[f32], &mut [f32]) -> f64 + Sync);

/// The gradients of [`forward`], given `gradient`, that of its output: of the weight (as the
/// weight is stored), of the bias (both empty where not wanted), and the sum of what `unrounding`
/// returned.
pub(crate) fn backward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    rounding: Option<Rounding>,
    unrounding: Option<Unrounding>,
    wanted: Wanted,
) -> (Vec<f32>, Vec<f32>, f64) {
    let Forward { packing, taps } = Forward::new(shape);
    let transposed = Transposed::new(shape, weight);
    let outputs = shape.channels[1];
    let width = outputs.next_multiple_of(LANES);
    let numbers = taps.length * width;
    let groups = (GROUP_NUMBERS / numbers.max(1))
        .clamp(1, GROUPS)
        .min(shape.batch.max(1));
    let images = shape.batch.div_ceil(groups).max(1);
    let sums_tiles = SumsTiles::new(LANES);
    let products_tiles = ProductsTiles::new();

    let group = |input: &[f32], gradient: &[f32], mut input_gradient: Option<&mut [f32]>| {
        let mut sum = Sum {
            weight: vec![0.0; if wanted.weight { numbers } else { 0 }],
            bias: vec![0.0; if wanted.bias { outputs } else { 0 }],
        };
        let mut total = 0.0;
        let mut packed_gradient = scratch::take(transposed.packing.len());
        let mut packed = scratch::take(packing.len());
        let pairs = input
            .chunks(shape.input_image())
            .zip(gradient.chunks(shape.output_image()));
        for (index, (input, gradient)) in pairs.enumerate() {
            transposed
                .packing
                .pack(gradient, &mut packed_gradient, None);
            if let Some(all) = &mut input_gradient {
                let image = &mut all[index * shape.input_image()..][..shape.input_image()];
                transposed.image(shape, &sums_tiles, &packed_gradient, image);
                if let Some(unrounding) = unrounding {
                    total += unrounding(input, image);
                }
            }
            if wanted.weight {
                packing.pack(input, &mut packed, rounding);
                let pair = [
                    (&packing, &packed[..]),
                    (&transposed.packing, &packed_gradient[..]),
                ];
                add_products(shape, &taps, &products_tiles, pair, &mut sum.weight);
            }
            for pixel in gradient.chunks(outputs) {
                for (sum, g) in sum.bias.iter_mut().zip(pixel) {
                    *sum += g;
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

    let total = sums.iter().map(|sum| sum.1).sum();
    let mut bias = vec![0.0; if wanted.bias { outputs } else { 0 }];
    for (sum, _) in &sums {
        for (bias, sum) in bias.iter_mut().zip(&sum.bias) {
            *bias += sum;
        }
    }
    let mut weights = Vec::new();
    if wanted.weight {
        let [inputs, _] = shape.channels;
        let [kh, kw] = shape.kernel;
        weights.resize(outputs * inputs * kh * kw, 0.0);
        let mut line = vec![0.0; width];
        for (j, (from, [y, x])) in taps.places().enumerate() {
            if from >= inputs {
                continue;
            }
            line.fill(0.0);
            for (sum, _) in &sums {
                for (line, sum) in line.iter_mut().zip(&sum.weight[j * width..]) {
                    *line += sum;
                }
            }
            for (to, &sum) in line[..outputs].iter().enumerate() {
                weights[((to * inputs + from) * kh + y) * kw + x] = sum;
            }
        }
    }
    (weights, bias, total)
}

/// Adds one image's contribution to the gradient of the weight, `[taps][channels out]`.
fn add_products(
    shape: &Shape,
    taps: &Taps,
    tiles: &ProductsTiles,
    [(packing, packed), (gradients, gradient)]: [(&Packing, &[f32]); 2],
    sums: &mut [f32],
) {
    let [height, width] = shape.output;
    let sums_row = shape.channels[1].next_multiple_of(LANES);
    let strip = (STRIP / width).max(1);
    for row in (0..height).step_by(strip) {
        let rows = strip.min(height - row);
        for tile in channel_tiles(shape.channels[1]) {
            let mut place = 0;
            for run in &taps.runs {
                let start = (row + gradients.top) * gradients.row() + gradients.left * LANES;
                let first = Products {
                    input: packed[row * shape.stride[0] * packing.row() + run.offset..].as_ptr(),
                    input_step: [
                        packing.block * shape.stride[1],
                        packing.row() * shape.stride[0],
                    ],
                    gradient: gradient[tile.first / LANES * gradients.plane() + start..].as_ptr(),
                    gradient_row: gradients.row(),
                    gradient_plane: gradients.plane(),
                    size: [rows, width],
                    sums: sums[place * sums_row + tile.first..].as_mut_ptr(),
                    sums_row,
                };
                // SAFETY: the packed input reaches as far as the taps of the last pixel, the
                // packed gradient holds whole vectors of channels, and so do the sums.
                unsafe { tiles.run(tile.vectors, run.length, first) };
                place += run.length;
            }
        }
    }
}
