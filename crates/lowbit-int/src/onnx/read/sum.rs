//! Sums of products, and of tensors.

use super::constant::{Constant, integer, one_axis, sizes, sliding};
use super::held::{Held, Kind, Step};
use super::{Known, Reader, numbers};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::float;
use crate::onnx::plan::EXACT;
use crate::onnx::proto::NodeProto;
use crate::ops::{Add, Concat, Convolution, Linear, Mul, Operator, Weights};
use crate::tensor::Interval;

/// Times that a sum's step is halved for a bias.
const HALVED: u32 = 12;

impl Reader<'_> {
    /// The weight's integers, whose outputs are an axis; their step is the scale, or the first one.
    fn weights(&self, node: &NodeProto, outputs: usize) -> Result<(Weights, Vec<f64>), String> {
        let constant = self.constant(node, 1)?;
        let quantized = constant.quantized();
        let quantized = quantized.ok_or("weights are no multiples of a step that they have")?;
        of_outputs(quantized, outputs)
    }

    /// What is added to each output, in steps of its sum, and how many times these are halved for that.
    fn bias(
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
    fn bias_input(&self, node: &NodeProto, at: usize) -> Result<Option<Constant>, String> {
        match Self::has(node, at) {
            true => self.constant(node, at).map(Some),
            false => Ok(None),
        }
    }

    /// What the only reader of a node's output adds to it in steps of the sum, one constant for all or one
    /// for each of `outputs`, the first of the output's last `dimensions`: that reader is done then, and
    /// makes the value that is named.
    fn added(
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

    pub(super) fn add(&mut self, node: &NodeProto) -> Result<Known, String> {
        let [a, b] = [self.get(node, 0)?.clone(), self.get(node, 1)?.clone()];
        match (a, b) {
            (Known::Held(a), Known::Held(_)) if a.kind == Kind::Float => self.add_reals(node),
            (Known::Held(a), Known::Held(b)) => self.add_integers(node, a, b),
            (Known::Held(held), Known::Constant(constant)) => {
                self.plus(node, held, &constant).map(Known::Held)
            }
            (Known::Constant(constant), Known::Held(held)) if node.op_type() == "Add" => {
                self.plus(node, held, &constant).map(Known::Held)
            }
            (a @ Known::Part(_), b) | (a, b @ Known::Part(_)) => self.sum_of_parts(node, &a, &b),
            _ => self
                .real(node, 0)
                .and(self.real(node, 1))
                .and(Err("adds what is not quantized".into())),
        }
    }

    fn add_reals(&mut self, node: &NodeProto) -> Result<Known, String> {
        let [(x, a), (y, b)] = [self.signed_real(node, 0)?, self.signed_real(node, 1)?];
        let ([a], [b]) = (&a[..], &b[..]) else {
            return Err("an operand has a scale for each channel".into());
        };
        let finer = common_step(*a, *b).ok_or(format!("scales {a} and {b} are no multiples"))?;
        let mut multipliers = [a / finer, b / finer];
        if node.op_type() == "Sub" {
            multipliers[1] = -multipliers[1];
        }
        let id = self.push_add(node, multipliers.map(|m| m as i64), [x.id, y.id])?;
        let is_exact = x.is_exact && y.is_exact && self.is_exact(id, &[finer]);
        let was_integer = x.was_integer && y.was_integer;
        Ok(Known::Held(Held {
            was_integer,
            ..Held::real(id, vec![finer], is_exact)
        }))
    }

    /// Adds a sum of two. Powers of two whose exponents do not say what the file adds are scales like
    /// others.
    fn push_add(
        &mut self,
        node: &NodeProto,
        multipliers: [i64; 2],
        inputs: [TensorId; 2],
    ) -> Result<TensorId, String> {
        let name = self.name(node);
        let error = match self.push_as(&name, Add { multipliers }, &inputs) {
            Ok(id) => return Ok(id),
            Err(error) => error,
        };
        let numbers = self.graph.tensor(inputs[0]).numbers();
        if numbers.exponent().is_none() || numbers.bits() > 32 {
            return Err(error);
        }
        let (bits, signed) = (numbers.bits(), numbers.signed());
        let free = Numbers::affine(bits, signed, numbers.scale(), 0)?;
        let first = self.restated(&format!("{name}/scale"), inputs[0], free, 0)?;
        self.push_as(&name, Add { multipliers }, &[first, inputs[1]])
    }

    fn add_integers(&mut self, node: &NodeProto, a: Held, b: Held) -> Result<Known, String> {
        if a.kind != b.kind {
            return Err("operands have different types".into());
        }
        let mut multipliers = [0; 2];
        for (multiplier, held) in multipliers.iter_mut().zip([&a, &b]) {
            *multiplier = match (&held.steps[..], held.shift) {
                ([], _) => 1,
                ([Step::Times(factors)], 0) if factors.len() == 1 => factors[0],
                _ => return Err("an operand is rounded or moved".into()),
            };
        }
        let mut shift = a.shift;
        if node.op_type() == "Sub" {
            multipliers[1] = multipliers[1].saturating_neg();
            shift -= b.shift;
        } else {
            shift += b.shift;
        }
        let id = self.push_add(node, multipliers, [a.id, b.id])?;
        self.fits(id, a.kind)?;
        Ok(Known::Held(Held::integers(id, a.kind, shift)))
    }

    pub(super) fn mul(&mut self, node: &NodeProto) -> Result<Known, String> {
        let [a, b] = [self.get(node, 0)?.clone(), self.get(node, 1)?.clone()];
        match (a, b) {
            (Known::Held(held), Known::Constant(constant))
            | (Known::Constant(constant), Known::Held(held)) => {
                self.times(held, &constant).map(Known::Held)
            }
            (Known::Held(a), Known::Held(b)) if a.kind != Kind::Float => {
                let plain = |held: &Held| held.steps.is_empty() && held.shift == 0;
                if a.kind != b.kind || !plain(&a) || !plain(&b) {
                    return Err("factors are not counted from zero, or of different types".into());
                }
                let id = self.push(node, Mul {}, &[a.id, b.id])?;
                self.fits(id, a.kind)?;
                Ok(Known::Held(Held::integers(id, a.kind, 0)))
            }
            (a @ Known::Part(_), b) | (a, b @ Known::Part(_)) => self.product_of_parts(&a, &b),
            (Known::Input { .. }, Known::Constant(_)) => self.scaled_input(node),
            (Known::Constant(a), Known::Constant(b)) => scaled_constant(a, &b),
            _ => self.mul_reals(node),
        }
    }

    fn mul_reals(&mut self, node: &NodeProto) -> Result<Known, String> {
        let [(a, x), (b, y)] = [self.real(node, 0)?, self.real(node, 1)?];
        let ([x], [y]) = (&x[..], &y[..]) else {
            return Err("a factor has a scale for each channel".into());
        };
        let scale = x * y;
        let id = self.push(node, Mul {}, &[a.id, b.id])?;
        let tensor = self.graph.tensor(id);
        let reach = tensor.interval().magnitude();
        let power = scale.to_bits() << 12 == 0 && (scale as f32).is_normal();
        let is_exact = a.is_exact && b.is_exact && power && reach < EXACT;
        Ok(Known::Held(Held::real(id, vec![scale], is_exact)))
    }

    /// An input that is multiplied before it is quantized.
    fn scaled_input(&self, node: &NodeProto) -> Result<Known, String> {
        let by = self.scalar(node, 1)?;
        if !(by > 0.0 && by.is_finite()) {
            return Err("a factor is not above 0".into());
        }
        match self.get(node, 0)?.clone() {
            Known::Input {
                name,
                shape,
                factor,
                clip,
            } => Ok(Known::Input {
                name,
                shape,
                factor: factor * by,
                clip: clip.map(|ends| ends.map(|end| end * by)),
            }),
            _ => Err("is no input".into()),
        }
    }

    pub(super) fn concat(&mut self, node: &NodeProto) -> Result<Known, String> {
        let inputs = (0..node.input.len()).map(|at| self.held(node, at));
        let inputs = inputs.collect::<Result<Vec<Held>, String>>()?;
        let first = inputs.first().ok_or("has no inputs")?.clone();
        let axis = concat_axis(node, self.graph.tensor(first.id).shape().len())?;
        if first.kind != Kind::Float {
            let whole = |held: &Held| held.kind == first.kind && held.steps.is_empty();
            if !inputs.iter().all(whole) {
                return Err("inputs are rounded or moved, or of different types".into());
            }
            return self.concat_integers(node, axis, &inputs, 1.0);
        }
        let mut reals = Vec::new();
        for at in 0..node.input.len() {
            let (held, scale) = self.real(node, at)?;
            reals.push(Held {
                steps: vec![],
                scale,
                ..held
            });
        }
        let first = reals[0].clone();
        if reals.iter().any(|real| real.scale != first.scale) || first.scale.len() > 1 {
            return Err("inputs have different scales".into());
        }
        let joined = self.concat_integers(node, axis, &reals, first.scale[0])?;
        match joined {
            Known::Held(held) => {
                let is_exact = reals.iter().all(|real| real.is_exact);
                let real = Held::real(held.id, first.scale, is_exact);
                Ok(Known::Held(real))
            }
            other => Ok(other),
        }
    }

    /// Tensors one after the other, all as the same numbers.
    pub(super) fn concat_integers(
        &mut self,
        node: &NodeProto,
        axis: usize,
        inputs: &[Held],
        scale: f64,
    ) -> Result<Known, String> {
        let first = &inputs[0];
        let name = self.name(node);
        let shift = first.shift;
        let numbers = self.graph.tensor(first.id).numbers();
        let same =
            |held: &Held| held.shift == shift && self.graph.tensor(held.id).numbers() == numbers;
        let mut ids: Vec<TensorId> = inputs.iter().map(|held| held.id).collect();
        if !inputs.iter().all(same) {
            let intervals = inputs.iter().map(|held| {
                let tensor = self.graph.tensor(held.id);
                let zero = tensor.numbers().zero_point();
                let moved = tensor.interval().map(|x| x - zero + held.shift - shift);
                moved.union(Interval {
                    least: 0,
                    greatest: 0,
                })
            });
            let all = intervals.reduce(Interval::union);
            let bits = all.map_or(1, |all| all.bits());
            let common = Numbers::affine(bits, true, scale, 0)?;
            for (id, held) in ids.iter_mut().zip(inputs) {
                let name = format!("{name}/input");
                *id = self.restated(&name, *id, common, held.shift - shift)?;
            }
        }
        let zero_moved = shift;
        let id = self.push_as(&name, Concat { axis }, &ids)?;
        Ok(Known::Held(Held::integers(id, first.kind, zero_moved)))
    }
}

/// A bias, for which the weights' step and that of their sums are some times halved.
fn halved(
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

/// The greatest step of which two scales are multiples that are not long.
fn common_step(a: f64, b: f64) -> Option<f64> {
    let (mut step, mut rest) = (a.abs().max(b.abs()), a.abs().min(b.abs()));
    // The remainder of floats is exact.
    while rest > 0.0 {
        (step, rest) = (rest, step % rest);
    }
    let is_short = |scale: f64| (scale / step).abs() < f64::from(1 << 24);
    (step.is_normal() && is_short(a) && is_short(b)).then_some(step)
}

/// The axis of a join, without the batch; a negative one is counted from the end.
pub(super) fn concat_axis(node: &NodeProto, rank: usize) -> Result<usize, String> {
    let axis = integer(node, "axis").unwrap_or(0);
    let rank = if axis < 0 { rank as i64 + 1 } else { 0 };
    let axis = axis.checked_add(rank).and_then(|axis| axis.checked_sub(1));
    let axis = axis.and_then(|axis| usize::try_from(axis).ok());
    axis.ok_or("the batch is not joined".into())
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
    let super::constant::Values::Integers(values) = constant.values else {
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

/// Constants times constants: the scale of the first.
fn scaled_constant(mut constant: Constant, by: &Constant) -> Result<Known, String> {
    let axis = one_axis(&by.shape, constant.shape.len());
    let factors = by.reals();
    let fits = |axis: &usize| factors.len() == 1 || constant.shape.get(*axis) == Some(&by.len());
    let axis = axis.filter(fits).ok_or("factors of more than one axis")?;
    if constant.scale.len() > 1 {
        return Err("a constant has scales already".into());
    }
    let step = constant.scale[0];
    constant.scale = factors.iter().map(|factor| factor * step).collect();
    if factors.len() > 1 {
        constant.axis = axis;
    }
    constant.is_real = true;
    Ok(Known::Constant(constant))
}
