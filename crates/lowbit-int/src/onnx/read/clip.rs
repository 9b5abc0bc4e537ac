//! Clips of floats and of integers.

use super::held::{Held, Kind, Step};
use super::{Known, Reader};
use crate::onnx::proto::NodeProto;
use crate::ops::{Clamp, Rectifier};

impl Reader<'_> {
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
            Known::Input(mut entering) => {
                let before = entering.clip;
                entering.clip = Some(before.map_or(ends, |before| clip_again(before, ends)));
                Ok(Known::Input(entering))
            }
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

/// The ends of one clip after another.
fn clip_again(before: [f64; 2], ends: [f64; 2]) -> [f64; 2] {
    before.map(|end| end.max(ends[0]).min(ends[1]))
}

/// Whether a quotient of two floats is an integer, but for the rounding of both to 24 bits.
fn is_whole(quotient: f64) -> bool {
    (quotient - quotient.round()).abs() <= quotient.abs() * (-23f64).exp2()
}
