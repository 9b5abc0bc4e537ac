//! Quantization methods, forward and backward, against a reference in f64 that was written from the
//! papers, and against PyTorch where it has the operation: `reference/methods.jsonl`, which
//! `reference/methods.py` makes.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use lowbit::calibrate::{Distribution, aciq, range};
use lowbit::config::QConfig;
use lowbit::ops::{self, ClampedGradient, DorefaReading, Line, TernaryGradient};
use lowbit::quantizers::{
    BinaryConfig, Channels, Histogram, Quantizer, QuantizerConfig, RangeLinearConfig, RangeSource,
    SawbConfig, Scheme, TwnConfig, WrpnConfig, XnorConfig, XnorGradient,
};
use lowbit_formats::{AdditivePowerOfTwo, Codebook, Format};
use serde_json::Value;

/// One line.
struct Case(Value);

/// Tensors that a method learns, by the names of the line.
type Parameters = BTreeMap<&'static str, Tensor<1>>;

impl Case {
    fn method(&self) -> &str {
        self.0["method"].as_str().unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let list = self.0[name].as_array().expect(name).iter();
        list.map(|n| n.as_f64().expect(name)).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.numbers(name).iter().map(|&x| x as f32).collect()
    }

    fn dims(&self) -> Vec<usize> {
        let list = self.0["shape"].as_array().unwrap().iter();
        list.map(|n| n.as_u64().unwrap() as usize).collect()
    }

    fn option(&self, name: &str) -> &Value {
        &self.0["options"][name]
    }

    fn bits(&self) -> u32 {
        self.option("bits").as_u64().unwrap() as u32
    }

    fn text(&self, name: &str) -> &str {
        self.option(name).as_str().unwrap_or_default()
    }

    fn axis(&self) -> usize {
        self.option("axis").as_u64().unwrap_or(0) as usize
    }

    fn limits(&self, names: [&str; 2]) -> (i32, i32) {
        let [least, most] = names.map(|name| self.option(name).as_i64().unwrap() as i32);
        (least, most)
    }

    fn parameter(&self, name: &'static str, device: &Device) -> Tensor<1> {
        let values: Vec<f64> = Self(self.0["parameters"].clone()).numbers(name);
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        Tensor::from_floats(&values[..], device).require_grad()
    }

    fn parameters<const N: usize>(
        &self,
        names: [&'static str; N],
        device: &Device,
    ) -> (Parameters, [Tensor<1>; N]) {
        let tensors = names.map(|name| self.parameter(name, device));
        (names.into_iter().zip(tensors.clone()).collect(), tensors)
    }

    /// What both the step's and the offset's gradient are multiplied by.
    fn gradient_scale(&self, greatest: i32) -> f32 {
        match self.option("features").as_f64() {
            Some(features) => 1.0 / (features as f32 * greatest as f32).sqrt(),
            None => 1.0,
        }
    }

    /// Compares the gradient of weights of which several are the largest. The reference shares what
    /// comes through the maximum between them; here the first has all of it. With the weights' signs
    /// the gradients of all of them have one sum; the other weights' are equal.
    fn check_shared_maximum(&self, made: &[f32]) {
        let (x, expected) = (self.floats("x"), self.numbers("dx"));
        let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let is_largest = |i: &usize| x[*i].abs() == largest;
        assert!((0..x.len()).filter(is_largest).count() > 1, "{}", self.0);
        let signed = |of: &dyn Fn(usize) -> f64| -> f64 {
            let largest = (0..x.len()).filter(is_largest);
            largest.map(|i| f64::from(x[i].signum()) * of(i)).sum()
        };
        let sums = [signed(&|i| f64::from(made[i])), signed(&|i| expected[i])];
        assert!(
            (sums[0] - sums[1]).abs() < 1e-5 * (1.0 + sums[1].abs()),
            "{sums:?}"
        );
        for i in (0..x.len()).filter(|i| !is_largest(i)) {
            assert!((f64::from(made[i]) - expected[i]).abs() < 1e-5, "{i}");
        }
    }

    /// Compares numbers, within a part of the largest.
    fn assert_close(&self, name: &str, made: &[f32], expected: &[f64], tolerance: f64) {
        assert_eq!(made.len(), expected.len(), "{name} of {}", self.0);
        let largest = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (i, (made, expected)) in made.iter().zip(expected).enumerate() {
            let near = (f64::from(*made) - expected).abs() <= tolerance * largest;
            assert!(
                near,
                "{name}[{i}]: {made}, not {expected}, of {}: {}",
                self.method(),
                self.0["options"]
            );
        }
    }
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// Signed and unsigned ends of integers of `bits`.
fn ends(bits: u32, signed: bool) -> (i32, i32) {
    match signed {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    }
}

/// Magnitudes of APoT from 0 to 1.
fn apot_magnitudes(bits: u32) -> Vec<f32> {
    if bits == 1 {
        return vec![0.0, 1.0];
    }
    let format = AdditivePowerOfTwo::new(bits as u8 + 1, 1.0).unwrap();
    let values = format.values().iter().copied();
    values.filter(|&value| value >= 0.0).collect()
}

/// The result of a method that learns something, or of one that needs no layer; none where the method
/// has another home.
fn of_operator<const D: usize>(case: &Case, x: Tensor<D>) -> Option<(Tensor<D>, Parameters)> {
    let device = x.device();
    let axis = case.axis();
    Some(match case.method() {
        "dorefa-weight" => {
            let reading = DorefaReading {
                scaled_by_maximum: case.text("scale") == "maximum",
                constant_maximum: case.text("maximum") == "constant",
            };
            let y = ops::dorefa_weight_as(x, case.bits(), reading);
            (y, Parameters::new())
        }
        "pact" => {
            let (parameters, [clip]) = case.parameters(["alpha"], &device);
            (ops::learned_clip(x, clip, case.bits(), 0), parameters)
        }
        "lsq" => {
            let signed = case.option("signed").as_bool().unwrap();
            let (_, greatest) = ends(case.bits(), signed);
            let (parameters, [step]) = case.parameters(["step"], &device);
            let signed = Tensor::from_floats([f32::from(u8::from(signed))], &device);
            let scale = case.gradient_scale(greatest);
            let y = ops::learned_step(x, step, signed, case.bits(), scale, axis);
            (y, parameters)
        }
        "lsq-plus" => {
            let limits = ends(case.bits(), case.option("signed").as_bool().unwrap());
            let (parameters, [step, offset]) = case.parameters(["step", "offset"], &device);
            let scale = case.gradient_scale(limits.1);
            let y = ops::offset_step(x, step, offset, limits, scale, axis);
            (y, parameters)
        }
        "torch-affine" => {
            let (_, [scale, zero]) = case.parameters(["scale", "zero_point"], &device);
            let y = ops::affine(x, scale, zero, case.limits(["least", "most"]), axis);
            (y, Parameters::new())
        }
        "ttq" => {
            let (parameters, [positive, negative]) =
                case.parameters(["positive", "negative"], &device);
            let largest = read(x.clone()).iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let threshold = case.option("threshold").as_f64().unwrap() as f32 * largest;
            let threshold = Tensor::from_floats([threshold], &device);
            let values = [positive, negative, threshold];
            let y = ops::ternary(x, values, TernaryGradient::Scaled, 0);
            (y, parameters)
        }
        "apot-activation" => {
            let (parameters, [scale]) = case.parameters(["alpha"], &device);
            let format = Codebook::new(&apot_magnitudes(case.bits())).unwrap();
            let (line, outside) = (Line::default(), ClampedGradient::Zero);
            let y = ops::scaled_format(x, scale, &format.into(), line, outside);
            (y, parameters)
        }
        "apot-weight" => return apot_weight(case, x),
        "learned-width" | "learned-width-saturating" => return learned_width(case, x),
        "wrpn-activation" => {
            let unit: Format = format!("unit({})", case.bits()).parse().unwrap();
            let rounding = lowbit_formats::Rounding::NearestEven;
            let y = ops::fake_quantize(x, &unit, rounding, ops::ClampedGradient::Zero);
            (y, Parameters::new())
        }
        _ => return None,
    })
}

fn apot_weight<const D: usize>(case: &Case, x: Tensor<D>) -> Option<(Tensor<D>, Parameters)> {
    let (parameters, [scale]) = case.parameters(["alpha"], &x.device());
    let numbers: Vec<f64> = read(x.clone()).iter().map(|&x| f64::from(x)).collect();
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let line = match case.text("normalize") {
        "none" => Line::default(),
        "constant" => Line {
            mean: mean as f32,
            gain: (1.0 / (variance.sqrt() + 1e-5)) as f32,
        },
        // Ours is the authors' form, in which both are constants.
        _ => return None,
    };
    let outside = match case.text("outside") {
        "zero" => ClampedGradient::Zero,
        _ => ClampedGradient::Pass,
    };
    let format = Codebook::with_sign(&apot_magnitudes(case.bits() - 1)).unwrap();
    let y = ops::scaled_format(x, scale, &format.into(), line, outside);
    Some((y, parameters))
}

fn learned_width<const D: usize>(case: &Case, x: Tensor<D>) -> Option<(Tensor<D>, Parameters)> {
    let device = x.device();
    if case.text("ties") == "up" || case.option("symmetric") == true {
        // Ours breaks ties to even, and has one value more below zero.
        return None;
    }
    let (mut parameters, [fraction]) = case.parameters(["fraction"], &device);
    let saturates = case.method() == "learned-width-saturating";
    let integer = match saturates {
        true => case.parameter("integer", &device),
        false => Tensor::from_floats([24.0], &device),
    };
    if saturates {
        parameters.insert("integer", integer.clone());
    }
    let signed = !saturates || case.option("signed") == true;
    let signed = Tensor::from_floats([f32::from(u8::from(signed))], &device);
    let y = ops::learned_width(x, fraction, integer, signed, case.axis());
    Some((y, parameters))
}

/// What a layer's weight slot is to have for a method that counts over the weight.
fn of_weight(case: &Case) -> Option<QuantizerConfig> {
    let per_channel = case.option("axis").is_u64();
    Some(match case.method() {
        "sawb" if !per_channel => QuantizerConfig::Sawb(SawbConfig {
            bits: case.bits(),
            zero: case.text("levels") == "zero",
            plus: case.text("outside") == "pass",
        }),
        "wrpn-weight" => QuantizerConfig::WrpnWeight(WrpnConfig::new(case.bits())),
        "binary" => QuantizerConfig::Binary(BinaryConfig {}),
        "xnor-weight" => QuantizerConfig::XnorWeight(XnorConfig {
            per_channel: true,
            gradient: match case.text("gradient") {
                "paper" => XnorGradient::Paper,
                "straight-through" => XnorGradient::Pass,
                _ => return None,
            },
        }),
        "twn" if case.option("factor") == 0.7 => {
            QuantizerConfig::TwnWeight(TwnConfig { per_channel })
        }
        _ => return None,
    })
}

/// Checks a case of a method with a gradient; false where ours has no such form.
fn check<const D: usize>(case: &Case) -> bool {
    let device = Device::flex().autodiff();
    let dims: [usize; D] = case.dims().try_into().unwrap();
    let tensor = |name| {
        let data = TensorData::new(case.floats(name), dims);
        Tensor::<D>::from_data(data, &device)
    };
    let x = tensor("x").require_grad();
    let made = match (of_operator(case, x.clone()), of_weight(case)) {
        (Some(made), _) => made,
        (None, Some(config)) => {
            let channels = Channels {
                axis: 0,
                count: dims[0],
            };
            let slots = QConfig::new().with("weight", config);
            let quantizers = slots.init(Some(channels), &device);
            (quantizers.weight(x.clone()).quantized(), Parameters::new())
        }
        (None, None) => return false,
    };
    let (y, parameters) = made;
    case.assert_close("y", &read(y.clone()), &case.numbers("y"), 1e-6);
    let grads = (y * tensor("grad")).sum().backward();
    let made = read(x.grad(&grads).unwrap());
    if case.0["source"].to_string().contains("share its gradient") {
        case.check_shared_maximum(&made);
    } else {
        case.assert_close("dx", &made, &case.numbers("dx"), 2e-6);
    }
    for (name, parameter) in parameters {
        let expected = Case(case.0["dparameters"].clone()).numbers(name);
        let made = read(parameter.grad(&grads).expect(name));
        case.assert_close(name, &made, &expected, 1e-5);
    }
    true
}

fn cases() -> Vec<Case> {
    let text = include_str!("../reference/methods.jsonl").lines();
    text.map(|line| Case(serde_json::from_str(line).unwrap()))
        .collect()
}

#[test]
fn methods_agree_with_the_papers() {
    let mut checked: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let elsewhere = [
        "range-linear",
        "dorefa-gradient",
        "apot-levels",
        "ebops",
        "aciq-constant",
    ];
    for case in cases() {
        let method = case.method().to_string();
        let is_range = method.starts_with("range-") || elsewhere.contains(&&method[..]);
        // A signed number of one bit has no positive value; ours begins with two.
        if is_range || method == "lsq" && case.bits() == 1 {
            continue;
        }
        let agrees = match case.dims().len() {
            1 => check::<1>(&case),
            2 => check::<2>(&case),
            4 => check::<4>(&case),
            dims => panic!("{dims} dimensions"),
        };
        let (yes, no) = checked.entry(method).or_default();
        *(if agrees { yes } else { no }) += 1;
    }
    println!("{checked:?}");
    let least = [
        ("dorefa-weight", 20),
        ("pact", 15),
        ("sawb", 9),
        ("wrpn-weight", 4),
        ("wrpn-activation", 4),
        ("lsq", 30),
        ("lsq-plus", 16),
        ("xnor-weight", 4),
        ("binary", 2),
        ("twn", 5),
        ("ttq", 3),
        ("torch-affine", 11),
        ("apot-weight", 10),
        ("apot-activation", 10),
        ("learned-width", 4),
        ("learned-width-saturating", 4),
    ];
    for (method, count) in least {
        let found = checked.get(method).map_or(0, |(yes, _)| *yes);
        assert!(found >= count, "{method}: {found}, not {count}");
    }
}

/// Ranges over the batches of a line, by the quantizer's own calibration.
#[test]
fn ranges_agree_with_the_papers() {
    let mut compared = 0;
    for case in cases() {
        let bits = case.option("bits").as_u64().unwrap_or(8) as u32;
        let text = match case.method() {
            "range-minmax" => "max".into(),
            "range-mean" => "mean-max".into(),
            "range-deviations" => format!("sd({})", case.option("count")),
            "range-gauss" => "gauss".into(),
            "range-laplace" => "laplace".into(),
            _ => continue,
        };
        let signed = case.option("one_sided") != true;
        let mut histogram = Histogram::default();
        let row = case.dims()[1];
        for batch in case.floats("x").chunks(row) {
            histogram.record(batch);
        }
        let (low, high) = range(&histogram, text.parse().unwrap(), bits, signed);
        // Distances from the mean are known to the width of a bin.
        let tolerance = if text == "laplace" { 2e-4 } else { 1e-6 };
        case.assert_close("range", &[low, high], &case.numbers("y"), tolerance);
        compared += 1;
    }
    assert_eq!(compared, 1 + 1 + 3 + 8 + 8);
}

/// The clipping values of distributions, from the reference's own bisection, in units of a scale that is
/// known by hand: of a million values, 1 and -1 as often, and of two that are far beyond every clipping
/// value, mean 0, all of the mean square and all of the mean distance are known.
#[test]
fn analytic_clipping_values_agree() {
    let (count, far) = (1_000_000.0f64, 1000.0f64);
    let values = |signed: bool| {
        let mut histogram = Histogram::default();
        let other = if signed { -1.0 } else { 1.0 };
        let pairs = [1.0, other].repeat(500_000);
        histogram.record(&pairs);
        histogram.record(&[far as f32, other * far as f32]);
        histogram
    };
    let all = count + 2.0;
    let (distance, square) = ((count + 2.0 * far) / all, (count + 2.0 * far * far) / all);
    let mut compared = 0;
    for case in cases() {
        if case.method() != "aciq-constant" {
            continue;
        }
        let signed = case.option("one_sided") != true;
        let (distribution, scale) = match (case.text("distribution"), signed) {
            ("laplace", true) => (Distribution::Laplace, distance),
            ("laplace", false) => (Distribution::Laplace, 2.0 * distance),
            // The deviation of a sample, and the root of twice the mean square.
            (_, true) => (Distribution::Gauss, (square * all / (all - 1.0)).sqrt()),
            (_, false) => (Distribution::Gauss, (2.0 * square).sqrt()),
        };
        let (low, high) = aciq(&values(signed), distribution, case.bits(), signed);
        let expected = case.numbers("y")[0] * scale;
        // The mean distance is known to the width of a bin.
        let near = |made: f32, expected: f64| (f64::from(made) - expected).abs() < 2e-4 * scale;
        assert!(
            near(high, expected),
            "{high} {expected}: {}",
            case.0["options"]
        );
        assert!(near(low, if signed { -expected } else { 0.0 }), "{low}");
        compared += 1;
    }
    assert_eq!(compared, 28);
}

/// The magnitudes of APoT for 2 to 8 bits of them.
#[test]
fn additive_powers_agree_with_the_paper() {
    let mut compared = 0;
    for case in cases() {
        let bits = case.option("magnitude_bits").as_u64().unwrap_or_default() as u32;
        if case.method() == "apot-levels" && bits > 1 {
            case.assert_close("levels", &apot_magnitudes(bits), &case.numbers("y"), 1e-7);
            compared += 1;
        }
    }
    assert_eq!(compared, 7);
}

/// Moving averages over the batches of a line, by a quantizer in training.
#[test]
fn moving_averages_agree_with_pytorch() {
    let device = Device::flex().autodiff();
    let mut compared = 0;
    for case in cases() {
        if case.method() != "range-average" || case.text("form") != "torch" {
            continue;
        }
        let text = format!("moving-average({})", case.option("constant"));
        let config = RangeLinearConfig::new(8).with_range(text.parse().unwrap());
        let quantizer = QuantizerConfig::RangeLinear(config).init(None, &device);
        for batch in case.floats("x").chunks(case.dims()[1]) {
            quantizer.operand(Tensor::<1>::from_floats(batch, &device));
        }
        let Quantizer::RangeLinear(quantizer) = quantizer else {
            panic!("another method");
        };
        let state = read(quantizer.running.unwrap().value_sync());
        case.assert_close("range", &state[..2], &case.numbers("y"), 1e-6);
        compared += 1;
    }
    assert_eq!(compared, 2);
}

/// A range is widened to hold zero; the gradient passes where the integer is within its limits, which
/// is up to half a step beyond the ends, where the reference's stops at them.
#[test]
fn integers_over_a_range_agree_with_the_reference() {
    let mut compared = 0;
    for case in cases() {
        if case.method() != "range-linear" || !case.option("group").is_null() {
            continue;
        }
        let scheme = match case.text("mode") {
            "asymmetric" => Scheme::Asymmetric,
            "restricted" => Scheme::Symmetric,
            _ => Scheme::SymmetricFull,
        };
        compared += 1;
        match case.dims().len() {
            1 => check_range::<1>(&case, scheme),
            2 => check_range::<2>(&case, scheme),
            _ => check_range::<4>(&case, scheme),
        }
    }
    assert!(compared >= 30, "{compared}");
}

fn check_range<const D: usize>(case: &Case, scheme: Scheme) {
    let device = Device::flex().autodiff();
    let dims: [usize; D] = case.dims().try_into().unwrap();
    let parameters = Case(case.0["parameters"].clone());
    let ends = parameters.floats("min").into_iter();
    let ends: Vec<(f32, f32)> = ends.zip(parameters.floats("max")).collect();
    let of_each = ends
        .iter()
        .map(|&ends| scheme.parameters(ends, case.bits()));
    let (scale, zero): (Vec<f32>, Vec<f32>) = of_each.unzip();
    let tensor = |name| Tensor::<D>::from_data(TensorData::new(case.floats(name), dims), &device);
    let x = tensor("x").require_grad();
    let limits = scheme.limits(case.bits());
    let [scales, zeros] = [&scale, &zero].map(|t| Tensor::from_floats(&t[..], &device));
    let y = ops::affine(x.clone(), scales, zeros, limits, case.axis());
    let grads = (y.clone() * tensor("grad")).sum().backward();
    let (y, dx) = (read(y), read(x.grad(&grads).unwrap()));
    let inner: usize = case.dims()[case.axis() + 1..].iter().product();
    let (expected, expected_dx) = (case.numbers("y"), case.numbers("dx"));
    for (i, x) in case.floats("x").into_iter().enumerate() {
        let channel = (i / inner.max(1)) % scale.len();
        let (min, max) = ends[channel];
        let (least, greatest) = match scheme {
            Scheme::Asymmetric => (min.min(0.0), max.max(0.0)),
            _ => (-max.abs().max(min.abs()), max.abs().max(min.abs())),
        };
        let step = scale[channel];
        let steps = f64::from(x) / f64::from(step);
        let is_tie = ((steps - steps.floor()) - 0.5).abs() < 1e-5;
        // The reference adds the zero point before it rounds, PyTorch after: a tie may go the other
        // way.
        let within = if is_tie { f64::from(step) } else { 0.0 };
        let told = || format!("{i}: {x}, {} {}", ends[channel].0, case.0["options"]);
        let near =
            (f64::from(y[i]) - expected[i]).abs() <= within + 2e-6 * (1.0 + expected[i].abs());
        assert!(near, "{} not {}: {}", y[i], expected[i], told());
        // Nearer to an end than a step both rules may differ.
        let far = |end: f32| (x - end).abs() > step;
        if far(least) && far(greatest) {
            assert_eq!(f64::from(dx[i]), expected_dx[i], "{}", told());
        }
    }
}

/// From -1 to 2 in 2 bits, asymmetric, the step is 1: 0.3 and 0.9 become 0 and 1. Symmetric in 3 bits
/// the step is 2/3: -1, 0.3, 2 and 0.9 are -1.5, 0.45, 3 and 1.35 steps, so -2, 0, 3 and 1.
#[test]
fn a_dynamic_range_is_that_of_the_tensor() {
    let device = Device::flex();
    let x = Tensor::<2>::from_floats([[-1.0, 0.3], [2.0, 0.9]], &device);
    let step = 2.0 / 3.0;
    for (scheme, bits, expected) in [
        (Scheme::Asymmetric, 2, [-1.0, 0.0, 2.0, 1.0]),
        (Scheme::Symmetric, 3, [-2.0 * step, 0.0, 2.0, step]),
    ] {
        let config = RangeLinearConfig::new(bits)
            .with_range(RangeSource::Dynamic)
            .with_scheme(scheme);
        let quantizer = QuantizerConfig::RangeLinear(config).init(None, &device);
        let y = read(quantizer.operand(x.clone()).quantized());
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() < 1e-6, "{y} {expected}");
        }
    }
}
