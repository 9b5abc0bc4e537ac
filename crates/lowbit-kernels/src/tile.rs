//! The two register tiles that all convolutions and matrix products are made of.
//!
//! A tile keeps its sums in registers from the first term to the last: memory is read once for each
//! term, and written once for each sum. How many sums that is, is bounded from both sides:
//!
//! - From below by time: a multiply-add takes 4 cycles on CPUs of today, and one that starts a cycle
//!   (or two) needs 4 (or 8) sums that do not wait for each other. A term loads `V` vectors of
//!   weights and `pixels` numbers for `V * pixels` multiply-adds, so a square-like tile waits least
//!   for memory: two vectors of channels where there are as many channels.
//! - From above by registers. AVX-512 has 32 of a whole vector: 24 sums (12 pixels by 2 vectors, or
//!   16 by 1), the weights, and the number that is multiplied. AVX2 has 16 of half a vector: 12
//!   registers of sums (6 pixels by 1, 3 by 2). NEON has 32 of a quarter: 24 (6 by 1) or 16 (2 by 2).
//!   One sum more than that is kept in memory, at the price of a load and a store for each term.
//!
//! The loop over the terms is outside and the one over pixels and vectors inside, unrolled, since a
//! weight that is loaded then meets all pixels at once. A sum's terms are added in the order of the
//! runs whatever the tile's shape is, so that how pixels fall into tiles does not change a bit.
//!
//! Pixels lie a distance apart that is a constant of the compiled tile: then the address of each is
//! an offset in the instruction itself, and a tile needs one pointer for its input instead of twelve.

// Raw pointers into buffers whose sizes the callers have computed; a bounds check an operation
// would cost as much as the operation.
#![allow(unsafe_code)]

use crate::vector::{self, Isa, LANES, Vector};

/// Numbers of a packed input that lie one after the other and meet weights that do, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they start, from the tile's first pixel.
    pub(crate) offset: usize,
    /// How many.
    pub(crate) length: usize,
}

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

/// `sums[j][v] += sum over images, rows and x of input[image, row, x + j] * gradient[image, row, x,
/// v]` for `J` numbers of the input and `V` vectors of sixteen channels.
#[derive(Clone, Copy)]
pub(crate) struct Products {
    /// The packed input at the first pixel.
    pub(crate) input: *const f32,
    /// From one pixel of the input to the next, one row, one image.
    pub(crate) input_step: [usize; 3],
    /// The packed gradient at the first pixel.
    pub(crate) gradient: *const f32,
    /// From one pixel of the gradient to the next, one row, one image.
    pub(crate) gradient_step: [usize; 3],
    /// From one vector of channels to the next.
    pub(crate) gradient_plane: usize,
    /// Images, rows, and pixels in a row.
    pub(crate) size: [usize; 3],
    /// `[J][..]`, the first vector of channels.
    pub(crate) sums: *mut f32,
    /// From one `j` to the next.
    pub(crate) sums_row: usize,
}

/// Channels that a register tile makes together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelTile {
    pub(crate) first: usize,
    pub(crate) vectors: usize,
    pub(crate) channels: usize,
}

impl ChannelTile {
    /// With the vectors' last channels, whether they are there or not.
    pub(crate) fn width(&self) -> usize {
        self.vectors * LANES
    }
}

/// Tiles of two vectors, and one of one vector where that is enough.
pub(crate) fn channel_tiles(channels: usize) -> impl Iterator<Item = ChannelTile> {
    (0..channels).step_by(2 * LANES).map(move |first| {
        let left = channels - first;
        ChannelTile {
            first,
            vectors: if left > LANES { 2 } else { 1 },
            channels: left.min(2 * LANES),
        }
    })
}

/// Vectors of all tiles together.
pub(crate) fn vectors_of(channels: usize) -> usize {
    channel_tiles(channels).map(|tile| tile.vectors).sum()
}

/// A number for each channel, with zeros up to whole tiles.
pub(crate) fn padded(channels: &[f32]) -> Vec<f32> {
    let mut padded = channels.to_vec();
    padded.resize(vectors_of(channels.len()) * LANES, 0.0);
    padded
}

type SumsTile = unsafe fn(Sums);
type ProductsTile = unsafe fn(Products);

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

/// Does what [`Products`] says for `J` numbers of the input.
///
/// # Safety
/// - The contract of [`Vector`]: inlined into a function compiled for `T`'s instructions, and called
///   where the CPU has them.
/// - For each of the pixels of `size`, `input` plus its steps is valid for reads of `J` numbers, and
///   `gradient` plus its steps, plus `gradient_plane` for the second vector, for reads of 16.
/// - `sums` is valid for reads and writes of `J` lines of `V * 16` numbers that lie `sums_row` apart,
///   which nobody else reads or writes meanwhile.
#[inline(always)]
unsafe fn products<T: Vector, const J: usize, const V: usize>(t: Products) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[T::zero(); V]; J];
        for (j, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = T::load(t.sums.add(j * t.sums_row + v * LANES));
            }
        }
        for image in 0..t.size[0] {
            for row in 0..t.size[1] {
                let start = image * t.input_step[2] + row * t.input_step[1];
                let mut input = t.input.add(start);
                let start = image * t.gradient_step[2] + row * t.gradient_step[1];
                let mut gradient = t.gradient.add(start);
                for _ in 0..t.size[2] {
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
                    gradient = gradient.add(t.gradient_step[0]);
                }
            }
        }
        // By reference: loops over the arrays themselves have been compiled to copies of all sums
        // through memory, which made the backward passes of convolutions a fifth slower.
        for (j, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                sum.store(t.sums.add(j * t.sums_row + v * LANES));
            }
        }
    }
}

/// The tiles compiled with the instructions of one CPU. On top of what the tile asks for, they may
/// only be called where the CPU has the features; [`SumsTiles`] and [`ProductsTiles`] hold none that
/// the instruction set in use does not have.
macro_rules! compiled {
    ($sums:ident, $products:ident, $vector:ty $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)])?
        unsafe fn $sums<const R: usize, const P: usize, const V: usize, const PIXEL: usize>(
            t: Sums,
        ) {
            // SAFETY: the caller's, and this function is compiled for the vector's instructions.
            unsafe { sums::<$vector, R, P, V, PIXEL>(t) }
        }

        $(#[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)])?
        unsafe fn $products<const J: usize, const V: usize>(t: Products) {
            // SAFETY: the caller's, and this function is compiled for the vector's instructions.
            unsafe { products::<$vector, J, V>(t) }
        }
    };
}

compiled!(sums_avx512, products_avx512, vector::Avx512, "avx512f");
compiled!(sums_avx2, products_avx2, vector::Avx2, "avx2,fma");
#[cfg(target_arch = "aarch64")]
compiled!(sums_neon, products_neon, vector::Neon);
#[cfg(not(target_arch = "aarch64"))]
compiled!(sums_portable, products_portable, vector::Portable);

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
    pub(crate) fn new(pixel: usize) -> Self {
        match pixel {
            1 => Self::of::<1>(),
            2 => Self::of::<2>(),
            3 => Self::of::<3>(),
            4 => Self::of::<4>(),
            6 => Self::of::<6>(),
            8 => Self::of::<8>(),
            16 => Self::of::<16>(),
            32 => Self::of::<32>(),
            _ => unreachable!("no tile for pixels {pixel} apart"),
        }
    }

    fn of<const PIXEL: usize>() -> Self {
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
        match vector::isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self([
                (
                    Some(tile!(sums_avx512, 1, 2 x 8)),
                    tiles!(sums_avx512, 1, 16, 8, 4, 1),
                ),
                (
                    Some(tile!(sums_avx512, 2, 2 x 4)),
                    tiles!(sums_avx512, 2, 12, 8, 4, 1),
                ),
            ]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self([
                (None, tiles!(sums_avx2, 1, 6, 4, 2, 1)),
                (None, tiles!(sums_avx2, 2, 3, 2, 1, 1)),
            ]),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self([
                (None, tiles!(sums_neon, 1, 6, 4, 2, 1)),
                (None, tiles!(sums_neon, 2, 2, 1, 1, 1)),
            ]),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Portable => Self([
                (None, tiles!(sums_portable, 1, 4, 2, 1, 1)),
                (None, tiles!(sums_portable, 2, 2, 1, 1, 1)),
            ]),
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

/// Tiles of [`Products`] for one and two vectors of channels, largest first; with each, its `J`.
///
/// Here the sums are the weight's gradient, the numbers of the input under a pixel by channels of the
/// output, and the loop is over pixels: the same registers, filled by `J` numbers of the input.
#[derive(Clone, Copy)]
pub(crate) struct ProductsTiles([[(usize, ProductsTile); 5]; 2]);

impl ProductsTiles {
    /// The tiles for this CPU.
    pub(crate) fn new() -> Self {
        /// Tiles of one instruction set.
        macro_rules! tiles {
            ($vectors:literal, $products:ident, $($length:literal),*) => {
                [$(($length, $products::<$length, $vectors>)),*]
            };
        }
        match vector::isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self([
                tiles!(1, products_avx512, 16, 12, 8, 4, 1),
                tiles!(2, products_avx512, 12, 8, 4, 2, 1),
            ]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self([
                tiles!(1, products_avx2, 5, 4, 3, 2, 1),
                tiles!(2, products_avx2, 3, 2, 2, 1, 1),
            ]),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self([
                tiles!(1, products_neon, 6, 4, 3, 2, 1),
                tiles!(2, products_neon, 2, 2, 1, 1, 1),
            ]),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Portable => Self([
                tiles!(1, products_portable, 5, 4, 3, 2, 1),
                tiles!(2, products_portable, 2, 2, 1, 1, 1),
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
