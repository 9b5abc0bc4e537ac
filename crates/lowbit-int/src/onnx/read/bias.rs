//! What is added to sums of products: a third input, or a constant that the next node adds.

use super::Reader;
use super::constant::Constant;
use super::numbers;
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;
use crate::ops::Weights;

/// Times that a sum's step is halved for a bias.
const HALVED: u32 = 12;

impl Reader<'_> {
    /// What is added to each output, in steps of its sum, and how many times these are halved for that.
    pub(super) fn bias(
        &self,
        constant: Option<Constant>,
        scales: &[f64],
        outputs: usize,
    ) -> Result<Option<(Vec<i64>, u32)>, String> {
        let Some(constant) = constant else {
            return Ok(None);
        };
        let reals = constant.reals();
        let count = if reals.len() == 1 {
            outputs
        } else {
            reals.len()
        };
        let at =
            |values: &[f64], c: usize| values.get(if values.len() == 1 { 0 } else { c }).copied();
        let steps = (0..count).map(|c| Some(at(&reals, c)? / at(scales, c)?));
        let steps: Option<Vec<f64>> = steps.collect();
        let steps = steps.ok_or("there are less scales than biases")?;
        for halved in 0..=HALVED {
            // Scales of others are products that were rounded to floats.
            let tolerance = if halved == 0 { 1e-6 } else { 0.0 };
            let unit = f64::from(1 << halved);
            let is_whole = |&step: &f64| {
                let distance = (step * unit - (step * unit).round()).abs();
                distance <= tolerance * (step * unit).abs().max(1.0)
            };
            if steps.iter().all(is_whole) {
                let whole = steps.iter().map(|step| (step * unit).round() as i64);
                return Ok(Some((whole.collect(), halved)));
            }
        }
        Err("a bias is no multiple of its sum's step, or of one some times halved".into())
    }

    /// A bias of a dequantized constant of int32, or of integers as they are.
    pub(super) fn bias_input(
        &self,
        node: &NodeProto,
        at: usize,
    ) -> Result<Option<Constant>, String> {
        match Self::has(node, at) {
            true => self.constant(node, at).map(Some),
            false => Ok(None),
        }
    }

    /// What the only reader of a node's output adds to it in steps of the sum, one constant for all or one
    /// for each of `outputs`, the first of the output's last `dimensions`: that reader is done then, and
    /// makes the value that is named.
    pub(super) fn added(
        &mut self,
        node: &NodeProto,
        sums: &[f64],
        outputs: usize,
        dimensions: usize,
    ) -> Option<((Vec<i64>, u32), String)> {
        let output = node.output.first()?;
        let at = self.only_reader(output)?;
        let reader = &self.file.node[at];
        if reader.op_type() != "Add" || !matches!(reader.domain(), "" | "ai.onnx") {
            return None;
        }
        let other = usize::from(reader.input.first() == Some(output));
        let constant = self.constant(reader, other).ok()?;
        let inner = match constant.shape.strip_prefix(&[1]) {
            Some(inner) if inner.len() == dimensions => inner,
            _ => &constant.shape,
        };
        let mut expected = vec![1; dimensions];
        expected[0] = outputs;
        let fits = constant.len() == 1 && inner.len() <= dimensions || inner == expected;
        let made = reader.output.first()?.clone();
        if !fits {
            return None;
        }
        let bias = self.bias(Some(constant), sums, outputs).ok()??;
        self.done.insert(at);
        Some((bias, made))
    }
}

/// A bias, for which the weights' step and that of their sums are some times halved.
pub(super) fn halved(
    bias: Option<(Vec<i64>, u32)>,
    weights: &mut Weights,
    sums: &mut [f64],
) -> Result<Option<Vec<i64>>, String> {
    let Some((bias, times)) = bias else {
        return Ok(None);
    };
    let given = weights.numbers;
    if times > 0 {
        let unit = f64::from(1 << times);
        let scale = given.scale() / unit;
        let bits = given.bits() + times;
        weights.numbers = match given.exponent() {
            Some(_) => numbers(bits, given.signed(), scale, 0)?,
            None => Numbers::affine(bits, given.signed(), scale, 0)?,
        };
        for weight in &mut weights.values {
            *weight <<= times;
        }
        for sum in sums {
            *sum /= unit;
        }
    }
    Ok(Some(bias))
}
