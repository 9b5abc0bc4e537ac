//! The register tile: some pixels' windows by some vectors of outputs.
//!
//! The bits of a row's windows are gathered first, tile after tile: `[plane][word][pixel]`, so that a
//! word of weights meets the same word of all pixels at offsets that the compiler knows. What is
//! gathered once serves all outputs.

use super::bits::{self, Piece};
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
    /// Of the first group.
    weights: *const u32,
    /// Of the row's class.
    bias: *const i32,
    windows: &'a [u32],
}

/// Gathers the windows of a row in tiles of `pixels`, what is left one by one.
///
/// # Safety
/// The windows, `step` bytes apart from `image` on, lie in each of the planes, behind the last of which
/// eight bytes may be read.
#[inline(always)]
unsafe fn gather(
    convolution: &BinaryConvolution,
    pieces: &[Piece],
    image: *const u8,
    pixels: usize,
    windows: &mut [u32],
) {
    let columns = convolution.shape.output()[1];
    let whole = columns / pixels * pixels;
    // SAFETY: the caller's.
    unsafe {
        for first in (0..whole).step_by(pixels) {
            gather_tile(convolution, pieces, image, [first, pixels], windows);
        }
        for first in whole..columns {
            gather_tile(convolution, pieces, image, [first, 1], windows);
        }
    }
}

/// The windows of `pixels` pixels from `first` on.
///
/// # Safety
/// As of [`gather`].
#[inline(always)]
unsafe fn gather_tile(
    convolution: &BinaryConvolution,
    pieces: &[Piece],
    image: *const u8,
    [first, pixels]: [usize; 2],
    windows: &mut [u32],
) {
    let [step, _, plane] = bits::steps(&convolution.shape);
    let (words, planes) = (convolution.words, convolution.image.codes.bits);
    let are_words = pieces[0].bits == 32 && pieces[0].right == 0 && words == pieces.len();
    let tile = &mut windows[first * planes * words..][..pixels * planes * words];
    for (p, to) in tile.chunks_exact_mut(pixels * words).enumerate() {
        for i in 0..pixels {
            // SAFETY: the caller's.
            unsafe {
                let window = image.add(p * plane + (first + i) * step);
                if are_words {
                    whole_words(pieces, window, to, [i, pixels]);
                } else {
                    any_bits(pieces, window, to, [i, pixels]);
                }
            }
        }
    }
}

/// Words as they are.
///
/// # Safety
/// As of [`gather`].
#[inline(always)]
unsafe fn whole_words(pieces: &[Piece], window: *const u8, to: &mut [u32], [x, wide]: [usize; 2]) {
    for (piece, to) in pieces.iter().zip(to.chunks_exact_mut(wide)) {
        // SAFETY: the caller's.
        let word = unsafe { window.add(piece.byte).cast::<u32>().read_unaligned() };
        to[x] = u32::from_le(word);
    }
}

/// Bits of any number, one piece after the other.
///
/// # Safety
/// As of [`gather`].
#[inline(always)]
unsafe fn any_bits(pieces: &[Piece], window: *const u8, to: &mut [u32], [x, wide]: [usize; 2]) {
    let mut words = to.chunks_exact_mut(wide);
    // Fewer than 32 bits that have not been written.
    let (mut kept, mut filled) = (0u64, 0);
    for piece in pieces {
        // SAFETY: the caller's.
        let word = unsafe { window.add(piece.byte).cast::<u64>().read_unaligned() };
        let mut bits = u64::from_le(word) >> piece.right & (!0 >> (64 - piece.bits));
        let mut left = piece.bits;
        while filled + left >= 32 {
            if let Some(word) = words.next() {
                word[x] = (kept | bits << filled) as u32;
            }
            let taken = 32 - filled;
            bits >>= taken;
            left -= taken;
            (kept, filled) = (0, 0);
        }
        kept |= bits << filled;
        filled += left;
    }
    if let (Some(word), true) = (words.next(), filled > 0) {
        word[x] = kept as u32;
    }
}

/// The sums of `P` pixels from `x` on, `V` vectors of each.
///
/// # Safety
/// The contract of [`Count`] and of [`Output`]; weights and bias reach as far as the convolution says.
#[inline(always)]
unsafe fn tile<C: Count, O: Output, const P: usize, const V: usize>(
    row: &Row,
    (group, weights): (&Group, *const u32),
    output: O,
    x: usize,
) {
    let convolution = row.convolution;
    let (words, planes) = (convolution.words, convolution.image.codes.bits);
    let windows = &row.windows[x * planes * words..][..P * planes * words];
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[C::Sums::zero(); V]; P];
        for plane in (0..planes).rev() {
            let windows = windows.as_ptr().add(plane * words * P);
            add_plane::<C, P, V>(&mut sums, words, windows, weights);
            if plane > 0 {
                sums = sums.map(|sums| sums.map(|sum| sum.plus(sum)));
            }
        }
        let first = group.first * LANES;
        if let Some(factors) = &convolution.factors {
            for (v, factors) in (0..V).map(|v| (v, factors.as_ptr().add(first + v * LANES))) {
                let factors = C::Sums::load(factors);
                for sums in &mut sums {
                    sums[v] = sums[v].times(factors);
                }
            }
        }
        for (p, sums) in sums.iter_mut().enumerate() {
            let class = convolution.classes[1].as_ptr().add(x + p).read();
            let bias = row.bias.add(class * convolution.shape.sums() + first);
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = sum.plus(C::Sums::load(bias.add(v * LANES)));
            }
        }
        let place = Place {
            x,
            pixels: P,
            vector: group.first,
        };
        output.put(&sums, place);
    }
}

/// Adds what one plane's windows count.
///
/// # Safety
/// The contract of [`Count`]; windows of `P` pixels and weights of `V` vectors have so many words.
#[inline(always)]
unsafe fn add_plane<C: Count, const P: usize, const V: usize>(
    sums: &mut [[C::Sums; V]; P],
    words: usize,
    windows: *const u32,
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
                    let x = windows.add(k * P + p).read();
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
    let columns = row.convolution.shape.output()[1];
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
            gather(convolution, &part.pieces, image, pixels_of_tile, windows);
            let row = &Row {
                convolution,
                groups: &part.groups,
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
