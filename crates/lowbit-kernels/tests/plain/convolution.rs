use lowbit_kernels::Terms;
use lowbit_kernels::conv::{self, Shape, Wanted};
use lowbit_kernels::packing::{Learned, RoundSlice, RoundingBackward};

use super::{Random, round, round_backward, round_slice};

/// A small convolution, or none where its kernel is larger than its padded image or no register tile
/// fits.
pub(crate) fn shape(random: &mut Random) -> Option<Shape> {
    let channels = || [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20, 31, 32, 33, 40];
    let mut two = |least, most| [0, 1].map(|_| random.between(least, most));
    let (input, kernel, stride) = (two(1, 8), two(1, 4), two(1, 4));
    let (dilation, padding, after) = (two(1, 3), two(0, 3), two(0, 3));
    let output = [0, 1].map(|d| {
        let reach = dilation[d] * (kernel[d] - 1) + 1;
        let rest = (input[d] + padding[d] + after[d]).checked_sub(reach);
        rest.map_or(0, |rest| rest / stride[d] + 1)
    });
    let shape = Shape {
        batch: random.between(1, 3),
        channels: [random.of(&channels()), random.of(&channels())],
        input,
        kernel,
        stride,
        padding,
        dilation,
        output,
    };
    shape.is_supported().then_some(shape)
}

/// Visits every product of the convolution: the numbers of input, weight and output that meet. Where
/// the kernel lies on padding, nothing is visited.
pub(crate) fn each(shape: &Shape, mut visit: impl FnMut(usize, usize, usize)) {
    let [inputs, outputs] = shape.channels;
    let [height, width] = shape.input;
    let [kernel_height, kernel_width] = shape.kernel;
    let at = |d: usize, o: usize, k: usize| {
        let i = (o * shape.stride[d] + k * shape.dilation[d]).checked_sub(shape.padding[d])?;
        (i < shape.input[d]).then_some(i)
    };
    for image in 0..shape.batch {
        for (oy, ky) in pairs(shape.output[0], kernel_height) {
            let Some(y) = at(0, oy, ky) else { continue };
            for (ox, kx) in pairs(shape.output[1], kernel_width) {
                let Some(x) = at(1, ox, kx) else { continue };
                let pixel = (image * height + y) * width + x;
                let out = (image * shape.output[0] + oy) * shape.output[1] + ox;
                for (to, from) in pairs(outputs, inputs) {
                    let place = ((to * inputs + from) * kernel_height + ky) * kernel_width + kx;
                    visit(pixel * inputs + from, place, out * outputs + to);
                }
            }
        }
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().copied().map(f64::from).collect()
}

fn narrow(numbers: Vec<f64>) -> Vec<f32> {
    numbers.into_iter().map(|number| number as f32).collect()
}

/// Forward and backward pass of one shape against the plain loops.
pub(crate) fn check(shape: &Shape, random: &mut Random) {
    let filter = shape.channels[0] * shape.kernel[0] * shape.kernel[1];
    let pixels = |size: [usize; 2]| shape.batch * size[0] * size[1];
    let x = random.numbers(pixels(shape.input) * shape.channels[0]);
    let weight = random.numbers(shape.channels[1] * filter);
    let bias = random.chance().then(|| random.numbers(shape.channels[1]));
    let grad = random.numbers(pixels(shape.output) * shape.channels[1]);
    let rounded = [random.chance(), random.chance(), random.chance()];
    // The numbers are bfloat16, too.
    let terms = [Terms::Numbers, Terms::Bfloat16][usize::from(random.chance())];
    let case = format!("{shape:?}, rounded {rounded:?}, {terms:?}");
    let roundings = rounded.map(|rounded| rounded.then_some(&round_slice as RoundSlice));
    let backwards = [rounded[0], rounded[1]]
        .map(|rounded| rounded.then_some(&round_backward as RoundingBackward));
    let read = |numbers: &[f32], rounded: bool| match rounded {
        true => numbers.iter().copied().map(round).collect(),
        false => numbers.to_vec(),
    };
    let (read_x, read_weight) = (
        wide(&read(&x, rounded[0])),
        wide(&read(&weight, rounded[1])),
    );

    let channels = shape.channels[1];
    let bias_of = |o: usize| {
        bias.as_ref()
            .map_or(0.0, |bias| f64::from(bias[o % channels]))
    };
    let mut expected: Vec<f64> = (0..grad.len()).map(bias_of).collect();
    each(shape, |i, w, o| expected[o] += read_x[i] * read_weight[w]);
    let mut output = vec![f32::NAN; grad.len()];
    conv::forward(
        shape,
        [&x, &weight],
        bias.as_deref(),
        [roundings[0], roundings[1]],
        terms,
        output.as_mut_slice().into(),
    );
    assert_eq!(output, narrow(expected), "output of {case}");

    let g = wide(&read(&grad, rounded[2]));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    each(shape, |i, w, o| {
        dx[i] += g[o] * read_weight[w];
        dw[w] += g[o] * read_x[i];
    });
    let mut db = vec![0.0; channels];
    g.iter()
        .enumerate()
        .for_each(|(o, g)| db[o % channels] += g);
    let (mut dx, mut dw) = (narrow(dx), narrow(dw));
    let through = |rounded: bool, x: &[f32], grad: &mut [f32]| match rounded {
        true => round_backward(x, grad),
        false => Learned::default(),
    };
    let sums = [
        through(rounded[0], &x, &mut dx),
        through(rounded[1], &weight, &mut dw),
    ];
    let [to_input, to_weight] = [random.between(0, 3) > 0, random.between(0, 3) > 0];
    let mut made = vec![f32::NAN; x.len()];
    let wanted = Wanted {
        input: to_input.then_some(&mut made[..]),
        weight: to_weight,
        bias: true,
        terms,
    };
    let (made_weight, made_bias, made_sums) =
        conv::backward(shape, &x, &weight, &grad, roundings, backwards, wanted);
    assert_eq!(made_bias, narrow(db), "gradient of the bias of {case}");
    if to_input {
        assert_eq!(made, dx, "gradient of the input of {case}");
        assert_eq!(made_sums[0], sums[0], "sum of the input of {case}");
    }
    if to_weight {
        assert_eq!(made_weight, dw, "gradient of the weight of {case}");
        assert_eq!(made_sums[1], sums[1], "sum of the weight of {case}");
    }
}
