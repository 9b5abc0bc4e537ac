//! Sums of terms that lie in runs, for tiles of pixels and channels.

// Raw pointers into buffers whose sizes the callers have computed; a bounds check an operation
// would cost as much as the operation.
#![allow(unsafe_code)]

use super::{Run, Terms};
use crate::vector::{self, Isa, LANES, Vector};

/// `output[r][p][v] = bias[v] + sum over runs and j of input[r * input_row + p * PIXEL + run.offset +
/// j] * weights[j][v]` for `P` pixels of `R` rows and `V` vectors of sixteen channels.
#[derive(Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// The packed input at the tile's first pixel.
    pub(crate) input: *const f32,
    /// From one row of the input to the next.
    pub(crate) input_row: usize,
    /// What is summed.
    pub(crate) runs: &'a [Run],
    /// `[sum of lengths][V * 16]`.
    pub(crate) weights: *const f32,
    /// `[V * 16]`, or null.
    pub(crate) bias: *const f32,
    /// The first pixel of the output.
    pub(crate) output: *mut f32,
    /// From one pixel of the output to the next, and from one row to the next.
    pub(crate) output_step: [usize; 2],
    /// Channels to write, at most `V * 16`.
    pub(crate) channels: usize,
}

type SumsTile = unsafe fn(Sums);

/// Does what [`Sums`] says for `R` rows of `P` pixels.
///
/// # Safety
/// - The contract of [`Vector`]: inlined into a function compiled for `T`'s instructions, and called
///   where the CPU has them.
/// - For each of the pixels and each run, `input + r * input_row + p * PIXEL + run.offset` is valid
///   for reads of `run.length` numbers; `weights` for reads of as many lines of `V * 16` numbers as
///   the runs have numbers; `bias` is null or valid for reads of `V * 16`.
/// - For each of the pixels, `output` plus its steps is valid for writes of `channels` numbers, which
///   nobody else reads or writes meanwhile; they are at most `V * 16`.
#[inline(always)]
unsafe fn sums<T: Vector, const R: usize, const P: usize, const V: usize, const PIXEL: usize>(
    t: Sums,
) {
    // SAFETY: the caller's.
    unsafe {
        // What is written has to come into the cache first, which takes as long as a short sum.
        for r in 0..R {
            for p in 0..P {
                for v in 0..V {
                    // The last vector may begin beyond the last channel.
                    let at = r * t.output_step[1] + p * t.output_step[0] + v * LANES;
                    T::expect_store(t.output.wrapping_add(at));
                }
            }
        }
        let mut sums = [[[T::zero(); V]; P]; R];
        if !t.bias.is_null() {
            for v in 0..V {
                let bias = T::load(t.bias.add(v * LANES));
                for sums in sums.as_flattened_mut() {
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
                for (r, sums) in sums.iter_mut().enumerate() {
                    let row = input.add(r * t.input_row);
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let x = T::splat(row.add(p * PIXEL));
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = sum.multiply_add(x, w);
                        }
                    }
                }
                weights = weights.add(V * LANES);
                input = input.add(1);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                let output = t.output.add(r * t.output_step[1] + p * t.output_step[0]);
                for (v, sum) in sums.iter().enumerate() {
                    // The last vector of channels may be there in part.
                    match t.channels.saturating_sub(v * LANES) {
                        LANES.. => sum.store(output.add(v * LANES)),
                        count => sum.store_first(output.add(v * LANES), count),
                    }
                }
            }
        }
    }
}

/// The tile compiled with the instructions of one CPU. On top of what the tile asks for, it may only be
/// called where the CPU has the features; [`SumsTiles`] holds none that the instruction set in use does not
/// have.
macro_rules! compiled {
    ($name:ident, $vector:ty $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)])?
        unsafe fn $name<const R: usize, const P: usize, const V: usize, const PIXEL: usize>(t: Sums) {
            // SAFETY: the caller's, and this function is compiled for the vector's instructions.
            unsafe { sums::<$vector, R, P, V, PIXEL>(t) }
        }
    };
}

each_vector!(compiled);

/// A tile of some rows and pixels.
#[derive(Clone, Copy)]
struct Sized {
    rows: usize,
    pixels: usize,
    tile: SumsTile,
}

/// Tiles of [`Sums`] for one distance between pixels, for one and two vectors of channels: one of
/// two rows, where registers are there for it, and those of one row, largest first.
///
/// Two rows are for images narrower than the largest tile, such as the 8x8 ones at the end of a
/// network: a row of eight pixels alone makes too few sums to hide the time that one takes.
#[derive(Clone, Copy)]
pub(crate) struct SumsTiles([(Option<Sized>, [Sized; 4]); 2]);

impl SumsTiles {
    /// The tiles for pixels that lie `pixel` apart: 1 to 4 or 16 numbers, or twice that.
    pub(crate) fn new(pixel: usize, terms: Terms) -> Self {
        match pixel {
            1 => Self::of::<1>(terms),
            2 => Self::of::<2>(terms),
            3 => Self::of::<3>(terms),
            4 => Self::of::<4>(terms),
            6 => Self::of::<6>(terms),
            8 => Self::of::<8>(terms),
            16 => Self::of::<16>(terms),
            32 => Self::of::<32>(terms),
            _ => unreachable!("no tile for pixels {pixel} apart"),
        }
    }

    fn of<const PIXEL: usize>(terms: Terms) -> Self {
        /// Tiles of `rows x pixels` for so many vectors, of one instruction set.
        macro_rules! tile {
            ($sums:ident, $vectors:literal, $rows:literal x $pixels:literal) => {
                Sized {
                    rows: $rows,
                    pixels: $pixels,
                    tile: $sums::<$rows, $pixels, $vectors, PIXEL>,
                }
            };
        }
        macro_rules! tiles {
            ($sums:ident, $vectors:literal, $($pixels:literal),*) => {
                [$(tile!($sums, $vectors, 1 x $pixels)),*]
            };
        }
        /// The widest tiles: with 32 registers of a whole vector.
        #[cfg(target_arch = "x86_64")]
        macro_rules! wide {
            ($sums:ident) => {
                Self([
                    (Some(tile!($sums, 1, 2 x 8)), tiles!($sums, 1, 16, 8, 4, 1)),
                    (Some(tile!($sums, 2, 2 x 4)), tiles!($sums, 2, 12, 8, 4, 1)),
                ])
            };
        }
        /// The narrowest, whose sums are made by hand.
        macro_rules! narrow {
            ($sums:ident) => {
                Self([
                    (None, tiles!($sums, 1, 4, 2, 1, 1)),
                    (None, tiles!($sums, 2, 2, 1, 1, 1)),
                ])
            };
        }
        match (vector::isa(), terms) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Terms::Numbers) => wide!(avx512),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Terms::Bfloat16) if vector::has_bfloat16() => wide!(avx512_bf16),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Terms::Bfloat16) => narrow!(avx512_pairs),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Terms::Numbers) => Self([
                (None, tiles!(avx2, 1, 6, 4, 2, 1)),
                (None, tiles!(avx2, 2, 3, 2, 1, 1)),
            ]),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Terms::Bfloat16) => narrow!(avx2_pairs),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Terms::Numbers) => Self([
                (None, tiles!(neon, 1, 6, 4, 2, 1)),
                (None, tiles!(neon, 2, 2, 1, 1, 1)),
            ]),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Terms::Bfloat16) => narrow!(neon_pairs),
            #[cfg(not(target_arch = "aarch64"))]
            (Isa::Portable, Terms::Numbers) => narrow!(portable),
            #[cfg(not(target_arch = "aarch64"))]
            (Isa::Portable, Terms::Bfloat16) => narrow!(portable_pairs),
        }
    }

    /// Runs tiles over `size`, rows and pixels in a row; some over pixels that others have done
    /// where that saves small ones.
    ///
    /// # Safety
    /// Every pixel must have the input, the weights and the output that [`Sums`] says.
    pub(crate) unsafe fn run(&self, vectors: usize, pixel: usize, size: [usize; 2], first: Sums) {
        let (two, one) = &self.0[vectors - 1];
        let mut row = 0;
        if let Some(two) = two
            && (two.pixels..one[0].pixels).contains(&size[1])
        {
            while row + two.rows <= size[0] {
                // SAFETY: rows and pixels of `size`.
                unsafe { Self::row(std::slice::from_ref(two), pixel, size[1], first.at(row)) };
                row += two.rows;
            }
        }
        while row < size[0] {
            // SAFETY: rows and pixels of `size`.
            unsafe { Self::row(one, pixel, size[1], first.at(row)) };
            row += 1;
        }
    }

    /// Runs tiles over the pixels of a row, or of two.
    ///
    /// # Safety
    /// That of [`run`](Self::run), for the pixels of the row.
    #[inline]
    unsafe fn row(tiles: &[Sized], pixel: usize, pixels: usize, first: Sums) {
        let at = |x: usize| Sums {
            // SAFETY: within the row.
            input: unsafe { first.input.add(x * pixel) },
            output: unsafe { first.output.add(x * first.output_step[0]) },
            ..first
        };
        let mut x = 0;
        while x < pixels {
            let left = pixels - x;
            let overlapping = tiles
                .iter()
                .rev()
                .find(|tile| tile.pixels >= left && tile.pixels <= pixels);
            // A last tile that overlaps the one before writes the same numbers again.
            // SAFETY: the tile's pixels are pixels of the row.
            match (overlapping, tiles.iter().find(|tile| tile.pixels <= left)) {
                (Some(last), _) => {
                    unsafe { (last.tile)(at(pixels - last.pixels)) };
                    return;
                }
                (None, Some(next)) => {
                    unsafe { (next.tile)(at(x)) };
                    x += next.pixels;
                }
                (None, None) => unreachable!("a tile is no wider than the row"),
            }
        }
    }
}

impl Sums<'_> {
    /// The same at a row further down.
    fn at(self, row: usize) -> Self {
        Self {
            input: self.input.wrapping_add(row * self.input_row),
            output: self.output.wrapping_add(row * self.output_step[1]),
            ..self
        }
    }
}
