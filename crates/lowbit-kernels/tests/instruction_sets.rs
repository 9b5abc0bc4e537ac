//! The same on every instruction set that this CPU has. In a file, and a process, of its own: what
//! kernels use is the same for a whole process.

mod plain;

use lowbit_formats::kernel;
use lowbit_kernels::Terms;
use lowbit_kernels::attention::{Scoring, Shape, Strided, attention, attention_backward};
use lowbit_kernels::conv;
use lowbit_kernels::cross_entropy::cross_entropy_backward;
use lowbit_kernels::matmul::{self, Matrices};
use lowbit_kernels::packing::RoundSlice;
use lowbit_kernels::row_norm::RowNorm;
use lowbit_kernels::smooth::{Gelu, GeluApproximate, Silu, Smooth};
use lowbit_kernels::softmax::{softmax, softmax_backward};
use lowbit_kernels::vector::{Isa, isa, use_at_most};
use plain::{Random, convolution, pooling, product};

#[test]
fn every_instruction_set_agrees_with_plain_loops() {
    for &set in Isa::ALL.iter().filter(|&&set| set <= Isa::detected()) {
        assert_eq!(use_at_most(set), set);
        assert_eq!(isa(), set);
        let mut random = Random(12);
        for _ in 0..2_000 {
            if let Some(shape) = convolution::shape(&mut random) {
                convolution::check(&shape, &mut random);
            }
            pooling::check(&pooling::adaptive(&mut random), &mut random);
        }
        for _ in 0..200 {
            product::check(&product::shape(&mut random), &mut random);
        }
    }
    // Numbers whose sums are rounded.
    let sets = Isa::ALL.iter().filter(|&&set| set <= Isa::detected());
    // And on every architecture; the numbers are what x86-64 made.
    let hashes = [
        (Terms::Numbers, 13_756_390_342_003_704_232),
        (Terms::Bfloat16, 16_104_693_695_619_581_553),
    ];
    for (terms, expected) in hashes {
        for &set in sets.clone() {
            assert_eq!(
                hash(&bits_of_sums(set, terms)),
                expected,
                "{set:?}, {terms:?}"
            );
        }
    }
    for &set in sets {
        let found = hash(&bits_of_attention(set));
        assert_eq!(found, 5_132_125_766_503_164_448, "{set:?}, attention");
    }
    let last = Isa::ALL[Isa::ALL.len() - 1];
    assert_eq!(use_at_most(last), Isa::detected());
}

/// The bits of attention, softmax and smooth functions with their gradients, and of what rows become.
fn bits_of_attention(set: Isa) -> Vec<u32> {
    assert_eq!(use_at_most(set), set);
    let mut random = Random(47);
    let mut numbers = |count: usize| -> Vec<f32> {
        let number = |_| (random.between(0, 1 << 24) as f32 - 8e6) * 2.3e-7;
        (0..count).map(number).collect()
    };
    let mut bits = Vec::new();
    for [queries, answers, features, shared] in [[1, 1, 1, 1], [5, 37, 20, 2], [140, 100, 64, 1]] {
        let shape = Shape {
            batch: 2,
            heads: 2 * shared,
            shared,
            queries,
            answers,
            features,
        };
        let [asks, key, value] = [(shape.heads, queries), (2, answers), (2, answers)]
            .map(|(heads, length)| (numbers(2 * heads * length * features), heads, length));
        let operands = [&asks, &key, &value].map(|(numbers, heads, length)| Strided {
            numbers,
            strides: [heads * length * features, length * features, features],
        });
        let round = |x: &[f32], to: &mut [f32]| {
            kernel::map(x, to, |x: f32| (x * 256.0).round_ties_even() / 256.0);
        };
        for round in [None, Some(&round as RoundSlice<'_>)] {
            let scoring = Scoring {
                scale: 0.3,
                added: None,
                round,
            };
            let mut output = vec![0.0; 2 * queries * shape.heads * features];
            attention(&shape, operands, scoring, &mut output);
            bits.extend(output.iter().map(|number| number.to_bits()));
            let incoming = Strided {
                numbers: &output,
                strides: [
                    queries * shape.heads * features,
                    features,
                    shape.heads * features,
                ],
            };
            let mut gradients = [&asks, &key, &value].map(|(x, ..)| vec![0.0; x.len()]);
            let each = gradients.each_mut().map(|x| &mut x[..]);
            attention_backward(&shape, operands, scoring, incoming, each);
            let gradients = gradients.iter().flatten();
            bits.extend(gradients.map(|number| number.to_bits()));
        }
    }
    bits.extend(bits_of_rows(&mut numbers));
    let (x, mut y) = (numbers(37 * 50), numbers(37 * 50));
    let mut grad = y.clone();
    y.copy_from_slice(&x);
    softmax(&mut y, 37);
    softmax_backward(&y, &mut grad, 37);
    bits.extend(y.iter().chain(&grad).map(|number| number.to_bits()));
    let mut of_each = |f: &dyn Fn(&[f32], &mut [f32])| {
        f(&x, &mut y);
        bits.extend(y.iter().map(|number| number.to_bits()));
    };
    of_each(&|x, y| kernel::map(x, y, |x: f32| Gelu.of(4.0 * x)));
    of_each(&|x, y| kernel::map(x, y, |x: f32| Gelu.derivative(4.0 * x)));
    of_each(&|x, y| kernel::map(x, y, |x: f32| GeluApproximate.of(4.0 * x)));
    of_each(&|x, y| kernel::map(x, y, |x: f32| GeluApproximate.derivative(4.0 * x)));
    of_each(&|x, y| kernel::map(x, y, |x: f32| Silu.of(4.0 * x)));
    of_each(&|x, y| kernel::map(x, y, |x: f32| Silu.derivative(4.0 * x)));
    bits
}

/// The bits of products of matrices, normalized rows, losses of rows, and the gradients of the latter two.
fn bits_of_rows(numbers: &mut dyn FnMut(usize) -> Vec<f32>) -> Vec<u32> {
    let shape = matmul::Shape {
        matrices: 2,
        rows: 30,
        inner: 37,
        columns: 50,
    };
    let matrices = |numbers, [row, column]: [usize; 2]| Matrices {
        numbers,
        strides: [37 * if row == 1 { 30 } else { row }, row, column],
    };
    let (left, right) = (numbers(2 * 30 * 37), numbers(2 * 37 * 50));
    let mut y = vec![0.0; 2 * 30 * 50];
    let right = matrices(&right, [50, 1]);
    matmul::matmul(&shape, matrices(&left, [1, 30]), right, &mut y);
    let (gamma, beta) = (numbers(50), numbers(50));
    let mut made = y.clone();
    for centred in [true, false] {
        let norm = RowNorm {
            row: 50,
            epsilon: 1e-5,
            centred,
        };
        let (mut normalized, mut grad) = (y.clone(), y.clone());
        norm.forward(&y, &gamma, Some(&beta), &mut normalized);
        let given = norm.backward(&normalized, &gamma, &mut grad);
        made.extend([normalized, grad, given.gamma, given.beta].concat());
    }
    let targets: Vec<usize> = (0..60).map(|i| i * 7 % 50).collect();
    let mut grad = y.clone();
    cross_entropy_backward(&y, &targets, [0.1, 0.3], &mut grad);
    made.extend(grad);
    made.into_iter().map(f32::to_bits).collect()
}

/// FNV-1a of 64 bits, over the bytes of little-endian numbers.
fn hash(bits: &[u32]) -> u64 {
    let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The bits of convolutions of numbers of any kind and of their gradients.
fn bits_of_sums(set: Isa, terms: Terms) -> Vec<u32> {
    assert_eq!(use_at_most(set), set);
    let mut random = Random(31);
    let mut bits = Vec::new();
    for _ in 0..300 {
        let Some(shape) = convolution::shape(&mut random) else {
            continue;
        };
        let [inputs, outputs] = shape.channels;
        let mut numbers = |count: usize| -> Vec<f32> {
            let number = |_| (random.between(0, 1 << 24) as f32 - 8e6) * 1.3e-7;
            (0..count).map(number).collect()
        };
        let x = numbers(shape.batch * shape.input[0] * shape.input[1] * inputs);
        let weight = numbers(outputs * inputs * shape.kernel[0] * shape.kernel[1]);
        let mut y = numbers(shape.batch * shape.output[0] * shape.output[1] * outputs);
        let gradient = y.clone();
        conv::forward(
            &shape,
            [&x, &weight],
            None,
            [None; 2],
            terms,
            y.as_mut_slice().into(),
        );
        let mut to_input = x.clone();
        let wanted = conv::Wanted {
            input: Some(&mut to_input),
            weight: true,
            bias: true,
            terms,
        };
        let (to_weight, to_bias, _) =
            conv::backward(&shape, &x, &weight, &gradient, [None; 3], [None; 2], wanted);
        let all = [y, to_input, to_weight, to_bias];
        bits.extend(all.iter().flatten().map(|number| number.to_bits()));
    }
    bits
}
