//! Quantizers: `QuantizeLinear` behind a clip, and `Quant`.

use super::{Stored, Writer};
use crate::numbers::Numbers;
use crate::onnx::model::Attribute;
use crate::onnx::proto::DataType;
use crate::onnx::steps::power;
use crate::onnx::{Dialect, ExportError};
use crate::ops::Rounding;

/// The type that holds integers of a width, if a quantizer makes it.
pub(in crate::onnx) fn storage(numbers: Numbers) -> Option<DataType> {
    match (numbers.bits(), numbers.signed()) {
        (..=8, false) => Some(DataType::Uint8),
        (..=8, true) => Some(DataType::Int8),
        (..=16, false) => Some(DataType::Uint16),
        (..=16, true) => Some(DataType::Int16),
        _ => None,
    }
}

/// Whether a type has integers that the numbers have not.
pub(super) fn is_narrow(numbers: Numbers) -> bool {
    !matches!(numbers.bits(), 8 | 16)
}

/// Steps below which a clip is kept away from `QuantizeLinear`: ONNX Runtime leaves a clip out whose
/// ends are within 2^-23 of its type's, which ends that differ by 64 steps are below 2^-29.
pub(super) const FUSED_CLIP: f32 = 1.0 / 1_048_576.0;

pub(super) fn too_wide(name: &str, numbers: Numbers, dialect: Dialect) -> ExportError {
    let bits = numbers.bits();
    let reason = format!("{bits} bits, and {dialect} quantizes to at most 16");
    ExportError::new(name, reason)
}

/// What numbers are brought to.
pub(super) struct Target {
    pub(super) numbers: Numbers,
    pub(super) exponent: i32,
    /// The scale of what comes, if it is not the step.
    pub(super) scale: Option<f32>,
    /// Whether what comes may be beyond the numbers, but not beyond their type.
    pub(super) clip: bool,
}

impl Writer<'_> {
    /// `QuantizeLinear`, after a clip where the type holds more than the numbers. `main` gives it the
    /// name itself. Also answers the clipped value.
    pub(super) fn quantize(
        &mut self,
        name: &str,
        value: &str,
        target: &Target,
        main: bool,
    ) -> Result<(Stored, String), ExportError> {
        let numbers = target.numbers;
        let Some(data_type) = storage(numbers) else {
            return Err(too_wide(name, numbers, self.dialect));
        };
        let step = power(target.exponent);
        let mut value = value.to_owned();
        if target.clip && is_narrow(numbers) {
            let scale = target.scale.unwrap_or(step);
            value = self.clip(name, &value, numbers, scale);
        }
        let zero = numbers.zero_point();
        let zero_point =
            self.model
                .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]);
        let scale = self.model.floats(&format!("{name}/scale"), &[], &[step]);
        let given = target.scale.map(|scale| {
            self.model
                .floats(&format!("{name}/input_scale"), &[], &[scale])
        });
        let inputs = [&value, given.as_ref().unwrap_or(&scale), &zero_point].map(String::as_str);
        let integers = if main {
            self.model.main("QuantizeLinear", name, &inputs, vec![])
        } else {
            self.model.node("QuantizeLinear", name, &inputs, vec![])
        };
        let stored = Stored {
            integers,
            scale,
            zero_point,
        };
        Ok((stored, value))
    }

    /// A clip to the least and greatest real number.
    pub(super) fn clip(&mut self, name: &str, value: &str, numbers: Numbers, scale: f32) -> String {
        let end = |k: i64| (k - numbers.zero_point()) as f32 * scale;
        let least = self
            .model
            .floats(&format!("{name}/least"), &[], &[end(numbers.least())]);
        let greatest = end(numbers.greatest());
        let greatest = self
            .model
            .floats(&format!("{name}/greatest"), &[], &[greatest]);
        self.model
            .node("Clip", name, &[value, &least, &greatest], vec![])
    }

    /// QONNX's quantizer. Of scales there is one, or one for each index of a dimension, with `shape`.
    pub(super) fn quant(
        &mut self,
        name: &str,
        value: &str,
        numbers: Numbers,
        scales: &[f32],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<String, ExportError> {
        if numbers.bits() == 1 && numbers.signed() {
            let reason = "1 bit with sign is -1 and 1 in qonnx, and -1 and 0 here";
            return Err(ExportError::new(name, reason));
        }
        let scale = self.model.floats(&format!("{name}/scale"), shape, scales);
        let zero = numbers.zero_point() as f32;
        let zero = self
            .model
            .floats(&format!("{name}/zero_point"), &[], &[zero]);
        let bits = numbers.bits() as f32;
        let bits = self
            .model
            .floats(&format!("{name}/bit_width"), &[], &[bits]);
        let rounding = match rounding {
            Rounding::HalfEven => "ROUND",
            // QONNX's name for half away from zero.
            Rounding::HalfAway | Rounding::HalfUp => "HALF_UP",
            Rounding::Floor => "FLOOR",
        };
        let attributes = vec![
            Attribute::Int("signed", numbers.signed().into()),
            Attribute::Int("narrow", 0),
            Attribute::Text("rounding_mode", rounding),
        ];
        let inputs = [value, &scale, &zero, &bits];
        Ok(self.model.qonnx("Quant", name, &inputs, attributes))
    }
}
