//! A value that floats round, as requantizations.

use super::held::{Held, Step};
use super::quantizer::Quantizer;
use super::state::{Line, state, state_twice};
use super::{Reader, multiplier_and_shift};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::ops::{Requantize, Rounding, of_channel};

impl Reader<'_> {
    /// A multiplier and a shift with the floats' integers; where sums of floats have none, the quotient of
    /// the scales.
    pub(super) fn stated(
        &mut self,
        name: &str,
        held: &Held,
        quantizer: Quantizer,
        (numbers, raised): (Numbers, i64),
    ) -> Result<TensorId, String> {
        let name = self.unique(name);
        if !held.is_exact {
            return self.by_quotient(&name, held, quantizer, numbers);
        }
        let line = |channel: usize| line(held, channel, quantizer.divisor);
        let made = |channel: usize, x: i64| quantizer.apply(held.float(channel, x)) - raised;
        match self.fitted(&name, held.id, numbers, line, made) {
            Err(_) if !held.was_integer => self.by_quotient(&name, held, quantizer, numbers),
            found => found,
        }
    }

    /// The requantization of a tensor that makes `made(channel, k - zero_point)`, which is about `line`, as
    /// one node or two.
    pub(super) fn fitted(
        &mut self,
        name: &str,
        id: TensorId,
        numbers: Numbers,
        line: impl Fn(usize) -> Line,
        made: impl Fn(usize, i64) -> i64,
    ) -> Result<TensorId, String> {
        let tensor = &self.graph.tensor(id).clone();
        let unstated = match state(tensor, numbers, &line, &made) {
            Ok(requantize) => return self.push_requantize(name, requantize, id),
            Err(unstated) => unstated,
        };
        // Rounded with the zero point, if the output has none that is added after.
        let zero = numbers.zero_point();
        let (bits, signed) = (numbers.bits(), numbers.signed());
        let centered = Numbers::affine(bits, signed, numbers.scale(), 0)?;
        let moved = |channel: usize| Line {
            offset: line(channel).offset + zero as f64,
            ..line(channel)
        };
        if zero != 0
            && let Ok(requantize) = state(tensor, centered, moved, &made)
        {
            let before = self.unique(&format!("{name}/rounded"));
            let id = self.push_requantize(&before, requantize, id)?;
            return self.restated(name, id, numbers, -zero);
        }
        if let Some([fine, coarse]) = state_twice(tensor, numbers, &line, &made) {
            let before = self.unique(&format!("{name}/product"));
            let id = self.push_requantize(&before, fine, id)?;
            return self.push_requantize(name, coarse, id);
        }
        Err(unstated.to_string())
    }

    /// The quotient of scales as a multiplier and a shift.
    fn by_quotient(
        &mut self,
        name: &str,
        held: &Held,
        quantizer: Quantizer,
        numbers: Numbers,
    ) -> Result<TensorId, String> {
        let mut product = held.clone();
        let is_clip = |step: &Step| matches!(step, Step::Clip(..));
        if product.steps.last().is_some_and(is_clip) {
            product.steps.pop();
        }
        let scale = product
            .product()
            .ok_or("a sum of floats is rounded or moved before its quantizer")?;
        let constants = scale
            .iter()
            .map(|s| multiplier_and_shift(s / quantizer.divisor));
        let constants: Result<Vec<(i64, u32)>, String> = constants.collect();
        let (multiplier, shift) = constants?.into_iter().unzip();
        let requantize = Requantize {
            multiplier,
            offset: vec![0],
            shift,
            rounding: quantizer.qonnx.unwrap_or(Rounding::HalfEven),
            numbers,
        };
        self.push_requantize(name, requantize, held.id)
    }
}

/// What a value is about, in steps of a scale.
fn line(held: &Held, channel: usize, scale: f64) -> Line {
    let at = |values: &[f32]| f64::from(of_channel(values, channel));
    let first = Line {
        ratio: of_channel(&held.scale, channel),
        offset: held.shift as f64,
    };
    let last = held.steps.iter().fold(first, |line, step| match step {
        Step::Mul(factors) => Line {
            ratio: line.ratio * at(factors),
            offset: line.offset * at(factors),
        },
        Step::Add(terms) => Line {
            offset: line.offset + at(terms),
            ..line
        },
        _ => line,
    });
    Line {
        ratio: last.ratio / scale,
        offset: last.offset / scale,
    }
}
