//! Sums of products of bfloat16 against sums in f64.

use half::bf16;
use lowbit_kernels::Terms;
use lowbit_kernels::conv::{self, Wanted};
use lowbit_kernels::linear;

use crate::plain::{Random, convolution, product};

/// Numbers of several magnitudes.
fn numbers(random: &mut Random, count: usize) -> Vec<f32> {
    let number = |_| {
        let unit = random.between(0, 1 << 24) as f32 / (1 << 23) as f32 - 1.0;
        unit * 2f32.powi(random.between(0, 9) as i32 - 4)
    };
    (0..count).map(number).collect()
}

fn rounded(numbers: &[f32]) -> Vec<f64> {
    let round = |&x: &f32| f64::from(bf16::from_f32(x).to_f32());
    numbers.iter().map(round).collect()
}

/// Sums with their terms' magnitudes.
#[derive(Clone)]
struct Exact {
    sums: Vec<f64>,
    magnitudes: Vec<f64>,
    terms: Vec<usize>,
}

impl Exact {
    fn new(count: usize) -> Self {
        Self {
            sums: vec![0.0; count],
            magnitudes: vec![0.0; count],
            terms: vec![0; count],
        }
    }

    fn add(&mut self, at: usize, term: f64) {
        self.sums[at] += term;
        self.magnitudes[at] += term.abs();
        self.terms[at] += 1;
    }

    /// Each multiply-add rounds to 24 bits a sum that is at most that of the magnitudes.
    fn check(&self, made: &[f32], case: &str) {
        assert_eq!(made.len(), self.sums.len());
        for (i, &made) in made.iter().enumerate() {
            let bound = self.magnitudes[i] * (self.terms[i] + 1) as f64 * 0.5f64.powi(24);
            let error = (f64::from(made) - self.sums[i]).abs();
            assert!(
                error <= bound,
                "{case}: {i} is {made}, not {}",
                self.sums[i]
            );
        }
    }
}

#[test]
fn convolutions_are_those_of_rounded_numbers() {
    let mut random = Random(5);
    for _ in 0..1_000 {
        let Some(shape) = convolution::shape(&mut random) else {
            continue;
        };
        let [inputs, outputs] = shape.channels;
        let pixels = |size: [usize; 2]| shape.batch * size[0] * size[1];
        let x = numbers(&mut random, pixels(shape.input) * inputs);
        let weight = numbers(
            &mut random,
            outputs * inputs * shape.kernel[0] * shape.kernel[1],
        );
        let gradient = numbers(&mut random, pixels(shape.output) * outputs);
        let [rx, rw, rg] = [&x, &weight, &gradient].map(|numbers| rounded(numbers));
        let [mut y, mut dx, mut dw] = [gradient.len(), x.len(), weight.len()].map(Exact::new);
        convolution::each(&shape, |i, w, o| {
            y.add(o, rx[i] * rw[w]);
            dx.add(i, rg[o] * rw[w]);
            dw.add(w, rg[o] * rx[i]);
        });
        let case = format!("{shape:?}");
        let mut made = vec![f32::NAN; gradient.len()];
        let terms = Terms::Bfloat16;
        let output = made.as_mut_slice().into();
        conv::forward(&shape, [&x, &weight], None, [None; 2], terms, output);
        y.check(&made, &case);
        let mut made = vec![f32::NAN; x.len()];
        let wanted = Wanted {
            input: Some(&mut made),
            weight: true,
            bias: false,
            terms,
        };
        let (made_weight, ..) =
            conv::backward(&shape, &x, &weight, &gradient, [None; 3], [None; 2], wanted);
        dx.check(&made, &case);
        dw.check(&made_weight, &case);
    }
}

#[test]
fn products_are_those_of_rounded_numbers() {
    let mut random = Random(6);
    for _ in 0..200 {
        let shape = product::shape(&mut random);
        let [inputs, outputs] = shape.features;
        let x = numbers(&mut random, shape.rows * inputs);
        let weight = numbers(&mut random, inputs * outputs);
        let gradient = numbers(&mut random, shape.rows * outputs);
        let [rx, rw, rg] = [&x, &weight, &gradient].map(|numbers| rounded(numbers));
        let [mut y, mut dx, mut dw] = [gradient.len(), x.len(), weight.len()].map(Exact::new);
        for row in 0..shape.rows {
            for i in 0..inputs {
                for o in 0..outputs {
                    let [at_x, at_w, at_y] = [row * inputs + i, i * outputs + o, row * outputs + o];
                    y.add(at_y, rx[at_x] * rw[at_w]);
                    dx.add(at_x, rg[at_y] * rw[at_w]);
                    dw.add(at_w, rg[at_y] * rx[at_x]);
                }
            }
        }
        let case = format!("{shape:?}");
        let terms = Terms::Bfloat16;
        let mut made = vec![f32::NAN; gradient.len()];
        linear::forward(&shape, [&x, &weight], None, [None; 2], terms, &mut made);
        y.check(&made, &case);
        let [mut made_x, mut made_weight] = [x.len(), weight.len()].map(|n| vec![f32::NAN; n]);
        let wanted = linear::Wanted {
            input: Some(&mut made_x),
            weight: Some(&mut made_weight),
            bias: None,
            terms,
        };
        linear::backward(
            &shape,
            [&x, &weight, &gradient],
            [None; 3],
            [None; 2],
            wanted,
        );
        dx.check(&made_x, &case);
        dw.check(&made_weight, &case);
    }
}
