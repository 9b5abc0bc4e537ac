//! The two register tiles that all convolutions and matrix products are made of.

// Raw pointers into buffers whose sizes the callers have computed; a bounds check an operation
// would cost as much as the operation.
#![allow(unsafe_code)]

use super::vector::{self, Isa, LANES, Vector};

/// Numbers of a packed input that lie one after the other and meet weights that do, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they start, from the tile's first pixel.
    pub(crate) offset: usize,
    /// How many.
    pub(crate) length: usize,
}

/// `output[p][v] = bias[v] + sum over runs and j of input[p * PIXEL + run.offset + j] * weights[j][v]`
/// for `P` pixels and `V` vectors of sixteen channels.
#[derive(Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// The packed input at the tile's first pixel.
    pub(crate) input: *const f32,
    /// What is summed.
    pub(crate) runs: &'a [Run],
    /// `[sum of lengths][V * 16]`.
    pub(crate) weights: *const f32,
    /// `[V * 16]`, or null.
    pub(crate) bias: *const f32,
    /// The first pixel of the output.
    pub(crate) output: *mut f32,
    /// From one pixel of the output to the next.
    pub(crate) output_pixel: usize,
    /// Channels to write, at most `V * 16`.
    pub(crate) channels: usize,
}

/// `sums[j][v] += sum over rows and x of input[row * input_row + x * input_pixel + j] *
/// gradient[row * gradient_row + x * 16 (+ v * gradient_plane)]` for `J` numbers of the input and
/// `V` vectors of sixteen channels.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    /// The packed input at the first pixel.
    pub(crate) input: *const f32,
    /// From one pixel of the input to the next, and from one row to the next.
    pub(crate) input_step: [usize; 2],
    /// The packed gradient at the first pixel.
    pub(crate) gradient: *const f32,
    /// From one row of the gradient to the next.
    pub(crate) gradient_row: usize,
    /// From one vector of channels to the next.
    pub(crate) gradient_plane: usize,
    /// Rows, and pixels in a row.
    pub(crate) size: [usize; 2],
    /// `[J][..]`, the first vector of channels.
    pub(crate) sums: *mut f32,
    /// From one `j` to the next.
    pub(crate) sums_row: usize,
}

type SumsTile = unsafe fn(Sums);
type ProductsTile = unsafe fn(Products);

#[inline(always)]
unsafe fn sums<T: Vector, const P: usize, const V: usize, const PIXEL: usize>(t: Sums) {
    unsafe {
        let mut sums = [[T::zero(); V]; P];
        if !t.bias.is_null() {
            for v in 0..V {
                let bias = T::load(t.bias.add(v * LANES));
                for sums in &mut sums {
                    sums[v] = bias;
                }
            }
        }
        let mut weights = t.weights;
        for run in t.runs {
            let mut input = t.input.add(run.offset);
            let end = input.add(run.length);
            while input < end {
                let mut w = [T::zero(); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = T::load(weights.add(v * LANES));
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = T::splat(input.add(p * PIXEL));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = sum.multiply_add(x, w);
                    }
                }
                weights = weights.add(V * LANES);
                input = input.add(1);
            }
        }
        for (p, sums) in sums.into_iter().enumerate() {
            let output = t.output.add(p * t.output_pixel);
            for (v, sum) in sums.into_iter().enumerate() {
                write(
                    sum,
                    output.add(v * LANES),
                    t.channels as isize - (v * LANES) as isize,
                );
            }
        }
    }
}

/// Writes the first `count` numbers of `vector`.
#[inline(always)]
unsafe fn write<T: Vector>(vector: T, output: *mut f32, count: isize) {
    unsafe {
        if count >= LANES as isize {
            vector.store(output);
        } else if count > 0 {
            let mut all = [0.0; LANES];
            vector.store(all.as_mut_ptr());
            output.copy_from_nonoverlapping(all.as_ptr(), count as usize);
        }
    }
}

#[inline(always)]
unsafe fn products<T: Vector, const J: usize, const V: usize>(t: Products) {
    unsafe {
        let mut sums = [[T::zero(); V]; J];
        for (j, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = T::load(t.sums.add(j * t.sums_row + v * LANES));
            }
        }
        for row in 0..t.size[0] {
            let mut input = t.input.add(row * t.input_step[1]);
            let mut gradient = t.gradient.add(row * t.gradient_row);
            for _ in 0..t.size[1] {
                let mut g = [T::zero(); V];
                for (v, g) in g.iter_mut().enumerate() {
                    *g = T::load(gradient.add(v * t.gradient_plane));
                }
                for (j, sums) in sums.iter_mut().enumerate() {
                    let x = T::splat(input.add(j));
                    for (sum, g) in sums.iter_mut().zip(g) {
                        *sum = sum.multiply_add(x, g);
                    }
                }
                input = input.add(t.input_step[0]);
                gradient = gradient.add(LANES);
            }
        }
        for (j, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store(t.sums.add(j * t.sums_row + v * LANES));
            }
        }
    }
}

/// The tiles compiled with the instructions of one CPU.
macro_rules! compiled {
    ($sums:ident, $products:ident, $vector:ty, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $sums<const P: usize, const V: usize, const PIXEL: usize>(t: Sums) {
            unsafe { sums::<$vector, P, V, PIXEL>(t) }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $products<const J: usize, const V: usize>(t: Products) {
            unsafe { products::<$vector, J, V>(t) }
        }
    };
}

compiled!(sums_avx512, products_avx512, vector::Avx512, "avx512f");
compiled!(sums_avx2, products_avx2, vector::Avx2, "avx2,fma");

/// Tiles of [`Sums`] for one distance between pixels, for one and two vectors of channels, largest
/// first; with each, its pixels.
#[derive(Clone, Copy)]
pub(crate) struct SumsTiles([[(usize, SumsTile); 4]; 2]);

impl SumsTiles {
    /// The tiles for pixels that lie `pixel` apart: 4 or 16 numbers, or twice that.
    pub(crate) fn new(pixel: usize) -> Self {
        match pixel {
            4 => Self::of::<4>(),
            8 => Self::of::<8>(),
            16 => Self::of::<16>(),
            32 => Self::of::<32>(),
            _ => unreachable!("no tile for pixels {pixel} apart"),
        }
    }

    fn of<const PIXEL: usize>() -> Self {
        let portable = sums::<vector::Portable, 1, 1, PIXEL>;
        match vector::isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self([
                [
                    (16, sums_avx512::<16, 1, PIXEL>),
                    (8, sums_avx512::<8, 1, PIXEL>),
                    (4, sums_avx512::<4, 1, PIXEL>),
                    (1, sums_avx512::<1, 1, PIXEL>),
                ],
                [
                    (8, sums_avx512::<8, 2, PIXEL>),
                    (6, sums_avx512::<6, 2, PIXEL>),
                    (4, sums_avx512::<4, 2, PIXEL>),
                    (1, sums_avx512::<1, 2, PIXEL>),
                ],
            ]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self([
                [
                    (6, sums_avx2::<6, 1, PIXEL>),
                    (4, sums_avx2::<4, 1, PIXEL>),
                    (2, sums_avx2::<2, 1, PIXEL>),
                    (1, sums_avx2::<1, 1, PIXEL>),
                ],
                [
                    (3, sums_avx2::<3, 2, PIXEL>),
                    (2, sums_avx2::<2, 2, PIXEL>),
                    (1, sums_avx2::<1, 2, PIXEL>),
                    (1, sums_avx2::<1, 2, PIXEL>),
                ],
            ]),
            Isa::Portable => Self([
                [
                    (4, sums::<vector::Portable, 4, 1, PIXEL>),
                    (2, sums::<vector::Portable, 2, 1, PIXEL>),
                    (1, portable),
                    (1, portable),
                ],
                [
                    (2, sums::<vector::Portable, 2, 2, PIXEL>),
                    (1, sums::<vector::Portable, 1, 2, PIXEL>),
                    (1, sums::<vector::Portable, 1, 2, PIXEL>),
                    (1, sums::<vector::Portable, 1, 2, PIXEL>),
                ],
            ]),
        }
    }

    /// Runs tiles over the `pixels` pixels of a row, the last one over pixels that another has
    /// done where that saves small ones.
    ///
    /// # Safety
    /// Every pixel of the row must have the input, the weights and the output that [`Sums`] says.
    #[inline]
    pub(crate) unsafe fn row(&self, vectors: usize, pixel: usize, pixels: usize, first: Sums) {
        let tiles = &self.0[vectors - 1];
        let at = |x: usize| Sums {
            // SAFETY: within the row.
            input: unsafe { first.input.add(x * pixel) },
            output: unsafe { first.output.add(x * first.output_pixel) },
            ..first
        };
        let mut x = 0;
        while x < pixels {
            let left = pixels - x;
            let fitting = tiles.iter().find(|tile| tile.0 <= left);
            let overlapping = tiles
                .iter()
                .rev()
                .find(|tile| tile.0 >= left && tile.0 <= pixels);
            // SAFETY: the tile's pixels are pixels of the row.
            match (overlapping, fitting) {
                (Some(&(size, tile)), _) => {
                    unsafe { tile(at(pixels - size)) };
                    return;
                }
                (None, Some(&(size, tile))) => {
                    unsafe { tile(at(x)) };
                    x += size;
                }
                (None, None) => unreachable!("there is a tile of one pixel"),
            }
        }
    }
}

/// Tiles of [`Products`] for one and two vectors of channels, largest first; with each, its `J`.
#[derive(Clone, Copy)]
pub(crate) struct ProductsTiles([[(usize, ProductsTile); 4]; 2]);

impl ProductsTiles {
    /// The tiles for this CPU.
    pub(crate) fn new() -> Self {
        let one = products::<vector::Portable, 1, 1>;
        match vector::isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self([
                [
                    (16, products_avx512::<16, 1>),
                    (8, products_avx512::<8, 1>),
                    (4, products_avx512::<4, 1>),
                    (1, products_avx512::<1, 1>),
                ],
                [
                    (8, products_avx512::<8, 2>),
                    (4, products_avx512::<4, 2>),
                    (2, products_avx512::<2, 2>),
                    (1, products_avx512::<1, 2>),
                ],
            ]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self([
                [
                    (4, products_avx2::<4, 1>),
                    (2, products_avx2::<2, 1>),
                    (1, products_avx2::<1, 1>),
                    (1, products_avx2::<1, 1>),
                ],
                [
                    (2, products_avx2::<2, 2>),
                    (1, products_avx2::<1, 2>),
                    (1, products_avx2::<1, 2>),
                    (1, products_avx2::<1, 2>),
                ],
            ]),
            Isa::Portable => Self([
                [
                    (4, products::<vector::Portable, 4, 1>),
                    (2, products::<vector::Portable, 2, 1>),
                    (1, one),
                    (1, one),
                ],
                [
                    (2, products::<vector::Portable, 2, 2>),
                    (1, products::<vector::Portable, 1, 2>),
                    (1, products::<vector::Portable, 1, 2>),
                    (1, products::<vector::Portable, 1, 2>),
                ],
            ]),
        }
    }

    /// Runs tiles over `length` numbers of the input.
    ///
    /// # Safety
    /// Each of them must have the input, the gradient and the sums that [`Products`] says.
    #[inline]
    pub(crate) unsafe fn run(&self, vectors: usize, length: usize, first: Products) {
        let tiles = &self.0[vectors - 1];
        let mut j = 0;
        while j < length {
            let tile = tiles.iter().find(|tile| tile.0 <= length - j);
            let &(size, tile) = tile.expect("there is a tile of one number");
            // SAFETY: within the run.
            unsafe {
                tile(Products {
                    input: first.input.add(j),
                    sums: first.sums.add(j * first.sums_row),
                    ..first
                });
            }
            j += size;
        }
    }
}
