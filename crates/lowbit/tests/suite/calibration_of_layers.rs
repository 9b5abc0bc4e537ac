//! Calibration of every kind of layer that the trained networks do not have.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use lowbit::calibrate::{Calibrated, calibrate};
use lowbit::config::QConfig;
use lowbit::nn;
use lowbit::quantizers::{QuantizerConfig, TrainedThresholdConfig};

/// One layer of each kind, all of whose tensors pass through quantizers.
#[derive(Module, Debug)]
struct Net {
    embedding: nn::Embedding,
    conv1d: nn::Conv1d,
    leaky_relu: nn::LeakyRelu,
    conv_transpose1d: nn::ConvTranspose1d,
    sigmoid: nn::Sigmoid,
    tanh: nn::Tanh,
    concat: nn::Concat,
    conv_transpose2d: nn::ConvTranspose2d,
    shift_conv2d: nn::ShiftConv2d,
    hardtanh: nn::Hardtanh,
    adder2d: nn::Adder2d,
    mul: nn::Mul,
    conv3d: nn::Conv3d,
    conv_transpose3d: nn::ConvTranspose3d,
}

/// The slots of each layer, in the order of the module tree.
const SLOTS: [(&str, &[&str]); 14] = [
    ("embedding", &["weight", "output"]),
    ("conv1d", &["input", "weight", "bias", "output"]),
    ("leaky_relu", &["input", "output"]),
    ("conv_transpose1d", &["input", "weight", "bias", "output"]),
    ("sigmoid", &["input", "output"]),
    ("tanh", &["input", "output"]),
    ("concat", &["input", "output"]),
    ("conv_transpose2d", &["input", "weight", "bias", "output"]),
    ("shift_conv2d", &["input", "bias", "output"]),
    ("hardtanh", &["input", "output"]),
    ("adder2d", &["input", "weight", "bias", "output"]),
    ("mul", &["input", "output"]),
    ("conv3d", &["input", "weight", "bias", "output"]),
    ("conv_transpose3d", &["input", "weight", "bias", "output"]),
];

impl Net {
    fn new(per_channel: bool, device: &Device) -> Self {
        let config = |layer: &str| {
            let (_, slots) = SLOTS.iter().find(|(name, _)| *name == layer).unwrap();
            let slot = |name: &str| {
                let config = TrainedThresholdConfig {
                    per_channel: per_channel && name == "weight",
                    ..TrainedThresholdConfig::new(8)
                };
                let wanted = slots.contains(&name);
                wanted.then_some(QuantizerConfig::Tqt(config))
            };
            ["input", "weight", "bias", "output"]
                .into_iter()
                .fold(QConfig::new(), |config, name| config.with(name, slot(name)))
        };
        Self {
            embedding: nn::EmbeddingConfig::new(10, 4)
                .with_quantization(config("embedding"))
                .init(device),
            conv1d: nn::Conv1dConfig::new(4, 3, 1)
                .with_quantization(config("conv1d"))
                .init(device),
            leaky_relu: nn::LeakyReluConfig::new()
                .with_quantization(config("leaky_relu"))
                .init(device),
            conv_transpose1d: nn::ConvTranspose1dConfig::new([3, 4], 1)
                .with_quantization(config("conv_transpose1d"))
                .init(device),
            sigmoid: nn::SigmoidConfig::new()
                .with_quantization(config("sigmoid"))
                .init(device),
            tanh: nn::TanhConfig::new()
                .with_quantization(config("tanh"))
                .init(device),
            concat: nn::ConcatConfig::new()
                .with_quantization(config("concat"))
                .init(device),
            conv_transpose2d: nn::ConvTranspose2dConfig::new([1, 2], [1, 1])
                .with_quantization(config("conv_transpose2d"))
                .init(device),
            shift_conv2d: nn::ShiftConv2dConfig::new([2, 3], [1, 1])
                .with_quantization(config("shift_conv2d"))
                .init(device),
            hardtanh: nn::HardtanhConfig::new()
                .with_quantization(config("hardtanh"))
                .init(device),
            adder2d: nn::Adder2dConfig::new([3, 2], [1, 1])
                .with_bias(true)
                .with_quantization(config("adder2d"))
                .init(device),
            mul: nn::MulConfig::new()
                .with_quantization(config("mul"))
                .init(device),
            conv3d: nn::Conv3dConfig::new([2, 2], [1, 1, 1])
                .with_quantization(config("conv3d"))
                .init(device),
            conv_transpose3d: nn::ConvTranspose3dConfig::new([2, 2], [1, 1, 1])
                .with_quantization(config("conv_transpose3d"))
                .init(device),
        }
    }

    fn forward(&self, words: Tensor<2, Int>) -> Tensor<5> {
        let [batch, length] = words.dims();
        let x = self.embedding.forward(words).swap_dims(1, 2);
        let x = self.leaky_relu.forward(self.conv1d.forward(x));
        let x = self.conv_transpose1d.forward(x);
        let branches = vec![self.sigmoid.forward(x.clone()), self.tanh.forward(x)];
        let x = self.concat.forward(branches);
        let x = self
            .conv_transpose2d
            .forward(x.reshape([batch, 1, 8, length]));
        let y = self.hardtanh.forward(self.shift_conv2d.forward(x.clone()));
        let x = self.mul.forward(self.adder2d.forward(y), x);
        let x = self.conv3d.forward(x.reshape([batch, 2, 1, 8, length]));
        self.conv_transpose3d.forward(x)
    }
}

fn calibrated(net: Net) -> (Net, Vec<Calibrated>) {
    let words = Tensor::<2, Int>::from_ints([[0, 3, 5], [9, 1, 1]], &Device::flex());
    calibrate(
        net,
        |_| true,
        |net: &Net| {
            net.forward(words.clone());
        },
    )
    .unwrap()
}

fn found<'a>(found: &'a [Calibrated], path: &str) -> &'a Calibrated {
    found.iter().find(|tensor| tensor.path == path).unwrap()
}

#[test]
fn every_threshold_is_set_from_what_reaches_it() {
    let (net, thresholds) = calibrated(Net::new(false, &Device::flex()));
    let paths: Vec<&str> = thresholds.iter().map(|t| t.path.as_str()).collect();
    let expected: Vec<String> = SLOTS
        .iter()
        .flat_map(|(layer, slots)| slots.iter().map(move |slot| format!("{layer}.{slot}")))
        .collect();
    assert_eq!(paths, expected);
    for tensor in &thresholds {
        // By the maximum, the threshold is the largest magnitude seen.
        let (min, max) = tensor.observed[0];
        let largest = max.max(-min);
        assert!(largest > 0.0, "{tensor:?}");
        assert_eq!(tensor.log2_threshold, [largest.log2()], "{}", tensor.path);
        // A parameter, and what layers make of it, may have to change its sign in training (arXiv
        // 1903.08066 has signed weights); no parameter makes a sigmoid negative.
        let signed = tensor.path != "sigmoid.output";
        assert_eq!(tensor.signed, signed, "{}", tensor.path);
    }
    let sees = |layer: &str, slot: &str| found(&thresholds, &format!("{layer}.{slot}")).observed[0];
    // A sigmoid is positive, minus a distance and a bias below is not; both branches of a
    // concatenation share one threshold, which sees both.
    assert!(!found(&thresholds, "sigmoid.output").signed);
    assert!(found(&thresholds, "adder2d.output").signed);
    let (sigmoid, tanh) = (sees("sigmoid", "output"), sees("tanh", "output"));
    let both = (sigmoid.0.min(tanh.0), sigmoid.1.max(tanh.1));
    assert_eq!(sees("concat", "input"), both);
    // A weight's threshold is the weight's own largest magnitude.
    let weight = net.adder2d.weight.val().abs().max().into_scalar::<f32>();
    let (min, max) = sees("adder2d", "weight");
    assert_eq!(max.max(-min), weight);
}

#[test]
fn a_tensor_of_zeros_keeps_a_threshold_of_one() {
    let device = Device::flex();
    let mut net = Net::new(false, &device);
    net.embedding.weight = Param::from_tensor(Tensor::zeros([10, 4], &device));
    net.adder2d.weight = Param::from_tensor(Tensor::zeros([2, 3, 1, 1], &device));
    let (net, thresholds) = calibrated(net);
    let zeros = [
        "embedding.weight",
        "embedding.output",
        "conv1d.input",
        "adder2d.weight",
    ];
    for path in zeros {
        let tensor = found(&thresholds, path);
        assert_eq!(tensor.log2_threshold, [0.0], "{path}");
        assert_eq!(
            (&tensor.zero[..], tensor.signed),
            (&[0][..], true),
            "{path}"
        );
    }
    let words = Tensor::<2, Int>::from_ints([[4, 2, 2]], &device);
    let y = net.forward(words).into_data();
    assert!(y.iter::<f32>().all(|y: f32| y.is_finite()));
}

/// The weight with zeros for its output channel `dead`, of `axis`.
fn killed<const D: usize>(weight: &Param<Tensor<D>>, axis: usize, dead: usize) -> Param<Tensor<D>> {
    let weight = weight.val();
    let mut ranges = weight.dims().map(|size| 0..size);
    ranges[axis] = dead..dead + 1;
    let zeros = weight.clone().slice(ranges.clone()).zeros_like();
    Param::from_tensor(weight.slice_assign(ranges, zeros))
}

#[test]
fn a_dead_channel_takes_the_largest_other_threshold() {
    let mut net = Net::new(true, &Device::flex());
    // Channels out are first in a convolution and second in a transposed one.
    net.conv1d.weight = killed(&net.conv1d.weight, 0, 1);
    net.adder2d.weight = killed(&net.adder2d.weight, 0, 1);
    net.conv3d.weight = killed(&net.conv3d.weight, 0, 1);
    net.conv_transpose1d.weight = killed(&net.conv_transpose1d.weight, 1, 1);
    net.conv_transpose2d.weight = killed(&net.conv_transpose2d.weight, 1, 1);
    net.conv_transpose3d.weight = killed(&net.conv_transpose3d.weight, 1, 1);
    let (_, thresholds) = calibrated(net);
    for (layer, channels) in [
        ("conv1d", 3),
        ("adder2d", 2),
        ("conv3d", 2),
        ("conv_transpose1d", 4),
        ("conv_transpose2d", 2),
        ("conv_transpose3d", 2),
    ] {
        let tensor = found(&thresholds, &format!("{layer}.weight"));
        assert_eq!(tensor.log2_threshold.len(), channels, "{layer}");
        assert_eq!(tensor.zero, [1], "{layer}");
        let others = tensor.log2_threshold.iter().enumerate();
        let others = others.filter(|(channel, _)| *channel != 1);
        let largest = others.map(|(_, &t)| t).reduce(f32::max).unwrap();
        assert_eq!(tensor.log2_threshold[1], largest, "{layer}");
    }
}
