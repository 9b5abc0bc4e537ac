use super::*;
use crate::integer::Convolution;
use crate::vector::Isa;

/// Those that the CPU has.
fn kinds() -> Vec<Kind> {
    #[cfg(target_arch = "aarch64")]
    return vec![Kind::Neon];
    #[cfg(not(target_arch = "aarch64"))]
    {
        let mut kinds = vec![Kind::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if Isa::detected() >= Isa::Avx2 {
                kinds.push(Kind::Avx2);
            }
            if Isa::detected() >= Isa::Avx512 {
                kinds.push(Kind::Avx512);
                if is_x86_feature_detected!("avx512vpopcntdq") {
                    kinds.push(Kind::Vpopcnt);
                }
            }
        }
        kinds
    }
}

/// Numbers from 0 to `n - 1`.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1);
        (self.0 >> 33) as usize % n
    }

    /// Every size of tile and of rest, channels in whole words, in whole bytes, and in neither.
    fn shape(&mut self) -> Shape {
        let kernel = [0; 2].map(|_| 1 + self.below(3));
        let dilation = [0; 2].map(|_| 1 + self.below(2));
        let reach = [0, 1].map(|d| (kernel[d] - 1) * dilation[d] + 1);
        let groups = [1, 1, 1, 2, 3][self.below(5)];
        let inputs = [3, 8, 16, 32, 64, 300, 1 + self.below(90)][self.below(7)];
        let outputs = match groups {
            1 => [1, 10, 16, 32, 64, 80, 112, 1 + self.below(150)][self.below(8)],
            _ => groups * LANES * (1 + self.below(3)),
        };
        Shape {
            image: [reach[0] + self.below(4), reach[1] + self.below(40)],
            inputs: inputs.div_ceil(groups) * groups,
            outputs,
            groups,
            kernel,
            stride: [0; 2].map(|_| 1 + self.below(2)),
            dilation,
        }
    }

    /// A part of the shape's image, and codes of which zero is one, or is none.
    fn image(&mut self, shape: &Shape) -> Image {
        let before = shape.image.map(|size| self.below(size.min(3)));
        let size = [0, 1].map(|d| {
            let room = shape.image[d] - before[d];
            room - self.below(room.min(3))
        });
        let codes = Codes {
            least: self.below(4) as u8,
            step: self.below(3) as u32,
            bits: 1 + self.below(2),
        };
        let zero = i32::from(codes.least) + self.below(14) as i32 - 5;
        Image {
            size,
            before,
            zero,
            codes,
        }
    }
}

/// The image as the convolution of bytes has it, counted from `least`.
fn padded(shape: &Shape, image: &Image, bytes: &[u8], least: i32) -> Vec<u8> {
    let mut padded = vec![(image.zero - least) as u8; shape.bytes()];
    for (pixel, from) in bytes.chunks(shape.inputs).enumerate() {
        let [y, x] = [pixel / image.size[1], pixel % image.size[1]];
        let at = (y + image.before[0]) * shape.image[1] + x + image.before[1];
        for (to, from) in padded[at * shape.pixel()..].iter_mut().zip(from) {
            *to = (i32::from(*from) - least) as u8;
        }
    }
    padded
}

/// The convolution of bytes has the same sums; its own test compares it with plain loops. What lies in
/// the padding is multiplied with zero there, by an image whose bytes are counted from zero.
#[test]
fn rows_are_those_of_bytes() {
    let mut random = Random(16);
    for case in 0..400 {
        let shape = random.shape();
        let image = random.image(&shape);
        let inputs = shape.inputs / shape.groups;
        let most = if case % 3 == 0 { 1 } else { 127 };
        let magnitudes: Vec<i8> = (0..shape.outputs)
            .map(|_| 1 + random.below(most) as i8)
            .collect();
        let count = shape.outputs * inputs * shape.kernel[0] * shape.kernel[1];
        let signs: Vec<bool> = (0..count).map(|_| random.below(2) == 0).collect();
        let weight = |o: usize, i: usize, ky: usize, kx: usize| {
            let place = ((o * inputs + i) * shape.kernel[0] + ky) * shape.kernel[1] + kx;
            if signs[place] {
                magnitudes[o]
            } else {
                -magnitudes[o]
            }
        };
        let bias: Vec<i32> = (0..shape.outputs).map(|o| o as i32 - 7).collect();
        let binary = BinaryConvolution::new(shape, image, weight, &bias).unwrap();
        let codes = image.codes;
        let pixels = image.size[0] * image.size[1];
        let bytes: Vec<u8> = (0..pixels * shape.inputs)
            .map(|_| codes.least + ((random.below(1 << codes.bits) as u8) << codes.step))
            .collect();
        // Counted from the least of all numbers, zero included.
        let least = image.zero.min(codes.least.into());
        let padded = padded(&shape, &image, &bytes, least);
        let zero = image.zero - least;
        let from_zero = (0..shape.outputs).map(|o| {
            let weights = (0..inputs).flat_map(|i| taps(shape.kernel).map(move |k| (i, k)));
            let sum: i32 = weights
                .map(|(i, (ky, kx))| i32::from(weight(o, i, ky, kx)))
                .sum();
            bias[o] - zero * sum
        });
        let from_zero: Vec<i32> = from_zero.collect();
        let plain = Convolution::new(shape, weight, &from_zero);
        let [rows, columns] = shape.output();
        let row = random.below(rows);
        let mut expected = vec![0; columns * shape.sums()];
        plain.row(&padded, row, &mut expected);
        for kind in kinds() {
            let mut bits = binary.blank();
            bits::pack(kind, &shape, &image, &bytes, &mut bits);
            let mut scratch = vec![0; binary.scratch()];
            let mut sums = vec![0; columns * shape.sums()];
            binary.row_by(kind, &bits, row, &mut scratch, &mut sums);
            let lines = sums.chunks(shape.sums()).zip(expected.chunks(shape.sums()));
            for (sums, expected) in lines {
                let both = [sums, expected].map(|line| &line[..shape.outputs]);
                assert_eq!(both[0], both[1], "{kind:?} {shape:?} {image:?}");
            }
        }
    }
}

/// By hand: inputs 1 -1 1 within a padding of one zero on each side, weights 2 -2 2: -4 (without the
/// first), 6, -4.
#[test]
fn padding_is_zero_where_inputs_are_of_two_signs() {
    let shape = Shape {
        image: [1, 5],
        inputs: 1,
        outputs: 1,
        groups: 1,
        kernel: [1, 3],
        stride: [1, 1],
        dilation: [1, 1],
    };
    let image = Image {
        size: [1, 3],
        before: [0, 1],
        zero: 1,
        codes: Codes {
            least: 0,
            step: 1,
            bits: 1,
        },
    };
    let weight = |_: usize, _: usize, _: usize, kx: usize| if kx == 1 { -2 } else { 2 };
    let binary = BinaryConvolution::new(shape, image, weight, &[0]).unwrap();
    let mut bits = binary.blank();
    binary.pack(&[2, 0, 2], &mut bits);
    let mut sums = vec![0; 3 * shape.sums()];
    let mut scratch = vec![0; binary.scratch()];
    binary.row(&bits, 0, &mut scratch, &mut sums);
    assert_eq!([sums[0], sums[LANES], sums[2 * LANES]], [-4, 6, -4]);
}

/// Weights of two magnitudes in an output, and zeros, are none; nor are groups of single channels.
#[test]
fn what_is_not_binary_is_refused() {
    let shape = Shape {
        image: [3, 3],
        inputs: 2,
        outputs: 2,
        groups: 1,
        kernel: [2, 2],
        stride: [1, 1],
        dilation: [1, 1],
    };
    let image = Image {
        size: [3, 3],
        before: [0, 0],
        zero: 0,
        codes: Codes {
            least: 0,
            step: 0,
            bits: 1,
        },
    };
    let of = |shape: Shape, w: i8| {
        let weight = move |o: usize, i: usize, _: usize, _: usize| if o + i == 0 { w } else { 3 };
        BinaryConvolution::new(shape, image, weight, &[0; 2])
    };
    assert!(of(shape, -3).is_some());
    assert!(of(shape, 2).is_none());
    assert!(of(shape, 0).is_none());
    let groups = 2;
    assert!(of(Shape { groups, ..shape }, 3).is_none());
}
