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

/// Calls a macro with a name, a vector and the features it needs, once for each.
macro_rules! each_vector {
    ($compiled:ident) => {
        $compiled!(avx512, vector::Avx512, "avx512f");
        $compiled!(avx2, vector::Avx2, "avx2,fma");
        #[cfg(target_arch = "aarch64")]
        $compiled!(neon, vector::Neon);
        #[cfg(not(target_arch = "aarch64"))]
        $compiled!(portable, vector::Portable);
        $compiled!(avx512_bf16, vector::Avx512Bf16, "avx512f,avx512bf16");
        $compiled!(avx512_pairs, vector::Pairs<true>, "avx512f");
        $compiled!(avx2_pairs, vector::Pairs<true>, "avx2,fma");
        #[cfg(target_arch = "aarch64")]
        $compiled!(neon_pairs, vector::Pairs<true>);
        #[cfg(not(target_arch = "aarch64"))]
        $compiled!(portable_pairs, vector::Pairs<false>);
    };
}

mod products;
mod sums;

pub(crate) use products::{Products, ProductsTiles};
pub(crate) use sums::{Sums, SumsTiles};

use crate::vector::LANES;

/// What a term of a sum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Terms {
    /// The product of two `f32`, in one multiply-add.
    #[default]
    Numbers,
    /// Two products of bfloat16, whose pairs lie in the bits of `f32` (see [`crate::bfloat16`]), added as
    /// `vdpbf16ps` adds them: the second product, then the first, each in one multiply-add; numbers
    /// below the least normal one are zero.
    Bfloat16,
}

/// Numbers of a packed input that lie one after the other and meet weights that do, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where they start, from the tile's first pixel.
    pub(crate) offset: usize,
    /// How many.
    pub(crate) length: usize,
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
