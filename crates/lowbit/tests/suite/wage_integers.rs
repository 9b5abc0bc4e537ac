//! LeNet-5 trained by WAGE in integers alone: no number of this file has a point. From the paper (Wu et
//! al., arXiv 1802.04680, section 3), apart from the library's own program; random numbers are Philox's.
//!
//! Weights, biases, inputs and errors are counted in steps of 2^-7, sums and gradients in steps that no
//! result depends on, as everything that follows is brought to its largest magnitude.

use lowbit_formats::philox::Philox;

/// The largest integer of eight bits.
const LARGEST: i64 = 127;
/// Places after the point of eight bits.
const PLACES: u32 = 7;
/// Sums up to this magnitude are exact in any order where 24 bits are kept.
pub(crate) const EXACT: i64 = 1 << 24;

/// A layer with its weights, in the order of the library's parameters.
pub(crate) struct Layer {
    /// `[outputs, inputs, rows, columns]`, of a linear layer `[inputs, outputs]`.
    pub(crate) weight: Vec<i64>,
    pub(crate) dims: Vec<usize>,
    pub(crate) bias: Vec<i64>,
}

/// Two convolutions, each with a rectifier and pooled by two, and two linear layers.
pub(crate) struct LeNet {
    pub(crate) layers: Vec<Layer>,
}

/// What a step has made.
pub(crate) struct Step {
    /// What each layer read.
    pub(crate) inputs: Vec<Vec<i64>>,
    /// The sums of the last layer, in steps of 2^-(8 + log2 a).
    pub(crate) scores: Vec<i64>,
    /// The error that reached each layer's sums.
    pub(crate) errors: Vec<Vec<i64>>,
    /// Gradients of weights and biases, in turn.
    pub(crate) gradients: Vec<Vec<i64>>,
    /// The largest sum of magnitudes of products.
    pub(crate) largest: i64,
}

impl Layer {
    /// Products that a result sums.
    fn fan_in(&self) -> usize {
        match self.dims[..] {
            [inputs, _] => inputs,
            _ => self.dims[1..].iter().product(),
        }
    }

    /// `log2 a` of two bits: `a = max(2^round(log2(3/4 / sqrt(6 / n))), 1)`, the square of that quotient
    /// being `3 n / 32`, and `e` the rounded logarithm where it is from `2^(2e - 1)` to `2^(2e + 1)`.
    fn log2_a(&self) -> u32 {
        let squared = 3 * self.fan_in() as u128;
        (1..60)
            .take_while(|e| 32 << (2 * e - 1) <= squared)
            .last()
            .unwrap_or(0)
    }

    /// The weights of two bits, as multiples of a half over `a`.
    fn read(&self) -> Vec<i64> {
        let to_two_bits = |w: &i64| half_even(*w, PLACES - 1).clamp(-1, 1);
        self.weight.iter().map(to_two_bits).collect()
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }
}

/// `x / 2^places` to the nearest integer, of two the even one.
fn half_even(x: i64, places: u32) -> i64 {
    if places == 0 {
        return x;
    }
    let (below, rest, half) = (x >> places, x & ((1 << places) - 1), 1 << (places - 1));
    below + i64::from(rest > half || rest == half && below & 1 == 1)
}

/// The exponent of the power of two nearest in logarithm to the largest magnitude, if that is not zero.
fn nearest_power(values: &[i64]) -> Option<u32> {
    let largest = values.iter().map(|v| v.unsigned_abs()).max()?;
    let exponent = largest.checked_ilog2()?;
    // Beyond sqrt(2) times the power below.
    let square = u128::from(largest) * u128::from(largest);
    Some(exponent + u32::from(square > 1 << (2 * exponent + 1)))
}

/// An error brought to its largest magnitude, in eight bits.
fn shifted(values: &[i64]) -> Vec<i64> {
    let Some(power) = nearest_power(values) else {
        return values.to_vec();
    };
    let round = |v: i64| match power.checked_sub(PLACES) {
        Some(places) => half_even(v, places),
        None => v << (PLACES - power),
    };
    let rounded = values.iter().map(|v| round(*v).clamp(-LARGEST, LARGEST));
    rounded.collect()
}

/// Channels, rows and columns of images.
#[derive(Clone, Copy)]
struct Shape {
    channels: usize,
    rows: usize,
    columns: usize,
}

impl Shape {
    fn len(self) -> usize {
        self.channels * self.rows * self.columns
    }

    fn at(self, [channel, row, column]: [usize; 3]) -> usize {
        (channel * self.rows + row) * self.columns + column
    }
}

/// Every product of a convolution of an image: indices of input, weight and output.
fn products(layer: &Layer, input: Shape, mut each: impl FnMut(usize, usize, usize)) -> Shape {
    let [outputs, inputs, height, width] = layer.dims[..] else {
        panic!("a convolution");
    };
    let output = Shape {
        channels: outputs,
        rows: input.rows + 1 - height,
        columns: input.columns + 1 - width,
    };
    for o in 0..outputs {
        for i in 0..inputs {
            for (r, c) in (0..height).flat_map(|r| (0..width).map(move |c| (r, c))) {
                let w = ((o * inputs + i) * height + r) * width + c;
                for row in 0..output.rows {
                    let x = input.at([i, row + r, c]);
                    let y = output.at([o, row, 0]);
                    (0..output.columns).for_each(|k| each(x + k, w, y + k));
                }
            }
        }
    }
    output
}

/// Sums, with the largest sum of magnitudes that any of them has.
struct Sums {
    values: Vec<i64>,
    magnitudes: Vec<i64>,
}

impl Sums {
    fn new(count: usize) -> Self {
        Self {
            values: vec![0; count],
            magnitudes: vec![0; count],
        }
    }

    fn add(&mut self, at: usize, product: i64) {
        self.values[at] += product;
        self.magnitudes[at] += product.abs();
    }

    fn finish(self, largest: &mut i64) -> Vec<i64> {
        let most = self.magnitudes.into_iter().max().unwrap_or(0);
        *largest = most.max(*largest);
        self.values
    }
}

/// What a convolution has made of a batch, rectified and pooled.
struct Pooled {
    sums: Vec<i64>,
    of_sums: Shape,
    pooled: Vec<i64>,
    shape: Shape,
}

/// The first of the greatest of the four numbers under a pooled one.
fn under(x: &[i64], shape: Shape, [channel, row, column]: [usize; 3]) -> usize {
    let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let places = four.map(|(r, c)| shape.at([channel, 2 * row + r, 2 * column + c]));
    let greatest = places.iter().map(|at| x[*at]).max();
    *places.iter().find(|at| Some(x[**at]) == greatest).unwrap()
}

fn convolved(layer: &Layer, images: &[i64], input: Shape, largest: &mut i64) -> Pooled {
    let (weight, log2_a) = (layer.read(), layer.log2_a());
    let mut made = Pooled {
        sums: Vec::new(),
        of_sums: input,
        pooled: Vec::new(),
        shape: input,
    };
    for image in images.chunks(input.len()) {
        let size = layer.outputs() * input.rows * input.columns;
        let mut sums = Sums::new(size);
        let shape = products(layer, input, |x, w, y| sums.add(y, image[x] * weight[w]));
        for (o, bias) in layer.bias.iter().enumerate() {
            let plane = shape.rows * shape.columns;
            (0..plane).for_each(|k| sums.add(o * plane + k, bias << (1 + log2_a)));
        }
        let mut sums = sums.finish(largest);
        sums.truncate(shape.len());
        let rectified: Vec<i64> = sums.iter().map(|x| *x.max(&0)).collect();
        let pooled = Shape {
            rows: shape.rows / 2,
            columns: shape.columns / 2,
            ..shape
        };
        for channel in 0..pooled.channels {
            for (r, c) in places(pooled) {
                let at = under(&rectified, shape, [channel, r, c]);
                made.pooled.push(rectified[at]);
            }
        }
        made.sums.extend(sums);
        (made.of_sums, made.shape) = (shape, pooled);
    }
    made
}

fn places(shape: Shape) -> impl Iterator<Item = (usize, usize)> {
    (0..shape.rows).flat_map(move |r| (0..shape.columns).map(move |c| (r, c)))
}

impl Pooled {
    /// The error of the sums, from that of what was handed on.
    fn error(&self, handed_on: &[i64]) -> Vec<i64> {
        let mut error = vec![0; self.sums.len()];
        let images = self.sums.chunks(self.of_sums.len());
        let images = images.zip(error.chunks_mut(self.of_sums.len()));
        for ((sums, error), from) in images.zip(handed_on.chunks(self.shape.len())) {
            let rectified: Vec<i64> = sums.iter().map(|x| *x.max(&0)).collect();
            for channel in 0..self.shape.channels {
                for (r, c) in places(self.shape) {
                    let at = under(&rectified, self.of_sums, [channel, r, c]);
                    if sums[at] > 0 {
                        error[at] += from[self.shape.at([channel, r, c])];
                    }
                }
            }
        }
        error
    }
}

/// What a layer reads of sums over a layer with this `log2 a`: eight bits.
fn read(sums: &[i64], log2_a: u32) -> Vec<i64> {
    let round = |x: &i64| half_even(*x, 1 + log2_a).clamp(-LARGEST, LARGEST);
    sums.iter().map(round).collect()
}

/// The error of those sums: zero where they were clipped.
fn passed(error: &[i64], sums: &[i64], log2_a: u32) -> Vec<i64> {
    let end = LARGEST << (1 + log2_a);
    let pass = |(e, x): (&i64, &i64)| if x.abs() <= end { *e } else { 0 };
    error.iter().zip(sums).map(pass).collect()
}

/// `[batch, outputs]` of `[batch, inputs]`.
fn multiplied(layer: &Layer, x: &[i64], largest: &mut i64) -> Vec<i64> {
    let (weight, log2_a) = (layer.read(), layer.log2_a());
    let [inputs, outputs] = layer.dims[..] else {
        panic!("a linear layer");
    };
    let mut all = Vec::new();
    for row in x.chunks(inputs) {
        let mut sums = Sums::new(outputs);
        for (x, weights) in row.iter().zip(weight.chunks(outputs)) {
            (0..outputs).for_each(|o| sums.add(o, x * weights[o]));
        }
        (0..outputs).for_each(|o| sums.add(o, layer.bias[o] << (1 + log2_a)));
        all.extend(sums.finish(largest));
    }
    all
}

/// Gradients of weight and bias, and the error of what a linear layer read, before it is shifted.
fn linear_backward(
    layer: &Layer,
    x: &[i64],
    error: &[i64],
    largest: &mut i64,
) -> ([Vec<i64>; 2], Vec<i64>) {
    let weight = layer.read();
    let [inputs, outputs] = layer.dims[..] else {
        panic!("a linear layer");
    };
    let (mut to_weight, mut to_bias) = (Sums::new(weight.len()), Sums::new(outputs));
    let mut to_input = Sums::new(x.len());
    for (n, (x, error)) in x.chunks(inputs).zip(error.chunks(outputs)).enumerate() {
        for (o, e) in error.iter().enumerate() {
            to_bias.add(o, *e);
            for i in 0..inputs {
                to_weight.add(i * outputs + o, x[i] * e);
                to_input.add(n * inputs + i, e * weight[i * outputs + o]);
            }
        }
    }
    let gradients = [to_weight, to_bias].map(|sums| sums.finish(largest));
    (gradients, to_input.finish(largest))
}

/// The same of a convolution.
fn convolution_backward(
    layer: &Layer,
    x: &[i64],
    input: Shape,
    error: &[i64],
    largest: &mut i64,
) -> ([Vec<i64>; 2], Vec<i64>) {
    let weight = layer.read();
    let mut to_weight = Sums::new(weight.len());
    let mut to_bias = Sums::new(layer.outputs());
    let mut to_input = Sums::new(x.len());
    let images = x.len() / input.len();
    let of_image = error.len() / images;
    for n in 0..images {
        let x = &x[n * input.len()..][..input.len()];
        let error = &error[n * of_image..][..of_image];
        products(layer, input, |i, w, y| {
            to_weight.add(w, x[i] * error[y]);
            to_input.add(n * input.len() + i, error[y] * weight[w]);
        });
        let plane = of_image / layer.outputs();
        for (i, e) in error.iter().enumerate() {
            to_bias.add(i / plane, *e);
        }
    }
    let gradients = [to_weight, to_bias].map(|sums| sums.finish(largest));
    (gradients, to_input.finish(largest))
}

impl LeNet {
    /// Places after the point of the scores.
    pub(crate) fn score_places(&self) -> u32 {
        1 + PLACES + self.layers[3].log2_a()
    }

    /// Forward and backward of a batch of images of eight bits, `[batch, 1, side, side]`.
    pub(crate) fn step(&self, images: &[i64], side: usize, classes: &[usize]) -> Step {
        let mut largest = 0;
        let [conv1, conv2, fc1, fc2] = &self.layers[..] else {
            panic!("four layers");
        };
        let image = Shape {
            channels: 1,
            rows: side,
            columns: side,
        };
        let first = convolved(conv1, images, image, &mut largest);
        let x1 = read(&first.pooled, conv1.log2_a());
        let second = convolved(conv2, &x1, first.shape, &mut largest);
        let x2 = read(&second.pooled, conv2.log2_a());
        let third = multiplied(fc1, &x2, &mut largest);
        let rectified: Vec<i64> = third.iter().map(|x| *x.max(&0)).collect();
        let x3 = read(&rectified, fc1.log2_a());
        let scores = multiplied(fc2, &x3, &mut largest);

        // The error of the sum of squares is the difference itself.
        let one = 1 << self.score_places();
        let mut error = scores.clone();
        for (row, class) in error.chunks_mut(fc2.outputs()).zip(classes) {
            row[*class] -= one;
        }
        let e4 = shifted(&error);
        let (g4, to3) = linear_backward(fc2, &x3, &e4, &mut largest);
        let e3 = passed(&shifted(&to3), &rectified, fc1.log2_a());
        let e3: Vec<i64> = e3
            .iter()
            .zip(&third)
            .map(|(e, x)| if *x > 0 { *e } else { 0 })
            .collect();
        let (g3, to2) = linear_backward(fc1, &x2, &e3, &mut largest);
        let e2 = second.error(&passed(&shifted(&to2), &second.pooled, conv2.log2_a()));
        let (g2, to1) = convolution_backward(conv2, &x1, first.shape, &e2, &mut largest);
        let e1 = first.error(&passed(&shifted(&to1), &first.pooled, conv1.log2_a()));
        let (g1, _) = convolution_backward(conv1, images, image, &e1, &mut largest);
        Step {
            inputs: vec![images.to_vec(), x1, x2, x3],
            scores,
            errors: vec![e1, e2, e3, e4],
            gradients: [g1, g2, g3, g4].into_iter().flatten().collect(),
            largest,
        }
    }

    /// Moves weights and biases by whole steps: `clip(w - Sr(2^log2_rate g / R))`, `Sr` away from zero
    /// where the part that is cut off and a random number carry together.
    pub(crate) fn update(&mut self, gradients: &[Vec<i64>], log2_rate: u32, seed: u64, step: u64) {
        let parameters = self.layers.iter_mut();
        let parameters = parameters.flat_map(|layer| [&mut layer.weight, &mut layer.bias]);
        for (call, (parameter, gradient)) in parameters.zip(gradients).enumerate() {
            let Some(power) = nearest_power(gradient) else {
                continue;
            };
            let philox = Philox::new(seed, step << 32 | (call as u64 + 1));
            for (i, (w, g)) in parameter.iter_mut().zip(gradient).enumerate() {
                let scaled = u128::from(g.unsigned_abs()) << log2_rate;
                let cut = ((scaled & ((1 << power) - 1)) << 32 >> power) as u32;
                let away = cut > !philox.word(i as u64);
                let steps = (scaled >> power) as i64 + i64::from(away);
                *w = (*w - g.signum() * steps).clamp(-LARGEST, LARGEST);
            }
        }
    }
}
