//! Quantizers and clips.

use super::constant::{Constant, Values, axis, check_blocks, integer, width};
use super::held::{Held, Kind, Step, floats};
use super::{Known, Reader, numbers};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::proto::{DataType, NodeProto};
use crate::ops::{Clamp, Rectifier, Rounding, of_channel};

/// `clamp(round(x / scale) + zero_point)` to a type's integers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantizer {
    pub(super) scale: f64,
    /// What floats are divided by: the scale, if they are not in its steps already.
    pub(super) divisor: f64,
    pub(super) zero_point: i64,
    pub(super) bits: u32,
    pub(super) signed: bool,
    /// The least and the greatest integer that it makes.
    pub(super) ends: [i64; 2],
    /// Of QONNX: the zero point is added before the rounding, which may be another.
    pub(super) qonnx: Option<Rounding>,
}

impl Quantizer {
    /// `QuantizeLinear` to a type.
    pub(super) fn new(scale: f64, zero_point: i64, data_type: i32) -> Result<Self, String> {
        let (bits, signed) = width(data_type)?;
        Ok(Self {
            scale,
            divisor: scale,
            zero_point,
            bits,
            signed,
            ends: Kind::Integer(bits, signed).ends(),
            qonnx: None,
        })
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::Integer(self.bits, self.signed)
    }

    /// The integer that it makes of a float.
    pub(super) fn apply(&self, x: f32) -> i64 {
        let [least, greatest] = self.ends;
        let scaled = x / self.divisor as f32;
        let integer = match self.qonnx {
            None => (scaled.round_ties_even() as i64).saturating_add(self.zero_point),
            Some(rounding) => {
                let moved = scaled + self.zero_point as f32;
                let limited = moved.max(least as f32).min(greatest as f32);
                floats(&[Step::Round(rounding)], 0, limited) as i64
            }
        };
        integer.clamp(least, greatest)
    }

    /// The integer that it makes of a real number, before it saturates.
    fn of_real(&self, real: f64) -> i64 {
        let nearest = (real / self.divisor).round_ties_even() as i64;
        nearest.saturating_add(self.zero_point)
    }

    /// The numbers whose least and greatest integers are these, and how much higher the file has them:
    /// bytes without sign may hold integers with sign, 128 higher.
    pub(super) fn numbers(&self, ends: [i64; 2]) -> Option<(Numbers, i64)> {
        let mut ways = vec![(0, self.signed)];
        if (self.bits, self.signed) == (8, false) {
            let centered = ends == self.ends && self.zero_point == 128;
            ways.insert(usize::from(!centered), (128, true));
        }
        if self.bits > 16 {
            ways.insert(0, (0, false));
        }
        ways.into_iter().find_map(|(raised, signed)| {
            let fits = |&bits: &u32| {
                let own = Kind::Integer(bits, signed).ends();
                let zero = self.zero_point - raised;
                own.map(|end| end + raised) == ends && (own[0]..=own[1]).contains(&zero)
            };
            let bits = (1..=self.bits.min(32)).find(fits)?;
            let zero = self.zero_point - raised;
            let found = numbers(bits, signed, self.scale, zero).ok()?;
            Some((found, raised))
        })
    }
}

/// The ends of one clip after another.
fn clip_again(before: [f64; 2], ends: [f64; 2]) -> [f64; 2] {
    before.map(|end| end.max(ends[0]).min(ends[1]))
}

/// Whether a quotient of two floats is an integer, but for the rounding of both to 24 bits.
fn is_whole(quotient: f64) -> bool {
    (quotient - quotient.round()).abs() <= quotient.abs() * (-23f64).exp2()
}

impl Reader<'_> {
    /// Scale and zero point of a quantizer, and its type.
    fn quantizer(&self, node: &NodeProto) -> Result<Quantizer, String> {
        let scale = self.scalar(node, 1)?;
        if !Self::has(node, 2) {
            let given = integer(node, "output_dtype").filter(|&data_type| data_type != 0);
            let data_type = given.unwrap_or(DataType::Uint8 as i64);
            let data_type = i32::try_from(data_type).map_err(|_| "output_dtype is no type")?;
            return Quantizer::new(scale, 0, data_type);
        }
        self.quantizer_of(node, [1, 2])
    }

    /// The quantizer of a scale and a zero point among a node's inputs.
    pub(super) fn quantizer_of(
        &self,
        node: &NodeProto,
        [scale, zero]: [usize; 2],
    ) -> Result<Quantizer, String> {
        let constant = self.constant(node, zero)?;
        let (bits, signed) = constant
            .width
            .ok_or("a zero point is not of 8, 16 or 32 bits")?;
        let scale = self.scalar(node, scale)?;
        Ok(Quantizer {
            scale,
            divisor: scale,
            zero_point: self.scalar(node, zero)? as i64,
            bits,
            signed,
            ends: Kind::Integer(bits, signed).ends(),
            qonnx: None,
        })
    }

    pub(super) fn quantize(&mut self, node: &NodeProto) -> Result<Known, String> {
        check_blocks(node)?;
        let quantizer = self.quantizer(node)?;
        match self.get(node, 0)?.clone() {
            Known::Input { .. } => self.quantize_input(node, quantizer),
            Known::Held(held) if held.kind == Kind::Float => {
                let name = self.name(node);
                self.requantize(&name, &held, quantizer).map(Known::Held)
            }
            Known::Constant(constant) => {
                let scale = vec![quantizer.scale];
                let made = quantized_constant(&constant, &quantizer, &scale, 0)?;
                Ok(Known::Constant(Constant {
                    scale: vec![1.0],
                    is_real: false,
                    ..made
                }))
            }
            _ => Err(format!("{} is not to be quantized", node.input[0])),
        }
    }

    /// An input's first quantizer, with the clip around it, says which integers it has.
    pub(super) fn quantize_input(
        &mut self,
        node: &NodeProto,
        quantizer: Quantizer,
    ) -> Result<Known, String> {
        let Known::Input {
            name,
            shape,
            factor,
            clip,
        } = self.get(node, 0)?.clone()
        else {
            return Err("is no input".into());
        };
        let given = Quantizer {
            scale: quantizer.scale / factor,
            ..quantizer
        };
        let output = node.output.first().map_or("", String::as_str);
        let after = self.clip_after(output);
        let narrow = after.and_then(|(_, ends)| given.numbers(ends));
        let (numbers, raised) = match (clip, narrow) {
            (Some(ends), _) => {
                let ends = ends.map(|end| quantizer.of_real(end));
                let narrow = given.numbers(ends);
                narrow.ok_or("a clip of an input is not to a width")?
            }
            (None, Some(narrow)) => narrow,
            (None, None) => {
                let all = given.numbers(given.kind().ends());
                all.ok_or("a zero point is beyond its type")?
            }
        };
        let id = self.graph.input(&name, &shape, numbers);
        let id = id.map_err(|error| error.to_string())?;
        let shift = numbers.zero_point() + raised;
        let mut held = Held::integers(id, quantizer.kind(), shift);
        let [least, greatest] = quantizer.ends.map(|end| end - raised);
        if numbers.least() < least || numbers.greatest() > greatest {
            // After all inputs, which come first.
            let name = self.unique(output);
            let least = least.max(numbers.least());
            let greatest = greatest.min(numbers.greatest());
            held.id = self.push_as(&name, Clamp { least, greatest }, &[id])?;
        }
        if clip.is_none() && narrow.is_some() {
            self.take_clip(output, &held);
        }
        Ok(Known::Held(held))
    }

    /// The clip of integers that alone reads a value, perhaps as integers of 32 bits, and its ends.
    pub(super) fn clip_after(&self, value: &str) -> Option<(usize, [i64; 2])> {
        let mut at = self.only_reader(value)?;
        let mut node = &self.file.node[at];
        if node.op_type() == "Cast" && integer(node, "to") == Some(DataType::Int32 as i64) {
            at = self.only_reader(node.output.first()?)?;
            node = &self.file.node[at];
        }
        if node.op_type() != "Clip" {
            return None;
        }
        let end = |input| self.constant(node, input).ok();
        let ends = [end(1)?, end(2)?];
        let ends = ends.map(|end| end.integers().map(<[i64]>::to_vec));
        match ends {
            [Some(low), Some(high)] if low.len() == 1 && high.len() == 1 => {
                Some((at, [low[0], high[0]]))
            }
            _ => None,
        }
    }

    /// Takes the clip after a value, and the conversion before it, as done: what it makes is `held`.
    pub(super) fn take_clip(&mut self, value: &str, held: &Held) {
        let (Some(first), Some((at, _))) = (self.only_reader(value), self.clip_after(value)) else {
            return;
        };
        self.done.extend([first, at]);
        let mut held = held.clone();
        if first != at {
            held.kind = Kind::Integer(32, true);
        }
        if let Some(output) = self.file.node[at].output.first() {
            self.known.insert(output.clone(), Known::Held(held));
        }
    }

    /// A value brought to a quantizer's integers.
    pub(super) fn requantize(
        &mut self,
        name: &str,
        held: &Held,
        quantizer: Quantizer,
    ) -> Result<Held, String> {
        if let Some(same) = self.same_integers(held, quantizer) {
            return Ok(same);
        }
        if held.falls() {
            return Err("a factor is not above 0".into());
        }
        let mut steps = held.steps.clone();
        let clip = steps
            .iter()
            .rposition(|step| matches!(step, Step::Clip(..)));
        let mut ends = quantizer.ends;
        let mut clip_name = self.unique(name);
        if let Some(at) = clip
            && let Step::Clip(name, clip) = &held.steps[at]
        {
            let tail = &held.steps[at + 1..];
            let [least, greatest] = quantizer.ends;
            let end = |end: f64| match tail {
                [] => quantizer.of_real(end).clamp(least, greatest),
                _ => quantizer.apply(floats(tail, 0, end as f32)),
            };
            ends = clip.map(end);
            clip_name.clone_from(name);
        }
        let narrow = quantizer.numbers(ends);
        let all = quantizer.kind().ends();
        if narrow.is_none()
            && let Some(at) = clip
        {
            // A quantizer does not fall: the clip's ends may be quantized instead of what is clipped.
            steps.remove(at);
        }
        let (numbers, raised) = match narrow.or(quantizer.numbers(all)) {
            Some(found) => found,
            None => return Err("a zero point is beyond its type".into()),
        };
        let unclipped = Held {
            steps,
            ..held.clone()
        };
        let full = Quantizer {
            ends: [numbers.least(), numbers.greatest()].map(|end| end + raised),
            ..quantizer
        };
        let mut made = self.stated(name, &unclipped, full, (numbers, raised))?;
        if narrow.is_none() {
            let [least, greatest] = ends.map(|end| end - raised);
            let name = self.unique(&clip_name);
            made = self.push_as(&name, Clamp { least, greatest }, &[made])?;
        }
        let shift = self.graph.tensor(made).numbers().zero_point() + raised;
        Ok(Held::integers(made, quantizer.kind(), shift))
    }

    /// Integers that are quantized once more as they are.
    fn same_integers(&self, held: &Held, quantizer: Quantizer) -> Option<Held> {
        let numbers = self.graph.tensor(held.id).numbers();
        let moved = quantizer.zero_point - numbers.zero_point() + held.shift;
        let alike = held.scale.iter().all(|&s| s == quantizer.divisor);
        let [least, greatest] = quantizer.ends;
        let fits = numbers.bits() <= quantizer.bits
            && numbers.least() + moved >= least
            && numbers.greatest() + moved <= greatest;
        let shift = quantizer.zero_point + held.shift;
        let same = held.steps.is_empty() && alike && fits;
        same.then(|| Held::integers(held.id, quantizer.kind(), shift))
    }

    pub(super) fn dequantize(&mut self, node: &NodeProto) -> Result<Known, String> {
        check_blocks(node)?;
        match self.get(node, 0)?.clone() {
            Known::Held(held) if held.kind != Kind::Float => {
                let scale = self.scalar(node, 1)?;
                if !(scale.is_finite() && scale > 0.0) {
                    return Err(format!(
                        "scale is {scale}, expected a finite number above 0"
                    ));
                }
                let zero = self.zero_point(node, 2)?;
                let id = self.counted_from(node, &held, zero)?;
                Ok(Known::Held(Held::real(id, vec![scale], true)))
            }
            Known::Constant(mut constant) => {
                if constant.is_real {
                    return Err(format!("{} is dequantized already", node.input[0]));
                }
                let zeros = match Self::has(node, 2) {
                    true => self.constant(node, 2)?.reals(),
                    false => vec![],
                };
                if zeros.iter().any(|&z| z != 0.0) {
                    return Err("constants have zero point 0".into());
                }
                constant.scale = self.constant(node, 1)?.reals();
                if constant.scale.len() != 1 {
                    constant.axis = axis(node, &constant.shape, constant.scale.len())?;
                }
                constant.is_real = true;
                Ok(Known::Constant(constant))
            }
            _ => Err(format!("{} is not quantized", node.input[0])),
        }
    }

    /// The tensor of integers as they are counted from `zero` in the file.
    pub(super) fn counted_from(
        &mut self,
        node: &NodeProto,
        held: &Held,
        zero: i64,
    ) -> Result<TensorId, String> {
        if !held.steps.is_empty() {
            return Err("is rounded or moved before anything but a clip".into());
        }
        if held.shift == zero {
            return Ok(held.id);
        }
        let tensor = self.graph.tensor(held.id);
        let numbers = tensor.numbers();
        // Integers keep what they are, and have another zero.
        let place = numbers.zero_point() + zero - held.shift;
        let (bits, signed) = (numbers.bits(), numbers.signed());
        let other = Numbers::affine(bits, signed, numbers.scale(), place);
        let other = other.map_err(|_| {
            let expected = held.shift;
            format!("zero point is {zero}, and was {expected} before")
        })?;
        let name = format!("{}/zero", self.name(node));
        self.restated(&name, held.id, other, numbers.zero_point() - place)
    }

    pub(super) fn clip(&mut self, node: &NodeProto) -> Result<Known, String> {
        let end = |at: usize, none: f64| match Self::has(node, at) {
            true => self.scalar(node, at),
            false => Ok(none),
        };
        let ends = [end(1, f64::NEG_INFINITY)?, end(2, f64::INFINITY)?];
        if ends.iter().any(|end| end.is_nan()) || ends[0] > ends[1] {
            let [least, greatest] = ends;
            return Err(format!("a clip is from {least} to {greatest}"));
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
                factor,
                clip: Some(clip.map_or(ends, |before| clip_again(before, ends))),
            }),
            Known::Held(held) if held.kind == Kind::Float => {
                self.clip_floats(node, held, ends).map(Known::Held)
            }
            Known::Held(held) if held.steps.is_empty() => {
                self.clip_integers(node, held, ends).map(Known::Held)
            }
            Known::Held(held) => self.shifted(node, &held, ends).map(Known::Held),
            _ => Err(format!("{} is not quantized", node.input[0])),
        }
    }

    fn clip_floats(
        &mut self,
        node: &NodeProto,
        mut held: Held,
        ends: [f64; 2],
    ) -> Result<Held, String> {
        let output = node.output.first().map_or("", String::as_str);
        if held.steps.is_empty()
            && !self.is_of_width(output, ends)
            && let Some(limits) = self.limits(&held, ends)
        {
            held.id = self.push(node, limits, &[held.id])?;
            return Ok(held);
        }
        let mut ends = ends;
        if let Some(Step::Clip(_, before)) = held.steps.last() {
            ends = clip_again(*before, ends);
            held.steps.pop();
        }
        let name = self.name(node);
        Ok(held.with(Step::Clip(name, ends)))
    }

    /// Whether the quantizer that alone reads a clip makes integers of a width of it.
    fn is_of_width(&self, clip: &str, ends: [f64; 2]) -> bool {
        let at = self.only_reader(clip);
        let node = at.map(|at| &self.file.node[at]);
        let Some(node) = node.filter(|node| node.op_type() == "QuantizeLinear") else {
            return false;
        };
        let quantizer = self.quantizer(node).ok();
        quantizer.is_some_and(|q| q.numbers(ends.map(|end| q.of_real(end))).is_some())
    }

    /// A clip in a tensor's integers, if its ends are integers there, or beyond all that there are.
    fn limits(&self, held: &Held, ends: [f64; 2]) -> Option<Clamp> {
        let tensor = self.graph.tensor(held.id);
        let (numbers, known, scale) = (tensor.numbers(), tensor.interval(), &held.scale);
        let is_wide = numbers.bits() > 16 || scale[0] != numbers.scale();
        if held.shift != 0 || scale.len() > 1 || is_wide && !held.is_exact {
            return None;
        }
        let zero = numbers.zero_point();
        let [low, high] = ends.map(|end| end / scale[0]);
        let above_least = low > (known.least - zero) as f64;
        let below_greatest = high < (known.greatest - zero) as f64;
        if above_least && !is_whole(low) || below_greatest && !is_whole(high) {
            return None;
        }
        let [least, greatest] = [low, high].map(|end| (end.round() as i64).saturating_add(zero));
        Some(Clamp {
            least: least.max(numbers.least()),
            greatest: greatest.min(numbers.greatest()),
        })
    }

    /// A clip of integers as the file has them.
    fn clip_integers(
        &mut self,
        node: &NodeProto,
        mut held: Held,
        ends: [f64; 2],
    ) -> Result<Held, String> {
        let numbers = self.graph.tensor(held.id).numbers();
        let zero = numbers.zero_point();
        if ends == [held.shift as f64, f64::INFINITY] {
            held.id = self.push(node, Rectifier {}, &[held.id])?;
            return Ok(held);
        }
        let end = |end: f64| {
            let own = (end as i64).saturating_sub(held.shift).saturating_add(zero);
            own.clamp(numbers.least(), numbers.greatest())
        };
        let [least, greatest] = ends.map(end);
        if [least, greatest] != [numbers.least(), numbers.greatest()] {
            held.id = self.push(node, Clamp { least, greatest }, &[held.id])?;
        }
        Ok(held)
    }
}

/// Constants brought to a quantizer's integers, with a scale for all or for each index of an axis.
pub(super) fn quantized_constant(
    constant: &Constant,
    quantizer: &Quantizer,
    scales: &[f64],
    axis: usize,
) -> Result<Constant, String> {
    let inner: usize = constant.shape.iter().skip(axis + 1).product();
    if scales.len() > 1 && constant.shape.get(axis) != Some(&scales.len()) {
        let shape = &constant.shape;
        return Err(format!(
            "{} scales, expected one for each index of axis {axis} of {shape:?}",
            scales.len()
        ));
    }
    let values = constant.reals().into_iter().enumerate();
    let integers = values.map(|(at, value)| {
        let scale = of_channel(scales, at / inner.max(1) % scales.len());
        let divisor = scale;
        let quantizer = Quantizer {
            divisor,
            ..*quantizer
        };
        quantizer.apply(value as f32)
    });
    Ok(Constant {
        shape: constant.shape.clone(),
        values: Values::Integers(integers.collect()),
        width: Some((quantizer.bits, quantizer.signed)),
        scale: scales.to_vec(),
        axis,
        is_real: true,
    })
}
