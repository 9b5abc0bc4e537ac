use lowbit_kernels::Terms;
use lowbit_kernels::linear::{self, Shape, Wanted};
use lowbit_kernels::packing::{Learned, RoundSlice, RoundingBackward};

use super::{Random, round, round_backward, round_slice};

/// A small product: whole and broken tiles in every direction.
pub(crate) fn shape(random: &mut Random) -> Shape {
    let mut size = || match random.chance() {
        true => random.between(0, 40),
        false => random.between(1, 140),
    };
    Shape {
        rows: size(),
        features: [size(), size()],
    }
}

/// Forward and backward pass of one shape against the plain loops.
pub(crate) fn check(shape: &Shape, random: &mut Random) {
    let [inputs, outputs] = shape.features;
    let x = random.numbers(shape.rows * inputs);
    let weight = random.numbers(inputs * outputs);
    let bias = random.chance().then(|| random.numbers(outputs));
    let grad = random.numbers(shape.rows * outputs);
    let rounded = [random.chance(), random.chance(), random.chance()];
    // The numbers are bfloat16, too.
    let terms = [Terms::Numbers, Terms::Bfloat16][usize::from(random.chance())];
    let case = format!("{shape:?}, rounded {rounded:?}, {terms:?}");
    let roundings = rounded.map(|rounded| rounded.then_some(&round_slice as RoundSlice));
    let backwards = [rounded[0], rounded[1]]
        .map(|rounded| rounded.then_some(&round_backward as RoundingBackward));
    let read = |x: f32, rounded: bool| f64::from(if rounded { round(x) } else { x });
    let read_x = |row: usize, i: usize| read(x[row * inputs + i], rounded[0]);
    let read_weight = |i: usize, o: usize| read(weight[i * outputs + o], rounded[1]);
    let g = |row: usize, o: usize| read(grad[row * outputs + o], rounded[2]);

    let mut output = vec![f32::NAN; grad.len()];
    linear::forward(
        shape,
        [&x, &weight],
        bias.as_deref(),
        [roundings[0], roundings[1]],
        terms,
        &mut output,
    );
    for (at, made) in output.iter().enumerate() {
        let (row, o) = (at / outputs, at % outputs);
        let products = (0..inputs).map(|i| read_x(row, i) * read_weight(i, o));
        let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[o]));
        assert_eq!(
            f64::from(*made),
            products.sum::<f64>() + bias,
            "output of {case}"
        );
    }

    let gradient = |count: usize, of: &dyn Fn(usize) -> f64| -> Vec<f32> {
        (0..count).map(|at| of(at) as f32).collect()
    };
    let mut dx = gradient(x.len(), &|at| {
        let (row, i) = (at / inputs, at % inputs);
        (0..outputs).map(|o| g(row, o) * read_weight(i, o)).sum()
    });
    let mut dw = gradient(weight.len(), &|at| {
        let (i, o) = (at / outputs, at % outputs);
        (0..shape.rows).map(|row| g(row, o) * read_x(row, i)).sum()
    });
    let db = gradient(outputs, &|o| (0..shape.rows).map(|row| g(row, o)).sum());
    let through = |rounded: bool, x: &[f32], grad: &mut [f32]| match rounded {
        true => round_backward(x, grad),
        false => Learned::default(),
    };
    let sums = [
        through(rounded[0], &x, &mut dx),
        through(rounded[1], &weight, &mut dw),
    ];
    let [to_input, to_weight] = [random.between(0, 3) > 0, random.between(0, 3) > 0];
    let [mut made_x, mut made_weight, mut made_bias] =
        [x.len(), weight.len(), outputs].map(|count| vec![f32::NAN; count]);
    let wanted = Wanted {
        input: to_input.then_some(&mut made_x[..]),
        weight: to_weight.then_some(&mut made_weight[..]),
        bias: Some(&mut made_bias),
        terms,
    };
    let made_sums = linear::backward(shape, [&x, &weight, &grad], roundings, backwards, wanted);
    assert_eq!(made_bias, db, "gradient of the bias of {case}");
    if to_input {
        assert_eq!(made_x, dx, "gradient of the input of {case}");
        assert_eq!(made_sums[0], sums[0], "sum of the input of {case}");
    }
    if to_weight {
        assert_eq!(made_weight, dw, "gradient of the weight of {case}");
        assert_eq!(made_sums[1], sums[1], "sum of the weight of {case}");
    }
}
