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
pub(super) fn kinds() -> Vec<Kind> {
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
        let place =
            |o: usize, i: usize, y: usize, x: usize| ((o * inputs + i) * height + y) * width + x;
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

/// One window, weights of four bits two in a byte: all sizes of groups, runs of odd and of even length.
#[test]
fn weights_of_four_bits_are_those_of_eight() {
    let mut random = Random(16);
    for case in 0..300 {
        let mut shape = random.shape();
        shape.image = [0, 1].map(|d| (shape.kernel[d] - 1) * shape.dilation[d] + 1);
        let inputs = shape.inputs / shape.groups;
        let image: Vec<u8> = (0..shape.bytes())
            .map(|_| random.below(256) as u8)
            .collect();
        let weights: Vec<i8> = (0..997).map(|_| random.below(16) as i8 - 8).collect();
        let weight = |o: usize, i: usize, y: usize, x: usize| {
            let place = ((o * inputs + i) * shape.kernel[0] + y) * shape.kernel[1] + x;
            weights[place % weights.len()]
        };
        let bias: Vec<i32> = (0..shape.outputs as i32).map(|o| o - 7).collect();
        let [bytes, nibbles] =
            [usize::MAX, 0].map(|many| Convolution::packed(shape, weight, &bias, many));
        assert!(matches!(nibbles.weights, Weights::Nibbles(_)), "{case}");
        for kind in kinds() {
            let [expected, sums] = [&bytes, &nibbles].map(|packed| {
                let mut sums = vec![0; shape.sums()];
                packed.row_by(kind, &image, 0, &mut sums);
                sums
            });
            assert_eq!(sums, expected, "{kind:?} {shape:?}");
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
