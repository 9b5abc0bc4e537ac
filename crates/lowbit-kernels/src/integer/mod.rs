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
mod quads;
mod sums;
mod tile;

pub use finish::{Finish, LEVELS};
pub use narrow::Narrow;

use crate::peak;
use crate::vector::{self, Isa};
use output::{Finished, Kept, Output};
use quads::WEIGHTS;
use sums::LANES;
use tile::Group;

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
    weights: Vec<i8>,
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
        assert_eq!(bias.len(), shape.outputs);
        shape.check();
        let [inputs, outputs] = [shape.inputs, shape.outputs].map(|n| n / shape.groups);
        let groups = tile::groups(&shape);
        let packed = |output: usize, channel: usize, ky: usize, kx: usize| {
            let first = output / outputs * inputs;
            let there = output < shape.outputs && (first..first + inputs).contains(&channel);
            if there {
                weight(output, channel - first, ky, kx)
            } else {
                0
            }
        };
        let mut weights = Vec::new();
        for group in &groups {
            for (ky, kx) in taps(shape.kernel) {
                for quad in group.channels.clone().step_by(4) {
                    for lane in 0..group.vectors * LANES {
                        let output = group.first * LANES + lane;
                        weights.extend([0, 1, 2, 3].map(|j| packed(output, quad + j, ky, kx)));
                    }
                }
            }
        }
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
        let vectors = self
            .groups
            .iter()
            .map(|group| group.quads() * group.vectors);
        assert_eq!(self.weights.len(), vectors.sum::<usize>() * WEIGHTS);
        let start = row * shape.stride[0] * shape.image[1] * shape.pixel();
        let row = tile::Row {
            image: image[start..].as_ptr(),
            step: shape.stride[1] * shape.pixel(),
            columns,
            groups: &self.groups,
            weights: self.weights.as_ptr(),
            bias: bias.as_ptr(),
        };
        // SAFETY: the caller's. `new` has checked that the window fits the image and that no product
        // of the shape's sizes wraps; nobody changes the shape after. Lengths of image, weights and
        // bias have been compared with those products, and the row with the output's rows, so that
        // every window of it lies in the image.
        unsafe {
            match kind {
                #[cfg(target_arch = "x86_64")]
                Kind::Vnni => tile::row_vnni(row, output),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => tile::row_avx2(row, output),
                #[cfg(target_arch = "aarch64")]
                Kind::Dot => tile::row_dot(row, output),
                #[cfg(target_arch = "aarch64")]
                Kind::Neon => tile::row_neon(row, output),
                #[cfg(not(target_arch = "aarch64"))]
                Kind::Portable => tile::row_portable(row, output),
            }
        }
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
mod tests {
    use super::*;

    fn plain(shape: &Shape, image: &[u8], weights: &[i8], bias: &[i32], row: usize) -> Vec<i32> {
        let [_, columns] = shape.output();
        let [height, width] = shape.kernel;
        let [inputs, outputs] = [shape.inputs, shape.outputs].map(|n| n / shape.groups);
        let mut sums = Vec::new();
        for column in 0..columns {
            for (output, &bias) in bias.iter().enumerate() {
                let mut sum = bias;
                for (ky, kx) in taps(shape.kernel) {
                    let y = row * shape.stride[0] + ky * shape.dilation[0];
                    let x = column * shape.stride[1] + kx * shape.dilation[1];
                    for input in 0..inputs {
                        let pixel = (y * shape.image[1] + x) * shape.pixel();
                        let channel = output / outputs * inputs + input;
                        let weight = ((output * inputs + input) * height + ky) * width + kx;
                        let x = i32::from(image[pixel + channel]);
                        let product = x * i32::from(weights[weight]);
                        sum = sum.wrapping_add(product);
                    }
                }
                sums.push(sum);
            }
        }
        sums
    }

    /// Those that the CPU has.
    fn kinds() -> Vec<Kind> {
        let sets = Isa::ALL.iter().filter(|&&set| set <= Isa::detected());
        let mut kinds: Vec<Kind> = sets.map(|&set| kind_of(set)).collect();
        #[cfg(target_arch = "aarch64")]
        kinds.push(Kind::Neon);
        // AVX-512 without VNNI is AVX2 here.
        kinds.dedup();
        kinds
    }

    /// Numbers from 0 to `n - 1`.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = next.wrapping_add(1);
            (self.0 >> 33) as usize % n
        }

        /// A rounding of each kind that is not away from zero.
        fn narrow(&mut self, shift: u32) -> Narrow {
            let (half, nearest) = if shift == 0 {
                (0, 0)
            } else {
                (1 << (shift - 1), 1)
            };
            let (add, even) = [(0, 0), (half, 0), (half - nearest, nearest)][self.below(3)];
            let least = self.below(50) as i32 * 2 - 50;
            Narrow {
                shift,
                add,
                even,
                away: 0,
                zero: self.below(20) as i32 * 2,
                least,
                greatest: least + self.below(256) as i32,
            }
        }

        fn thresholds(&mut self, shape: &Shape) -> Vec<Vec<i32>> {
            let levels = 0..1 + self.below(LEVELS);
            let mut level = || {
                (0..shape.sums())
                    .map(|_| self.below(9_000) as i32 - 4_500)
                    .collect()
            };
            levels.map(|_| level()).collect()
        }

        /// Every size of tile, distance of pixels, and rest.
        fn shape(&mut self) -> Shape {
            let kernel = [0; 2].map(|_| 1 + self.below(3));
            let dilation = [0; 2].map(|_| 1 + self.below(2));
            let reach = [0, 1].map(|d| (kernel[d] - 1) * dilation[d] + 1);
            let groups = [1, 1, 1, 2, 3, 4, 16, 40][self.below(8)];
            let inputs = [3, 4, 16, 32, 64, 1 + self.below(70)][self.below(6)];
            let outputs = [10, 16, 32, 64, 112, 1 + self.below(150)][self.below(6)];
            let of_groups = |n: usize| n.div_ceil(groups) * groups;
            Shape {
                image: [reach[0] + self.below(3), reach[1] + self.below(40)],
                inputs: if self.below(4) == 0 {
                    groups
                } else {
                    of_groups(inputs)
                },
                outputs: if self.below(4) == 0 {
                    groups
                } else {
                    of_groups(outputs)
                },
                groups,
                kernel,
                stride: [0; 2].map(|_| 1 + self.below(2)),
                dilation,
            }
        }
    }

    /// In every fourth case sums of the greatest bytes, beyond 16 bits in pairs, and biases with which
    /// they are beyond 32.
    #[test]
    fn rows_are_those_of_plain_loops() {
        let mut random = Random(14);
        for case in 0..400 {
            let (shape, extreme) = (random.shape(), case % 4 == 0);
            let mut byte = |ends: [usize; 2]| match extreme {
                true => ends[random.below(2)] as u8,
                false => random.below(256) as u8,
            };
            let ([height, width], inputs) = (shape.kernel, shape.inputs / shape.groups);
            let image: Vec<u8> = (0..shape.bytes()).map(|_| byte([255, 255])).collect();
            let count = shape.outputs * inputs * height * width;
            let weights: Vec<i8> = (0..count).map(|_| byte([127, 128]) as i8).collect();
            let bias = (0..shape.outputs).map(|o| if extreme { i32::MAX } else { o as i32 });
            let bias: Vec<i32> = bias.collect();
            let place = |o: usize, i: usize, y: usize, x: usize| {
                ((o * inputs + i) * height + y) * width + x
            };
            let packed = Convolution::new(shape, |o, i, y, x| weights[place(o, i, y, x)], &bias);
            let [rows, columns] = shape.output();
            let row = random.below(rows);
            let expected = plain(&shape, &image, &weights, &bias, row);
            for kind in kinds() {
                let mut sums = vec![0; columns * shape.sums()];
                packed.row_by(kind, &image, row, &mut sums);
                let lines = sums.chunks(shape.sums());
                let sums = lines.flat_map(|line| &line[..shape.outputs]);
                assert!(sums.eq(&expected), "{kind:?} {shape:?}");
            }
        }
    }

    /// How many of a channel's thresholds a sum is not below.
    fn reached(thresholds: &[i32], shape: &Shape, channel: usize, sum: i32) -> u8 {
        let levels = thresholds.chunks(shape.sums());
        levels.filter(|level| sum >= level[channel]).count() as u8
    }

    /// Against [`Narrow`] of the sums: shifts, thresholds, and other bytes added to both.
    #[test]
    fn finished_rows_are_narrowed_sums() {
        let mut random = Random(15);
        for case in 0..300 {
            let shape = random.shape();
            let inputs = shape.inputs / shape.groups;
            let image: Vec<u8> = (0..shape.bytes())
                .map(|_| random.below(256) as u8)
                .collect();
            let few = (0..997).map(|_| random.below(256) as u8 as i8);
            let few: Vec<i8> = few.collect();
            let weight = |o: usize, i: usize, y: usize, x: usize| {
                few[(((o * inputs + i) * shape.kernel[0] + y) * shape.kernel[1] + x) % few.len()]
            };
            let [rows, columns] = shape.output();
            let row = random.below(rows);
            let shift = random.below(14) as u32;
            let narrow = random.narrow(shift);
            let reach = 1 << 24;
            let (finish, added) = Finish::shift(&narrow, reach).unwrap();
            let finish = match case % 3 {
                0 => Finish::levels(&random.thresholds(&shape)),
                _ => finish,
            };
            let added = if case % 3 == 0 { 0 } else { added };
            let packed = Convolution::new(shape, weight, &vec![added; shape.outputs]);
            let shift = random.below(6) as u32;
            let second = random.narrow(shift);
            let m = [0; 3].map(|_| random.below(80) as i32 - 40);
            let finish = match (case % 2, finish.clone().plus(m, 255, &second)) {
                (0, Some(finish)) => finish,
                _ => finish,
            };
            let count = columns * shape.outputs;
            let others = if finish.adds() { count } else { 0 };
            let other: Vec<u8> = (0..others).map(|_| random.below(256) as u8).collect();
            for kind in kinds() {
                let mut sums = vec![0; columns * shape.sums()];
                packed.row_by(kind, &image, row, &mut sums);
                let lines = sums.chunks(shape.sums());
                let sums: Vec<i32> = lines
                    .flat_map(|line| &line[..shape.outputs])
                    .copied()
                    .collect();
                let expected = sums.iter().enumerate().map(|(i, &sum)| {
                    let byte = match &finish.first {
                        finish::First::Shift(_) => narrow.apply(sum - added),
                        finish::First::Levels(all) => reached(all, &shape, i % shape.outputs, sum),
                    };
                    other.get(i).map_or(byte, |&b| {
                        second.apply(i32::from(byte) * m[0] + i32::from(b) * m[1] + m[2])
                    })
                });
                let expected: Vec<u8> = expected.collect();
                let mut bytes = vec![0; count];
                packed.finished_row_by(kind, &image, row, (&finish, &other), &mut bytes);
                assert!(bytes == expected, "{kind:?} {shape:?} {finish:?}");
            }
        }
    }

    /// 2^62 pixels of four bytes are 2^64, which is 0 of 64 bits; a window that reaches 2^63 * 2 + 1
    /// columns, which is 1, does not fit one column.
    #[test]
    fn sizes_that_wrap_are_refused() {
        let small = Shape {
            image: [1, 1],
            inputs: 1,
            outputs: 1,
            groups: 1,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
        };
        let image = [1 << 62, 1];
        let (kernel, dilation) = ([1, 3], [1, 1 << 63]);
        for shape in [
            Shape { image, ..small },
            Shape {
                kernel,
                dilation,
                ..small
            },
        ] {
            let packed = || Convolution::new(shape, |_, _, _, _| 1, &[0]);
            assert!(std::panic::catch_unwind(packed).is_err(), "{shape:?}");
        }
        let packed = Convolution::new(small, |_, _, _, _| 2, &[1]);
        let mut sums = [0; 16];
        packed.row(&[3, 0, 0, 0], 0, &mut sums);
        assert_eq!(sums[0], 7);
    }

    /// Against `i64` arithmetic in the definition's own words.
    #[test]
    fn narrowing_rounds_as_it_says() {
        for shift in [0, 1, 2, 7] {
            let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
            let nearest = i32::from(shift > 0);
            for sum in -3_000..3_000 {
                let x = f64::from(sum) / f64::from(1 << shift);
                for (add, even, away, rounded) in [
                    (0, 0, 0, x.floor()),
                    (half, 0, 0, (x + 0.5).floor()),
                    (half, 0, nearest, x.round()),
                    (half - nearest, nearest, 0, x.round_ties_even()),
                ] {
                    let narrow = Narrow {
                        shift,
                        add,
                        even,
                        away,
                        zero: 3,
                        least: -8,
                        greatest: 100,
                    };
                    let expected = (rounded as i32 + 3).clamp(-8, 100) + 8;
                    assert_eq!(i32::from(narrow.apply(sum)), expected, "{narrow:?} {sum}");
                }
            }
        }
    }
}
