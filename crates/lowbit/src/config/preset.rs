//! Plans by the name of a method and two widths.

use std::ops::RangeInclusive;

use super::{FLOAT_BITS, QPlan, TqtPlan};
use crate::Error;
use crate::quantizers::{DorefaConfig, TrainedThresholdConfig};

/// What `--method NAME --wbits W --abits A` quantizes.
#[derive(Debug, Clone)]
pub struct Preset {
    /// The name of the method.
    pub name: &'static str,
    /// What it is, and where it is from.
    pub title: &'static str,
    /// The width of weights and activations unless told.
    pub usual_bits: u32,
    /// Widths of weights; empty where there is nothing to choose.
    pub weight_bits: RangeInclusive<u32>,
    /// Widths of activations.
    pub activation_bits: RangeInclusive<u32>,
    /// The plan with these widths of weights and activations.
    plan: fn(u32, u32) -> QPlan,
}

/// No width.
#[allow(clippy::reversed_empty_ranges, reason = "it is to be empty")]
const NO_BITS: RangeInclusive<u32> = 1..=0;

/// Every preset.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "float",
        title: "nothing quantized",
        usual_bits: 32,
        weight_bits: NO_BITS,
        activation_bits: NO_BITS,
        plan: |_, _| QPlan::float(),
    },
    Preset {
        name: "dorefa",
        title: "DoReFa-Net (arXiv 1606.06160)",
        usual_bits: 4,
        weight_bits: DorefaConfig::WEIGHT_BITS,
        activation_bits: DorefaConfig::ACTIVATION_BITS,
        plan: QPlan::dorefa,
    },
    Preset {
        name: "tqt",
        title: "trained quantization thresholds (arXiv 1903.08066)",
        usual_bits: 8,
        weight_bits: TrainedThresholdConfig::BITS,
        activation_bits: TrainedThresholdConfig::BITS,
        plan: |weights, activations| TqtPlan::new(weights, activations).all_tensors().plan(),
    },
];

impl Preset {
    /// The preset of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// What it quantizes with these widths of weights and activations.
    pub fn plan(&self, weight_bits: u32, activation_bits: u32) -> QPlan {
        (self.plan)(weight_bits, activation_bits)
    }
}

impl QPlan {
    /// What the method of that name quantizes with these widths of weights and activations; see
    /// [`PRESETS`].
    ///
    /// # Errors
    /// If there is no such method, or a width is neither in its range nor 32, which leaves a tensor
    /// in float.
    pub fn preset(name: &str, weight_bits: u32, activation_bits: u32) -> Result<Self, Error> {
        let preset = Preset::named(name).ok_or_else(|| {
            let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            let message = format!("is `{name}`, expected one of {}", known.join(", "));
            Error::config("method", message)
        })?;
        for (field, bits, range) in [
            ("wbits", weight_bits, &preset.weight_bits),
            ("abits", activation_bits, &preset.activation_bits),
        ] {
            if bits == FLOAT_BITS || range.contains(&bits) {
                continue;
            }
            let (first, last) = (range.start(), range.end());
            let message = match range.is_empty() {
                true => format!("the method is {name}, which has no widths"),
                false => format!("is {bits}, {name} takes {first} to {last}, or 32 for float"),
            };
            return Err(Error::config(field, message));
        }
        Ok(preset.plan(weight_bits, activation_bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_has_a_plan_for_its_widths() {
        for preset in PRESETS {
            for weights in preset.weight_bits.clone() {
                for activations in preset.activation_bits.clone() {
                    let plan = QPlan::preset(preset.name, weights, activations).unwrap();
                    plan.check().unwrap();
                    let bits = |slot| plan.default.get(slot).map(|quantizer| quantizer.bits());
                    assert_eq!(
                        (bits("weight"), bits("input")),
                        (Some(weights), Some(activations))
                    );
                }
            }
        }
        assert_eq!(QPlan::preset("float", 32, 32).unwrap(), QPlan::float());
        assert_eq!(
            QPlan::preset("qat", 8, 8).unwrap_err().to_string(),
            "method: is `qat`, expected one of float, dorefa, tqt"
        );
        assert_eq!(
            QPlan::preset("tqt", 8, 77).unwrap_err().to_string(),
            "abits: is 77, tqt takes 2 to 24, or 32 for float"
        );
        assert_eq!(
            QPlan::preset("float", 8, 32).unwrap_err().to_string(),
            "wbits: the method is float, which has no widths"
        );
    }
}
