//! Gradients in formats: the slots `error` and `gradient` of every layer, and formats both ways.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use lowbit::config::{Describe, QConfig};
use lowbit::nn;
use lowbit::ops::ClampedGradient;
use lowbit::quantizers::{FormatQuantizerConfig, Hook, QuantizerConfig, set_rounding};
use lowbit_formats::{Format, Rounding};

fn wave(count: usize, frequency: f64) -> Vec<f32> {
    let wave = |i| ((i as f64 * frequency).sin() * 1.7 + 0.03) as f32;
    (0..count).map(wave).collect()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn read<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().iter::<f32>().collect()
}

fn quantizer(format: &str) -> FormatQuantizerConfig {
    FormatQuantizerConfig::new(format.parse().unwrap())
}

fn slot(format: &str) -> QuantizerConfig {
    QuantizerConfig::Format(quantizer(format))
}

/// The numbers rounded by the format, apart from any layer.
fn rounded(format: &str, values: Vec<f32>) -> Vec<f32> {
    let format: Format = format.parse().unwrap();
    let mut values = values;
    format
        .quantize_in_place(&mut values, Rounding::NearestEven)
        .unwrap();
    values
}

/// The gradient of each parameter of a layer, by its order; those of quantizers are not among them.
struct OfParameters<'a>(&'a Gradients, Vec<Vec<f32>>);

impl ModuleVisitor for OfParameters<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.1.extend(param.val().grad(self.0).map(read));
    }
}

/// What comes back from a layer when `error` reaches its output: the gradient of the input, and those
/// of the parameters.
fn back<const D: usize, const E: usize, L: Module>(
    layer: &L,
    forward: impl Fn(&L, Tensor<D>) -> Tensor<E>,
    shape: [usize; D],
    error: impl Fn(usize) -> Vec<f32>,
) -> (Option<Vec<f32>>, Vec<Vec<f32>>) {
    let device = Device::flex().autodiff();
    let x = tensor(wave(shape.iter().product(), 0.77), shape, &device).require_grad();
    let y = forward(layer, x.clone());
    let error = tensor(error(y.shape().num_elements()), y.dims(), &device);
    let grads = (y * error).sum().backward();
    let mut parameters = OfParameters(&grads, Vec::new());
    layer.visit(&mut parameters);
    (x.grad(&grads).map(read), parameters.1)
}

const ERROR: &str = "e5m2";
const GRADIENT: &str = "fixed(12,6)";

/// A layer whose error and gradients are rounded hands back, to the bit, what the same layer in float
/// hands back of an error that is rounded before, and its parameters get that rounded.
fn check<const D: usize, const E: usize, C: Describe, L: Module>(
    config: C,
    init: impl Fn(&C) -> L,
    forward: impl Fn(&L, Tensor<D>) -> Tensor<E>,
    shape: [usize; D],
) {
    let name = config.describe().name;
    let mut config = config;
    let plain = init(&config);
    let slots = config.quantization_mut();
    slots.set("error", slot(ERROR));
    let has_gradient = config.describe().has_slot("gradient");
    if has_gradient {
        config.quantization_mut().set("gradient", slot(GRADIENT));
    }
    config.check().unwrap();
    let quantized = init(&config).load_record(plain.clone().into_record());
    let error = |count| wave(count, 1.3);
    let expected = back(&plain, &forward, shape, |count| {
        rounded(ERROR, error(count))
    });
    let found = back(&quantized, &forward, shape, error);
    assert_eq!(found.0, expected.0, "{name}: gradient of the input");
    assert_eq!(found.1.len(), expected.1.len(), "{name}");
    for (found, expected) in found.1.into_iter().zip(expected.1) {
        assert_eq!(found, rounded(GRADIENT, expected), "{name}: a parameter");
    }
    assert_eq!(
        has_gradient,
        !back(&plain, &forward, shape, error).1.is_empty(),
        "{name}"
    );
}

#[test]
fn every_layer_rounds_the_error_that_reaches_it_and_its_gradients() {
    let device = &Device::flex().autodiff();
    macro_rules! check {
        ($config:expr, $shape:expr) => {
            check($config, |c| c.init(device), |l, x| l.forward(x), $shape)
        };
    }
    check!(nn::LinearConfig::new(5, 3), [4, 5]);
    check!(nn::Conv1dConfig::new(2, 4, 3), [2, 2, 7]);
    check!(nn::Conv2dConfig::new([2, 3], [3, 2]), [2, 2, 6, 5]);
    check!(nn::Conv3dConfig::new([1, 2], [2, 2, 2]), [1, 1, 3, 4, 3]);
    check!(nn::ConvTranspose1dConfig::new([2, 3], 3), [2, 2, 5]);
    check!(nn::ConvTranspose2dConfig::new([2, 3], [2, 3]), [1, 2, 4, 3]);
    check!(
        nn::ConvTranspose3dConfig::new([1, 2], [2, 2, 2]),
        [1, 1, 2, 3, 2]
    );
    check!(nn::BatchNormConfig::new(3), [4, 3, 2, 2]);
    check!(nn::ReluConfig::new(), [3, 5]);
    check!(nn::Relu6Config::new(), [3, 5]);
    check!(nn::HardtanhConfig::new(), [3, 5]);
    check!(nn::LeakyReluConfig::new(), [3, 5]);
    check!(nn::SigmoidConfig::new(), [3, 5]);
    check!(nn::GluConfig::new(1), [3, 6]);
    check!(nn::TanhConfig::new(), [3, 5]);
    check!(nn::MaxPool1dConfig::new(2), [1, 2, 6]);
    check!(nn::MaxPool2dConfig::new([2, 2]), [1, 2, 4, 4]);
    check!(nn::AvgPool1dConfig::new(2), [1, 2, 6]);
    check!(nn::AvgPool2dConfig::new([2, 2]), [1, 2, 4, 4]);
    check!(nn::AdaptiveAvgPool1dConfig::new(2), [1, 2, 6]);
    check!(nn::AdaptiveAvgPool2dConfig::new([1, 1]), [1, 2, 4, 4]);
    check!(nn::QuantizeConfig::new(), [3, 5]);
    check(
        nn::AddConfig::new(),
        |c| c.init(device),
        |l, x: Tensor<2>| l.forward(x.clone(), x),
        [3, 5],
    );
    check(
        nn::MulConfig::new(),
        |c| c.init(device),
        |l, x: Tensor<2>| l.forward(x.clone(), x),
        [3, 5],
    );
    let words = Tensor::<2, Int>::from_ints([[0, 2], [2, 3]], device);
    check(
        nn::EmbeddingConfig::new(4, 3),
        |c| c.init(device),
        |l, _: Tensor<1>| l.forward(words.clone()),
        [1],
    );
}

/// The products round error and gradients themselves, where operands are quantized with a way back of
/// their own and where they are not; groups have no kernels of ours, and what is rounded after the sum
/// or at random is a pass of its own.
#[test]
fn products_round_the_error_and_the_gradients_of_quantized_operands() {
    let device = &Device::flex().autodiff();
    let both_ways = |format: &str| {
        QuantizerConfig::Format(FormatQuantizerConfig {
            backward: Some("e4m3".parse().unwrap()),
            ..quantizer(format)
        })
    };
    let operands = QConfig::new()
        .with("input", both_ways("fixed(6,3)"))
        .with("weight", both_ways("fixed(5,4)"))
        .with("bias", slot("fixed(8,6)"));
    let with_output = operands.clone().with("output", slot("fixed(8,4)"));
    let blocks = operands.clone().with("weight", slot("bfp(6)"));
    for quantization in [operands, with_output, blocks] {
        macro_rules! check {
            ($config:expr, $shape:expr) => {
                check(
                    $config.with_quantization(quantization.clone()),
                    |c| c.init(device),
                    |l, x| l.forward(x),
                    $shape,
                )
            };
        }
        check!(nn::LinearConfig::new(37, 21), [19, 37]);
        check!(nn::Conv1dConfig::new(2, 4, 3), [2, 2, 7]);
        check!(nn::Conv2dConfig::new([3, 20], [3, 3]), [5, 3, 9, 8]);
        check!(nn::Conv2dConfig::new([20, 5], [1, 1]), [3, 20, 6, 5]);
        let strided = nn::Conv2dConfig::new([4, 6], [3, 3]).with_stride([2, 2]);
        check!(strided.clone(), [3, 4, 9, 8]);
        check!(strided.with_groups(2), [3, 4, 9, 8]);
    }
}

/// The sums over a product's error in bfloat16 are those of products of bfloat16: what a layer makes of the
/// rounded error that rounds its operands, but for the order of sums, in which they do differ.
#[test]
fn an_error_in_bfloat16_is_multiplied_in_bfloat16() {
    fn check<const D: usize, C: Describe, L: Module>(
        config: C,
        init: impl Fn(&C) -> L,
        forward: impl Fn(&L, Tensor<D>) -> Tensor<D>,
        shape: [usize; D],
    ) {
        let mut config = config;
        *config.quantization_mut() = QConfig::new().with("error", slot("bf16"));
        let quantized = init(&config);
        *config.quantization_mut() = QConfig::new()
            .with("input", slot("bf16"))
            .with("weight", slot("bf16"));
        let plain = init(&config).load_record(quantized.clone().into_record());
        let error = |count| wave(count, 1.3);
        let expected = back(&plain, &forward, shape, |count| {
            rounded("bf16", error(count))
        });
        let found = back(&quantized, &forward, shape, error);
        let all = |(input, parameters): (Option<Vec<f32>>, Vec<Vec<f32>>)| -> Vec<f32> {
            input.into_iter().chain(parameters).flatten().collect()
        };
        let (found, expected) = (all(found), all(expected));
        assert_eq!(found.len(), expected.len());
        assert_ne!(found, expected);
        for (found, expected) in found.into_iter().zip(expected) {
            let within = 1e-5 * (1.0 + expected.abs());
            assert!((found - expected).abs() <= within, "{found} {expected}");
        }
    }
    let device = &Device::flex().autodiff();
    let linear = nn::LinearConfig::new(37, 21);
    check(linear, |c| c.init(device), |l, x| l.forward(x), [19, 37]);
    let conv = nn::Conv2dConfig::new([3, 20], [3, 3]).with_stride([2, 1]);
    check(conv, |c| c.init(device), |l, x| l.forward(x), [5, 3, 9, 8]);
    let conv = nn::Conv1dConfig::new(7, 9, 3);
    check(conv, |c| c.init(device), |l, x| l.forward(x), [3, 7, 11]);
}

/// Forward, where the input is in bfloat16 and the weight's numbers are such; a weight that is not, is
/// multiplied as it is.
#[test]
fn operands_in_bfloat16_are_multiplied_in_bfloat16() {
    let device = &Device::flex();
    let shape = [2, 37, 5, 5];
    let x = tensor(wave(shape.iter().product(), 0.77), shape, device);
    let config = nn::Conv2dConfig::new([37, 8], [3, 3]);
    let plain = config.init(device);
    let made = |weight: Option<&str>| {
        let operands = QConfig::new()
            .with("input", slot("bf16"))
            .with("weight", weight.map(slot));
        let layer = config.clone().with_quantization(operands).init(device);
        let layer = layer.load_record(plain.clone().into_record());
        read(layer.forward(x.clone()))
    };
    let both = made(Some("bf16"));
    let weight_in_float = made(None);
    let coarse = QConfig::new().with("weight", slot("bf16"));
    let coarse = config.clone().with_quantization(coarse).init(device);
    let coarse = coarse.load_record(plain.clone().into_record());
    let rounded_input = rounded("bf16", read(x.clone()));
    let in_numbers = read(coarse.forward(tensor(rounded_input.clone(), shape, device)));
    assert_ne!(both, in_numbers);
    for (both, in_numbers) in both.iter().zip(&in_numbers) {
        assert!((both - in_numbers).abs() <= 1e-5 * (1.0 + in_numbers.abs()));
    }
    let of_float_weight = read(plain.forward(tensor(rounded_input, shape, device)));
    assert_eq!(weight_in_float, of_float_weight);
}

/// A normalization and its rectifier are two layers where the error between them is rounded.
#[test]
fn the_error_between_a_normalization_and_its_rectifier_is_rounded() {
    let device = &Device::flex().autodiff();
    let relu = nn::ReluConfig::new().init(device);
    let plain = nn::BatchNormConfig::new(3).init(device);
    let config = QConfig::new().with("error", slot(ERROR));
    let quantized = nn::BatchNormConfig::new(3)
        .with_quantization(config)
        .init(device);
    let shape = [4, 3, 2, 2];
    let error = |count| wave(count, 1.3);
    let together = back(
        &quantized,
        |n, x: Tensor<4>| n.forward_rectified(x, &relu),
        shape,
        error,
    );
    let apart = back(
        &quantized,
        |n, x: Tensor<4>| relu.forward(n.forward(x)),
        shape,
        error,
    );
    assert_eq!(together, apart);
    let float = back(
        &plain,
        |n, x: Tensor<4>| n.forward_rectified(x, &relu),
        shape,
        error,
    );
    assert_ne!(together, float);
}

/// x = 0.3 in quarters is 0.25, and 9 is clamped to 1.75; the gradient 0.3, ten times, is 3, and 0
/// where the value was clamped, also in a product.
#[test]
fn a_slot_may_have_a_format_of_its_own_for_the_way_back() {
    let device = &Device::flex().autodiff();
    let input = FormatQuantizerConfig {
        backward: Some("int4".parse().unwrap()),
        hooks: vec![Hook::Scale(10.0)],
        ..quantizer("fixed(4,2)")
    };
    let config = QConfig::new().with("input", QuantizerConfig::Format(input.clone()));
    let layer = nn::QuantizeConfig::new()
        .with_quantization(config.clone())
        .init(device);
    let x = Tensor::<1>::from_floats([0.3, -0.4, 9.0], device).require_grad();
    let y = layer.forward(x.clone());
    let grads = (y.clone() * 0.3).sum().backward();
    assert_eq!(read(y), [0.25, -0.5, 1.75]);
    assert_eq!(read(x.grad(&grads).unwrap()), [3.0, 3.0, 0.0]);

    let linear = nn::LinearConfig::new(3, 1)
        .with_bias(false)
        .with_quantization(config);
    let mut linear = linear.init(device);
    let weight = TensorData::new(vec![0.12f32, -0.33, 0.5], [3, 1]);
    linear.weight = Param::from_data(weight, device);
    let x = tensor(vec![0.3, -0.4, 9.0], [1, 3], device).require_grad();
    let y = linear.forward(x.clone());
    let grads = y.clone().sum().backward();
    // 0.25 * 0.12 + 0.5 * 0.33 + 1.75 * 0.5.
    assert!((read(y)[0] - 1.07).abs() < 1e-6);
    // 1.2 and -3.3, rounded; 9 was clamped.
    assert_eq!(read(x.grad(&grads).unwrap()), [1.0, -3.0, 0.0]);
    // Unless the gradient passes there: 5.
    let passing = FormatQuantizerConfig {
        clamped: ClampedGradient::Pass,
        ..input
    };
    let config = QConfig::new().with("input", QuantizerConfig::Format(passing));
    let layer = nn::QuantizeConfig::new()
        .with_quantization(config)
        .init(device);
    let x = Tensor::<1>::from_floats([9.0], device).require_grad();
    let grads = (layer.forward(x.clone()) * 0.5).sum().backward();
    assert_eq!(read(x.grad(&grads).unwrap()), [5.0]);
}

/// Gradients that are rounded at random are the same when a step is repeated, and others in the next.
#[test]
fn random_gradients_repeat_with_their_step() {
    let device = &Device::flex().autodiff();
    let error = FormatQuantizerConfig {
        rounding: Rounding::stochastic(1, 0),
        ..quantizer("fixed(8,0)")
    };
    let config = QConfig::new().with("error", QuantizerConfig::Format(error));
    let layer = nn::ReluConfig::new().with_quantization(config).init(device);
    let step = |step| {
        set_rounding(7, step);
        let forward = |l: &nn::Relu, x: Tensor<1>| l.forward(x);
        back(&layer, forward, [64], |count| vec![0.5; count])
            .0
            .unwrap()
    };
    let (first, again, next) = (step(1), step(1), step(2));
    assert_eq!(first, again);
    assert_ne!(first, next);
    assert!(first.iter().all(|g| [0.0, 1.0].contains(g)));
}

#[test]
fn bad_gradient_slots_are_answered_in_one_line() {
    let check = |text: &str| {
        let config: QConfig = toml::from_str(text).unwrap();
        let layer = nn::LinearConfig::new(2, 2).with_quantization(config);
        layer.check().unwrap_err().to_string()
    };
    assert_eq!(
        check("error = { method = \"tqt\", bits = 8 }"),
        "Linear.error: is tqt, expected a format"
    );
    assert_eq!(
        check("gradient = { method = \"format\", format = \"e4m3\", backward = \"e5m2\" }"),
        "Linear.gradient: backward: is not for gradient, which `format` is the format of"
    );
    assert_eq!(
        check("input = { method = \"format\", format = \"e4m3\", clamped = \"zero-rounded\" }"),
        "Linear.input: clamped: zero-rounded is for fixed point that clamps, not e4m3"
    );
    assert_eq!(
        check("error = { method = \"format\", format = \"e4m3\", hooks = [{ scale = inf }] }"),
        "Linear.error: hooks: scale is no finite number"
    );
    let pool = nn::MaxPool2dConfig::new([2, 2]);
    let config = QConfig::new().with("gradient", slot("e5m2"));
    assert_eq!(
        pool.with_quantization(config)
            .check()
            .unwrap_err()
            .to_string(),
        "MaxPool2d: a MaxPool2d has no gradient to quantize"
    );
}
