//! Sums of products with weights: convolutions and matrices.

use super::bias::halved;
use super::constant::{Constant, Values, integer, sizes, sliding};
use super::held::{Held, Kind};
use super::{Known, Reader, numbers};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::float;
use crate::onnx::plan::EXACT;
use crate::onnx::proto::NodeProto;
use crate::ops::{Convolution, Linear, Operator, Weights};
use crate::tensor::Interval;

impl Reader<'_> {
    /// The weight's integers, whose outputs are an axis; their step is the scale, or the first one.
    fn weights(&self, node: &NodeProto, outputs: usize) -> Result<(Weights, Vec<f64>), String> {
        let constant = self.constant(node, 1)?;
        let quantized = constant.quantized();
        let quantized = quantized.ok_or("weights are no multiples of a step that they have")?;
        of_outputs(quantized, outputs)
    }

    /// Whether floats have every partial sum of a node exactly, in steps of `scale`.
    pub(super) fn is_exact(&self, id: TensorId, scale: &[f64]) -> bool {
        let node = self.graph.nodes().iter().find(|node| node.output() == id);
        let Some(node) = node else { return false };
        let inputs = self.graph.inputs_of(node);
        let output = self.graph.tensor(id);
        let bounds = node.operator().operation().bounds(&inputs, output.shape());
        let Some(bounds) = bounds else { return false };
        let mut bounds = bounds.iter().enumerate();
        bounds.all(|(channel, bound)| {
            let place = if scale.len() == 1 { 0 } else { channel };
            // Less scales than channels are refused where they are used.
            let Some(&scale) = scale.get(place) else {
                return false;
            };
            let mantissa = (scale.to_bits() & ((1 << 52) - 1)) | 1 << 52;
            let odd = mantissa >> mantissa.trailing_zeros();
            let reach = bound.partial.magnitude().saturating_mul(odd);
            let greatest = scale * bound.partial.magnitude() as f64;
            reach < EXACT && scale as f32 >= f32::MIN_POSITIVE && greatest < 127f64.exp2()
        })
    }

    /// A sum of products with weights: its tensor as real numbers.
    fn product(
        &mut self,
        node: &NodeProto,
        operator: impl Into<Operator>,
        x: &Held,
        sums: Vec<f64>,
    ) -> Result<Held, String> {
        let id = self.push(node, operator, &[x.id])?;
        let is_exact = x.is_exact && self.is_exact(id, &sums);
        Ok(Held {
            was_integer: x.was_integer,
            ..Held::real(id, sums, is_exact)
        })
    }

    /// An input's scale, and those of sums of its products.
    fn scales_of(&self, x: &[f64], scales: &[f64]) -> Result<Vec<f64>, String> {
        let [step] = x else {
            return Err("the input has a scale for each channel".into());
        };
        Ok(scales.iter().map(|scale| scale * step).collect())
    }

    pub(super) fn convolution(&mut self, node: &NodeProto) -> Result<Known, String> {
        let (x, scale) = self.real(node, 0)?;
        let is_transposed = node.op_type() == "ConvTranspose";
        let (weights, scales) = self.weights(node, usize::from(is_transposed))?;
        let mut sums = self.scales_of(&scale, &scales)?;
        let mut convolution = convolution(node, weights)?;
        let dimensions = convolution.sliding.stride.len();
        if is_transposed {
            let padding = sizes(node, "output_padding")?.unwrap_or(vec![0; dimensions]);
            convolution = convolution.with_transposed(padding);
        }
        let outputs = outputs(&convolution);
        let mut bias = self.bias(self.bias_input(node, 2)?, &sums, outputs)?;
        let mut made = None;
        if bias.is_none()
            && let Some((added, output)) = self.added(node, &sums, outputs, dimensions + 1)
        {
            (bias, made) = (Some(added), Some(output));
        }
        convolution.bias = halved(bias, &mut convolution.weights, &mut sums)?;
        let held = self.product(node, convolution, &x, sums)?;
        Ok(self.also(held, made))
    }

    /// What is made, also of the node that added a bias.
    fn also(&mut self, held: Held, made: Option<String>) -> Known {
        let known = Known::Held(held);
        if let Some(output) = made {
            self.known.insert(output, known.clone());
        }
        known
    }

    pub(super) fn linear(&mut self, node: &NodeProto) -> Result<Known, String> {
        if let Known::Constant(_) = self.get(node, 0)? {
            return self.average_by_matrix(node, 1);
        }
        let held = self.held(node, 0)?;
        if self.graph.tensor(held.id).shape().len() > 2
            && let Ok(average) = self.average_by_matrix(node, 0)
        {
            return Ok(average);
        }
        if held.kind != Kind::Float {
            return self.integer_matrix(node, held, 0);
        }
        let (x, scale) = self.real(node, 0)?;
        let gemm = node.op_type() == "Gemm";
        let by_rows = gemm && integer(node, "transB").unwrap_or(0) != 0;
        let (weights, scales) = self.weights(node, usize::from(!by_rows))?;
        check_gemm(node, &weights)?;
        let rank = self.graph.tensor(x.id).shape().len();
        if scales.len() > 1 && rank > 1 {
            return Err("rows of sums have one scale".into());
        }
        let mut weights = by_outputs(weights, by_rows)?;
        let mut sums = self.scales_of(&scale, &scales)?;
        let outputs = weights.shape[0];
        let (mut bias, mut made) = (None, None);
        if gemm {
            bias = self.bias(self.bias_input(node, 2)?, &sums, outputs)?;
        } else if let Some((added, output)) = self.added(node, &sums, outputs, 1) {
            (bias, made) = (Some(added), Some(output));
        }
        let bias = halved(bias, &mut weights, &mut sums)?;
        let held = self.product(node, Linear { weights, bias }, &x, sums)?;
        Ok(self.also(held, made))
    }

    /// `MatMulInteger`.
    pub(super) fn integer_product(&mut self, node: &NodeProto) -> Result<Known, String> {
        let held = self.held(node, 0)?;
        let zero = self.zero_point(node, 2)?;
        self.integer_matrix(node, held, zero)
    }

    /// A product of integers, whose zero is subtracted, with a matrix.
    fn integer_matrix(&mut self, node: &NodeProto, held: Held, zero: i64) -> Result<Known, String> {
        let kind = match node.op_type() {
            "MatMulInteger" => Kind::Integer(32, true),
            _ => held.kind,
        };
        let x = self.counted_from(node, &held, zero)?;
        let weights = self.integer_weights(node, [1, 3], 1, 1.0)?;
        if weights.shape.len() != 2 {
            return Err("weights are a matrix, and transA is 0".into());
        }
        let weights = by_outputs(weights, false)?;
        let outputs = weights.shape[0];
        let (bias, made) = self.added(node, &[1.0], outputs, 1).unzip();
        let bias = bias.map(|(bias, _)| bias);
        let id = self.push(node, Linear { weights, bias }, &[x])?;
        self.fits(id, kind)?;
        Ok(self.also(Held::integers(id, kind, 0), made))
    }

    /// `ConvInteger`.
    pub(super) fn integer_convolution(&mut self, node: &NodeProto) -> Result<Known, String> {
        let held = self.held(node, 0)?;
        let zero = self.zero_point(node, 2)?;
        let x = self.counted_from(node, &held, zero)?;
        let weights = self.integer_weights(node, [1, 3], 0, 1.0)?;
        let mut convolution = convolution(node, weights)?;
        let outputs = outputs(&convolution);
        let rank = convolution.weights.shape.len().saturating_sub(1);
        let (bias, made) = self.added(node, &[1.0], outputs, rank.max(1)).unzip();
        convolution.bias = bias.map(|(bias, _)| bias);
        let id = self.push(node, convolution, &[x])?;
        let kind = Kind::Integer(32, true);
        self.fits(id, kind)?;
        Ok(self.also(Held::integers(id, kind, 0), made))
    }

    /// Weights as integers, less their zero points, of which there is one or one for each index of an
    /// axis.
    pub(super) fn integer_weights(
        &self,
        node: &NodeProto,
        [at, zero]: [usize; 2],
        axis: usize,
        scale: f64,
    ) -> Result<Weights, String> {
        let constant = self.constant(node, at)?;
        let values = constant.integers().ok_or("weights are no integers")?;
        let zeros = match Self::has(node, zero) {
            true => self.constant(node, zero)?.reals(),
            false => vec![0.0],
        };
        let inner: usize = constant.shape.iter().skip(axis + 1).product();
        if zeros.len() != 1 && constant.shape.get(axis) != Some(&zeros.len()) {
            return Err(format!("{} zero points of weights", zeros.len()));
        }
        let zero_at = |at: usize| zeros[at / inner.max(1) % zeros.len()] as i64;
        let values = values.iter().enumerate();
        let values: Vec<i64> = values.map(|(at, w)| w - zero_at(at)).collect();
        let (mut bits, mut signed) = constant.width.unwrap_or((32, true));
        if zeros.iter().any(|&z| z != 0.0) {
            (bits, signed) = (bits + 1, true);
        }
        Ok(Weights {
            shape: constant.shape,
            numbers: numbers(bits.min(32), signed, scale, 0)?,
            values,
        })
    }

    /// Checks that a tensor's integers, counted from zero, fit a type.
    pub(super) fn fits(&self, id: TensorId, kind: Kind) -> Result<(), String> {
        let tensor = self.graph.tensor(id);
        let zero = tensor.numbers().zero_point();
        let Interval { least, greatest } = tensor.interval().map(|x| x - zero);
        let [low, high] = kind.ends();
        if low <= least && greatest <= high {
            return Ok(());
        }
        Err(format!(
            "sums of {least} to {greatest} are beyond their type"
        ))
    }
}

/// A convolution without a bias.
pub(super) fn convolution(node: &NodeProto, weights: Weights) -> Result<Convolution, String> {
    let dimensions = weights.shape.len().saturating_sub(2);
    let sliding = sliding(node, dimensions)?;
    let groups = integer(node, "group").unwrap_or(1);
    let groups = usize::try_from(groups).map_err(|_| "group is below 0")?;
    Ok(Convolution::new(weights, None)
        .with_sliding(sliding)
        .with_groups(groups))
}

/// The channels that a convolution makes.
pub(super) fn outputs(convolution: &Convolution) -> usize {
    let shape = &convolution.weights.shape;
    match convolution.transposed {
        None => shape.first().copied().unwrap_or(0),
        Some(_) => shape
            .get(1)
            .map_or(0, |n| n.saturating_mul(convolution.groups)),
    }
}

/// Weights whose scales are of their outputs, and these scales.
fn of_outputs(constant: Constant, outputs: usize) -> Result<(Weights, Vec<f64>), String> {
    let axis = constant.axis;
    if constant.scale.len() != 1 && axis != outputs {
        return Err(format!(
            "weights have scales of axis {axis}, expected {outputs}"
        ));
    }
    let (bits, signed) = constant.width.ok_or("weights are of no width")?;
    let step = *constant.scale.first().ok_or("a weight has no scale")?;
    // With a scale for each output none of them is the sum's step, which is not compared then.
    let numbers = match constant.scale.len() {
        1 => numbers(bits, signed, step, 0),
        _ => Numbers::affine(bits, signed, step, 0),
    };
    let Values::Integers(values) = constant.values else {
        return Err("weights are no integers".into());
    };
    let weights = Weights {
        shape: constant.shape,
        numbers: numbers?,
        values,
    };
    Ok((weights, constant.scale))
}

/// A matrix with a row for each output.
pub(super) fn by_outputs(weights: Weights, by_rows: bool) -> Result<Weights, String> {
    if by_rows {
        return Ok(weights);
    }
    weights.check(2)?;
    Ok(float::transposed(&weights))
}

fn check_gemm(node: &NodeProto, weights: &Weights) -> Result<(), String> {
    let factors = ["alpha", "beta"];
    let mut attributes = node.attribute.iter();
    if attributes.any(|a| factors.contains(&a.name()) && a.f() != 1.0) {
        return Err("alpha and beta are 1".into());
    }
    let gemm = node.op_type() == "Gemm";
    if weights.shape.len() != 2 || gemm && integer(node, "transA").unwrap_or(0) != 0 {
        return Err("weights are a matrix, and transA is 0".into());
    }
    Ok(())
}
