//! Layers without quantizers are Burn's layers, with Burn's parameter paths.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Distribution, Tensor, Tolerance};
use lowbit::config::QConfig;
use lowbit::nn;
use lowbit::quantizers::{DorefaWeightConfig, QuantizerConfig, set_quantization};

fn noise<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Equal up to the order in which numbers are added.
fn assert_same<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
    a.into_data()
        .assert_approx_eq::<f32>(&b.into_data(), Tolerance::rel_abs(1e-5, 1e-5));
}

#[test]
fn a_convolution_takes_burns_record_and_gives_burns_output() {
    let device = Device::flex();
    for padding in [
        PaddingConfig2d::Valid,
        PaddingConfig2d::Same,
        PaddingConfig2d::Explicit(2, 1, 0, 3),
    ] {
        let burn = burn::nn::conv::Conv2dConfig::new([3, 4], [3, 2])
            .with_stride([2, 1])
            .with_padding(padding.clone())
            .init(&device);
        let ours = nn::Conv2dConfig::new([3, 4], [3, 2])
            .with_stride([2, 1])
            .with_padding(padding)
            .init(&device)
            .load_record(burn.clone().into_record());
        let x = noise([2, 3, 9, 10]);
        assert_same(burn.forward(x.clone()), ours.forward(x));
    }
}

#[test]
fn linear_takes_burns_record_and_gives_burns_output() {
    let device = Device::flex();
    let burn = burn::nn::LinearConfig::new(5, 7).init(&device);
    let ours = nn::LinearConfig::new(5, 7)
        .init(&device)
        .load_record(burn.clone().into_record());
    let x = noise([3, 5]);
    assert_same(burn.forward(x.clone()), ours.forward(x));
}

#[test]
fn batch_norm_follows_and_applies_burns_statistics() {
    let device = Device::flex().autodiff();
    let burn = burn::nn::BatchNormConfig::new(4).init(&device);
    let ours = nn::BatchNormConfig::new(4)
        .init(&device)
        .load_record(burn.clone().into_record());
    let x = noise([8, 4, 3, 3]).autodiff();
    assert_same(burn.forward(x.clone()), ours.forward(x));
    let (burn, ours) = (burn.valid(), ours.valid());
    let x = noise([2, 4, 3, 3]);
    assert_same(burn.forward(x.clone()), ours.forward(x));
}

#[test]
fn pooling_and_activations_are_burns() {
    let device = Device::flex();
    let x = noise([2, 3, 9, 9]);
    let burn = burn::nn::pool::MaxPool2dConfig::new([3, 3])
        .with_strides([2, 2])
        .init();
    let ours = nn::MaxPool2dConfig::new([3, 3])
        .with_strides([2, 2])
        .init(&device);
    assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
    let burn = burn::nn::pool::AvgPool2dConfig::new([2, 2])
        .with_padding(PaddingConfig2d::Same)
        .init();
    let ours = nn::AvgPool2dConfig::new([2, 2])
        .with_padding(PaddingConfig2d::Same)
        .init(&device);
    assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
    let ours = nn::AdaptiveAvgPool2dConfig::new([1, 1]).init(&device);
    let burn = burn::nn::pool::AdaptiveAvgPool2dConfig::new([1, 1]).init();
    assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
    let relu6 = nn::Relu6Config::new()
        .init(&device)
        .forward(x.clone() * 10.0);
    assert_same((x.clone() * 10.0).clamp(0.0, 6.0), relu6);
    let sum = nn::AddConfig::new()
        .init(&device)
        .forward(x.clone(), x.clone());
    assert_same(x * 2.0, sum);
}

#[test]
fn a_quantizer_can_be_switched_off_and_on() {
    let device = Device::flex();
    let quantizer = QuantizerConfig::DorefaWeight(DorefaWeightConfig::new(2));
    let config = QConfig::new().with("weight", quantizer);
    let layer = nn::LinearConfig::new(5, 7)
        .with_quantization(config)
        .init(&device);
    let x = noise([3, 5]);
    let quantized = layer.forward(x.clone()).into_data();
    let (off, changed) = set_quantization(layer, false, |_| true);
    assert_eq!(changed, ["weight"]);
    let plain = burn::nn::LinearConfig::new(5, 7)
        .init(&device)
        .load_record(off.clone().into_record());
    let unquantized = off.forward(x.clone());
    assert_same(plain.forward(x.clone()), unquantized.clone());
    assert_ne!(unquantized.into_data(), quantized, "the switch is dead");
    let (on, _) = set_quantization(off, true, |_| true);
    assert_eq!(on.forward(x).into_data(), quantized);
}
