use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use lowbit::data::{ImageSet, Split};
use lowbit::models::{Classifier, Network, Tolerance};
use lowbit::ops::trained_threshold;
use lowbit::quantizers::{ModulePath, QuantizerConfig, Selection, Taps};
use lowbit::train::checkpoint::load_weights;
use lowbit::train::{Experiment, Interrupter, Outcome, RunFolder, Settings};

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
            let q = trained_threshold(tensor(&values), tensor(&[log2]), sign, bits, 0);
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
    for (name, channels, size) in [("lenet", 1, 28), ("resnet20", 3, 32)] {
        let model = trained(name, channels, size);
        check(&model, images(name, 8, &Device::flex()));
    }
}
