//! QONNX's quantizers, whose integers are real numbers in the file.

use super::constant::{Constant, Values, integer, one_axis, text};
use super::held::{Held, Kind};
use super::quantizer::{Quantizer, quantized_constant};
use super::state::{Line, state};
use super::{Known, Reader, numbers};
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;
use crate::ops::{LookUp, Rounding};

impl Reader<'_> {
    /// QONNX's quantizer, which makes real numbers.
    pub(super) fn quant(&mut self, node: &NodeProto) -> Result<Known, String> {
        let quantizer = self.quant_of(node)?;
        match self.get(node, 0)?.clone() {
            Known::Constant(constant) => {
                let scales = self.constant(node, 1)?;
                let axis = one_axis(&scales.shape, constant.shape.len());
                let axis = axis.ok_or("scales of more than one axis")?;
                if quantizer.zero_point != 0 {
                    return Err("constants have zero point 0".into());
                }
                let made = quantized_constant(&constant, &quantizer, &scales.reals(), axis)?;
                Ok(Known::Constant(made))
            }
            Known::Input(_) => {
                let scale = self.scalar(node, 1)?;
                let Known::Held(held) = self.quantize_input(node, quantizer)? else {
                    return Err("is no input".into());
                };
                Ok(Known::Held(Held::real(held.id, vec![scale], true)))
            }
            Known::Held(held) if held.kind == Kind::Float => {
                let scale = self.scalar(node, 1)?;
                let name = self.name(node);
                let made = self.requantize(&name, &held, quantizer)?;
                Ok(Known::Held(Held::real(made.id, vec![scale], true)))
            }
            _ => Err(format!("{} is not to be quantized", node.input[0])),
        }
    }

    /// Scale, zero point, width and rounding of QONNX's quantizer.
    fn quant_of(&self, node: &NodeProto) -> Result<Quantizer, String> {
        let scales = self.constant(node, 1)?.reals();
        if scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err("a scale is not finite and above 0".into());
        }
        let (zero, bits) = (self.scalar(node, 2)?, self.scalar(node, 3)?);
        let signed = integer(node, "signed") != Some(0);
        let narrow = i64::from(integer(node, "narrow").unwrap_or(0) != 0);
        if !(1.0..=32.0).contains(&bits) || bits.fract() != 0.0 || zero.fract() != 0.0 {
            return Err(format!("{bits} bits with zero point {zero}, of 1 to 32"));
        }
        let bits = bits as u32;
        if bits == 1 && signed {
            return Err("1 bit with sign is -1 and 1, which is not read".into());
        }
        let [least, greatest] = Kind::Integer(bits, signed).ends();
        let ends = if signed {
            [least + narrow, greatest]
        } else {
            [least, greatest - narrow]
        };
        let mode = text(node, "rounding_mode").unwrap_or(b"ROUND");
        let rounding = match mode.to_ascii_uppercase().as_slice() {
            b"ROUND" => Rounding::HalfEven,
            b"HALF_UP" => Rounding::HalfAway,
            b"FLOOR" => Rounding::Floor,
            _ => {
                let mode = String::from_utf8_lossy(mode);
                return Err(format!("rounding_mode {mode} is not read"));
            }
        };
        let scale = scales.first().copied().ok_or("has no scale")?;
        Ok(Quantizer {
            scale,
            divisor: scale,
            zero_point: zero as i64,
            bits,
            signed,
            ends,
            qonnx: Some(rounding),
        })
    }

    /// QONNX's -1 and 1, times a scale: 1 from zero on.
    pub(super) fn bipolar(&mut self, node: &NodeProto) -> Result<Known, String> {
        let scale = self.scalar(node, 1)?;
        match self.get(node, 0)?.clone() {
            Known::Constant(constant) => {
                let signs = constant.reals();
                let signs = signs.iter().map(|&v| if v >= 0.0 { 1 } else { -1 });
                Ok(Known::Constant(Constant {
                    values: Values::Integers(signs.collect()),
                    width: Some((2, true)),
                    scale: vec![scale],
                    is_real: true,
                    ..constant
                }))
            }
            Known::Held(held) if held.kind == Kind::Float && held.is_exact => {
                let bit = Numbers::affine(1, false, 1.0, 0)?;
                let line = |_| Line {
                    ratio: 1.0,
                    offset: 0.0,
                };
                let made = |channel, x| i64::from(held.float(channel, x) >= 0.0);
                let found = state(self.graph.tensor(held.id), bit, line, made);
                let requantize = found.map_err(|unstated| unstated.to_string())?;
                let name = self.unique(&format!("{}/bit", self.name(node)));
                let bits = self.push_requantize(&name, requantize, held.id)?;
                let table = LookUp {
                    table: vec![-1, 1],
                    numbers: numbers(2, true, scale, 0)?,
                };
                let id = self.push(node, table, &[bits])?;
                Ok(Known::Held(Held::real(id, vec![scale], true)))
            }
            _ => Err(format!(
                "{} has no integers that -1 and 1 are told from",
                node.input[0]
            )),
        }
    }
}
