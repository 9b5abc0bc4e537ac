//! The register tile: some pixels' windows by some vectors of outputs.
//!
//! The bits of a row's windows are gathered first: `[plane][word][column]`, so that a word of weights
//! meets the same word of neighbouring pixels. What is gathered once serves all outputs.

use super::bits::{self, Piece, Pieces};
#[cfg(target_arch = "aarch64")]
use super::count::Cnt;
use super::count::Count;
#[cfg(not(target_arch = "aarch64"))]
use super::count::Ones;
#[cfg(target_arch = "x86_64")]
use super::count::{Nibbles256, Nibbles512, Vpopcnt};
use super::{BinaryConvolution, Group};
use crate::integer::output::{Output, Place};
use crate::integer::sums::{LANES, Sums};

/// One row of one part of the outputs.
struct Row<'a> {
    convolution: &'a BinaryConvolution,
    groups: &'a [Group],
    /// Pixels of the row.
    columns: usize,
    /// Of the first group.
    weights: *const u32,
    /// Of the row's class.
    bias: *const i32,
    windows: &'a [u32],
}

/// Gathers the windows of a row.
///
/// # Safety
/// The windows, `step` bytes apart from `image` on, lie in each of the planes, behind the last of which
/// eight bytes may be read.
#[inline(always)]
unsafe fn gather(
    convolution: &BinaryConvolution,
    Pieces { size, pieces }: &Pieces,
    image: *const u8,
    windows: &mut [u32],
) {
    let [step, _, plane] = bits::steps(&convolution.shape);
    let columns = convolution.output[1];
    for (p, to) in windows
        .chunks_exact_mut(convolution.words * columns)
        .enumerate()
    {
        // SAFETY: the caller's.
        unsafe {
            let image = image.add(p * plane);
            for piece in pieces {
                let to = &mut to[piece.word * columns..];
                match *size {
                    4 => integers::<u32, 4>(piece, image, step, &mut to[..columns]),
                    2 => integers::<u16, 2>(piece, image, step, &mut to[..columns]),
                    1 => integers::<u8, 1>(piece, image, step, &mut to[..columns]),
                    _ => any_bits(piece, image, step, (to, columns)),
                }
            }
        }
    }
}

/// Whole integers, one of each window; the first of a word is there before the others.
///
/// # Safety
/// As of [`gather`].
#[inline(always)]
unsafe fn integers<T: Into<u32>, const SIZE: usize>(
    piece: &Piece,
    image: *const u8,
    step: usize,
    to: &mut [u32],
) {
    let left = piece.left;
    // SAFETY: the caller's.
    unsafe {
        let from = image.add(piece.byte);
        // Neighbours, which the compiler reads many at a time, or integers further apart.
        match (step == SIZE, left == 0) {
            (true, true) => each(to, |x, _| read::<T>(from.add(x * SIZE))),
            (true, false) => each(to, |x, word| word | read::<T>(from.add(x * SIZE)) << left),
            (false, true) => each(to, |x, _| read::<T>(from.add(x * step))),
            (false, false) => each(to, |x, word| word | read::<T>(from.add(x * step)) << left),
        }
    }
}

#[inline(always)]
fn each(words: &mut [u32], f: impl Fn(usize, u32) -> u32) {
    for (x, word) in words.iter_mut().enumerate() {
        *word = f(x, *word);
    }
}

/// A little-endian integer.
///
/// # Safety
/// It may be read.
#[inline(always)]
unsafe fn read<T: Into<u32>>(p: *const u8) -> u32 {
    // SAFETY: the caller's.
    let integer: u32 = unsafe { p.cast::<T>().read_unaligned() }.into();
    // The high bytes are zero.
    if cfg!(target_endian = "big") {
        integer.swap_bytes() >> (32 - 8 * size_of::<T>())
    } else {
        integer
    }
}

/// Bits of any number, which may reach into the next word.
///
/// # Safety
/// As of [`gather`].
#[inline(always)]
unsafe fn any_bits(
    piece: &Piece,
    image: *const u8,
    step: usize,
    (to, columns): (&mut [u32], usize),
) {
    let (low, high) = to.split_at_mut(columns);
    let mask = !0u64 >> (64 - piece.bits);
    for (x, word) in low.iter_mut().enumerate() {
        // SAFETY: the caller's.
        let read = unsafe {
            image
                .add(piece.byte + x * step)
                .cast::<u64>()
                .read_unaligned()
        };
        let bits = (u64::from_le(read) >> piece.right & mask) << piece.left;
        *word = bits as u32 | if piece.left == 0 { 0 } else { *word };
        if piece.left + piece.bits > 32 {
            high[x] = (bits >> 32) as u32;
        }
    }
}

/// The sums of `P` pixels from `x` on, `V` vectors of each.
///
/// # Safety
/// The contract of [`Count`] and of [`Output`]; the row has the pixels, and weights, windows and bias
/// reach as far as the convolution says.
#[inline(always)]
unsafe fn tile<C: Count, O: Output, const P: usize, const V: usize>(
    row: &Row,
    (group, weights): (&Group, *const u32),
    output: O,
    x: usize,
) {
    let (convolution, columns) = (row.convolution, row.columns);
    let (words, planes) = (convolution.words, convolution.image.codes.bits);
    let first = group.first * LANES;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[C::Sums::zero(); V]; P];
        for plane in (0..planes).rev() {
            if plane == 0 && convolution.factors.is_none() {
                add_bias::<C, P, V>(&mut sums, row, first, x);
            }
            let windows = row.windows.as_ptr().add(plane * words * columns + x);
            add_plane::<C, P, V>(&mut sums, words, (windows, columns), weights);
            if plane > 0 {
                for sum in sums.as_flattened_mut() {
                    *sum = sum.plus(*sum);
                }
            }
        }
        if let Some(factors) = &convolution.factors {
            for v in 0..V {
                let factors = C::Sums::load(factors.as_ptr().add(first + v * LANES));
                for sums in &mut sums {
                    sums[v] = sums[v].times(factors);
                }
            }
            add_bias::<C, P, V>(&mut sums, row, first, x);
        }
        let place = Place {
            x,
            pixels: P,
            vector: group.first,
        };
        output.put(&sums, place);
    }
}

/// Adds the biases of `V` vectors from output `first` on.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn add_bias<C: Count, const P: usize, const V: usize>(
    sums: &mut [[C::Sums; V]; P],
    row: &Row,
    first: usize,
    x: usize,
) {
    let convolution = row.convolution;
    // SAFETY: the caller's.
    unsafe {
        if convolution.column_classes == 1 {
            for v in 0..V {
                let bias = C::Sums::load(row.bias.add(first + v * LANES));
                for sums in &mut *sums {
                    sums[v] = sums[v].plus(bias);
                }
            }
            return;
        }
        for (p, sums) in sums.iter_mut().enumerate() {
            let class = convolution.classes[1].as_ptr().add(x + p).read();
            let bias = row.bias.add(class * convolution.shape.sums() + first);
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = sum.plus(C::Sums::load(bias.add(v * LANES)));
            }
        }
    }
}

/// Adds what one plane's windows count.
///
/// # Safety
/// The contract of [`Count`]; windows of `P` pixels and weights of `V` vectors have so many words, the
/// windows' so far apart.
#[inline(always)]
unsafe fn add_plane<C: Count, const P: usize, const V: usize>(
    sums: &mut [[C::Sums; V]; P],
    words: usize,
    (windows, columns): (*const u32, usize),
    weights: *const u32,
) {
    let mut done = 0;
    // SAFETY: the caller's.
    unsafe {
        while done < words {
            let until = if C::MOST == usize::MAX {
                words
            } else {
                words.min(done + C::MOST)
            };
            let mut counts = [[C::none(); V]; P];
            for k in done..until {
                let mut w = [C::words(weights.add(k * V * LANES)); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = C::words(weights.add((k * V + v) * LANES));
                }
                for p in 0..P {
                    let x = windows.add(k * columns + p).read();
                    for v in 0..V {
                        if C::MOST == usize::MAX {
                            sums[p][v] = C::add(sums[p][v], x, w[v]);
                        } else {
                            counts[p][v] = C::count(counts[p][v], x, w[v]);
                        }
                    }
                }
            }
            if C::MOST != usize::MAX {
                for (sums, counts) in sums.iter_mut().zip(counts) {
                    for (sum, counts) in sums.iter_mut().zip(counts) {
                        *sum = C::total(*sum, counts);
                    }
                }
            }
            done = until;
        }
    }
}

/// One group of vectors of a row, in tiles of `P` pixels, then one after the other.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn pixels<C: Count, O: Output, const P: usize, const V: usize>(
    row: &Row,
    group: (&Group, *const u32),
    output: O,
) {
    let columns = row.columns;
    let mut x = 0;
    // SAFETY: the caller's; no pixel beyond the row's is made.
    unsafe {
        while x + P <= columns {
            tile::<C, O, P, V>(row, group, output, x);
            x += P;
        }
        while x < columns {
            tile::<C, O, 1, V>(row, group, output, x);
            x += 1;
        }
    }
}

/// All groups of vectors of a row, in tiles of so many pixels.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn groups<C: Count, O: Output>(row: &Row, pixels_of_tile: usize, output: O) {
    let mut weights = row.weights;
    for group in row.groups {
        let of = (group, weights);
        // SAFETY: the caller's; groups follow each other.
        unsafe {
            if C::Sums::WIDE {
                match (pixels_of_tile, group.vectors) {
                    (_, 4) => pixels::<C, O, 4, 4>(row, of, output),
                    (4, 2) => pixels::<C, O, 4, 2>(row, of, output),
                    (4, _) => pixels::<C, O, 4, 1>(row, of, output),
                    (_, 2) => pixels::<C, O, 8, 2>(row, of, output),
                    (8, _) => pixels::<C, O, 8, 1>(row, of, output),
                    _ => pixels::<C, O, 16, 1>(row, of, output),
                }
            } else {
                match (pixels_of_tile, group.vectors) {
                    (_, 4) => pixels::<C, O, 1, 4>(row, of, output),
                    (1, 2) => pixels::<C, O, 1, 2>(row, of, output),
                    (1, _) => pixels::<C, O, 1, 1>(row, of, output),
                    (_, 2) => pixels::<C, O, 2, 2>(row, of, output),
                    (2, _) => pixels::<C, O, 2, 1>(row, of, output),
                    _ => pixels::<C, O, 4, 1>(row, of, output),
                }
            }
            weights = weights.add(row.convolution.words * group.vectors * LANES);
        }
    }
}

/// # Safety
/// As of [`tile`]; the image is one of the convolution's, and has the row.
#[inline(always)]
unsafe fn row<C: Count, O: Output>(
    convolution: &BinaryConvolution,
    image: &[u8],
    row: usize,
    windows: &mut [u32],
    output: O,
) {
    let shape = &convolution.shape;
    let [_, row_step, _] = bits::steps(shape);
    let class = convolution.classes[0][row] * convolution.column_classes;
    let mut weights = convolution.weights.as_ptr();
    for part in &convolution.parts {
        // The vectors of a tile fill the registers that sums have.
        let vectors = part.groups[0].vectors;
        let pixels_of_tile = if C::Sums::WIDE {
            16 / vectors
        } else {
            4 / vectors
        };
        // SAFETY: the caller's.
        unsafe {
            let image = image.as_ptr().add(row * row_step);
            gather(convolution, &part.pieces, image, windows);
            let row = &Row {
                convolution,
                groups: &part.groups,
                columns: convolution.output[1],
                weights,
                bias: convolution.bias.as_ptr().add(class * shape.sums()),
                windows,
            };
            groups::<C, O>(row, pixels_of_tile, output);
            let vectors: usize = part.groups.iter().map(|group| group.vectors).sum();
            weights = weights.add(vectors * convolution.words * LANES);
        }
    }
}

/// The row, compiled for one instruction set. It may only be called where the CPU has it.
macro_rules! compiled {
    ($row:ident, $count:ty $(, $arch:literal, $features:literal)?) => {
        $(#[cfg(target_arch = $arch)]
        #[target_feature(enable = $features)])?
        pub(super) unsafe fn $row<O: Output>(
            convolution: &BinaryConvolution,
            image: &[u8],
            number: usize,
            windows: &mut [u32],
            output: O,
        ) {
            // SAFETY: the caller's, and this function is compiled for the instructions.
            unsafe { row::<$count, O>(convolution, image, number, windows, output) }
        }
    };
}

compiled!(
    row_vpopcnt,
    Vpopcnt,
    "x86_64",
    "avx512f,avx512bw,avx512vpopcntdq"
);
compiled!(row_avx512, Nibbles512, "x86_64", "avx512f,avx512bw");
compiled!(row_avx2, Nibbles256, "x86_64", "avx2");
#[cfg(not(target_arch = "aarch64"))]
compiled!(row_portable, Ones);
compiled!(row_neon, Cnt, "aarch64", "neon");
