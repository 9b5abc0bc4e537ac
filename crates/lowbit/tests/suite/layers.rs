//! Layers without quantizers are Burn's layers, with Burn's parameter paths.

use burn::module::Module;
use burn::nn::{PaddingConfig2d, PaddingConfig3d};
use burn::tensor::{Device, Distribution, Tensor, TensorData, Tolerance};
use lowbit::config::QConfig;
use lowbit::nn;
use lowbit::quantizers::{
    DorefaWeightConfig, FormatQuantizerConfig, QuantizerConfig, Selection, Taps, set_quantization,
};

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

/// A layer of Burn's, from its record, in both directions, with a state and the batch in either place.
#[test]
fn recurrent_layers_in_both_directions_are_burns() {
    let device = Device::flex();
    for first in [true, false] {
        let burn = burn::nn::BiLstmConfig::new(3, 4, true)
            .with_batch_first(first)
            .with_input_forget(first)
            .with_clip(Some(0.3))
            .init(&device);
        let ours = nn::BiLstmConfig::new(3, 4, true)
            .with_batch_first(first)
            .with_input_forget(first)
            .with_clip(Some(0.3))
            .init(&device)
            .load_record(burn.clone().into_record());
        let (x, batch) = (noise([2, 5, 3]), if first { 2 } else { 5 });
        let state = burn::nn::LstmState::new(noise([2, batch, 4]), noise([2, batch, 4]));
        let (expected, after) = burn.forward(x.clone(), Some(state.clone()));
        let (found, ours) = ours.forward(x.clone(), Some(state));
        assert_same(expected, found);
        assert_same(after.cell, ours.cell);
        assert_same(after.hidden, ours.hidden);

        let burn = burn::nn::gru::BiGruConfig::new(3, 4, false)
            .with_batch_first(first)
            .with_reset_after(first)
            .init(&device);
        let ours = nn::BiGruConfig::new(3, 4, false)
            .with_batch_first(first)
            .with_reset_after(first)
            .init(&device)
            .load_record(burn.clone().into_record());
        let state = noise([2, batch, 4]);
        let (expected, after) = burn.forward(x.clone(), Some(state.clone()));
        let (found, ours) = ours.forward(x, Some(state));
        assert_same(expected, found);
        assert_same(after, ours);
    }
}

#[test]
fn an_lstm_reads_a_sequence_from_its_end_as_burns() {
    let device = Device::flex();
    let burn = burn::nn::LstmConfig::new(3, 4, true)
        .with_reverse(true)
        .with_batch_first(false)
        .init(&device);
    let ours = nn::LstmConfig::new(3, 4, true)
        .with_reverse(true)
        .with_batch_first(false)
        .init(&device)
        .load_record(burn.clone().into_record());
    let x = noise([5, 2, 3]);
    assert_same(burn.forward(x.clone(), None).0, ours.forward(x, None).0);
}

#[test]
fn a_gated_unit_is_burns() {
    let device = Device::flex();
    let burn = burn::nn::SwiGluConfig::new(3, 4)
        .with_bias(true)
        .init(&device);
    let ours = nn::SwiGluConfig::new(3, 4)
        .with_bias(true)
        .init(&device)
        .load_record(burn.clone().into_record());
    let x = noise([2, 5, 3]);
    assert_same(burn.forward(x.clone()), ours.forward(x));
}

#[test]
fn a_feed_forward_part_has_any_activation_of_burns() {
    use burn::nn::activation::{self, ActivationConfig};
    use burn::nn::transformer::PositionWiseFeedForwardConfig;
    let device = Device::flex();
    for activation in [
        ActivationConfig::Identity,
        ActivationConfig::Relu,
        ActivationConfig::Gelu,
        ActivationConfig::GeluApproximate,
        ActivationConfig::Selu,
        ActivationConfig::Sigmoid,
        ActivationConfig::Tanh,
        ActivationConfig::HardSwish,
        ActivationConfig::Softsign,
        ActivationConfig::LeakyRelu(activation::LeakyReluConfig::new()),
        ActivationConfig::PRelu(activation::PReluConfig::new()),
        ActivationConfig::HardSigmoid(activation::HardSigmoidConfig::new()),
        ActivationConfig::Softplus(activation::SoftplusConfig::new()),
        ActivationConfig::Elu(activation::EluConfig::new()),
        ActivationConfig::Celu(activation::CeluConfig::new()),
        ActivationConfig::ThresholdedRelu(activation::ThresholdedReluConfig::new()),
        ActivationConfig::HardShrink(activation::HardShrinkConfig::new()),
        ActivationConfig::SoftShrink(activation::SoftShrinkConfig::new()),
        ActivationConfig::Shrink(activation::ShrinkConfig::new()),
    ] {
        let burn = PositionWiseFeedForwardConfig::new(4, 6)
            .with_activation(activation.clone())
            .init(&device);
        let ours = nn::PositionWiseFeedForwardConfig::new(4, 6)
            .with_activation(activation)
            .init(&device);
        // Burn's record leaves the activation out.
        let record = burn.clone().into_record().allow_partial(true);
        let x = noise([2, 5, 4]);
        assert_same(burn.forward(x.clone()), ours.load_record(record).forward(x));
    }
}

/// Both orders of normalization, both softmaxes, with a mask of padding and one of the future.
#[test]
fn a_transformers_encoder_takes_burns_record_and_gives_burns_output() {
    use burn::nn::transformer::{TransformerEncoderConfig, TransformerEncoderInput};
    use burn::tensor::Bool;
    let device = Device::flex();
    let future = || burn::nn::attention::generate_autoregressive_mask(2, 5, &device);
    let padding = || {
        let last = [[false, false, false, false, true]; 2];
        Tensor::<2, Bool>::from_data(last, &device)
    };
    for (first, quiet) in [(false, false), (true, true)] {
        let burn = TransformerEncoderConfig::new(4, 6, 2, 2)
            .with_norm_first(first)
            .with_quiet_softmax(quiet)
            .init(&device);
        let ours = nn::TransformerEncoderConfig::new(4, 6, 2, 2)
            .with_norm_first(first)
            .with_quiet_softmax(quiet)
            .init(&device)
            .load_record(burn.clone().into_record());
        let x = noise([2, 5, 4]);
        let input = TransformerEncoderInput::new(x.clone())
            .mask_pad(padding())
            .mask_attn(future());
        let expected = burn.forward(input);
        let input = nn::TransformerEncoderInput::new(x)
            .mask_pad(padding())
            .mask_attn(future());
        assert_same(expected, ours.forward(input));
    }
}

#[test]
fn a_transformers_decoder_takes_burns_record_and_gives_burns_output() {
    use burn::nn::transformer::{TransformerDecoderConfig, TransformerDecoderInput};
    use burn::tensor::Bool;
    let device = Device::flex();
    let future = || burn::nn::attention::generate_autoregressive_mask(2, 3, &device);
    let padding = || {
        let last = [[false, false, false, false, true]; 2];
        Tensor::<2, Bool>::from_data(last, &device)
    };
    for first in [false, true] {
        let burn = TransformerDecoderConfig::new(4, 6, 2, 2)
            .with_norm_first(first)
            .init(&device);
        let ours = nn::TransformerDecoderConfig::new(4, 6, 2, 2)
            .with_norm_first(first)
            .init(&device)
            .load_record(burn.clone().into_record());
        let (target, memory) = (noise([2, 3, 4]), noise([2, 5, 4]));
        let input = TransformerDecoderInput::new(target.clone(), memory.clone())
            .memory_mask_pad(padding())
            .target_mask_attn(future());
        let expected = burn.forward(input);
        let input = nn::TransformerDecoderInput::new(target, memory)
            .memory_mask_pad(padding())
            .target_mask_attn(future());
        assert_same(expected, ours.forward(input));
    }
}

/// Whoever taps a normalization that is one pass sees what is inside it, and changes no bit.
#[test]
fn taps_do_not_change_a_normalization() {
    let device = Device::flex();
    let norm = nn::LayerNormConfig::new(5).init(&device);
    let x = noise([3, 5]);
    let taps = Taps::attach(&norm, Selection::all());
    let tapped = norm.forward(x.clone()).into_data();
    let seen: Vec<String> = taps.detach().iter().map(|seen| seen.path()).collect();
    let slots = "input mean deviation normalized gamma beta output";
    assert_eq!(seen.join(" "), slots);
    assert_eq!(norm.forward(x).into_data(), tapped);
}

/// With a grid so fine that nothing is rounded, a batch normalization composed of tensor operations
/// is the one pass, in training and after it, also its running statistics.
#[test]
fn a_composed_batch_norm_is_the_one_pass() {
    let device = Device::flex().autodiff();
    let fine = || QuantizerConfig::Format(FormatQuantizerConfig::new("e8m23".parse().unwrap()));
    let config = QConfig::new()
        .with("mean", fine())
        .with("normalized", fine());
    let plain = nn::BatchNormConfig::new(3).init(&device);
    let composed = nn::BatchNormConfig::new(3)
        .with_quantization(config)
        .init(&device);
    let relu = nn::ReluConfig::new().init(&device);
    let x = noise([4, 3, 2, 2]).autodiff();
    assert_same(plain.forward(x.clone()), composed.forward(x.clone()));
    let rectified = composed.forward_rectified(x.clone(), &relu);
    assert_same(plain.forward_rectified(x, &relu), rectified);
    let (plain, composed) = (plain.valid(), composed.valid());
    assert_same(plain.running_var.value(), composed.running_var.value());
    let x = noise([2, 3, 2, 2]);
    assert_same(plain.forward(x.clone()), composed.forward(x));
}

/// The numbers that `reference/pool3d.py` makes.
fn filled<const D: usize>(shape: [usize; D], [factor, offset, modulus]: [usize; 3]) -> Tensor<D> {
    let divisor = if modulus == 101 { 8.0 } else { 16.0 };
    let count = shape.iter().product::<usize>();
    let numbers = (0..count).map(|i| ((i * factor + offset) % modulus) as f32 / divisor);
    let numbers: Vec<f32> = numbers.collect();
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(numbers, shape), &device)
}

#[test]
fn pooling_of_volumes_is_pytorchs() {
    let lines = include_str!("../reference/pool3d.jsonl").lines();
    let mut cases = 0;
    for line in lines {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let sizes =
            |name: &str| -> Vec<usize> { serde_json::from_value(case[name].clone()).unwrap() };
        let three = |name: &str| -> [usize; 3] { sizes(name).try_into().unwrap() };
        let numbers = |name: &str| -> TensorData {
            let numbers: Vec<f32> = serde_json::from_value(case[name].clone()).unwrap();
            let shape = if name == "output" {
                "output_shape"
            } else {
                "shape"
            };
            TensorData::new(numbers, sizes(shape))
        };
        let (ceil, count) = (case["ceil"] == true, case["count"] == true);
        let [depth, height, width] = three("padding");
        let padding = PaddingConfig3d::Explicit(depth, height, width);
        let x = filled(sizes("shape").try_into().unwrap(), [37, 11, 101]).require_grad();
        let device = Device::flex().autodiff();
        let y = match case["pool"] == "max" {
            true => nn::MaxPool3dConfig::new(three("kernel"))
                .with_strides(three("stride"))
                .with_padding(padding)
                .with_dilation(three("dilation"))
                .with_ceil_mode(ceil)
                .init(&device)
                .forward(x.clone()),
            false => nn::AvgPool3dConfig::new(three("kernel"))
                .with_strides(three("stride"))
                .with_padding(padding)
                .with_count_include_pad(count)
                .with_ceil_mode(ceil)
                .init(&device)
                .forward(x.clone()),
        };
        let near = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
        let gradient = filled::<5>(y.dims(), [13, 5, 31]);
        let gradients = (y.clone() * gradient).sum().backward();
        y.into_data().assert_approx_eq(&numbers("output"), near);
        let to_x = x.grad(&gradients).unwrap().into_data();
        to_x.assert_approx_eq(&numbers("d_x"), near);
        cases += 1;
    }
    assert_eq!(cases, 40);
}
