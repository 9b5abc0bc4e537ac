//! Weights and biases, with the ratio of the requantization that reads their sum.

use super::quantizer::storage;
use super::{Plans, Writer};
use crate::graph::{Graph, Node};
use crate::numbers::Numbers;
use crate::onnx::model::Attribute;
use crate::onnx::plan::{Planned, source};
use crate::onnx::proto::DataType;
use crate::onnx::steps::{self, power};
use crate::onnx::{Dialect, ExportError};
use crate::ops::{Operator, Rounding, Weights};

impl Writer<'_> {
    /// The weights' real numbers, with a ratio for all or for each index of `axis`. In a product
    /// of matrices what meets other than bytes is not `quantized`: ONNX Runtime takes
    /// `DequantizeLinear` of weights alone for a request to round the other operand to 8 bits too
    /// (`MatMulNBits`).
    pub(super) fn weights(
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
    pub(super) fn bias(
        &mut self,
        node: &Node,
        bias: &[i64],
        ratio: &[f64],
    ) -> Result<String, ExportError> {
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
    pub(super) fn folded(&self, node: &Node) -> Vec<f64> {
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
                (0..requantize.channels())
                    .map(|c| planned.ratio(c))
                    .collect()
            }
            _ => vec![1.0],
        }
    }
}

/// Whether a requantization reads a sum whose weights it scales.
pub(in crate::onnx) fn is_folded(graph: &Graph, node: &Node, plans: &Plans) -> bool {
    let of_source = |source: &Node| source.output() == node.output();
    let mut nodes = graph.nodes().iter();
    nodes.any(|reader| {
        let folded = plans.get(&reader.output()).is_some_and(|plan| plan.folded);
        folded && source(graph, reader).is_some_and(of_source)
    })
}
