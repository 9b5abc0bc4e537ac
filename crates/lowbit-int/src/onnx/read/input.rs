//! Floats that enter the network, and what is done to them before they are quantized.

use super::quantizer::Quantizer;
use super::{Known, Reader};
use crate::onnx::proto::NodeProto;
use crate::ops::Rounding;

/// Floats that enter the network, before they are quantized: times a factor, within a clip, and then
/// perhaps rounded by operators of their own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entering {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) factor: f64,
    pub(super) clip: Option<[f64; 2]>,
    /// What they are rounded with, in order.
    rounded: Vec<Step>,
}

/// A part of a rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Round,
    Floor,
    Sign,
    Magnitude,
    PlusOne,
    Half,
    /// A sign times a magnitude.
    Signed,
}

/// Half up of numbers in halves.
const HALF_UP: [Step; 4] = [Step::Floor, Step::PlusOne, Step::Half, Step::Floor];

/// The same of a magnitude, times its sign.
const HALF_AWAY: [Step; 7] = {
    let [a, b, c, d] = HALF_UP;
    [Step::Sign, Step::Magnitude, a, b, c, d, Step::Signed]
};

const OUT_OF_PLACE: &str = "is not part of a rounding of an input that is read";

impl Entering {
    pub(super) fn new(name: &str, shape: Vec<usize>) -> Self {
        Self {
            name: name.into(),
            shape,
            factor: 1.0,
            clip: None,
            rounded: Vec::new(),
        }
    }

    /// How the numbers are rounded before a quantizer that rounds in its own way, and the factor
    /// before that.
    pub(super) fn rounding(&self, quantizer: Quantizer) -> Result<(Rounding, f64), String> {
        match self.rounded[..] {
            [] => Ok((quantizer.qonnx.unwrap_or(Rounding::HalfEven), self.factor)),
            _ if quantizer.scale != 1.0 => Err("an input is rounded to other steps first".into()),
            [Step::Round] => Ok((Rounding::HalfEven, self.factor)),
            [Step::Floor] => Ok((Rounding::Floor, self.factor)),
            _ if self.rounded == HALF_UP => Ok((Rounding::HalfUp, self.factor / 2.0)),
            _ if self.rounded == HALF_AWAY => Ok((Rounding::HalfAway, self.factor / 2.0)),
            _ => Err("an input is rounded in a way that is not read".into()),
        }
    }

    fn then(mut self, step: Step) -> Result<Known, String> {
        // No rounding that is read has more steps.
        if self.clip.is_some() || self.rounded.len() >= HALF_AWAY.len() {
            return Err(OUT_OF_PLACE.into());
        }
        self.rounded.push(step);
        Ok(Known::Input(self))
    }

    /// An operator of one input, or of one and a constant.
    pub(super) fn elementwise(self, reader: &Reader, node: &NodeProto) -> Result<Known, String> {
        let step = match node.op_type() {
            "Round" => Step::Round,
            "Floor" => Step::Floor,
            "Sign" => Step::Sign,
            "Abs" => Step::Magnitude,
            "Add" if reader.scalar(node, 1)? == 1.0 => Step::PlusOne,
            "Div" if self.rounded.is_empty() => {
                return self.times(reader.scalar(node, 1)?.recip());
            }
            "Mul" if self.rounded.is_empty() => return self.times(reader.scalar(node, 1)?),
            "Mul" if reader.scalar(node, 1)? == 0.5 => Step::Half,
            _ => return Err(OUT_OF_PLACE.into()),
        };
        self.then(step)
    }

    /// The product with another, which is its magnitude.
    pub(super) fn signed(mut self, magnitude: Self) -> Result<Known, String> {
        let bare = |entering: &Self| Self {
            rounded: Vec::new(),
            ..entering.clone()
        };
        if self.rounded != [Step::Sign] || bare(&self) != bare(&magnitude) {
            return Err(OUT_OF_PLACE.into());
        }
        self.rounded.extend(magnitude.rounded);
        self.then(Step::Signed)
    }

    fn times(self, by: f64) -> Result<Known, String> {
        if !(by > 0.0 && by.is_finite()) {
            return Err("a factor is not above 0".into());
        }
        Ok(Known::Input(Self {
            factor: self.factor * by,
            clip: self.clip.map(|ends| ends.map(|end| end * by)),
            ..self
        }))
    }
}
