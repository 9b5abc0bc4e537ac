//! Products of two tensors, and of tensors with constants.

use super::constant::{Constant, one_axis};
use super::held::{Held, Kind};
use super::{Known, Reader};
use crate::onnx::plan::EXACT;
use crate::onnx::proto::NodeProto;
use crate::ops::Mul;

impl Reader<'_> {
    pub(super) fn mul(&mut self, node: &NodeProto) -> Result<Known, String> {
        let [a, b] = [self.get(node, 0)?.clone(), self.get(node, 1)?.clone()];
        match (a, b) {
            (Known::Held(held), Known::Constant(constant))
            | (Known::Constant(constant), Known::Held(held)) => {
                self.times(held, &constant).map(Known::Held)
            }
            (Known::Held(a), Known::Held(b)) if a.kind != Kind::Float => {
                let plain = |held: &Held| held.steps.is_empty() && held.shift == 0;
                if a.kind != b.kind || !plain(&a) || !plain(&b) {
                    return Err("factors are not counted from zero, or of different types".into());
                }
                let id = self.push(node, Mul {}, &[a.id, b.id])?;
                self.fits(id, a.kind)?;
                Ok(Known::Held(Held::integers(id, a.kind, 0)))
            }
            (a @ Known::Part(_), b) | (a, b @ Known::Part(_)) => self.product_of_parts(&a, &b),
            (Known::Input(entering), Known::Constant(_)) => entering.elementwise(self, node),
            (Known::Input(sign), Known::Input(magnitude)) => sign.signed(magnitude),
            (Known::Constant(a), Known::Constant(b)) => scaled_constant(a, &b),
            _ => self.mul_reals(node),
        }
    }

    fn mul_reals(&mut self, node: &NodeProto) -> Result<Known, String> {
        let [(a, x), (b, y)] = [self.real(node, 0)?, self.real(node, 1)?];
        let ([x], [y]) = (&x[..], &y[..]) else {
            return Err("a factor has a scale for each channel".into());
        };
        let scale = x * y;
        let id = self.push(node, Mul {}, &[a.id, b.id])?;
        let tensor = self.graph.tensor(id);
        let reach = tensor.interval().magnitude();
        let power = scale.to_bits() << 12 == 0 && (scale as f32).is_normal();
        let is_exact = a.is_exact && b.is_exact && power && reach < EXACT;
        Ok(Known::Held(Held::real(id, vec![scale], is_exact)))
    }
}

/// Constants times constants: the scale of the first.
fn scaled_constant(mut constant: Constant, by: &Constant) -> Result<Known, String> {
    let axis = one_axis(&by.shape, constant.shape.len());
    let factors = by.reals();
    let fits = |axis: &usize| factors.len() == 1 || constant.shape.get(*axis) == Some(&by.len());
    let axis = axis.filter(fits).ok_or("factors of more than one axis")?;
    if constant.scale.len() > 1 {
        return Err("a constant has scales already".into());
    }
    let step = constant.scale[0];
    constant.scale = factors.iter().map(|factor| factor * step).collect();
    if factors.len() > 1 {
        constant.axis = axis;
    }
    constant.is_real = true;
    Ok(Known::Constant(constant))
}
