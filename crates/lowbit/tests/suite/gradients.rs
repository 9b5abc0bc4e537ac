//! Gradients of layers without quantizers, against finite differences.

use burn::nn::PaddingConfig1d;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::nn;

fn wave(count: usize, frequency: f64) -> Vec<f32> {
    (0..count)
        .map(|i| ((i as f64 * frequency).sin() * 1.7 + 0.03) as f32)
        .collect()
}

/// Compares the gradient of a weighted sum of `layer(x)` with central differences, at every place.
/// `x` keeps away from kinks.
fn check<const D: usize, const E: usize>(
    name: &str,
    shape: [usize; D],
    layer: impl Fn(Tensor<D>) -> Tensor<E>,
) {
    let device = Device::flex().autodiff();
    let count = shape.iter().product();
    let x = wave(count, 0.77);
    let tensor = |x: &[f32]| Tensor::<D>::from_data(TensorData::new(x.to_vec(), shape), &device);
    let input = tensor(&x).require_grad();
    let output = layer(input.clone());
    let weights = wave(output.shape().num_elements(), 1.3);
    let weighted = |y: Tensor<E>| {
        let y: Vec<f32> = y.into_data().iter::<f32>().collect();
        let terms = y.iter().zip(&weights);
        terms
            .map(|(&y, &w)| f64::from(y) * f64::from(w))
            .sum::<f64>()
    };
    let w = TensorData::new(weights.clone(), output.dims());
    let grads = (output * Tensor::from_data(w, &device)).sum().backward();
    let gradient: Vec<f32> = input.grad(&grads).unwrap().into_data().iter().collect();
    let h = 1.0 / 256.0;
    for (i, gradient) in gradient.into_iter().enumerate() {
        let moved = |by: f32| {
            let mut x = x.clone();
            x[i] += by;
            weighted(layer(tensor(&x)))
        };
        let slope = (moved(h) - moved(-h)) / f64::from(2.0 * h);
        let error = (f64::from(gradient) - slope).abs();
        assert!(
            error < 3e-3 * (1.0 + slope.abs()),
            "{name}[{i}]: {gradient} {slope}"
        );
    }
}

#[test]
fn activations() {
    let device = &Device::flex().autodiff();
    let leaky = nn::LeakyReluConfig::new()
        .with_negative_slope(0.2)
        .init(device);
    check("leaky", [3, 11], |x: Tensor<2>| leaky.forward(x));
    let clamp = nn::HardtanhConfig::new().init(device);
    check("hardtanh", [3, 11], |x: Tensor<2>| clamp.forward(x));
    let sigmoid = nn::SigmoidConfig::new().init(device);
    check("sigmoid", [3, 11], |x: Tensor<2>| sigmoid.forward(x));
    let tanh = nn::TanhConfig::new().init(device);
    check("tanh", [3, 11], |x: Tensor<2>| tanh.forward(x));
}

#[test]
fn branches() {
    let device = &Device::flex().autodiff();
    let mul = nn::MulConfig::new().init(device);
    check("mul", [3, 5], |x: Tensor<2>| {
        mul.forward(x.clone(), x * 2.0 + 1.0)
    });
    let concat = nn::ConcatConfig::new().init(device);
    check("concat", [2, 5], |x: Tensor<2>| {
        concat.forward(vec![x.clone(), x * 3.0])
    });
}

#[test]
fn pooling() {
    let device = &Device::flex().autodiff();
    let max = nn::MaxPool1dConfig::new(3)
        .with_stride(2)
        .with_padding(PaddingConfig1d::Same)
        .init(device);
    check("max", [1, 2, 9], |x: Tensor<3>| max.forward(x));
    let mean = nn::AvgPool1dConfig::new(2).init(device);
    check("mean", [1, 2, 9], |x: Tensor<3>| mean.forward(x));
    let mean = nn::AdaptiveAvgPool1dConfig::new(4).init(device);
    check("adaptive 1d", [1, 2, 9], |x: Tensor<3>| mean.forward(x));
    let mean = nn::AdaptiveAvgPool3dConfig::new([1, 2, 3]).init(device);
    check("adaptive 3d", [1, 2, 2, 3, 5], |x: Tensor<5>| {
        mean.forward(x)
    });
}

#[test]
fn convolutions() {
    let device = &Device::flex().autodiff();
    let conv = nn::Conv1dConfig::new(4, 2, 3)
        .with_groups(2)
        .with_dilation(2)
        .with_padding(PaddingConfig1d::Explicit(1, 2))
        .init(device);
    check("conv1d", [2, 4, 8], |x: Tensor<3>| conv.forward(x));
    let conv = nn::Conv3dConfig::new([2, 3], [2, 1, 3])
        .with_stride([1, 2, 1])
        .init(device);
    check("conv3d", [1, 2, 3, 3, 5], |x: Tensor<5>| conv.forward(x));
    let conv = nn::ConvTranspose1dConfig::new([2, 4], 3)
        .with_stride(2)
        .with_groups(2)
        .init(device);
    check("conv_transpose1d", [2, 2, 6], |x: Tensor<3>| {
        conv.forward(x)
    });
    let conv = nn::ConvTranspose2dConfig::new([2, 3], [2, 3])
        .with_stride([2, 1])
        .with_padding([1, 0])
        .init(device);
    check("conv_transpose2d", [1, 2, 4, 3], |x: Tensor<4>| {
        conv.forward(x)
    });
    let conv = nn::ConvTranspose3dConfig::new([2, 2], [2, 1, 2])
        .with_dilation([2, 1, 1])
        .init(device);
    check("conv_transpose3d", [1, 2, 2, 3, 2], |x: Tensor<5>| {
        conv.forward(x)
    });
}
