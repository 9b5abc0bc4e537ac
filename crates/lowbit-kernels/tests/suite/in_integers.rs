//! Convolutions in integers against the same in floats, bit for bit.

use lowbit_formats::IntegerRange;
use lowbit_kernels::Terms;
use lowbit_kernels::activation::Activation;
use lowbit_kernels::after::After;
use lowbit_kernels::conv::{Output, Shape, Wanted, backward, forward, forward_in_integers};
use lowbit_kernels::integer::is_faster_than_floats;
use lowbit_kernels::norm::{Affine, Statistics, apply};
use lowbit_kernels::packing::RoundSlice;

use crate::plain::{Random, convolution};

fn step(grid: IntegerRange) -> f32 {
    2f32.powi(grid.exponent)
}

/// Multiples of a step, and one that is none of them before it is rounded.
fn numbers(random: &mut Random, count: usize, grid: IntegerRange) -> Vec<f32> {
    let width = (grid.max - grid.min) as usize;
    let number = |_| {
        let k = grid.min + random.between(0, width) as i128;
        (k as f32 + 0.25) * step(grid)
    };
    (0..count).map(number).collect()
}

fn round(grid: IntegerRange) -> impl Fn(&[f32], &mut [f32]) + Sync {
    move |x: &[f32], rounded: &mut [f32]| {
        for (x, rounded) in x.iter().zip(rounded) {
            *rounded = (x / step(grid)).round_ties_even() * step(grid);
        }
    }
}

fn grid(exponent: i32, [min, max]: [i128; 2]) -> IntegerRange {
    IntegerRange { exponent, min, max }
}

/// Both ways; `None` where integers refuse.
fn both(
    shape: &Shape,
    [x, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    grids: [IntegerRange; 2],
) -> (Vec<f32>, Option<Vec<f32>>) {
    let [of_x, of_weight] = grids.map(round);
    let pixels = shape.batch * shape.output[0] * shape.output[1];
    let mut floats = vec![f32::NAN; pixels * shape.channels[1]];
    let mut integers = floats.clone();
    let roundings = || [Some(&of_x as _), Some(&of_weight as _)];
    forward(
        shape,
        [x, weight],
        bias,
        roundings(),
        Terms::Numbers,
        floats.as_mut_slice().into(),
    );
    let made = forward_in_integers(
        shape,
        x,
        weight,
        bias,
        roundings(),
        grids.map(Some),
        integers.as_mut_slice().into(),
    );
    (floats, made.then_some(integers))
}

#[test]
fn in_integers_the_bits_are_those_of_floats() {
    let mut random = Random(14);
    let ranges = [[0, 255], [-128, 127], [-8, 7], [0, 15], [0, 1], [-200, 0]];
    let of_weights = [[-127, 127], [-128, 127], [-7, 7], [-1, 1]];
    let (mut checked, mut made) = (0, 0);
    while checked < 5_000 {
        let Some(shape) = convolution::shape(&mut random) else {
            continue;
        };
        let mut exponent = || random.between(0, 20) as i32 - 12;
        let exponents = [exponent(), exponent()];
        let grids = [
            grid(exponents[0], random.of(&ranges)),
            grid(exponents[1], random.of(&of_weights)),
        ];
        let filter = shape.channels[0] * shape.kernel[0] * shape.kernel[1];
        let inputs = shape.batch * shape.input[0] * shape.input[1] * shape.channels[0];
        let x = numbers(&mut random, inputs, grids[0]);
        let weight = numbers(&mut random, shape.channels[1] * filter, grids[1]);
        let step = step(grids[0]) * step(grids[1]);
        let bias = random.chance().then(|| {
            let mut number = |_| (random.between(1, 1 << 16) as f32 - 32_768.5).floor() * step;
            (0..shape.channels[1]).map(&mut number).collect::<Vec<_>>()
        });
        let (floats, integers) = both(&shape, [&x, &weight], bias.as_deref(), grids);
        if let Some(integers) = integers {
            assert_eq!(bits(&integers), bits(&floats), "{shape:?} {grids:?}");
            made += 1;
        }
        checked += 1;
    }
    if !is_faster_than_floats() {
        println!("this CPU has no fast products of bytes: nothing was compared");
        return;
    }
    assert!(made > 4_500, "{made} of {checked}");
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Numbers that nobody says are on a grid, against the sums of those that are said to be.
#[test]
fn integers_are_found() {
    let mut random = Random(21);
    let mut checked = 0;
    while checked < 500 {
        let Some(shape) = convolution::shape(&mut random) else {
            continue;
        };
        let grids = [grid(-3, [-128, 127]), grid(-5, [-127, 127])];
        let filter = shape.channels[0] * shape.kernel[0] * shape.kernel[1];
        let inputs = shape.batch * shape.input[0] * shape.input[1] * shape.channels[0];
        let [x, weight] = [(inputs, grids[0]), (shape.channels[1] * filter, grids[1])]
            .map(|(count, grid)| rounded(&numbers(&mut random, count, grid), grid));
        let (floats, _) = both(&shape, [&x, &weight], None, grids);
        let mut made = vec![f32::NAN; floats.len()];
        let output = made.as_mut_slice().into();
        if forward_in_integers(&shape, &x, &weight, None, [None; 2], [None; 2], output) {
            assert_eq!(bits(&made), bits(&floats), "{shape:?}");
        } else {
            assert!(!is_faster_than_floats(), "{shape:?}");
        }
        checked += 1;
    }
}

fn rounded(numbers: &[f32], grid: IntegerRange) -> Vec<f32> {
    let mut rounded = vec![0.0; numbers.len()];
    round(grid)(numbers, &mut rounded);
    rounded
}

/// Gradients of 8 bits, whose sums are below 2^24 units, against sums in f64, where they are exact. What
/// the kernels round themselves and what they find to be rounded.
#[test]
fn gradients_have_the_bits_of_exact_sums() {
    let mut random = Random(33);
    let ranges = [[0, 255], [-128, 127], [-8, 7], [0, 1], [-200, 0]];
    let signed = [[-127, 127], [-128, 127], [-7, 7], [-1, 1]];
    for _ in 0..3_000 {
        let Some(shape) = convolution::shape(&mut random) else {
            continue;
        };
        let mut exponent = || random.between(0, 20) as i32 - 12;
        let exponents = [exponent(), exponent(), exponent()];
        let grids = [
            grid(exponents[0], random.of(&ranges)),
            grid(exponents[1], random.of(&signed)),
            grid(exponents[2], random.of(&signed)),
        ];
        let [inputs, outputs] = shape.channels;
        let counts = [
            shape.batch * shape.input[0] * shape.input[1] * inputs,
            outputs * inputs * shape.kernel[0] * shape.kernel[1],
            shape.batch * shape.output[0] * shape.output[1] * outputs,
        ];
        let mut given = [0, 1, 2].map(|i| numbers(&mut random, counts[i], grids[i]));
        let [x, weight, gradient] = [0, 1, 2].map(|i| rounded(&given[i], grids[i]));
        let (mut dx, mut dw) = (vec![0.0f64; counts[0]], vec![0.0f64; counts[1]]);
        let wide = |a: f32, b: f32| f64::from(a) * f64::from(b);
        convolution::each(&shape, |i, w, o| {
            dx[i] += wide(gradient[o], weight[w]);
            dw[w] += wide(gradient[o], x[i]);
        });
        let roundings = grids.map(round);
        let rounds = [random.chance(), random.chance(), random.chance()];
        for i in (0..3).filter(|&i| !rounds[i]) {
            given[i] = rounded(&given[i], grids[i]);
        }
        let [a, b, c] = &roundings;
        let roundings: [Option<RoundSlice>; 3] = [
            rounds[0].then_some(a as _),
            rounds[1].then_some(b as _),
            rounds[2].then_some(c as _),
        ];
        let mut made = vec![f32::NAN; counts[0]];
        let wanted = Wanted {
            input: Some(&mut made),
            weight: true,
            bias: false,
            terms: Terms::Numbers,
        };
        let [x, weight, gradient] = &given;
        let (made_weight, ..) = backward(&shape, x, weight, gradient, roundings, [None; 2], wanted);
        let narrow = |exact: Vec<f64>| exact.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        assert_eq!(bits(&made), bits(&narrow(dx)), "{shape:?} {grids:?}");
        assert_eq!(bits(&made_weight), bits(&narrow(dw)), "{shape:?} {grids:?}");
    }
}

/// What follows in one pass, of several images and rows, in integers and in floats, against the
/// convolution, the normalization, the sum and the rectifier one after the other.
#[test]
fn what_follows_has_the_bits_of_one_operation_after_the_other() {
    let mut random = Random(5);
    let grids = [grid(-3, [-128, 127]), grid(-5, [-7, 7])];
    let mut checked = 0;
    while checked < 300 {
        let Some(shape) = convolution::shape(&mut random) else {
            continue;
        };
        let channels = shape.channels[1];
        let filter = shape.channels[0] * shape.kernel[0] * shape.kernel[1];
        let inputs = shape.batch * shape.input[0] * shape.input[1] * shape.channels[0];
        let x = numbers(&mut random, inputs, grids[0]);
        let weight = numbers(&mut random, channels * filter, grids[1]);
        let (floats, _) = both(&shape, [&x, &weight], None, grids);
        let mut each = |count: usize| numbers(&mut random, count, grid(-4, [-40, 40]));
        let added = each(floats.len());
        let statistics = Statistics {
            mean: each(channels),
            variance: each(channels).iter().map(|v| v.abs() + 0.1).collect(),
        };
        let affine = Affine::new(&statistics, &each(channels), &each(channels), 1e-5);
        let mut expected = floats.clone();
        apply(&floats, &affine, Activation::Identity, &mut expected);
        for (y, added) in expected.iter_mut().zip(&added) {
            let sum = *y + added;
            *y = if sum > 0.0 { sum } else { 0.0 };
        }
        let after = After::new(channels, Some(&affine), Some(&added), Activation::Relu);
        let [of_x, of_weight] = grids.map(round);
        let roundings = || [Some(&of_x as _), Some(&of_weight as _)];
        let mut made = vec![f32::NAN; floats.len()];
        let output = Output {
            numbers: &mut made,
            after: Some(&after),
        };
        forward(
            &shape,
            [&x, &weight],
            None,
            roundings(),
            Terms::Numbers,
            output,
        );
        assert_eq!(bits(&made), bits(&expected), "{shape:?}");
        made.fill(f32::NAN);
        let output = Output {
            numbers: &mut made,
            after: Some(&after),
        };
        if forward_in_integers(
            &shape,
            &x,
            &weight,
            None,
            roundings(),
            grids.map(Some),
            output,
        ) {
            assert_eq!(bits(&made), bits(&expected), "in integers, {shape:?}");
        }
        checked += 1;
    }
}

/// Eight inputs, one output, one pixel: the sums of one filter.
fn one_sum() -> Shape {
    Shape {
        batch: 1,
        channels: [8, 1],
        input: [1, 1],
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        output: [1, 1],
    }
}

/// 8 * 255 * 127 = 259,080 of 2^24 units are there; a bias of 2^24 - 259,080 makes it 2^24.
#[test]
fn what_is_not_exact_or_on_no_grid_is_left_to_floats() {
    if !is_faster_than_floats() {
        println!("this CPU has no fast products of bytes: nothing was refused");
        return;
    }
    let grids = [grid(-3, [0, 255]), grid(-5, [-127, 127])];
    let (x, weight) = ([255.0 / 8.0; 8], [127.0 / 32.0; 8]);
    let made = |x: &[f32], bias: f32, grids| {
        let (_, integers) = both(&one_sum(), [x, &weight], Some(&[bias]), grids);
        integers.is_some()
    };
    let unit = 1.0 / 256.0;
    let most = (1 << 24) - 259_080;
    assert!(made(&x, (most - 1) as f32 * unit, grids));
    assert!(!made(&x, most as f32 * unit, grids));
    assert!(!made(&x, 0.5 * unit, grids), "a bias between two integers");
    assert!(!made(&x, -0.0, grids), "a zero with a sign");
    let with_nan = std::array::from_fn::<f32, 8, _>(|i| if i == 3 { f32::NAN } else { 1.0 });
    assert!(!made(&with_nan, 0.0, grids));
    assert!(!made(&x, 0.0, [grid(-3, [0, 256]), grids[1]]));
    assert!(!made(&x, 0.0, [grid(-3, [1, 255]), grids[1]]), "no zero");
    assert!(!made(&x, 0.0, [grids[0], grid(-5, [-129, 127])]));
    assert!(!made(&x, 0.0, [grids[0], grid(-60, [-127, 127])]));
}
