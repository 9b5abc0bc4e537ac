//! Files of floats: quantizers between operators on the real numbers that integers stand for.

mod convolution;
mod linear;
mod pool;
mod quantizer;
mod requantize;
mod table;
mod tensors;
mod weights;

use std::collections::HashMap;

use super::input::rounded;
use super::model::{Attribute, Model};
use super::plan::Plan;
use super::proto::ModelProto;
use super::steps::{self, power};
use super::{Dialect, ExportError, Options};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::{Operator, Rounding};
pub(super) use convolution::{checked_output_padding, convolution_attributes, window_attributes};
pub(super) use linear::{flipped, transposed};
pub(super) use pool::{average_matrices, max_by_gather};
pub(super) use quantizer::storage;
use quantizer::{FUSED_CLIP, Target, is_narrow};
use requantize::plans;
pub(super) use weights::is_folded;

/// The plan of every requantization, by the tensor it makes.
pub(super) type Plans = HashMap<TensorId, Plan>;

/// The file of a graph, and how it says requantizations.
pub(super) fn write(graph: &Graph, options: Options) -> Result<(ModelProto, Plans), ExportError> {
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
    Ok((writer.model.finish(options.dialect), writer.plans))
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

struct Writer<'g> {
    graph: &'g Graph,
    dialect: Dialect,
    exponents: Vec<i32>,
    plans: Plans,
    model: Model,
    values: Vec<Value>,
}

impl Writer<'_> {
    fn input(&mut self, id: TensorId) -> Result<(), ExportError> {
        let tensor = self.graph.tensor(id);
        let (name, numbers) = (tensor.name(), tensor.numbers());
        let (mut value, real) = rounded(&mut self.model, self.graph, id);
        let mut scale = real as f32;
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
            // What was rounded before is in steps of 1.
            let is_whole = self.graph.input_rounding(id) != Some(Rounding::HalfEven);
            let unit = if is_whole { 1.0 } else { step };
            if scale != unit {
                let ratio = (f64::from(step) / real) as f32;
                value = self.times(name, &value, &[ratio]);
            }
            let quantized = self.quant(name, &value, numbers, &[unit], &[], Rounding::HalfEven)?;
            let quantized = self.times(name, &quantized, &[step / unit]);
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
}
