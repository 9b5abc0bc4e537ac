//! Sequences and transposed convolutions as integers.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, ConvTranspose1d, ConvTranspose1dConfig};
use burn::nn::pool::{AvgPool1d, AvgPool1dConfig, MaxPool1d, MaxPool1dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use lowbit::calibrate::calibrate;
use lowbit::capture::{Captured, prepare};
use lowbit::config::{QConfig, QPlan};
use lowbit::integer::{IntegerNetwork, lower};
use lowbit::nn;

use crate::numbers::numbers;

/// Slots of a layer of eight bits, with a weight of its own.
fn eight_bits(weight: &str) -> QConfig {
    let text = format!(
        "input = {{ method = \"format\", format = \"fixed(8,5)\" }}
        weight = {weight}
        bias = {{ method = \"format\", format = \"fixed(12,8)\" }}
        output = {{ method = \"format\", format = \"fixed(8,4)\" }}"
    );
    toml::from_str(&text).unwrap()
}

const FIXED: &str = "{ method = \"format\", format = \"fixed(6,4)\" }";

/// The same bits for random integers, in every slot; `numbers` of them for each item.
fn assert_equal<M: Module, const I: usize, const O: usize>(
    network: &IntegerNetwork,
    model: &M,
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
    numbers: u64,
) {
    let random = network.random(40, 0, 11).remove(0);
    let x = Tensor::from_data(random, &Device::flex());
    let comparison = network.compare_tensors(model, &x, forward).unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    let compared: u64 = comparison.tensors.iter().map(|t| t.numbers).sum();
    assert_eq!(compared, 40 * numbers, "{comparison:?}");
}

/// Two convolutions of a sequence, with all that moves a window, and poolings.
#[derive(Module, Debug)]
struct Sequence {
    conv1: nn::Conv1d,
    bn: nn::BatchNorm,
    pool1: nn::MaxPool1d,
    conv2: nn::Conv1d,
    pool2: nn::AvgPool1d,
    pool3: nn::AdaptiveAvgPool1d,
    fc: nn::Linear,
}

impl Sequence {
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let x = relu(self.bn.forward(self.conv1.forward(x)));
        let x = self.conv2.forward(self.pool1.forward(x));
        let x = self.pool3.forward(self.pool2.forward(x));
        self.fc.forward(x.flatten(1, 2))
    }
}

#[test]
fn sequences_have_the_simulations_bits() {
    let device = Device::flex();
    let model = Sequence {
        conv1: nn::Conv1dConfig::new(2, 4, 3)
            .with_stride(2)
            .with_dilation(2)
            .with_padding(PaddingConfig1d::Explicit(3, 1))
            .with_quantization(eight_bits(FIXED))
            .init(&device),
        bn: nn::BatchNormConfig::new(4).init(&device),
        pool1: nn::MaxPool1dConfig::new(3)
            .with_stride(2)
            .with_padding(PaddingConfig1d::Explicit(1, 1))
            .init(&device),
        conv2: nn::Conv1dConfig::new(4, 6, 3)
            .with_groups(2)
            .with_padding(PaddingConfig1d::Same)
            .with_quantization(eight_bits(FIXED))
            .init(&device),
        pool2: nn::AvgPool1dConfig::new(2).with_stride(1).init(&device),
        pool3: nn::AdaptiveAvgPool1dConfig::new(2).init(&device),
        fc: nn::LinearConfig::new(12, 3)
            .with_quantization(eight_bits(FIXED))
            .init(&device),
    };
    let forward = |model: &Sequence, x: Tensor<3>| model.forward(x);
    let example = Tensor::zeros([1, 2, 32], &device);
    let network = lower(&model, &example, forward).unwrap_or_else(|e| panic!("{e}"));
    // 2 channels of 32; 4 of (32 + 4 - 5) / 2 + 1 = 16; 4 of (16 + 2 - 3) / 2 + 1 = 8; 6 of 8; 6 of 7
    // and 6 of 2, which are whole after the poolings, and the same as an input; 3.
    let slots = 2 * 32 + 4 * 16 + 4 * 8 + 6 * 8 + 6 * 7 + 6 * 2 + 6 * 2 + 3;
    assert_equal(&network, &model, forward, slots);
}

/// A transposed convolution whose channels have a step each, in groups, and another of a sequence.
#[derive(Module, Debug)]
struct Up {
    conv: nn::ConvTranspose2d,
}

#[test]
fn transposed_convolutions_have_the_simulations_bits() {
    let device = Device::flex();
    let tqt = "{ method = \"tqt\", bits = 5, per_channel = true }";
    let lsq = "{ method = \"lsq\", bits = 4, per_channel = true }";
    for weight in [FIXED, tqt, lsq] {
        let mut conv = nn::ConvTranspose2dConfig::new([4, 6], [3, 2])
            .with_groups(2)
            .with_stride([2, 3])
            .with_padding([1, 0])
            .with_padding_out([1, 2])
            .with_quantization(eight_bits(weight))
            .init(&device);
        // The steps that LSQ learns are no powers of two: with some weights and biases a sum of floats is on
        // the other side of a tie.
        conv.weight = Param::from_tensor(numbers([4, 3, 3, 2], 0.25, &device) * 0.15);
        conv.bias = Some(Param::from_tensor(numbers([6], 0.75, &device) * 0.1));
        let model = Up { conv };
        let forward = |model: &Up, x: Tensor<4>| model.conv.forward(x);
        let x = numbers([3, 4, 5, 4], 0.5, &device);
        let (model, _) = calibrate(model, |_| true, |model| drop(forward(model, x.clone())))
            .unwrap_or_else(|e| panic!("{weight}: {e}"));
        let model = model.valid();
        let network = lower(&model, &x, forward).unwrap_or_else(|e| panic!("{weight}: {e}"));
        // (5 - 1) 2 - 2 + 2 + 1 + 1 = 10 rows, (4 - 1) 3 + 1 + 2 + 1 = 13 columns.
        assert_equal(&network, &model, forward, 4 * 5 * 4 + 6 * 10 * 13);
    }
}

/// A perceptron, whose first layer reads an image as one dimension.
#[test]
fn a_flattened_input_has_the_simulations_bits() {
    let device = Device::flex();
    let model = nn::LinearConfig::new(24, 3)
        .with_quantization(eight_bits(FIXED))
        .init(&device);
    let forward = |model: &nn::Linear, x: Tensor<4>| model.forward(x.flatten::<2>(1, 3));
    let example = Tensor::zeros([1, 2, 4, 3], &device);
    let network = lower(&model, &example, forward).unwrap_or_else(|e| panic!("{e}"));
    let inputs = network.graph().inputs();
    assert_eq!(network.graph().tensor(inputs[0]).shape(), [2, 4, 3]);
    assert_equal(&network, &model, forward, 24 + 3);
}

/// A model of Burn's for sequences.
#[derive(Module, Debug)]
struct Stock {
    conv: Conv1d,
    max: MaxPool1d,
    up: ConvTranspose1d,
    average: AvgPool1d,
    fc: Linear,
}

impl Stock {
    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let x = self.max.forward(relu(self.conv.forward(x)));
        let x = self.average.forward(self.up.forward(x));
        self.fc.forward(x.flatten(1, 2))
    }
}

#[test]
fn captured_sequences_have_the_simulations_bits() {
    let device = Device::flex();
    let model = Stock {
        conv: Conv1dConfig::new(2, 4, 3).init(&device),
        max: MaxPool1dConfig::new(2).with_stride(2).init(),
        up: ConvTranspose1dConfig::new([4, 4], 2)
            .with_groups(4)
            .with_stride(2)
            .init(&device),
        average: AvgPool1dConfig::new(2).with_stride(2).init(),
        fc: LinearConfig::new(24, 3).init(&device),
    };
    let slots = "weight = { method = \"tqt\", bits = 4 }
        input = { method = \"tqt\", bits = 6 }";
    let plan = QPlan::from_toml(&format!(
        "[default]\n{slots}\n[first]\n{slots}\n[last]\n{slots}
        output = {{ method = \"tqt\", bits = 8 }}",
    ))
    .unwrap();
    let x = numbers([6, 2, 14], 0.25, &device);
    let run = |model: &Stock, x: Tensor<3>| model.forward(x);
    let captured = prepare(model, &plan, &x, run).unwrap_or_else(|e| panic!("{e}"));
    let calibration = x.clone();
    let see = |model: &Captured<Stock, Tensor<3>, Tensor<2>>| drop(model.forward(calibration));
    let (captured, _) = calibrate(captured, |_| true, see).unwrap();
    let captured = captured.valid();
    let run = |model: &Captured<Stock, Tensor<3>, Tensor<2>>, x: Tensor<3>| model.forward(x);
    let network = lower(&captured, &x, run).unwrap_or_else(|e| panic!("{e}"));
    // 2 of 14; 4 of 6; the last one's 4 of 6 and 3.
    assert_equal(&network, &captured, run, 2 * 14 + 4 * 6 + 4 * 6 + 3);
}
