//! ONNX files: their structure, and the integers that runtimes make of them.

use std::path::Path;
use std::process::Command;

use lowbit_int::onnx::{self, Dialect, Options, Runtime, Ties, Verdict};
use lowbit_int::ops::{
    Add, AveragePool, Convolution, Flatten, Linear, LookUp, MaxPool, Rectifier, Requantize,
    Sliding, Weights, Windows,
};
use lowbit_int::{Graph, Numbers, Rounding, TensorId, interpret};
use serde_json::{Value, json};

use super::random::{Random, slices};

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
    net.graph
}

/// Networks of the kinds that are deployed.
fn networks() -> Vec<(String, Graph)> {
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
            format!("residual-{bits}-{kind}-{rounding:?}"),
            residual(scheme, seed),
        ));
    }
    networks
}

/// Requantizations one after the other, which nothing separates.
fn chain(random: &mut Random) -> Graph {
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
    let images = random.images(graph, 3);
    let outputs = interpret(graph, &slices(&images)).unwrap();
    let input = |(&id, values): (&TensorId, &Vec<i64>)| {
        tensor_json(graph, id, graph.tensor(id).name(), values)
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
        "certificate": serde_json::to_value(&certificate).unwrap(),
    }))
}

/// The files of networks and of random graphs in ONNX Runtime, ONNX's reference evaluator and QONNX's
/// executor: nothing that is certified as exact may differ.
#[test]
fn runtimes_have_the_same_bits() {
    let Ok(python) = std::env::var("LOWBIT_PYTHON") else {
        println!("skipped: LOWBIT_PYTHON names no Python with onnx, onnxruntime and qonnx");
        return;
    };
    let random_graphs = std::env::var("LOWBIT_GRAPHS").map_or(200, |n| n.parse().unwrap());
    let folder = std::env::temp_dir().join(format!("lowbit-onnx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut random = Random(14);
    let mut graphs = networks();
    for n in 0..random_graphs / 5 {
        graphs.push((format!("chain-{n}"), chain(&mut random)));
    }
    for n in 0..random_graphs {
        graphs.push((format!("random-{n}"), random.graph()));
    }
    let mut lines = String::new();
    for (name, graph) in &graphs {
        for dialect in Dialect::ALL {
            for ties in [Ties::Exact, Ties::ToEven] {
                if (dialect, ties) == (Dialect::QOperator, Ties::ToEven) {
                    continue;
                }
                let options = Options { dialect, ties };
                if let Some(case) = case(&folder, name, graph, options, &mut random) {
                    lines += &format!("{case}\n");
                }
            }
        }
    }
    std::fs::write(folder.join("cases.jsonl"), lines).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/onnx_runtimes.py");
    let mut command = Command::new(python);
    let output = command.arg(script).arg(&folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", folder.display());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn networks_are_exact() {
    for (name, graph) in networks() {
        for dialect in [Dialect::Qdq, Dialect::QOperator] {
            let certificate = match onnx::certificate(&graph, dialect) {
                Ok(certificate) => certificate,
                Err(error) => panic!("{name} {dialect}: {error}"),
            };
            for &runtime in Runtime::of(dialect) {
                assert_eq!(
                    certificate.verdict(runtime),
                    Some(Verdict::Exact),
                    "{name}\n{certificate}"
                );
            }
        }
    }
}
