//! Files of floats: quantizers between operators on the real numbers that integers stand for.

use std::collections::HashMap;

use super::model::{Attribute, Model, sizes};
use super::plan::{Plan, Planned, source};
use super::proto::{DataType, ModelProto};
use super::requantize::Form;
use super::shift::shifted;
use super::steps::{self, power};
use super::windows;
use super::{Dialect, ExportError, Options};
use crate::graph::{Graph, Node, TensorId};
use crate::numbers::Numbers;
use crate::ops::{
    Add, AveragePool, Clamp, Concat, Convolution, Embedding, Linear, LookUp, MaxPool, Operator,
    Requantize, Rounding, Sliding, Weights, Windows,
};

/// The file of a graph.
pub(super) fn write(graph: &Graph, options: Options) -> Result<ModelProto, ExportError> {
    let exponents = steps::exponents(graph);
    let mut writer = Writer {
        graph,
        dialect: options.dialect,
        plans: plans(graph, &exponents, options),
        exponents,
        model: Model::new(graph),
        values: vec![Value::default(); graph.tensors().len()],
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
    Ok(writer.model.finish(options.dialect))
}

/// The plan of every requantization, by the tensor it makes.
pub(super) fn plans(graph: &Graph, exponents: &[i32], options: Options) -> HashMap<TensorId, Plan> {
    let nodes = graph.nodes().iter();
    let plans = nodes.filter_map(|node| match node.operator() {
        Operator::Requantize(requantize) => {
            let planned = Planned {
                graph,
                node,
                requantize,
                exponents,
            };
            Some((node.output(), planned.plan(options)))
        }
        _ => None,
    });
    plans.collect()
}

/// The type that holds integers of a width, if a quantizer makes it.
pub(super) fn storage(numbers: Numbers) -> Option<DataType> {
    match (numbers.bits(), numbers.signed()) {
        (..=8, false) => Some(DataType::Uint8),
        (..=8, true) => Some(DataType::Int8),
        (..=16, false) => Some(DataType::Uint16),
        (..=16, true) => Some(DataType::Int16),
        _ => None,
    }
}

/// Whether a type has integers that the numbers have not.
fn is_narrow(numbers: Numbers) -> bool {
    !matches!(numbers.bits(), 8 | 16)
}

/// Steps below which a clip is kept away from `QuantizeLinear`: ONNX Runtime leaves a clip out whose
/// ends are within 2^-23 of its type's, which ends that differ by 64 steps are below 2^-29.
const FUSED_CLIP: f32 = 1.0 / 1_048_576.0;

fn too_wide(name: &str, numbers: Numbers, dialect: Dialect) -> ExportError {
    let bits = numbers.bits();
    let reason = format!("{bits} bits, and {dialect} quantizes to at most 16");
    ExportError::new(name, reason)
}

/// What has been written of a tensor.
#[derive(Clone, Default)]
struct Value {
    float: Option<String>,
    stored: Option<Stored>,
}

/// Integers with their scale and zero point.
#[derive(Clone)]
struct Stored {
    integers: String,
    scale: String,
    zero_point: String,
}

/// What numbers are brought to.
struct Target {
    numbers: Numbers,
    exponent: i32,
    /// The scale of what comes, if it is not the step.
    scale: Option<f32>,
    /// Whether what comes may be beyond the numbers, but not beyond their type.
    clip: bool,
}

struct Writer<'g> {
    graph: &'g Graph,
    dialect: Dialect,
    exponents: Vec<i32>,
    plans: HashMap<TensorId, Plan>,
    model: Model,
    values: Vec<Value>,
}

impl Writer<'_> {
    fn input(&mut self, id: TensorId) -> Result<(), ExportError> {
        let tensor = self.graph.tensor(id);
        let (name, numbers) = (tensor.name(), tensor.numbers());
        let mut value = self.model.input(tensor);
        let mut scale = numbers.scale() as f32;
        let step = power(self.exponents[id.0]);
        if self.dialect == Dialect::Qdq && is_narrow(numbers) && scale < FUSED_CLIP {
            value = self.times(name, &value, &[scale.recip()]);
            scale = 1.0;
        }
        let target = Target {
            numbers,
            exponent: self.exponents[id.0],
            scale: (scale != step).then_some(scale),
            clip: true,
        };
        if self.dialect == Dialect::Qonnx {
            if scale != step {
                let ratio = (f64::from(step) / numbers.scale()) as f32;
                value = self.times(name, &value, &[ratio]);
            }
            let quantized = self.quant(name, &value, numbers, &[step], &[], Rounding::HalfEven)?;
            self.values[id.0].float = Some(quantized);
        } else {
            let (stored, _) = self.quantize(name, &value, &target, false)?;
            self.values[id.0].stored = Some(stored);
        }
        Ok(())
    }

    fn output(&mut self, id: TensorId) {
        let graph = self.graph;
        let tensor = graph.tensor(id);
        let (name, numbers) = (tensor.name(), tensor.numbers());
        let step = power(self.exponents[id.0]);
        let scale = numbers.scale();
        let stored = self.values[id.0].stored.clone();
        let value = match stored {
            _ if f64::from(step) == scale => self.float(id),
            Some(stored) => {
                let scale =
                    self.model
                        .floats(&format!("{name}/output_scale"), &[], &[scale as f32]);
                let inputs = [&stored.integers, &scale, &stored.zero_point];
                let inputs = inputs.map(String::as_str);
                self.model.node("DequantizeLinear", name, &inputs, vec![])
            }
            None => {
                let value = self.float(id);
                self.times(name, &value, &[(scale / f64::from(step)) as f32])
            }
        };
        self.model
            .output(tensor, &value, graph.inputs().contains(&id));
    }

    /// A tensor's real numbers.
    fn float(&mut self, id: TensorId) -> String {
        let value = &self.values[id.0];
        if let Some(float) = &value.float {
            return float.clone();
        }
        let stored = value
            .stored
            .clone()
            .expect("every tensor is written in some form");
        let name = self.graph.tensor(id).name();
        let inputs = [&stored.integers, &stored.scale, &stored.zero_point].map(String::as_str);
        let float = self.model.node("DequantizeLinear", name, &inputs, vec![]);
        self.values[id.0].float = Some(float.clone());
        float
    }

    /// A tensor's integers.
    fn integers(&mut self, id: TensorId) -> Result<String, ExportError> {
        let tensor = self.graph.tensor(id);
        if let Some(stored) = &self.values[id.0].stored {
            return Ok(stored.integers.clone());
        }
        let float = self.float(id);
        let target = Target {
            numbers: tensor.numbers(),
            exponent: self.exponents[id.0],
            scale: None,
            clip: false,
        };
        if self.dialect == Dialect::Qonnx {
            let (name, zero) = (tensor.name(), tensor.numbers().zero_point());
            let value = self.times(name, &float, &[power(-target.exponent)]);
            return Ok(self.plus(name, &value, &[zero as f32]));
        }
        let (stored, _) = self.quantize(tensor.name(), &float, &target, false)?;
        let integers = stored.integers.clone();
        self.values[id.0].stored = Some(stored);
        Ok(integers)
    }

    fn node(&mut self, node: &Node) -> Result<(), ExportError> {
        let value = match node.operator() {
            Operator::Requantize(requantize) => return self.requantize(node, requantize),
            Operator::LookUp(look_up) => return self.look_up(node, look_up),
            Operator::Embedding(embedding) => return self.embedding(node, embedding),
            Operator::Convolution(convolution) => self.convolution(node, convolution)?,
            Operator::Linear(linear) => self.linear(node, linear)?,
            Operator::Add(add) => self.add(node, add),
            Operator::Mul(_) => self.unchanged(node, "Mul", vec![]),
            Operator::AveragePool(pool) => self.average(node, pool),
            Operator::Rectifier(_) => self.unchanged(node, "Relu", vec![]),
            Operator::Flatten(_) => {
                self.unchanged(node, "Flatten", vec![Attribute::Int("axis", 1)])
            }
            Operator::Clamp(clamp) => self.clamp(node, clamp),
            Operator::MaxPool(pool) => self.max_pool(node, pool),
            Operator::Concat(concat) => self.concat(node, concat),
        };
        let output = node.output();
        let numbers = self.graph.tensor(output).numbers();
        let keeps = matches!(
            node.operator(),
            Operator::Rectifier(_)
                | Operator::Flatten(_)
                | Operator::Clamp(_)
                | Operator::MaxPool(_)
                | Operator::Concat(_)
        );
        let stored = |id: &TensorId| self.values[id.0].stored.is_some();
        if keeps && node.inputs().iter().all(stored) {
            let target = Target {
                numbers,
                exponent: self.exponents[output.0],
                scale: None,
                clip: false,
            };
            let (stored, _) = self.quantize(node.name(), &value, &target, false)?;
            self.values[output.0].stored = Some(stored);
        } else {
            self.values[output.0].float = Some(value);
        }
        Ok(())
    }

    /// An operator of ONNX that does the same to real numbers.
    fn unchanged(&mut self, node: &Node, op: &str, attributes: Vec<Attribute>) -> String {
        let inputs: Vec<String> = node.inputs().iter().map(|&id| self.float(id)).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.model.main(op, node.name(), &inputs, attributes)
    }

    /// A product with a constant, or one of each channel, of a tensor that has the rank.
    fn times(&mut self, name: &str, value: &str, factors: &[f32]) -> String {
        self.with_constant("Mul", name, value, factors, 1, 1.0)
    }

    fn plus(&mut self, name: &str, value: &str, terms: &[f32]) -> String {
        self.with_constant("Add", name, value, terms, 1, 0.0)
    }

    /// An operator with constants, one for all or one for each index of the first of `rank`
    /// dimensions; nothing if they change nothing.
    fn with_constant(
        &mut self,
        op: &str,
        name: &str,
        value: &str,
        constants: &[f32],
        rank: usize,
        neutral: f32,
    ) -> String {
        if constants.iter().all(|&c| c == neutral) {
            return value.into();
        }
        let mut shape = vec![];
        if constants.len() > 1 {
            shape = vec![1; rank];
            shape[0] = constants.len();
        }
        let role = if op == "Mul" { "factor" } else { "term" };
        let constant = self
            .model
            .floats(&format!("{name}/{role}"), &shape, constants);
        self.model.node(op, name, &[value, &constant], vec![])
    }

    /// `QuantizeLinear`, after a clip where the type holds more than the numbers. `main` gives it the
    /// name itself. Also answers the clipped value.
    fn quantize(
        &mut self,
        name: &str,
        value: &str,
        target: &Target,
        main: bool,
    ) -> Result<(Stored, String), ExportError> {
        let numbers = target.numbers;
        let Some(data_type) = storage(numbers) else {
            return Err(too_wide(name, numbers, self.dialect));
        };
        let step = power(target.exponent);
        let mut value = value.to_owned();
        if target.clip && is_narrow(numbers) {
            let scale = target.scale.unwrap_or(step);
            value = self.clip(name, &value, numbers, scale);
        }
        let zero = numbers.zero_point();
        let zero_point =
            self.model
                .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]);
        let scale = self.model.floats(&format!("{name}/scale"), &[], &[step]);
        let given = target.scale.map(|scale| {
            self.model
                .floats(&format!("{name}/input_scale"), &[], &[scale])
        });
        let inputs = [&value, given.as_ref().unwrap_or(&scale), &zero_point].map(String::as_str);
        let integers = if main {
            self.model.main("QuantizeLinear", name, &inputs, vec![])
        } else {
            self.model.node("QuantizeLinear", name, &inputs, vec![])
        };
        let stored = Stored {
            integers,
            scale,
            zero_point,
        };
        Ok((stored, value))
    }

    /// A clip to the least and greatest real number.
    fn clip(&mut self, name: &str, value: &str, numbers: Numbers, scale: f32) -> String {
        let end = |k: i64| (k - numbers.zero_point()) as f32 * scale;
        let least = self
            .model
            .floats(&format!("{name}/least"), &[], &[end(numbers.least())]);
        let greatest = end(numbers.greatest());
        let greatest = self
            .model
            .floats(&format!("{name}/greatest"), &[], &[greatest]);
        self.model
            .node("Clip", name, &[value, &least, &greatest], vec![])
    }

    /// QONNX's quantizer. Of scales there is one, or one for each index of a dimension, with `shape`.
    fn quant(
        &mut self,
        name: &str,
        value: &str,
        numbers: Numbers,
        scales: &[f32],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<String, ExportError> {
        if numbers.bits() == 1 && numbers.signed() {
            let reason = "1 bit with sign is -1 and 1 in qonnx, and -1 and 0 here";
            return Err(ExportError::new(name, reason));
        }
        let scale = self.model.floats(&format!("{name}/scale"), shape, scales);
        let zero = numbers.zero_point() as f32;
        let zero = self
            .model
            .floats(&format!("{name}/zero_point"), &[], &[zero]);
        let bits = numbers.bits() as f32;
        let bits = self
            .model
            .floats(&format!("{name}/bit_width"), &[], &[bits]);
        let rounding = match rounding {
            Rounding::HalfEven => "ROUND",
            // QONNX's name for half away from zero.
            Rounding::HalfAway | Rounding::HalfUp => "HALF_UP",
            Rounding::Floor => "FLOOR",
        };
        let attributes = vec![
            Attribute::Int("signed", numbers.signed().into()),
            Attribute::Int("narrow", 0),
            Attribute::Text("rounding_mode", rounding),
        ];
        let inputs = [value, &scale, &zero, &bits];
        Ok(self.model.qonnx("Quant", name, &inputs, attributes))
    }

    fn requantize(&mut self, node: &Node, requantize: &Requantize) -> Result<(), ExportError> {
        let (name, id) = (node.name(), node.output());
        let plan = self.plans[&id].clone();
        let rank = self.graph.tensor(id).shape().len();
        let mut value = self.float(node.inputs()[0]);
        if plan.form == Form::Integers {
            return self.by_integers(node, requantize, &value);
        }
        value = self.with_constant("Mul", name, &value, &plan.ratio, rank, 1.0);
        value = self.with_constant("Add", name, &value, &plan.offset, rank, 0.0);
        let (numbers, exponent) = (requantize.numbers, self.exponents[id.0]);
        let mut clip = true;
        if let Form::Explicit(rounding) = plan.form {
            value = self.round(name, &value, rounding);
            value = self.clip(name, &value, numbers, 1.0);
            value = self.times(name, &value, &[power(exponent)]);
            clip = false;
        } else if self.dialect == Dialect::Qdq && is_narrow(numbers) && power(exponent) < FUSED_CLIP
        {
            value = self.times(name, &value, &[power(-exponent)]);
            value = self.clip(name, &value, numbers, 1.0);
            value = self.times(name, &value, &[power(exponent)]);
            clip = false;
        }
        if self.dialect == Dialect::Qonnx {
            let rounding = match plan.form {
                Form::ZeroFirst(rounding) => rounding,
                _ => Rounding::HalfEven,
            };
            let scale = [power(exponent)];
            let value = self.quant(name, &value, numbers, &scale, &[], rounding)?;
            self.values[id.0].float = Some(value);
            return Ok(());
        }
        let target = Target {
            numbers,
            exponent,
            scale: None,
            clip,
        };
        let (stored, _) = self.quantize(name, &value, &target, true)?;
        self.values[id.0].stored = Some(stored);
        Ok(())
    }

    /// A requantization that no float can be trusted with.
    fn by_integers(
        &mut self,
        node: &Node,
        requantize: &Requantize,
        value: &str,
    ) -> Result<(), ExportError> {
        let (name, id, numbers) = (node.name(), node.output(), requantize.numbers);
        let Some(data_type) = storage(numbers) else {
            return Err(too_wide(name, numbers, self.dialect));
        };
        let rank = self.graph.tensor(id).shape().len();
        let steps = power(-self.exponents[node.inputs()[0].0]);
        let whole = self.times(name, value, &[steps]);
        let whole = self.model.cast(name, &whole, DataType::Int64);
        let integers = shifted(&mut self.model, name, &whole, requantize, rank, 0);
        let integers = self.model.cast(name, &integers, data_type);
        let step = power(self.exponents[id.0]);
        let zero = numbers.zero_point();
        self.values[id.0].stored = Some(Stored {
            integers,
            scale: self.model.floats(&format!("{name}/scale"), &[], &[step]),
            zero_point: self
                .model
                .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]),
        });
        Ok(())
    }

    /// Rounds to whole numbers.
    fn round(&mut self, name: &str, value: &str, rounding: Rounding) -> String {
        match rounding {
            Rounding::HalfEven => self.model.node("Round", name, &[value], vec![]),
            Rounding::Floor => self.model.node("Floor", name, &[value], vec![]),
            Rounding::HalfUp => {
                let value = self.plus(name, value, &[0.5]);
                self.model.node("Floor", name, &[&value], vec![])
            }
            Rounding::HalfAway => {
                let sign = self.model.node("Sign", name, &[value], vec![]);
                let magnitude = self.model.node("Abs", name, &[value], vec![]);
                let magnitude = self.plus(name, &magnitude, &[0.5]);
                let magnitude = self.model.node("Floor", name, &[&magnitude], vec![]);
                self.model.node("Mul", name, &[&sign, &magnitude], vec![])
            }
        }
    }

    /// The weights' real numbers, with a ratio for all or for each index of `axis`. In a product
    /// of matrices what meets other than bytes is not `quantized`: ONNX Runtime takes
    /// `DequantizeLinear` of weights alone for a request to round the other operand to 8 bits too
    /// (`MatMulNBits`).
    fn weights(
        &mut self,
        name: &str,
        weights: &Weights,
        ratio: &[f64],
        axis: usize,
        quantized: bool,
    ) -> Result<String, ExportError> {
        let (numbers, shape) = (weights.numbers, &weights.shape);
        let step = f64::from(power(steps::nearest(numbers)));
        let scales: Vec<f32> = ratio.iter().map(|ratio| (step * ratio) as f32).collect();
        let name = format!("{name}/weight");
        if self.dialect == Dialect::Qonnx {
            return self.quantized_weights(&name, weights, &scales, axis);
        }
        let data_type = match storage(numbers) {
            Some(data_type) => data_type,
            None if weights.values.iter().all(|&w| i32::try_from(w).is_ok()) => DataType::Int32,
            None => return Err(ExportError::new(&name, "a weight is beyond int32")),
        };
        let values = &weights.values;
        let value = self.model.integers(&name, data_type, shape, values);
        if !quantized {
            let to = vec![Attribute::Int("to", DataType::Float as i64)];
            let value = self.model.node("Cast", &name, &[&value], to);
            let rank = shape.len() - axis;
            return Ok(self.with_constant("Mul", &name, &value, &scales, rank, 1.0));
        }
        Ok(self.dequantize(&name, &value, &scales, axis))
    }

    /// Weights as floats that `Quant` leaves as they are, with a scale for all or for each index of
    /// `axis`.
    fn quantized_weights(
        &mut self,
        name: &str,
        weights: &Weights,
        scales: &[f32],
        axis: usize,
    ) -> Result<String, ExportError> {
        let (numbers, shape) = (weights.numbers, &weights.shape);
        let stride: usize = shape[axis + 1..].iter().product();
        let mut scale_shape = vec![];
        if scales.len() > 1 {
            scale_shape = vec![1; shape.len()];
            scale_shape[axis] = scales.len();
        }
        let scale = |at: usize| scales[at / stride % shape[axis] % scales.len()];
        let values = weights.values.iter().enumerate();
        let values: Vec<f32> = values.map(|(at, &w)| w as f32 * scale(at)).collect();
        let value = self.model.floats(name, shape, &values);
        self.quant(
            name,
            &value,
            numbers,
            scales,
            &scale_shape,
            Rounding::HalfEven,
        )
    }

    /// `DequantizeLinear` of constants whose zero is 0.
    fn dequantize(&mut self, name: &str, value: &str, scales: &[f32], axis: usize) -> String {
        let (mut shape, mut attributes) = (vec![], vec![]);
        if scales.len() > 1 {
            shape = vec![scales.len()];
            attributes = vec![Attribute::Int("axis", axis as i64)];
        }
        let scale = self.model.floats(&format!("{name}/scale"), &shape, scales);
        self.model
            .node("DequantizeLinear", name, &[value, &scale], attributes)
    }

    /// A bias in units of the sum, with the weights' ratio.
    fn bias(&mut self, node: &Node, bias: &[i64], ratio: &[f64]) -> Result<String, ExportError> {
        let step = f64::from(power(self.exponents[node.output().0]));
        let scales: Vec<f32> = ratio.iter().map(|ratio| (step * ratio) as f32).collect();
        if let Some(b) = bias.iter().find(|&&b| i32::try_from(b).is_err()) {
            return Err(ExportError::new(
                node.name(),
                format!("a bias is {b}, beyond int32"),
            ));
        }
        let name = format!("{}/bias", node.name());
        if self.dialect == Dialect::Qonnx {
            let scale = |o: usize| scales[if scales.len() > 1 { o } else { 0 }];
            let values: Vec<f32> = bias
                .iter()
                .enumerate()
                .map(|(o, &b)| b as f32 * scale(o))
                .collect();
            let value = self.model.floats(&name, &[bias.len()], &values);
            let shape: Vec<usize> = if scales.len() > 1 {
                vec![scales.len()]
            } else {
                vec![]
            };
            let numbers = Numbers::power_of_two(32, true, 0)
                .map_err(|reason| ExportError::new(node.name(), reason))?;
            return self.quant(&name, &value, numbers, &scales, &shape, Rounding::HalfEven);
        }
        let value = self
            .model
            .integers(&name, DataType::Int32, &[bias.len()], bias);
        Ok(self.dequantize(&name, &value, &scales, 0))
    }

    /// What a sum's weights are scaled with for the requantization that reads it.
    fn folded(&self, node: &Node) -> Vec<f64> {
        let graph = self.graph;
        let reader = graph
            .nodes()
            .iter()
            .find(|n| n.inputs().contains(&node.output()));
        let Some(reader) = reader else {
            return vec![1.0];
        };
        match (reader.operator(), self.plans.get(&reader.output())) {
            (Operator::Requantize(requantize), Some(plan)) if plan.folded => {
                let planned = Planned {
                    graph,
                    node: reader,
                    requantize,
                    exponents: &self.exponents,
                };
                (0..planned.channels()).map(|c| planned.ratio(c)).collect()
            }
            _ => vec![1.0],
        }
    }

    fn convolution(
        &mut self,
        node: &Node,
        convolution: &Convolution,
    ) -> Result<String, ExportError> {
        checked_output_padding(node.name(), convolution)?;
        let ratio = self.folded(node);
        let x = self.float(node.inputs()[0]);
        let weight = self.weights(node.name(), &convolution.weights, &ratio, 0, true)?;
        let mut inputs = vec![x, weight];
        if let Some(bias) = &convolution.bias {
            inputs.push(self.bias(node, bias, &ratio)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let op = match &convolution.transposed {
            None => "Conv",
            Some(_) => "ConvTranspose",
        };
        let attributes = convolution_attributes(convolution);
        Ok(self.model.main(op, node.name(), &inputs, attributes))
    }

    /// Whether ONNX Runtime has a product of matrices of these integers, for which it takes quantized
    /// inputs and weights.
    fn is_fusable(&self, input: TensorId, weights: &Weights) -> bool {
        let (x, w) = (self.graph.tensor(input).numbers(), weights.numbers);
        let stored = self.values[input.0].stored.is_some();
        stored && x.bits() <= 8 && w.bits() <= 8 && (w.signed() || !x.signed())
    }

    fn linear(&mut self, node: &Node, linear: &Linear) -> Result<String, ExportError> {
        let ratio = self.folded(node);
        let name = node.name();
        let input = node.inputs()[0];
        let x = self.float(input);
        let stored = self.is_fusable(input, &linear.weights);
        if self.graph.tensor(input).shape().len() == 1 {
            let weight = self.weights(name, &linear.weights, &ratio, 0, stored)?;
            let mut inputs = vec![x, weight];
            if let Some(bias) = &linear.bias {
                inputs.push(self.bias(node, bias, &ratio)?);
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            return Ok(self
                .model
                .main("Gemm", name, &inputs, vec![Attribute::Int("transB", 1)]));
        }
        let weight = self.weights(name, &transposed(&linear.weights), &ratio, 1, stored)?;
        let sum = self.model.main("MatMul", name, &[&x, &weight], vec![]);
        match &linear.bias {
            Some(bias) => {
                let bias = self.bias(node, bias, &ratio)?;
                Ok(self.model.node("Add", name, &[&sum, &bias], vec![]))
            }
            None => Ok(sum),
        }
    }

    fn add(&mut self, node: &Node, add: &Add) -> String {
        let to = self.exponents[node.output().0];
        let name = node.name();
        let mut operands = Vec::new();
        let mut factors = Vec::new();
        for (&id, multiplier) in node.inputs().iter().zip(add.multipliers) {
            let factor = multiplier as f64 * f64::from(to - self.exponents[id.0]).exp2();
            operands.push((self.float(id), factor as f32));
        }
        // A difference needs no factor.
        let op = match [operands[0].1, operands[1].1] {
            [_, -1.0] => "Sub",
            [-1.0, _] => {
                operands.reverse();
                "Sub"
            }
            _ => "Add",
        };
        if op == "Sub" {
            operands[1].1 = 1.0;
        }
        for (value, factor) in operands {
            factors.push(self.times(name, &value, &[factor]));
        }
        self.model
            .main(op, name, &[&factors[0], &factors[1]], vec![])
    }

    fn clamp(&mut self, node: &Node, clamp: &Clamp) -> String {
        let id = node.inputs()[0];
        let (name, zero) = (node.name(), self.graph.tensor(id).numbers().zero_point());
        let step = power(self.exponents[id.0]);
        let end = |k: i64| (k - zero) as f32 * step;
        let least = self
            .model
            .floats(&format!("{name}/least"), &[], &[end(clamp.least)]);
        let greatest = self
            .model
            .floats(&format!("{name}/greatest"), &[], &[end(clamp.greatest)]);
        let x = self.float(id);
        self.model
            .main("Clip", name, &[&x, &least, &greatest], vec![])
    }

    fn concat(&mut self, node: &Node, concat: &Concat) -> String {
        let to = self.exponents[node.output().0];
        let mut inputs = Vec::new();
        for &id in node.inputs() {
            let value = self.float(id);
            inputs.push(self.times(node.name(), &value, &[power(to - self.exponents[id.0])]));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let axis = vec![Attribute::Int("axis", concat.axis as i64 + 1)];
        self.model.main("Concat", node.name(), &inputs, axis)
    }

    fn max_pool(&mut self, node: &Node, pool: &MaxPool) -> String {
        let x = self.float(node.inputs()[0]);
        let shape = self.graph.tensor(node.inputs()[0]).shape();
        if let Some(plain) = windows::plain(&pool.windows, shape) {
            let mut attributes = window_attributes(&plain.kernel, &plain.sliding);
            attributes.push(Attribute::Ints("dilations", sizes(&plain.sliding.dilation)));
            return self.model.main("MaxPool", node.name(), &[&x], attributes);
        }
        max_by_gather(&mut self.model, node.name(), &x, &pool.windows, shape)
    }

    fn average(&mut self, node: &Node, pool: &AveragePool) -> String {
        let (id, name) = (node.inputs()[0], node.name());
        let x = self.float(id);
        let tensor = self.graph.tensor(id);
        let output = self.graph.tensor(node.output()).numbers();
        let divisor = steps::divisor(tensor.numbers(), output) as u64;
        if let Some(plain) = average_as_it_is(pool, tensor.shape(), divisor) {
            if pool.windows.is_global() {
                return self.model.main("GlobalAveragePool", name, &[&x], vec![]);
            }
            let mut attributes = window_attributes(&plain.kernel, &plain.sliding);
            let include = pool.include_padding.into();
            attributes.push(Attribute::Int("count_include_pad", include));
            return self.model.main("AveragePool", name, &[&x], attributes);
        }
        let step = power(self.exponents[node.output().0] - self.exponents[id.0]);
        let matrices = average_matrices(pool, tensor.shape());
        let mut matrices = matrices.into_iter().rev();
        let (rows, values) = matrices.next().expect("an image has a dimension");
        let values: Vec<f32> = values.iter().map(|&v| v as f32 * step).collect();
        let columns = [rows, values.len() / rows];
        let matrix = self
            .model
            .floats(&format!("{name}/columns"), &columns, &values);
        let mut value = self.model.main("MatMul", name, &[&x, &matrix], vec![]);
        for (rows, values) in matrices {
            let values: Vec<f32> = flipped(rows, &values).iter().map(|&v| v as f32).collect();
            let shape = [values.len() / rows, rows];
            let matrix = self.model.floats(&format!("{name}/rows"), &shape, &values);
            value = self.model.node("MatMul", name, &[&matrix, &value], vec![]);
        }
        value
    }

    fn look_up(&mut self, node: &Node, look_up: &LookUp) -> Result<(), ExportError> {
        let input = self.graph.tensor(node.inputs()[0]).numbers();
        let table = by_wrapped_index(look_up, input);
        self.gather(node, look_up.numbers, &[table.len()], &table)
    }

    fn embedding(&mut self, node: &Node, embedding: &Embedding) -> Result<(), ExportError> {
        let Weights {
            shape,
            numbers,
            values,
        } = &embedding.weights;
        self.gather(node, *numbers, shape, values)
    }

    /// Rows of a table by the input's integers, which wrap where they are below zero.
    fn gather(
        &mut self,
        node: &Node,
        numbers: Numbers,
        shape: &[usize],
        table: &[i64],
    ) -> Result<(), ExportError> {
        let (name, id) = (node.name(), node.output());
        let integers = self.integers(node.inputs()[0])?;
        let cast = vec![Attribute::Int("to", DataType::Int32 as i64)];
        let index = self.model.node("Cast", name, &[&integers], cast);
        let step = power(self.exponents[id.0]);
        if self.dialect == Dialect::Qonnx {
            let real = |&v: &i64| (v - numbers.zero_point()) as f32 * step;
            let values: Vec<f32> = table.iter().map(real).collect();
            let table = self.model.floats(&format!("{name}/table"), shape, &values);
            let value = self.model.main("Gather", name, &[&table, &index], vec![]);
            self.values[id.0].float = Some(value);
            return Ok(());
        }
        let Some(data_type) = storage(numbers) else {
            let bits = numbers.bits();
            return Err(ExportError::new(
                name,
                format!("a table of {bits} bits, of at most 16"),
            ));
        };
        let table = self
            .model
            .integers(&format!("{name}/table"), data_type, shape, table);
        let zero = numbers.zero_point();
        let stored = Stored {
            integers: self.model.main("Gather", name, &[&table, &index], vec![]),
            scale: self.model.floats(&format!("{name}/scale"), &[], &[step]),
            zero_point: self
                .model
                .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]),
        };
        self.values[id.0].stored = Some(stored);
        Ok(())
    }
}

/// A table whose index may be below zero: then it counts from the end, as `Gather` has it.
pub(super) fn by_wrapped_index(look_up: &LookUp, input: Numbers) -> Vec<i64> {
    let mut table = look_up.table.clone();
    table.rotate_left(input.least().unsigned_abs() as usize);
    table
}

/// `[out, in]` as `[in, out]`.
pub(super) fn transposed(weights: &Weights) -> Weights {
    let [rows, columns] = [weights.shape[0], weights.shape[1]];
    Weights {
        shape: vec![columns, rows],
        numbers: weights.numbers,
        values: flipped(rows, &weights.values),
    }
}

/// A matrix of so many rows with rows and columns exchanged.
pub(super) fn flipped(rows: usize, values: &[i64]) -> Vec<i64> {
    let columns = values.len() / rows;
    let places = 0..values.len();
    places
        .map(|at| values[at % rows * columns + at / rows])
        .collect()
}

/// Kernel, strides and paddings.
pub(super) fn window_attributes(kernel: &[usize], sliding: &Sliding) -> Vec<Attribute<'static>> {
    let before = sliding.padding.iter().map(|sides| sides[0] as i64);
    let after = sliding.padding.iter().map(|sides| sides[1] as i64);
    vec![
        Attribute::Ints("kernel_shape", sizes(kernel)),
        Attribute::Ints("strides", sizes(&sliding.stride)),
        Attribute::Ints("pads", before.chain(after).collect()),
    ]
}

/// The options of a convolution.
pub(super) fn convolution_attributes(convolution: &Convolution) -> Vec<Attribute<'static>> {
    let (kernel, sliding) = (&convolution.weights.shape[2..], &convolution.sliding);
    let (sliding, output_padding) = match &convolution.transposed {
        Some(_) => {
            let (sliding, padding) = without_wide_output_padding(convolution);
            (sliding, Some(padding))
        }
        None => (sliding.clone(), None),
    };
    let mut attributes = window_attributes(kernel, &sliding);
    attributes.push(Attribute::Ints("dilations", sizes(&sliding.dilation)));
    attributes.push(Attribute::Int("group", convolution.groups as i64));
    if let Some(padding) = output_padding {
        attributes.push(Attribute::Ints("output_padding", sizes(&padding)));
    }
    attributes
}

/// Of a transposed convolution: outputs that are added at the end of a dimension and taken away by its
/// padding are neither added nor taken away where there are as many as a stride, which runtimes refuse.
fn without_wide_output_padding(convolution: &Convolution) -> (Sliding, Vec<usize>) {
    let mut sliding = convolution.sliding.clone();
    let mut output_padding = convolution.transposed.clone().unwrap_or_default();
    for (d, added) in output_padding.iter_mut().enumerate() {
        if *added >= sliding.stride[d] {
            let both = sliding.padding[d][1].min(*added);
            sliding.padding[d][1] -= both;
            *added -= both;
        }
    }
    (sliding, output_padding)
}

/// Refuses outputs added by a transposed convolution that are as many as a stride.
pub(super) fn checked_output_padding(
    name: &str,
    convolution: &Convolution,
) -> Result<(), ExportError> {
    let (sliding, padding) = without_wide_output_padding(convolution);
    let mut pairs = padding.iter().zip(&sliding.stride);
    match pairs.find(|(added, stride)| added >= stride) {
        Some((added, stride)) => {
            let reason =
                format!("output_padding is {added}, and ONNX adds less than the stride, {stride}");
            Err(ExportError::new(name, reason))
        }
        None => Ok(()),
    }
}

/// Windows whose averages ONNX's pools have, exactly in floats: of one size, that is a power of two.
fn average_as_it_is(pool: &AveragePool, image: &[usize], divisor: u64) -> Option<windows::Plain> {
    let plain = windows::plain(&pool.windows, image)?;
    let padded = !plain.is_unpadded() && !pool.include_padding;
    let dilated = plain.sliding.dilation.iter().any(|&d| d != 1);
    (divisor.is_power_of_two() && !padded && !dilated).then_some(plain)
}

/// For each dimension its size and the matrix with which its elements become averages.
pub(super) fn average_matrices(pool: &AveragePool, image: &[usize]) -> Vec<(usize, Vec<i64>)> {
    let elements = windows::elements(&pool.windows, image);
    let dimensions = elements.iter().enumerate();
    let matrix = |(d, elements): (usize, &Vec<Vec<usize>>)| {
        let count = match &pool.windows {
            Windows::Sliding { kernel, .. } if pool.include_padding => Some(kernel[d]),
            _ => None,
        };
        let size = image[d + 1];
        (size, windows::average_matrix(elements, size, count))
    };
    dimensions.map(matrix).collect()
}

/// The greatest of windows of any kind: each dimension's elements are gathered window by window.
pub(super) fn max_by_gather(
    model: &mut Model,
    name: &str,
    x: &str,
    windows: &Windows,
    image: &[usize],
) -> String {
    let elements = windows::elements(windows, image);
    let mut value = x.to_owned();
    for (d, elements) in elements.iter().enumerate() {
        let (indices, most) = windows::repeated(elements);
        let shape = [elements.len(), most];
        let axis = d as i64 + 2;
        let indices = model.integers(
            &format!("{name}/windows"),
            DataType::Int64,
            &shape,
            &indices,
        );
        let gather = vec![Attribute::Int("axis", axis)];
        value = model.node("Gather", name, &[&value, &indices], gather);
        let axes = model.integers(&format!("{name}/axes"), DataType::Int64, &[1], &[axis + 1]);
        let keep = vec![Attribute::Int("keepdims", 0)];
        value = if d + 1 == elements_dimensions(image) {
            model.main("ReduceMax", name, &[&value, &axes], keep)
        } else {
            model.node("ReduceMax", name, &[&value, &axes], keep)
        };
    }
    value
}

/// The dimensions of an image beside its channels.
fn elements_dimensions(image: &[usize]) -> usize {
    image.len() - 1
}

/// Whether a requantization reads a sum whose weights it scales.
pub(super) fn is_folded(graph: &Graph, node: &Node, plans: &HashMap<TensorId, Plan>) -> bool {
    let of_source = |source: &Node| source.output() == node.output();
    let mut nodes = graph.nodes().iter();
    nodes.any(|reader| {
        let folded = plans.get(&reader.output()).is_some_and(|plan| plan.folded);
        folded && source(graph, reader).is_some_and(of_source)
    })
}
