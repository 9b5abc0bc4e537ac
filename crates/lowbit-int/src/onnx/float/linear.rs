//! Products with matrices.

use super::Writer;
use crate::graph::{Node, TensorId};
use crate::onnx::model::Attribute;
use crate::onnx::{Dialect, ExportError};
use crate::ops::{Linear, Weights};

impl Writer<'_> {
    /// Whether ONNX Runtime has a product of matrices of these integers, for which it takes quantized
    /// inputs and weights.
    fn is_fusable(&self, input: TensorId, weights: &Weights) -> bool {
        let (x, w) = (self.graph.tensor(input).numbers(), weights.numbers);
        let stored = self.values[input.0].stored.is_some();
        stored && x.bits() <= 8 && w.bits() <= 8 && (w.signed() || !x.signed())
    }

    pub(super) fn linear(&mut self, node: &Node, linear: &Linear) -> Result<String, ExportError> {
        let ratio = self.folded(node);
        let name = node.name();
        let input = node.inputs()[0];
        let x = self.float(input);
        let stored = self.is_fusable(input, &linear.weights);
        if self.graph.tensor(input).shape().len() == 1 {
            let weight = self.weights(name, &linear.weights, &ratio, 0, stored)?;
            let mut inputs = vec![x, weight];
            // ONNX Runtime makes bytes of weights that are floats, whatever they are, unless a bias is
            // dequantized.
            let is_floats = !stored && self.dialect != Dialect::Qonnx;
            let zeros = is_floats.then(|| vec![0; linear.weights.shape[0]]);
            if let Some(bias) = linear.bias.as_ref().or(zeros.as_ref()) {
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
}

/// `[out, in]` as `[in, out]`.
pub(in crate::onnx) fn transposed(weights: &Weights) -> Weights {
    let [rows, columns] = [weights.shape[0], weights.shape[1]];
    Weights {
        shape: vec![columns, rows],
        numbers: weights.numbers,
        values: flipped(rows, &weights.values),
    }
}

/// A matrix of so many rows with rows and columns exchanged.
pub(in crate::onnx) fn flipped(rows: usize, values: &[i64]) -> Vec<i64> {
    let columns = values.len() / rows;
    let places = 0..values.len();
    places
        .map(|at| values[at % rows * columns + at / rows])
        .collect()
}
