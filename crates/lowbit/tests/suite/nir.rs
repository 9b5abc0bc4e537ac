//! NIR files that snnTorch and sinabs wrote (`reference/nir_files.py` makes them and says the versions)
//! give the same spikes; what is written reads back.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::nir::{self, Array, Convention, Graph, Network, Node};
use lowbit::nn::{CubaLifConfig, DecayConfig, FiringThresholdConfig, LifConfig, LinearConfig};
use lowbit::ops::Reset;
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
    let linear = LinearConfig::new(3, 4).init(&device);
    let lif = LifConfig::new(DecayConfig::alpha(0.75))
        .with_norm_input(false)
        .with_threshold(FiringThresholdConfig::new(0.25))
        .init(&device);
    let mut second = LinearConfig::new(4, 2).with_bias(false).init(&device);
    let grid = |x: Tensor<2>| (x * 32.0).round() / 32.0;
    second.weight = Param::from_tensor(grid(second.weight.val()));
    let cuba = CubaLifConfig::new(DecayConfig::alpha(0.5), DecayConfig::alpha(0.875));
    let cuba = cuba
        .with_threshold(FiringThresholdConfig::new(0.0625))
        .init(&device);
    let dt = 1e-3;
    let nodes = [
        ("linear", Node::from(&linear)),
        (
            "lif",
            Node::lif(&lif, 4, dt).with_metadata("lowbit.state", "fixed(16,12)"),
        ),
        ("second", Node::from(&second)),
        ("cuba", Node::cuba_lif(&cuba, 2, dt)),
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

#[test]
fn what_no_layer_has_is_named() {
    let refused = |node: Node| {
        let graph = Graph::chain(&[2], [("here".to_string(), node)], &[2]);
        let convention = Convention::nir(1e-3);
        let network = Network::new(&graph, &convention, &Device::flex());
        network.unwrap_err().to_string()
    };
    assert_eq!(
        refused(Node::new("Delay")),
        "here: is a Delay, which no layer is"
    );
    assert_eq!(refused(Node::new("Affine")), "here: has no weight");
    let leaks = Node::new("LI")
        .with("tau", Array::vector(vec![1.0]))
        .with("v_leak", Array::vector(vec![0.5]));
    assert_eq!(refused(leaks), "here: v_leak is not 0, which no layer has");
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
