//! Convolutions in one to three dimensions, transposed too, and what pairs with them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv as burn_nn;
use burn::nn::{PaddingConfig1d, PaddingConfig3d};
use burn::tensor::{Device, Distribution, Tensor, TensorData, Tolerance};
use lowbit::config::QConfig;
use lowbit::nn;
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig, TrainedThresholdConfig};

use crate::numbers::numbers;

fn noise<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn assert_same<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
    assert_eq!(a.dims(), b.dims());
    a.into_data()
        .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(0.0));
}

/// Multiples of 2^-8, of which sums of products are exact in any order: kernels that add in another
/// one give the same bits.
fn of_few_bits<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (x * 256.0).round() / 256.0
}

/// The paths of a module's parameters, with their shapes.
#[derive(Default)]
struct Keys {
    path: Vec<String>,
    found: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for Keys {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.val().dims().to_vec();
        self.found.push((self.path.join("."), shape));
    }
}

fn keys<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut keys = Keys::default();
    module.visit(&mut keys);
    keys.found
}

#[test]
fn conv1d_takes_burns_record_and_gives_burns_output() {
    let device = Device::flex();
    for padding in [
        PaddingConfig1d::Valid,
        PaddingConfig1d::Same,
        PaddingConfig1d::Explicit(2, 1),
    ] {
        for (stride, dilation, groups) in [(1, 1, 1), (2, 1, 2), (1, 3, 4)] {
            // Burn's `Same` forgets the dilation: three taps `dilation` apart reach over
            // `2 dilation + 1`.
            let burns_padding = match padding {
                PaddingConfig1d::Same if dilation > 1 => {
                    PaddingConfig1d::Explicit(dilation, dilation)
                }
                _ => padding.clone(),
            };
            let mut burn = burn_nn::Conv1dConfig::new(4, 8, 3)
                .with_stride(stride)
                .with_dilation(dilation)
                .with_groups(groups)
                .with_padding(burns_padding)
                .init(&device);
            burn.weight = burn.weight.map(of_few_bits);
            burn.bias = burn.bias.map(|bias| bias.map(of_few_bits));
            let ours = nn::Conv1dConfig::new(4, 8, 3)
                .with_stride(stride)
                .with_dilation(dilation)
                .with_groups(groups)
                .with_padding(padding.clone())
                .init(&device);
            assert_eq!(keys(&ours), keys(&burn));
            let ours = ours.load_record(burn.clone().into_record());
            let x = of_few_bits(noise([2, 4, 13]));
            assert_same(burn.forward(x.clone()), ours.forward(x));
        }
    }
}

#[test]
fn conv3d_takes_burns_record_and_gives_burns_output() {
    let device = Device::flex();
    for padding in [
        PaddingConfig3d::Valid,
        PaddingConfig3d::Same,
        PaddingConfig3d::Explicit(1, 0, 2),
    ] {
        for (stride, dilation, groups) in [([1, 1, 1], [1, 1, 1], 1), ([1, 1, 1], [1, 1, 1], 2)] {
            let burn = burn_nn::Conv3dConfig::new([4, 6], [3, 1, 3])
                .with_stride(stride)
                .with_dilation(dilation)
                .with_groups(groups)
                .with_padding(padding.clone())
                .init(&device);
            let ours = nn::Conv3dConfig::new([4, 6], [3, 1, 3])
                .with_stride(stride)
                .with_dilation(dilation)
                .with_groups(groups)
                .with_padding(padding.clone())
                .init(&device);
            assert_eq!(keys(&ours), keys(&burn));
            let ours = ours.load_record(burn.clone().into_record());
            let x = noise([2, 4, 5, 4, 7]);
            assert_same(burn.forward(x.clone()), ours.forward(x));
        }
    }
    let burn = burn_nn::Conv3dConfig::new([2, 3], [2, 3, 2])
        .with_stride([2, 1, 3])
        .with_dilation([1, 2, 1])
        .init(&device);
    let ours = nn::Conv3dConfig::new([2, 3], [2, 3, 2])
        .with_stride([2, 1, 3])
        .with_dilation([1, 2, 1])
        .init(&device)
        .load_record(burn.clone().into_record());
    let x = noise([1, 2, 5, 7, 9]);
    assert_same(burn.forward(x.clone()), ours.forward(x));
}

/// One test a dimension: the builders have different types.
macro_rules! transposed {
    ($name:ident, $config:ident, $kernel:expr, $two:expr, $one:expr, $input:expr) => {
        #[test]
        fn $name() {
            let device = Device::flex();
            for (groups, bias) in [(1, true), (2, false)] {
                let burn = burn_nn::$config::new([4, 6], $kernel)
                    .with_stride($two)
                    .with_padding($one)
                    .with_padding_out($one)
                    .with_dilation($two)
                    .with_groups(groups)
                    .with_bias(bias)
                    .init(&device);
                let ours = nn::$config::new([4, 6], $kernel)
                    .with_stride($two)
                    .with_padding($one)
                    .with_padding_out($one)
                    .with_dilation($two)
                    .with_groups(groups)
                    .with_bias(bias)
                    .init(&device);
                assert_eq!(keys(&ours), keys(&burn));
                let ours = ours.load_record(burn.clone().into_record());
                let x = noise($input);
                assert_same(burn.forward(x.clone()), ours.forward(x));
            }
        }
    };
}

transposed!(
    conv_transpose1d_takes_burns_record_and_gives_burns_output,
    ConvTranspose1dConfig,
    3,
    2,
    1,
    [2, 4, 7]
);
transposed!(
    conv_transpose2d_takes_burns_record_and_gives_burns_output,
    ConvTranspose2dConfig,
    [3, 2],
    [2, 2],
    [1, 1],
    [2, 4, 5, 7]
);
transposed!(
    conv_transpose3d_takes_burns_record_and_gives_burns_output,
    ConvTranspose3dConfig,
    [2, 3, 2],
    [2, 2, 2],
    [1, 1, 1],
    [1, 4, 3, 2, 5]
);

fn per_channel(bits: u32) -> QConfig {
    let threshold = QuantizerConfig::Tqt(TrainedThresholdConfig {
        per_channel: true,
        ..TrainedThresholdConfig::new(bits)
    });
    QConfig::new().with("weight", threshold)
}

/// Two bits and threshold 1: weights are -1, -1/2, 0 or 1/2, each output channel's own.
#[test]
fn a_weight_is_quantized_per_output_channel() {
    let device = Device::flex();
    let conv = nn::Conv1dConfig::new(2, 3, 1)
        .with_bias(false)
        .with_quantization(per_channel(2))
        .init(&device);
    let Some(lowbit::quantizers::Quantizer::TrainedThreshold(threshold)) =
        conv.quantizers.get("weight")
    else {
        panic!("a trained threshold was asked for");
    };
    assert_eq!(threshold.log2_threshold.dims(), [3]);
    let ones = Tensor::<3>::ones([1, 2, 1], &device);
    let sums: Vec<f32> = conv.forward(ones).into_data().iter::<f32>().collect();
    assert!(
        sums.iter().all(|sum| (sum * 2.0).fract() == 0.0),
        "{sums:?}"
    );

    // The output channels of a transposed convolution are the weight's second dimension.
    let conv = nn::ConvTranspose2dConfig::new([4, 6], [2, 2])
        .with_groups(2)
        .with_quantization(per_channel(2))
        .init(&device);
    let Some(lowbit::quantizers::Quantizer::TrainedThreshold(threshold)) =
        conv.quantizers.get("weight")
    else {
        panic!("a trained threshold was asked for");
    };
    assert_eq!(threshold.log2_threshold.dims(), [3]);
    assert_eq!(conv.forward(noise([1, 4, 3, 3])).dims(), [1, 6, 4, 4]);
}

/// A transposed convolution of one pixel is its weight, so that the channel's own step shows: 2
/// bits, thresholds 1 and 4, weights of 0.6 and 1.2: 1/2 on steps of 1/2, and 2 on steps of 2.
#[test]
fn thresholds_of_a_transposed_convolution_belong_to_output_channels() {
    let device = Device::flex();
    let mut conv = nn::ConvTranspose1dConfig::new([1, 2], 1)
        .with_bias(false)
        .with_quantization(per_channel(2))
        .init(&device);
    conv.weight = Param::from_data(TensorData::new(vec![0.6f32, 1.2], [1, 2, 1]), &device);
    if let Some(lowbit::quantizers::Quantizer::TrainedThreshold(threshold)) =
        conv.quantizers.get_mut("weight")
    {
        threshold.log2_threshold =
            Param::from_data(TensorData::new(vec![0.0f32, 2.0], [2]), &device);
    }
    let y = conv.forward(Tensor::ones([1, 1, 1], &device));
    assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), [0.5, 2.0]);
}

#[test]
fn an_adder_has_a_convolutions_parameters_and_shapes() {
    let device = Device::flex();
    let conv = burn_nn::Conv2dConfig::new([4, 6], [3, 3])
        .with_bias(true)
        .init(&device);
    let adder = nn::Adder2dConfig::new([4, 6], [3, 3])
        .with_bias(true)
        .with_stride([2, 2])
        .with_padding(burn::nn::PaddingConfig2d::Same)
        .init(&device);
    assert_eq!(keys(&adder), keys(&conv));
    let adder = adder.load_record(conv.into_record());
    let y = adder.forward(noise([2, 4, 7, 9]));
    assert_eq!(y.dims(), [2, 6, 4, 5]);
}

/// Weight 0.6 rounds to 1/2 in 2 bits of threshold 1, the input 0.9 to 0.75 in 3 bits: -(0.25).
#[test]
fn an_adder_quantizes_its_operands() {
    let device = Device::flex();
    let threshold = |bits| Some(QuantizerConfig::Tqt(TrainedThresholdConfig::new(bits)));
    let config = QConfig::new()
        .with("input", threshold(3))
        .with("weight", threshold(2));
    let mut adder = nn::Adder2dConfig::new([1, 1], [1, 1])
        .with_quantization(config)
        .init(&device);
    adder.weight = Param::from_data(TensorData::new(vec![0.6f32], [1, 1, 1, 1]), &device);
    let y = adder.forward(Tensor::full([1, 1, 1, 1], 0.9, &device));
    assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), [-0.25]);
}

/// 0.7 is nearer to 1/2 in value but, as sqrt(1/2) = 0.7071, also in logarithm; 0.72 is nearer to
/// 1/2 in value and to 1 in logarithm. 5 bits end at 2^-14 and at 1; 0 stays.
#[test]
fn a_shift_convolution_rounds_weights_to_powers_of_two() {
    let device = Device::flex();
    let weights = [0.7f32, 0.72, -0.3, 5.0, -1e-9, 0.0];
    let expected = [0.5, 1.0, -0.25, 1.0, -(2.0f32).powi(-14), 0.0];
    let plain = burn_nn::Conv2dConfig::new([1, 6], [1, 1])
        .with_bias(false)
        .init(&device);
    let mut shift = nn::ShiftConv2dConfig::new([1, 6], [1, 1])
        .with_bias(false)
        .init(&device);
    assert_eq!(keys(&shift), keys(&plain));
    shift.weight = Param::from_data(TensorData::new(weights.to_vec(), [6, 1, 1, 1]), &device);
    let y = shift.forward(Tensor::ones([1, 1, 1, 1], &device));
    assert_eq!(y.into_data().iter::<f32>().collect::<Vec<_>>(), expected);
}

#[test]
fn a_shift_convolution_may_have_2_to_8_bits() {
    let device = Device::flex();
    for (bits, least) in [(2, 0), (3, -2), (8, -126)] {
        let mut shift = nn::ShiftConv2dConfig::new([1, 2], [1, 1])
            .with_bias(false)
            .with_weight_bits(bits)
            .init(&device);
        let weights = TensorData::new(vec![1e-38f32, -3.0], [2, 1, 1, 1]);
        shift.weight = Param::from_data(weights, &device);
        let y = shift.forward(Tensor::ones([1, 1, 1, 1], &device));
        let y: Vec<f32> = y.into_data().iter::<f32>().collect();
        assert_eq!(y, [(2.0f32).powi(least), -1.0], "{bits} bits");
    }
}

#[test]
fn a_shift_convolution_passes_the_gradient_straight_through() {
    let device = Device::flex().autodiff();
    let shift = nn::ShiftConv2dConfig::new([2, 3], [2, 2])
        .with_weight_bits(3)
        .init(&device);
    let x = noise([2, 2, 5, 5]).autodiff();
    let grads = shift.forward(x.clone()).sum().backward();
    // The gradient of a sum of outputs is the sum of the inputs that a weight meets.
    let grad = shift.weight.val().grad(&grads).unwrap();
    let expected = x
        .without_autodiff()
        .slice([0..2, 0..1, 0..4, 0..4])
        .sum()
        .into_scalar::<f32>();
    let first: Vec<f32> = grad.into_data().iter::<f32>().collect();
    assert!((first[0] - expected).abs() < 1e-4);
}

/// Stride 2 over sizes that the kernel's reach meets from one side only: ONNX's `SAME_UPPER` puts
/// the odd zero at the end. Burn has no such padding in three dimensions, so it convolves the image
/// with the zeros already there.
#[test]
fn conv3d_pads_one_end_more_than_the_other() {
    use burn::tensor::ops::PadMode;

    let device = Device::flex();
    let burn = burn_nn::Conv3dConfig::new([2, 3], [3, 2, 3])
        .with_stride([2, 1, 2])
        .init(&device);
    let ours = nn::Conv3dConfig::new([2, 3], [3, 2, 3])
        .with_stride([2, 1, 2])
        .with_padding(PaddingConfig3d::Same)
        .init(&device)
        .load_record(burn.clone().into_record());
    let x = noise([1, 2, 4, 5, 7]);
    // (4 / 2 - 1) 2 + 3 - 4 = 1; 5 - 1 + 2 - 5 = 1; (4 - 1) 2 + 3 - 7 = 2.
    let padded = x
        .clone()
        .pad([(0, 1), (0, 1), (1, 1)], PadMode::Constant(0.0));
    let y = ours.forward(x);
    assert_eq!(y.dims(), [1, 3, 2, 5, 4]);
    assert_same(burn.forward(padded), y);
}

/// On grids of 8 bits the layer runs in integers, where the CPU is faster so; of numbers that are rounded
/// before, which no operand tells to be integers, in floats.
#[test]
fn a_convolution_in_integers_has_the_bits_of_floats() {
    let device = Device::flex();
    let format =
        |text: &str| QuantizerConfig::Format(FormatQuantizerConfig::new(text.parse().unwrap()));
    let tqt = || QuantizerConfig::Tqt(TrainedThresholdConfig::new(8));
    for [input, weight] in [
        [format("fixed(8,5)"), format("fixed(8,7)")],
        [tqt(), tqt()],
        [format("fixed(4,2)"), tqt()],
    ] {
        let config = QConfig::new()
            .with("input", input)
            .with("weight", weight)
            .with("bias", format("fixed(12,6)"));
        let mut layer = nn::Conv2dConfig::new([5, 18], [3, 3])
            .with_stride([2, 1])
            .with_quantization(config)
            .init(&device);
        layer.weight = Param::from_tensor(numbers([18, 5, 3, 3], 0.5, &device) * 0.4);
        layer.bias = Some(Param::from_tensor(numbers([18], 0.7, &device)));
        let x = numbers([3, 5, 13, 9], 0.1, &device);
        let mut floats = nn::Conv2dConfig::new([5, 18], [3, 3])
            .with_stride([2, 1])
            .init(&device);
        let quantizers = &layer.quantizers;
        let weight = quantizers.weight(layer.weight.val()).quantized();
        floats.weight = Param::from_tensor(weight);
        floats.bias = layer
            .bias
            .as_ref()
            .map(|bias| Param::from_tensor(quantizers.bias(bias.val()).quantized()));
        let bits = |y: Tensor<4>| -> Vec<u32> {
            let numbers = y.into_data();
            numbers.iter::<f32>().map(f32::to_bits).collect()
        };
        let rounded = quantizers.input(x.clone()).quantized();
        assert_eq!(bits(layer.forward(x)), bits(floats.forward(rounded)));
    }
}
