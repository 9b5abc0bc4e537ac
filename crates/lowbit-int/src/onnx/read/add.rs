//! Sums of two tensors.

use super::held::{Held, Kind, Step};
use super::{Known, Reader};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;
use crate::ops::Add;

impl Reader<'_> {
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
            (Known::Input(entering), Known::Constant(_)) => entering.elementwise(self, node),
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
