//! The gradient with respect to the weight: products of the input's and the gradient's channels, summed
//! over pixels, four of which are a number to the instructions.

use lowbit_formats::kernel::isa::dispatch_on;

use super::grid::{Bytes, EXACT};
use crate::conv::Shape;
use crate::conv::taps::Taps;
use crate::integer::Products;
use crate::scratch::{self, Scratch};
use crate::tile::channel_tiles;
use crate::vector::LANES;

/// The sums of some images.
pub(super) struct ToWeight {
    shape: Shape,
    images: usize,
    /// Fours of pixels in a row of the gradient, the last one's zeros where there are no more.
    fours: usize,
    /// Rows of the packed input.
    rows: usize,
    products: Products,
}

/// A packed gradient.
struct Gradient {
    fours: Scratch<i32>,
    /// Of each channel.
    sums: Vec<i32>,
    /// The largest sum of a channel's magnitudes.
    reach: u64,
}

impl ToWeight {
    pub(super) fn new(shape: &Shape, images: usize) -> Self {
        let fours = shape.output[1].div_ceil(4);
        let reach = shape.dilation[0] * (shape.kernel[0] - 1) + 1;
        let rows = (shape.output[0] - 1) * shape.stride[0] + reach;
        let image = shape.kernel[1] * rows * fours;
        // Rows that follow each other are one run.
        let runs = (0..images).flat_map(|i| {
            let (count, length) = match shape.stride[0] {
                1 => (1, shape.output[0] * fours),
                _ => (shape.output[0], fours),
            };
            (0..count).map(move |y| (i * image + y * shape.stride[0] * fours, length))
        });
        let runs: Vec<(usize, usize)> = runs.collect();
        Self {
            shape: *shape,
            images,
            fours,
            rows,
            products: Products::new(shape.channels, &runs),
        }
    }

    /// Sums into `to`, as [`add_products`](crate::conv::to_weight::add_products) leaves them, of the images
    /// of an input, given the gradient of the output. Returns whether they were made: not where a sum could
    /// reach 2^24 units.
    pub(super) fn sums(
        &self,
        (input, of_input): (&[f32], &Bytes),
        (gradient, of_gradient): (&[f32], &Bytes),
        taps: &Taps,
        to: &mut [f32],
    ) -> bool {
        let gradient = self.pack_gradient(gradient, of_gradient);
        if of_input.largest() * gradient.reach >= EXACT {
            return false;
        }
        let packed = self.pack_input(input, of_input);
        let start: Vec<i32> = gradient
            .sums
            .iter()
            .map(|sum| of_input.least * sum)
            .collect();
        let [height, width] = self.shape.kernel;
        let inputs = self.shape.channels[0];
        let place = inputs * self.products.sums();
        let mut sums = scratch::take_of(height * width * place);
        for (i, sums) in sums.chunks_exact_mut(place).enumerate() {
            let (ky, kx) = (i / width, i % width);
            let first = (kx * self.rows + ky * self.shape.dilation[0]) * self.fours;
            let of_output = (&start[..], &gradient.sums[..]);
            self.products
                .all((&packed, first), &gradient.fours, of_output, sums);
        }
        let step = of_input.step * of_gradient.step;
        self.in_order(&sums, step, taps, to);
        true
    }

    fn pack_gradient(&self, gradient: &[f32], grid: &Bytes) -> Gradient {
        let channels = self.shape.channels[1];
        let mut fours = scratch::take_of(self.products.fours());
        let mut sums = vec![0; self.products.sums()];
        let mut magnitudes = vec![0; self.products.sums()];
        let rows = gradient.chunks_exact(self.shape.output[1] * channels);
        for (y, row) in rows.enumerate() {
            dispatch_on(
                row,
                (&mut fours[..], &mut sums[..], &mut magnitudes[..]),
                #[inline(always)]
                |row: &[f32], (fours, sums, magnitudes): (&mut [i32], &mut [i32], &mut [i32])| {
                    let (sums, _) = sums.as_chunks_mut();
                    let (magnitudes, _) = magnitudes.as_chunks_mut();
                    for (i, pixels) in row.chunks(4 * channels).enumerate() {
                        let of_vectors = sums.iter_mut().zip(&mut *magnitudes).enumerate();
                        for (vector, (sums, magnitudes)) in of_vectors {
                            let four = four(pixels, channels, vector * LANES);
                            let at = self.products.place(y * self.fours + i, vector);
                            let to = fours[at..].first_chunk_mut();
                            let to = to.expect("a line has a vector of each");
                            pack_four(&four, grid, to, [sums, magnitudes]);
                        }
                    }
                },
            );
        }
        Gradient {
            fours,
            sums,
            reach: magnitudes.into_iter().max().unwrap_or(0) as u64,
        }
    }

    /// For each image, place of a row of the kernel, row and four of pixels of the output: the bytes of the
    /// input's channels that they meet.
    fn pack_input(&self, input: &[f32], grid: &Bytes) -> Scratch<i32> {
        let shape = &self.shape;
        let channels = shape.channels[0];
        let row = self.fours * channels;
        let place = self.rows * row;
        let mut packed = scratch::take_of(self.images * shape.kernel[1] * place);
        let mut line = Line::new(shape, self.fours, grid);
        let images = packed.chunks_exact_mut(shape.kernel[1] * place);
        for (packed, image) in images.zip(input.chunks_exact(shape.input_image())) {
            for y in 0..self.rows {
                let source = y.checked_sub(shape.padding[0]);
                let source = source.filter(|&source| source < shape.input[0]);
                line.read(source.map(|y| &image[y * shape.input[1] * channels..]));
                for (x, packed) in packed.chunks_exact_mut(place).enumerate() {
                    line.fours(x, &mut packed[y * row..][..row]);
                }
            }
        }
        packed
    }

    /// Numbers in the order of the sums of floats.
    fn in_order(&self, sums: &[i32], step: f32, taps: &Taps, to: &mut [f32]) {
        let [inputs, outputs] = self.shape.channels;
        let (width, padded) = (self.shape.kernel[1], self.products.sums());
        for tile in channel_tiles(outputs) {
            let to = &mut to[tile.first * taps.length..][..tile.width() * taps.length];
            let lines = to.chunks_exact_mut(tile.width()).zip(taps.places());
            for (to, (channel, [y, x])) in lines.filter(|(_, (channel, _))| *channel < inputs) {
                let start = ((y * width + x) * inputs + channel) * padded + tile.first;
                for (to, &sum) in to.iter_mut().zip(&sums[start..start + tile.width()]) {
                    *to = sum as f32 * step;
                }
            }
        }
    }
}

/// Sixteen channels of each of four pixels, from one channel on; zeros where there are no more.
#[inline(always)]
fn four(pixels: &[f32], channels: usize, first: usize) -> [[f32; LANES]; 4] {
    let mut four = [[0f32; LANES]; 4];
    for (four, pixel) in four.iter_mut().zip(pixels.chunks(channels)) {
        let pixel = &pixel[first..];
        match pixel.first_chunk() {
            Some(all) => *four = *all,
            None => four[..pixel.len()].copy_from_slice(pixel),
        }
    }
    four
}

/// The integers of four pixels, one number for each channel, and added to the sums of them and of their
/// magnitudes.
#[inline(always)]
fn pack_four(
    four: &[[f32; LANES]; 4],
    grid: &Bytes,
    to: &mut [i32; LANES],
    [sums, magnitudes]: [&mut [i32; LANES]; 2],
) {
    for lane in 0..LANES {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j: usize| grid.integer(four[j][lane]));
        to[lane] = a & 255 | (b & 255) << 8 | (c & 255) << 16 | d << 24;
        sums[lane] += a + b + c + d;
        magnitudes[lane] += a.abs() + b.abs() + c.abs() + d.abs();
    }
}

/// A row of the input in bytes, with its margins.
struct Line<'a> {
    shape: &'a Shape,
    grid: &'a Bytes,
    bytes: Scratch<u8>,
}

impl<'a> Line<'a> {
    /// As long as so many fours of the output read.
    fn new(shape: &'a Shape, fours: usize, grid: &'a Bytes) -> Self {
        let reach = shape.dilation[1] * (shape.kernel[1] - 1) + 1;
        let pixels = (4 * fours - 1) * shape.stride[1] + reach;
        let mut bytes = scratch::take_of(pixels * shape.channels[0]);
        bytes.fill(grid.zero());
        Self { shape, grid, bytes }
    }

    /// Takes a row of the input, the rest of which may follow; none is a row of zeros.
    fn read(&mut self, row: Option<&[f32]>) {
        let channels = self.shape.channels[0];
        let start = (self.shape.padding[1] * channels).min(self.bytes.len());
        let length = (self.shape.input[1] * channels).min(self.bytes.len() - start);
        let bytes = &mut self.bytes[start..start + length];
        match row {
            Some(row) => {
                self.grid.bytes(&row[..length], bytes);
            }
            None => bytes.fill(self.grid.zero()),
        }
    }

    /// What fours of pixels of the output meet at a place of the kernel.
    fn fours(&self, x: usize, to: &mut [i32]) {
        let channels = self.shape.channels[0];
        let step = self.shape.stride[1] * channels;
        let bytes = &self.bytes[x * self.shape.dilation[1] * channels..];
        dispatch_on(
            bytes,
            to,
            #[inline(always)]
            move |bytes: &[u8], to: &mut [i32]| {
                for (i, to) in to.chunks_exact_mut(channels).enumerate() {
                    let pixel = |j: usize| &bytes[(4 * i + j) * step..][..channels];
                    let [a, b, c, d] = [pixel(0), pixel(1), pixel(2), pixel(3)];
                    for ((((to, &a), &b), &c), &d) in to.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        *to = i32::from(a)
                            | i32::from(b) << 8
                            | i32::from(c) << 16
                            | i32::from(d) << 24;
                    }
                }
            },
        );
    }
}
