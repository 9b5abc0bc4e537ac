use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::data::{ImageSet, Split};
use lowbit::models::{Classifier, Network, Tolerance};
use lowbit::ops::trained_threshold;
use lowbit::quantizers::{ModulePath, QuantizerConfig, Selection, Tapped, Taps, set_quantization};
use lowbit::train::checkpoint::load_weights;
use lowbit::train::{Experiment, Interrupter, Outcome, RunFolder, Settings};

use lowbit_formats::Rounding;

use super::{all_tensors, build, images};

/// What calibration and training left of every trained threshold, by tensor.
#[derive(Default)]
struct Thresholds {
    path: ModulePath,
    found: BTreeMap<String, (Vec<f32>, bool)>,
}

impl ModuleVisitor for Thresholds {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(place) = self.path.place() else {
            return;
        };
        let values: Vec<f32> = param.val().into_data().iter::<f32>().collect();
        let entry = self.found.entry(place.to_string()).or_default();
        match self.path.field() {
            "log2_threshold" => entry.0 = values,
            "signed" => entry.1 = values[0] != 0.0,
            _ => {}
        }
    }
}

/// Checks that what every quantizer of the network makes of its tensor is integers of the layer's
/// width times an exact power of two, and that some thresholds are not powers of two themselves.
pub(super) fn check(model: &Network, x: Tensor<4>) {
    let mut thresholds = Thresholds::default();
    model.visit(&mut thresholds);
    let widths: BTreeMap<String, u32> = model
        .layers()
        .iter()
        .flat_map(|layer| {
            let slots = layer.config.slots();
            slots.filter_map(|(slot, config)| match config {
                QuantizerConfig::Tqt(tqt) => Some((format!("{}.{slot}", layer.path), tqt.bits)),
                _ => None,
            })
        })
        .collect();
    // Outputs are tapped once they are quantized; before that, the others.
    let taps = Taps::attach(model, Selection::all());
    model.forward(x);
    let seen = taps.detach();
    let mut checked = BTreeMap::new();
    for tapped in &seen {
        let path = tapped.path();
        let Some(&bits) = widths.get(&path) else {
            continue;
        };
        let (log2, signed) = &thresholds.found[&path];
        let [log2] = log2[..] else {
            panic!("{path} has several thresholds")
        };
        let device = Device::flex();
        let tensor = |x: &[f32]| Tensor::<1>::from_floats(x, &device);
        let values: Vec<f32> = tapped.tensor.iter::<f32>().collect();
        let quantized = if tapped.place.slot == "output" {
            values
        } else {
            let sign = tensor(&[f32::from(u8::from(*signed))]);
            let q = trained_threshold(
                tensor(&values),
                tensor(&[log2]),
                sign,
                (bits, Rounding::NearestEven),
                0,
            );
            q.into_data().iter::<f32>().collect()
        };
        // Equation 4 of arXiv 1903.08066: the step is 2^ceil(log2 t) over 2^(b - 1), or over 2^b.
        let magnitudes = f64::from(bits - u32::from(*signed)).exp2();
        let step = f64::from(log2.ceil()).exp2() / magnitudes;
        assert_eq!(step.to_bits() & ((1 << 52) - 1), 0, "{path}: {step}");
        let least = if *signed { -magnitudes } else { 0.0 };
        for q in quantized {
            let integer = f64::from(q) / step;
            assert_eq!(integer.fract(), 0.0, "{path}: {q} in steps of {step}");
            assert!((least..magnitudes).contains(&integer), "{path}: {q}");
        }
        checked.insert(path, log2);
    }
    assert_eq!(checked.len(), widths.len(), "some tensor was not seen");
    assert!(checked.values().any(|log2| log2.fract() != 0.0));
}

/// A tensor on its grid: integers, and the exponent of the step.
struct Integers {
    shape: Vec<usize>,
    values: Vec<i64>,
    log2_step: i32,
}

impl Integers {
    /// Equation 4 of arXiv 1903.08066, written out: `x` over the step, rounded to the nearest, ties
    /// to even, and held to the range, with a step of at least `2^least_log2_step`. The quotient is exact, the step being a power of two.
    fn of(x: &Tapped, log2: f32, signed: bool, bits: u32, least_log2_step: i32) -> Self {
        let magnitude_bits = (bits - u32::from(signed)) as i32;
        let log2_step = (log2.ceil() as i32 - magnitude_bits).max(least_log2_step);
        let top = f64::from(magnitude_bits).exp2();
        let least = if signed { -top } else { 0.0 };
        let step = f64::from(log2_step).exp2();
        let integer = |x: f32| {
            let quotient = f64::from(x) / step;
            quotient.round_ties_even().clamp(least, top - 1.0) as i64
        };
        Self {
            shape: x.tensor.shape().to_vec(),
            values: x.tensor.iter::<f32>().map(integer).collect(),
            log2_step,
        }
    }
}

/// Sums of products of integers: cross-correlation, with zeros around the image as wide as the
/// output's size tells.
fn convolution(x: &Integers, w: &Integers, out: &[usize]) -> Vec<i64> {
    let [_, channels, height, width] = x.shape[..] else {
        panic!("images: {:?}", x.shape)
    };
    let [_, _, kernel_height, kernel_width] = w.shape[..] else {
        panic!("weight: {:?}", w.shape)
    };
    let around = |size: usize, kernel: usize, out: usize| {
        if out + kernel == size + 1 {
            return (1, 0);
        }
        let stride = (size + out / 2) / out;
        let around = ((out - 1) * stride + kernel).saturating_sub(size);
        (stride, around.div_ceil(2))
    };
    let (down, top) = around(height, kernel_height, out[2]);
    let (along, left) = around(width, kernel_width, out[3]);
    let mut sums = Vec::new();
    for i in 0..out.iter().product() {
        let [n, o] = [
            i / (out[1] * out[2] * out[3]),
            i / (out[2] * out[3]) % out[1],
        ];
        let [row, column] = [i / out[3] % out[2] * down, i % out[3] * along];
        let mut sum = 0;
        for (k, weight) in w.values[o * channels * kernel_height * kernel_width..]
            [..channels * kernel_height * kernel_width]
            .iter()
            .enumerate()
        {
            let channel = k / (kernel_height * kernel_width);
            let y = (row + k / kernel_width % kernel_height).wrapping_sub(top);
            let x_ = (column + k % kernel_width).wrapping_sub(left);
            if y < height && x_ < width {
                sum += weight * x.values[((n * channels + channel) * height + y) * width + x_];
            }
        }
        sums.push(sum);
    }
    sums
}

/// Sums of products of integers: rows of `x` times columns of `w`.
fn product(x: &Integers, w: &Integers) -> Vec<i64> {
    let [inner, columns] = w.shape[..] else {
        panic!("weight: {:?}", w.shape)
    };
    let sum = |row: &[i64], column: usize| {
        let terms = row.iter().enumerate();
        terms.map(|(i, x)| x * w.values[i * columns + column]).sum()
    };
    x.values
        .chunks(inner)
        .flat_map(|row| (0..columns).map(move |column| sum(row, column)))
        .collect()
}

/// The sums in steps of `2^log2_step`, each with the bias of its channel, of which a sample has
/// `inner` after one another. The bias is an integer of the same steps (arXiv 1903.08066, section
/// 4.3), so that all of it is added in integers.
fn sums_with_bias(sums: &[i64], log2_step: i32, bias: Option<&Integers>, inner: usize) -> Vec<f32> {
    let with_bias = |(i, &sum): (usize, &i64)| {
        let bias = bias.map_or(0, |bias| {
            let channel = i / inner % bias.values.len();
            let finer = u32::try_from(bias.log2_step - log2_step).expect("no finer than the sum");
            bias.values[channel] << finer
        });
        let whole = sum + bias;
        // Exact in `f32`.
        assert!(
            sum.abs() < 1 << 24 && whole.abs() < 1 << 24,
            "{sum} + {bias}"
        );
        (whole as f64 * f64::from(log2_step).exp2()) as f32
    };
    sums.iter().enumerate().map(with_bias).collect()
}

/// Checks every convolution and linear layer against integers: what it hands on is, to the bit, the
/// sums of products of input and weight on their grids plus the bias on theirs, computed in 64 bits,
/// times the product of their steps. A layer that let a tensor through unquantized would not
/// pass. Returns how many layers that were.
pub(super) fn check_sums(model: &Network, x: Tensor<4>) -> usize {
    let mut thresholds = Thresholds::default();
    model.visit(&mut thresholds);
    let taps = Taps::attach(model, Selection::all());
    model.forward(x);
    let seen = taps.detach();
    let seen: BTreeMap<String, &Tapped> = seen.iter().map(|seen| (seen.path(), seen)).collect();
    let mut layers = 0;
    for layer in model.layers() {
        let tapped = |slot: &str| seen.get(&format!("{}.{slot}", layer.path)).copied();
        let Some((weight, output)) = tapped("weight").zip(tapped("output")) else {
            continue;
        };
        let bits: BTreeMap<&str, u32> = layer
            .config
            .slots()
            .filter_map(|(slot, config)| match config {
                QuantizerConfig::Tqt(tqt) => Some((slot, tqt.bits)),
                _ => None,
            })
            .collect();
        let on_grid_of = |x: &Tapped, least_log2_step: i32| {
            let (log2, signed) = &thresholds.found[&x.path()];
            let bits = bits[&x.place.slot[..]];
            Integers::of(x, log2[0], *signed, bits, least_log2_step)
        };
        let on_grid = |x: &Tapped| on_grid_of(x, i32::MIN);
        let (x, w) = (on_grid(tapped("input").unwrap()), on_grid(weight));
        let out = output.tensor.shape();
        let (sums, inner) = match &weight.place.layer_type[..] {
            "Conv2d" => (convolution(&x, &w, out), out[2] * out[3]),
            "Linear" => (product(&x, &w), 1),
            _ => continue,
        };
        let log2_step = x.log2_step + w.log2_step;
        let bias = tapped("bias").map(|bias| on_grid_of(bias, log2_step));
        let mut expected = sums_with_bias(&sums, log2_step, bias.as_ref(), inner);
        if bits.contains_key("output") {
            let mut before = output.clone();
            before.tensor = TensorData::new(expected, before.tensor.shape());
            let output = on_grid(&before);
            let step = f64::from(output.log2_step).exp2();
            let value = |&integer: &i64| (integer as f64 * step) as f32;
            expected = output.values.iter().map(value).collect();
        }
        let found: Vec<f32> = output.tensor.iter::<f32>().collect();
        assert!(found.iter().any(|y| *y != 0.0), "{}", layer.path);
        assert!(
            found == expected,
            "{}: not the sums of integers",
            layer.path
        );
        layers += 1;
    }
    layers
}

/// Grey values without a pattern, from a linear congruence.
fn noise(channels: usize, size: usize, count: usize) -> ImageSet {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    ImageSet {
        name: "noise".into(),
        images: (0..count * channels * size * size)
            .map(|_| next())
            .collect(),
        labels: (0..count).map(|i| (i % 10) as u8).collect(),
        channels,
        height: size,
        width: size,
        margin: 0,
        classes: 10,
        scale: 1.0 / 255.0,
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
    }
}

/// A float epoch, calibration, and some steps of training with every tensor quantized.
fn trained(name: &str, channels: usize, size: usize) -> Network {
    let settings = Settings {
        data: Some(if channels == 1 {
            lowbit::data::DataSet::Mnist
        } else {
            lowbit::data::DataSet::Cifar10
        }),
        model: Some(name.parse().unwrap()),
        plan: Some(all_tensors()),
        baseline: Some(true),
        epochs: Some(1),
        batch: Some(16),
        calibration_images: Some(32),
        ..Settings::default()
    };
    let experiment: Experiment = settings.complete().unwrap();
    let split = Split {
        train: noise(channels, size, 96),
        test: noise(channels, size, 16),
    };
    let temporary = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(temporary.path(), &experiment).unwrap();
    let device = Device::flex();
    let outcome = folder
        .train(&experiment, &split, &device, &Interrupter::new(), &mut ())
        .unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    let last = folder.checkpoints("plan").last().unwrap().unwrap();
    let model = build(name, &experiment.runs[1].plan, &device);
    load_weights(model, &last, Tolerance::default()).unwrap().0
}

#[test]
fn after_training_every_scale_of_lenet_and_of_resnet20_is_a_power_of_two() {
    // Convolutions and linear layers: of a residual network, the first, two in each of nine
    // blocks, two where the branch beside a block changes the shape, and the last.
    for (name, channels, size, layers) in [("lenet", 1, 28, 4), ("resnet20", 3, 32, 22)] {
        let model = trained(name, channels, size);
        check(&model, images(name, 8, &Device::flex()));
        assert_eq!(check_sums(&model, images(name, 2, &Device::flex())), layers);
    }
}

#[test]
fn a_layer_that_lets_a_tensor_through_does_not_pass_the_check_of_sums() {
    let x = images("lenet", 2, &Device::flex());
    let model = super::calibrated(build("lenet", &all_tensors(), &Device::flex()), &x);
    assert_eq!(check_sums(&model, x.clone()), 4);
    for path in ["conv1.weight", "conv2.input", "fc1.weight", "fc2.input"] {
        let off = |place: &lowbit::quantizers::Place| place.to_string() == path;
        let (model, changed) = set_quantization(model.clone(), false, off);
        assert_eq!(changed, [path]);
        let check = std::panic::AssertUnwindSafe(|| check_sums(&model, x.clone()));
        let panic = std::panic::catch_unwind(check).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        let layer = path.split('.').next().unwrap();
        assert_eq!(*message, format!("{layer}: not the sums of integers"));
    }
}
