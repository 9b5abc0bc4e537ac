//! Networks as integers against the simulation that they are made of.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor};
use lowbit::calibrate::calibrate;
use lowbit::capture::{Captured, prepare};
use lowbit::config::{Fold, Method, QConfig, QPlan, TqtWidths};
use lowbit::integer::{IntegerNetwork, lower};
use lowbit::models::{Architecture, Classifier, Network};
use lowbit::nn;
use lowbit_int::proof::{Exactness, Proof};
use lowbit_int::{Graph, Operator, Rounding, Target, for_target};

use crate::numbers::numbers;

/// A network with thresholds from random images.
fn calibrated(name: &str, plan: &QPlan) -> (Network, Tensor<4>) {
    let device = Device::flex();
    let architecture: Architecture = name.parse().unwrap();
    let ([channels, height, width], classes) = architecture.usual_images();
    let network = architecture
        .init([channels, height, width], classes, plan, 7, &device)
        .unwrap();
    let images = numbers([6, channels, height, width], 0.5, &device) * 0.5;
    let run = |network: &Network| {
        network.forward(images.clone());
    };
    let (network, _) = calibrate(network, |_| true, run).unwrap();
    (network.valid(), images)
}

fn forward(network: &Network, images: Tensor<4>) -> Tensor<2> {
    network.forward(images)
}

/// The same bits in every slot and result.
fn assert_equal(name: &str, plan: &QPlan) {
    let (network, images) = calibrated(name, plan);
    let integers = lower(&network, &images, forward).unwrap_or_else(|e| panic!("{name}: {e}"));
    let comparison = integers
        .compare_tensors(&network, &images, forward)
        .unwrap();
    assert!(comparison.is_equal(), "{name}: {comparison:?}");
    assert!(comparison.tensors.len() > 5, "{comparison:?}");
    let proof = Proof::of(integers.graph());
    for node in proof.nodes() {
        let exactness = &node.exactness;
        assert!(
            !matches!(exactness, Exactness::Not(_)),
            "{}: {exactness}",
            node.node
        );
    }
}

#[test]
fn trained_thresholds_have_the_simulations_bits() {
    let eight = QPlan::tqt_integer(TqtWidths::default());
    let four = QPlan::tqt_integer(TqtWidths {
        weight: 4,
        activation: 4,
        ..TqtWidths::default()
    });
    for plan in [eight, four] {
        assert_equal("lenet", &plan);
        let fold = Fold::Training;
        assert_equal("cnn", &QPlan { fold, ..plan });
    }
}

#[test]
fn residual_networks_have_the_simulations_bits() {
    let eight = QPlan {
        fold: Fold::Training,
        ..QPlan::tqt_integer(TqtWidths::default())
    };
    assert_equal("resnet8-v1", &eight);
    assert_equal("resnet8-v1b", &eight);
}

/// Everything on grids of other methods than powers of two, but for what joins branches; normalizations in
/// float.
fn other_steps(weight: &str, input: &str) -> QPlan {
    QPlan::from_toml(&format!(
        "[default]
        weight = {{ method = \"{weight}\", bits = 4 }}
        input = {{ method = \"{input}\", bits = 4 }}
        [[overrides]]
        position = [\"first\", \"last\"]
        set.weight = {{ method = \"tqt\", bits = 8 }}
        set.input = {{ method = \"tqt\", bits = 8 }}
        [[overrides]]
        type = \"Conv2d\"
        set.output = {{ method = \"tqt\", bits = 8 }}
        [[overrides]]
        type = \"AdaptiveAvgPool2d\"
        set.input = {{ method = \"tqt\", bits = 8 }}
        [[overrides]]
        path = \"fc\"
        set.output = {{ method = \"tqt\", bits = 16 }}"
    ))
    .unwrap()
}

/// Normalizations in float between exact tensors are held against the simulation for every integer, so
/// that DoReFa-Net's and LSQ's steps have its bits.
#[test]
fn normalizations_and_other_steps_have_the_simulations_bits() {
    let methods = [("dorefa-weight", "dorefa-activation"), ("lsq", "lsq")];
    for (method, input) in methods {
        let (network, images) = calibrated("resnet8", &other_steps(method, input));
        let integers =
            lower(&network, &images, forward).unwrap_or_else(|e| panic!("{method}: {e}"));
        let comparison = integers
            .compare_tensors(&network, &images, forward)
            .unwrap();
        assert!(comparison.is_equal(), "{method}: {comparison:?}");
        // Each of the seven convolutions inside reads what a normalization made.
        assert!(integers.verified().len() >= 7, "{:?}", integers.verified());
    }
}

/// A model of `burn::nn` alone.
#[derive(Module, Debug)]
struct Stock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    pool: MaxPool2d,
    fc: Linear,
}

impl Stock {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(self.conv1.forward(x)));
        let y = relu(self.conv2.forward(x.clone()) + x);
        let y: Tensor<2> = self.pool.forward(y).flatten(1, 3);
        self.fc.forward(y)
    }
}

/// Convolution, normalization, a shortcut, a pooling and a linear layer: through the capture.
#[test]
fn a_captured_model_has_the_simulations_bits() {
    let device = Device::flex();
    let conv = |channels| {
        Conv2dConfig::new(channels, [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&device)
    };
    let mut model = Stock {
        conv1: conv([2, 4]),
        bn1: BatchNormConfig::new(4).init(&device),
        conv2: conv([4, 4]),
        pool: MaxPool2dConfig::new([2, 2]).init(),
        fc: LinearConfig::new(64, 3).init(&device),
    };
    // The same ones in each run: with biases of floats a sum may lie at a tie.
    for (conv, channels) in [(&mut model.conv1, [4, 2]), (&mut model.conv2, [4, 4])] {
        let [outputs, inputs] = channels;
        conv.weight = Param::from_tensor(numbers([outputs, inputs, 3, 3], 0.3, &device) * 0.2);
        conv.bias = Some(Param::from_tensor(numbers([outputs], 0.4, &device) * 0.1));
    }
    model.fc.weight = Param::from_tensor(numbers([64, 3], 0.35, &device) * 0.1);
    model.fc.bias = Some(Param::from_tensor(numbers([3], 0.45, &device) * 0.1));
    let plan = QPlan::from_toml(
        "[default]
        weight = { method = \"tqt\", bits = 4 }
        input = { method = \"tqt\", bits = 6 }
        [first]
        weight = { method = \"tqt\", bits = 4 }
        input = { method = \"tqt\", bits = 6 }
        [last]
        weight = { method = \"tqt\", bits = 4 }
        input = { method = \"tqt\", bits = 6 }
        output = { method = \"tqt\", bits = 8 }
        [[overrides]]
        type = \"Add\"
        set.input = { method = \"tqt\", bits = 8 }",
    )
    .unwrap();
    let x = numbers([6, 2, 8, 8], 0.25, &device) * 0.5;
    let run = |model: &Stock, x: Tensor<4>| model.forward(x);
    let captured = prepare(model, &plan, &x, run).unwrap();
    let calibration = x.clone();
    let see = |model: &Captured<Stock, Tensor<4>, Tensor<2>>| drop(model.forward(calibration));
    let (captured, _) = calibrate(captured, |_| true, see).unwrap();
    let captured = captured.valid();
    let run = |model: &Captured<Stock, Tensor<4>, Tensor<2>>, x: Tensor<4>| model.forward(x);
    let integers = lower(&captured, &x, run).unwrap_or_else(|e| panic!("{e}"));
    let comparison = integers.compare_tensors(&captured, &x, run).unwrap();
    assert_eq!(comparison.different, 0, "{comparison:?}");
    assert!(
        comparison.is_equal() && comparison.tensors.len() > 3,
        "{comparison:?}"
    );
    let random = integers.random(50, 0, 3).remove(0);
    let x = Tensor::<4>::from_data(random, &device);
    let comparison = integers.compare_tensors(&captured, &x, run).unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
}

/// The method's bound holds for the integers that come of it: from the weights' own sums, no product needs
/// more than 16 bits, where without it others do.
#[test]
fn accumulator_aware_weights_have_sums_of_16_bits() {
    let widths = |method: &str| {
        let method: Method = method.parse().unwrap();
        let (network, images) = calibrated("lenet", &method.plan(8, 8));
        let integers = lower(&network, &images, forward).unwrap_or_else(|e| panic!("{e}"));
        let comparison = integers.compare_tensors(&network, &images, forward);
        let comparison = comparison.unwrap();
        // The result is a sum in floats, which no quantizer brings to integers.
        let slots = &comparison.tensors;
        assert!(
            slots.len() == 4 && slots.iter().all(|slot| slot.different == 0),
            "{comparison:?}"
        );
        let proof = Proof::of(integers.graph());
        let products = integers.graph().nodes().iter().zip(proof.nodes());
        let products = products.filter(|(node, _)| {
            matches!(
                node.operator(),
                Operator::Convolution(_) | Operator::Linear(_)
            )
        });
        products.map(|(_, proof)| proof.bits).collect::<Vec<_>>()
    };
    let (with, without) = (widths("a2q"), widths("lsq"));
    assert_eq!((with.len(), without.len()), (4, 4));
    assert!(with.iter().all(|&bits| bits <= 16), "{with:?}");
    assert!(without.iter().any(|&bits| bits > 16), "{without:?}");
}

/// Slots with formats.
fn slots(formats: &[(&str, &str)]) -> QConfig {
    let slot = |(name, format): &(&str, &str)| {
        format!("{name} = {{ method = \"format\", format = \"{format}\" }}\n")
    };
    let text: String = formats.iter().map(slot).collect();
    toml::from_str(&text).unwrap()
}

/// A normalization that falls, or is the same for all, before a pooling.
#[derive(Module, Debug)]
struct Falling {
    conv: nn::Conv2d,
    bn: nn::BatchNorm,
    relu: nn::Relu,
    pool: nn::MaxPool2d,
}

impl Falling {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn.forward(self.conv.forward(x));
        self.pool.forward(self.relu.forward(x))
    }
}

/// Beyond the greatest value for small integers and below zero for large ones, with both signs, with none,
/// and with the same sign in all channels.
#[test]
fn normalizations_that_fall_have_the_simulations_bits() {
    let device = Device::flex();
    // The last: a channel next to nothing beside what is added to it.
    for gamma in [
        [-0.1, -0.2, -0.3],
        [0.1, -0.2, 0.0],
        [0.2, 0.3, 0.1],
        [0.2, 1e-30, 0.1],
    ] {
        let conv = slots(&[
            ("input", "ufixed(4,0)"),
            ("weight", "fixed(6,0)"),
            ("output", "ufixed(8,0)"),
        ]);
        let mut model = Falling {
            conv: nn::Conv2dConfig::new([2, 3], [1, 1])
                .with_bias(false)
                .with_quantization(conv)
                .init(&device),
            bn: nn::BatchNormConfig::new(3).init(&device),
            relu: nn::ReluConfig::new().init(&device),
            pool: nn::MaxPool2dConfig::new([2, 2])
                .with_quantization(slots(&[("output", "fixed(8,3)")]))
                .init(&device),
        };
        let weight = [[9.0, 11.0], [17.0, -4.0], [3.0, 8.0]];
        let weight = Tensor::<2>::from_floats(weight, &device).reshape([3, 2, 1, 1]);
        model.conv.weight = Param::from_tensor(weight);
        model.bn.gamma = Param::from_tensor(Tensor::from_floats(gamma, &device));
        model.bn.beta = Param::from_tensor(Tensor::from_floats([20.0, 20.0, 2.0], &device));
        let forward = |model: &Falling, x: Tensor<4>| model.forward(x);
        let example = Tensor::zeros([1, 2, 6, 6], &device);
        let integers = lower(&model, &example, forward).unwrap_or_else(|e| panic!("{e}"));
        let random = integers.random(100, 0, 9).remove(0);
        let x = Tensor::<4>::from_data(random, &device);
        let comparison = integers.compare_tensors(&model, &x, forward).unwrap();
        assert!(comparison.is_equal(), "{gamma:?}: {comparison:?}");
        let numbers: u64 = comparison.tensors.iter().map(|t| t.numbers).sum();
        // Input, the convolution's result, and the pooling's, each once.
        assert_eq!(numbers, 100 * (2 * 36 + 3 * 36 + 3 * 9));
        let verified = integers.verified();
        assert_eq!(verified.len(), usize::from(gamma[1] > 0.0), "{verified:?}");
    }
}

/// A normalization, and a pooling before the next layer.
#[derive(Module, Debug)]
struct Pooled {
    first: nn::Conv2d,
    bn: nn::BatchNorm,
    pool: nn::MaxPool2d,
    last: nn::Conv2d,
}

/// What a pooling hands on is rounded by the layer after it; the sums saturate, at 10 bits some of them.
#[test]
fn a_layer_after_a_pooling_has_the_simulations_bits() {
    let device = Device::flex();
    let conv = |channels, input: &str, sum: Option<u32>| {
        let quantizers = slots(&[("input", input), ("weight", "fixed(6,3)")]);
        // A sum that saturates is exact before a bias of floats is added.
        let mut conv = nn::Conv2dConfig::new(channels, [1, 1])
            .with_bias(sum.is_some())
            .with_quantization(quantizers.with_accumulator(sum))
            .init(&device);
        let [inputs, outputs] = channels;
        conv.weight = Param::from_tensor(numbers([outputs, inputs, 1, 1], 0.3, &device) * 0.5);
        // Finer than a step of the sum, so that it is none of its integers, and exact beside it.
        let bias = (numbers([outputs], 0.4, &device) * 1024.0).round() / 1024.0;
        conv.bias = conv.bias.map(|_| Param::from_tensor(bias));
        conv
    };
    for sum in [None, Some(24), Some(10)] {
        let mut model = Pooled {
            first: conv([2, 3], "fixed(8,4)", sum),
            bn: nn::BatchNormConfig::new(3).init(&device),
            pool: nn::MaxPool2dConfig::new([2, 2]).init(&device),
            last: conv([3, 2], "fixed(8,3)", sum),
        };
        let gamma = Tensor::from_floats([0.3, 0.7, 0.01], &device);
        model.bn.gamma = Param::from_tensor(gamma);
        let forward = |model: &Pooled, x: Tensor<4>| {
            let x = relu(model.bn.forward(model.first.forward(x)));
            model.last.forward(model.pool.forward(x))
        };
        let x = numbers([200, 2, 6, 6], 0.75, &device) * 4.0;
        let integers = lower(&model, &x, forward).unwrap_or_else(|e| panic!("{sum:?}: {e}"));
        let comparison = integers.compare_tensors(&model, &x, forward).unwrap();
        assert!(comparison.is_equal(), "{sum:?}: {comparison:?}");
        assert_eq!(integers.verified().len(), 1, "{sum:?}");
    }
}

/// A factor between two grids of powers of two.
#[derive(Module, Debug)]
struct Scaled {
    first: nn::Linear,
    last: nn::Linear,
}

#[test]
fn factors_between_grids_have_the_simulations_bits() {
    let device = Device::flex();
    let linear = |inputs, outputs, input| {
        let formats = [
            ("input", input),
            ("weight", "fixed(6,4)"),
            ("output", "fixed(8,4)"),
        ];
        nn::LinearConfig::new(inputs, outputs)
            .with_bias(false)
            .with_quantization(slots(&formats))
            .init(&device)
    };
    let model = Scaled {
        first: linear(5, 4, "fixed(8,5)"),
        last: linear(4, 3, "fixed(6,3)"),
    };
    for factor in [0.5, 4.0, -0.25, 0.3] {
        let forward =
            move |model: &Scaled, x: Tensor<2>| model.last.forward(model.first.forward(x) * factor);
        let example = Tensor::zeros([1, 5], &device);
        let integers = lower(&model, &example, forward).unwrap_or_else(|e| panic!("{factor}: {e}"));
        // What falls, and 0.3, whose ties go where its float says, are tables.
        let verified = usize::from(factor == 0.3 || factor < 0.0);
        assert_eq!(integers.verified().len(), verified, "{factor}");
        let random = integers.random(200, 0, 4).remove(0);
        let x = Tensor::<2>::from_data(random, &device);
        let comparison = integers.compare_tensors(&model, &x, forward).unwrap();
        assert!(comparison.is_equal(), "{factor}: {comparison:?}");
    }
}

/// The simulation rounds as the integers' hardware does, to the bit.
#[test]
fn other_roundings_have_the_simulations_bits() {
    let device = Device::flex();
    let rounded = |rounding: &str| {
        let slot = |name: &str, format: &str, rounding: &str| {
            format!(
                "{name} = {{ method = \"format\", format = \"{format}\", rounding = \"{rounding}\" }}\n"
            )
        };
        let text = [
            slot("input", "fixed(8,3)", rounding),
            slot("weight", "fixed(8,4)", "nearest-even"),
            slot("bias", "fixed(12,7)", "nearest-even"),
            slot("output", "fixed(8,4)", rounding),
        ];
        toml::from_str::<QConfig>(&text.concat()).unwrap()
    };
    let linear = |inputs, outputs, rounding: &str| {
        let config = nn::LinearConfig::new(inputs, outputs);
        config.with_quantization(rounded(rounding)).init(&device)
    };
    let model = |rounding: &str| Scaled {
        first: linear(5, 4, rounding),
        last: linear(4, 3, rounding),
    };
    // Halves between the layers, so that each third number or so is a tie.
    let forward =
        |model: &Scaled, x: Tensor<2>| model.last.forward(relu(model.first.forward(x)) * 0.5);
    let x = numbers([300, 5], 0.75, &device) * 2.0;
    let of = |rounding: &str| {
        let model = model(rounding);
        let integers = lower(&model, &x, forward);
        integers.map(|integers| (integers.compare_tensors(&model, &x, forward), integers))
    };
    for (rounding, expected) in [
        ("nearest-even", Rounding::HalfEven),
        ("nearest-away", Rounding::HalfAway),
        ("nearest-up", Rounding::HalfUp),
        ("down", Rounding::Floor),
    ] {
        let (comparison, integers) = of(rounding).unwrap_or_else(|e| panic!("{rounding}: {e}"));
        let comparison = comparison.unwrap();
        assert!(comparison.is_equal(), "{rounding}: {comparison:?}");
        let nodes = integers.graph().nodes().iter().map(|node| node.operator());
        let roundings = nodes.filter_map(|operator| match operator {
            Operator::Requantize(requantize) => Some(requantize.rounding),
            _ => None,
        });
        let roundings: Vec<Rounding> = roundings.collect();
        assert!(roundings.len() >= 2, "{rounding}");
        assert!(roundings.iter().all(|&r| r == expected), "{rounding}");
        // Of chips that round once, the one that rounds so computes the same integers.
        let first = |model: &Scaled, x: Tensor<2>| model.first.forward(x);
        let layer = lower(&model(rounding), &x, first).unwrap();
        for (target, of_target) in [
            (Target::Esp32P4, Rounding::HalfEven),
            (Target::Esp32S3, Rounding::HalfUp),
            (Target::CmsisNnSingle, Rounding::HalfUp),
        ] {
            let (_, changed) = for_target(layer.graph(), target).unwrap();
            assert_eq!(
                changed.is_empty(),
                expected == of_target,
                "{rounding} {target}"
            );
        }
        // A file says how its inputs are rounded; every other sixteenth is a tie of steps of 2^-3.
        let file = Graph::from_json(&integers.graph().to_json()).unwrap();
        let read = IntegerNetwork::from_graph(file).unwrap();
        let sixteenths = Tensor::<1, Int>::arange(-100..100, &device).float() / 16.0;
        let x = sixteenths.reshape([40, 5]);
        let read = read.integers(x.clone()).unwrap();
        assert_eq!(read, integers.integers(x).unwrap(), "{rounding}");
    }
    let told = of("toward-zero").map(|_| ()).unwrap_err().to_string();
    let expected =
        "is rounded toward-zero, expected nearest-even, nearest-away, nearest-up or down";
    assert!(told.ends_with(expected), "{told}");
}

/// Two linear layers and functions between them.
#[derive(Module, Debug)]
struct Functions {
    first: nn::Linear,
    gelu: nn::Gelu,
    leaky: nn::LeakyRelu,
    last: nn::Linear,
}

/// Each is asked for every integer of eight bits, so that the table has the simulation's bits.
#[test]
fn functions_become_tables() {
    let device = Device::flex();
    let linear = |inputs, outputs, input: &str| {
        let slots = slots(&[
            ("input", input),
            ("weight", "fixed(6,4)"),
            ("bias", "fixed(12,8)"),
            ("output", "fixed(8,4)"),
        ]);
        nn::LinearConfig::new(inputs, outputs)
            .with_quantization(slots)
            .init(&device)
    };
    let model = Functions {
        first: linear(5, 4, "fixed(8,5)"),
        gelu: nn::GeluConfig::new()
            .with_quantization(slots(&[("output", "fixed(8,5)")]))
            .init(&device),
        leaky: nn::LeakyReluConfig::new().init(&device),
        last: linear(4, 3, "fixed(8,6)"),
    };
    let forward = |model: &Functions, x: Tensor<2>| {
        let x = model.gelu.forward(model.first.forward(x));
        model.last.forward(model.leaky.forward(x))
    };
    let x = numbers([40, 5], 0.75, &device) * 2.0;
    let integers = lower(&model, &x, forward).unwrap_or_else(|e| panic!("{e}"));
    let comparison = integers.compare_tensors(&model, &x, forward).unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    assert_eq!(integers.verified(), ["gelu.output", "last.input"]);
    let random = integers.random(200, 0, 5).remove(0);
    let x = Tensor::<2>::from_data(random, &device);
    let comparison = integers.compare_tensors(&model, &x, forward).unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
}

/// A softmax looks at more than one number.
#[test]
fn what_is_no_function_of_one_number_is_refused() {
    let device = Device::flex();
    let (network, _) = calibrated("lenet", &QPlan::tqt_integer(TqtWidths::default()));
    let images = Tensor::zeros([2, 1, 28, 28], &device);
    let refused = lower(&network, &images, |network: &Network, images| {
        softmax(network.forward(images), 1)
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        "fc2.output: operation Softmax has no integers here"
    );
}

#[test]
fn what_is_on_no_grid_is_named() {
    let refused = |text: &str| {
        let (network, images) = calibrated("lenet", &QPlan::from_toml(text).unwrap());
        let refused = lower(&network, &images, forward);
        refused.unwrap_err().to_string()
    };
    let eight = "{ method = \"tqt\", bits = 8 }";
    let (weight, input) = (format!("weight = {eight}\n"), format!("input = {eight}\n"));
    for (text, expected) in [
        (String::new(), "conv1.input: is not quantized"),
        (
            format!("[first]\n{input}"),
            "conv1.weight: is on no grid of integers; give it a quantizer",
        ),
        (
            format!("[first]\n{weight}"),
            "conv1.input: is not quantized",
        ),
        (
            format!("[first]\n{weight}input = {{ method = \"format\", format = \"e4m3\" }}"),
            "conv1.input: is quantized to numbers that are on no grid",
        ),
        (
            format!(
                "[first]\n{weight}input = {{ method = \"format\", format = \"unit(4)\", \
                 rounding = \"toward-zero\" }}"
            ),
            "conv1.input: is rounded toward-zero, expected nearest-even, nearest-away, nearest-up or down",
        ),
        (
            format!("[first]\n{weight}{input}[default]\n{weight}{input}"),
            "fc2.input: is not quantized",
        ),
    ] {
        assert_eq!(refused(&text), expected, "{text}");
    }
    // The range of each batch.
    for input in [
        "{ method = \"range-linear\", bits = 8, range = \"dynamic\" }",
        "{ method = \"shift\", format = \"fixed(8,7)\" }",
    ] {
        let told = refused(&format!("[first]\n{weight}input = {input}"));
        let expected =
            "conv1.input: needs the numbers of each batch, as a range that is taken from it does";
        assert_eq!(told, expected);
    }
}
