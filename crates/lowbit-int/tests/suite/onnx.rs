//! ONNX files: their structure, and the integers that runtimes make of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use lowbit_int::onnx::proto::{
    AttributeProto, DataType, Dimension, GraphProto, ModelProto, TensorProto, ValueInfoProto,
};
use lowbit_int::onnx::{self, Dialect, Options, Runtime, Ties, Verdict};
use lowbit_int::ops::{
    Add, AveragePool, Convolution, Flatten, Linear, LookUp, MaxPool, Rectifier, Requantize,
    Sliding, Weights, Windows,
};
use lowbit_int::{Graph, Interval, Node, Numbers, Operator, Rounding, TensorId, interpret};
use prost::Message;
use serde_json::{Value, json};

use super::random::{Random, slices};
use super::variable;

/// How a network of the tests is quantized.
#[derive(Clone, Copy)]
struct Scheme {
    bits: u32,
    /// Scales that are no powers of two, zero points, and a multiplier for each channel.
    affine: bool,
    rounding: Rounding,
}

impl Scheme {
    fn activations(&self, random: &mut Random, signed: bool) -> Numbers {
        if self.affine {
            let numbers = Numbers::power_of_two(self.bits, signed, 0).unwrap();
            let zero = random.number(numbers.least(), numbers.least() + 7);
            Numbers::affine(self.bits, signed, 0.0371, zero).unwrap()
        } else {
            Numbers::power_of_two(self.bits, signed, -4).unwrap()
        }
    }

    fn weights(&self, random: &mut Random, shape: &[usize]) -> Weights {
        let numbers = Numbers::power_of_two(self.bits, true, -6).unwrap();
        let count: usize = shape.iter().product();
        let values = (0..count).map(|_| random.number(numbers.least(), numbers.greatest()));
        Weights {
            shape: shape.to_vec(),
            numbers,
            values: values.collect(),
        }
    }
}

/// A network that grows.
struct Network {
    graph: Graph,
    scheme: Scheme,
    random: Random,
}

impl Network {
    fn new(scheme: Scheme, seed: u64, shape: &[usize]) -> (Self, TensorId) {
        let mut random = Random(seed);
        let mut graph = Graph::new();
        let numbers = scheme.activations(&mut random, false);
        let x = graph.input("image", shape, numbers).unwrap();
        let network = Self {
            graph,
            scheme,
            random,
        };
        (network, x)
    }

    fn bias(&mut self, count: usize) -> Option<Vec<i64>> {
        Some((0..count).map(|_| self.random.number(-99, 99)).collect())
    }

    fn convolution(&mut self, name: &str, x: TensorId, outputs: usize, kernel: usize) -> TensorId {
        let inputs = self.graph.tensor(x).shape()[0];
        let weights = self
            .scheme
            .weights(&mut self.random, &[outputs, inputs, kernel, kernel]);
        let bias = self.bias(outputs);
        let sliding = Sliding::new(2).with_padding(kernel / 2);
        let convolution = Convolution::new(weights, bias).with_sliding(sliding);
        self.graph.push(name, convolution, &[x]).unwrap()
    }

    /// Brings a sum to the activations' width so that most of it fits.
    fn requantize(&mut self, name: &str, x: TensorId, signed: bool) -> TensorId {
        let tensor = self.graph.tensor(x);
        let (numbers, channels) = (tensor.numbers(), tensor.shape()[0]);
        let shift = tensor
            .interval()
            .bits()
            .saturating_sub(self.scheme.bits + 1);
        let rounding = self.scheme.rounding;
        let requantize = if self.scheme.affine {
            let output = self.scheme.activations(&mut self.random, signed);
            let multipliers = (0..channels).map(|_| self.random.number(1 << 14, 1 << 15));
            Requantize {
                multiplier: multipliers.collect(),
                offset: vec![0],
                shift: vec![shift + 15],
                rounding,
                numbers: output,
            }
        } else {
            let exponent = numbers.exponent().unwrap() + shift as i32;
            let output = Numbers::power_of_two(self.scheme.bits, signed, exponent).unwrap();
            Requantize::by_shift(shift, rounding, output)
        };
        self.graph.push(name, requantize, &[x]).unwrap()
    }

    fn linear(&mut self, name: &str, x: TensorId, outputs: usize) -> TensorId {
        let inputs = self.graph.tensor(x).elements();
        let weights = self.scheme.weights(&mut self.random, &[outputs, inputs]);
        let bias = self.bias(outputs);
        let linear = Linear { weights, bias };
        self.graph.push(name, linear, &[x]).unwrap()
    }
}

fn windows() -> Windows {
    Windows::Sliding {
        kernel: vec![2, 2],
        sliding: Sliding::new(2).with_stride(2),
    }
}

/// LeNet's layers on a smaller image: two convolutions with pools, two linear layers, a table.
fn lenet(scheme: Scheme, seed: u64) -> Graph {
    let (mut net, x) = Network::new(scheme, seed, &[1, 12, 12]);
    let x = net.convolution("conv1", x, 6, 5);
    let x = net.requantize("conv1.out", x, true);
    let x = net.graph.push("relu1", Rectifier {}, &[x]).unwrap();
    let pool = MaxPool { windows: windows() };
    let x = net.graph.push("pool1", pool.clone(), &[x]).unwrap();
    let x = net.convolution("conv2", x, 16, 3);
    let x = net.requantize("conv2.out", x, false);
    let x = net.graph.push("pool2", pool, &[x]).unwrap();
    let x = net.graph.push("flatten", Flatten {}, &[x]).unwrap();
    let x = net.linear("fc1", x, 40);
    let x = net.requantize("fc1.out", x, true);
    let input = net.graph.tensor(x).numbers();
    let output = net.scheme.activations(&mut net.random, true);
    let table = LookUp::of(input, output, |x| x.tanh()).unwrap();
    let x = net.graph.push("tanh", table, &[x]).unwrap();
    let logits = net.linear("fc2", x, 10);
    net.graph.output(logits).unwrap();
    net.graph.output(x).unwrap();
    net.graph
}

/// Two residual blocks, an average of the image, a linear layer.
fn residual(scheme: Scheme, seed: u64) -> Graph {
    let (mut net, x) = Network::new(scheme, seed, &[3, 8, 8]);
    let x = net.convolution("stem", x, 8, 3);
    let mut x = net.requantize("stem.out", x, false);
    for block in ["block1", "block2"] {
        let y = net.convolution(&format!("{block}.conv1"), x, 8, 3);
        let y = net.requantize(&format!("{block}.conv1.out"), y, false);
        let y = net.convolution(&format!("{block}.conv2"), y, 8, 3);
        let y = net.requantize(&format!("{block}.conv2.out"), y, true);
        let steps = [y, x].map(|id| net.graph.tensor(id).numbers().exponent());
        let multipliers = match steps {
            [Some(a), Some(b)] => [1 << (a - b).max(0), 1 << (b - a).max(0)],
            _ => [1, 1],
        };
        let sum = net
            .graph
            .push(&format!("{block}.add"), Add { multipliers }, &[y, x]);
        x = net.requantize(&format!("{block}.out"), sum.unwrap(), false);
    }
    let average = AveragePool {
        windows: Windows::global(2),
        include_padding: false,
    };
    let x = net.graph.push("average", average, &[x]).unwrap();
    let x = net.requantize("average.out", x, false);
    let x = net.graph.push("flatten", Flatten {}, &[x]).unwrap();
    let logits = net.linear("fc", x, 10);
    net.graph.output(logits).unwrap();
    let x = net.linear("head", x, 10);
    let x = net.requantize("head.out", x, false);
    net.graph.output(x).unwrap();
    net.graph
}

/// Rows of features, as transformers have them.
fn rows(scheme: Scheme, seed: u64) -> Graph {
    let (mut net, x) = Network::new(scheme, seed, &[6, 300]);
    let weights = net.scheme.weights(&mut net.random, &[12, 300]);
    let linear = Linear {
        weights,
        bias: None,
    };
    let x = net.graph.push("wide", linear, &[x]).unwrap();
    let x = net.requantize("wide.out", x, false);
    let weights = net.scheme.weights(&mut net.random, &[7, 12]);
    let bias = net.bias(7);
    let linear = Linear { weights, bias };
    let x = net.graph.push("narrow", linear, &[x]).unwrap();
    let x = net.requantize("narrow.out", x, true);
    net.graph.output(x).unwrap();
    net.graph
}

/// Networks of the kinds that are deployed.
pub(crate) fn networks() -> Vec<(String, Graph)> {
    let mut networks = Vec::new();
    for (bits, affine, rounding) in [
        (8, false, Rounding::HalfEven),
        (4, false, Rounding::HalfEven),
        (8, true, Rounding::HalfEven),
        (4, true, Rounding::HalfEven),
        (8, false, Rounding::HalfUp),
        (8, true, Rounding::HalfAway),
        (4, false, Rounding::Floor),
    ] {
        let scheme = Scheme {
            bits,
            affine,
            rounding,
        };
        let kind = if affine { "affine" } else { "powers" };
        let seed = u64::from(bits) + 100 * u64::from(affine);
        networks.push((
            format!("lenet-{bits}-{kind}-{rounding:?}"),
            lenet(scheme, seed),
        ));
        networks.push((
            format!("rows-{bits}-{kind}-{rounding:?}"),
            rows(scheme, seed),
        ));
        networks.push((
            format!("residual-{bits}-{kind}-{rounding:?}"),
            residual(scheme, seed),
        ));
    }
    networks
}

/// Requantizations one after the other, which nothing separates.
pub(crate) fn chain(random: &mut Random) -> Graph {
    let mut graph = Graph::new();
    let numbers = Numbers::power_of_two(8, true, -4).unwrap();
    let mut x = graph.input("x", &[3, 5], numbers).unwrap();
    for step in 0..2 + random.below(4) {
        let bits = 2 + random.below(9) as u32;
        let signed = random.chance(2);
        let grid = Numbers::power_of_two(bits, signed, 0).unwrap();
        let zero = random.number(grid.least(), grid.greatest());
        let numbers = Numbers::affine(bits, signed, 0.3, zero).unwrap();
        let rounding = Rounding::ALL[random.below(4)];
        let multiplier = random.number(1, 40);
        let requantize = Requantize::by_multiplier(multiplier, 4, rounding, numbers);
        let name = format!("r{step}");
        x = graph.push(&name, requantize, &[x]).unwrap();
        if random.chance(3) {
            x = graph
                .push(&format!("relu{step}"), Rectifier {}, &[x])
                .unwrap();
        }
    }
    graph.output(x).unwrap();
    graph
}

fn tensor_json(graph: &Graph, id: TensorId, name: &str, values: &[i64]) -> Value {
    let tensor = graph.tensor(id);
    json!({
        "name": name,
        "shape": tensor.shape(),
        "scale": tensor.numbers().scale(),
        "zero_point": tensor.numbers().zero_point(),
        "values": values,
    })
}

/// How far the real numbers of an input are from the integers to which the graph rounds them, in steps:
/// halves too, where the scale is a power of two and floats hold them.
fn fractions(graph: &Graph, id: TensorId, values: &[i64]) -> Vec<f64> {
    let numbers = graph.tensor(id).numbers();
    let is_exact = numbers.exponent().is_some();
    let of = |(i, &k): (usize, &i64)| {
        let k = k - numbers.zero_point();
        match (graph.input_rounding(id).unwrap(), i % 4) {
            (Rounding::Floor, 0) if is_exact => 0.0,
            (Rounding::Floor, part) => [0.25, 0.25, 0.5, 0.75][part],
            (_, 0) => 0.0,
            (_, 1) => 0.25,
            (_, 2) => -0.25,
            _ if !is_exact => 0.375,
            (Rounding::HalfUp, _) => -0.5,
            (Rounding::HalfEven, _) if k % 2 == 0 => 0.5,
            (Rounding::HalfAway, _) if k != 0 => -0.5 * k.signum() as f64,
            _ => -0.375,
        }
    };
    values.iter().enumerate().map(of).collect()
}

/// A node's name and those of what it reads.
fn reads(graph: &Graph, node: &Node) -> Value {
    let names = node.inputs().iter().map(|&id| graph.tensor(id).name());
    json!({"name": node.name(), "inputs": names.collect::<Vec<&str>>()})
}

/// Writes a graph's file beside images and the interpreter's integers. Answers the line that says so.
fn case(
    folder: &Path,
    name: &str,
    graph: &Graph,
    options: Options,
    random: &mut Random,
) -> Option<Value> {
    let bytes = onnx::write(graph, options).ok()?;
    let certificate = onnx::certificate(graph, options).unwrap();
    let file = format!("{name}.{}.{:?}.onnx", options.dialect, options.ties);
    std::fs::write(folder.join(&file), bytes).unwrap();
    let mut images = random.images(graph, 3);
    if name == "sparse-sums" {
        images[0][..2].copy_from_slice(&[210, 61_060]);
    }
    let outputs = interpret(graph, &slices(&images)).unwrap();
    let input = |(&id, values): (&TensorId, &Vec<i64>)| {
        let mut input = tensor_json(graph, id, graph.tensor(id).name(), values);
        input["fractions"] = json!(fractions(graph, id, values));
        input
    };
    let output = |(&id, values): (&TensorId, &Vec<i64>)| {
        let mut name = graph.tensor(id).name().to_owned();
        if graph.inputs().contains(&id) {
            name += "/output";
        }
        tensor_json(graph, id, &name, values)
    };
    let inputs: Vec<Value> = graph.inputs().iter().zip(&images).map(input).collect();
    let outputs: Vec<Value> = graph.outputs().iter().zip(&outputs).map(output).collect();
    Some(json!({
        "file": file,
        "dialect": options.dialect.to_string(),
        "ties": format!("{:?}", options.ties),
        "inputs": inputs,
        "outputs": outputs,
        "nodes": graph.nodes().iter().map(|node| reads(graph, node)).collect::<Vec<Value>>(),
        "certificate": serde_json::to_value(&certificate).unwrap(),
    }))
}

/// The files of networks and of random graphs in ONNX Runtime, ONNX's reference evaluator and QONNX's
/// executor: nothing that is certified as exact may differ.
#[test]
fn runtimes_have_the_same_bits() {
    let Some(python) = variable("LOWBIT_PYTHON") else {
        println!("skipped: LOWBIT_PYTHON names no Python with onnx, onnxruntime and qonnx");
        return;
    };
    let folder = std::env::temp_dir().join(format!("lowbit-onnx-{}", std::process::id()));
    write_cases(&folder, false);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/onnx_runtimes.py");
    let mut command = Command::new(python);
    let output = command.arg(script).arg(&folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", folder.display());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The same files, and once more with every tensor an output, for runtimes that are no part of the
/// tests: `benches/peers/onnx_rust` runs them.
#[test]
fn cases_are_written() {
    match variable("LOWBIT_CASES") {
        Some(folder) => write_cases(Path::new(&folder), true),
        None => println!("skipped: LOWBIT_CASES names no folder to write files to"),
    }
}

/// Graphs to write: networks, those with one rare thing, chains and random ones.
fn written_graphs(random: &mut Random) -> Vec<(String, Graph)> {
    let random_graphs = variable("LOWBIT_GRAPHS").map_or(200, |n| n.parse().unwrap());
    let mut graphs = networks();
    graphs.push(("sparse-sums".into(), sparse_sums()));
    graphs.push(("long-sums".into(), long_sums()));
    graphs.push(("wide-sums".into(), wide_sums()));
    for (n, graph) in distant_steps().into_iter().enumerate() {
        graphs.push((format!("distant-steps-{n}"), graph));
    }
    for n in 0..random_graphs / 5 {
        graphs.push((format!("chain-{n}"), chain(random)));
    }
    for n in 0..random_graphs {
        graphs.push((format!("random-{n}"), random.graph()));
    }
    graphs
}

/// Writes the files of graphs into a folder, with images and the interpreter's integers of each output;
/// `twice` also files with all tensors as outputs.
fn write_cases(folder: &Path, twice: bool) {
    std::fs::create_dir_all(folder).unwrap();
    let seed = variable("LOWBIT_SEED").map_or(14, |n| n.parse().unwrap());
    let mut random = Random(seed);
    let mut graphs = written_graphs(&mut random);
    if twice {
        let every = graphs.iter().map(|(name, graph)| {
            let mut graph = graph.clone();
            let tensors: Vec<TensorId> = graph.tensors().map(|(id, _)| id).collect();
            for id in tensors {
                // Those that are outputs stay so.
                let _ = graph.output(id);
            }
            (format!("{name}-every"), graph)
        });
        let every: Vec<(String, Graph)> = every.collect();
        graphs.extend(every);
    }
    let mut lines = String::new();
    for (name, graph) in &graphs {
        for dialect in Dialect::ALL {
            for ties in [Ties::Exact, Ties::ToEven] {
                if (dialect, ties) == (Dialect::QOperator, Ties::ToEven) {
                    continue;
                }
                let options = Options { dialect, ties };
                if let Some(case) = case(folder, name, graph, options, &mut random) {
                    lines += &format!("{case}\n");
                }
            }
        }
    }
    std::fs::write(folder.join("cases.jsonl"), lines).unwrap();
}

fn read(bytes: &[u8]) -> GraphProto {
    let model = ModelProto::decode(bytes).unwrap();
    assert_eq!(model.encode_to_vec(), bytes);
    assert_eq!(model.ir_version, Some(10));
    assert_eq!(model.opset_import[0].version, Some(21));
    assert_eq!(model.producer_name.as_deref(), Some("lowbit"));
    model.graph.unwrap()
}

fn operators(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(|node| node.op_type()).collect()
}

/// One layer of 4 bits: sums in 2^-7, outputs in 2^-4.
fn layer(rounding: Rounding, x: Numbers) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", &[3], x).unwrap();
    let linear = Linear {
        weights: Weights {
            shape: vec![2, 3],
            numbers: Numbers::power_of_two(4, true, -3).unwrap(),
            values: vec![1, -2, 3, 7, 0, -8],
        },
        bias: Some(vec![4, -5]),
    };
    let sums = graph.push("linear", linear, &[x]).unwrap();
    let output = Numbers::power_of_two(4, true, -4).unwrap();
    let requantize = Requantize::by_shift(3, rounding, output);
    let y = graph.push("y", requantize, &[sums]).unwrap();
    graph.output(y).unwrap();
    graph
}

fn four_bits() -> Numbers {
    Numbers::power_of_two(4, false, -4).unwrap()
}

#[test]
fn a_layer_between_quantizers() {
    let graph = layer(Rounding::HalfEven, four_bits());
    let bytes = onnx::write(&graph, Dialect::Qdq).unwrap();
    assert_eq!(onnx::write(&graph, Dialect::Qdq).unwrap(), bytes);
    let file = read(&bytes);
    assert_eq!(
        operators(&file),
        [
            "Clip",
            "QuantizeLinear",
            "DequantizeLinear",
            "DequantizeLinear",
            "DequantizeLinear",
            "Gemm",
            "Clip",
            "QuantizeLinear",
            "DequantizeLinear",
            "Identity"
        ]
    );
    let shape = |value: &ValueInfoProto| {
        let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        assert_eq!(tensor.elem_type, Some(DataType::Float as i32));
        let dims = tensor.shape.as_ref().unwrap().dim.iter();
        dims.map(|d| d.value.clone().unwrap()).collect::<Vec<_>>()
    };
    let free = Dimension::Free("batch".into());
    assert_eq!(file.input[0].name(), "x");
    assert_eq!(shape(&file.input[0]), [free.clone(), Dimension::Size(3)]);
    assert_eq!(file.output[0].name(), "y");
    assert_eq!(shape(&file.output[0]), [free, Dimension::Size(2)]);
    let constant = |name: &str| file.initializer.iter().find(|t| t.name() == name).unwrap();
    let weight = constant("linear/weight");
    assert_eq!(
        (weight.data_type, &weight.dims),
        (Some(DataType::Int8 as i32), &vec![2, 3])
    );
    assert_eq!(weight.raw_data(), [1, 254, 3, 7, 0, 248]);
    let bias = constant("linear/bias");
    assert_eq!(bias.data_type, Some(DataType::Int32 as i32));
    assert_eq!(bias.raw_data(), [4, 0, 0, 0, 251, 255, 255, 255]);
    // 2^-7 = 2^-4 2^-3.
    assert_eq!(
        constant("linear/bias/scale").raw_data(),
        0.0078125f32.to_le_bytes()
    );
    // Seven sixteenths.
    assert_eq!(constant("y/greatest").raw_data(), 0.4375f32.to_le_bytes());
    let nodes = file.node.iter().map(|node| node.name().to_owned());
    let nodes: Vec<String> = nodes.collect();
    assert!(nodes.contains(&"linear".into()) && nodes.contains(&"y".into()));
}

#[test]
fn a_layer_of_integers() {
    let graph = layer(Rounding::HalfEven, four_bits());
    let file = read(&onnx::write(&graph, Dialect::QOperator).unwrap());
    assert_eq!(
        operators(&file),
        [
            "QuantizeLinear",
            "Clip",
            "MatMulInteger",
            "Add",
            "Cast",
            "Mul",
            "Clip",
            "QuantizeLinear",
            "DequantizeLinear",
            "Identity"
        ]
    );
}

#[test]
fn a_layer_of_quant_nodes() {
    let graph = layer(Rounding::Floor, four_bits());
    let file = read(&onnx::write(&graph, Dialect::Qonnx).unwrap());
    assert_eq!(
        operators(&file),
        ["Quant", "Quant", "Quant", "Gemm", "Quant", "Identity"]
    );
    let quant = &file.node[4];
    assert_eq!(quant.domain(), "qonnx.custom_op.general");
    let rounding = quant.attribute.iter().find(|a| a.name() == "rounding_mode");
    assert_eq!(rounding.unwrap().s(), b"FLOOR");
    let constant = |name: &str| file.initializer.iter().find(|t| t.name() == name).unwrap();
    assert_eq!(constant(&quant.input[3]).raw_data(), 4.0f32.to_le_bytes());
}

/// Sums of ±1/8 steps after a shift by 3 have ties at 4 modulo 8, which half up and even round
/// differently; a half that goes up is said in one addition.
#[test]
fn ties_are_said_or_named() {
    let graph = layer(Rounding::HalfUp, four_bits());
    let certificate = onnx::certificate(&graph, Dialect::Qdq).unwrap();
    assert!(certificate.is_exact(), "{certificate}");
    let file = read(&onnx::write(&graph, Dialect::Qdq).unwrap());
    assert!(operators(&file).contains(&"Add"), "{:?}", operators(&file));
    let options = Options {
        dialect: Dialect::Qdq,
        ties: Ties::ToEven,
    };
    let certificate = onnx::certificate(&graph, options).unwrap();
    assert_eq!(
        certificate.verdict(Runtime::OrtAll),
        Some(Verdict::ExactUnlessTie)
    );
    let entry = &certificate.entries[1];
    // The first channel's sums begin at -26. The tie -20 is -2 both ways, -12 is -2 to even and -1 up.
    assert_eq!(entry.reason, "of -12 it makes -2 instead of -1");
    let text = certificate.to_string();
    assert!(
        text.starts_with("node") && text.contains("EXACT UNLESS TIE"),
        "{text}"
    );
    let value: Value = serde_json::from_str(&certificate.to_json()).unwrap();
    assert_eq!(value["entries"][1]["verdicts"][0], "EXACT UNLESS TIE");
    let file = read(&onnx::write(&graph, options).unwrap());
    assert!(!operators(&file).contains(&"Add"), "{:?}", operators(&file));
}

/// tract and rten have no `Quant`, and rten no `QLinearConv`, which counts for nothing that is asked of the
/// certificate as a whole.
#[test]
fn other_runtimes_are_judged_beside() {
    for (name, graph) in networks() {
        let certificate = onnx::certificate(&graph, Dialect::QOperator).unwrap();
        assert_eq!(certificate.is_exact(), !has_moved_ties(&name), "{name}");
        let file = read(&onnx::write(&graph, Dialect::QOperator).unwrap());
        let verdict = certificate.verdict(Runtime::Rten);
        if operators(&file).contains(&"QLinearConv") {
            assert_eq!(verdict, Some(Verdict::CannotRun), "{name}");
            let text = certificate.to_string();
            assert!(text.contains("rten has no QLinearConv"), "{text}");
        }
        assert_eq!(certificate.verdict(Runtime::Qonnx), None);
        let Ok(certificate) = onnx::certificate(&graph, Dialect::Qonnx) else {
            continue;
        };
        for runtime in Runtime::OTHERS {
            assert_eq!(certificate.verdict(runtime), Some(Verdict::CannotRun));
        }
        let value: Value = serde_json::from_str(&certificate.to_json()).unwrap();
        let others: Vec<&Value> = value["entries"][0]["others"]
            .as_array()
            .unwrap()
            .iter()
            .collect();
        let runtimes: Vec<&str> = others
            .iter()
            .map(|o| o["runtime"].as_str().unwrap())
            .collect();
        assert_eq!(runtimes, ["tract", "rten"]);
    }
}

/// A sum of a third is a half in floats, 3 (1/6) = 0.5, and a little more than that as a product of a
/// third's neighbour: tract, which multiplies in integers, makes 1 of it and not 0.
#[test]
fn products_that_are_rounded_once_are_judged() {
    // The `f32` that is nearest to 1/6 is 11184811 / 2^26, and 3 times that 33554433 / 2^26.
    let (mut judged, mut exact) = (0, 0);
    for rounding in [Rounding::HalfEven, Rounding::HalfUp] {
        let mut graph = Graph::new();
        let byte = Numbers::power_of_two(8, false, 0).unwrap();
        let x = graph.input("x", &[1, 1, 1], byte).unwrap();
        let weights = Weights {
            shape: vec![1, 1, 1, 1],
            numbers: Numbers::power_of_two(8, true, 0).unwrap(),
            values: vec![1],
        };
        let sums = graph.push("sums", Convolution::new(weights, None), &[x]);
        let numbers = Numbers::affine(8, false, 1.0, 0).unwrap();
        let requantize = Requantize::by_multiplier(11_184_811, 26, rounding, numbers);
        let y = graph.push("y", requantize, &[sums.unwrap()]).unwrap();
        graph.output(y).unwrap();
        let file = read(&onnx::write(&graph, Dialect::QOperator).unwrap());
        let certificate = onnx::certificate(&graph, Dialect::QOperator).unwrap();
        assert!(certificate.is_exact());
        let Some(fused) = file.node.iter().find(|n| n.op_type() == "QLinearConv") else {
            continue;
        };
        let ratio = constant_floats(&file, &fused.input[4], 1.0)[0];
        let product = |sum: i64| {
            // 24 bits of the ratio are an integer of 2^-26.
            let scaled = (f64::from(ratio) * 67_108_864.0) as i64 * sum;
            let (floor, rest) = (scaled >> 26, scaled & 0x3ff_ffff);
            floor + i64::from(rest > 0x200_0000 || rest == 0x200_0000 && floor & 1 == 1)
        };
        let expected = |sum| interpret(&graph, &[&[sum]]).unwrap()[0][0];
        let same = (0..256).all(|sum| product(sum) == expected(sum));
        let found = &certificate.entries[0].others[0];
        assert_eq!(found.verdict == Verdict::Exact, same, "{ratio} {found:?}");
        judged += 1;
        exact += usize::from(same);
    }
    println!("{judged} fused, {exact} exact in tract");
    assert!(judged > 0);
}

#[track_caller]
fn refused(graph: &Graph, dialect: Dialect, message: &str) {
    let error = onnx::write(graph, dialect).unwrap_err().to_string();
    assert_eq!(error, message);
    assert_eq!(
        onnx::certificate(graph, dialect).unwrap_err().to_string(),
        message
    );
}

#[test]
fn what_a_dialect_cannot_say_is_refused() {
    let wide = layer(
        Rounding::Floor,
        Numbers::power_of_two(17, false, -4).unwrap(),
    );
    refused(
        &wide,
        Dialect::Qdq,
        "x: 17 bits, and onnx-qdq quantizes to at most 16",
    );
    refused(
        &wide,
        Dialect::QOperator,
        "x: 17 bits, and onnx-qoperator quantizes to at most 16",
    );
    assert!(onnx::write(&wide, Dialect::Qonnx).is_ok());
    let bit = layer(Rounding::Floor, Numbers::power_of_two(1, true, -4).unwrap());
    refused(
        &bit,
        Dialect::Qonnx,
        "x: 1 bit with sign is -1 and 1 in qonnx, and -1 and 0 here",
    );
    let mut fine = Graph::new();
    let x = Numbers::power_of_two(8, true, -126).unwrap();
    let x = fine.input("x", &[1], x).unwrap();
    refused(&fine, Dialect::Qdq, "outputs: a file has one or more");
    fine.output(x).unwrap();
    assert!(onnx::write(&fine, Dialect::Qdq).is_ok());
    let mut coarse = Graph::new();
    let x = Numbers::power_of_two(8, true, 120).unwrap();
    let x = coarse.input("x", &[1], x).unwrap();
    coarse.output(x).unwrap();
    let message = "x: 8 bits in steps of 2^120 are beyond the floats of a file";
    for dialect in Dialect::ALL {
        refused(&coarse, dialect, message);
        assert_eq!(dialect.to_string().parse::<Dialect>().unwrap(), dialect);
    }
    let error = "onnx".parse::<Dialect>().unwrap_err();
    assert_eq!(
        error,
        "dialect is \"onnx\", expected onnx-qdq, onnx-qoperator or qonnx"
    );
}

/// Two products of 255 and 64 are 32,640, below 2^15; of 255 and 65 they are 33,150.
#[test]
fn pairs_of_products_that_saturate_are_named() {
    for (weight, named) in [(64, false), (-64, false), (65, true), (-128, true)] {
        let mut graph = Graph::new();
        let x = Numbers::power_of_two(8, false, 0).unwrap();
        let x = graph.input("x", &[2], x).unwrap();
        let linear = Linear {
            weights: Weights {
                shape: vec![1, 2],
                numbers: Numbers::power_of_two(8, true, 0).unwrap(),
                values: vec![weight, 1],
            },
            bias: None,
        };
        let y = graph.push("y", linear, &[x]).unwrap();
        graph.output(y).unwrap();
        let certificate = onnx::certificate(&graph, Dialect::QOperator).unwrap();
        assert_eq!(
            certificate.saturates_without_vnni == ["y"],
            named,
            "{weight}"
        );
        assert_eq!(certificate.to_string().contains("VNNI"), named);
    }
}

/// 2^24 + 1 is no `f32`: a sum that reaches it is certified in integers alone.
#[test]
fn sums_beyond_floats_are_named() {
    let mut graph = Graph::new();
    let x = graph
        .input("x", &[3], Numbers::power_of_two(16, true, -8).unwrap())
        .unwrap();
    let linear = Linear {
        weights: Weights {
            shape: vec![1, 3],
            numbers: Numbers::power_of_two(12, true, 0).unwrap(),
            values: vec![256, 256, 1],
        },
        bias: None,
    };
    let sums = graph.push("sums", linear, &[x]).unwrap();
    let output = Numbers::power_of_two(8, true, 9).unwrap();
    let y = graph.push(
        "y",
        Requantize::by_shift(17, Rounding::HalfEven, output),
        &[sums],
    );
    graph.output(y.unwrap()).unwrap();
    // 513 times 2^15.
    let certificate = onnx::certificate(&graph, Dialect::Qdq).unwrap();
    let entry = &certificate.entries[0];
    assert_eq!(entry.verdicts[0], Verdict::Differs);
    assert_eq!(entry.reason, "sums reaches 16809984, f32 holds 2^24");
    assert!(
        onnx::certificate(&graph, Dialect::QOperator)
            .unwrap()
            .is_exact()
    );
}

/// `3 x` of a sum of 4 bits is clipped to 3 bits, -4 to 3: the ends are no multiples of the sum's step,
/// which is 3. Then the file's clip is to -3.5 and 2.5, no width, which are quantized to -4 and 2.
#[test]
fn clips_between_integers_are_read() {
    let mut graph = Graph::new();
    let whole = Numbers::power_of_two(4, true, 0).unwrap();
    let x = graph.input("x", &[1], whole).unwrap();
    let weights = Weights {
        shape: vec![1, 1],
        numbers: Numbers::power_of_two(2, true, 0).unwrap(),
        values: vec![1],
    };
    let linear = Linear {
        weights,
        bias: None,
    };
    let sum = graph.push("sum", linear, &[x]).unwrap();
    let numbers = Numbers::affine(3, true, 1.0, 0).unwrap();
    let requantize = Requantize::by_multiplier(3, 0, Rounding::HalfEven, numbers);
    let y = graph.push("y", requantize, &[sum]).unwrap();
    graph.output(y).unwrap();
    let images: Vec<i64> = (-8..8).collect();
    let integers = |bytes: &[u8]| interpret(&onnx::read(bytes).unwrap(), &[&images]).unwrap();
    let expected = [-4, -4, -4, -4, -4, -4, -4, -3, 0, 3, 3, 3, 3, 3, 3, 3];
    let bytes = onnx::write(&graph, Dialect::Qdq).unwrap();
    assert!(!operators(&read(&bytes)).contains(&"Mul"));
    assert_eq!(integers(&bytes), [expected.to_vec()]);
    let mut model = ModelProto::decode(&bytes[..]).unwrap();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let end = match tensor.name() {
            "y/least" => -3.5f32,
            "y/greatest" => 2.5,
            _ => continue,
        };
        tensor.raw_data = Some(end.to_le_bytes().to_vec());
    }
    let expected = expected.map(|y| y.min(2));
    assert_eq!(integers(&model.encode_to_vec()), [expected.to_vec()]);
}

/// Whether an output of a graph that was read is that of the graph that was written: the same integers.
/// A file has no step of a sum that is not quantized, so that `2 a + 2 b` in steps of 1 is read as
/// `a + b` in steps of 2: where there is such a sum, the same numbers.
fn is_same_output(graphs: [&Graph; 2], index: usize, integers: [&[i64]; 2]) -> bool {
    let numbers = graphs.map(|graph| graph.tensor(graph.outputs()[index]).numbers());
    let nodes = graphs[0].nodes().iter();
    let has_divisor = |node: &Node| match node.operator() {
        Operator::Add(add) => (2..=9).any(|d| add.multipliers.iter().all(|m| m % d == 0)),
        _ => false,
    };
    let divisible = nodes.filter(|node| has_divisor(node)).count();
    let scales = numbers.map(|numbers| numbers.scale());
    if divisible > 0 && scales[0] != scales[1] {
        let real = |k: i64, place: usize| (k - numbers[place].zero_point()) as f64 * scales[place];
        let mut pairs = integers[0].iter().zip(integers[1]);
        // The file's scales are floats.
        let is_near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs();
        return integers[0].len() == integers[1].len()
            && pairs.all(|(&a, &b)| is_near(real(a, 0), real(b, 1)));
    }
    integers[0] == integers[1]
}

/// What is read back has the integers of what was written: whole networks, and the random graphs whose
/// files hold nothing but quantizers and plain operators.
#[test]
fn files_are_read_back() {
    let mut random = Random(21);
    let mut graphs: Vec<Graph> = (0..600).map(|_| random.graph()).collect();
    for bits in [4, 8] {
        let (affine, rounding) = (false, Rounding::HalfEven);
        let scheme = Scheme {
            bits,
            affine,
            rounding,
        };
        graphs.push(residual(scheme, 3));
        graphs.push(layer(rounding, four_bits()));
    }
    let mut same = 0;
    let networks = graphs.len() - 4;
    for (n, graph) in graphs.iter().enumerate() {
        let Ok(bytes) = onnx::write(graph, Dialect::Qdq) else {
            continue;
        };
        let again = match onnx::read(&bytes) {
            Ok(again) => again,
            Err(error) => {
                assert!(n < networks, "{error}");
                assert!(!error.to_string().contains('\n'), "{error}");
                continue;
            }
        };
        let images = random.images(graph, 2);
        let expected = interpret(graph, &slices(&images)).unwrap();
        let found = interpret(&again, &slices(&images)).unwrap();
        assert_eq!(found.len(), expected.len());
        for (index, (old, new)) in expected.iter().zip(&found).enumerate() {
            let alike = is_same_output([graph, &again], index, [old, new]);
            assert!(alike, "output {index}\n{}", graph.to_json());
        }
        same += 1;
    }
    println!("{same} of {} graphs read back", graphs.len());
    assert!(same >= 60, "{same}");
}

/// A network that ONNX Runtime's own tool quantized, with a scale for each tensor and for each channel,
/// read back: its scales are no powers of two, so that a number may be off by one where ONNX Runtime's
/// float comes down on the other side of a half.
#[test]
fn files_of_onnx_runtime_are_read() {
    let Some(python) = variable("LOWBIT_PYTHON") else {
        println!("skipped: LOWBIT_PYTHON names no Python with onnx, onnxruntime and qonnx");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/onnx_quantize.py");
    for channels in [vec![], vec!["per-channel"]] {
        let folder = std::env::temp_dir().join(format!("lowbit-onnx-read-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(&python);
        let command = command.arg(&script).arg(&folder).args(&channels);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let graph = onnx::read(&std::fs::read(folder.join("quantized.onnx")).unwrap()).unwrap();
        let text = std::fs::read_to_string(folder.join("images.json")).unwrap();
        let known: Value = serde_json::from_str(&text).unwrap();
        let integers = |key: &str| {
            let values = known[key].as_array().unwrap().iter();
            values.map(|k| k.as_i64().unwrap()).collect::<Vec<i64>>()
        };
        let found = interpret(&graph, &[&integers("images")]).unwrap();
        let expected = integers("outputs");
        let pairs = found[0].iter().zip(&expected);
        let distances: Vec<i64> = pairs.map(|(a, b)| (a - b).abs()).collect();
        let different = distances.iter().filter(|&&d| d > 0).count();
        println!("{channels:?}: {different} of {} differ", expected.len());
        assert!(distances.iter().all(|&d| d <= 1));
        assert!(different * 100 <= expected.len(), "{different}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn damaged_files_are_refused_in_one_line() {
    let mut random = Random(22);
    let scheme = Scheme {
        bits: 8,
        affine: false,
        rounding: Rounding::HalfEven,
    };
    let files = [residual(scheme, 4), layer(Rounding::HalfEven, four_bits())];
    for (graph, dialect) in files.iter().flat_map(|g| Dialect::ALL.map(|d| (g, d))) {
        let bytes = onnx::write(graph, dialect).unwrap();
        for _ in 0..1_000 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            if random.chance(4) {
                bytes.truncate(random.below(bytes.len()));
            }
            if let Err(error) = onnx::read(&bytes) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

/// An attribute as a number, and as lists of that number.
fn attributes(name: &str, value: i64) -> Vec<AttributeProto> {
    let list = |count: usize| AttributeProto {
        name: Some(name.into()),
        ints: vec![value; count],
        ..AttributeProto::default()
    };
    let mut all: Vec<AttributeProto> = (0..=4).map(list).collect();
    all[0].i = Some(value);
    all
}

/// Files of which one attribute or the shape of one constant is another: they are read, or refused in one
/// line.
#[test]
fn altered_files_are_read_or_refused() {
    let names = "axis block_size output_dtype group transA transB count_include_pad strides pads dilations \
                 kernel_shape to keepdims signed narrow";
    let scheme = Scheme {
        bits: 8,
        affine: false,
        rounding: Rounding::HalfEven,
    };
    let graphs = [residual(scheme, 4), layer(Rounding::Floor, four_bits())];
    for (graph, dialect) in graphs.iter().flat_map(|g| Dialect::ALL.map(|d| (g, d))) {
        let file = read(&onnx::write(graph, dialect).unwrap());
        let values = [i64::MIN, -1, 0, 1, 2, i64::MAX];
        let named = |name: &str| values.map(|value| attributes(name, value)).concat();
        let attributes: Vec<AttributeProto> = names.split(' ').flat_map(named).collect();
        let mut seen = BTreeSet::new();
        let first = |&at: &usize| seen.insert(file.node[at].op_type().to_owned());
        for at in (0..file.node.len()).filter(first) {
            for attribute in &attributes {
                let mut file = file.clone();
                let given = &mut file.node[at].attribute;
                given.retain(|a| a.name() != attribute.name());
                given.push(attribute.clone());
                read_or_refused(file);
            }
        }
        for at in 0..file.initializer.len() {
            let known = &file.initializer[at];
            let reversed = known.dims.iter().rev().copied().collect();
            let longer = [&[1; 5][..], &known.dims].concat();
            for dims in [vec![], vec![0], vec![0, 10], vec![10, 0], longer, reversed] {
                let mut file = file.clone();
                let constant = &mut file.initializer[at];
                if dims.contains(&0) {
                    constant.raw_data = Some(vec![]);
                }
                constant.dims = dims;
                read_or_refused(file);
            }
        }
    }
}

fn read_or_refused(graph: GraphProto) {
    let model = ModelProto {
        graph: Some(graph),
        ..ModelProto::default()
    };
    if let Err(error) = onnx::read(&model.encode_to_vec()) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

/// ONNX's QLinearConv adds a zero point before it rounds: an odd one, which these networks have, moves
/// ties.
fn has_moved_ties(network: &str) -> bool {
    ["lenet-4-affine-HalfEven", "residual-4-affine-HalfEven"].contains(&network)
}

#[test]
fn networks_are_exact() {
    let mut random = Random(23);
    let mut floats = 0;
    for (name, graph) in networks() {
        for dialect in [Dialect::Qdq, Dialect::QOperator] {
            let certificate = match onnx::certificate(&graph, dialect) {
                Ok(certificate) => certificate,
                Err(error) => panic!("{name} {dialect}: {error}"),
            };
            for &runtime in Runtime::of(dialect) {
                let is_numpys = (dialect, runtime) == (Dialect::QOperator, Runtime::Numpy);
                let expected = match is_numpys && has_moved_ties(&name) {
                    true => Verdict::ExactUnlessTie,
                    false => Verdict::Exact,
                };
                let found = certificate.verdict(runtime);
                assert_eq!(found, Some(expected), "{name} {runtime}\n{certificate}");
            }
        }
        let file = read(&onnx::write(&graph, Dialect::QOperator).unwrap());
        for node in graph.nodes() {
            floats += usize::from(is_requantized(&mut random, &graph, &file, node));
        }
    }
    println!("{floats} requantizations in floats");
    assert!(floats >= 40, "{floats}");
}

/// The floats of a constant, of which there is none if it changes nothing.
fn constant_floats(file: &GraphProto, name: &str, neutral: f32) -> Vec<f32> {
    let found = file.initializer.iter().find(|t| t.name() == name);
    let Some(found) = found else {
        return vec![neutral];
    };
    let raw = found.raw_data().chunks_exact(4);
    raw.map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// Whether a file of operators on integers requantizes in floats, which then have the integers of the
/// definition, `round((multiplier s + offset) / 2^shift)`, on sums drawn at random and at the ends.
fn is_requantized(random: &mut Random, graph: &Graph, file: &GraphProto, node: &Node) -> bool {
    let Operator::Requantize(requantize) = node.operator() else {
        return false;
    };
    let of = |node: &Node| file.node.iter().find(|n| n.name() == node.name());
    let made = |n: &&Node| n.output() == node.inputs()[0];
    let (ratio, offset) = match (of(node), graph.nodes().iter().find(made).and_then(of)) {
        (Some(own), _) if own.op_type() == "QuantizeLinear" => (
            constant_floats(file, &format!("{}/Mul/constant", node.name()), 1.0),
            constant_floats(file, &format!("{}/Add/constant", node.name()), 0.0),
        ),
        (_, Some(fused)) if fused.op_type() == "QLinearConv" => {
            let [x, w, y] = [1, 4, 6].map(|at| constant_floats(file, &fused.input[at], 1.0));
            (w.iter().map(|w| x[0] * w / y[0]).collect(), vec![0.0])
        }
        _ => return false,
    };
    fn at<T: Copy>(all: &[T], channel: usize) -> T {
        all[if all.len() == 1 { 0 } else { channel }]
    }
    let (sums, numbers) = (graph.tensor(node.inputs()[0]), requantize.numbers);
    for (c, ends) in sums.intervals().iter().enumerate() {
        let drawn = (0..500).map(|_| random.number(ends.least, ends.greatest));
        for x in drawn.chain([ends.least, ends.greatest]) {
            let sum = x - sums.numbers().zero_point();
            let scaled = at(&requantize.multiplier, c) * sum + at(&requantize.offset, c);
            let rounded = requantize.rounding.shift(scaled, at(&requantize.shift, c));
            let found = (sum as f32 * at(&ratio, c) + at(&offset, c)).round_ties_even() as i64;
            let limited =
                |k: i64| (k + numbers.zero_point()).clamp(numbers.least(), numbers.greatest());
            let name = node.name();
            assert_eq!(limited(found), limited(rounded), "{name}: {sum}");
        }
    }
    true
}

/// A multiplier of 2^62 fits sums that are 0: twice as much is no `i64`, and is not written as a number
/// below zero.
#[test]
fn multipliers_without_a_double_are_written() {
    let mut graph = Graph::new();
    let bits = Numbers::power_of_two(8, true, 0).unwrap();
    let x = graph.input("x", &[1], bits).unwrap();
    let zero = Interval {
        least: 0,
        greatest: 0,
    };
    graph.limit(x, zero).unwrap();
    let numbers = Numbers::affine(32, true, 1.0, 0).unwrap();
    let requantize = Requantize {
        multiplier: vec![1 << 62],
        offset: vec![5],
        shift: vec![0],
        rounding: Rounding::HalfEven,
        numbers,
    };
    let y = graph.push("y", requantize, &[x]).unwrap();
    graph.output(y).unwrap();
    assert_eq!(interpret(&graph, &[&[0]]).unwrap(), [[5]]);
    let file = read(&onnx::write(&graph, Dialect::QOperator).unwrap());
    let constants = file.initializer.iter();
    let mut constants = constants.filter(|t| t.name().starts_with("y/Mul/constant"));
    let constant = constants.next().unwrap().raw_data();
    assert_eq!(constant, i64::MAX.to_le_bytes());
}

/// All sums `64 (a + 255 b)` of numbers of 16 bits, which are all multiples of 64 up to the greatest: a
/// float's step is displaced by more than 16 sums, of which none but multiples of 64 can be.
fn sparse_sums() -> Graph {
    let mut graph = Graph::new();
    let x = Numbers::power_of_two(16, false, 0).unwrap();
    let x = graph.input("x", &[2], x).unwrap();
    let linear = Linear {
        weights: Weights {
            shape: vec![1, 2],
            numbers: Numbers::power_of_two(16, true, 0).unwrap(),
            values: vec![64, 16_320],
        },
        bias: None,
    };
    let sums = graph.push("sums", linear, &[x]).unwrap();
    let output = Numbers::power_of_two(8, false, 0).unwrap();
    let requantize = Requantize::by_multiplier(2_024_673_345, 59, Rounding::HalfEven, output);
    let y = graph.push("y", requantize, &[sums]).unwrap();
    graph.output(y).unwrap();
    graph
}

/// Of inputs of 16 bits, without a bias, and requantized: a `Gemm` whose weights are no bytes for ONNX
/// Runtime, and of which a seven-bit scale would make others.
fn wide_sums() -> Graph {
    let mut graph = Graph::new();
    let x = Numbers::power_of_two(16, false, 0).unwrap();
    let x = graph.input("x", &[4], x).unwrap();
    let weights = Weights {
        shape: vec![2, 4],
        numbers: Numbers::power_of_two(8, true, 0).unwrap(),
        values: vec![100, -3, 77, 1, -99, 50, 2, 31],
    };
    let linear = Linear {
        weights,
        bias: None,
    };
    let sums = graph.push("sums", linear, &[x]).unwrap();
    let output = Numbers::power_of_two(16, true, 9).unwrap();
    let y = graph.push(
        "y",
        Requantize::by_shift(9, Rounding::HalfEven, output),
        &[sums],
    );
    graph.output(y.unwrap()).unwrap();
    graph
}

/// ONNX Runtime makes bytes of the weights of a `Gemm` between quantizers, and of their scale what it
/// finds (`weight_bias_quantization.cc`), but for one whose bias is dequantized.
#[test]
fn weights_that_are_no_bytes_stay_what_they_are() {
    let file = read(&onnx::write(&wide_sums(), Dialect::Qdq).unwrap());
    let gemm = file.node.iter().find(|node| node.op_type() == "Gemm");
    let bias = gemm.unwrap().input.get(2).expect("a bias");
    let maker = file.node.iter().find(|node| node.output[0] == *bias);
    assert_eq!(maker.unwrap().op_type(), "DequantizeLinear");
    let bias = &maker.unwrap().input[0];
    let zeros = file.initializer.iter().find(|tensor| tensor.name() == bias);
    assert_eq!(zeros.unwrap().raw_data(), [0; 8]);
}

/// 1,152 products of bytes, of which half are beyond 2^24 together, and are no floats then.
fn long_sums() -> Graph {
    let mut random = Random(3);
    let mut graph = Graph::new();
    let x = Numbers::power_of_two(8, false, 0).unwrap();
    let x = graph.input("x", &[128, 3, 3], x).unwrap();
    let weights = Weights {
        shape: vec![4, 128, 3, 3],
        numbers: Numbers::power_of_two(8, true, 0).unwrap(),
        values: (0..4 * 1_152).map(|_| random.number(97, 127)).collect(),
    };
    let sums = graph.push("sums", Convolution::new(weights, None), &[x]);
    let output = Numbers::affine(8, false, 1.0, 0).unwrap();
    let requantize = Requantize::by_multiplier(5, 19, Rounding::HalfEven, output);
    let y = graph.push("y", requantize, &[sums.unwrap()]).unwrap();
    graph.output(y).unwrap();
    graph
}

#[test]
fn sums_that_are_far_apart_are_tried() {
    let graph = sparse_sums();
    assert_eq!(interpret(&graph, &[&[210, 61_060]]).unwrap(), [[3]]);
    let file = read(&onnx::write(&graph, Dialect::QOperator).unwrap());
    if operators(&file).contains(&"Div") {
        return;
    }
    let constant = |name: &str| file.initializer.iter().find(|t| t.name() == name);
    assert!(constant("y/Add/constant").is_none());
    let ratio = constant("y/Mul/constant").unwrap().raw_data();
    let ratio = f32::from_le_bytes(ratio.try_into().unwrap());
    for sum in (0..=256 * 65_535).map(|k: i64| 64 * k) {
        let (scaled, half) = (2_024_673_345 * sum, 1i64 << 58);
        let (floor, rest) = (scaled >> 59, scaled & ((1 << 59) - 1));
        let expected = floor + i64::from(rest > half || rest == half && floor % 2 == 1);
        let found = (sum as f32 * ratio).round_ties_even() as i64;
        assert_eq!(found, expected, "{sum}");
    }
}

/// A convolution of one pixel whose sums are halved: input, weight and output in the steps given.
fn halved(input: Numbers, weight: Numbers, output: Numbers) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", &[1, 1, 1], input).unwrap();
    let weights = Weights {
        shape: vec![1, 1, 1, 1],
        numbers: weight,
        values: vec![1],
    };
    let sums = graph
        .push("sums", Convolution::new(weights, None), &[x])
        .unwrap();
    let requantize = Requantize::by_shift(1, Rounding::HalfEven, output);
    let y = graph.push("y", requantize, &[sums]).unwrap();
    graph.output(y).unwrap();
    graph
}

/// A step of 10^30 becomes one of 10^-30, or of 2^100 one of 10^-30 by weights in steps of 2^-120.
fn distant_steps() -> [Graph; 2] {
    let byte = |scale| Numbers::affine(8, false, scale, 0).unwrap();
    let power = |exponent| Numbers::power_of_two(8, true, exponent).unwrap();
    [
        halved(byte(1e30), power(0), byte(1e-30)),
        halved(byte(1e30), power(-120), byte(1e-30)),
    ]
}

/// All scales are numbers that are not lost, and that of a fused convolution is a half.
#[test]
fn steps_far_from_each_other_are_no_zeros() {
    for graph in distant_steps() {
        for dialect in [Dialect::Qdq, Dialect::QOperator] {
            let file = read(&onnx::write(&graph, dialect).unwrap());
            let scale = |name: &str| {
                let tensor = file.initializer.iter().find(|t| t.name() == name).unwrap();
                f32::from_le_bytes(tensor.raw_data().try_into().unwrap())
            };
            let is_factor = |t: &&TensorProto| {
                ["scale", "factor"]
                    .iter()
                    .any(|end| t.name().ends_with(end))
            };
            for tensor in file.initializer.iter().filter(is_factor) {
                let value = scale(tensor.name());
                assert!(value.is_normal(), "{dialect} {}: {value}", tensor.name());
            }
            let mut nodes = file.node.iter();
            if let Some(fused) = nodes.find(|n| n.op_type() == "QLinearConv") {
                let [x, w, y] = [1, 4, 6].map(|at| scale(&fused.input[at]));
                assert_eq!(x * w / y, 0.5);
            }
        }
    }
}

#[test]
fn weights_beyond_floats_are_refused() {
    let power = |bits, exponent| Numbers::power_of_two(bits, true, exponent).unwrap();
    let whole = Numbers::affine(8, true, 1.0, 0).unwrap();
    let tiny = Numbers::affine(4, true, 1e-60, 0).unwrap();
    let coarse = halved(power(8, -26), power(4, 126), whole);
    let fine = halved(power(8, 100), tiny, whole);
    for dialect in Dialect::ALL {
        refused(
            &coarse,
            dialect,
            "sums: weights of 4 bits in steps of 2^126 are beyond the floats of a file",
        );
        refused(
            &fine,
            dialect,
            "sums: weights of 4 bits in steps of 2^-199 are beyond the floats of a file",
        );
    }
}
