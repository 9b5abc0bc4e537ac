//! Files of quantized networks, read back as integers.

mod add;
mod bias;
mod clip;
mod concat;
mod constant;
mod dequantize;
mod elementwise;
mod fit;
mod held;
mod input;
mod mul;
mod pairs;
mod pool;
mod product;
mod qlinear;
mod qonnx;
mod quantize;
mod quantizer;
mod state;
mod table;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;

use super::QONNX_DOMAIN;
use super::proto::{Dimension, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::error::GraphError;
use crate::graph::{Graph, TensorId};
use crate::numbers::Numbers;
use crate::ops::{Flatten, Operator, Requantize, Rounding};
use constant::{Constant, elements, integer};
use elementwise::Part;
use held::{Held, Kind, Step};
use input::Entering;

/// The network of integers of a file with quantization operators: of floats between `QuantizeLinear` and
/// `DequantizeLinear` (`onnx-qdq`), of operators on integers and ONNX Runtime's `QLinear` operators
/// (`onnx-qoperator`), or with `Quant` nodes (`qonnx`), as [`write`](super::write) makes them and as
/// quantization tools do. `docs/onnx.md` lists the operators.
///
/// What a file computes on integers and rounds in floats is read as a multiplier and a shift that make the
/// same integers of every sum that can be, which is tried at each step of the output; if there is none,
/// the node is refused. Sums of floats whose order changes their bits have no such integers; there the
/// quotient of scales is taken as it is, as a multiplier and a shift, rounded to 31 bits where it has more.
///
/// Integers are those of the file or, of bytes without sign whose zero is 128, those with sign. A file has
/// no step of a sum that is not quantized: `2 a + 2 b` in steps of 1 is read as `a + b` in steps of 2.
///
/// A clip whose ends are integers in steps of what it clips is a clamp there, and elsewhere one of what
/// the next quantizer makes, which has to follow.
///
/// # Errors
///
/// One line: if the bytes are no ONNX file, or with the node's name, what is not such a network.
pub fn read(bytes: &[u8]) -> Result<Graph, GraphError> {
    let failed = |reason: &str| GraphError::file(Path::new("ONNX"), reason);
    let model = ModelProto::decode(bytes).map_err(|error| failed(&error.to_string()))?;
    let file = model.graph.ok_or_else(|| failed("holds no graph"))?;
    let mut reader = Reader::new(&file);
    reader.constants()?;
    for input in &file.input {
        // Older files list their constants among the inputs.
        if !reader.known.contains_key(input.name()) {
            reader.input(input)?;
        }
    }
    for at in reader.order() {
        if reader.done.contains(&at) {
            continue;
        }
        let node = &file.node[at];
        let name = if node.name().is_empty() {
            node.op_type()
        } else {
            node.name()
        };
        let known = reader
            .node(node)
            .map_err(|reason| GraphError::node(name, reason))?;
        let output = node.output.first().cloned().unwrap_or_default();
        reader.known.insert(output, known);
    }
    for output in &file.output {
        let id = reader
            .output(output.name())
            .map_err(|reason| GraphError::node(output.name(), reason))?;
        reader.graph.output(id)?;
    }
    Ok(reader.graph)
}

/// What is known of a value.
#[derive(Clone)]
enum Known {
    Input(Entering),
    Held(Held),
    Constant(Constant),
    /// A part of what several nodes do together.
    Part(Part),
}

struct Reader<'f> {
    file: &'f GraphProto,
    graph: Graph,
    known: HashMap<String, Known>,
    /// The nodes that read a value.
    readers: HashMap<&'f str, Vec<usize>>,
    /// Nodes that were read with one before them.
    done: HashSet<usize>,
}

/// Numbers with a scale, as an exponent if it is a power of two.
fn numbers(bits: u32, signed: bool, scale: f64, zero_point: i64) -> Result<Numbers, String> {
    let exponent = scale.log2();
    if zero_point == 0 && exponent.fract() == 0.0 {
        return Numbers::power_of_two(bits, signed, exponent as i32);
    }
    Numbers::affine(bits, signed, scale, zero_point)
}

/// A ratio as a multiplier of at most 31 bits and a shift.
fn multiplier_and_shift(ratio: f64) -> Result<(i64, u32), String> {
    let fails = || format!("a ratio of scales is {ratio}, beyond 2^-62 to 2^31");
    if !(ratio > (-62f64).exp2() && ratio < 31f64.exp2()) {
        return Err(fails());
    }
    let mut shift = 30 - ratio.log2().floor() as i32;
    let mut multiplier = (ratio * f64::from(shift).exp2()).round() as i64;
    while multiplier % 2 == 0 && shift > 0 {
        (multiplier, shift) = (multiplier / 2, shift - 1);
    }
    if shift < 0 {
        (multiplier, shift) = (multiplier << -shift, 0);
    }
    let shift = u32::try_from(shift).ok().filter(|&shift| shift <= 62);
    Ok((multiplier, shift.ok_or_else(fails)?))
}

impl<'f> Reader<'f> {
    fn new(file: &'f GraphProto) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, node) in file.node.iter().enumerate() {
            for input in &node.input {
                readers.entry(input).or_default().push(at);
            }
        }
        Self {
            file,
            graph: Graph::new(),
            known: HashMap::new(),
            readers,
            done: HashSet::new(),
        }
    }

    fn constants(&mut self) -> Result<(), GraphError> {
        for tensor in &self.file.initializer {
            let constant = elements(tensor);
            let constant = constant.ok_or_else(|| {
                GraphError::node(tensor.name(), "is no constant of known type and size")
            })?;
            self.known
                .insert(tensor.name().into(), Known::Constant(constant));
        }
        Ok(())
    }

    fn input(&mut self, input: &ValueInfoProto) -> Result<(), GraphError> {
        let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| &s.dim[..]);
        let shape = dims
            .unwrap_or_default()
            .iter()
            .skip(1)
            .map(|d| match d.value {
                Some(Dimension::Size(size)) => usize::try_from(size).ok(),
                _ => None,
            });
        let shape: Option<Vec<usize>> = shape.collect();
        let shape = shape.ok_or_else(|| {
            GraphError::node(input.name(), "only the first dimension may be free")
        })?;
        let known = Known::Input(Entering::new(input.name(), shape));
        self.known.insert(input.name().into(), known);
        Ok(())
    }

    /// The nodes in their order, but first those that quantize inputs: a graph's inputs are before its
    /// nodes.
    fn order(&self) -> Vec<usize> {
        let mut early: HashSet<&str> = self.known.keys().map(String::as_str).collect();
        let mut constant: HashSet<&str> = HashSet::new();
        constant.extend(self.file.initializer.iter().map(|t| t.name()));
        let (mut first, mut then) = (vec![], vec![]);
        for (at, node) in self.file.node.iter().enumerate() {
            let is_constant = node.input.iter().all(|i| constant.contains(i.as_str()));
            let is_early = node.input.iter().all(|i| early.contains(i.as_str()));
            let outputs = node.output.iter().map(String::as_str);
            if is_constant {
                constant.extend(outputs.clone());
            }
            let quantizes = matches!(node.op_type(), "QuantizeLinear" | "Quant" | "BipolarQuant");
            if is_early && (is_constant || !quantizes) {
                early.extend(outputs);
            }
            if is_early { &mut first } else { &mut then }.push(at);
        }
        first.extend(then);
        first
    }

    fn get(&self, node: &NodeProto, at: usize) -> Result<&Known, String> {
        let name = node.input.get(at).ok_or(format!("has no input {at}"))?;
        self.known.get(name).ok_or(format!("{name} is not known"))
    }

    /// Whether a node has an input, which may be left out by an empty name.
    fn has(node: &NodeProto, at: usize) -> bool {
        node.input.get(at).is_some_and(|name| !name.is_empty())
    }

    fn held(&self, node: &NodeProto, at: usize) -> Result<Held, String> {
        match self.get(node, at)? {
            Known::Held(held) => Ok(held.clone()),
            _ => Err(format!("{} is not quantized", node.input[at])),
        }
    }

    /// A value that stands for real numbers, and its scales.
    fn real(&self, node: &NodeProto, at: usize) -> Result<(Held, Vec<f64>), String> {
        let (held, scale) = self.signed_real(node, at)?;
        if scale.iter().any(|&s| s < 0.0) {
            return Err("a factor is not above 0".into());
        }
        Ok((held, scale))
    }

    /// The same with a scale that may be below zero.
    fn signed_real(&self, node: &NodeProto, at: usize) -> Result<(Held, Vec<f64>), String> {
        let held = self.held(node, at)?;
        if held.kind != Kind::Float {
            return Err(format!("{} is not quantized", node.input[at]));
        }
        if held.steps.iter().any(|step| matches!(step, Step::Clip(..))) {
            return Err("a clip of a sum comes before anything but a quantizer".into());
        }
        let scale = held.product().ok_or(format!(
            "{} is rounded or moved before anything but a quantizer",
            node.input[at]
        ))?;
        Ok((held, scale))
    }

    fn constant(&self, node: &NodeProto, at: usize) -> Result<Constant, String> {
        match self.get(node, at)? {
            Known::Constant(constant) => Ok(constant.clone()),
            _ => Err(format!("{} is no constant", node.input[at])),
        }
    }

    /// What a scalar constant stands for.
    fn scalar(&self, node: &NodeProto, at: usize) -> Result<f64, String> {
        match self.constant(node, at)?.reals()[..] {
            [value] => Ok(value),
            _ => Err(format!("{} has more than one element", node.input[at])),
        }
    }

    /// A scalar of integers; 0 if the input is left out.
    fn zero_point(&self, node: &NodeProto, at: usize) -> Result<i64, String> {
        if !Self::has(node, at) {
            return Ok(0);
        }
        Ok(self.scalar(node, at)? as i64)
    }

    /// The only node that reads a value, which is no output.
    fn only_reader(&self, value: &str) -> Option<usize> {
        let [at] = self.readers.get(value)?[..] else {
            return None;
        };
        let mut outputs = self.file.output.iter();
        (!outputs.any(|output| output.name() == value)).then_some(at)
    }

    /// Adds a node to the graph, under the name of the file's.
    fn push(
        &mut self,
        node: &NodeProto,
        operator: impl Into<Operator>,
        inputs: &[TensorId],
    ) -> Result<TensorId, String> {
        let name = self.name(node);
        self.push_as(&name, operator, inputs)
    }

    /// What a node of the file is called in the graph.
    fn name(&self, node: &NodeProto) -> String {
        let output = node.output.first().map_or("", String::as_str);
        let free = |name: &&str| !name.is_empty() && self.graph.find(name).is_none();
        match [node.name(), output].into_iter().find(free) {
            Some(name) => name.into(),
            None => self.unique(output),
        }
    }

    /// A name that nothing has.
    fn unique(&self, name: &str) -> String {
        let mut names = (2..).map(|n| format!("{name}_{n}"));
        if self.graph.find(name).is_none() {
            return name.into();
        }
        let free = names.find(|name| self.graph.find(name).is_none());
        free.unwrap_or_default()
    }

    fn push_as(
        &mut self,
        name: &str,
        operator: impl Into<Operator>,
        inputs: &[TensorId],
    ) -> Result<TensorId, String> {
        let pushed = self.graph.push(name, operator, inputs);
        pushed.map_err(|error| match error {
            GraphError::Node { reason, .. } | GraphError::File { reason, .. } => reason,
        })
    }

    /// Adds a requantization. Powers of two whose exponents do not say what the file computes are scales
    /// like others.
    fn push_requantize(
        &mut self,
        name: &str,
        requantize: Requantize,
        input: TensorId,
    ) -> Result<TensorId, String> {
        let numbers = requantize.numbers;
        let free = Numbers::affine(numbers.bits(), numbers.signed(), numbers.scale(), 0);
        let as_it_is = self.push_as(name, requantize.clone(), &[input]);
        if as_it_is.is_ok() || numbers.exponent().is_none() {
            return as_it_is;
        }
        let requantize = Requantize {
            numbers: free?,
            ..requantize
        };
        self.push_as(name, requantize, &[input])
    }

    /// The same integers `k - zero_point + moved` as other numbers that hold them, counted from theirs.
    fn restated(
        &mut self,
        name: &str,
        id: TensorId,
        numbers: Numbers,
        moved: i64,
    ) -> Result<TensorId, String> {
        let name = self.unique(name);
        let requantize = Requantize {
            multiplier: vec![1],
            offset: vec![moved],
            shift: vec![0],
            rounding: Rounding::HalfEven,
            numbers,
        };
        self.push_requantize(&name, requantize, id)
    }

    /// The tensor of an output, with the scale that the file gives it.
    fn output(&mut self, name: &str) -> Result<TensorId, String> {
        let held = match self.known.get(name) {
            Some(Known::Held(held)) if held.kind == Kind::Float => held.clone(),
            _ => return Err("is no tensor with a scale".into()),
        };
        let scale = held
            .product()
            .ok_or("is rounded or moved after its last quantizer")?;
        if scale.iter().any(|&s| s < 0.0) {
            return Err("has a scale below 0".into());
        }
        let tensor = self.graph.tensor(held.id);
        let (numbers, interval) = (tensor.numbers(), tensor.interval());
        let is_near = |scale: f64| (numbers.scale() / scale - 1.0).abs() <= 1e-6;
        if scale.len() > 1 || is_near(scale[0]) || interval.bits() > 32 || numbers.bits() > 32 {
            return Ok(held.id);
        }
        let (bits, zero) = (numbers.bits(), numbers.zero_point());
        let numbers = if zero == 0 {
            self::numbers(bits, numbers.signed(), scale[0], 0)?
        } else {
            Numbers::affine(bits, numbers.signed(), scale[0], zero)?
        };
        self.restated(name, held.id, numbers, 0)
    }

    fn node(&mut self, node: &'f NodeProto) -> Result<Known, String> {
        match (node.domain(), node.op_type()) {
            ("" | "ai.onnx", _) => {}
            ("com.microsoft", "QuantizeLinear" | "DequantizeLinear") => {}
            ("com.microsoft", _) => return self.qlinear(node),
            (QONNX_DOMAIN | "onnx.brevitas" | "finn.custom_op.general", "Quant") => {
                return self.quant(node);
            }
            (QONNX_DOMAIN | "onnx.brevitas" | "finn.custom_op.general", "BipolarQuant") => {
                return self.bipolar(node);
            }
            (domain, op) => return Err(format!("{op} of {domain} is not read")),
        }
        match node.op_type() {
            "Identity" => self.get(node, 0).cloned(),
            "Constant" => self.constant_node(node),
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "Clip" => self.clip(node),
            "Conv" | "ConvTranspose" => self.convolution(node),
            "ConvInteger" => self.integer_convolution(node),
            "MatMulInteger" => self.integer_product(node),
            "Gemm" | "MatMul" => self.linear(node),
            "Add" | "Sub" => self.add(node),
            "Mul" => self.mul(node),
            "Relu" => self.relu(node),
            "Flatten" if integer(node, "axis").unwrap_or(1) == 1 => {
                self.same_scale(node, Flatten {})
            }
            "Reshape" => self.reshape(node),
            "MaxPool" => self.max_pool(node),
            "AveragePool" | "GlobalAveragePool" => self.average(node),
            "Concat" => self.concat(node),
            "QLinearConv" | "QLinearMatMul" => self.qlinear(node),
            "Gather" => self.gather(node),
            "ReduceMax" => self.reduce_max(node),
            "Cast" | "Div" | "Mod" | "Equal" | "Less" | "Floor" | "Round" | "Sign" | "Abs" => {
                self.elementwise(node)
            }
            other => Err(format!("{other} is not read")),
        }
    }

    /// A constant that is a node.
    fn constant_node(&self, node: &NodeProto) -> Result<Known, String> {
        let value = node.attribute.iter().find(|a| a.name() == "value");
        let tensor = value.and_then(|value| value.t.as_ref());
        let constant = tensor.and_then(elements);
        let constant = constant.ok_or("is no constant of known type and size")?;
        Ok(Known::Constant(constant))
    }
}
