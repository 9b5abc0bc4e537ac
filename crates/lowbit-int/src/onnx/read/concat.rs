//! Tensors one after the other.

use super::constant::integer;
use super::held::{Held, Kind};
use super::{Known, Reader};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;
use crate::ops::Concat;
use crate::tensor::Interval;

impl Reader<'_> {
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

/// The axis of a join, without the batch; a negative one is counted from the end.
pub(super) fn concat_axis(node: &NodeProto, rank: usize) -> Result<usize, String> {
    let axis = integer(node, "axis").unwrap_or(0);
    let rank = if axis < 0 { rank as i64 + 1 } else { 0 };
    let axis = axis.checked_add(rank).and_then(|axis| axis.checked_sub(1));
    let axis = axis.and_then(|axis| usize::try_from(axis).ok());
    axis.ok_or("the batch is not joined".into())
}
