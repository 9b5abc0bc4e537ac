//! Repairs of networks that are quantized without training, against NumPy (`tests/reference/repair.py`), on
//! our layers and on a captured model of Burn's, and end to end on the digits.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::Error;
use lowbit::capture::prepare;
use lowbit::config::{Layer, Planner, QPlan};
use lowbit::nn::{
    BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Linear, LinearConfig, Relu, Relu6,
    Relu6Config, ReluConfig,
};
use lowbit::quantizers::{ModulePath, set_quantization};
use lowbit::repair::{Repaired, adaround, bias_correct, equalize, gptq};
use serde::Deserialize;

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

#[derive(Deserialize)]
struct Case {
    images: usize,
    x: Vec<f32>,
    parameters: BTreeMap<String, Vec<f32>>,
    spread: Vec<f32>,
    expected: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("../reference/repair.jsonl").lines();
    let lines = lines.filter(|line| line.starts_with("{\"kind\": \"network\""));
    let cases = lines.map(|line| serde_json::from_str(line).unwrap());
    cases.collect()
}

const PLAN: &str = "
    [default]
    weight = { method = \"format\", format = \"fixed(3,3)\" }
    input = { method = \"format\", format = \"ufixed(5,3)\" }
    [first]
    weight = { method = \"format\", format = \"fixed(3,3)\" }
    input = { method = \"format\", format = \"fixed(6,4)\" }
    [last]
    weight = { method = \"format\", format = \"fixed(3,3)\" }
    input = { method = \"format\", format = \"ufixed(5,3)\" }
";

/// The network of the fixture.
#[derive(Module, Debug)]
struct Ours {
    conv1: Conv2d,
    relu1: Relu,
    conv2: Conv2d,
    relu2: Relu,
    fc: Linear,
}

impl Ours {
    fn new(plan: &QPlan) -> Result<(Self, Vec<Layer>), Error> {
        let device = Device::flex();
        let mut planner = Planner::new(plan)?;
        let pad = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let conv1 = Conv2dConfig::new([2, 4], [3, 3])
            .with_stride([2, 2])
            .with_padding(pad.clone());
        let conv2 = Conv2dConfig::new([4, 4], [3, 3])
            .with_groups(4)
            .with_padding(pad);
        let ours = Self {
            conv1: planner.first("conv1", conv1)?.init(&device),
            relu1: planner.layer("relu1", ReluConfig::new())?.init(&device),
            conv2: planner.layer("conv2", conv2)?.init(&device),
            relu2: planner.layer("relu2", ReluConfig::new())?.init(&device),
            fc: planner.last("fc", LinearConfig::new(36, 3))?.init(&device),
        };
        Ok((ours, planner.finish()?))
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.relu1.forward(self.conv1.forward(x));
        let x = self.relu2.forward(self.conv2.forward(x));
        self.fc.forward(x.flatten(1, 3))
    }
}

/// The same of Burn's own layers.
#[derive(Module, Debug)]
struct Burns {
    conv1: burn::nn::conv::Conv2d,
    conv2: burn::nn::conv::Conv2d,
    fc: burn::nn::Linear,
}

impl Burns {
    fn new() -> Self {
        let device = Device::flex();
        let pad = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Self {
            conv1: burn::nn::conv::Conv2dConfig::new([2, 4], [3, 3])
                .with_stride([2, 2])
                .with_padding(pad.clone())
                .init(&device),
            conv2: burn::nn::conv::Conv2dConfig::new([4, 4], [3, 3])
                .with_groups(4)
                .with_padding(pad)
                .init(&device),
            fc: burn::nn::LinearConfig::new(36, 3).init(&device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        use burn::tensor::activation::relu;
        let x = relu(self.conv2.forward(relu(self.conv1.forward(x))));
        self.fc.forward(x.flatten(1, 3))
    }
}

/// Reads parameters by their paths, and sets some.
#[derive(Default)]
struct Named {
    path: ModulePath,
    values: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Named {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.insert(self.path.key(), numbers(param.val()));
    }
}

impl ModuleMapper for Named {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.remove(&self.path.key()) {
            Some(values) => param.map(|old| {
                let data = TensorData::new(values, old.shape());
                Tensor::from_data(data, &Device::flex())
            }),
            None => param,
        }
    }
}

fn parameters<M: Module>(model: &M) -> BTreeMap<String, Vec<f32>> {
    let mut named = Named::default();
    model.visit(&mut named);
    named.values
}

fn with<M: Module>(model: M, values: &BTreeMap<String, Vec<f32>>) -> M {
    let mut named = Named {
        values: values.clone(),
        ..Named::default()
    };
    model.map(&mut named)
}

/// Images in two batches of different sizes.
fn batches(x: &[f32], images: usize) -> Vec<Tensor<4>> {
    let data = TensorData::new(x.to_vec(), [images, 2, 6, 6]);
    let x = Tensor::from_data(data, &Device::flex());
    let first = images / 3;
    vec![
        x.clone().narrow(0, 0, first),
        x.narrow(0, first, images - first),
    ]
}

fn near(found: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f64>>, tolerance: f64) {
    for (path, expected) in expected {
        for (&found, &expected) in found[path].iter().zip(expected) {
            let error = (f64::from(found) - expected).abs();
            let allowed = tolerance * expected.abs().max(0.1);
            assert!(error <= allowed, "{path}: {found}, expected {expected}");
        }
    }
}

fn holds_for<M: Module>(
    model: &M,
    layers: &[Layer],
    case: &Case,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<2> + Copy,
) {
    let model = with(model.clone(), &case.parameters);
    let batches = batches(&case.x, case.images);
    for how in ["gptq", "adaround"] {
        let (model, did) = match how {
            "gptq" => gptq(model.clone(), layers, &batches, forward).unwrap(),
            _ => adaround(model.clone(), layers, &batches, forward).unwrap(),
        };
        near(&parameters(&model), &case.expected[how], 0.0);
        let paths: Vec<&str> = did.tensors.iter().map(|t| t.path.as_str()).collect();
        assert_eq!(paths, ["conv1.weight", "conv2.weight", "fc.weight"]);
        assert!(did.tensors.iter().all(|t| t.after <= t.before), "{did:?}");
    }
    let float = model.clone();
    let (corrected, did) = bias_correct(model.clone(), &float, &batches, forward).unwrap();
    near(
        &parameters(&corrected),
        &case.expected["bias-correct"],
        2e-5,
    );
    assert!(did.tensors.iter().all(|t| t.after < 1e-5), "{did:?}");
    equalizes(model, layers, case, forward);
}

/// Equal ranges, and the same function.
fn equalizes<M: Module>(
    model: M,
    layers: &[Layer],
    case: &Case,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<2> + Copy,
) {
    let spread = BTreeMap::from([("conv1.weight".to_string(), case.spread.clone())]);
    let model = with(model, &spread);
    let x = batches(&case.x, case.images).remove(0);
    let scores = |model: &M| {
        let (float, _) = set_quantization(model.clone(), false, |_| true);
        numbers(forward(&float, x.clone()))
    };
    let (equal, did) = equalize(model.clone(), layers, &x, forward).unwrap();
    let found = parameters(&equal);
    near(&found, &case.expected["equalize"], 2e-6);
    for (before, after) in scores(&model).into_iter().zip(scores(&equal)) {
        assert!(
            (before - after).abs() <= 2e-5 * before.abs().max(1.0),
            "{before} {after}"
        );
    }
    let ranges = |path: &str, channel: fn(usize) -> usize| {
        let mut ranges = [0f32; 4];
        for (i, w) in found[path].iter().enumerate() {
            ranges[channel(i)] = ranges[channel(i)].max(w.abs());
        }
        ranges
    };
    let conv1 = ranges("conv1.weight", |i| i / 18);
    let conv2 = ranges("conv2.weight", |i| i / 9);
    let fc = ranges("fc.weight", |i| i / 27);
    for i in 0..4 {
        for other in [conv2[i], fc[i]] {
            assert!(
                (conv1[i] / other - 1.0).abs() < 1e-5,
                "{conv1:?} {conv2:?} {fc:?}"
            );
        }
    }
    assert!(did.notes.is_empty(), "{did:?}");
    assert!(did.tensors[0].before < did.tensors[0].after);
}

#[test]
fn our_layers_are_repaired_as_numpy_says() {
    let (ours, layers) = Ours::new(&QPlan::from_toml(PLAN).unwrap()).unwrap();
    for case in cases() {
        holds_for(&ours, &layers, &case, Ours::forward);
    }
}

#[test]
fn so_is_a_captured_model() {
    let plan = QPlan::from_toml(PLAN).unwrap();
    for case in cases() {
        let x = batches(&case.x, case.images).remove(0);
        let captured = prepare(Burns::new(), &plan, &x, Burns::forward).unwrap();
        let layers = captured.layers().to_vec();
        holds_for(&captured, &layers, &case, |model, x| model.forward(x));
    }
}

/// An algorithm on a network, its layers and images.
type How = fn(Ours, &[Layer], &Tensor<4>) -> Result<(Ours, Repaired), Error>;

#[test]
fn what_cannot_be_repaired_is_named() {
    let x = Tensor::<4>::ones([2, 2, 6, 6], &Device::flex());
    let refused = |plan: &str, how: How| {
        let (ours, layers) = Ours::new(&QPlan::from_toml(plan).unwrap()).unwrap();
        how(ours, &layers, &x).unwrap_err().to_string()
    };
    let weight =
        |method: &str| format!("[[overrides]]\npath = \"conv2\"\nset.weight = {{ {method} }}");
    let round = |ours, layers: &[Layer], x: &Tensor<4>| {
        gptq(ours, layers, std::slice::from_ref(x), Ours::forward)
    };
    let move_ranges =
        |ours, layers: &[Layer], x: &Tensor<4>| equalize(ours, layers, x, Ours::forward);
    assert_eq!(
        refused(&weight("method = \"format\", format = \"e4m3\""), round),
        "conv2.weight: is quantized by format, expected integers times a power of two"
    );
    let learned = weight("method = \"learned-width\", bits = 4");
    let message = "conv2.weight: learns its width, expected a width that stays";
    assert_eq!(refused(&learned, round), message);
    assert_eq!(refused(&learned, move_ranges), message);
    assert_eq!(
        refused(&weight("method = \"dorefa-weight\", bits = 4"), move_ranges),
        "conv2.weight: is quantized by dorefa-weight, which makes it by a function of what is stored"
    );
    let nothing =
        |ours, layers: &[Layer], _: &Tensor<4>| adaround(ours, layers, &[], Ours::forward);
    assert_eq!(
        refused(PLAN, nothing),
        "adaround: needs images, and there are none"
    );
    let not_finite = |ours, layers: &[Layer], x: &Tensor<4>| {
        gptq(ours, layers, &[x.clone() / 0.0], Ours::forward)
    };
    let plan = weight("method = \"format\", format = \"fixed(3,3)\"");
    assert_eq!(
        refused(&plan, not_finite),
        "conv2.input: saw a NaN or an infinity"
    );
}

/// A convolution without bias, its normalization, and what clips.
#[derive(Module, Debug)]
struct Normed {
    conv1: Conv2d,
    bn1: BatchNorm,
    relu1: Relu6,
    conv2: Conv2d,
}

impl Normed {
    fn new() -> (Self, Vec<Layer>) {
        let device = Device::flex();
        let plan = QPlan::from_toml(PLAN).unwrap();
        let mut planner = Planner::new(&plan).unwrap();
        let conv = |channels| Conv2dConfig::new(channels, [3, 3]).with_bias(false);
        let normed = Self {
            conv1: planner.first("conv1", conv([2, 4])).unwrap().init(&device),
            bn1: planner
                .layer("bn1", BatchNormConfig::new(4))
                .unwrap()
                .init(&device),
            relu1: planner
                .layer("relu1", Relu6Config::new())
                .unwrap()
                .init(&device),
            conv2: planner.layer("conv2", conv([4, 2])).unwrap().init(&device),
        };
        (normed, planner.finish().unwrap())
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn1.forward(self.conv1.forward(x));
        self.conv2.forward(self.relu1.forward(x))
    }
}

#[test]
fn a_running_mean_takes_up_what_a_bias_would() {
    let (normed, layers) = Normed::new();
    let case = &cases()[0];
    let batches = batches(&case.x, case.images);
    let weight = BTreeMap::from([(
        "conv1.weight".to_string(),
        case.parameters["conv1.weight"].clone(),
    )]);
    let normed = with(normed, &weight);
    let before = parameters(&normed)["bn1.running_mean"].clone();
    let (corrected, did) =
        bias_correct(normed.clone(), &normed, &batches, Normed::forward).unwrap();
    let after = &parameters(&corrected)["bn1.running_mean"];
    // The mean error of the convolution's own results, in one batch after the other.
    let (float, _) = set_quantization(normed.clone(), false, |_| true);
    let mut errors = [0f64; 4];
    for x in &batches {
        let error = normed.conv1.forward(x.clone()) - float.conv1.forward(x.clone());
        let places = error.dims()[2] * error.dims()[3];
        for (i, e) in numbers(error).chunks(places).enumerate() {
            errors[i % 4] += e.iter().map(|&e| f64::from(e)).sum::<f64>();
        }
    }
    for i in 0..4 {
        let expected = f64::from(before[i]) + errors[i] / (case.images * 16) as f64;
        assert!(
            (f64::from(after[i]) - expected).abs() < 1e-6,
            "{after:?} {expected}"
        );
    }
    assert!(
        did.tensors[0].before > 1e-4 && did.tensors[0].after < 1e-7,
        "{did:?}"
    );
    assert_eq!(
        did.notes,
        ["conv2 has neither a bias nor a normalization after it; it stays"]
    );
    let (_, did) = equalize(corrected, &layers, &batches[0], Normed::forward).unwrap();
    assert_eq!(
        did.notes,
        [
            "no two layers follow each other with a rectifier alone between them; nothing changed",
            "conv1 ends a chain: a normalization that is not merged",
        ]
    );
}

mod digits {
    use super::*;
    use lowbit::repair::Algorithm;
    use lowbit::train::{Interrupter, Outcome, Quantize, RunFolder, RunResult, Settings};

    use crate::training::some_digits;

    fn run(experiment: lowbit::train::Experiment, path: &std::path::Path) -> RunResult {
        let folder = RunFolder::create(path, &experiment).unwrap();
        let (split, device) = (some_digits(), Device::flex());
        let outcome = folder.train(&experiment, &split, &device, &Interrupter::new(), &mut ());
        match outcome.unwrap() {
            Outcome::Finished(mut results) => results.pop().unwrap(),
            Outcome::Interrupted(..) => panic!("nobody stopped it"),
        }
    }

    /// Every algorithm lowers the loss of three bits, on any number of threads to the same bits.
    #[test]
    fn three_bits_are_repaired() {
        let temporary = tempfile::tempdir().unwrap();
        let float = Settings {
            method: Some(lowbit::train::Method::FLOAT),
            epochs: Some(8),
            batch: Some(16),
            ..Settings::default()
        };
        let from = temporary.path().join("float");
        run(float.complete().unwrap(), &from);
        let quantized = |text: &str, threads: usize| {
            let list: Vec<Algorithm> = text
                .split(',')
                .filter_map(|name| name.parse().ok())
                .collect();
            let settings = Settings {
                from: Some(from.clone()),
                wbits: Some(3),
                algorithms: (!list.is_empty()).then_some(list),
                ..Settings::default()
            };
            let experiment = Quantize::new(settings).experiment().unwrap();
            let path = temporary.path().join(format!("{}-{threads}", text.len()));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| run(experiment, &path))
        };
        let plain = quantized("", 1).loss;
        for text in [
            "adaround",
            "gptq",
            "bias-correct",
            "equalize,adaround,bias-correct",
        ] {
            let one = quantized(text, 1);
            assert!(one.loss < plain, "{text} {} {plain}", one.loss);
            assert_eq!(quantized(text, 2).loss, one.loss);
        }
    }
}
