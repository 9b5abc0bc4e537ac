//! Sums over pixels of the products of numbers under a pixel and its channels.

// Raw pointers into buffers whose sizes the callers have computed; a bounds check an operation
// would cost as much as the operation.
#![allow(unsafe_code)]

use super::Terms;
use crate::vector::{self, Isa, LANES, Vector};

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

type ProductsTile = unsafe fn(Products);

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

/// The tile compiled with the instructions of one CPU. On top of what the tile asks for, it may only be
/// called where the CPU has the features; [`ProductsTiles`] holds none that the instruction set in use does not
/// have.
macro_rules! compiled {
    ($name:ident, $vector:ty $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)])?
        unsafe fn $name<const J: usize, const V: usize>(t: Products) {
            // SAFETY: the caller's, and this function is compiled for the vector's instructions.
            unsafe { products::<$vector, J, V>(t) }
        }
    };
}

each_vector!(compiled);

/// Tiles of [`Products`] for one and two vectors of channels, largest first; with each, its `J`.
///
/// Here the sums are the weight's gradient, the numbers of the input under a pixel by channels of the
/// output, and the loop is over pixels: the same registers, filled by `J` numbers of the input.
#[derive(Clone, Copy)]
pub(crate) struct ProductsTiles([[(usize, ProductsTile); 5]; 2]);

impl ProductsTiles {
    /// The tiles for this CPU.
    pub(crate) fn new(terms: Terms) -> Self {
        /// Tiles of one instruction set.
        macro_rules! tiles {
            ($vectors:literal, $products:ident, $($length:literal),*) => {
                [$(($length, $products::<$length, $vectors>)),*]
            };
        }
        /// The widest tiles: with 32 registers of a whole vector.
        #[cfg(target_arch = "x86_64")]
        macro_rules! wide {
            ($products:ident) => {
                Self([
                    tiles!(1, $products, 16, 12, 8, 4, 1),
                    tiles!(2, $products, 12, 8, 4, 2, 1),
                ])
            };
        }
        /// The narrowest, whose sums are made by hand.
        macro_rules! narrow {
            ($products:ident) => {
                Self([
                    tiles!(1, $products, 5, 4, 3, 2, 1),
                    tiles!(2, $products, 2, 2, 1, 1, 1),
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
                tiles!(1, avx2, 5, 4, 3, 2, 1),
                tiles!(2, avx2, 3, 2, 2, 1, 1),
            ]),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Terms::Bfloat16) => narrow!(avx2_pairs),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Terms::Numbers) => Self([
                tiles!(1, neon, 6, 4, 3, 2, 1),
                tiles!(2, neon, 2, 2, 1, 1, 1),
            ]),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Terms::Bfloat16) => narrow!(neon_pairs),
            #[cfg(not(target_arch = "aarch64"))]
            (Isa::Portable, Terms::Numbers) => narrow!(portable),
            #[cfg(not(target_arch = "aarch64"))]
            (Isa::Portable, Terms::Bfloat16) => narrow!(portable_pairs),
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
