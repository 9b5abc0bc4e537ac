//! Convolutions and products whose weights are `h` or `-h`, an `h` for each output, and whose inputs
//! have one or two bits, by population count.
//!
//! With weights `w = h u`, `u` of -1 and 1, and inputs `x = t + s q`, `q` of 0 to `2^bits - 1`, a sum is
//!
//! ```text
//! sum of w x = h t (sum of u) + h s (sum of u q)
//! sum of u q = (2^bits - 1) (M - K) + sum over planes p of 2^p A_p
//! ```
//!
//! where `A_p` counts the elements of the window whose bit `p` of `q` is 1 and `u` is 1, or 0 and -1; `K`
//! are the elements, `M` those with `u = 1`. Only `A_p` depends on the image: bits packed into words,
//! `xor`, and a count of ones.
//!
//! What lies in the padding is zero. Where zero is among the inputs' numbers, the padding holds its
//! `q`. Where it is not (inputs of -1 and 1), the padding holds `q = 0`, which adds nothing to `u q`, and
//! the sum of `u` is made over those elements that lie in the image: a bias for each of the few cases of
//! rows and columns.

mod bits;
mod count;
mod tile;

use super::output::{Finished, Kept, Output};
use super::sums::LANES;
use super::{Finish, Shape, taps};
use crate::vector::{self, Isa};

/// The numbers of an image that is kept as bytes: `(byte - least) >> step` are 0 to `2^bits - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// The least byte.
    pub least: u8,
    /// The distance of neighbours is 2 to this.
    pub step: u32,
    /// 1 or 2.
    pub bits: usize,
}

/// An image within its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Rows and columns of the image.
    pub size: [usize; 2],
    /// Rows above and columns to the left of it.
    pub before: [usize; 2],
    /// The number that stands for zero, counted as bytes are.
    pub zero: i32,
    /// What bytes there are.
    pub codes: Codes,
}

impl Image {
    /// The code of zero, if it has one.
    fn zero_code(&self) -> Option<i32> {
        let (from_least, step) = (self.zero - i32::from(self.codes.least), self.codes.step);
        let code = from_least >> step;
        let is_code = code << step == from_least && (0..1 << self.codes.bits).contains(&code);
        is_code.then_some(code)
    }
}

/// Outputs that read the same channels.
#[derive(Debug, Clone)]
struct Part {
    /// Where a window's bits are.
    pieces: bits::Pieces,
    /// Vectors of outputs that a tile makes together, the widest first.
    groups: Vec<Group>,
}

/// Vectors of sums that a tile makes together.
#[derive(Debug, Clone)]
struct Group {
    first: usize,
    vectors: usize,
}

/// Weights in the order in which the tiles read them.
#[derive(Debug, Clone)]
pub struct BinaryConvolution {
    shape: Shape,
    /// Rows and columns of the output.
    output: [usize; 2],
    image: Image,
    /// Words of 32 bits of a window.
    words: usize,
    parts: Vec<Part>,
    /// Group after group, `[words][vectors][LANES]`: the bits of `u = -1`.
    weights: Vec<u32>,
    /// `h s` of each output, unless all of them are 1.
    factors: Option<Vec<i32>>,
    /// A bias of each output, up to whole vectors, for each class of rows and of columns.
    bias: Vec<i32>,
    /// The class of each row and column of the output.
    classes: [Vec<usize>; 2],
    /// How many classes of columns there are.
    column_classes: usize,
}

/// Biases of all classes that are kept, at most.
const BIASES: usize = 1 << 20;

impl BinaryConvolution {
    /// Packs `weight(output, input, row, column)`, inputs counted within the output's group, and a
    /// bias for each output. `None` if the weights of an output are not all of one magnitude above
    /// zero, if groups have outputs that do not fill vectors, or if windows at the image's borders
    /// differ so much that their biases would need too much room.
    ///
    /// # Panics
    ///
    /// If there is not a bias for each output, or the shape is none of
    /// [`Convolution::new`](super::Convolution::new)'s, or the image with what is before it does not
    /// fit the shape's.
    pub fn new(
        shape: Shape,
        image: Image,
        weight: impl Fn(usize, usize, usize, usize) -> i8,
        bias: &[i32],
    ) -> Option<Self> {
        shape.check();
        assert_eq!(bias.len(), shape.outputs);
        assert!((1..=2).contains(&image.codes.bits) && image.codes.step < 8);
        assert!((0..2).all(|d| image.before[d] + image.size[d] <= shape.image[d]));
        let of_group = shape.outputs / shape.groups;
        if shape.groups > 1 && !of_group.is_multiple_of(LANES) {
            return None;
        }
        let magnitudes = magnitudes(&shape, &weight)?;
        let classes = [0, 1].map(|d| Classes::of(&shape, &image, d));
        if classes[0].taps.len() * classes[1].taps.len() * shape.sums() > BIASES {
            return None;
        }
        let factors = magnitudes.iter().map(|h| h << image.codes.step);
        let mut factors: Vec<i32> = factors.collect();
        let bias = biases(&shape, &image, &classes, &weight, (bias, &factors));
        factors.resize(shape.sums(), 0);
        let all_one = factors[..shape.outputs].iter().all(|&factor| factor == 1);
        let parts: Vec<Part> = (0..shape.groups).map(|group| part(&shape, group)).collect();
        let words = shape.window_bits().div_ceil(32);
        let mut packed = Self {
            shape,
            output: shape.output(),
            image,
            words,
            weights: Vec::new(),
            parts,
            factors: (!all_one).then_some(factors),
            bias,
            column_classes: classes[1].taps.len(),
            classes: classes.map(|classes| classes.of_index),
        };
        packed.weights = packed.packed_weights(&weight);
        Some(packed)
    }

    /// The bits of weights below zero.
    fn packed_weights(&self, weight: impl Fn(usize, usize, usize, usize) -> i8) -> Vec<u32> {
        let shape = &self.shape;
        let order: Vec<[usize; 3]> = bits::order(shape).collect();
        let mut packed = Vec::new();
        for group in self.parts.iter().flat_map(|part| &part.groups) {
            for elements in order.chunks(32) {
                for lane in 0..group.vectors * LANES {
                    let output = group.first * LANES + lane;
                    let mut word = 0;
                    for (bit, &[i, ky, kx]) in elements.iter().enumerate() {
                        let below = output < shape.outputs && weight(output, i, ky, kx) < 0;
                        word |= u32::from(below) << bit;
                    }
                    packed.push(word);
                }
            }
        }
        packed
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Words of 32 bits that a row's windows need.
    pub fn scratch(&self) -> usize {
        self.output[1] * self.words * self.image.codes.bits
    }

    /// An image of bits that has its padding, to be filled by [`pack`](Self::pack).
    pub fn blank(&self) -> Vec<u8> {
        bits::blank(&self.shape, &self.image)
    }

    /// Packs bytes, channels last, between the padding.
    ///
    /// # Panics
    ///
    /// If there is not a byte for each channel of each pixel, or the image is not one of
    /// [`blank`](Self::blank).
    pub fn pack(&self, bytes: &[u8], image: &mut [u8]) {
        bits::pack(kind(), &self.shape, &self.image, bytes, image);
    }

    /// The sums of one row of the output, [`Shape::sums`] for each of its pixels.
    ///
    /// # Panics
    ///
    /// If the image is not one of [`blank`](Self::blank), the output has no such row, `sums` has another
    /// length, or `scratch` not that of [`scratch`](Self::scratch).
    pub fn row(&self, image: &[u8], row: usize, scratch: &mut [u32], sums: &mut [i32]) {
        self.row_by(kind(), image, row, scratch, sums);
    }

    fn row_by(&self, kind: Kind, image: &[u8], row: usize, scratch: &mut [u32], sums: &mut [i32]) {
        let shape = &self.shape;
        assert_eq!(sums.len(), self.output[1] * shape.sums());
        let output = Kept {
            sums: sums.as_mut_ptr(),
            step: shape.sums(),
        };
        // SAFETY: the caller says that the CPU has the instructions, and the sums are as many as those
        // of a row.
        unsafe { self.put_row(kind, image, row, scratch, output) }
    }

    /// The bytes of one row of the output, as
    /// [`Convolution::finished_row`](super::Convolution::finished_row) makes them of its sums.
    ///
    /// # Panics
    ///
    /// As there, and as of [`row`](Self::row).
    pub fn finished_row(
        &self,
        image: &[u8],
        row: usize,
        scratch: &mut [u32],
        (finish, other): (&Finish, &[u8]),
        bytes: &mut [u8],
    ) {
        let output = Finished::of(&self.shape, self.output[1], (finish, other), bytes);
        // SAFETY: the CPU has the instructions of `kind`, and `Finished::of` has compared the slices'
        // lengths with the shape's row.
        unsafe { self.put_row(kind(), image, row, scratch, output) }
    }

    /// # Safety
    ///
    /// The CPU has the instructions, and the output reaches as far as a row of the shape's.
    unsafe fn put_row<O: Output>(
        &self,
        kind: Kind,
        image: &[u8],
        row: usize,
        scratch: &mut [u32],
        output: O,
    ) {
        assert!(row < self.output[0]);
        assert_eq!(image.len(), bits::bytes(&self.shape, &self.image));
        assert_eq!(scratch.len(), self.scratch());
        // SAFETY: the caller's. Every window of the row lies in the image, whose length has been
        // compared with the shape's; `new` has made weights, factors and biases as the tiles read them.
        unsafe {
            match kind {
                #[cfg(target_arch = "x86_64")]
                Kind::Vpopcnt => tile::row_vpopcnt(self, image, row, scratch, output),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => tile::row_avx512(self, image, row, scratch, output),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => tile::row_avx2(self, image, row, scratch, output),
                #[cfg(target_arch = "aarch64")]
                Kind::Neon => tile::row_neon(self, image, row, scratch, output),
                #[cfg(not(target_arch = "aarch64"))]
                Kind::Portable => tile::row_portable(self, image, row, scratch, output),
            }
        }
    }
}

/// Whether counting bits is faster than multiplying bytes, in cycles of a vector of sixteen sums: two
/// for each word of each plane, and half of one for each piece of a window that is gathered for all
/// vectors together, two where pieces are no whole bytes; one for each product of four bytes.
pub fn pays(shape: &Shape, bits: usize) -> bool {
    let words = shape.window_bits().div_ceil(32);
    let pieces = bits::pieces(shape, 0);
    let halves = pieces.pieces.len() * if pieces.size == 0 { 4 } else { 1 };
    let vectors = (shape.outputs / shape.groups).div_ceil(LANES);
    let inputs = (shape.inputs / shape.groups).next_multiple_of(4);
    let quads = shape.kernel[0] * shape.kernel[1] * inputs / 4;
    bits * (2 * words + halves.div_ceil(2 * vectors)) < quads
}

/// The magnitude of each output's weights, if all of one are the same and above zero.
fn magnitudes(
    shape: &Shape,
    weight: &impl Fn(usize, usize, usize, usize) -> i8,
) -> Option<Vec<i32>> {
    let of_output = |output: usize| {
        let magnitude = weight(output, 0, 0, 0).unsigned_abs();
        let mut places = taps(shape.kernel);
        let inputs = shape.inputs / shape.groups;
        let same = places.all(|(ky, kx)| {
            (0..inputs).all(|i| weight(output, i, ky, kx).unsigned_abs() == magnitude)
        });
        (same && magnitude > 0).then_some(i32::from(magnitude))
    };
    (0..shape.outputs).map(of_output).collect()
}

/// Which elements of a window lie in the image, for each index of the output's rows or columns.
struct Classes {
    /// The class of each index.
    of_index: Vec<usize>,
    /// The elements of each class.
    taps: Vec<Vec<bool>>,
}

impl Classes {
    fn of(shape: &Shape, image: &Image, d: usize) -> Self {
        let inside = image.before[d]..image.before[d] + image.size[d];
        let padding_is_a_code = image.zero_code().is_some();
        let mut taps: Vec<Vec<bool>> = Vec::new();
        let of_index = (0..shape.output()[d]).map(|index| {
            let places = (0..shape.kernel[d]).map(|k| {
                let place = index * shape.stride[d] + k * shape.dilation[d];
                padding_is_a_code || inside.contains(&place)
            });
            let places: Vec<bool> = places.collect();
            let known = taps.iter().position(|known| *known == places);
            known.unwrap_or_else(|| {
                taps.push(places);
                taps.len() - 1
            })
        });
        let of_index = of_index.collect();
        Self { of_index, taps }
    }
}

/// `bias + h t (sum of u in the image) + h s (2^bits - 1) (M - K)` of each output, up to whole vectors,
/// for each class of rows and of columns; modulo 2^32, as all sums are.
fn biases(
    shape: &Shape,
    image: &Image,
    [rows, columns]: &[Classes; 2],
    weight: &impl Fn(usize, usize, usize, usize) -> i8,
    (bias, factors): (&[i32], &[i32]),
) -> Vec<i32> {
    let codes = image.codes;
    let least = i64::from(codes.least) - i64::from(image.zero);
    let inputs = shape.inputs / shape.groups;
    let mut all = Vec::new();
    // The sum of `u` and the elements below zero of each element of the window.
    let signs = |output: usize, ky: usize, kx: usize| -> i64 {
        let signs = (0..inputs).map(|i| i64::from(weight(output, i, ky, kx).signum()));
        signs.sum()
    };
    let signs: Vec<Vec<i64>> = (0..shape.outputs)
        .map(|o| {
            taps(shape.kernel)
                .map(|(ky, kx)| signs(o, ky, kx))
                .collect()
        })
        .collect();
    for row_taps in &rows.taps {
        for column_taps in &columns.taps {
            for output in 0..shape.sums() {
                if output >= shape.outputs {
                    all.push(0);
                    continue;
                }
                let elements = taps(shape.kernel).zip(&signs[output]);
                let inside = elements.filter(|((ky, kx), _)| row_taps[*ky] && column_taps[*kx]);
                let in_image: i64 = inside.map(|(_, sign)| sign).sum();
                let elements = (shape.kernel[0] * shape.kernel[1] * inputs) as i64;
                // M - K = (sum of u + K) / 2 - K.
                let below = (signs[output].iter().sum::<i64>() - elements) / 2;
                let factor = i64::from(factors[output]);
                let h = factor >> codes.step;
                let planes = (1i64 << codes.bits) - 1;
                let sum = i64::from(bias[output])
                    .wrapping_add(h.wrapping_mul(least).wrapping_mul(in_image))
                    .wrapping_add(factor.wrapping_mul(planes).wrapping_mul(below));
                all.push(sum as i32);
            }
        }
    }
    all
}

/// The outputs of a group of the convolution.
fn part(shape: &Shape, group: usize) -> Part {
    let vectors = shape.sums() / LANES / shape.groups;
    let first = group * vectors;
    let mut groups = Vec::new();
    let mut done = 0;
    while done < vectors {
        let together = match vectors - done {
            4.. => 4,
            2..=3 => 2,
            _ => 1,
        };
        groups.push(Group {
            first: first + done,
            vectors: together,
        });
        done += together;
    }
    Part {
        pieces: bits::pieces(shape, group),
        groups,
    }
}

/// Which instructions count bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `vpopcntd` of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Vpopcnt,
    /// A table of nibbles in AVX-512's `vpshufb`.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same in AVX2's.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `cnt` of NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain loops.
    #[cfg(not(target_arch = "aarch64"))]
    Portable,
}

/// Those in use: the widest that the CPU has, within the instruction set in use.
fn kind() -> Kind {
    match vector::isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if is_x86_feature_detected!("avx512vpopcntdq") => Kind::Vpopcnt,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Kind::Avx512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Kind::Avx2,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Kind::Neon,
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Portable => Kind::Portable,
    }
}

#[cfg(test)]
mod tests;
