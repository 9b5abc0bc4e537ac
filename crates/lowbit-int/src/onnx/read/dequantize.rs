//! `DequantizeLinear`, and integers counted from another zero.

use super::constant::{axis, check_blocks};
use super::held::{Held, Kind};
use super::{Known, Reader};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;

impl Reader<'_> {
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
}
