//! Images of bits, and the bits of a window.
//!
//! An image is planes of bits, one after the other: `[plane][row][column]`, the channels of a pixel in
//! whole bytes. Behind the last plane lie a few bytes, so that eight may be read from any byte on.

use super::{Image, Kind};
use crate::integer::{Shape, taps};

/// Bytes behind the last plane.
const BEHIND: usize = 8;

/// Bits of a window, channels of one pixel, and where they go in its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Counted from the window's first byte.
    pub(super) byte: usize,
    /// Bits of the byte before the first.
    pub(super) right: u32,
    pub(super) bits: u32,
    /// The word that has the first of them, and the bits of it before that.
    pub(super) word: usize,
    pub(super) left: u32,
}

/// The bits of all windows, one piece after the other.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    /// Bytes of every piece, 1, 2 or 4, if all are whole integers of that size at multiples of it; else 0.
    pub(super) size: usize,
    pub(super) pieces: Vec<Piece>,
}

/// Bytes of a pixel of a plane.
fn pixel(shape: &Shape) -> usize {
    shape.inputs.div_ceil(8)
}

/// Bytes of a plane.
fn plane(shape: &Shape) -> usize {
    shape.image[0] * shape.image[1] * pixel(shape)
}

/// Bytes of an image.
pub(super) fn bytes(shape: &Shape, image: &Image) -> usize {
    image.codes.bits * plane(shape) + BEHIND
}

/// Bytes from one window of a row to the next, from a row's first window to the next row's, and of a
/// plane.
pub(super) fn steps(shape: &Shape) -> [usize; 3] {
    let (pixel, [rows, columns]) = (pixel(shape), shape.stride);
    let row = shape.image[1] * pixel;
    [columns * pixel, rows * row, plane(shape)]
}

/// Input, row and column of each bit of a window, in the order of the pieces.
pub(super) fn order(shape: &Shape) -> impl Iterator<Item = [usize; 3]> {
    let inputs = shape.inputs / shape.groups;
    taps(shape.kernel).flat_map(move |(ky, kx)| (0..inputs).map(move |i| [i, ky, kx]))
}

/// Where the bits of a window are, for one group of the channels.
pub(super) fn pieces(shape: &Shape, group: usize) -> Pieces {
    let (pixel, inputs) = (pixel(shape), shape.inputs / shape.groups);
    let of_32 = |size: &usize| (inputs * shape.groups).is_multiple_of(8 * size);
    let size = [4, 2, 1]
        .into_iter()
        .find(|size| of_32(size) && inputs.is_multiple_of(8 * size));
    let mut pieces = Vec::new();
    let mut done = 0;
    for (ky, kx) in taps(shape.kernel) {
        let [y, x] = [ky * shape.dilation[0], kx * shape.dilation[1]];
        let first = (y * shape.image[1] + x) * pixel * 8 + group * inputs;
        let mut taken = 0;
        while taken < inputs {
            let at = first + taken;
            // As many as fit the integer that is read; or a word and what is read of it.
            let most = size.map_or(32 - at % 8, |size| 8 * size);
            let bits = (inputs - taken).min(most);
            pieces.push(Piece {
                byte: at / 8,
                right: (at % 8) as u32,
                bits: bits as u32,
                word: done / 32,
                left: (done % 32) as u32,
            });
            taken += bits;
            done += bits;
        }
    }
    let size = size.unwrap_or(0);
    Pieces { size, pieces }
}

/// An image whose padding is zero.
pub(super) fn blank(shape: &Shape, image: &Image) -> Vec<u8> {
    let code = image.zero_code().unwrap_or(0);
    let mut bits = vec![0; bytes(shape, image)];
    for p in 0..image.codes.bits {
        if code >> p & 1 == 1 {
            let plane_bytes = plane(shape);
            for pixel in bits[p * plane_bytes..][..plane_bytes].chunks_exact_mut(pixel(shape)) {
                for (i, byte) in pixel.iter_mut().enumerate() {
                    let channels = (shape.inputs - i * 8).min(8);
                    *byte = (0xff_u16 >> (8 - channels)) as u8;
                }
            }
        }
    }
    bits
}

/// Packs bytes, channels last, between an image's padding.
pub(super) fn pack(kind: Kind, shape: &Shape, image: &Image, bytes: &[u8], bits: &mut [u8]) {
    let [rows, columns] = image.size;
    let channels = shape.inputs;
    assert_eq!(bytes.len(), rows * columns * channels);
    assert_eq!(bits.len(), self::bytes(shape, image));
    let (pixel, plane) = (pixel(shape), plane(shape));
    for p in 0..image.codes.bits {
        let codes = Plane {
            least: image.codes.least,
            bit: image.codes.step + p as u32,
        };
        for row in 0..rows {
            let from = &bytes[row * columns * channels..][..columns * channels];
            let at = (row + image.before[0]) * shape.image[1] + image.before[1];
            let to = &mut bits[p * plane + at * pixel..][..columns * pixel];
            if channels.is_multiple_of(8) {
                codes.pack(kind, from, to);
            } else {
                let pixels = from.chunks_exact(channels).zip(to.chunks_exact_mut(pixel));
                pixels.for_each(|(from, to)| codes.pack(Kind::PLAIN, from, to));
            }
        }
    }
}

impl Kind {
    /// What every CPU of the target has.
    #[cfg(not(target_arch = "aarch64"))]
    const PLAIN: Self = Self::Portable;
    #[cfg(target_arch = "aarch64")]
    const PLAIN: Self = Self::Neon;
}

/// Which bit of `byte - least` a plane has.
#[derive(Clone, Copy)]
struct Plane {
    least: u8,
    bit: u32,
}

impl Plane {
    /// A bit of each byte, eight in one.
    fn pack(self, kind: Kind, bytes: &[u8], bits: &mut [u8]) {
        assert_eq!(bytes.len().div_ceil(8), bits.len());
        // SAFETY: the CPU has the instructions of `kind`.
        #[cfg(target_arch = "x86_64")]
        let done = unsafe {
            match kind {
                Kind::Vpopcnt | Kind::Avx512 => x86::pack_avx512(self, bytes, bits),
                Kind::Avx2 => x86::pack_avx2(self, bytes, bits),
                Kind::Portable => 0,
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        let done = {
            let _ = kind;
            0
        };
        for (bytes, bits) in bytes[done..].chunks(8).zip(&mut bits[done / 8..]) {
            let code = |byte: u8| byte.wrapping_sub(self.least) >> self.bit & 1;
            *bits = match <[u8; 8]>::try_from(bytes) {
                // Bit `8 i` of the word goes to bit 56 + i by 2^(56 - 7 i); no two meet on the way.
                Ok(eight) => {
                    let ones = u64::from_le_bytes(eight.map(code));
                    (ones.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
                }
                Err(_) => {
                    let codes = bytes.iter().enumerate();
                    codes.fold(0, |bits, (i, &byte)| bits | code(byte) << i)
                }
            };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_cvtsi32_si128, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
        _mm256_sll_epi16, _mm256_sub_epi8, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_sub_epi8,
        _mm512_test_epi8_mask,
    };

    use super::Plane;

    /// Packs whole vectors and says how many bytes they are.
    ///
    /// # Safety
    /// The CPU has the instructions.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn pack_avx512(plane: Plane, bytes: &[u8], bits: &mut [u8]) -> usize {
        let least = _mm512_set1_epi8(plane.least as i8);
        let bit = _mm512_set1_epi8((1u8 << plane.bit) as i8);
        let (vectors, _) = bytes.as_chunks::<64>();
        let (words, _) = bits.as_chunks_mut::<8>();
        for (bytes, word) in vectors.iter().zip(words) {
            // SAFETY: a chunk has as many bytes as are read.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            let ones = _mm512_test_epi8_mask(_mm512_sub_epi8(bytes, least), bit);
            *word = ones.to_le_bytes();
        }
        bytes.len() / 64 * 64
    }

    /// As [`pack_avx512`].
    ///
    /// # Safety
    /// The CPU has the instructions.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn pack_avx2(plane: Plane, bytes: &[u8], bits: &mut [u8]) -> usize {
        let least = _mm256_set1_epi8(plane.least as i8);
        // The bit becomes the sign. Bits of a neighbour that come along are lower.
        let left = _mm_cvtsi32_si128(7 - plane.bit as i32);
        let (vectors, _) = bytes.as_chunks::<32>();
        let (words, _) = bits.as_chunks_mut::<4>();
        for (bytes, word) in vectors.iter().zip(words) {
            // SAFETY: a chunk has as many bytes as are read.
            let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let signs = _mm256_sll_epi16(_mm256_sub_epi8(bytes, least), left);
            *word = _mm256_movemask_epi8(signs).to_le_bytes();
        }
        bytes.len() / 32 * 32
    }
}
