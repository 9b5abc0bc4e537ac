//! Sums of products in registers of a few bits.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use lowbit::analysis::accumulator_bits;
use lowbit::config::{Planner, QConfig, QPlan, TqtWidths};
use lowbit::models::{Architecture, Classifier};
use lowbit::nn;
use lowbit::quantizers::{
    AccumulatorConfig, Quantizer, QuantizerConfig, TrainedThresholdConfig, set_quantization,
};

fn threshold(bits: u32, per_channel: bool) -> Option<QuantizerConfig> {
    Some(QuantizerConfig::Tqt(TrainedThresholdConfig {
        per_channel,
        ..TrainedThresholdConfig::new(bits)
    }))
}

fn config(accumulator: u32, per_channel: bool) -> QConfig {
    QConfig::new()
        .with("input", threshold(4, false))
        .with("weight", threshold(4, per_channel))
        .with_accumulator(accumulator)
}

fn param<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn read<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().iter::<f32>().collect()
}

fn set_thresholds(slot: Option<&mut Quantizer>, log2: &[f32], device: &Device) {
    let Some(Quantizer::TrainedThreshold(threshold)) = slot else {
        panic!("a trained threshold was asked for");
    };
    threshold.log2_threshold = param(log2, [log2.len()], device);
}

/// Four bits, thresholds 1: steps 1/8 and 1/8, so the sum's is 1/64, and a register of 6 bits holds
/// -32/64 to 31/64. Inputs 7/8; weights 7/8, 4/8 and -6/8: 49, 28 and -42 in 64ths.
#[test]
fn a_linear_layers_sum_saturates_before_the_bias() {
    let device = Device::flex().autodiff();
    let mut linear = nn::LinearConfig::new(1, 3)
        .with_quantization(config(6, false))
        .init(&device);
    linear.weight = param(&[0.875, 0.5, -0.75], [1, 3], &device);
    linear.bias = Some(param(&[10.0, 20.0, 30.0], [3], &device));
    let x = Tensor::<2>::from_floats([[0.875]], &device).require_grad();
    let y = linear.forward(x.clone());
    let sums = [31.0, 28.0, -32.0].map(|k: f32| k / 64.0);
    let expected = [10.0 + sums[0], 20.0 + sums[1], 30.0 + sums[2]];
    assert_eq!(read(y.clone()), expected);
    // Only the middle sum lets the gradient through: its weight reaches the input.
    let grads = y.sum().backward();
    assert_eq!(read(x.grad(&grads).unwrap()), [0.5]);
    assert_eq!(
        read(linear.weight.val().grad(&grads).unwrap()),
        [0.0, 0.875, 0.0]
    );
    let bias = linear.bias.as_ref().unwrap().val();
    assert_eq!(read(bias.grad(&grads).unwrap()), [1.0; 3]);
}

/// Per channel the step is each channel's own: weight steps 1/8 and 1/2 with the input's 1/8 give
/// limits of 31/64 and 31/16 in 6 bits.
#[test]
fn each_channel_has_its_own_step() {
    let device = Device::flex();
    let mut conv = nn::Conv1dConfig::new(1, 2, 1)
        .with_bias(false)
        .with_quantization(config(6, true))
        .init(&device);
    conv.weight = param(&[0.875, 3.5], [2, 1, 1], &device);
    set_thresholds(conv.quantizers.get_mut("weight"), &[0.0, 2.0], &device);
    let y = conv.forward(Tensor::full([1, 1, 1], 0.875, &device));
    assert_eq!(read(y), [31.0 / 64.0, 31.0 / 16.0]);

    // In a transposed convolution the thresholds repeat with the groups.
    let mut conv = nn::ConvTranspose1dConfig::new([2, 4], 1)
        .with_groups(2)
        .with_bias(false)
        .with_quantization(config(6, true))
        .init(&device);
    conv.weight = param(&[0.875, 3.5, -0.875, -3.5], [2, 2, 1], &device);
    set_thresholds(conv.quantizers.get_mut("weight"), &[0.0, 2.0], &device);
    let y = conv.forward(Tensor::full([1, 2, 1], 0.875, &device));
    assert_eq!(read(y), [31.0 / 64.0, 31.0 / 16.0, -0.5, -2.0]);
}

/// 4 by 4 bits, the input possibly unsigned, and nine terms: at most 8 * 15 * 9 = 1080 in magnitude,
/// 12 bits with the sign; a register of 32 changes nothing.
#[test]
fn a_register_that_is_wide_enough_changes_nothing() {
    let device = Device::flex();
    let conv = |accumulator| {
        let mut config = config(0, false);
        config.accumulator = accumulator;
        nn::Conv2dConfig::new([1, 4], [3, 3])
            .with_quantization(config)
            .init(&device)
    };
    let without = conv(None);
    let x = Tensor::<4>::ones([1, 1, 6, 6], &device) * 0.6;
    for bits in [12, 32, 64] {
        let mut with = conv(Some(AccumulatorConfig { bits }));
        with.weight = without.weight.clone();
        with.bias = without.bias.clone();
        assert_eq!(
            read(with.forward(x.clone())),
            read(without.forward(x.clone()))
        );
    }
}

#[test]
fn it_is_switched_off_with_the_others() {
    let device = Device::flex();
    let mut linear = nn::LinearConfig::new(1, 1)
        .with_bias(false)
        .with_quantization(config(2, false))
        .init(&device);
    linear.weight = param(&[0.875], [1, 1], &device);
    let x = Tensor::<2>::from_floats([[0.875]], &device);
    assert_eq!(read(linear.forward(x.clone())), [1.0 / 64.0]);
    let (off, changed) = set_quantization(linear, false, |place| place.slot == "accumulator");
    assert_eq!(changed, ["accumulator"]);
    assert_eq!(read(off.forward(x.clone())), [0.875 * 0.875]);
    // Without a quantized weight there is no step to saturate at.
    let (on, _) = set_quantization(off, true, |_| true);
    let (off, _) = set_quantization(on, false, |place| place.slot == "weight");
    assert_eq!(read(off.forward(x)), [0.875 * 0.875]);
}

/// Inputs on steps of 1/8 and weights on steps of 1/2 (threshold 4): distances are counted in
/// eighths. |7/8 - 2| is 9 of them, |7/8 + 4| is 39; 6 bits end at -32.
#[test]
fn an_adder_saturates_at_the_smaller_step() {
    let device = Device::flex();
    let mut adder = nn::Adder2dConfig::new([1, 2], [1, 1])
        .with_bias(true)
        .with_quantization(config(6, false))
        .init(&device);
    adder.weight = param(&[2.0, -4.0], [2, 1, 1, 1], &device);
    adder.bias = Some(param(&[1.0, 2.0], [2], &device));
    set_thresholds(adder.quantizers.get_mut("weight"), &[2.0], &device);
    let y = adder.forward(Tensor::full([1, 1, 1, 1], 0.875, &device));
    assert_eq!(read(y), [1.0 - 9.0 / 8.0, 2.0 - 4.0]);
}

#[test]
fn a_shift_convolution_saturates_too() {
    // Weights of 2 bits are 0 and +-1; inputs have steps 1/8: 7/8 twice is 14/8, 4 bits end at 7/8.
    let device = Device::flex();
    let config = config(4, false).without("weight");
    let mut shift = nn::ShiftConv2dConfig::new([2, 1], [1, 1])
        .with_bias(false)
        .with_weight_bits(2)
        .with_quantization(config)
        .init(&device);
    shift.weight = param(&[0.9, 0.8], [1, 2, 1, 1], &device);
    let y = shift.forward(Tensor::full([1, 2, 1, 1], 0.875, &device));
    assert_eq!(read(y), [0.875]);
}

/// Both networks with every tensor quantized: a step of training reaches each threshold that the
/// plan asked for, and the report lists each layer that sums products.
#[test]
fn whole_networks_train_with_every_tensor_quantized() {
    let device = Device::flex().autodiff();
    for (name, sums) in [("lenet", 4), ("resnet8", 10)] {
        let architecture: Architecture = name.parse().unwrap();
        let (input, classes) = architecture.usual_images();
        let plan = QPlan::tqt_integer(TqtWidths::default());
        let model = architecture
            .init(input, classes, &plan, 0, &device)
            .unwrap();
        let report = accumulator_bits(&model, model.layers());
        assert_eq!(report.len(), sums, "{name}");
        assert!(
            report
                .iter()
                .all(|layer| layer.given == Some(32) && layer.is_enough())
        );

        let [channels, height, width] = input;
        let images = Tensor::random(
            [4, channels, height, width],
            Distribution::Normal(0.0, 1.0),
            &device,
        );
        let grads = model.forward(images).sum().backward();
        let mut thresholds = Thresholds {
            grads: &grads,
            path: Vec::new(),
            with: 0,
            without: Vec::new(),
        };
        model.visit(&mut thresholds);
        let planned: usize = model
            .layers()
            .iter()
            .map(|layer| layer.config.slots().count())
            .sum();
        assert_eq!(thresholds.without, Vec::<String>::new(), "{name}");
        assert_eq!(thresholds.with, planned, "{name}");
    }
}

/// Which thresholds a gradient reaches.
struct Thresholds<'a> {
    grads: &'a burn::tensor::Gradients,
    path: Vec<String>,
    with: usize,
    without: Vec<String>,
}

impl ModuleVisitor for Thresholds<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self
            .path
            .last()
            .is_some_and(|name| name == "log2_threshold")
        {
            match param.val().grad(self.grads) {
                Some(_) => self.with += 1,
                None => self.without.push(self.path.join(".")),
            }
        }
    }
}

fn refusal(plan: &str) -> String {
    let plan = match QPlan::from_toml(plan) {
        Ok(plan) => plan,
        Err(error) => return error.to_string(),
    };
    let mut planner = Planner::new(&plan).unwrap();
    let linear = planner.layer("fc1", nn::LinearConfig::new(1, 1));
    let relu = planner.layer("relu", nn::ReluConfig::new());
    linear.err().or(relu.err()).unwrap().to_string()
}

#[test]
fn an_accumulator_without_a_step_is_refused_in_one_line() {
    assert_eq!(
        refusal("[default]\naccumulator = { bits = 32 }"),
        "fc1.accumulator: input is in float, expected one with a power-of-two step"
    );
    assert_eq!(
        refusal(
            "[default]\naccumulator = { bits = 32 }\ninput = { method = \"tqt\", bits = 8 }\n\
             weight = { method = \"dorefa-weight\", bits = 4 }"
        ),
        "default.accumulator: weight is dorefa-weight, expected one with a power-of-two step"
    );
    assert_eq!(
        refusal(
            "[default]\naccumulator = { bits = 32 }\nweight = { method = \"tqt\", bits = 8 }\n\
             input = { method = \"format\", format = \"e4m3\" }"
        ),
        "default.accumulator: input is e4m3, expected one with a power-of-two step"
    );
    assert_eq!(
        refusal("[default]\naccumulator = { bits = 1 }"),
        "default.accumulator: bits is 1, expected 2 to 64"
    );
    assert_eq!(
        refusal("[[overrides]]\npath = \"relu\"\nconfig.accumulator = { bits = 32 }"),
        "relu: a Relu has no accumulator to quantize"
    );
}
