//! Thresholds from data.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit::calibrate::{calibrate, measure};
use lowbit::config::{QConfig, QPlan};
use lowbit::nn::{Linear, LinearConfig};
use lowbit::quantizers::{QuantizerConfig, TrainedThresholdConfig};

fn layer(per_channel: bool) -> Linear {
    let tqt = |per_channel| {
        let config = TrainedThresholdConfig {
            per_channel,
            ..TrainedThresholdConfig::new(8)
        };
        Some(QuantizerConfig::Tqt(config))
    };
    let config = QConfig::new()
        .with("input", tqt(false))
        .with("weight", tqt(per_channel));
    let device = Device::flex();
    let layer = LinearConfig::new(2, 2)
        .with_bias(false)
        .with_quantization(config)
        .init(&device);
    let weight = Tensor::<2>::from_floats([[0.5, -3.0], [1.0, 2.0]], &device);
    let plain = burn::nn::LinearConfig::new(2, 2)
        .with_bias(false)
        .init(&device);
    let plain = burn::nn::Linear {
        weight: plain.weight.map(|_| weight),
        ..plain
    };
    let record = plain.into_record().allow_partial(true);
    layer.load_record(record)
}

fn inputs(values: [[f32; 2]; 2]) -> Tensor<2> {
    Tensor::from_floats(values, &Device::flex())
}

#[test]
fn a_threshold_is_the_largest_magnitude_of_all_batches() {
    let (layer, found) = calibrate(
        layer(false),
        |_| true,
        |layer: &Linear| {
            layer.forward(inputs([[0.25, 4.0], [1.0, 0.0]]));
            layer.forward(inputs([[8.0, 0.5], [1.0, 0.0]]));
        },
    )
    .unwrap();
    let input = &found[0];
    assert_eq!(input.path, "input");
    assert_eq!(
        (input.log2_threshold.as_slice(), input.signed),
        ([3.0].as_slice(), false)
    );
    let weight = &found[1];
    assert_eq!(weight.log2_threshold, [3.0f32.log2()]);
    assert!(weight.signed);
    // With the threshold 8 and 8 unsigned bits the step is 1/32: 1/64 is a tie and goes to zero.
    let y = layer.forward(inputs([[1.0 / 64.0, 0.0], [0.0, 0.0]]));
    assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), [0.0; 4]);
}

#[test]
fn a_weight_may_have_a_threshold_per_output() {
    let forward = |layer: &Linear| {
        layer.forward(inputs([[1.0, 1.0], [1.0, 1.0]]));
    };
    let (_, found) = calibrate(layer(true), |_| true, forward).unwrap();
    // The columns of the weight hold 0.5, 1 and -3, 2.
    assert_eq!(found[1].log2_threshold, [0.0, 3.0f32.log2()]);
}

#[test]
fn zeros_keep_a_threshold_of_one_and_nan_is_refused() {
    let (_, found) = calibrate(
        layer(false),
        |place| place.slot == "input",
        |layer: &Linear| {
            layer.forward(inputs([[0.0; 2]; 2]));
        },
    )
    .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].log2_threshold, [0.0]);
    for bad in [f32::NAN, f32::INFINITY] {
        let error = calibrate(
            layer(false),
            |_| true,
            |layer: &Linear| {
                layer.forward(inputs([[bad, 1.0], [1.0, 1.0]]));
                layer.forward(inputs([[1.0; 2]; 2]));
            },
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "input: saw a NaN or an infinity");
    }
}

#[test]
fn an_empty_calibration_set_is_refused() {
    let error = calibrate(layer(false), |_| true, |_: &Linear| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "input: saw no value; is the calibration set empty, or the layer unused?"
    );
}

#[test]
fn a_dead_channel_takes_the_threshold_of_the_largest_other() {
    let layer = layer(true);
    let weight = Tensor::<2>::from_floats([[0.5, 0.0], [-3.0, 0.0]], &Device::flex());
    let layer = Linear {
        weight: layer.weight.clone().map(|_| weight),
        ..layer
    };
    let forward = |layer: &Linear| {
        layer.forward(inputs([[1.0, 1.0], [1.0, 1.0]]));
    };
    let (_, found) = calibrate(layer, |_| true, forward).unwrap();
    assert_eq!(found[1].log2_threshold, [3.0f32.log2(), 3.0f32.log2()]);
    assert_eq!(found[1].zero, [1]);
    assert!(found[0].zero.is_empty());
}

#[test]
fn measuring_tells_what_is_clipped_and_lost() {
    let forward = |layer: &Linear| {
        layer.forward(inputs([[0.25, 4.0], [1.0, 0.0]]));
    };
    let (layer, _) = calibrate(layer(false), |_| true, forward).unwrap();
    // The threshold of the input is 4: 16 lies beyond the grid's end 4 - 1/64 by far, and the
    // others are on the grid, whose step is 1/64.
    let measured = measure(&layer, |layer: &Linear| {
        layer.forward(inputs([[16.0, 0.5], [0.25, 1.0]]));
    });
    let input = &measured[0];
    assert_eq!((input.path.as_str(), input.clipped), ("input", 0.25));
    assert_eq!(
        (input.threshold.as_slice(), input.bits),
        ([4.0].as_slice(), 8)
    );
    let (signal, noise) = (
        256.0 + 0.25 + 0.0625 + 1.0,
        (16.0f64 - 255.0 / 64.0).powi(2),
    );
    assert!((input.sqnr.unwrap() - 10.0 * (signal / noise).log10()).abs() < 1e-6);
    // The product with the quantized values over both lengths.
    let clipped = 255.0f64 / 64.0;
    let (product, quantized) = (16.0 * clipped + 1.3125, clipped.powi(2) + 1.3125);
    let cosine = product / (signal * quantized).sqrt();
    assert!((input.cosine.unwrap() - cosine).abs() < 1e-9);
}

#[test]
fn only_plans_with_thresholds_are_calibrated() {
    assert!(QPlan::tqt(8, 8).has_thresholds());
    assert!(!QPlan::dorefa(4, 4).has_thresholds());
    assert!(!QPlan::float().has_thresholds());
}

/// y = x w with w = [0.4, 0.3] in 8 bits and the goal [-0.5, 0.25]: an unsigned weight could not
/// cross zero; a signed one, with the threshold 1/2, holds both numbers of the goal exactly.
#[test]
fn a_weight_that_starts_positive_learns_to_be_negative() {
    let device = Device::flex().autodiff();
    let fixed = TrainedThresholdConfig {
        retrain: false,
        ..TrainedThresholdConfig::new(8)
    };
    let config = QConfig::new().with("weight", QuantizerConfig::Tqt(fixed));
    let layer = LinearConfig::new(1, 2).with_bias(false);
    let mut layer = layer.with_quantization(config).init(&device);
    let weight = |values| Tensor::<2>::from_floats([values], &device).require_grad();
    layer.weight = layer.weight.map(|_| weight([0.4, 0.3]));
    let one = || Tensor::<2>::from_floats([[1.0]], &device);
    let forward = |layer: &Linear| {
        layer.forward(one().without_autodiff());
    };
    let (mut layer, found) = calibrate(layer, |_| true, forward).unwrap();
    assert!(found[0].signed);
    let loss = |layer: &Linear| (layer.forward(one()) - weight([-0.5, 0.25])).square().sum();
    for _ in 0..400 {
        let grads = loss(&layer).backward();
        let step = layer.weight.val().grad(&grads).unwrap() * 0.05;
        let moved = layer.weight.val().without_autodiff() - step;
        layer.weight = layer.weight.map(|_| moved.autodiff().require_grad());
    }
    assert_eq!(loss(&layer).into_scalar::<f32>(), 0.0);
}

#[derive(Module, Debug)]
struct Producers {
    linear: Linear,
    relu: lowbit::nn::Relu,
    pool: lowbit::nn::MaxPool1d,
    add: lowbit::nn::Add,
    last: Linear,
}

/// All numbers are positive, and all that a rectifier did not make may be negative once the weights
/// are others (arXiv 1903.08066, section 3.2: signed weights, unsigned after a rectifier).
#[test]
fn what_may_become_negative_is_signed_although_it_is_positive_today() {
    let device = Device::flex();
    let tqt = QuantizerConfig::Tqt(TrainedThresholdConfig::new(8));
    let input = || QConfig::new().with("input", tqt.clone());
    let linear = |config| {
        let layer = LinearConfig::new(4, 4).with_bias(false);
        let mut layer = layer.with_quantization(config).init(&device);
        layer.weight = layer.weight.map(|_| Tensor::ones([4, 4], &device));
        layer
    };
    let net = Producers {
        linear: linear(input().with("output", tqt.clone())),
        relu: lowbit::nn::ReluConfig::new()
            .with_quantization(input())
            .init(&device),
        pool: lowbit::nn::MaxPool1dConfig::new(2)
            .with_quantization(input())
            .init(&device),
        add: lowbit::nn::AddConfig::new()
            .with_quantization(input())
            .init(&device),
        last: linear(input()),
    };
    let forward = |net: &Producers| {
        let x = Tensor::<2>::from_floats([[0.5, 1.0, 2.0, 0.25]; 2], &device);
        let sums = net.linear.forward(x.clone());
        let rectified = net.relu.forward(x * 2.0);
        let pooled = net.pool.forward(rectified.clone().reshape([2, 1, 4]));
        assert_eq!(pooled.dims(), [2, 1, 2]);
        // One branch is rectified, the other not.
        let added = net.add.forward(rectified, sums);
        net.last.forward(added);
    };
    let (_, found) = calibrate(net, |_| true, forward).unwrap();
    let signed: Vec<(&str, bool)> = found.iter().map(|f| (f.path.as_str(), f.signed)).collect();
    assert_eq!(
        signed,
        [
            // No layer made the network's inputs: their numbers tell.
            ("linear.input", false),
            ("linear.output", true),
            ("relu.input", false),
            ("pool.input", false),
            ("add.input", true),
            ("last.input", true),
        ]
    );
}
