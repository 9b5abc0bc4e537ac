use crate::ops::product::adder::*;
use burn::tensor::{Device, TensorData};

fn wave(count: usize, frequency: f32, size: f32) -> Vec<f32> {
    (0..count)
        .map(|i| (i as f32 * frequency).sin() * size)
        .collect()
}

/// The layer by its formulas, in f64: output, and the stated gradients to input and weight.
struct Formula {
    y: Vec<f64>,
    to_input: Vec<f64>,
    to_weight: Vec<f64>,
}

fn formula(
    (x, xs): (&[f32], [usize; 4]),
    (w, ws): (&[f32], [usize; 4]),
    grad: &[f32],
    options: &AdderOptions,
) -> Formula {
    let [batch, channels, height, width] = xs;
    let [out, group_in, kh, kw] = ws;
    let size = |i: usize, n: usize, k: usize| {
        let (start, end) = options.padding[i];
        (n + start + end - options.dilation[i] * (k - 1) - 1) / options.stride[i] + 1
    };
    let (oh, ow) = (size(0, height, kh), size(1, width, kw));
    let mut f = Formula {
        y: vec![0.0; batch * out * oh * ow],
        to_input: vec![0.0; x.len()],
        to_weight: vec![0.0; w.len()],
    };
    let group_out = out / options.groups;
    for n in 0..batch {
        for o in 0..out {
            for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                let y = ((n * out + o) * oh + i) * ow + j;
                for c in 0..group_in {
                    for (a, b) in (0..kh).flat_map(|a| (0..kw).map(move |b| (a, b))) {
                        let row = (i * options.stride[0] + a * options.dilation[0])
                            .checked_sub(options.padding[0].0)
                            .filter(|row| *row < height);
                        let column = (j * options.stride[1] + b * options.dilation[1])
                            .checked_sub(options.padding[1].0)
                            .filter(|column| *column < width);
                        let channel = o / group_out * group_in + c;
                        let at = row.zip(column).map(|(row, column)| {
                            ((n * channels + channel) * height + row) * width + column
                        });
                        let k = ((o * group_in + c) * kh + a) * kw + b;
                        let x = at.map_or(0.0, |at| f64::from(x[at]));
                        let w = f64::from(w[k]);
                        let g = f64::from(grad[y]);
                        f.y[y] -= (x - w).abs();
                        f.to_weight[k] += g * (x - w);
                        if let Some(at) = at {
                            f.to_input[at] += g * (w - x).clamp(-1.0, 1.0);
                        }
                    }
                }
            }
        }
    }
    f
}

fn cases() -> Vec<([usize; 4], [usize; 4], AdderOptions)> {
    let plain = AdderOptions::default();
    vec![
        ([2, 3, 7, 6], [4, 3, 3, 2], plain),
        (
            [2, 3, 9, 8],
            [2, 3, 3, 3],
            AdderOptions {
                stride: [2, 3],
                padding: [(1, 1), (2, 0)],
                ..plain
            },
        ),
        (
            [1, 4, 9, 9],
            [6, 2, 2, 3],
            AdderOptions {
                dilation: [2, 3],
                groups: 2,
                padding: [(0, 1), (1, 1)],
                ..plain
            },
        ),
        (
            [3, 4, 5, 5],
            [4, 1, 1, 1],
            AdderOptions {
                groups: 4,
                stride: [2, 2],
                ..plain
            },
        ),
    ]
}

fn tensor(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn assert_near(name: &str, ours: Tensor<4>, expected: &[f64]) {
    let ours: Vec<f32> = ours.into_data().iter::<f32>().collect();
    assert_eq!(ours.len(), expected.len(), "{name}");
    for (i, (&ours, expected)) in ours.iter().zip(expected).enumerate() {
        let tolerance = 1e-4 * (1.0 + expected.abs());
        assert!(
            (f64::from(ours) - expected).abs() < tolerance,
            "{name}[{i}]: {ours} {expected}"
        );
    }
}

/// One place, two inputs 1 and -2, weights 0.5 and 0.5: -(0.5 + 2.5) = -3; to the weights 0.5 and
/// -2.5; to the inputs -0.5 and 2.5 clipped to 1.
#[test]
fn by_hand() {
    let device = Device::flex().autodiff();
    let x = tensor(&[1.0, -2.0], [1, 2, 1, 1], &device).require_grad();
    let w = tensor(&[0.5, 0.5], [1, 2, 1, 1], &device).require_grad();
    let y = adder2d(
        x.clone().into(),
        w.clone().into(),
        None,
        AdderOptions::default(),
    );
    let read = |t: Tensor<4>| t.into_data().iter::<f32>().collect::<Vec<_>>();
    assert_eq!(read(y.clone()), [-3.0]);
    let grads = y.sum().backward();
    let grad = |t: &Tensor<4>| t.grad(&grads).unwrap();
    assert_eq!(read(grad(&w)), [0.5, -2.5]);
    assert_eq!(read(grad(&x)), [-0.5, 1.0]);
}

#[test]
fn values_and_gradients_are_the_formulas() {
    let device = Device::flex().autodiff();
    for (xs, ws, options) in cases() {
        let x = wave(xs.iter().product(), 0.37, 2.0);
        let w = wave(ws.iter().product(), 0.91, 1.5);
        let xt = tensor(&x, xs, &device).require_grad();
        let wt = tensor(&w, ws, &device).require_grad();
        let y = adder2d(xt.clone().into(), wt.clone().into(), None, options);
        let grad = wave(y.shape().num_elements(), 1.7, 1.0);
        let expected = formula((&x, xs), (&w, ws), &grad, &options);
        assert_near("output", y.clone(), &expected.y);
        let grads = (y.clone() * tensor(&grad, y.dims(), &device))
            .sum()
            .backward();
        assert_near("input", xt.grad(&grads).unwrap(), &expected.to_input);
        assert_near("weight", wt.grad(&grads).unwrap(), &expected.to_weight);
    }
}

#[test]
fn the_adaptive_rate_fixes_the_norm_of_the_gradient() {
    let device = Device::flex().autodiff();
    let (xs, ws, options) = cases()[0];
    let x = tensor(&wave(xs.iter().product(), 0.37, 2.0), xs, &device);
    let gradient = |adaptive_rate| {
        let w = tensor(&wave(ws.iter().product(), 0.91, 1.5), ws, &device).require_grad();
        let options = AdderOptions {
            adaptive_rate,
            ..options
        };
        let grads = adder2d(x.clone().into(), w.clone().into(), None, options)
            .sum()
            .backward();
        let grad: Vec<f32> = w.grad(&grads).unwrap().into_data().iter().collect();
        grad
    };
    let norm = |g: &[f32]| g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let (plain, scaled) = (gradient(None), gradient(Some(0.2)));
    // 0.2 sqrt(4 * 3 * 3 * 2)
    let expected = 0.2 * 72f64.sqrt();
    assert!((norm(&scaled) / expected - 1.0).abs() < 1e-5);
    for (g, scaled) in plain.iter().zip(&scaled) {
        let direction = f64::from(*g) * expected / norm(&plain);
        assert!((f64::from(*scaled) - direction).abs() < 1e-5);
    }
}

#[test]
fn the_composed_passes_agree_with_the_kernels() {
    let flex =
        |v: &[f32], shape: [usize; 4]| FlexTensor::from_data(TensorData::new(v.to_vec(), shape));
    let near = |a: FlexTensor, b: FlexTensor| {
        assert_eq!(a.shape(), b.shape());
        let b: Vec<f32> = b.into_data().iter::<f32>().collect();
        for (a, b) in a.into_data().iter::<f32>().zip(b) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}");
        }
    };
    for (xs, ws, options) in cases() {
        let x = || flex(&wave(xs.iter().product(), 0.37, 2.0), xs);
        let w = || flex(&wave(ws.iter().product(), 0.91, 1.5), ws);
        let y = flex::forward(x(), w(), &options);
        let shape = y.shape();
        near(y, composed::forward::<Flex>(x(), w(), &options));
        let g = || flex(&wave(shape.num_elements(), 1.7, 1.0), shape.dims());
        near(
            flex::input_gradient(x(), w(), g(), &options),
            composed::input_gradient::<Flex>(x(), w(), g(), &options),
        );
    }
}

#[test]
#[should_panic(expected = "a kernel that reaches over 5 does not fit an input of 4")]
fn a_kernel_larger_than_the_input_is_refused() {
    let device = Device::flex();
    let x = tensor(&[0.0; 16], [1, 1, 4, 4], &device);
    let w = tensor(&[0.0; 25], [1, 1, 5, 5], &device);
    adder2d(x.into(), w.into(), None, AdderOptions::default());
}
