//! Files with quantizers between floats, read back as integers.

use std::collections::HashMap;
use std::path::Path;

use prost::Message;

use super::proto::{
    DataType, Dimension, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use crate::error::GraphError;
use crate::graph::{Graph, TensorId};
use crate::numbers::Numbers;
use crate::ops::{
    Add, AveragePool, Clamp, Concat, Convolution, Flatten, Linear, MaxPool, Mul, Operator,
    Rectifier, Requantize, Rounding, Sliding, Weights, Windows,
};

/// The network of integers of a file in which every sum lies between `DequantizeLinear` and
/// `QuantizeLinear`, as [`write`](super::write) makes them in `onnx-qdq` and as quantization tools do:
/// `Conv`, `ConvTranspose`, `Gemm`, `MatMul`, `Add`, `Sub`, `Mul`, `Relu`, `Clip`, `MaxPool`,
/// `AveragePool`, `GlobalAveragePool`, `Concat`, `Flatten`, `Identity`. Quantizers round half to even; the
/// quotient of scales is taken as it is, as a multiplier and a shift, rounded to 31 bits where it has more.
/// A file has no step of a sum that is not quantized: `2 a + 2 b` in steps of 1 is read as `a + b` in
/// steps of 2.
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
    let mut reader = Reader::default();
    reader.constants(&file)?;
    for input in &file.input {
        reader.input(input)?;
    }
    for node in &file.node {
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
        let id = match reader.known.get(output.name()) {
            Some(Known::Real(real)) => real.id,
            _ => return Err(GraphError::node(output.name(), "is no tensor with a scale")),
        };
        reader.graph.output(id)?;
    }
    Ok(reader.graph)
}

/// Numbers with a scale for all, or for each channel, and an end to them.
#[derive(Clone)]
struct Real {
    id: TensorId,
    /// What 1 stands for.
    scale: Vec<f64>,
    clip: Option<Clip>,
}

/// A clip that the next quantizer does.
#[derive(Clone)]
struct Clip {
    /// What it is called in the file.
    name: String,
    ends: [f64; 2],
}

/// Constants with a scale for all, or for each index of an axis.
#[derive(Clone)]
struct Constant {
    data_type: i32,
    shape: Vec<usize>,
    values: Vec<f64>,
    scale: Vec<f64>,
    axis: usize,
}

impl Constant {
    /// What the integers stand for.
    fn reals(&self) -> Vec<f64> {
        let inner: usize = self.shape.iter().skip(self.axis + 1).product();
        let scale = |at: usize| match self.scale[..] {
            [scale] => scale,
            _ => self.scale[at / inner % self.scale.len()],
        };
        let values = self.values.iter().enumerate();
        values.map(|(at, value)| value * scale(at)).collect()
    }
}

/// What is known of a value.
#[derive(Clone)]
enum Known {
    /// Floats that enter the network, before they are quantized.
    Input {
        name: String,
        shape: Vec<usize>,
        clip: Option<[f64; 2]>,
    },
    /// Integers.
    Integers(TensorId),
    /// Floats that stand for integers.
    Real(Real),
    Constant(Constant),
}

#[derive(Default)]
struct Reader {
    graph: Graph,
    known: HashMap<String, Known>,
}

/// A constant's elements, in one of the two places where they may be.
fn elements(tensor: &TensorProto) -> Option<Constant> {
    let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into();
    let values: Vec<f64> = match (&tensor.raw_data, tensor.data_type?) {
        (None, 1) => tensor.float_data.iter().map(|&v| v.into()).collect(),
        (None, 2..=6) => tensor.int32_data.iter().map(|&v| v.into()).collect(),
        (Some(raw), 1) => raw.chunks_exact(4).map(float).collect(),
        (Some(raw), 2) => raw.iter().map(|&b| b.into()).collect(),
        (Some(raw), 3) => raw.iter().map(|&b| (b as i8).into()).collect(),
        (Some(raw), 4) => {
            let pairs = raw.chunks_exact(2);
            pairs
                .map(|b| u16::from_le_bytes([b[0], b[1]]).into())
                .collect()
        }
        (Some(raw), 5) => {
            let pairs = raw.chunks_exact(2);
            pairs
                .map(|b| i16::from_le_bytes([b[0], b[1]]).into())
                .collect()
        }
        (Some(raw), 6) => {
            let words = raw.chunks_exact(4);
            words
                .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into())
                .collect()
        }
        // Of other types there are lists of axes, say, which nothing here reads.
        (_, _) => return None,
    };
    let shape: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect();
    let shape = shape?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (count == values.len()).then_some(Constant {
        data_type: tensor.data_type?,
        shape,
        values,
        scale: vec![1.0],
        axis: 0,
    })
}

/// Bits and sign of a quantizer's type.
fn width(data_type: i32) -> Result<(u32, bool), String> {
    const TYPES: [(DataType, u32, bool); 5] = [
        (DataType::Uint8, 8, false),
        (DataType::Int8, 8, true),
        (DataType::Uint16, 16, false),
        (DataType::Int16, 16, true),
        (DataType::Int32, 32, true),
    ];
    let found = TYPES.iter().find(|(known, ..)| *known as i32 == data_type);
    let (_, bits, signed) = found.ok_or(format!("type {data_type} is not of 8, 16 or 32 bits"))?;
    Ok((*bits, *signed))
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

/// The integer that a number is quantized to, before it saturates.
fn quantized(real: f64, scale: f64, zero_point: i64) -> i64 {
    ((real / scale).round_ties_even() as i64).saturating_add(zero_point)
}

/// The ends of one clip after another.
fn clip_again(before: [f64; 2], ends: [f64; 2]) -> [f64; 2] {
    before.map(|end| end.max(ends[0]).min(ends[1]))
}

/// Whether a quotient of two floats is an integer, but for the rounding of both to 24 bits.
fn is_whole(quotient: f64) -> bool {
    (quotient - quotient.round()).abs() <= quotient.abs() * (-23f64).exp2()
}

impl Reader {
    fn constants(&mut self, file: &GraphProto) -> Result<(), GraphError> {
        for tensor in &file.initializer {
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
        let known = Known::Input {
            name: input.name().into(),
            shape,
            clip: None,
        };
        self.known.insert(input.name().into(), known);
        Ok(())
    }

    fn get(&self, node: &NodeProto, at: usize) -> Result<&Known, String> {
        let name = node.input.get(at).ok_or(format!("has no input {at}"))?;
        self.known.get(name).ok_or(format!("{name} is not known"))
    }

    fn real(&self, node: &NodeProto, at: usize) -> Result<Real, String> {
        match self.get(node, at)? {
            Known::Real(real) if real.clip.is_none() => Ok(real.clone()),
            Known::Real(_) => Err("a clip of a sum comes before anything but a quantizer".into()),
            _ => Err(format!("{} is not quantized", node.input[at])),
        }
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

    /// Adds a node to the graph, under the name of the file's.
    fn push(
        &mut self,
        node: &NodeProto,
        operator: impl Into<Operator>,
        inputs: &[TensorId],
    ) -> Result<TensorId, String> {
        let name = self.name(node).to_owned();
        self.push_as(&name, operator, inputs)
    }

    /// What a node of the file is called in the graph.
    fn name<'n>(&self, node: &'n NodeProto) -> &'n str {
        if node.name().is_empty() || self.graph.find(node.name()).is_some() {
            node.output.first().map_or("", String::as_str)
        } else {
            node.name()
        }
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

    fn node(&mut self, node: &NodeProto) -> Result<Known, String> {
        if !matches!(node.domain(), "" | "ai.onnx") {
            return Err(format!(
                "{} of {} is not read",
                node.op_type(),
                node.domain()
            ));
        }
        match node.op_type() {
            "Identity" => self.get(node, 0).cloned(),
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "Clip" => self.clip(node),
            "Conv" | "ConvTranspose" => self.convolution(node),
            "Gemm" | "MatMul" => self.linear(node),
            "Add" | "Sub" => self.add(node),
            "Mul" => self.mul(node),
            "Relu" => self.same_scale(node, Rectifier {}),
            "Flatten" if integer(node, "axis").unwrap_or(1) == 1 => {
                self.same_scale(node, Flatten {})
            }
            "MaxPool" => {
                let windows = windows(node)?;
                self.same_scale(node, MaxPool { windows })
            }
            "AveragePool" | "GlobalAveragePool" => self.average(node),
            "Concat" => self.concat(node),
            other => Err(format!("{other} is not read")),
        }
    }

    /// Scale and zero point of a quantizer, and its type.
    fn quantizer(&self, node: &NodeProto) -> Result<(f64, i64, i32), String> {
        let scale = self.scalar(node, 1)?;
        if node.input.len() < 3 {
            let given = integer(node, "output_dtype").filter(|&data_type| data_type != 0);
            let data_type = given.unwrap_or(DataType::Uint8 as i64);
            let data_type = i32::try_from(data_type);
            return Ok((scale, 0, data_type.map_err(|_| "output_dtype is no type")?));
        }
        let zero = self.constant(node, 2)?;
        Ok((scale, self.scalar(node, 2)? as i64, zero.data_type))
    }

    /// Numbers of a quantizer's type and, if a clip before it leaves those of fewer bits, of these.
    fn clipped(
        ends: Option<[f64; 2]>,
        (scale, zero, data_type): (f64, i64, i32),
    ) -> Result<(Numbers, Option<Numbers>), String> {
        let (bits, signed) = width(data_type)?;
        let all = numbers(bits, signed, scale, zero)?;
        let Some(ends) = ends else {
            return Ok((all, None));
        };
        let ends = ends.map(|end| quantized(end, scale, zero));
        let mut widths = (1..=bits).filter(|&bits| {
            let grid = Numbers::power_of_two(bits, signed, 0);
            grid.is_ok_and(|grid| [grid.least(), grid.greatest()] == ends)
        });
        let narrow = widths
            .next()
            .map(|bits| numbers(bits, signed, scale, zero))
            .transpose()?;
        Ok((all, narrow))
    }

    fn quantize(&mut self, node: &NodeProto) -> Result<Known, String> {
        check_blocks(node)?;
        let quantizer = self.quantizer(node)?;
        match self.get(node, 0)?.clone() {
            Known::Input { name, shape, clip } => {
                let numbers = match Self::clipped(clip, quantizer)? {
                    (_, Some(narrow)) => narrow,
                    (all, None) if clip.is_none() => all,
                    _ => return Err("a clip of an input is not to a width".into()),
                };
                let id = self.graph.input(&name, &shape, numbers);
                Ok(Known::Integers(id.map_err(|error| error.to_string())?))
            }
            Known::Real(real) => self.requantize(node, &real, quantizer),
            _ => Err(format!("{} is not to be quantized", node.input[0])),
        }
    }

    fn requantize(
        &mut self,
        node: &NodeProto,
        Real { id, scale, clip }: &Real,
        quantizer: (f64, i64, i32),
    ) -> Result<Known, String> {
        let (to, zero, data_type) = quantizer;
        let (all, narrow) = Self::clipped(clip.as_ref().map(|clip| clip.ends), quantizer)?;
        let (bits, held) = (width(data_type)?.0, self.graph.tensor(*id).numbers());
        // Integers that are quantized once more as they are.
        if clip.is_none()
            && scale.iter().all(|&s| s == to)
            && (held.zero_point(), held.signed()) == (zero, all.signed())
            && held.bits() <= bits
        {
            return Ok(Known::Integers(*id));
        }
        let constants = scale.iter().map(|s| multiplier_and_shift(s / to));
        let constants: Result<Vec<(i64, u32)>, String> = constants.collect();
        let (multiplier, shift) = constants?.into_iter().unzip();
        let requantize = Requantize {
            multiplier,
            offset: vec![0],
            shift,
            rounding: Rounding::HalfEven,
            numbers: narrow.unwrap_or(all),
        };
        let mut made = self.push(node, requantize, &[*id])?;
        if let (Some(clip), None) = (clip, narrow) {
            // A quantizer does not fall: the clip's ends may be quantized instead of what is clipped.
            let end = |end: f64| quantized(end, to, zero).clamp(all.least(), all.greatest());
            let [least, greatest] = clip.ends.map(end);
            made = self.push_as(&clip.name, Clamp { least, greatest }, &[made])?;
        }
        Ok(Known::Integers(made))
    }

    fn dequantize(&mut self, node: &NodeProto) -> Result<Known, String> {
        check_blocks(node)?;
        match self.get(node, 0)?.clone() {
            Known::Integers(id) => {
                let scale = self.scalar(node, 1)?;
                if !(scale.is_finite() && scale > 0.0) {
                    return Err(format!(
                        "scale is {scale}, expected a finite number above 0"
                    ));
                }
                let (held, zero) = (self.graph.tensor(id).numbers(), self.quantizer(node)?.1);
                if held.zero_point() != zero {
                    let expected = held.zero_point();
                    return Err(format!("zero point is {zero}, and was {expected} before"));
                }
                Ok(Known::Real(Real {
                    id,
                    scale: vec![scale],
                    clip: None,
                }))
            }
            Known::Constant(mut constant) => {
                if node.input.len() > 2 && self.constant(node, 2)?.values.iter().any(|&z| z != 0.0)
                {
                    return Err("constants have zero point 0".into());
                }
                constant.scale = self.constant(node, 1)?.reals();
                if constant.scale.len() != 1 {
                    constant.axis = axis(node, &constant.shape, constant.scale.len())?;
                }
                Ok(Known::Constant(constant))
            }
            _ => Err(format!("{} is not quantized", node.input[0])),
        }
    }

    fn clip(&mut self, node: &NodeProto) -> Result<Known, String> {
        let ends = [self.scalar(node, 1)?, self.scalar(node, 2)?];
        if ends.iter().any(|end| end.is_nan()) || ends[0] > ends[1] {
            let [least, greatest] = ends;
            return Err(format!("a clip is from {least} to {greatest}"));
        }
        match self.get(node, 0)?.clone() {
            Known::Input { name, shape, clip } => {
                let clip = Some(clip.map_or(ends, |before| clip_again(before, ends)));
                Ok(Known::Input { name, shape, clip })
            }
            Known::Real(Real { id, scale, clip }) => {
                if let (None, Some(limits)) = (&clip, self.limits(id, &scale, ends)) {
                    let id = self.push(node, limits, &[id])?;
                    return Ok(Known::Real(Real { id, scale, clip }));
                }
                let ends = clip.map_or(ends, |before| clip_again(before.ends, ends));
                let name = self.name(node).to_owned();
                let clip = Some(Clip { name, ends });
                Ok(Known::Real(Real { id, scale, clip }))
            }
            _ => Err(format!("{} is not quantized", node.input[0])),
        }
    }

    /// A clip in a tensor's integers, if its ends are integers there, or beyond all that there are.
    fn limits(&self, id: TensorId, scale: &[f64], ends: [f64; 2]) -> Option<Clamp> {
        let tensor = self.graph.tensor(id);
        let (held, known) = (tensor.numbers(), tensor.interval());
        if held.bits() > 16 || scale.len() > 1 || scale[0] != held.scale() {
            return None;
        }
        let zero = held.zero_point();
        let [low, high] = ends.map(|end| end / scale[0]);
        let above_least = low > (known.least - zero) as f64;
        let below_greatest = high < (known.greatest - zero) as f64;
        if above_least && !is_whole(low) || below_greatest && !is_whole(high) {
            return None;
        }
        let [least, greatest] = [low, high].map(|end| (end.round() as i64).saturating_add(zero));
        Some(Clamp {
            least: least.max(held.least()),
            greatest: greatest.min(held.greatest()),
        })
    }

    /// The weight's integers, whose outputs are an axis; their step is the scale, or the first one.
    fn weights(&self, node: &NodeProto, outputs: usize) -> Result<(Weights, Vec<f64>), String> {
        let constant = self.constant(node, 1)?;
        let axis = constant.axis;
        if constant.scale.len() != 1 && axis != outputs {
            return Err(format!(
                "weights have scales of axis {axis}, expected {outputs}"
            ));
        }
        let (bits, signed) = width(constant.data_type)?;
        let step = *constant.scale.first().ok_or("a weight has no scale")?;
        // With a scale for each output none of them is the sum's step, which is not compared then.
        let numbers = match constant.scale.len() {
            1 => numbers(bits, signed, step, 0),
            _ => Numbers::affine(bits, signed, step, 0),
        };
        let weights = Weights {
            shape: constant.shape,
            numbers: numbers?,
            values: constant.values.iter().map(|&w| w as i64).collect(),
        };
        Ok((weights, constant.scale))
    }

    /// A bias, whose scale is the sum's.
    fn bias(&self, node: &NodeProto, scales: &[f64]) -> Result<Option<Vec<i64>>, String> {
        if node.input.len() < 3 {
            return Ok(None);
        }
        let constant = self.constant(node, 2)?;
        if constant.data_type != DataType::Int32 as i32 {
            return Err("a bias is of int32".into());
        }
        let at =
            |values: &[f64], c: usize| values.get(if values.len() == 1 { 0 } else { c }).copied();
        for channel in 0..constant.values.len() {
            let (given, sum) = (at(&constant.scale, channel), at(scales, channel));
            let (Some(given), Some(sum)) = (given, sum) else {
                return Err("there are less scales than biases".into());
            };
            // Scales of others are products that were rounded to floats.
            let distance = (given - sum).abs();
            if distance.is_nan() || distance > 1e-6 * sum {
                return Err(format!("a bias has scale {given}, its sum {sum}"));
            }
        }
        Ok(Some(constant.values.iter().map(|&b| b as i64).collect()))
    }

    /// The sum's scales, and its tensor.
    fn product(
        &mut self,
        node: &NodeProto,
        operator: impl Into<Operator>,
        x: &Real,
        scales: &[f64],
    ) -> Result<Known, String> {
        let [step] = x.scale[..] else {
            return Err("the input has a scale for each channel".into());
        };
        let id = self.push(node, operator, &[x.id])?;
        Ok(Known::Real(Real {
            id,
            scale: scales.iter().map(|scale| scale * step).collect(),
            clip: None,
        }))
    }

    fn convolution(&mut self, node: &NodeProto) -> Result<Known, String> {
        let x = self.real(node, 0)?;
        let is_transposed = node.op_type() == "ConvTranspose";
        let (weights, scales) = self.weights(node, usize::from(is_transposed))?;
        let dimensions = weights.shape.len().saturating_sub(2);
        let sliding = sliding(node, dimensions)?;
        let groups = integer(node, "group").unwrap_or(1);
        let groups = usize::try_from(groups).map_err(|_| "group is below 0")?;
        let sums: Vec<f64> = scales.iter().map(|scale| scale * x.scale[0]).collect();
        let mut convolution = Convolution::new(weights, self.bias(node, &sums)?)
            .with_sliding(sliding)
            .with_groups(groups);
        if is_transposed {
            let padding = sizes(node, "output_padding")?.unwrap_or(vec![0; dimensions]);
            convolution = convolution.with_transposed(padding);
        }
        self.product(node, convolution, &x, &scales)
    }

    fn linear(&mut self, node: &NodeProto) -> Result<Known, String> {
        let x = self.real(node, 0)?;
        let gemm = node.op_type() == "Gemm";
        let by_rows = gemm && integer(node, "transB").unwrap_or(0) != 0;
        let (mut weights, scales) = self.weights(node, usize::from(!by_rows))?;
        let factors = ["alpha", "beta"];
        let mut attributes = node.attribute.iter();
        if attributes.any(|a| factors.contains(&a.name()) && a.f() != 1.0) {
            return Err("alpha and beta are 1".into());
        }
        if weights.shape.len() != 2 || gemm && integer(node, "transA").unwrap_or(0) != 0 {
            return Err("weights are a matrix, and transA is 0".into());
        }
        if scales.len() > 1 && self.graph.tensor(x.id).shape().len() > 1 {
            return Err("rows of sums have one scale".into());
        }
        if !by_rows {
            weights.check(2)?;
            weights = super::float::transposed(&weights);
        }
        let sums: Vec<f64> = scales.iter().map(|scale| scale * x.scale[0]).collect();
        let bias = if gemm { self.bias(node, &sums)? } else { None };
        self.product(node, Linear { weights, bias }, &x, &scales)
    }

    fn add(&mut self, node: &NodeProto) -> Result<Known, String> {
        let operands = [self.real(node, 0)?, self.real(node, 1)?];
        let [[a], [b]] = [&operands[0].scale[..], &operands[1].scale[..]] else {
            return Err("an operand has a scale for each channel".into());
        };
        let finer = a.min(*b);
        let mut multipliers = [a / finer, b / finer];
        if multipliers.iter().any(|m| m.fract() != 0.0) {
            return Err(format!("scales {a} and {b} are no multiples"));
        }
        if node.op_type() == "Sub" {
            multipliers[1] = -multipliers[1];
        }
        let add = Add {
            multipliers: multipliers.map(|m| m as i64),
        };
        let id = self.push(node, add, &[operands[0].id, operands[1].id])?;
        Ok(Known::Real(Real {
            id,
            scale: vec![finer],
            clip: None,
        }))
    }

    fn mul(&mut self, node: &NodeProto) -> Result<Known, String> {
        let mut a = self.real(node, 0)?;
        if let Ok(factors) = self.constant(node, 1) {
            let (shape, factors) = (&factors.shape, factors.reals());
            if factors.iter().any(|&f| !(f > 0.0 && f.is_finite())) {
                return Err("a factor is not above 0".into());
            }
            if !is_of_channels(shape, self.graph.tensor(a.id).shape()) {
                return Err(format!(
                    "factors of shape {shape:?}, expected one for all or for each channel"
                ));
            }
            let count = a.scale.len().max(factors.len());
            let lengths = [a.scale.len(), factors.len()];
            if lengths.iter().any(|&n| n != 1 && n != count) {
                return Err(format!("{lengths:?} factors do not fit each other"));
            }
            let at = |values: &[f64], c: usize| values[if values.len() == 1 { 0 } else { c }];
            let scale = (0..count).map(|c| at(&a.scale, c) * at(&factors, c));
            a.scale = scale.collect();
            return Ok(Known::Real(a));
        }
        let b = self.real(node, 1)?;
        let ([x], [y]) = (&a.scale[..], &b.scale[..]) else {
            return Err("a factor has a scale for each channel".into());
        };
        let scale = vec![x * y];
        let id = self.push(node, Mul {}, &[a.id, b.id])?;
        Ok(Known::Real(Real {
            id,
            scale,
            clip: None,
        }))
    }

    /// An operator whose output stands for its input's numbers.
    fn same_scale(
        &mut self,
        node: &NodeProto,
        operator: impl Into<Operator>,
    ) -> Result<Known, String> {
        let mut x = self.real(node, 0)?;
        if x.scale.len() > 1 {
            return Err("the input has a scale for each channel".into());
        }
        x.id = self.push(node, operator, &[x.id])?;
        Ok(Known::Real(x))
    }

    fn average(&mut self, node: &NodeProto) -> Result<Known, String> {
        let mut x = self.real(node, 0)?;
        let image = self.graph.tensor(x.id);
        let windows = match node.op_type() {
            "GlobalAveragePool" => Windows::global(image.shape().len().saturating_sub(1)),
            _ => windows(node)?,
        };
        let before = image.numbers().scale();
        let pool = AveragePool {
            windows,
            include_padding: integer(node, "count_include_pad") == Some(1),
        };
        x.id = self.push(node, pool, &[x.id])?;
        let after = self.graph.tensor(x.id).numbers().scale();
        x.scale = x.scale.iter().map(|scale| scale * after / before).collect();
        Ok(Known::Real(x))
    }

    fn concat(&mut self, node: &NodeProto) -> Result<Known, String> {
        let inputs = (0..node.input.len()).map(|at| self.real(node, at));
        let inputs: Result<Vec<Real>, String> = inputs.collect();
        let inputs = inputs?;
        let first = inputs.first().ok_or("has no inputs")?.clone();
        if inputs.iter().any(|input| input.scale != first.scale) || first.scale.len() > 1 {
            return Err("inputs have different scales".into());
        }
        let axis = integer(node, "axis").unwrap_or(0).checked_sub(1);
        let axis = axis.and_then(|axis| usize::try_from(axis).ok());
        let axis = axis.ok_or("the batch is not joined")?;
        let ids: Vec<TensorId> = inputs.iter().map(|input| input.id).collect();
        let id = self.push(node, Concat { axis }, &ids)?;
        Ok(Known::Real(Real { id, ..first }))
    }
}

fn check_blocks(node: &NodeProto) -> Result<(), String> {
    match integer(node, "block_size") {
        None | Some(0) => Ok(()),
        Some(_) => Err("block_size is not read".into()),
    }
}

/// The axis of a constant's scales, of which there are so many; a negative one is counted from the end.
fn axis(node: &NodeProto, shape: &[usize], scales: usize) -> Result<usize, String> {
    let given = integer(node, "axis").unwrap_or(1);
    let rank = if given < 0 { shape.len() as i64 } else { 0 };
    let axis = usize::try_from(given + rank).ok();
    let axis = axis.filter(|&axis| shape.get(axis) == Some(&scales));
    axis.ok_or_else(|| {
        format!("{scales} scales, expected one for each index of axis {given} of {shape:?}")
    })
}

/// Whether factors are one for all, or one for each index of a tensor's first dimension but the batch:
/// ONNX aligns shapes at their ends.
fn is_of_channels(factors: &[usize], tensor: &[usize]) -> bool {
    let rank = tensor.len();
    let inner = match factors.strip_prefix(&[1]) {
        Some(inner) if inner.len() == rank => inner,
        _ => factors,
    };
    let alike = |expected: usize| {
        inner.first() == Some(&expected) && inner[1..].iter().all(|&size| size == 1)
    };
    let for_all = inner.len() <= rank && inner.iter().all(|&size| size == 1);
    for_all || inner.len() == rank && alike(tensor[0])
}

fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    let found = node.attribute.iter().find(|a| a.name() == name);
    found.and_then(|attribute| attribute.i)
}

fn sizes(node: &NodeProto, name: &str) -> Result<Option<Vec<usize>>, String> {
    let Some(attribute) = node.attribute.iter().find(|a| a.name() == name) else {
        return Ok(None);
    };
    let sizes = attribute
        .ints
        .iter()
        .map(|&size| usize::try_from(size).ok());
    let sizes: Option<Vec<usize>> = sizes.collect();
    sizes
        .map(Some)
        .ok_or(format!("{name} has a number below 0"))
}

/// Strides, paddings and dilations.
fn sliding(node: &NodeProto, dimensions: usize) -> Result<Sliding, String> {
    let auto = node.attribute.iter().find(|a| a.name() == "auto_pad");
    if auto.is_some_and(|a| a.s() != b"NOTSET") || integer(node, "ceil_mode").unwrap_or(0) != 0 {
        return Err("auto_pad and ceil_mode are not read".into());
    }
    let mut sliding = Sliding::new(dimensions);
    if let Some(stride) = sizes(node, "strides")? {
        sliding.stride = stride;
    }
    if let Some(dilation) = sizes(node, "dilations")? {
        sliding.dilation = dilation;
    }
    if let Some(pads) = sizes(node, "pads")? {
        let (before, after) = pads.split_at(pads.len() / 2);
        let pairs = before.iter().zip(after);
        sliding.padding = pairs.map(|(&before, &after)| [before, after]).collect();
    }
    Ok(sliding)
}

fn windows(node: &NodeProto) -> Result<Windows, String> {
    let kernel = sizes(node, "kernel_shape")?.ok_or("has no kernel_shape")?;
    let sliding = sliding(node, kernel.len())?;
    Ok(Windows::Sliding { kernel, sliding })
}
