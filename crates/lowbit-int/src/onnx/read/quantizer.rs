//! `clamp(round(x / scale) + zero_point)`.

use super::constant::{Constant, Values, integer, width};
use super::held::{Kind, Step, floats};
use super::{Reader, numbers};
use crate::numbers::Numbers;
use crate::onnx::proto::{DataType, NodeProto};
use crate::ops::{Rounding, of_channel};

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
    pub(super) fn of_real(&self, real: f64) -> i64 {
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

impl Reader<'_> {
    /// Scale and zero point of a quantizer, and its type.
    pub(super) fn quantizer(&self, node: &NodeProto) -> Result<Quantizer, String> {
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
