//! `QuantizeLinear`: of inputs, whose integers it names, of sums, and of constants.

use super::constant::{Constant, check_blocks, integer};
use super::held::{Held, Kind, Step, floats};
use super::quantizer::{Quantizer, quantized_constant};
use super::{Known, Reader};
use crate::onnx::proto::{DataType, NodeProto};
use crate::ops::Clamp;

impl Reader<'_> {
    pub(super) fn quantize(&mut self, node: &NodeProto) -> Result<Known, String> {
        check_blocks(node)?;
        let quantizer = self.quantizer(node)?;
        match self.get(node, 0)?.clone() {
            Known::Input(_) => self.quantize_input(node, quantizer),
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
        let Known::Input(entering) = self.get(node, 0)?.clone() else {
            return Err("is no input".into());
        };
        let (rounding, factor) = entering.rounding(quantizer)?;
        let clip = entering.clip;
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
        let id = self.graph.input(&entering.name, &entering.shape, numbers);
        let id = id.map_err(|error| error.to_string())?;
        let rounded = self.graph.round_input(id, rounding);
        rounded.map_err(|error| error.to_string())?;
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
}
