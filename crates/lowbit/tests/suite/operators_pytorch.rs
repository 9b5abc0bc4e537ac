//! Operators against PyTorch's, forward and all gradients, over random small shapes, groups, strides,
//! dilations and paddings: `reference/operators.jsonl`, which `reference/operators.py` makes. Most of
//! them are Burn's, so that nothing of ours says what is right.

use std::collections::BTreeMap;

use burn::tensor::ops::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, MaxPoolOptions};
use burn::tensor::{Device, Int, Tensor, TensorData};
use lowbit::ops::{self, Activation};
use serde_json::Value;

/// One case: what the line says.
struct Case(Value);

impl Case {
    fn list(&self, name: &str) -> Vec<usize> {
        let list = self.0[name].as_array().expect(name).iter();
        list.map(|n| n.as_u64().expect(name) as usize).collect()
    }

    fn sizes<const N: usize>(&self, name: &str) -> [usize; N] {
        self.list(name).try_into().expect(name)
    }

    fn number(&self, name: &str) -> usize {
        self.0[name].as_u64().expect(name) as usize
    }

    fn is(&self, name: &str) -> bool {
        self.0[name].as_bool().expect(name)
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let list = self.0[name].as_array().expect(name).iter();
        list.map(|n| n.as_f64().expect(name)).collect()
    }

    /// The tensor of a name, which is the `index`-th of the case.
    fn tensor<const D: usize>(&self, name: &str, index: usize) -> Tensor<D> {
        let shape = Self(self.0["shapes"].clone()).sizes::<D>(name);
        made(shape, self.number("seed") + index).require_grad()
    }

    fn assert_close(&self, name: &str, made: &[f32]) {
        let expected = self.numbers(name);
        assert_eq!(made.len(), expected.len(), "{name} of {}", self.0);
        let largest = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (made, expected) in made.iter().zip(&expected) {
            let near = (f64::from(*made) - expected).abs() <= 2e-6 * largest;
            assert!(near, "{name}: {made}, not {expected}, of {}", self.0);
        }
    }

    /// Compares an output, and the gradients of the tensors it was made of.
    fn check<const O: usize>(&self, output: Tensor<O>, gradients: &[(&str, Gradient)]) {
        assert_eq!(output.dims(), self.sizes::<O>("output_shape"), "{}", self.0);
        self.assert_close("output", &values(output.clone()));
        let gradient = made(output.dims(), self.number("seed") + 9);
        let all = (output * gradient).sum().backward();
        for (name, of) in gradients {
            self.assert_close(&format!("d_{name}"), &of(&all));
        }
    }
}

type Gradient = Box<dyn Fn(&burn::tensor::Gradients) -> Vec<f32>>;

/// How to read the gradient of a tensor.
fn of<const D: usize>(tensor: &Tensor<D>) -> Gradient {
    let tensor = tensor.clone();
    Box::new(move |all| values(tensor.grad(all).expect("the operator has a gradient")))
}

/// The numbers that the script makes from a seed.
fn made<const D: usize>(shape: [usize; D], seed: usize) -> Tensor<D> {
    let mut state = (seed as u32)
        .wrapping_mul(2_654_435_761)
        .wrapping_add(12345);
    let numbers = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 24) % 9) as f32 - 4.0
    });
    let data = TensorData::new(numbers.collect::<Vec<f32>>(), shape);
    Tensor::from_data(data, &Device::flex().autodiff())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

macro_rules! convolution {
    ($name:ident, $operator:path, $d:literal, $tensor:literal) => {
        fn $name(case: &Case) {
            let padding = case.0["padding"].as_array().expect("padding").iter();
            let pairs = padding.map(|pair| {
                let side = |i: usize| pair[i].as_u64().expect("padding") as usize;
                (side(0), side(1))
            });
            let options = ConvOptions::<$d> {
                stride: case.sizes("stride"),
                padding: pairs.collect::<Vec<_>>().try_into().expect("padding"),
                dilation: case.sizes("dilation"),
                groups: case.number("groups"),
            };
            let (x, weight) = (
                case.tensor::<$tensor>("x", 0),
                case.tensor::<$tensor>("weight", 1),
            );
            let bias = case.tensor::<1>("bias", 2);
            let gradients = [("x", of(&x)), ("weight", of(&weight)), ("bias", of(&bias))];
            let output = $operator(x.into(), weight.into(), Some(bias.into()), options);
            case.check(output, &gradients);
        }
    };
}

convolution!(convolution1d, ops::conv1d, 1, 3);
convolution!(convolution2d, ops::conv2d, 2, 4);
convolution!(convolution3d, ops::conv3d, 3, 5);

macro_rules! transposed {
    ($name:ident, $operator:path, $d:literal, $tensor:literal) => {
        fn $name(case: &Case) {
            let options = ConvTransposeOptions::<$d> {
                stride: case.sizes("stride"),
                padding: case.sizes("padding"),
                padding_out: case.sizes("padding_out"),
                dilation: case.sizes("dilation"),
                groups: case.number("groups"),
            };
            let (x, weight) = (
                case.tensor::<$tensor>("x", 0),
                case.tensor::<$tensor>("weight", 1),
            );
            let bias = case.tensor::<1>("bias", 2);
            let gradients = [("x", of(&x)), ("weight", of(&weight)), ("bias", of(&bias))];
            let output = $operator(x.into(), weight.into(), Some(bias.into()), options);
            case.check(output, &gradients);
        }
    };
}

transposed!(transposed1d, ops::conv_transpose1d, 1, 3);
transposed!(transposed2d, ops::conv_transpose2d, 2, 4);
transposed!(transposed3d, ops::conv_transpose3d, 3, 5);

fn max_options<const D: usize>(case: &Case) -> MaxPoolOptions<D> {
    MaxPoolOptions::new(case.sizes("kernel"))
        .with_stride(case.sizes("stride"))
        .with_padding(case.sizes("padding"))
        .with_dilation(case.sizes("dilation"))
        .with_ceil_mode(case.is("ceil_mode"))
}

fn avg_options<const D: usize>(case: &Case) -> AvgPoolOptions<D> {
    AvgPoolOptions::new(case.sizes("kernel"))
        .with_stride(case.sizes("stride"))
        .with_padding(case.sizes("padding"))
        .with_count_include_pad(case.is("count_include_pad"))
        .with_ceil_mode(case.is("ceil_mode"))
}

fn pooling<const D: usize>(case: &Case, pool: impl Fn(Tensor<D>) -> Tensor<D>) {
    let x = case.tensor::<D>("x", 0);
    let gradients = [("x", of(&x))];
    case.check(pool(x), &gradients);
}

fn embedding(case: &Case) {
    let weight = case.tensor::<2>("weight", 0);
    let chosen: Vec<i64> = case.list("indices").iter().map(|&i| i as i64).collect();
    let data = TensorData::new(chosen, case.sizes::<2>("indices_shape"));
    let indices = Tensor::<2, Int>::from_data(data, &Device::flex().autodiff());
    let gradients = [("weight", of(&weight))];
    case.check(ops::embedding(weight.into(), indices), &gradients);
}

fn batch_norm<const D: usize>(case: &Case) {
    let (x, gamma, beta) = (
        case.tensor::<D>("x", 0),
        case.tensor::<1>("gamma", 1),
        case.tensor::<1>("beta", 2),
    );
    let gradients = [("x", of(&x)), ("gamma", of(&gamma)), ("beta", of(&beta))];
    let epsilon = case.0["epsilon"].as_f64().expect("epsilon");
    let activation = match case.0["activation"].as_str() {
        Some("relu") => Activation::Relu,
        Some("relu6") => Activation::Relu6,
        _ => Activation::Identity,
    };
    let channels = gamma.dims();
    let output = if case.is("trains") {
        ops::batch_norm_train(x, [gamma, beta], epsilon, activation).output
    } else {
        let (mean, variance) = (made(channels, 77), made(channels, 78).abs() + 1.0);
        ops::batch_norm(x, [gamma, beta], [mean, variance], epsilon, activation)
    };
    case.check(output, &gradients);
}

fn check(case: &Case) {
    match case.0["operator"].as_str().expect("operator") {
        "convolution1d" => convolution1d(case),
        "convolution2d" => convolution2d(case),
        "convolution3d" => convolution3d(case),
        "transposed1d" => transposed1d(case),
        "transposed2d" => transposed2d(case),
        "transposed3d" => transposed3d(case),
        "max_pool1d" => pooling(case, |x| ops::max_pool1d(x, max_options(case))),
        "max_pool2d" => pooling(case, |x| ops::max_pool2d(x, max_options(case))),
        "avg_pool1d" => pooling(case, |x| ops::avg_pool1d(x, avg_options(case))),
        "avg_pool2d" => pooling(case, |x| ops::avg_pool2d(x, avg_options(case))),
        "adaptive_avg_pool1d" => pooling(case, |x| {
            ops::adaptive_avg_pool1d(x, case.sizes::<1>("output_size")[0])
        }),
        "adaptive_avg_pool2d" => pooling(case, |x| {
            ops::adaptive_avg_pool2d(x, case.sizes("output_size"))
        }),
        "adaptive_avg_pool3d" => pooling(case, |x| {
            ops::adaptive_avg_pool3d(x, case.sizes("output_size"))
        }),
        "embedding1d" => embedding(case),
        "batch_norm1d" => batch_norm::<3>(case),
        "batch_norm2d" => batch_norm::<4>(case),
        "batch_norm3d" => batch_norm::<5>(case),
        other => panic!("no operator {other}"),
    }
}

#[test]
fn operators_are_pytorchs() {
    let mut failed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut cases = 0;
    for line in include_str!("../reference/operators.jsonl").lines() {
        let case = Case(serde_json::from_str(line).expect("a line is a case"));
        let operator = case.0["operator"].as_str().expect("operator").to_owned();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&case)));
        if let Err(panic) = checked {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.unwrap_or_else(|| format!("panic of {}", case.0));
            failed.entry(operator).or_default().push(text);
        }
        cases += 1;
    }
    assert_eq!(cases, 17 * 30);
    let shown: Vec<String> = failed
        .iter()
        .map(|(operator, cases)| format!("{operator}: {} cases, such as {}", cases.len(), cases[0]))
        .collect();
    assert!(failed.is_empty(), "{}", shown.join("\n"));
}

/// The smallest case of the gradient that Burn's own one-dimensional convolution gets wrong, by
/// hand: with a kernel of one and a stride of two, the weight meets the first of two pixels alone,
/// which are 1 for the first group and 3 for the second.
#[test]
fn a_stride_that_leaves_a_pixel_over_in_two_groups() {
    let device = Device::flex().autodiff();
    let x = Tensor::<3>::from_floats([[[1.0, 2.0], [3.0, 4.0]]], &device);
    let weight = Tensor::<3>::ones([4, 1, 1], &device).require_grad();
    let options = ConvOptions::new([2], [0], [1], 2);
    let output = ops::conv1d(x.into(), weight.clone().into(), None, options);
    let gradients = output.sum().backward();
    let gradient = weight.grad(&gradients).expect("a gradient");
    assert_eq!(values(gradient), [1.0, 1.0, 3.0, 3.0]);
}
