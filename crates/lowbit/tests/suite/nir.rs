//! NIR files that snnTorch and sinabs wrote (`reference/nir_files.py` makes them and says the versions)
//! give the same spikes; what is written reads back.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::config::QConfig;
use lowbit::nir::{self, Array, Convention, Graph, Network, Node};
use lowbit::nn::{
    Conv2dConfig, CubaLifConfig, DecayConfig, ExpLeakConfig, FiringThresholdConfig, IafConfig,
    LifConfig, LinearConfig,
};
use lowbit::ops::{Leak, Overflow, Reset};
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig, TrainedThresholdConfig};
use serde::Deserialize;

/// What a network made of some input.
#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    shape: Vec<usize>,
    /// `[step][feature]`
    x: Vec<Vec<i32>>,
    y: Vec<Vec<i32>>,
}

fn references() -> Vec<Reference> {
    let lines = include_str!("../reference/nir.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/nir");
    folder.join(format!("{name}.nir"))
}

fn convention(name: &str) -> Convention {
    match name {
        "sinabs" => Convention::sinabs(),
        _ => Convention::snntorch(),
    }
}

/// `[1, time, features]`
fn sequence(rows: &[Vec<i32>]) -> Tensor<3> {
    let numbers: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
    let shape = [1, rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(numbers, shape), &Device::flex())
}

fn rows(y: Tensor<3>) -> Vec<Vec<i32>> {
    let [_, _, features] = y.dims();
    let numbers: Vec<i32> = y.into_data().iter::<f32>().map(|x| x as i32).collect();
    numbers
        .chunks_exact(features)
        .map(<[i32]>::to_vec)
        .collect()
}

#[test]
fn files_of_other_simulators_give_the_same_spikes() {
    for reference in references() {
        let graph = nir::read(&file(&reference.name)).unwrap();
        let network = Network::new(&graph, &convention(&reference.name), &Device::flex());
        let made = network.unwrap().forward(sequence(&reference.x));
        assert_eq!(rows(made), reference.y, "{}", reference.name);
        let input = graph.nodes["input"].fields["shape"].numbers();
        let features: usize = reference.shape.iter().product();
        assert_eq!(input.iter().product::<f64>() as usize, features);
    }
}

#[test]
fn a_file_that_is_written_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    for reference in references() {
        let graph = nir::read(&file(&reference.name)).unwrap();
        let path = folder.path().join("copy.nir");
        nir::write(&path, &graph).unwrap();
        let copy = nir::read(&path).unwrap();
        assert_eq!(copy, graph, "{}", reference.name);
        let network = Network::new(&copy, &convention(&reference.name), &Device::flex());
        assert_eq!(
            rows(network.unwrap().forward(sequence(&reference.x))),
            reference.y
        );
    }
}

/// A network of our layers as a graph, and the graph as a network.
#[test]
fn our_layers_are_nodes() {
    let device = Device::flex();
    // Eighths from -0.5 to 0.75.
    let weight = |shape: [usize; 2]| {
        let numbers = (0..shape[0] * shape[1]).map(|i| ((i * 7) % 11) as f32 / 8.0 - 0.5);
        let data = TensorData::new(numbers.collect::<Vec<_>>(), shape);
        Param::from_tensor(Tensor::<2>::from_data(data, &device))
    };
    let mut linear = LinearConfig::new(3, 4).init(&device);
    linear.weight = weight([3, 4]);
    linear.bias = Some(Param::from_tensor(Tensor::from_floats(
        [0.1, 0.2, -0.1, 0.0],
        &device,
    )));
    let state = "state = { method = \"format\", format = \"fixed(16,12)\" }";
    let lif = LifConfig::new(DecayConfig::alpha(0.75))
        .with_norm_input(false)
        .with_threshold(FiringThresholdConfig::new(0.25))
        .with_quantization(toml::from_str(state).unwrap())
        .init(&device);
    let mut second = LinearConfig::new(4, 2).with_bias(false).init(&device);
    second.weight = weight([4, 2]);
    let cuba = CubaLifConfig::new(DecayConfig::alpha(0.5), DecayConfig::alpha(0.875));
    let cuba = cuba
        .with_threshold(FiringThresholdConfig::new(0.0625))
        .init(&device);
    let dt = 1e-3;
    let nodes = [
        ("linear", Node::try_from(&linear).unwrap()),
        ("lif", Node::lif(&lif, 4, dt).unwrap()),
        ("second", Node::try_from(&second).unwrap()),
        ("cuba", Node::cuba_lif(&cuba, 2, dt).unwrap()),
    ];
    let nodes = nodes.map(|(name, node)| (name.to_string(), node));
    let graph = Graph::chain(&[3], nodes, &[2]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.nir");
    nir::write(&path, &graph).unwrap();
    let read = nir::read(&path).unwrap();
    assert_eq!(read, graph);
    assert_eq!(
        read.nodes["lif"].metadata["lowbit.state"],
        Array::text("fixed(16,12)")
    );
    let mut convention = Convention::nir(dt);
    convention.firing.reset = Reset::Subtract;
    convention.resets_to_v_reset = false;
    let network = Network::new(&read, &convention, &device).unwrap();
    let numbers: Vec<f32> = (0..90)
        .map(|i| ((i * 37) % 11) as f32 / 4.0 - 0.5)
        .collect();
    let x = Tensor::<3>::from_data(TensorData::new(numbers, [2, 15, 3]), &device);
    let hidden = lif.forward(linear.forward(x.clone()));
    let expected = cuba.forward(second.forward(hidden.clone()));
    let made = network.trace(x.clone());
    assert_eq!(rows(made["lif"].clone()), rows(hidden));
    assert_eq!(rows(network.forward(x)), rows(expected.clone()));
    assert!(rows(expected).concat().iter().sum::<i32>() > 0);
}

/// What a graph makes of these rows of one sample.
fn made(graph: &Graph, convention: &Convention, x: &[&[f32]]) -> Vec<Vec<i32>> {
    let network = Network::new(graph, convention, &Device::flex()).unwrap();
    let shape = [1, x.len(), x[0].len()];
    let x = TensorData::new(x.concat(), shape);
    rows(network.forward(Tensor::<3>::from_data(x, &Device::flex())))
}

/// A `LIF` of two neurons with `tau` 4 and `r` 1 and 2, and weights by which they read themselves.
fn recurrent(weights: Node) -> Graph {
    let vector = |values: [f64; 2]| Array::vector(values.to_vec());
    let lif = Node::new("LIF")
        .with("tau", vector([4.0; 2]))
        .with("r", vector([1.0, 2.0]))
        .with("v_leak", vector([0.0; 2]))
        .with("v_threshold", vector([1.0; 2]))
        .with("v_reset", vector([0.0; 2]));
    let mut graph = Graph::chain(&[2], [("lif".to_string(), lif)], &[2]);
    graph.nodes.insert("back".into(), weights);
    for (from, to) in [("lif", "back"), ("back", "lif")] {
        graph.edges.push((from.into(), to.into()));
    }
    graph
}

/// With `dt` 1, `v` becomes `3/4 v + r/4 (x + w z)`: spikes that come back are currents as any other.
#[test]
fn recurrent_weights_are_scaled_as_the_input_is() {
    // From the second to the first 1, from the first to the second 1.5.
    let weight = Array::float(vec![2, 2], vec![0.0, 1.0, 1.5, 0.0]);
    let graph = recurrent(Node::new("Linear").with("weight", weight));
    let x: [&[f32]; 6] = [
        &[4.0, 0.0], // 1, 0: the first fires
        &[0.0, 0.0], // 0, 1.5 / 2 = 0.75
        &[0.0, 1.0], // 0, 0.5625 + 0.5: the second fires
        &[3.0, 0.0], // (3 + 1) / 4 = 1, 0: the first fires
        &[0.0, 0.5], // 0, (1.5 + 0.5) / 2 = 1: the second fires
        &[2.0, 0.0], // (2 + 1) / 4 = 0.75, 0
    ];
    let expected = [[1, 0], [0, 0], [0, 1], [1, 0], [0, 1], [0, 0]];
    assert_eq!(made(&graph, &Convention::nir(1.0), &x), expected);
}

/// A bias of recurrent weights is there in every step, and scaled, too.
#[test]
fn a_recurrent_bias_is_a_current() {
    let weights = Node::new("Affine")
        .with("weight", Array::float(vec![2, 2], vec![0.0; 4]))
        .with("bias", Array::vector(vec![1.0, 0.0]));
    let x: [&[f32]; 3] = [
        &[0.0, 1.0],  // 0.25, 0.5
        &[2.25, 1.0], // 0.1875 + 3.25 / 4 = 1: the first fires; 0.375 + 0.5
        &[2.75, 0.0], // 3.75 / 4
    ];
    let expected = [[0, 0], [1, 0], [0, 0]];
    let graph = recurrent(weights);
    assert_eq!(made(&graph, &Convention::nir(1.0), &x), expected);
}

/// A `Threshold` compares its input and keeps nothing, whatever neurons do.
#[test]
fn a_threshold_has_no_state() {
    let node = Node::new("Threshold").with("threshold", Array::vector(vec![1.0]));
    let graph = Graph::chain(&[1], [("here".to_string(), node)], &[1]);
    let x: [&[f32]; 7] = [&[0.5], &[1.5], &[1.5], &[1.0], &[3.0], &[-4.0], &[1.5]];
    let at = vec![
        vec![0],
        vec![1],
        vec![1],
        vec![1],
        vec![1],
        vec![0],
        vec![1],
    ];
    for convention in [Convention::nir(1e-3), Convention::sinabs()] {
        assert_eq!(made(&graph, &convention, &x), at, "{convention:?}");
    }
    // snnTorch's fires above the threshold only.
    let mut above = at;
    above[3] = vec![0];
    assert_eq!(made(&graph, &Convention::snntorch(), &x), above);
}

/// Euler's step of `dv/dt = r I` is `dt r I`: with 1/4 and 2, half of the input. sinabs takes `r I`.
#[test]
fn an_integrator_takes_the_time_step() {
    let node = Node::new("IF")
        .with("r", Array::vector(vec![2.0]))
        .with("v_threshold", Array::vector(vec![1.0]))
        .with("v_reset", Array::vector(vec![0.0]));
    let graph = Graph::chain(&[1], [("here".to_string(), node)], &[1]);
    let x: [&[f32]; 5] = [&[1.0], &[1.0], &[0.5], &[1.0], &[0.5]];
    // 0.5, 1, 0.25, 0.75, 1.
    let expected = [[0], [1], [0], [0], [1]];
    assert_eq!(made(&graph, &Convention::nir(0.25), &x), expected);
    let expected = [[2], [2], [1], [2], [1]];
    assert_eq!(made(&graph, &Convention::sinabs(), &x), expected);
}

/// An integrator's node is read as the layer, by NIR's own step and by sinabs' of 1; its numbers are those
/// of its slots, and the format of its state is among its metadata.
#[test]
fn quantized_layers_are_nodes() {
    let format = |text: &str| {
        let format = text.parse().unwrap();
        QuantizerConfig::Format(FormatQuantizerConfig::new(format))
    };
    let device = Device::flex();
    let slots = QConfig::new()
        .with("threshold", format("fixed(8,2)"))
        .with("state", format("fixed(16,12)"));
    let at = FiringThresholdConfig::new(0.7);
    let config = IafConfig::new().with_threshold(at).with_quantization(slots);
    let node = Node::iaf(&config.init(&device), 1, 0.25).unwrap();
    // In quarters, 0.7 is 0.75; 1 / 0.25 is 4.
    assert_eq!(node.fields["v_threshold"].numbers(), [0.75]);
    assert_eq!(node.fields["r"].numbers(), [4.0]);
    assert_eq!(node.metadata["lowbit.state"], Array::text("fixed(16,12)"));
    let graph = Graph::chain(&[1], [("here".to_string(), node)], &[1]);
    let x: [&[f32]; 4] = [&[0.5], &[0.25], &[0.5], &[0.125]];
    let expected = [[0], [1], [0], [0]];
    assert_eq!(made(&graph, &Convention::nir(0.25), &x), expected);

    let slots = QConfig::new()
        .with("weight", format("fixed(8,1)"))
        .with("bias", format("fixed(8,2)"));
    let config = LinearConfig::new(1, 2).with_quantization(slots);
    let mut linear = config.init(&device);
    linear.weight = Param::from_tensor(Tensor::from_floats([[0.7, -1.3]], &device));
    linear.bias = Some(Param::from_tensor(Tensor::from_floats([0.3, 0.1], &device)));
    let node = Node::try_from(&linear).unwrap();
    // Halves and quarters.
    assert_eq!(
        node.fields["weight"],
        Array::float(vec![2, 1], vec![0.5, -1.5])
    );
    assert_eq!(node.fields["bias"].numbers(), [0.25, 0.0]);

    let slots = QConfig::new().with("tau", format("fixed(8,0)"));
    let decay = DecayConfig::tau(4.4).with_euler(true);
    let leak = ExpLeakConfig::new(decay).with_quantization(slots);
    let node = Node::exp_leak(&leak.init(&device), 2, 1.0).unwrap();
    assert_eq!(node.fields["tau"].numbers(), [4.0; 2]);
}

#[test]
fn what_no_node_has_is_named() {
    let device = Device::flex();
    let half = || DecayConfig::alpha(0.5);
    let lif = |config: LifConfig| {
        let node = Node::lif(&config.init(&device), 3, 1.0);
        node.unwrap_err().to_string()
    };
    assert_eq!(
        lif(LifConfig::new(half()).with_syn(Some(half()))),
        "Lif: has a synapse, which of all nodes a CubaLIF has"
    );
    assert_eq!(
        lif(LifConfig::new(half()).with_recurrent(Some(3))),
        "Lif: reads its own spikes, which a node alone does not"
    );
    assert_eq!(
        lif(LifConfig::new(half()).with_min_v(Some(-1.0))),
        "Lif: has min_v -1, which no field says"
    );
    let state = toml::from_str("state = { method = \"format\", format = \"fixed(16,8)\" }");
    let on_grid = LifConfig::new(half()).with_quantization(state.unwrap());
    assert_eq!(
        lif(on_grid.clone().with_leak(Leak::ShiftToZero)),
        "Lif: has a leak or overflow of its own, which no field says"
    );
    assert_eq!(
        lif(on_grid.with_overflow(Overflow::Wrap)),
        "Lif: has a leak or overflow of its own, which no field says"
    );
    assert_eq!(
        lif(LifConfig::new(half().with_neurons(Some(2)))),
        "Lif: mem has 2 numbers for 3 neurons"
    );
    assert_eq!(
        lif(LifConfig::new(DecayConfig::alpha(1.0))),
        "Lif: the decay of mem is 1, which no time constant gives"
    );
    let tqt = QuantizerConfig::Tqt(TrainedThresholdConfig::new(8));
    let learned = LifConfig::new(half()).with_quantization(QConfig::new().with("state", tqt));
    assert_eq!(
        lif(learned),
        "Lif: state has more than a format, which neither fields nor metadata say"
    );
    let conv = Conv2dConfig::new([1, 1], [2, 2])
        .with_padding(burn::nn::PaddingConfig2d::Explicit(0, 0, 1, 1))
        .init(&device);
    assert_eq!(
        Node::conv2d(&conv, [4, 4]).unwrap_err().to_string(),
        "Conv2d: pads 0 before and 1 after, which no field says"
    );
}

/// The output is the node of that type, whatever else is no layer and comes later.
#[test]
fn the_output_is_the_output() {
    let twice = Node::new("Scale").with("scale", Array::vector(vec![2.0]));
    let mut graph = Graph::chain(&[1], [], &[1]);
    graph.nodes.insert("twice".into(), twice);
    graph.edges.push(("input".into(), "twice".into()));
    assert_eq!(made(&graph, &Convention::nir(1.0), &[&[3.0]]), [[3]]);
}

#[test]
fn what_no_layer_has_is_named() {
    let refused = |node: Node| {
        let graph = Graph::chain(&[2], [("here".to_string(), node)], &[2]);
        let convention = Convention::nir(1e-3);
        let network = Network::new(&graph, &convention, &Device::flex());
        network.unwrap_err().to_string()
    };
    assert_eq!(
        refused(Node::new("Gru")),
        "here: is a Gru, which no layer is"
    );
    assert_eq!(refused(Node::new("Affine")), "here: has no weight");
    // Both the spikes that come back and `v_leak` would be currents, on two sides of the synapse.
    let vector = |x: f64| Array::vector(vec![x; 2]);
    let cuba = Node::new("CubaLIF")
        .with("tau_mem", vector(1.0))
        .with("tau_syn", vector(1.0))
        .with("r", vector(1.0))
        .with("v_leak", vector(0.5))
        .with("v_threshold", vector(1.0));
    let weights = Node::new("Linear").with("weight", floats(&[2, 2]));
    let mut graph = Graph::chain(&[2], [("here".to_string(), cuba)], &[2]);
    graph.nodes.insert("back".into(), weights);
    for (from, to) in [("here", "back"), ("back", "here")] {
        graph.edges.push((from.into(), to.into()));
    }
    let network = Network::new(&graph, &Convention::nir(1e-3), &Device::flex());
    assert_eq!(
        network.unwrap_err().to_string(),
        "here: reads itself and has a v_leak, which no layer with a synapse does"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no.nir");
    std::fs::write(&path, b"text").unwrap();
    assert!(
        nir::read(&path)
            .unwrap_err()
            .to_string()
            .starts_with(&path.display().to_string())
    );
}

/// The one line of a graph that no network is.
fn refused(graph: &Graph) -> String {
    let network = Network::new(graph, &Convention::nir(1e-3), &Device::flex());
    network.unwrap_err().to_string()
}

fn floats(shape: &[usize]) -> Array {
    Array::float(shape.to_vec(), vec![0.5; shape.iter().product()])
}

fn convolution(kind: &str, weight: &[usize]) -> Node {
    Node::new(kind)
        .with("weight", floats(weight))
        .with("bias", floats(&[weight[0]]))
        .with("stride", Array::integer(1))
        .with("padding", Array::integer(0))
        .with("dilation", Array::integer(1))
        .with("groups", Array::integer(1))
}

fn leaky(tau: f64, threshold: f64) -> Node {
    Node::new("LIF")
        .with("tau", Array::vector(vec![tau]))
        .with("r", Array::vector(vec![1.0]))
        .with("v_leak", Array::vector(vec![0.0]))
        .with("v_threshold", Array::vector(vec![threshold]))
}

/// Nodes that read an input of some shape, whose numbers do not fit it or each other.
#[test]
fn nodes_that_do_not_fit_are_named() {
    let affine = |weight: &[usize], bias| {
        let node = Node::new("Affine").with("weight", floats(weight));
        node.with("bias", floats(&[bias]))
    };
    let short = Array::float(vec![2, 3], vec![1.0; 5]);
    let grouped = |groups| {
        let node = convolution("Conv1d", &[4, 1, 3]);
        node.with("groups", Array::integer(groups))
    };
    let cuba = |syn: f64| {
        let vector = |x: f64| Array::vector(vec![x]);
        let node = Node::new("CubaLIF").with("tau_mem", vector(1.0));
        node.with("tau_syn", vector(syn))
            .with("v_threshold", vector(1.0))
    };
    let sum = Node::new("SumPool2d")
        .with("kernel_size", Array::integer(3))
        .with("stride", Array::integer(1))
        .with("padding", Array::integer(0));
    let flat = |end| {
        let node = Node::new("Flatten").with("start_dim", Array::integer(1));
        node.with("end_dim", Array::integer(end))
    };
    let table: Vec<(&[usize], Node, &str)> = vec![
        (
            &[3],
            affine(&[2, 4], 2),
            "a weight of shape [2, 4] reads an input of shape [3]",
        ),
        (&[3], affine(&[2, 3], 3), "bias has 3 numbers for 2 outputs"),
        (
            &[3],
            affine(&[2, 3, 1], 2),
            "weight has the shape [2, 3, 1], expected two",
        ),
        (
            &[3],
            affine(&[0, 3], 0),
            "weight has the shape [0, 3], expected two",
        ),
        (
            &[3],
            Node::new("Linear").with("weight", short),
            "weight has 5 numbers for a shape of [2, 3]",
        ),
        (
            &[4],
            convolution("Conv1d", &[4, 1, 3]),
            "a weight of shape [4, 1, 3] reads an input of shape [4]",
        ),
        (
            &[2, 4],
            convolution("Conv1d", &[4, 1, 3]),
            "a weight of shape [4, 1, 3] reads an input of shape [2, 4] in 1 groups",
        ),
        (
            &[3, 4],
            grouped(3),
            "a weight of shape [4, 1, 3] reads an input of shape [3, 4] in 3 groups",
        ),
        (
            &[3, 4],
            grouped(0),
            "groups is [0.0], expected whole numbers from 1 to 16777216",
        ),
        (
            &[1, 4],
            convolution("Conv1d", &[4, 1, 0]),
            "weight has the shape [4, 1, 0], expected three",
        ),
        (
            &[1, 2],
            convolution("Conv1d", &[4, 1, 3]),
            "windows that reach over 3 do not fit 2",
        ),
        (
            &[1, 4, 2],
            convolution("Conv2d", &[4, 1, 3, 3]),
            "windows that reach over 3 do not fit 2",
        ),
        (
            &[1, 4, 4],
            convolution("Conv2d", &[4, 1, 3]),
            "weight has the shape [4, 1, 3], expected four",
        ),
        (
            &[1, 4, 4],
            convolution("Conv2d", &[4, 1, 3, 3]).with("bias", floats(&[1])),
            "bias has 1 numbers for 4 outputs",
        ),
        (
            &[1, 4, 4],
            convolution("Conv2d", &[4, 1, 3, 3]).with("stride", Array::integer(0)),
            "stride is [0.0], expected whole numbers from 1 to 16777216",
        ),
        (
            &[1, 4, 4],
            convolution("Conv2d", &[4, 1, 3, 3]).with("stride", Array::integers(vec![1; 3])),
            "stride is [1, 1, 1], expected 2",
        ),
        (
            &[1, 4, 4],
            convolution("Conv2d", &[4, 1, 3, 3]).with("padding", Array::integer(-1)),
            "padding is [-1.0], expected whole numbers from 0 to 16777216",
        ),
        (&[1, 4, 2], sum, "windows that reach over 3 do not fit 2"),
        (&[4, 4], flat(2), "end_dim is 2, of 2 dimensions"),
        (&[4, 4], flat(0), "flattens from 1 to 0"),
        (
            &[4],
            Node::new("Scale").with("scale", floats(&[3])),
            "scale has 3 numbers for 4 neurons",
        ),
        (&[2], leaky(0.0, 1.0), "tau is 0, expected positive"),
        (&[2], leaky(f64::NAN, 1.0), "tau has a number that is NaN"),
        (&[2], leaky(1.0, 0.0), "v_threshold is 0, expected positive"),
        (
            &[2],
            leaky(1.0, -1.0),
            "v_threshold is -1, expected positive",
        ),
        (
            &[2],
            leaky(1.0, f64::NAN),
            "v_threshold has a number that is NaN",
        ),
        (
            &[2],
            leaky(1.0, f64::INFINITY),
            "v_threshold has a number that is inf",
        ),
        (
            &[2],
            leaky(1.0, 1.0).with("r", floats(&[3])),
            "r has 3 numbers for 2 neurons",
        ),
        (
            &[2],
            leaky(1.0, 1.0).with("v_reset", Array::vector(vec![0.0, 0.5])),
            "v_reset differs from neuron to neuron, which no layer has",
        ),
        (&[2], cuba(0.0), "tau_syn is 0, expected positive"),
        (
            &[2],
            Node::new("IF").with("r", floats(&[1])),
            "has no v_threshold",
        ),
        (
            &[2],
            Node::new("Threshold").with("threshold", Array::vector(vec![0.0])),
            "threshold is 0, expected positive",
        ),
    ];
    for (input, node, message) in table {
        let kind = node.kind.clone();
        let graph = Graph::chain(input, [("here".to_string(), node)], &[1]);
        assert_eq!(refused(&graph), format!("here: {message}"), "{kind}");
    }
}

/// Shapes of inputs, and edges that no order of nodes has.
#[test]
fn graphs_that_do_not_fit_are_named() {
    let chain = |input: &[usize]| {
        let node = ("here".to_string(), leaky(1.0, 1.0));
        Graph::chain(input, [node], &[1])
    };
    let changed = |change: &dyn Fn(&mut Graph)| {
        let mut graph = chain(&[2]);
        change(&mut graph);
        refused(&graph)
    };
    let edge = |from: &str, to: &str| (from.to_string(), to.to_string());
    let input = |graph: &mut Graph, shape: Array| {
        let node = graph.nodes.get_mut("input").unwrap();
        node.fields.insert("shape".into(), shape);
    };
    assert_eq!(
        refused(&chain(&[0])),
        "input: shape is [0.0], expected whole numbers from 1 to 16777216"
    );
    assert_eq!(
        changed(&|graph| input(graph, Array::vector(vec![1.5]))),
        "input: shape is [1.5], expected whole numbers from 1 to 16777216"
    );
    assert_eq!(
        changed(&|graph| input(graph, Array::integers(vec![1 << 20; 4]))),
        "input: a shape of [1048576, 1048576, 1048576, 1048576] is too large"
    );
    assert_eq!(
        changed(&|graph| drop(graph.nodes.remove("output"))),
        "graph: an edge names `output`, which is no node"
    );
    assert_eq!(
        changed(&|graph| graph.edges.retain(|(_, to)| to != "here")),
        "graph: here reads nothing"
    );
    assert_eq!(
        changed(&|graph| graph.edges.push(edge("here", "here"))),
        "graph: here reads itself without weights"
    );
    assert_eq!(
        changed(&|graph| drop(graph.nodes.insert("second".into(), Node::new("Output")))),
        "graph: second is a second Output"
    );
    let with = |name: &str, node: Node, edges: &[(&str, &str)]| {
        changed(&|graph| {
            graph.nodes.insert(name.into(), node.clone());
            graph
                .edges
                .extend(edges.iter().map(|(from, to)| edge(from, to)));
        })
    };
    let weights = |shape| Node::new("Linear").with("weight", floats(shape));
    assert_eq!(
        with(
            "more",
            weights(&[3, 2]),
            &[("input", "more"), ("more", "output")]
        ),
        "output: reads here of shape [2] and more of shape [3]"
    );
    let back = [("here", "back"), ("back", "here")];
    assert_eq!(
        with("back", weights(&[2, 3]), &back),
        "here: recurrent weights of shape [2, 3] for 2 neurons"
    );
    let affine = weights(&[2, 2]).with("bias", floats(&[3]));
    let affine = Node {
        kind: "Affine".into(),
        ..affine
    };
    assert_eq!(
        with("back", affine, &back),
        "here: bias has 3 numbers for 2 outputs"
    );
    assert_eq!(
        with("back", Node::new("Flatten"), &back),
        "graph: back is a Flatten between here and itself, expected Affine or Linear"
    );
}
