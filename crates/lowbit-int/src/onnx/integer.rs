//! Files of operators on integers.
//!
//! Every sum is a sum of integers. A requantization is done in floats where that has the integers' bits
//! for all sums that can be, by `QLinearConv` where it follows a convolution, and else in integers of
//! 64 bits. So the whole file has the interpreter's bits, or is not written.
//!
//! Integers of at most 8 bits are held as bytes without sign, those with sign 128 higher, so that all
//! runtimes have the operators.

use std::collections::HashSet;

use super::float::{average_matrices, convolution_attributes, flipped, max_by_gather, storage};
use super::float::{checked_output_padding, transposed, window_attributes};
use super::input::rounded;
use super::model::{Attribute, Model, sizes};
use super::plan::{EXACT, magnitude, readers};
use super::proto::{DataType, ModelProto};
use super::requantize::{Agreement, Arithmetic, Fit, Form};
use super::shift::shifted;
use super::{Dialect, ExportError, windows};
use crate::graph::{Graph, Node, TensorId};
use crate::numbers::Numbers;
use crate::ops::{
    Add, AveragePool, Clamp, Concat, Convolution, Linear, MaxPool, Operator, Requantize, Weights,
};
use crate::tensor::Tensor;

/// The file of a graph.
pub(super) fn write(graph: &Graph) -> Result<ModelProto, ExportError> {
    let mut writer = Writer {
        graph,
        model: Model::new(graph),
        values: vec![None; graph.tensors().len()],
        fused: HashSet::new(),
    };
    for &id in graph.inputs() {
        writer.input(id)?;
    }
    for node in graph.nodes() {
        writer.node(node)?;
    }
    for &id in graph.outputs() {
        writer.output(id);
    }
    Ok(writer.model.finish(Dialect::QOperator))
}

/// Integers `k` as `k + shift`.
#[derive(Clone)]
struct Value {
    integers: String,
    data_type: DataType,
    shift: i64,
}

/// How integers of a width are held: as bytes, 16 bits, or 64.
fn held(numbers: Numbers) -> (DataType, i64) {
    match (storage(numbers), numbers.signed()) {
        (Some(DataType::Int8), _) => (DataType::Uint8, 128),
        (Some(data_type), _) => (data_type, 0),
        (None, _) => (DataType::Int64, 0),
    }
}

/// The greatest magnitude of a tensor's integers, and of those counted from its zero point.
fn reach(tensor: &Tensor) -> u64 {
    tensor.interval().magnitude().max(magnitude(tensor))
}

struct Writer<'g> {
    graph: &'g Graph,
    model: Model,
    values: Vec<Option<Value>>,
    /// Requantizations that are part of a `QLinearConv`.
    fused: HashSet<TensorId>,
}

impl<'g> Writer<'g> {
    fn input(&mut self, id: TensorId) -> Result<(), ExportError> {
        let tensor = self.graph.tensor(id);
        let (name, numbers) = (tensor.name(), tensor.numbers());
        let (value, scale) = rounded(&mut self.model, self.graph, id);
        let (data_type, shift) = held(numbers);
        if data_type == DataType::Int64 {
            let bits = numbers.bits();
            let reason = format!("{bits} bits, and onnx-qoperator quantizes to at most 16");
            return Err(ExportError::new(name, reason));
        }
        let integers = self.quantize(name, &value, numbers, scale as f32, false);
        let mut value = Value {
            integers,
            data_type,
            shift,
        };
        if !matches!(numbers.bits(), 8 | 16) {
            value = self.limited(
                name,
                value,
                Some(numbers.least()),
                Some(numbers.greatest()),
                false,
            );
        }
        self.values[id.0] = Some(value);
        Ok(())
    }

    /// `QuantizeLinear` to how the numbers are held.
    fn quantize(
        &mut self,
        name: &str,
        value: &str,
        numbers: Numbers,
        scale: f32,
        main: bool,
    ) -> String {
        let (data_type, shift) = held(numbers);
        let zero = numbers.zero_point() + shift;
        let scale = self.model.floats(&format!("{name}/scale"), &[], &[scale]);
        let zero = self
            .model
            .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]);
        let inputs = [value, &scale, &zero];
        if main {
            self.model.main("QuantizeLinear", name, &inputs, vec![])
        } else {
            self.model.node("QuantizeLinear", name, &inputs, vec![])
        }
    }

    fn output(&mut self, id: TensorId) {
        let graph = self.graph;
        let tensor = graph.tensor(id);
        let (name, numbers) = (tensor.name(), tensor.numbers());
        let value = self.value(id);
        let scale = self.model.floats(
            &format!("{name}/output_scale"),
            &[],
            &[numbers.scale() as f32],
        );
        let real = if matches!(value.data_type, DataType::Int32 | DataType::Int64) {
            let integers = self.centered(id, value.data_type);
            let float = self.cast(name, &integers, DataType::Float);
            self.model.node("Mul", name, &[&float, &scale], vec![])
        } else {
            let zero = numbers.zero_point() + value.shift;
            let zero_name = format!("{name}/output_zero_point");
            let zero = self
                .model
                .integers(&zero_name, value.data_type, &[], &[zero]);
            let inputs = [&value.integers, &scale, &zero].map(String::as_str);
            self.model.node("DequantizeLinear", name, &inputs, vec![])
        };
        self.model
            .output(tensor, &real, graph.inputs().contains(&id));
    }

    fn value(&self, id: TensorId) -> Value {
        let value = self.values[id.0].clone();
        value.expect("every tensor is written before it is read")
    }

    fn cast(&mut self, name: &str, value: &str, to: DataType) -> String {
        self.model.cast(name, value, to)
    }

    fn with(
        &mut self,
        op: &str,
        name: &str,
        value: &str,
        constants: &[i64],
        data_type: DataType,
        rank: usize,
    ) -> String {
        let constants = (constants, data_type);
        self.model.with_integers(op, name, value, constants, rank)
    }

    /// A tensor's `k - zero_point` in 32 or 64 bits.
    fn centered(&mut self, id: TensorId, data_type: DataType) -> String {
        let tensor = self.graph.tensor(id);
        let (name, zero) = (tensor.name(), tensor.numbers().zero_point());
        let value = self.value(id);
        let mut integers = value.integers;
        if value.data_type != data_type {
            integers = self.cast(name, &integers, data_type);
        }
        self.with("Sub", name, &integers, &[zero + value.shift], data_type, 0)
    }

    /// The type in which a node's sums are added: of 32 bits if all of them fit.
    fn sum_type(&self, node: &Node) -> DataType {
        let most = self.most(node);
        if most < 1 << 31 {
            DataType::Int32
        } else {
            DataType::Int64
        }
    }

    /// The greatest magnitude of a node's inputs, partial sums and output.
    fn most(&self, node: &Node) -> u64 {
        let inputs = self.graph.inputs_of(node);
        let output = self.graph.tensor(node.output());
        let bounds = node.operator().operation().bounds(&inputs, output.shape());
        let partial = bounds
            .iter()
            .flatten()
            .map(|bound| bound.partial.magnitude());
        let reaches = inputs.iter().copied().chain([output]).map(reach);
        partial.chain(reaches).max().unwrap_or(0)
    }

    fn node(&mut self, node: &Node) -> Result<(), ExportError> {
        let value = match node.operator() {
            Operator::Requantize(_) if self.fused.contains(&node.output()) => return Ok(()),
            Operator::Convolution(convolution) => {
                if self.fuse(node, convolution) {
                    return Ok(());
                }
                self.convolution(node, convolution)?
            }
            Operator::Requantize(requantize) => self.requantize(node, requantize),
            Operator::Linear(linear) => self.linear(node, linear),
            Operator::Add(add) => self.add(node, add),
            Operator::Mul(_) => self.product(node),
            Operator::AveragePool(pool) => self.average(node, pool),
            Operator::Concat(concat) => self.concat(node, concat),
            Operator::MaxPool(pool) => self.max_pool(node, pool),
            Operator::Rectifier(_) => {
                let zero = self.graph.tensor(node.output()).numbers().zero_point();
                let value = self.value(node.inputs()[0]);
                self.limited(node.name(), value, Some(zero), None, true)
            }
            Operator::Clamp(Clamp { least, greatest }) => {
                let value = self.value(node.inputs()[0]);
                self.limited(node.name(), value, Some(*least), Some(*greatest), true)
            }
            Operator::Flatten(_) => {
                let value = self.value(node.inputs()[0]);
                let axis = vec![Attribute::Int("axis", 1)];
                let integers = self
                    .model
                    .main("Flatten", node.name(), &[&value.integers], axis);
                Value { integers, ..value }
            }
            Operator::LookUp(look_up) => {
                let least = self.graph.tensor(node.inputs()[0]).numbers().least();
                let shape = [look_up.table.len()];
                self.gather(node, least, look_up.numbers, &shape, &look_up.table)
            }
            Operator::Embedding(embedding) => {
                let Weights {
                    shape,
                    numbers,
                    values,
                } = &embedding.weights;
                self.gather(node, 0, *numbers, shape, values)
            }
        };
        self.values[node.output().0] = Some(value);
        Ok(())
    }

    /// A clip of integers; those of 16 bits, which runtimes do not clip, become 32.
    fn limited(
        &mut self,
        name: &str,
        value: Value,
        least: Option<i64>,
        greatest: Option<i64>,
        main: bool,
    ) -> Value {
        let mut value = value;
        if matches!(value.data_type, DataType::Int16 | DataType::Uint16) {
            value.integers = self.cast(name, &value.integers, DataType::Int32);
            value.data_type = DataType::Int32;
        }
        let mut inputs = vec![value.integers];
        for (end, what) in [(least, "least"), (greatest, "greatest")] {
            let Some(end) = end else { continue };
            let end = [end + value.shift];
            inputs.push(
                self.model
                    .integers(&format!("{name}/{what}"), value.data_type, &[], &end),
            );
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let integers = if main {
            self.model.main("Clip", name, &inputs, vec![])
        } else {
            self.model.node("Clip", name, &inputs, vec![])
        };
        Value { integers, ..value }
    }

    fn convolution(
        &mut self,
        node: &Node,
        convolution: &Convolution,
    ) -> Result<Value, ExportError> {
        let (name, id) = (node.name(), node.inputs()[0]);
        let most = self.most(node);
        let value = self.value(id);
        let attributes = convolution_attributes(convolution);
        let weights = &convolution.weights;
        let bytes = self.are_bytes(&value, weights) && most < 1 << 31;
        if bytes && convolution.transposed.is_none() {
            let sum = self.integer_product("ConvInteger", node, weights, attributes);
            let rank = self.graph.tensor(node.output()).shape().len();
            let bias = convolution.bias.clone().unwrap_or_else(|| vec![0]);
            return Ok(Value {
                integers: self.with("Add", name, &sum, &bias, DataType::Int32, rank),
                data_type: DataType::Int32,
                shift: 0,
            });
        }
        let weight = weights.values.iter().map(|w| w.unsigned_abs()).max();
        if most.max(weight.unwrap_or(0)) >= EXACT {
            let reason = format!(
                "a convolution of more than 8 bits, or transposed, whose sums reach {most}; floats \
                 hold 2^24"
            );
            return Err(ExportError::new(name, reason));
        }
        checked_output_padding(name, convolution)?;
        let x = self.centered(id, DataType::Int32);
        let x = self.cast(name, &x, DataType::Float);
        let floats = |values: &[i64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let values = floats(&weights.values);
        let mut inputs = vec![
            x,
            self.model
                .floats(&format!("{name}/weight"), &weights.shape, &values),
        ];
        if let Some(bias) = &convolution.bias {
            inputs.push(
                self.model
                    .floats(&format!("{name}/bias"), &[bias.len()], &floats(bias)),
            );
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let op = match &convolution.transposed {
            None => "Conv",
            Some(_) => "ConvTranspose",
        };
        let sum = self.model.main(op, name, &inputs, attributes);
        Ok(Value {
            integers: self.cast(name, &sum, DataType::Int32),
            data_type: DataType::Int32,
            shift: 0,
        })
    }

    /// Whether a product is one of bytes.
    fn are_bytes(&self, value: &Value, weights: &Weights) -> bool {
        value.data_type == DataType::Uint8 && weights.numbers.bits() <= 8
    }

    fn weights(&mut self, name: &str, weights: &Weights) -> String {
        let data_type = if weights.numbers.signed() {
            DataType::Int8
        } else {
            DataType::Uint8
        };
        let name = format!("{name}/weight");
        self.model
            .integers(&name, data_type, &weights.shape, &weights.values)
    }

    /// `ConvInteger` or `MatMulInteger` of bytes.
    fn integer_product(
        &mut self,
        op: &str,
        node: &Node,
        weights: &Weights,
        attributes: Vec<Attribute>,
    ) -> String {
        let (name, id) = (node.name(), node.inputs()[0]);
        let value = self.value(id);
        let zero = self.graph.tensor(id).numbers().zero_point() + value.shift;
        let weight = self.weights(name, weights);
        let zero_name = format!("{name}/input_zero_point");
        let zero = self
            .model
            .integers(&zero_name, DataType::Uint8, &[], &[zero]);
        self.model
            .main(op, name, &[&value.integers, &weight, &zero], attributes)
    }

    /// The only requantization that reads a convolution, and the factors of its sums, if one operator
    /// for both has the integers' bits.
    fn fusable(
        &self,
        node: &Node,
        convolution: &Convolution,
    ) -> Option<(&'g Node, Numbers, Vec<f32>)> {
        let graph = self.graph;
        let value = self.value(node.inputs()[0]);
        let (readers, is_output) = readers(graph, node);
        let [reader] = readers[..] else {
            return None;
        };
        let Operator::Requantize(requantize) = reader.operator() else {
            return None;
        };
        let fits = self.are_bytes(&value, &convolution.weights) && self.most(node) < 1 << 31;
        let plain = convolution.transposed.is_none() && !is_output;
        let no_offset = requantize.offset.iter().all(|&offset| offset == 0);
        if !fits || !plain || !no_offset || requantize.numbers.bits() > 8 {
            return None;
        }
        let fit = self.fit(requantize, graph.tensor(node.output()));
        let moved = fit.arithmetic.iter().any(|a| a.offset != 0.0);
        if fit.agreement != Agreement::Same || moved {
            return None;
        }
        let ratios = fit.arithmetic.iter().map(|a| a.ratio);
        Some((reader, requantize.numbers, ratios.collect()))
    }

    /// A convolution and its requantization as one operator, if that has the integers' bits. Answers
    /// whether it has.
    fn fuse(&mut self, node: &Node, convolution: &Convolution) -> bool {
        let Some((reader, numbers, ratios)) = self.fusable(node, convolution) else {
            return false;
        };
        let (graph, name, id) = (self.graph, node.name(), node.inputs()[0]);
        let value = self.value(id);
        let count = ratios.len();
        let shape: &[usize] = if count > 1 { &[count] } else { &[] };
        let zero = graph.tensor(id).numbers().zero_point() + value.shift;
        let (_, shift) = held(numbers);
        let weight_type = if convolution.weights.numbers.signed() {
            DataType::Int8
        } else {
            DataType::Uint8
        };
        let model = &mut self.model;
        let mut byte = |what: &str, zero: i64, data_type| {
            model.integers(&format!("{name}/{what}"), data_type, &[], &[zero])
        };
        let zeros = [
            byte("input_zero_point", zero, DataType::Uint8),
            byte("weight_zero_point", 0, weight_type),
            byte(
                "output_zero_point",
                numbers.zero_point() + shift,
                DataType::Uint8,
            ),
        ];
        // The runtime multiplies with input scale * weight scale / output scale. The tensors' steps may be
        // so far apart that a weight's scale would be lost; so there is the ratio alone.
        let scales = [
            model.floats(&format!("{name}/input_scale"), &[], &[1.0]),
            model.floats(&format!("{name}/weight_scale"), shape, &ratios),
            model.floats(&format!("{name}/output_scale"), &[], &[1.0]),
        ];
        let weight = self.weights(name, &convolution.weights);
        let mut inputs = vec![value.integers, scales[0].clone(), zeros[0].clone(), weight];
        inputs.extend([&scales[1], &zeros[1], &scales[2], &zeros[2]].map(String::clone));
        if let Some(bias) = &convolution.bias {
            let bias_name = format!("{name}/bias");
            inputs.push(
                self.model
                    .integers(&bias_name, DataType::Int32, &[bias.len()], bias),
            );
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = convolution_attributes(convolution);
        let mut made = Value {
            integers: self.model.main("QLinearConv", name, &inputs, attributes),
            data_type: DataType::Uint8,
            shift,
        };
        if numbers.bits() < 8 {
            let ends = [numbers.least(), numbers.greatest()].map(Some);
            made = self.limited(reader.name(), made, ends[0], ends[1], true);
        }
        self.values[reader.output().0] = Some(made);
        self.fused.insert(reader.output());
        true
    }

    /// `QuantizeLinear` of the sum times a float plus another.
    fn fit(&self, requantize: &Requantize, sums: &Tensor) -> Fit {
        let numbers = requantize.numbers;
        Fit::of(requantize, sums, requantize.channels(), true, |channel| {
            let (multiplier, offset, shift) = requantize.constants(channel);
            let unit = f64::from(-(shift as i32)).exp2();
            Arithmetic {
                step: 1.0,
                ratio: (multiplier as f64 * unit) as f32,
                offset: (offset as f64 * unit) as f32,
                output: 1.0,
                form: Form::Quantize,
                zero_point: numbers.zero_point(),
                least: numbers.least(),
                greatest: numbers.greatest(),
            }
        })
    }

    fn requantize(&mut self, node: &Node, requantize: &Requantize) -> Value {
        let (id, numbers) = (node.inputs()[0], requantize.numbers);
        let sums = self.graph.tensor(id);
        if storage(numbers).is_none() {
            return self.by_integers(node, requantize);
        }
        let fit = self.fit(requantize, sums);
        if fit.agreement != Agreement::Same {
            return self.by_integers(node, requantize);
        }
        let (name, rank) = (node.name(), sums.shape().len());
        let data_type = if reach(sums) < 1 << 31 {
            DataType::Int32
        } else {
            DataType::Int64
        };
        let sum = self.centered(id, data_type);
        let mut value = self.cast(name, &sum, DataType::Float);
        let ratio: Vec<f32> = fit.arithmetic.iter().map(|a| a.ratio).collect();
        let offset: Vec<f32> = fit.arithmetic.iter().map(|a| a.offset).collect();
        let count = ratio.len();
        for (op, constants, neutral) in [("Mul", ratio, 1.0), ("Add", offset, 0.0)] {
            if constants.iter().all(|&c| c == neutral) {
                continue;
            }
            let mut shape = vec![1; rank];
            shape[0] = count;
            let shape: &[usize] = if count > 1 { &shape } else { &[] };
            let constant = self
                .model
                .floats(&format!("{name}/{op}/constant"), shape, &constants);
            value = self.model.node(op, name, &[&value, &constant], vec![]);
        }
        if !matches!(numbers.bits(), 8 | 16) {
            let ends = [numbers.least(), numbers.greatest()];
            let ends = ends.map(|k| (k - numbers.zero_point()) as f32);
            let least = self.model.floats(&format!("{name}/least"), &[], &[ends[0]]);
            let greatest = self
                .model
                .floats(&format!("{name}/greatest"), &[], &[ends[1]]);
            value = self
                .model
                .node("Clip", name, &[&value, &least, &greatest], vec![]);
        }
        let (data_type, shift) = held(numbers);
        Value {
            integers: self.quantize(name, &value, numbers, 1.0, true),
            data_type,
            shift,
        }
    }

    fn by_integers(&mut self, node: &Node, requantize: &Requantize) -> Value {
        let (name, rank) = (node.name(), self.graph.tensor(node.output()).shape().len());
        let (data_type, shift) = held(requantize.numbers);
        let x = self.centered(node.inputs()[0], DataType::Int64);
        let integers = shifted(&mut self.model, name, &x, requantize, rank, shift);
        let integers = match data_type {
            DataType::Int64 => integers,
            _ => self.cast(name, &integers, data_type),
        };
        Value {
            integers,
            data_type,
            shift,
        }
    }

    fn linear(&mut self, node: &Node, linear: &Linear) -> Value {
        let (name, id) = (node.name(), node.inputs()[0]);
        let data_type = self.sum_type(node);
        let weights = transposed(&linear.weights);
        let value = self.value(id);
        let sum = if self.are_bytes(&value, &weights) && data_type == DataType::Int32 {
            self.integer_product("MatMulInteger", node, &weights, vec![])
        } else {
            let x = self.centered(id, data_type);
            let weight_name = format!("{name}/weight");
            let weight =
                self.model
                    .integers(&weight_name, data_type, &weights.shape, &weights.values);
            self.model.main("MatMul", name, &[&x, &weight], vec![])
        };
        let integers = match &linear.bias {
            Some(bias) => self.with("Add", name, &sum, bias, data_type, 1),
            None => sum,
        };
        Value {
            integers,
            data_type,
            shift: 0,
        }
    }

    fn add(&mut self, node: &Node, add: &Add) -> Value {
        let (name, data_type) = (node.name(), self.sum_type(node));
        let mut operands = Vec::new();
        for (&id, &multiplier) in node.inputs().iter().zip(&add.multipliers) {
            let x = self.centered(id, data_type);
            operands.push(self.with("Mul", name, &x, &[multiplier], data_type, 0));
        }
        let [a, b] = [&operands[0], &operands[1]];
        Value {
            integers: self.model.main("Add", name, &[a, b], vec![]),
            data_type,
            shift: 0,
        }
    }

    fn product(&mut self, node: &Node) -> Value {
        let data_type = self.sum_type(node);
        let [a, b] = [0, 1].map(|i| self.centered(node.inputs()[i], data_type));
        Value {
            integers: self.model.main("Mul", node.name(), &[&a, &b], vec![]),
            data_type,
            shift: 0,
        }
    }

    fn average(&mut self, node: &Node, pool: &AveragePool) -> Value {
        let (name, id, data_type) = (node.name(), node.inputs()[0], self.sum_type(node));
        let x = self.centered(id, data_type);
        let matrices = average_matrices(pool, self.graph.tensor(id).shape());
        let mut matrices = matrices.into_iter().rev();
        let (rows, values) = matrices.next().expect("an image has a dimension");
        let shape = [rows, values.len() / rows];
        let matrix = self
            .model
            .integers(&format!("{name}/columns"), data_type, &shape, &values);
        let mut value = self.model.main("MatMul", name, &[&x, &matrix], vec![]);
        for (rows, values) in matrices {
            let shape = [values.len() / rows, rows];
            let values = flipped(rows, &values);
            let matrix = self
                .model
                .integers(&format!("{name}/rows"), data_type, &shape, &values);
            value = self.model.node("MatMul", name, &[&matrix, &value], vec![]);
        }
        Value {
            integers: value,
            data_type,
            shift: 0,
        }
    }

    fn concat(&mut self, node: &Node, concat: &Concat) -> Value {
        let values: Vec<Value> = node.inputs().iter().map(|&id| self.value(id)).collect();
        let form = |value: &Value| (value.data_type, value.shift);
        let mut made = values[0].clone();
        let alike = values.iter().all(|value| form(value) == form(&made));
        if !alike {
            (made.data_type, made.shift) = (DataType::Int64, 0);
        }
        let mut inputs = Vec::new();
        for value in values {
            let mut integers = value.integers;
            if !alike {
                let name = node.name();
                integers = self.cast(name, &integers, DataType::Int64);
                integers = self.with("Sub", name, &integers, &[value.shift], DataType::Int64, 0);
            }
            inputs.push(integers);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let axis = vec![Attribute::Int("axis", concat.axis as i64 + 1)];
        made.integers = self.model.main("Concat", node.name(), &inputs, axis);
        made
    }

    fn max_pool(&mut self, node: &Node, pool: &MaxPool) -> Value {
        let mut value = self.value(node.inputs()[0]);
        let image = self.graph.tensor(node.inputs()[0]).shape();
        let name = node.name();
        if let (DataType::Uint8, Some(plain)) =
            (value.data_type, windows::plain(&pool.windows, image))
        {
            let mut attributes = window_attributes(&plain.kernel, &plain.sliding);
            attributes.push(Attribute::Ints("dilations", sizes(&plain.sliding.dilation)));
            value.integers = self
                .model
                .main("MaxPool", name, &[&value.integers], attributes);
            return value;
        }
        if matches!(value.data_type, DataType::Int16 | DataType::Uint16) {
            value.integers = self.cast(name, &value.integers, DataType::Int32);
            value.data_type = DataType::Int32;
        }
        let integers = max_by_gather(&mut self.model, name, &value.integers, &pool.windows, image);
        Value { integers, ..value }
    }

    /// Rows of a table, the first of which is for `least`.
    fn gather(
        &mut self,
        node: &Node,
        least: i64,
        numbers: Numbers,
        shape: &[usize],
        table: &[i64],
    ) -> Value {
        let name = node.name();
        let value = self.value(node.inputs()[0]);
        let index = self.cast(name, &value.integers, DataType::Int32);
        let first = [least + value.shift];
        let index = self.with("Sub", name, &index, &first, DataType::Int32, 0);
        let (data_type, shift) = held(numbers);
        let table: Vec<i64> = table.iter().map(|v| v + shift).collect();
        let table = self
            .model
            .integers(&format!("{name}/table"), data_type, shape, &table);
        Value {
            integers: self.model.main("Gather", name, &[&table, &index], vec![]),
            data_type,
            shift,
        }
    }
}
