//! The quantization methods that a name stands for.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{FLOAT_BITS, QPlan, TqtPlan};
use crate::Error;
use crate::error::one_of;
use crate::quantizers::{DorefaConfig, TrainedThresholdConfig};

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// Nothing quantized.
    Float,
    /// DoReFa-Net (arXiv 1606.06160).
    Dorefa,
    /// Trained quantization thresholds (arXiv 1903.08066).
    Tqt,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Float, Self::Dorefa, Self::Tqt];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Dorefa => "dorefa",
            Self::Tqt => "tqt",
        }
    }

    /// The names of all methods, as a person reads them: `float, dorefa or tqt`.
    pub fn names() -> &'static str {
        static NAMES: LazyLock<String> = LazyLock::new(|| one_of(&Method::ALL.map(Method::name)));
        &NAMES
    }

    /// What the method quantizes with the given widths.
    pub fn plan(self, weight_bits: u32, activation_bits: u32) -> QPlan {
        match self {
            Self::Float => QPlan::float(),
            Self::Dorefa => QPlan::dorefa(weight_bits, activation_bits),
            Self::Tqt => TqtPlan::new(weight_bits, activation_bits)
                .all_tensors()
                .plan(),
        }
    }

    /// The width that the method uses unless told: 4 bits, 8 for trained thresholds.
    pub fn usual_bits(self) -> u32 {
        match self {
            Self::Float => FLOAT_BITS,
            Self::Dorefa => 4,
            Self::Tqt => 8,
        }
    }

    /// The widths that the method has for weights, if it quantizes.
    pub fn weight_bits(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::Float => None,
            Self::Dorefa => Some(DorefaConfig::WEIGHT_BITS),
            Self::Tqt => Some(TrainedThresholdConfig::BITS),
        }
    }

    /// The widths that the method has for activations, if it quantizes.
    pub fn activation_bits(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::Float => None,
            Self::Dorefa => Some(DorefaConfig::ACTIVATION_BITS),
            Self::Tqt => Some(TrainedThresholdConfig::BITS),
        }
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
        Self::ALL
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| Error::Unknown {
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
            "unknown method `magic`, expected float, dorefa or tqt"
        );
    }
}
