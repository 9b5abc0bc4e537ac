//! Tensors of few numbers.

use std::iter::successors;

use lowbit_kernels::integer::binary::Codes;

use super::is_bytes;
use crate::graph::{Graph, TensorId};
use crate::ops::Operator;
use crate::tensor::{Interval, Residue, Tensor};

/// The numbers of a tensor that is kept as bytes, if they are at most four, as far apart as a power of
/// two: from what is proven of it, or from the table that made it.
pub(crate) fn codes(graph: &Graph, id: TensorId) -> Option<Codes> {
    let tensor = graph.tensor(id);
    if !is_bytes(tensor) {
        return None;
    }
    let (Interval { least, greatest }, step) =
        looked_up(graph, id).unwrap_or_else(|| known(tensor));
    let levels = (greatest - least) >> step;
    let bits = successors(Some(1), |bits| Some(bits + 1)).find(|bits| levels >> bits == 0)?;
    (bits <= 2).then(|| Codes {
        least: (least - tensor.numbers.least()) as u8,
        step,
        bits,
    })
}

/// The interval and the bits that all numbers share, from what is proven.
fn known(tensor: &Tensor) -> (Interval, u32) {
    let residues = tensor.residues().iter().copied();
    let residue = residues.reduce(Residue::union).unwrap_or(Residue::ANY);
    let step = residue.bits.min(7);
    let Interval { least, greatest } = tensor.interval();
    // The first number from `least` on that has the bits.
    let above = (residue.residue - least) & ((1 << step) - 1);
    let least = (least + above).min(greatest);
    (Interval { least, greatest }, step)
}

/// The same of what a table makes.
fn looked_up(graph: &Graph, id: TensorId) -> Option<(Interval, u32)> {
    let node = graph.nodes().iter().find(|node| node.output == id)?;
    let Operator::LookUp(look_up) = &node.operator else {
        return None;
    };
    let input = graph.tensor(node.inputs[0]);
    let Interval { least, greatest } = input.interval();
    let entries = [least, greatest].map(|x| (x - input.numbers.least()) as usize);
    let values = &look_up.table[entries[0]..=entries[1]];
    let least = *values.iter().min()?;
    let greatest = *values.iter().max()?;
    let apart = values.iter().fold(0, |bits, value| bits | (value - least));
    Some((Interval { least, greatest }, apart.trailing_zeros().min(7)))
}
