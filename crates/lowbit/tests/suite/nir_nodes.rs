//! Nodes of NIR that the other simulators' files do not have, against an independent program
//! (`reference/nir_nodes.py`), and a file of ours that Python's `nir` opens (`reference/nir_opened.py`).

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::config::QConfig;
use lowbit::nir::{self, Array, Convention, Graph, Network, Node};
use lowbit::nn::{
    AvgPool2dConfig, Conv2dConfig, CubaLifConfig, DecayConfig, ExpLeakConfig,
    FiringThresholdConfig, IafConfig, LifConfig, LinearConfig, SumPool2dConfig,
};
use lowbit::ops::{Firing, Reset};
use lowbit::quantizers::{FormatQuantizerConfig, Number, QuantizerConfig};
use serde::Deserialize;

/// What a graph made of some input.
#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    dt: f64,
    /// `[step][feature]`
    x: Vec<Vec<f32>>,
    y: Vec<Vec<f32>>,
}

fn references(lines: &str) -> Vec<Reference> {
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/nir");
    folder.join(format!("{name}.nir"))
}

/// `[1, time, features]`
fn sequence(rows: &[Vec<f32>]) -> Tensor<3> {
    let shape = [1, rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::flex())
}

fn rows(y: Tensor<3>) -> Vec<Vec<f32>> {
    let [_, _, features] = y.dims();
    let numbers: Vec<f32> = y.into_data().iter::<f32>().collect();
    numbers
        .chunks_exact(features)
        .map(<[f32]>::to_vec)
        .collect()
}

/// Whether numbers are the same to `f32`'s rounding in a recursion.
fn assert_close(made: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(made.len(), expected.len(), "{what}");
    for (step, (made, expected)) in made.iter().zip(expected).enumerate() {
        assert_eq!(made.len(), expected.len(), "{what}");
        for (a, b) in made.iter().zip(expected) {
            let near = (a - b).abs() <= 2e-6 * b.abs().max(1.0);
            assert!(near, "{what}, step {step}: {a}, expected {b}");
        }
    }
}

#[test]
fn nodes_are_what_their_equations_say() {
    for reference in references(include_str!("../reference/nir_nodes.jsonl")) {
        let graph = nir::read(&file(&reference.name)).unwrap();
        let convention = Convention::nir(reference.dt);
        let network = Network::new(&graph, &convention, &Device::flex()).unwrap();
        let made = rows(network.forward(sequence(&reference.x)));
        assert_close(&made, &reference.y, &reference.name);
    }
}

/// Layers that pad, and a delay, are written as the nodes that they are read from.
#[test]
fn padded_pools_and_delays_are_written() {
    let pair = |values: [i64; 2]| Array::integers(values.to_vec());
    let written = |node: &Node, name: &str| {
        let read = nir::read(&file(name)).unwrap();
        let expected = &read.nodes["node"];
        assert_eq!(node.kind, expected.kind);
        for (field, array) in &node.fields {
            assert_eq!(array.numbers(), expected.fields[field].numbers(), "{field}");
        }
    };
    let sums = SumPool2dConfig::new([2, 4])
        .with_strides([2, 1])
        .with_padding([1, 2]);
    let sums = sums.init(&Device::flex());
    written(&Node::try_from(&sums).unwrap(), "sum-pool-padded");
    let means = AvgPool2dConfig::new([2, 4])
        .with_strides([2, 1])
        .with_padding(PaddingConfig2d::Explicit(1, 2, 1, 2));
    let layer = means.init(&Device::flex());
    written(&Node::try_from(&layer).unwrap(), "avg-pool-padded");
    written(&Node::delay(&[2, 0, 4, 2, 8], DT), "delay");
    let refused = |config: AvgPool2dConfig| {
        let layer = config.init(&Device::flex());
        Node::try_from(&layer).unwrap_err().to_string()
    };
    assert_eq!(
        refused(means.clone().with_count_include_pad(false)),
        "AvgPool2d: has a mean without its padding, which no field says"
    );
    assert_eq!(
        refused(means.clone().with_ceil_mode(true)),
        "AvgPool2d: counts windows that do not fit, which no field says"
    );
    assert_eq!(
        refused(means.with_padding(PaddingConfig2d::Explicit(1, 1, 0, 1))),
        "AvgPool2d: pads before otherwise than after, which no field says"
    );
    let read = |node: Node| {
        let graph = Graph::chain(&[1, 5, 6], [("here".to_string(), node)], &[1, 5, 6]);
        let network = Network::new(&graph, &Convention::nir(DT), &Device::flex());
        network.unwrap_err().to_string()
    };
    assert_eq!(
        read(Node::new("Delay").with("delay", Array::vector(vec![0.3]))),
        "here: delay is 0.3, expected whole steps of 0.125"
    );
    let wide = Node::new("SumPool2d")
        .with("kernel_size", pair([2, 2]))
        .with("stride", pair([2, 2]))
        .with("padding", pair([2, 0]));
    assert_eq!(
        read(wide),
        "here: SumPool2d.padding: is 2, expected less than the window's reach, 2"
    );
}

/// With exponential decays, a membrane that reads nothing ends at `v_leak`: from 0, it is
/// `v_leak (1 - exp(-t dt / tau))` after `t` steps.
#[test]
fn an_exponential_leak_ends_at_v_leak() {
    let vector = |x: f64| Array::vector(vec![x]);
    let node = Node::new("LI")
        .with("tau", vector(4.0))
        .with("r", vector(1.0))
        .with("v_leak", vector(-0.5));
    let graph = Graph::chain(&[1], [("here".to_string(), node)], &[1]);
    let network = Network::new(&graph, &Convention::sinabs(), &Device::flex()).unwrap();
    let made = rows(network.forward(sequence(&vec![vec![0.0]; 12])));
    let solution = (1..=12).map(|t| vec![-0.5 * (1.0 - (-f64::from(t) / 4.0).exp()) as f32]);
    assert_close(&made, &solution.collect::<Vec<_>>(), "LI");
}

fn format(text: &str) -> QuantizerConfig {
    let number: Number = text.parse().unwrap();
    QuantizerConfig::Format(FormatQuantizerConfig {
        rounding: number.rounding,
        ..FormatQuantizerConfig::new(number.format)
    })
}

/// Sixteenths from -0.5 to 0.5.
fn sixteenths<const D: usize>(shape: [usize; D]) -> Param<Tensor<D>> {
    let count = shape.iter().product::<usize>();
    let numbers = (0..count).map(|i| ((i * 7 + i / 5) % 17) as f32 / 16.0 - 0.5);
    let data = TensorData::new(numbers.collect::<Vec<_>>(), shape);
    Param::from_tensor(Tensor::from_data(data, &Device::flex()))
}

const DT: f64 = 0.125;

fn resets_to_zero() -> Firing {
    Firing {
        reset: Reset::To(0.0),
        ..Firing::default()
    }
}

/// Every layer of ours that is a node, with formats of inputs, outputs and states.
fn ours() -> Graph {
    let device = Device::flex();
    let slots = QConfig::new()
        .with("input", format("fixed(4,2)"))
        .with("weight", format("fixed(4,3)"));
    let conv = Conv2dConfig::new([2, 3], [3, 3])
        .with_padding(burn::nn::PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_quantization(slots);
    let mut conv = conv.init(&device);
    (conv.weight, conv.bias) = (sixteenths([3, 2, 3, 3]), Some(sixteenths([3])));
    let iaf = IafConfig::new()
        .with_firing(resets_to_zero())
        .with_quantization(QConfig::new().with("state", format("fixed(8,4)")))
        .init(&device);
    let pool = SumPool2dConfig::new([2, 2]).init(&device);
    let mut affine = LinearConfig::new(18, 4).init(&device);
    (affine.weight, affine.bias) = (sixteenths([18, 4]), Some(sixteenths([4])));
    let slots = QConfig::new()
        .with("input", format("fixed(4,1)"))
        .with("state", format("fixed(12,8):toward-zero"));
    let lif = LifConfig::new(DecayConfig::alpha(0.75))
        .with_threshold(FiringThresholdConfig::new(0.25))
        .with_firing(resets_to_zero())
        .with_quantization(slots)
        .init(&device);
    let mut linear = LinearConfig::new(4, 3).with_bias(false).init(&device);
    linear.weight = sixteenths([4, 3]);
    let cuba = CubaLifConfig::new(DecayConfig::alpha(0.5), DecayConfig::alpha(0.875))
        .with_threshold(FiringThresholdConfig::new(0.3))
        .with_firing(resets_to_zero())
        .init(&device);
    let synapse = Some(DecayConfig::alpha(0.25));
    let leak = ExpLeakConfig::new(DecayConfig::alpha(0.75))
        .with_syn(synapse)
        .with_quantization(QConfig::new().with("output", format("fixed(8,5)")))
        .init(&device);
    let nodes = [
        ("conv", Node::conv2d(&conv, [4, 6]).unwrap()),
        ("iaf", {
            let node = Node::iaf(&iaf, 72, DT).unwrap();
            node.with_neurons(&[3, 4, 6])
        }),
        ("pool", Node::try_from(&pool).unwrap()),
        ("flatten", Node::flatten(&[3, 2, 3])),
        ("affine", Node::try_from(&affine).unwrap()),
        ("lif", Node::lif(&lif, 4, DT).unwrap()),
        ("linear", Node::try_from(&linear).unwrap()),
        ("cuba", Node::cuba_lif(&cuba, 3, DT).unwrap()),
        ("leak", Node::exp_leak(&leak, 3, DT).unwrap()),
    ];
    let nodes = nodes.map(|(name, node)| (name.to_string(), node));
    Graph::chain(&[2, 4, 6], nodes, &[3])
}

/// The file that `nir_opened.py` opens is the one that is written now.
#[test]
fn our_file_is_the_one_that_others_open() {
    assert_eq!(nir::read(&file("lowbit")).unwrap(), ours());
}

/// Makes that file.
#[test]
#[ignore = "writes tests/reference/nir/lowbit.nir"]
fn our_file_is_written() {
    nir::write(&file("lowbit"), &ours()).unwrap();
}

/// Python's `nir` reads our file, and its numbers and our metadata give the same spikes and potentials.
#[test]
fn our_file_says_what_it_computes() {
    let references = references(include_str!("../reference/nir_opened.jsonl"));
    let graph = nir::read(&file("lowbit")).unwrap();
    let convention = Convention::nir(DT);
    let network = Network::new(&graph, &convention, &Device::flex()).unwrap();
    let x = sequence(&references[0].x);
    let made = network.trace(x);
    for reference in &references {
        let fired = reference.y.iter().flatten().any(|&y| y != 0.0);
        assert!(fired, "{}", reference.name);
        let made = rows(made[&reference.name].clone());
        assert_close(&made, &reference.y, &reference.name);
    }
}

#[test]
fn metadata_that_no_layer_has_is_named() {
    let refused = |node: Node| {
        let graph = Graph::chain(&[2], [("here".to_string(), node)], &[2]);
        let network = Network::new(&graph, &Convention::nir(DT), &Device::flex());
        network.unwrap_err().to_string()
    };
    let eye = || Array::float(vec![2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    let linear = || Node::new("Linear").with("weight", eye());
    assert_eq!(
        refused(linear().with_metadata("lowbit.weight", "int8")),
        "here: has lowbit.weight, expected one of [\"input\", \"output\", \"state\"]"
    );
    assert_eq!(
        refused(linear().with_metadata("lowbit.state", "int8")),
        "here: Linear: a Linear has no state to quantize"
    );
    let wrong = refused(linear().with_metadata("lowbit.input", "int"));
    assert!(wrong.starts_with("here: lowbit.input: "), "{wrong}");
    assert_eq!(
        refused(Node::flatten(&[2]).with_metadata("lowbit.output", "int8")),
        "here: has lowbit.output, and a Flatten quantizes nothing"
    );
    // Of others, everything may be there.
    let node = linear().with_metadata("sinabs", "anything");
    let graph = Graph::chain(&[2], [("here".to_string(), node)], &[2]);
    assert!(Network::new(&graph, &Convention::nir(DT), &Device::flex()).is_ok());
}
