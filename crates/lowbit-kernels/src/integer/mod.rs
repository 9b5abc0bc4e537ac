//! Convolutions and products of bytes: inputs of 8 bits without sign, weights of 8 bits with sign,
//! sums in `i32`, and sums brought to bytes again by a shift.
//!
//! Signed inputs are stored with an offset that makes their least number zero; what it adds to each
//! sum is a constant, which the bias takes back. Everything is exact modulo 2^32, so that a sum that
//! fits 32 bits is right whatever its partial sums are, in any order, on any instruction set:
//!
//! - AVX-512 VNNI: `vpdpbusd`, 64 products an instruction;
//! - AVX2: bytes widened to 16 bits and `vpmaddwd`, since `vpmaddubsw` saturates;
//! - NEON: `sdot` where the CPU has it, with inputs counted from 128; else bytes widened to 16 bits;
//! - elsewhere plain loops.
//!
//! Bytes are stored channels last and in fours, so that four channels of a pixel are one number to
//! the instructions; sums lie pixel after pixel, channels padded to whole vectors.

// Vector instructions of the CPU, each called where the CPU has been asked for it, on pointers into
// slices whose lengths are checked first.
#![allow(unsafe_code)]

pub mod binary;
mod finish;
mod narrow;
mod output;
mod products;
mod quads;
mod requantize;
mod sums;
mod tile;
mod weights;

pub use finish::{Finish, LEVELS};
pub use narrow::Narrow;
pub use products::Products;
pub use requantize::{
    Arithmetic, Limits, Number, Requantization, Rounding, Scales, add_pixels, sums_of,
};

use crate::peak;
use crate::vector::{self, Isa};
use output::{Finished, Kept, Output};
use quads::WEIGHTS;
use sums::LANES;
use tile::Group;
use weights::Weights;

/// A convolution's shape over an image that has its padding: rows, columns, and channels in fours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows and columns of the padded image.
    pub image: [usize; 2],
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// In how many groups channels fall: each output reads the inputs of its group. It divides both.
    pub groups: usize,
    /// The window's rows and columns.
    pub kernel: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// From one element of a window to the next.
    pub dilation: [usize; 2],
}

impl Shape {
    /// Bytes of a pixel: the channels, up to a multiple of four.
    pub fn pixel(&self) -> usize {
        self.inputs.next_multiple_of(4)
    }

    /// Bytes of the padded image.
    pub fn bytes(&self) -> usize {
        self.image[0] * self.image[1] * self.pixel()
    }

    /// Rows and columns of the output. The window fits the image.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|d| {
            let reach = self.dilation[d] * (self.kernel[d] - 1) + 1;
            (self.image[d] - reach) / self.stride[d] + 1
        })
    }

    /// Sums of a pixel: the output channels, up to whole vectors.
    pub fn sums(&self) -> usize {
        self.outputs.next_multiple_of(LANES)
    }

    /// Bits of a window, each input one.
    fn window_bits(&self) -> usize {
        self.inputs / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// # Panics
    ///
    /// If a size is zero, the window does not fit the image, the image, the weights or a row of sums
    /// would have more bytes than memory can, or the channels do not fall into the groups.
    fn check(&self) {
        let sizes = [self.image, self.kernel, self.stride, self.dilation];
        assert!(sizes.as_flattened().iter().all(|&size| size > 0));
        assert!(self.inputs > 0 && self.outputs > 0);
        assert!(
            self.fits(),
            "the window does not fit the image, or the image no memory"
        );
        let divides = |n: usize| self.groups > 0 && n.is_multiple_of(self.groups);
        assert!(divides(self.inputs) && divides(self.outputs));
    }

    /// Whether the window fits the image, and the bytes of the image, of the weights, of the sums of a
    /// row and of a step from window to window are numbers of `isize`: then none of the products
    /// above and none of the kernels' offsets wraps.
    fn fits(&self) -> bool {
        let fits = |sizes: &[usize]| {
            let bytes = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            bytes.is_some_and(|n| isize::try_from(n).is_ok())
        };
        let reaches = |d: usize| {
            let reach = self.dilation[d].checked_mul(self.kernel[d] - 1);
            reach.is_some_and(|reach| reach < self.image[d])
        };
        let pixel = self.inputs.checked_next_multiple_of(4);
        let sums = self.outputs.checked_next_multiple_of(LANES);
        let (Some(pixel), Some(sums)) = (pixel, sums) else {
            return false;
        };
        let [rows, columns] = self.image;
        reaches(0)
            && reaches(1)
            && fits(&[rows, columns, pixel])
            && fits(&[self.stride[1], pixel])
            && fits(&[self.kernel[0], self.kernel[1], pixel, sums])
            && fits(&[columns, sums, size_of::<i32>()])
    }
}

/// Weights in the order in which the tiles read them.
#[derive(Debug, Clone)]
pub struct Convolution {
    shape: Shape,
    /// Rows and columns of the output.
    output: [usize; 2],
    groups: Vec<Group>,
    weights: Weights,
    /// Of inputs as they are.
    bias: Vec<i32>,
    /// Of inputs that are counted from 128.
    bias_from_128: Vec<i32>,
}

impl Convolution {
    /// Packs `weight(output, input, row, column)`, inputs counted within the output's group, and a
    /// bias for each output.
    ///
    /// # Panics
    ///
    /// If there is not a bias for each output, a size is zero, the window does not fit the image, the
    /// image, the weights or a row of sums would have more bytes than memory can, or the channels do
    /// not fall into the groups.
    pub fn new(
        shape: Shape,
        weight: impl Fn(usize, usize, usize, usize) -> i8,
        bias: &[i32],
    ) -> Self {
        Self::packed(shape, weight, bias, weights::MANY)
    }

    /// The same, with weights of four bits two in a byte from so many bytes on.
    fn packed(
        shape: Shape,
        weight: impl Fn(usize, usize, usize, usize) -> i8,
        bias: &[i32],
        many: usize,
    ) -> Self {
        assert_eq!(bias.len(), shape.outputs);
        shape.check();
        let inputs = shape.inputs / shape.groups;
        let groups = tile::groups(&shape);
        let weights = Weights::of(&shape, &groups, &weight, many);
        let mut padded = bias.to_vec();
        padded.resize(shape.sums(), 0);
        let of_128 = bias.iter().enumerate().map(|(output, &bias)| {
            let weights = taps(shape.kernel).flat_map(|(ky, kx)| {
                let weight = &weight;
                (0..inputs).map(move |i| i32::from(weight(output, i, ky, kx)))
            });
            weights.fold(bias, |sum, weight| {
                sum.wrapping_add(weight.wrapping_mul(128))
            })
        });
        let mut bias_from_128: Vec<i32> = of_128.collect();
        bias_from_128.resize(shape.sums(), 0);
        Self {
            shape,
            output: shape.output(),
            groups,
            weights,
            bias: padded,
            bias_from_128,
        }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sums of one row of the output, [`Shape::sums`] for each of its pixels.
    ///
    /// # Panics
    ///
    /// If the image has not [`Shape::bytes`] bytes, the output no such row, or `sums` another length.
    pub fn row(&self, image: &[u8], row: usize, sums: &mut [i32]) {
        self.row_by(kind(), image, row, sums);
    }

    /// The same with instructions that the CPU has.
    fn row_by(&self, kind: Kind, image: &[u8], row: usize, sums: &mut [i32]) {
        let shape = &self.shape;
        assert_eq!(sums.len(), self.output[1] * shape.sums());
        let output = Kept {
            sums: sums.as_mut_ptr(),
            step: shape.sums(),
        };
        // SAFETY: the caller says that the CPU has the instructions, and the sums are as many as those
        // of a row.
        unsafe { self.put_row(kind, image, row, output) }
    }

    /// The bytes of one row of the output, as many for each of its pixels as there are outputs, and
    /// bytes in the same order that are added to them; none if nothing is added.
    ///
    /// # Panics
    ///
    /// If the image has not [`Shape::bytes`] bytes, the output no such row, `bytes` or `other` another
    /// length, or there are not thresholds for [`Shape::sums`] channels.
    pub fn finished_row(
        &self,
        image: &[u8],
        row: usize,
        finish: &Finish,
        other: &[u8],
        bytes: &mut [u8],
    ) {
        self.finished_row_by(kind(), image, row, (finish, other), bytes);
    }

    /// The same with instructions that the CPU has.
    fn finished_row_by(
        &self,
        kind: Kind,
        image: &[u8],
        row: usize,
        (finish, other): (&Finish, &[u8]),
        bytes: &mut [u8],
    ) {
        let output = Finished::of(&self.shape, self.output[1], (finish, other), bytes);
        // SAFETY: the caller says that the CPU has the instructions, and `Finished::of` has compared
        // the slices' lengths with the shape's row.
        unsafe { self.put_row(kind, image, row, output) }
    }

    /// # Safety
    ///
    /// The CPU has the instructions, and the output reaches as far as a row of the shape's.
    unsafe fn put_row<O: Output>(&self, kind: Kind, image: &[u8], row: usize, output: O) {
        let shape = &self.shape;
        let [rows, columns] = self.output;
        assert_eq!(image.len(), shape.bytes());
        assert!(row < rows);
        let bias = if kind.from() == 0 {
            &self.bias
        } else {
            &self.bias_from_128
        };
        assert_eq!(bias.len(), shape.sums());
        assert!(self.weights.are_of(&self.groups));
        let start = row * shape.stride[0] * shape.image[1] * shape.pixel();
        let row = tile::Row {
            image: image[start..].as_ptr(),
            step: shape.stride[1] * shape.pixel(),
            four: 4,
            columns,
            groups: &self.groups,
            weights: self.weights.start(),
            bias: bias.as_ptr(),
        };
        // SAFETY: the caller's. `new` has checked that the window fits the image and that no product
        // of the shape's sizes wraps; nobody changes the shape after. Lengths of image, weights and
        // bias have been compared with those products, and the row with the output's rows, so that
        // every window of it lies in the image.
        unsafe { tile::run(kind, row, output) }
    }
}

/// The elements of a window, row by row.
fn taps([rows, columns]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |ky| (0..columns).map(move |kx| (ky, kx)))
}

/// Which instructions multiply bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `vpdpbusd` of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// `vpmaddwd` of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `sdot` of NEON.
    #[cfg(target_arch = "aarch64")]
    Dot,
    /// `smull` of NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain loops.
    #[cfg(not(target_arch = "aarch64"))]
    Portable,
}

impl Kind {
    /// What is taken from each input before it is multiplied.
    fn from(self) -> u8 {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::Dot => 128,
            _ => 0,
        }
    }
}

/// Those in use: the widest that the CPU has, within the instruction set in use.
pub fn kind() -> Kind {
    kind_of(vector::isa())
}

/// Whether they multiply bytes faster than floats are multiplied.
pub fn is_faster_than_floats() -> bool {
    match kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Vnni => true,
        #[cfg(target_arch = "aarch64")]
        Kind::Dot => true,
        _ => false,
    }
}

/// Those of an instruction set that the CPU has.
fn kind_of(isa: Isa) -> Kind {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => Kind::Vnni,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => Kind::Avx2,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => Kind::Dot,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Kind::Neon,
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Portable => Kind::Portable,
    }
}

/// Products of bytes a second of all threads of the pool together, multiplications and additions as
/// one, in a loop that touches nothing but registers; the best of a few tries. What a share of the peak
/// refers to.
pub fn products_per_second() -> f64 {
    const ROUNDS: usize = 1_000_000;
    let kind = kind();
    // SAFETY: the instruction set is one that the CPU has.
    peak::most_per_second(ROUNDS * tile::PEAK_SUMS * WEIGHTS, || unsafe {
        match kind {
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni => tile::peak_vnni(ROUNDS),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => tile::peak_avx2(ROUNDS),
            #[cfg(target_arch = "aarch64")]
            Kind::Dot => tile::peak_dot(ROUNDS),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => tile::peak_neon(ROUNDS),
            #[cfg(not(target_arch = "aarch64"))]
            Kind::Portable => tile::peak_portable(ROUNDS),
        }
    })
}

#[cfg(test)]
mod tests;
