//! The quantization methods that a name stands for, and what each quantizes with given widths.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{FLOAT_BITS, QConfig, QPlan, TqtPlan};
use crate::Error;
use crate::error::one_of;
use crate::quantizers::{DorefaConfig, LsqConfig, QuantizerConfig, TrainedThresholdConfig};

/// What `--method NAME --wbits W --abits A` quantizes: a line of [`ALL`](Self::ALL).
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(&'static Preset);

/// A method with what belongs to its name.
struct Preset {
    name: &'static str,
    /// Bits of weights and activations unless told.
    usual_bits: u32,
    /// Bits of weights and of activations, where there is a choice.
    bits: Option<[RangeInclusive<u32>; 2]>,
    /// The plan with bits of weights and activations.
    plan: fn(u32, u32) -> QPlan,
}

impl Method {
    /// Nothing quantized.
    pub const FLOAT: Self = Self(&Preset {
        name: "float",
        usual_bits: FLOAT_BITS,
        bits: None,
        plan: |_, _| QPlan::float(),
    });

    /// DoReFa-Net (arXiv 1606.06160).
    pub const DOREFA: Self = Self(&Preset {
        name: "dorefa",
        usual_bits: 4,
        bits: Some([DorefaConfig::WEIGHT_BITS, DorefaConfig::ACTIVATION_BITS]),
        plan: QPlan::dorefa,
    });

    /// Trained quantization thresholds (arXiv 1903.08066).
    pub const TQT: Self = Self(&Preset {
        name: "tqt",
        usual_bits: 8,
        bits: Some([TrainedThresholdConfig::BITS, TrainedThresholdConfig::BITS]),
        plan: |weights, activations| TqtPlan::new(weights, activations).all_tensors().plan(),
    });

    /// All methods.
    pub const ALL: &[Self] = &[
        Self::FLOAT,
        Self::DOREFA,
        Self::TQT,
        // Learned steps (arXiv 1902.08153).
        Self(&Preset {
            name: "lsq",
            usual_bits: 4,
            bits: Some([LsqConfig::BITS, LsqConfig::BITS]),
            plan: QPlan::lsq,
        }),
    ];

    /// The text form.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The names of all methods, as a person reads them: such as `float, dorefa or tqt`.
    pub fn names() -> &'static str {
        static NAMES: LazyLock<String> = LazyLock::new(|| {
            let names: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
            one_of(&names)
        });
        &NAMES
    }

    /// What the method quantizes with the given widths.
    pub fn plan(self, weight_bits: u32, activation_bits: u32) -> QPlan {
        (self.0.plan)(weight_bits, activation_bits)
    }

    /// The width that the method uses unless told.
    pub fn usual_bits(self) -> u32 {
        self.0.usual_bits
    }

    /// The widths that the method has for weights, if it quantizes.
    pub fn weight_bits(self) -> Option<RangeInclusive<u32>> {
        self.0.bits.clone().map(|[weights, _]| weights)
    }

    /// The widths that the method has for activations, if it quantizes.
    pub fn activation_bits(self) -> Option<RangeInclusive<u32>> {
        self.0.bits.clone().map(|[_, activations]| activations)
    }
}

impl QPlan {
    /// LSQ: weights and inputs of every layer, the first and the last with at least 8 bits (arXiv
    /// 1902.08153, section 3). 32 bits leave a tensor in float.
    pub fn lsq(weight_bits: u32, activation_bits: u32) -> Self {
        let lsq = |bits| (bits < FLOAT_BITS).then(|| QuantizerConfig::Lsq(LsqConfig::new(bits)));
        let layer = |at_least: u32| {
            QConfig::new()
                .with("weight", lsq(weight_bits.max(at_least)))
                .with("input", lsq(activation_bits.max(at_least)))
        };
        Self {
            default: layer(0),
            first: layer(8),
            last: layer(8),
            ..Self::default()
        }
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Method {}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|method| method.name() == text);
        found.copied().ok_or_else(|| Error::Unknown {
            kind: "method",
            text: text.into(),
            expected: Self::names(),
        })
    }
}

impl TryFrom<String> for Method {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.name().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_is_answered_with_the_list() {
        assert_eq!(
            "magic".parse::<Method>().unwrap_err().to_string(),
            "unknown method `magic`, expected float, dorefa, tqt or lsq"
        );
    }

    #[test]
    fn methods_are_equal_by_their_names() {
        let tqt: Method = "tqt".parse().unwrap();
        assert_eq!(tqt, Method::TQT);
        assert_ne!(tqt, Method::DOREFA);
    }

    #[test]
    fn a_method_has_a_plan_for_each_of_its_widths() {
        for method in Method::ALL {
            let (Some(weights), Some(activations)) =
                (method.weight_bits(), method.activation_bits())
            else {
                continue;
            };
            for weights in weights {
                for activations in activations.clone() {
                    let plan = method.plan(weights, activations);
                    plan.check().unwrap();
                    let bits = |slot| plan.default.get(slot).map(|quantizer| quantizer.bits());
                    assert_eq!(
                        (bits("weight"), bits("input")),
                        (Some(weights), Some(activations))
                    );
                }
            }
        }
    }
}
