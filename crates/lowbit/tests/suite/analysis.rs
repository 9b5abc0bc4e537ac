//! The layer that is to blame is named first.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::AdamConfig;
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::TrainStep;
use lowbit::analysis::{Analysis, Defect, LayerAnalysis, Networks, Problem, bit_operations};
use lowbit::calibrate::calibrate;
use lowbit::config::{QPlan, TqtPlan, Widths};
use lowbit::data::{DataSet, ImageSet, epoch_order};
use lowbit::models::{Architecture, Classifier, Network};
use lowbit::quantizers::{ModulePath, ThresholdInit};
use lowbit::train::checkpoint::load_weights;
use lowbit::train::{Experiment, batch, find_run, trained_network};

/// The images of a set with each pixel four times as wide and high.
fn enlarged(set: &ImageSet) -> ImageSet {
    let (height, width) = (4 * set.height, 4 * set.width);
    let mut images = Vec::with_capacity(set.len() * height * width);
    for index in 0..set.len() {
        let image = set.image(index);
        for y in 0..height {
            images.extend((0..width).map(|x| image[y / 4 * set.width + x / 4]));
        }
    }
    ImageSet {
        images,
        height,
        width,
        ..set.clone()
    }
}

/// Every weight and input in 8 bits, a threshold for each output channel of a weight.
fn plan() -> QPlan {
    TqtPlan {
        per_channel: true,
        ..TqtPlan::new(8, 8).fixed(ThresholdInit::Mse, ThresholdInit::Mse)
    }
    .plan()
}

/// A network that is to be sabotaged, on its images.
struct Subject {
    plan: QPlan,
    build: Box<dyn Fn(&QPlan) -> Network>,
    model: Network,
    layers: Vec<String>,
    set: ImageSet,
    images: Vec<u32>,
}

fn lenet() -> Subject {
    let split = DataSet::Digits.load(None, &mut |_| {}).unwrap();
    let (train, test) = (enlarged(&split.train), enlarged(&split.test));
    let device = Device::flex();
    let build = |plan: &QPlan, device: &Device| -> Network {
        let lenet: Architecture = "lenet".parse().unwrap();
        lenet.init([1, 32, 32], 10, plan, 3, device).unwrap()
    };
    let training = device.clone().autodiff();
    let mut float = build(&QPlan::float(), &training);
    let mut optimizer = AdamConfig::new().init();
    for epoch in 0..3 {
        for indices in epoch_order(train.len(), 0, epoch).chunks(32) {
            let output = TrainStep::step(&float, batch(&train, indices, None, &training));
            float = optimizer.step(1e-3, float, output.grads);
        }
    }
    let record = float.record();
    let build = move |plan: &QPlan| {
        let model = build(plan, &Device::flex());
        let bytes = record.clone().into_bytes().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.bpk");
        std::fs::write(&path, &bytes[..]).unwrap();
        load_weights(model, &path, Default::default()).unwrap().0
    };
    subject(plan(), Box::new(build), &train, test, 64)
}

/// The network that a plan makes, calibrated.
fn subject(
    plan: QPlan,
    build: Box<dyn Fn(&QPlan) -> Network>,
    train: &ImageSet,
    set: ImageSet,
    images: usize,
) -> Subject {
    let device = Device::flex();
    let model = build(&plan);
    let first: Vec<u32> = (0..256).collect();
    let input = batch(train, &first, None, &device).images;
    let (model, _) = calibrate(
        model,
        |_| true,
        |model| {
            model.forward(input.clone());
        },
    )
    .unwrap();
    let layers = model.layers().iter();
    let layers = layers.filter(|layer| layer.config.get("weight").is_some());
    let layers = layers.map(|layer| layer.path.clone()).collect();
    Subject {
        plan,
        build,
        model: model.valid(),
        layers,
        images: (0..images as u32).collect(),
        set,
    }
}

impl Subject {
    /// The layer that is named first.
    fn named_first(&self, model: &Network) -> (String, Problem) {
        let found = Networks {
            model,
            float: None,
            set: &self.set,
            images: &self.images,
            device: &Device::flex(),
        };
        let first = found.analyze().findings.swap_remove(0);
        (first.layer, first.problem)
    }
}

/// Changes the parameter at a path.
struct Change<F> {
    path: ModulePath,
    key: String,
    change: F,
    found: bool,
}

impl<F: FnMut(&[usize], &mut [f32])> ModuleMapper for Change<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.key() != self.key {
            return param;
        }
        self.found = true;
        param.map(|old| {
            let (shape, device) = (old.dims(), old.device());
            let mut values: Vec<f32> = old.into_data().iter::<f32>().collect();
            (self.change)(&shape, &mut values);
            Tensor::from_data(TensorData::new(values, shape), &device)
        })
    }
}

fn changed(model: &Network, key: &str, change: impl FnMut(&[usize], &mut [f32])) -> Network {
    let mut mapper = Change {
        path: ModulePath::default(),
        key: key.into(),
        change,
        found: false,
    };
    let model = model.clone().map(&mut mapper);
    assert!(mapper.found, "no parameter {key}");
    model
}

/// The values of the parameter at a path.
fn values(model: &Network, key: &str) -> Vec<f32> {
    struct Read {
        path: ModulePath,
        key: String,
        values: Vec<f32>,
    }

    impl ModuleVisitor for Read {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.path.key() == self.key {
                self.values = param.val().into_data().iter::<f32>().collect();
            }
        }
    }

    let mut read = Read {
        path: ModulePath::default(),
        key: key.into(),
        values: Vec::new(),
    };
    model.visit(&mut read);
    read.values
}

/// Knuth's generator for 64 bits, the upper half of its state.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// The output channels of a weight: a convolution's are its first dimension, a linear layer's the second.
fn channel_of(shape: &[usize], i: usize) -> usize {
    match shape {
        [_, columns] => i % columns,
        [_, rest @ ..] => i / rest.iter().product::<usize>(),
        [] => 0,
    }
}

/// A network with one layer sabotaged, the layer, and what was done; `None` where a layer's channels all
/// have one scale, so that two that are swapped change nothing.
fn sabotaged(subject: &Subject, kind: usize, draw: &mut Draw) -> Option<(Network, String, String)> {
    let layer = subject.layers[draw.below(subject.layers.len())].clone();
    let (model, at) = (&subject.model, |name: &str| format!("{layer}.{name}"));
    let threshold = |slot: &str| {
        at(&format!(
            "quantizers.{slot}.TrainedThreshold.log2_threshold"
        ))
    };
    let slot = ["weight", "input"][draw.below(2)];
    let (model, what) = match kind {
        0 | 1 => {
            let by = if kind == 0 {
                -100f32.log2()
            } else {
                100f32.log2()
            };
            let model = changed(model, &threshold(slot), |_, values| {
                values.iter_mut().for_each(|log2| *log2 += by);
            });
            (model, format!("threshold of {slot} times 2^{by}"))
        }
        2 => {
            let mut channels = 1;
            let mut dead = 0;
            let model = changed(model, &at("weight"), |shape, values| {
                channels = channel_of(shape, values.len() - 1) + 1;
                dead = draw.below(channels);
                for (i, value) in values.iter_mut().enumerate() {
                    if channel_of(shape, i) == dead {
                        *value = 0.0;
                    }
                }
            });
            (model, format!("channel {dead} of {channels} dead"))
        }
        3 => {
            let scales = values(model, &threshold("weight"));
            let pairs = (0..scales.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
            let differ = |&(a, b): &(usize, usize)| scales[a].ceil() != scales[b].ceil();
            let pairs: Vec<(usize, usize)> = pairs.filter(differ).collect();
            let &(a, b) = pairs.get(draw.below(pairs.len().max(1)))?;
            let model = changed(model, &threshold("weight"), |_, values| values.swap(a, b));
            (
                model,
                format!(
                    "scales 2^{} and 2^{} swapped",
                    scales[a].ceil(),
                    scales[b].ceil()
                ),
            )
        }
        4 => {
            let model = changed(model, &at("weight"), |_, values| {
                values[draw.below(values.len())] = f32::INFINITY;
            });
            (model, "a weight is infinite".into())
        }
        _ => {
            let mut plan = subject.plan.clone();
            plan.widths
                .push(Widths::of_path(layer.as_str()).with(slot, 2));
            let model = (subject.build)(&plan).valid();
            (
                model.with_record(subject.model.record()).unwrap(),
                format!("{slot} in 2 bits"),
            )
        }
    };
    Some((model, layer, what))
}

/// Of `count` sabotages of these kinds in turn, how many are found.
fn found(subject: &Subject, kinds: &[usize], count: usize) -> usize {
    let mut draw = Draw(7);
    let (mut done, mut found) = (0, 0);
    while done < count {
        let kind = kinds[done % kinds.len()];
        let Some((model, layer, what)) = sabotaged(subject, kind, &mut draw) else {
            continue;
        };
        let (first, problem) = subject.named_first(&model);
        if first == layer {
            found += 1;
        } else {
            println!("{layer}: {what}: {first} was named, {problem:?}");
        }
        done += 1;
    }
    println!("{found} of {count}");
    found
}

/// Every kind of sabotage.
const ALL_KINDS: [usize; 6] = [0, 1, 2, 3, 4, 5];

#[test]
fn some_sabotaged_layers_of_lenet_are_named_first() {
    assert_eq!(found(&lenet(), &ALL_KINDS, 24), 24);
}

#[test]
#[ignore = "takes minutes"]
fn a_sabotaged_layer_of_lenet_is_named_first() {
    let found = found(&lenet(), &ALL_KINDS, 100);
    assert!(found >= 95, "{found} of 100");
}

/// A float run of a ResNet-20 in the folder that `LOWBIT_RESNET20` names.
fn resnet20(plan: QPlan, images: usize) -> Subject {
    let path = std::env::var("LOWBIT_RESNET20").expect("LOWBIT_RESNET20 names a run");
    let (folder, name, experiment): (_, String, Experiment) = find_run(path.as_ref()).unwrap();
    let split = experiment.load(None, &mut |_| {}).unwrap();
    let device = Device::flex();
    let (_, checkpoint) =
        trained_network(&folder, &experiment, &name, false, &split, &device).unwrap();
    let input = [split.train.channels, split.train.height, split.train.width];
    let (model, classes, seed) = (experiment.model, split.train.classes, experiment.seed);
    let build = move |plan: &QPlan| -> Network {
        let network = model
            .init(input, classes, plan, seed, &Device::flex())
            .unwrap();
        load_weights(network, &checkpoint, Default::default())
            .unwrap()
            .0
    };
    subject(plan, Box::new(build), &split.train, split.test, images)
}

#[test]
#[ignore = "takes minutes, and the folder of a trained ResNet-20 in LOWBIT_RESNET20"]
fn a_sabotaged_layer_of_resnet20_is_named_first() {
    let found = found(&resnet20(plan(), 64), &ALL_KINDS, 100);
    assert!(found >= 95, "{found} of 100");
}

/// What is said of a network that is not trained, of two images.
fn analysis_of(model: &Network) -> Analysis {
    let set = DataSet::Digits.load(None, &mut |_| {}).unwrap().test;
    let networks = Networks {
        model,
        float: None,
        set: &set,
        images: &[0, 1],
        device: &Device::flex(),
    };
    networks.analyze()
}

fn layer_of<'a>(found: &'a Analysis, path: &str) -> &'a LayerAnalysis {
    let layer = found.layers.iter().find(|layer| layer.path == path);
    layer.unwrap()
}

fn network(name: &str, plan: &QPlan) -> Network {
    let architecture: Architecture = name.parse().unwrap();
    let network = architecture.init([1, 8, 8], 10, plan, 3, &Device::flex());
    network.unwrap().valid()
}

/// A layer after neurons sums in each of eight steps. Its result is [channels, rows, columns], and each
/// number sums the products of a weight [out, in, rows, columns].
#[test]
fn a_spiking_layer_sums_in_every_step() {
    let model = network("snn-cnn", &QPlan::float());
    let found = analysis_of(&model);
    let conv2 = layer_of(&found, "conv2");
    let weight = conv2.tensor("weight").unwrap();
    let numbers: usize = conv2.shape.iter().product();
    let terms: usize = weight.shape[1..].iter().product();
    assert_eq!(conv2.operations, 8 * (numbers * terms) as u64);
    let all: u64 = found.layers.iter().map(|layer| layer.bit_operations).sum();
    let image = Tensor::zeros([1, 1, 8, 8], &Device::flex());
    assert_eq!(all, bit_operations(&model, image));
}

/// A width of 4 bits that came to one bit after the point, one before it and the sign.
#[test]
fn a_learned_width_is_what_it_came_to() {
    let table = "weight = { method = \"learned-width\", bits = 4 }";
    let parts = ["default", "first", "last"].map(|part| format!("[{part}]\n{table}\n"));
    let mut model = network("cnn", &QPlan::from_toml(&parts.concat()).unwrap());
    let path = "conv2.quantizers.weight.LearnedWidth";
    for (name, value) in [
        ("fraction_bits", 1.0),
        ("integer_bits", 1.0),
        ("signed", 1.0),
    ] {
        model = changed(&model, &format!("{path}.{name}"), |_, all| all.fill(value));
    }
    let found = analysis_of(&model);
    let conv2 = layer_of(&found, "conv2");
    let weight = conv2.tensor("weight").unwrap();
    assert_eq!((conv2.weight_bits, weight.bits), (Some(3.0), Some(3.0)));
    assert_eq!(conv2.bit_operations, conv2.operations * 3 * 32);
    let numbers: usize = weight.shape.iter().product();
    let rest = conv2.parameters - numbers as u64;
    assert_eq!(conv2.bits, 3 * numbers as u64 + 32 * rest);
}

/// A plan with one format for every weight and input of layers with a weight.
fn plan_of(format: &str) -> QPlan {
    let table = match format.strip_prefix("int") {
        Some(bits) => {
            format!("{{ method = \"tqt\", bits = {bits}, init = \"mse\", retrain = false }}")
        }
        None => format!("{{ method = \"format\", format = \"{format}\" }}"),
    };
    let part = |name: &str| format!("[{name}]\nweight = {table}\ninput = {table}\n");
    let parts = ["default", "first", "last"].map(part);
    QPlan::from_toml(&parts.concat()).unwrap()
}

/// The rank of each number, of equal ones the mean of their ranks.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let rank = |x: &f64| {
        let below = numbers.iter().filter(|y| *y < x).count() as f64;
        let equal = numbers.iter().filter(|y| *y == x).count() as f64;
        below + (equal - 1.0) / 2.0
    };
    numbers.iter().map(rank).collect()
}

/// Spearman's rank correlation.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum()
    };
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

/// Every layer alone in each of ten formats, against the prediction.
#[test]
#[ignore = "takes minutes, and the folder of a trained ResNet-20 in LOWBIT_RESNET20"]
fn predictions_have_the_order_of_what_is_measured() {
    let images = 128;
    let float = resnet20(QPlan::float(), images);
    let device = Device::flex();
    let analysis = |subject: &Subject| {
        let networks = Networks {
            model: &subject.model,
            float: None,
            set: &subject.set,
            images: &subject.images,
            device: &device,
        };
        networks.analyze()
    };
    let predicted = analysis(&float);
    let formats = predicted.layers.iter().flat_map(|layer| &layer.predicted);
    let formats = formats
        .map(|p| &p.formats)
        .max_by_key(|formats| formats.len())
        .unwrap();
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for (format, _) in formats {
        let measured = analysis(&resnet20(plan_of(format), images));
        for layer in &predicted.layers {
            let losses = layer.predicted.iter().filter_map(|prediction| {
                let known = prediction.formats.iter().find(|(name, _)| name == format);
                known.map(|(_, loss)| *loss)
            });
            let of_layer = measured
                .layers
                .iter()
                .find(|known| known.path == layer.path);
            let Some(measured) = of_layer.and_then(|layer| layer.measured) else {
                continue;
            };
            expected.push(losses.sum::<f64>());
            found.push(measured.added);
        }
    }
    let correlation = rank_correlation(&expected, &found);
    println!("{} pairs, rank correlation {correlation:.3}", found.len());
    assert!(correlation >= 0.9, "{correlation}");
}

/// The defects of a network of which `change` makes something before it is calibrated, and `after` after that,
/// against the calibrated one in float, in so many bits of weights and inputs.
fn defects(
    bits: (u32, u32),
    change: impl Fn(&Network) -> Network,
    after: impl Fn(&Network) -> Network,
) -> Vec<Defect> {
    let mse = ThresholdInit::Mse;
    let plan = TqtPlan::new(bits.0, bits.1).fixed(mse, mse).plan();
    let architecture: Architecture = "cnn".parse().unwrap();
    let device = Device::flex();
    let model = architecture.init([1, 8, 8], 10, &plan, 3, &device).unwrap();
    let split = DataSet::Digits.load(None, &mut |_| {}).unwrap();
    let first: Vec<u32> = (0..64).collect();
    let input = batch(&split.train, &first, None, &device).images;
    let forward = |model: &Network| {
        model.forward(input.clone());
    };
    let (model, _) = calibrate(change(&model), |_| true, forward).unwrap();
    let model = model.valid();
    let (float, _) = lowbit::quantizers::set_quantization(model.clone(), false, |_| true);
    // Statistics are those of all clones; weights are not.
    let found = Networks {
        model: &after(&model),
        float: Some(&float),
        set: &split.test,
        images: &first,
        device: &device,
    };
    found.analyze().defects()
}

fn as_it_is(model: &Network) -> Network {
    model.clone()
}

/// All channels of a weight but its first are made 64 times smaller: with one threshold, their mean range is less than
/// half of the tensor's. As they are drawn, evenly between two ends, it is nearly all of it.
#[test]
fn channels_of_unequal_ranges_ask_for_equalization() {
    let shrunk = |model: &Network| {
        changed(model, "conv2.weight", |shape, values| {
            for (i, value) in values.iter_mut().enumerate() {
                if channel_of(shape, i) > 0 {
                    *value /= 64.0;
                }
            }
        })
    };
    let unequal = |defects: Vec<Defect>| {
        defects.into_iter().find_map(|defect| match defect {
            Defect::UnequalChannels { tensor, share } => Some((tensor, share)),
            _ => None,
        })
    };
    let (tensor, share) = unequal(defects((8, 8), shrunk, as_it_is)).unwrap();
    assert_eq!(tensor, "conv2.weight");
    assert!((0.0..0.5).contains(&share), "{share}");
    assert_eq!(unequal(defects((8, 8), as_it_is, as_it_is)), None);
}

/// With weights of 2 bits and inputs of 8 it is the weights whose rounding costs; the other way round, it is not.
#[test]
fn few_bits_of_weights_ask_for_another_rounding() {
    let rounded = |bits| {
        let found = defects(bits, as_it_is, as_it_is).into_iter();
        let mut bits = found.filter_map(|defect| match defect {
            Defect::RoundedWeights { bits, share, .. } => Some((bits, share)),
            _ => None,
        });
        bits.next()
    };
    let (bits, share) = rounded((2, 8)).unwrap();
    assert_eq!(bits, 2.0);
    assert!(share > 0.5, "{share}");
    assert_eq!(rounded((8, 2)), None);
}

/// What a normalization adds is more by 1 in the quantized network: where its rectifier lets it pass, the error of all
/// numbers is the same.
#[test]
fn a_mean_error_asks_for_corrected_biases() {
    let moved = |model: &Network| {
        changed(model, "bn1.beta", |_, values| {
            values.iter_mut().for_each(|beta| *beta += 1.0);
        })
    };
    let biased = defects((8, 8), as_it_is, moved).into_iter();
    let found = biased.last().unwrap();
    let Defect::BiasedOutputs { tensor, share } = found else {
        panic!("{found:?}");
    };
    assert!(
        tensor.ends_with(".input") && share > 0.5,
        "{tensor} {share}"
    );
}
