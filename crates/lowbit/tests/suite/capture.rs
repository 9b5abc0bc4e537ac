//! Models made of `burn::nn` alone, captured: the same bits as the model itself, and quantized by plan.

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig,
    PaddingConfig2d, Relu,
};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, Tolerance};
use lowbit::calibrate::calibrate;
use lowbit::capture::{Captured, ModelInput, prepare, prepare_parameters};
use lowbit::config::{Override, QConfig, QPlan};
use lowbit::ops::{GradientHook, GradientQuantization, quantize_gradient};
use lowbit::quantizers::{DorefaWeightConfig, FormatQuantizerConfig, QuantizerConfig};

use crate::numbers::numbers;

/// Convolution, normalization and rectifier with a shortcut around them.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    relu: Relu,
}

impl Block {
    fn new(channels: usize, device: &Device) -> Self {
        let conv = || {
            Conv2dConfig::new([channels, channels], [3, 3])
                .with_padding(PaddingConfig2d::Same)
                .with_bias(false)
                .init(device)
        };
        Self {
            conv1: conv(),
            bn1: BatchNormConfig::new(channels)
                .with_momentum(0.25)
                .init(device),
            conv2: conv(),
            // The batch normalizes, and the running statistics stay.
            bn2: BatchNormConfig::new(channels)
                .with_momentum(0.0)
                .init(device),
            relu: Relu::new(),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self
            .relu
            .forward(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        self.relu.forward(y + x)
    }
}

#[derive(Module, Debug)]
struct ResNet {
    stem: Conv2d,
    blocks: Vec<Block>,
    max: MaxPool2d,
    pool: AdaptiveAvgPool2d,
    fc: Linear,
}

impl ResNet {
    fn new(device: &Device) -> Self {
        Self {
            stem: Conv2dConfig::new([1, 4], [3, 3]).init(device),
            blocks: (0..2).map(|_| Block::new(4, device)).collect(),
            max: MaxPool2dConfig::new([2, 2]).init(),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(4, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self
            .blocks
            .iter()
            .fold(self.stem.forward(x), |x, block| block.forward(x));
        let x = self.pool.forward(self.max.forward(x));
        self.fc.forward(x.flatten(1, 3))
    }
}

#[derive(Module, Debug)]
struct Reader {
    embedding: Embedding,
    encoder: TransformerEncoder,
    fc: Linear,
}

impl Reader {
    fn new(device: &Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(11, 8).init(device),
            encoder: TransformerEncoderConfig::new(8, 16, 2, 2)
                .with_dropout(0.0)
                .init(device),
            fc: LinearConfig::new(8, 3).init(device),
        }
    }

    fn forward(&self, words: Tensor<2, Int>) -> Tensor<2> {
        let x = TransformerEncoderInput::new(self.embedding.forward(words));
        let x = self.encoder.forward(x).mean_dim(1);
        self.fc.forward(x.flatten(1, 2))
    }
}

#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    fc: Linear,
}

impl Recurrent {
    fn new(device: &Device) -> Self {
        Self {
            lstm: LstmConfig::new(4, 6, true).init(device),
            fc: LinearConfig::new(6, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let (_, state) = self.lstm.forward(x, None);
        self.fc.forward(state.hidden)
    }
}

fn images(count: usize, device: &Device) -> Tensor<4> {
    numbers([count, 1, 8, 8], count as f32, device)
}

fn words(count: usize, device: &Device) -> Tensor<2, Int> {
    let words: Vec<i64> = (0..5 * count as i64).map(|i| (i * i + 3) % 11).collect();
    Tensor::from_data(TensorData::new(words, [count, 5]), device)
}

fn steps(count: usize, device: &Device) -> Tensor<3> {
    numbers([count, 5, 4], 7.0 + count as f32, device)
}

fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
    let numbers: Vec<f32> = x.into_data().try_to_vec().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

/// The gradients of all parameters, in the order of the module.
struct GradientsOf<'a>(&'a Gradients, Vec<Vec<u32>>);

impl ModuleVisitor for GradientsOf<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.0) {
            self.1.push(bits(gradient));
        }
    }
}

fn gradients<M: Module>(model: &M, loss: Tensor<1>) -> Vec<Vec<u32>> {
    let gradients = loss.backward();
    let mut all = GradientsOf(&gradients, Vec::new());
    model.visit(&mut all);
    all.1
}

/// A loss in which every result has another weight.
fn loss(y: Tensor<2>) -> Tensor<1> {
    let [rows, columns] = y.dims();
    let device = y.device();
    let weights = Tensor::<1, Int>::arange(1..(rows * columns) as i64 + 1, &device);
    (y * weights.float().sin().reshape([rows, columns])).sum()
}

/// The captured model in float against the model: results in evaluation and in training, and gradients.
fn same_bits<M: Module, I: ModelInput + 'static>(
    model: impl Fn(&Device) -> M,
    input: impl Fn(usize, &Device) -> I,
    forward: impl Fn(&M, I) -> Tensor<2>,
) {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let model = model(&device);
    let example = input(4, &plain);
    let captured: Captured<M, I, Tensor<2>> =
        prepare(model.clone(), &QPlan::float(), &example, &forward).unwrap();
    for batch in [1, 3, 7] {
        let x = || input(batch, &plain);
        let expected = forward(&model.valid(), x());
        assert_eq!(bits(captured.valid().forward(x())), bits(expected));
    }
    // Copies of their own, since each changes its running statistics.
    let (own, other) = (model.valid().train(), captured.valid().train());
    for batch in [6, 5] {
        let x = || input(batch, &device);
        let (y, z) = (forward(&own, x()), other.forward(x()));
        assert_eq!(bits(z.clone()), bits(y.clone()), "training, {batch}");
        let (expected, made) = (gradients(&own, loss(y)), gradients(&other, loss(z)));
        assert!(!expected.is_empty());
        assert_eq!(made, expected);
    }
    let x = || input(3, &plain);
    let expected = forward(&own.valid(), x());
    assert_eq!(bits(other.valid().forward(x())), bits(expected), "trained");
}

#[test]
fn a_residual_network_has_the_same_bits() {
    same_bits(ResNet::new, images, ResNet::forward);
}

#[test]
fn a_transformer_encoder_has_the_same_bits() {
    same_bits(Reader::new, words, Reader::forward);
}

#[test]
fn an_lstm_has_the_same_bits() {
    same_bits(Recurrent::new, steps, Recurrent::forward);
}

fn captured_resnet(plan: &QPlan) -> Captured<ResNet, Tensor<4>, Tensor<2>> {
    let device = Device::flex().autodiff();
    let model = ResNet::new(&device);
    prepare(model, plan, &images(4, &Device::flex()), ResNet::forward).unwrap()
}

#[test]
fn layers_have_the_models_paths_and_types() {
    let captured = captured_resnet(&QPlan::float());
    let layers = captured.layers().iter();
    let layers: Vec<_> = layers
        .map(|l| (l.path.as_str(), l.description.name))
        .collect();
    assert_eq!(
        layers,
        [
            ("stem", "Conv2d"),
            ("blocks.0.conv1", "Conv2d"),
            ("blocks.0.bn1", "BatchNorm"),
            ("blocks.0.conv2", "Conv2d"),
            ("blocks.0.bn2", "BatchNorm"),
            ("blocks.0.add", "Add"),
            ("blocks.1.conv1", "Conv2d"),
            ("blocks.1.bn1", "BatchNorm"),
            ("blocks.1.conv2", "Conv2d"),
            ("blocks.1.bn2", "BatchNorm"),
            ("blocks.1.add", "Add"),
            ("blocks.1.adaptiveavgpool2d", "AdaptiveAvgPool2d"),
            ("fc", "Linear"),
        ]
    );
    let slots = |i: usize| captured.layers()[i].description.slots.clone();
    assert_eq!(
        slots(0),
        ["input", "weight", "bias", "output", "error", "gradient"]
    );
    assert_eq!(
        slots(2),
        ["input", "gamma", "beta", "output", "error", "gradient"]
    );
    assert_eq!(slots(5), ["input", "output", "error"]);
}

#[test]
fn what_a_recording_has_not_is_named() {
    let device = Device::flex();
    let model = Reader::new(&device);
    let captured = prepare(model, &QPlan::float(), &words(2, &device), Reader::forward).unwrap();
    let left_out = captured.left_out();
    assert!(
        left_out.contains(&"encoder.layers.0.dropout".to_string()),
        "{left_out:?}"
    );
    assert!(captured_resnet(&QPlan::float()).left_out().is_empty());
    // A normalization of ours goes by its running statistics.
    let norm = lowbit::nn::BatchNormConfig::new(1).init(&device);
    let forward = |norm: &lowbit::nn::BatchNorm, x: Tensor<4>| norm.forward(x);
    let captured = prepare(norm, &QPlan::float(), &images(2, &device), forward).unwrap();
    assert_eq!(captured.left_out(), [""]);
}

#[test]
fn the_steps_of_a_loop_are_one_layer() {
    let device = Device::flex();
    let model = Recurrent::new(&device);
    let captured = prepare(
        model,
        &QPlan::float(),
        &steps(2, &device),
        Recurrent::forward,
    )
    .unwrap();
    let paths = captured.layers().iter().map(|layer| layer.path.as_str());
    let linear = paths.clone().filter(|path| path.ends_with("_transform"));
    assert_eq!(linear.count(), 8, "two for each of four gates");
    // The first step, from a state of zeros, reads fewer layers than the others, which are alike.
    let longer = steps(2, &device).repeat_dim(1, 3);
    let model = captured.model().clone();
    let longer = prepare(model, &QPlan::float(), &longer, Recurrent::forward).unwrap();
    assert_eq!(longer.layers(), captured.layers());
}

fn one_bit() -> QuantizerConfig {
    QuantizerConfig::DorefaWeight(DorefaWeightConfig::new(1))
}

/// A plan that quantizes one slot of one layer.
fn one_slot(path: &str, slot: &str, quantizer: QuantizerConfig) -> QPlan {
    QPlan {
        overrides: vec![Override {
            path: Some(path.into()),
            config: QConfig::new().with(slot, quantizer),
            ..Override::default()
        }],
        ..QPlan::float()
    }
}

fn format(text: &str) -> QuantizerConfig {
    QuantizerConfig::Format(FormatQuantizerConfig::new(text.parse().unwrap()))
}

#[test]
fn a_plan_speaks_of_the_models_own_paths() {
    let plan = one_slot("blocks.1.conv2", "weight", one_bit());
    let captured = captured_resnet(&plan);
    let model = captured.to_float();
    let numbers = |conv: &Conv2d| {
        let mut bits: Vec<u32> = bits(conv.weight.val())
            .iter()
            .map(|b| b & 0x7fff_ffff)
            .collect();
        bits.sort_unstable();
        bits.dedup();
        bits.len()
    };
    // Of one bit, a weight is the mean magnitude with a sign.
    assert_eq!(numbers(&model.blocks[1].conv2), 1);
    assert!(numbers(&model.blocks[0].conv2) > 100 && numbers(&model.blocks[1].conv1) > 100);

    let plan = one_slot("blocks.7.conv2", "weight", one_bit());
    let (device, model) = (Device::flex(), ResNet::new(&Device::flex()));
    let error = prepare(model, &plan, &images(2, &device), ResNet::forward).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("overrides[0]: path `blocks.7.conv2` matches no layer"),
        "{message}"
    );
}

/// The numbers of fixed(3,1): halves from -2 to 1.5, without a negative zero.
fn halves<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (x * 2.0).round().clamp(-4.0, 3.0) / 2.0 + 0.0
}

#[test]
fn what_a_layer_reads_and_makes_is_on_its_grid() {
    let device = Device::flex();
    let model = ResNet::new(&device);
    let x = images(5, &device);
    let expected = |slot: &str| -> Tensor<2> {
        let x = if slot == "stem.input" {
            halves(x.clone())
        } else {
            x.clone()
        };
        let x = model.blocks[0].forward(model.stem.forward(x));
        // Of a sum that is rounded before the rectifier, the rectifier makes what is rounded after it.
        let x = if slot == "blocks.0.add.output" {
            halves(x)
        } else {
            x
        };
        let x = model
            .pool
            .forward(model.max.forward(model.blocks[1].forward(x)));
        let y = model.fc.forward(x.flatten(1, 3));
        if slot == "fc.output" { halves(y) } else { y }
    };
    let float = bits(expected("none"));
    for (path, slot) in [
        ("stem", "input"),
        ("blocks.0.add", "output"),
        ("fc", "output"),
    ] {
        let plan = one_slot(path, slot, format("fixed(3,1)"));
        let example = images(4, &device);
        let captured = prepare(model.clone(), &plan, &example, ResNet::forward).unwrap();
        let made = bits(captured.forward(x.clone()));
        assert_eq!(
            made,
            bits(expected(&format!("{path}.{slot}"))),
            "{path}.{slot}"
        );
        assert_ne!(made, float, "{path}.{slot}");
    }
}

#[test]
fn thresholds_of_a_captured_model_are_calibrated_and_trained() {
    let device = Device::flex();
    let captured = captured_resnet(&QPlan::tqt(4, 4));
    let x = images(16, &device);
    let run = |model: &Captured<ResNet, _, Tensor<2>>| drop(model.forward(x.clone()));
    let (captured, calibrated) = calibrate(captured, |_| true, run).unwrap();
    let paths = calibrated.iter().map(|c| c.path.as_str());
    assert!(
        paths.clone().any(|path| path == "blocks.0.conv1.input"),
        "{:?}",
        paths.collect::<Vec<_>>()
    );
    let captured = captured.train();
    let y = captured.forward(images(6, &device.autodiff()));
    let all = gradients(&captured, loss(y));
    // Six layers with a weight and two thresholds each, beside 16 parameters.
    assert_eq!(all.len(), 16 + 2 * 6);
}

#[derive(Module, Debug)]
struct Deciding {
    fc: Linear,
}

#[test]
fn what_depends_on_values_is_refused_with_the_place() {
    let device = Device::flex();
    let model = Deciding {
        fc: LinearConfig::new(3, 3).init(&device),
    };
    let forward = |model: &Deciding, x: Tensor<2>| {
        let y = model.fc.forward(x).exp();
        match y.clone().sum().into_scalar::<f32>() > 1.0 {
            true => y,
            false => -y,
        }
    };
    let example = Tensor::<2>::ones([2, 3], &device);
    let error = prepare(model.clone(), &QPlan::float(), &example, forward).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("after operation Sum, after layer fc: the forward needs"),
        "{message}"
    );

    // Its weights can be quantized all the same.
    let plan = QPlan {
        first: QConfig::new().with("weight", one_bit()),
        ..QPlan::float()
    };
    let (quantized, layers) = prepare_parameters(model.clone(), &plan).unwrap();
    assert_eq!(
        (layers[0].path.as_str(), layers[0].description.name),
        ("fc", "Linear")
    );
    let (y, z) = (
        forward(&model, example.clone()),
        forward(&quantized, example.clone()),
    );
    assert_ne!(bits(y), bits(z));
    let scale = model.fc.weight.val().abs().mean();
    let signs = model.fc.weight.val().sign() * scale.reshape([1, 1]);
    let made = quantized.fc.weight.val().into_data();
    made.assert_approx_eq::<f32>(&signs.into_data(), Tolerance::default());
}

#[test]
fn what_depends_on_the_size_of_the_batch_is_refused() {
    let device = Device::flex();
    let model = LinearConfig::new(3, 3).init(&device);
    let forward = |model: &Linear, x: Tensor<2>| {
        let rows = x.dims()[0] as f32;
        model.forward(x * rows)
    };
    let example = Tensor::<2>::ones([2, 3], &device);
    let error = prepare(model, &QPlan::float(), &example, forward).unwrap_err();
    let message = error.to_string();
    assert_eq!(
        message,
        "MulScalar: is not the same operation for every size of the batch"
    );
}

#[test]
fn parameters_quantized_in_place_calibrate_and_train() {
    let device = Device::flex().autodiff();
    let plan = QPlan::tqt(4, 32);
    let (model, _) = prepare_parameters(ResNet::new(&device), &plan).unwrap();
    let x = images(4, &Device::flex());
    let run = |model: &ResNet| drop(model.forward(x.clone()));
    let (model, calibrated) = calibrate(model, |_| true, run).unwrap();
    let paths: Vec<_> = calibrated.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths[..2], ["stem.weight", "blocks.0.conv1.weight"]);
    let y = model.forward(images(6, &device));
    let all = gradients(&model, loss(y));
    assert_eq!(all.len(), 16 + 6);
}

/// Layers of ours beside Burn's.
#[derive(Module, Debug)]
struct Mixed {
    conv: lowbit::nn::Conv2d,
    relu: lowbit::nn::Relu,
    fc: Linear,
}

impl Mixed {
    fn new(device: &Device) -> Self {
        let quantization = QConfig::new().with("weight", one_bit());
        let conv = lowbit::nn::Conv2dConfig::new([1, 4], [3, 3]).with_quantization(quantization);
        Self {
            conv: conv.init(device),
            relu: lowbit::nn::ReluConfig::new().init(device),
            fc: LinearConfig::new(144, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.relu.forward(self.conv.forward(x));
        self.fc.forward(x.flatten(1, 3))
    }
}

#[test]
fn operators_of_our_own_are_recorded_and_run_again() {
    same_bits(Mixed::new, images, Mixed::forward);
}

/// Gradients that two functions change, whose operators have one text.
#[derive(Module, Debug)]
struct Hooked {
    one: Linear,
    two: Linear,
}

impl Hooked {
    fn new(device: &Device) -> Self {
        Self {
            one: LinearConfig::new(20, 8).init(device),
            two: LinearConfig::new(8, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let times = |factor: f32, x: Tensor<2>| {
            let scale = move |gradient: &mut [f32]| gradient.iter_mut().for_each(|g| *g *= factor);
            let quantization = GradientQuantization {
                hooks: vec![GradientHook::Function(Arc::new(scale))],
                ..GradientQuantization::default()
            };
            quantize_gradient(x, quantization)
        };
        let x = times(2.0, self.one.forward(x.flatten(1, 2)));
        times(3.0, self.two.forward(x))
    }
}

#[test]
fn operators_that_differ_in_what_their_texts_leave_out_are_two() {
    same_bits(Hooked::new, steps, Hooked::forward);
}

#[test]
fn parameters_become_integers_with_scales() {
    let mut plan = QPlan::dorefa(4, 4);
    plan.first = plan.default.clone();
    let captured = captured_resnet(&plan);
    let all = captured.to_integers().unwrap();
    let paths: Vec<_> = all.iter().map(|p| p.path.as_str()).collect();
    assert!(
        paths.contains(&"stem.weight") && paths.contains(&"blocks.1.conv2.weight"),
        "{paths:?}"
    );
    let model = captured.to_float();
    let stem = all.iter().find(|p| p.path == "stem.weight").unwrap();
    // DoReFa-Net's four bits: the odd numbers from -15 to 15, times a fifteenth.
    assert!(stem.integers.iter().all(|q| q.abs() <= 15 && q % 2 != 0));
    assert_eq!(
        (stem.shape.as_slice(), stem.scales.len()),
        (&[4, 1, 3, 3][..], 1)
    );
    let made: Vec<f32> = stem
        .integers
        .iter()
        .map(|&q| q as f32 * stem.scales[0])
        .collect();
    let made = TensorData::new(made, [4, 1, 3, 3]);
    let tolerance = Tolerance::absolute(1e-6);
    model
        .stem
        .weight
        .val()
        .into_data()
        .assert_approx_eq::<f32>(&made, tolerance);
}

#[test]
fn a_captured_model_is_saved_and_loaded_with_the_models_own_keys() {
    let plan = QPlan::tqt(4, 4);
    let device = Device::flex();
    let x = images(4, &device);
    let run = |model: &Captured<ResNet, _, Tensor<2>>| drop(model.forward(x.clone()));
    let (saved, _) = calibrate(captured_resnet(&plan).valid(), |_| true, run).unwrap();
    let other = captured_resnet(&plan).valid();
    assert_ne!(
        bits(other.forward(x.clone())),
        bits(saved.forward(x.clone()))
    );
    let record = saved.clone().into_record();
    let loaded = other.try_load_record(record).unwrap();
    assert_eq!(
        bits(loaded.forward(x.clone())),
        bits(saved.forward(x.clone()))
    );

    // The model's own record is a part of it.
    let keys = Keys::of(&saved);
    let own = Keys::of(saved.model());
    assert!(own.iter().all(|key| keys.contains(key)));
    assert!(
        keys.iter()
            .any(|key| key.starts_with("blocks.0.conv1.quantizers.weight."))
    );
}

/// Paths of all parameters.
#[derive(Default)]
struct Keys {
    names: Vec<String>,
    all: Vec<String>,
}

impl Keys {
    fn of<M: Module>(model: &M) -> Vec<String> {
        let mut keys = Self::default();
        model.visit(&mut keys);
        keys.all
    }
}

impl ModuleVisitor for Keys {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.names.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.names.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.all.push(self.names.join("."));
    }
}
