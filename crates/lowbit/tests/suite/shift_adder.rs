//! The pair of a shift convolution and an adder, as one layer and normalized.

use burn::module::{Param, RunningState};
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Distribution, Tensor};
use lowbit::config::{Planner, QConfig, QPlan, TqtWidths};
use lowbit::nn::{
    Adder2dConfig, BatchNorm, BatchNormConfig, ShiftAdder2d, ShiftAdder2dConfig, ShiftConv2dConfig,
};
use lowbit::quantizers::{FormatQuantizerConfig, Quantizer, Selection, Taps};

fn values(t: Tensor<4>) -> Vec<f32> {
    t.into_data().iter::<f32>().collect()
}

fn close(a: Tensor<4>, b: Tensor<4>, what: &str) {
    let (a, b) = (values(a), values(b));
    let range = a.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= 1e-5 * range, "{what}: {a} {b}");
    }
}

fn configs(
    shift: QConfig,
    adder: QConfig,
    shift_norm: bool,
    adder_norm: bool,
) -> ShiftAdder2dConfig {
    // The adder's own padding sees zeros where the normalization between gives others.
    let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
    ShiftAdder2dConfig::new(
        ShiftConv2dConfig::new([3, 4], [3, 3])
            .with_padding(padding.clone())
            .with_quantization(shift),
        Adder2dConfig::new([4, 5], [3, 3])
            .with_padding(padding)
            .with_quantization(adder),
    )
    .with_shift_norm(shift_norm)
    .with_adder_norm(adder_norm)
}

fn float(shift_norm: bool, adder_norm: bool, device: &Device) -> ShiftAdder2d {
    configs(
        QConfig::default(),
        QConfig::default(),
        shift_norm,
        adder_norm,
    )
    .init(device)
}

/// A normalization whose scale is `scale`, exactly: the variance is 15/4 and epsilon 1/4, so that
/// the deviation is 2.
fn norm(scale: &[f32], device: &Device) -> BatchNorm {
    let tensor = |values: Vec<f32>| Tensor::<1>::from_floats(values.as_slice(), device);
    let mut norm = BatchNormConfig::new(scale.len())
        .with_epsilon(0.25)
        .init(device);
    norm.gamma = Param::from_tensor(tensor(scale.iter().map(|s| 2.0 * s).collect()));
    let ramp = |from: f32| tensor((0..scale.len()).map(|i| from + i as f32 / 4.0).collect());
    norm.beta = Param::from_tensor(ramp(-0.5));
    norm.running_mean = RunningState::new(ramp(-1.0));
    norm.running_var = RunningState::new(tensor(vec![3.75; scale.len()]));
    norm
}

fn images(device: &Device) -> Tensor<4> {
    Tensor::random([2, 3, 6, 6], Distribution::Normal(0.0, 1.0), device)
}

#[test]
fn without_normalization_it_is_one_after_the_other() {
    let device = Device::flex();
    let pair = float(false, false, &device);
    let x = images(&device);
    let apart = pair.adder.forward(pair.shift.forward(x.clone()));
    assert_eq!(values(pair.forward(x)), values(apart));
}

/// What is folded is the ordinary normalization of either layer's sums, also into the padding:
/// scales of either sign as they are, and powers of two where they are rounded to such.
#[test]
fn folded_it_is_what_the_normalizations_make_of_the_sums() {
    let ways = [(true, false), (false, true), (true, true)];
    for (between, after) in ways {
        let (first, second) = ([2.1, -0.3, 0.7, 1.0], [0.11, 4.0, -1.3, -0.5, 0.06]);
        compare_with_layers_apart((between, after), None, first, second);
        let (first, second) = ([2.0, -0.25, 0.5, 1.0], [0.125, 4.0, -1.0, -0.5, 0.0625]);
        compare_with_layers_apart((between, after), Some(powers()), first, second);
    }
}

/// Factors that are powers of two.
fn powers() -> FormatQuantizerConfig {
    FormatQuantizerConfig::shifts(-15..=15)
}

fn compare_with_layers_apart(
    (between, after): (bool, bool),
    factors: Option<FormatQuantizerConfig>,
    first: [f32; 4],
    second: [f32; 5],
) {
    let device = Device::flex();
    let mut pair = configs(QConfig::default(), QConfig::default(), between, after)
        .with_factors(factors)
        .init(&device);
    let norms = [norm(&first, &device), norm(&second, &device)];
    pair.shift_norm = between.then(|| norms[0].clone());
    pair.adder_norm = after.then(|| norms[1].clone());
    let x = images(&device);
    let mut apart = pair.shift.forward(x.clone());
    if between {
        apart = norms[0].forward(apart);
    }
    apart = pair.adder.forward(apart);
    if after {
        apart = norms[1].forward(apart);
    }
    close(
        apart.clone(),
        pair.forward(x.clone()),
        "folded in each step",
    );
    let merged = pair.merged();
    assert!(merged.shift_norm.is_none() && merged.adder_norm.is_none());
    close(apart, merged.forward(x), "merged");
}

/// A scale of 3 is nearest to 4 in logarithm (log2 3 = 1.58), one of -0.6 to -0.5 (-0.74).
#[test]
fn scales_are_rounded_to_powers_of_two_and_train() {
    let device = Device::flex().autodiff();
    let mut pair = configs(QConfig::default(), QConfig::default(), false, true)
        .with_factors(Some(powers()))
        .init(&device);
    let mut normalization = norm(&[3.0, -0.6, 0.5, 0.0, 1.0], &device);
    normalization.training = normalization.training.clone().with_value(false);
    pair.adder_norm = Some(normalization);
    let x = images(&device);
    let gradients = pair.forward(x).sum().backward();
    let gamma = pair.adder_norm.as_ref().unwrap().gamma.val();
    let gradient = gamma.grad(&gradients).unwrap().into_data();
    assert!(gradient.iter::<f32>().all(|g: f32| g.abs() > 0.0));
    let merged = pair.merged();
    let scale = merged.adder_scale.unwrap().val().into_data();
    let scale: Vec<f32> = scale.iter::<f32>().collect();
    assert_eq!(scale, [4.0, -0.5, 0.5, 0.0, 1.0]);
}

#[test]
fn statistics_follow_the_batches_until_they_are_frozen() {
    let device = Device::flex().autodiff();
    let pair = float(true, true, &device);
    let x = images(&device) * 3.0;
    let live = values(pair.forward(x.clone()));
    let frozen = lowbit::train::recipe::freeze_statistics(pair);
    assert_eq!(frozen.1, ["shift_norm", "adder_norm"]);
    let (first, second) = (frozen.0.forward(x.clone()), frozen.0.forward(x.clone()));
    assert_eq!(values(first.clone()), values(second));
    assert_ne!(values(first.clone()), live);
    close(first, frozen.0.merged().forward(x), "merged");
}

/// Both layers with every tensor quantized, as a plan for integer hardware says.
#[test]
fn one_quantizer_is_between_them() {
    let plan = QPlan::tqt_integer(TqtWidths::default());
    let mut planner = Planner::new(&plan).unwrap();
    let pair = configs(QConfig::default(), QConfig::default(), false, true);
    let pair = pair.planned(&mut planner, "pair").unwrap();
    assert_eq!(planner.finish().unwrap()[1].path, "pair.adder");
    let device = Device::flex();
    let mut pair = pair.with_factors(Some(powers())).init(&device);
    pair.adder_norm = Some(norm(&[0.125, 0.25, -0.125, 0.5, 0.0625], &device));
    assert!(pair.shift.quantizers.get("output").is_none());
    assert!(pair.shift.quantizers.accumulator.is_some());
    assert!(matches!(
        pair.adder.quantizers.get("input"),
        Some(Quantizer::TrainedThreshold(_))
    ));
    let x = images(&device);
    let forward = |pair: &ShiftAdder2d| {
        pair.forward(x.clone());
    };
    let (pair, thresholds) = lowbit::calibrate::calibrate(pair, |_| true, forward).unwrap();
    let paths: Vec<&str> = thresholds.iter().map(|t| t.path.as_str()).collect();
    let expected = [
        "shift.input",
        "shift.bias",
        "adder.input",
        "adder.weight",
        "adder.bias",
    ];
    assert_eq!(paths, expected);
    // What the adder reads is the convolution's sum, whole: more numbers than 8 bits have.
    let taps = Taps::attach(&pair, Selection::all().path("adder.input"));
    let quantized = values(pair.forward(x.clone()));
    let seen = taps.detach();
    let mut levels: Vec<u32> = seen[0].tensor.iter::<f32>().map(f32::to_bits).collect();
    levels.sort_unstable();
    levels.dedup();
    assert!(levels.len() > 256, "{}", levels.len());
    assert_eq!(values(pair.merged().forward(x)), quantized);
}

#[test]
#[should_panic(expected = "shift.output: is quantized by the adder's input, expected none")]
fn two_quantizers_between_them_are_refused() {
    let input = QPlan::tqt(8, 8).default.get("input").cloned();
    let shift = QConfig::new().with("output", input);
    configs(shift, QConfig::default(), false, true).init(&Device::flex());
}
