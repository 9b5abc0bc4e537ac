//! The quantization methods that a name stands for, and what each quantizes with given widths.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{QConfig, QPlan, TqtPlan};
use crate::Error;
use crate::error::one_of;
use crate::quantizers::{
    A2qConfig, ApotConfig, BinaryConfig, DorefaConfig, DorefaWeightConfig, LearnedWidthConfig,
    LsqConfig, LsqPlusConfig, PactConfig, QuantizerConfig, RangeLinearConfig, RangeSource,
    SawbConfig, Scheme, TrainedThresholdConfig, TtqConfig, TwnConfig, WrpnClip, WrpnConfig,
    XnorConfig,
};

/// What `--method NAME --wbits W --abits A` quantizes: a line of [`ALL`](Self::ALL).
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method(&'static Preset);

/// A method with what belongs to its name.
struct Preset {
    name: &'static str,
    /// What it is, in a line.
    what: &'static str,
    /// The paper.
    source: &'static str,
    /// Bits of weights and of activations unless told.
    usual_bits: [u32; 2],
    /// Bits of weights and of activations, where there is a choice.
    bits: Option<[RangeInclusive<u32>; 2]>,
    /// The plan with bits of weights and activations.
    plan: fn(u32, u32) -> QPlan,
}

/// Bits of what a method does not quantize.
const FLOAT: u32 = super::FLOAT_BITS;

impl Method {
    /// Nothing quantized.
    pub const FLOAT: Self = Self(&Preset {
        name: "float",
        what: "nothing",
        source: "-",
        usual_bits: [FLOAT; 2],
        bits: None,
        plan: |_, _| QPlan::float(),
    });

    /// DoReFa-Net (arXiv 1606.06160).
    pub const DOREFA: Self = Self(&Preset {
        name: "dorefa",
        what: "weights through tanh, activations clipped at 1; not the first and the last layer",
        source: "arXiv 1606.06160",
        usual_bits: [4; 2],
        bits: Some([DorefaWeightConfig::BITS, DorefaConfig::ACTIVATION_BITS]),
        plan: QPlan::dorefa,
    });

    /// Trained quantization thresholds (arXiv 1903.08066).
    pub const TQT: Self = Self(&Preset {
        name: "tqt",
        what: "every tensor, to integers times a trained power of two",
        source: "arXiv 1903.08066",
        usual_bits: [8; 2],
        bits: Some([TrainedThresholdConfig::BITS, TrainedThresholdConfig::BITS]),
        plan: |weights, activations| TqtPlan::new(weights, activations).all_tensors().plan(),
    });

    /// All methods.
    pub const ALL: &[Self] = &[
        Self::FLOAT,
        Self::DOREFA,
        Self::TQT,
        Self(&Preset {
            name: "lsq",
            what: "multiples of a learned step; 8 bits in the first and the last layer",
            source: "arXiv 1902.08153",
            usual_bits: [4; 2],
            bits: Some([LsqConfig::BITS, LsqConfig::BITS]),
            plan: QPlan::lsq,
        }),
        Self(&Preset {
            name: "lsq-plus",
            what: "the same, activations from a learned offset",
            source: "arXiv 2004.09576",
            usual_bits: [4; 2],
            bits: Some([LsqConfig::BITS, LsqPlusConfig::BITS]),
            plan: |weights, activations| {
                at_least_8_at_the_ends(weights, lsq, activations, |bits| {
                    QuantizerConfig::LsqPlus(LsqPlusConfig::new(bits))
                })
            },
        }),
        Self(&Preset {
            name: "pact",
            what: "activations up to a learned clip, weights as DoReFa-Net's; not the first and the \
                   last layer",
            source: "arXiv 1805.06085",
            usual_bits: [4; 2],
            bits: Some([DorefaWeightConfig::BITS, PactConfig::BITS]),
            plan: |weights, activations| not_the_ends(weights, dorefa, activations, pact),
        }),
        Self(&Preset {
            name: "sawb",
            what: "weights between ends from their statistics, activations as PACT's; not the first \
                   and the last layer",
            source: "arXiv 1807.06964",
            usual_bits: [4; 2],
            bits: Some([SawbConfig::BITS, PactConfig::BITS]),
            plan: |weights, activations| {
                let sawb = |bits| QuantizerConfig::Sawb(SawbConfig::new(bits));
                not_the_ends(weights, sawb, activations, pact)
            },
        }),
        Self(&Preset {
            name: "wrpn",
            what: "weights in even steps up to the largest, activations from 0 to 1; not the first and \
                   the last layer; wider networks are named as resnet20-x2",
            source: "arXiv 1709.01134",
            usual_bits: [4; 2],
            bits: Some([WrpnConfig::BITS, DorefaConfig::ACTIVATION_BITS]),
            plan: |weights, activations| {
                // Networks begin with weights that are small beside 1.
                let wrpn = |bits| {
                    QuantizerConfig::WrpnWeight(WrpnConfig {
                        clip: WrpnClip::Maximum,
                        ..WrpnConfig::new(bits)
                    })
                };
                not_the_ends(weights, wrpn, activations, unit)
            },
        }),
        Self(&Preset {
            name: "range-linear",
            what: "integers over ranges: weights symmetric over their own, activations over a moving \
                   average; 8 bits in the first and the last layer",
            source: "arXiv 1712.05877",
            usual_bits: [8; 2],
            bits: Some([2..=16, RangeLinearConfig::BITS]),
            plan: |weights, activations| {
                at_least_8_at_the_ends(weights, over_own_range, activations, over_average)
            },
        }),
        Self(&Preset {
            name: "apot",
            what: "sums of powers of two under a learned clip; 8 bits in the first and the last layer, \
                   whose input may be negative and stays in float in the first",
            source: "arXiv 1909.13144",
            usual_bits: [4; 2],
            bits: Some([ApotConfig::BITS, ApotConfig::BITS]),
            plan: |weights, activations| {
                let weight = |bits| QuantizerConfig::ApotWeight(ApotConfig::new(bits));
                let input = |bits| QuantizerConfig::ApotActivation(ApotConfig::new(bits));
                QPlan {
                    first: QConfig::of_operands(weights.max(8), weight, FLOAT, input),
                    ..at_least_8_at_the_ends(weights, weight, activations, input)
                }
            },
        }),
        Self(&Preset {
            name: "binary",
            what: "weights' signs, activations as DoReFa-Net's, of which a rectifier leaves none \
                   below 0; not the first and the last layer",
            source: "arXiv 1602.02830",
            usual_bits: [1; 2],
            bits: Some([1..=1, DorefaConfig::ACTIVATION_BITS]),
            plan: |weights, activations| {
                let binary = |_| QuantizerConfig::Binary(BinaryConfig::default());
                not_the_ends(weights, binary, activations, unit)
            },
        }),
        Self(&Preset {
            name: "xnor",
            what: "weights' signs times their mean magnitude by channel, activations as \
                   DoReFa-Net's; not the first and the last layer",
            source: "arXiv 1603.05279",
            usual_bits: [1; 2],
            bits: Some([1..=1, DorefaConfig::ACTIVATION_BITS]),
            plan: |weights, activations| {
                let xnor = |_| QuantizerConfig::XnorWeight(XnorConfig::default());
                not_the_ends(weights, xnor, activations, unit)
            },
        }),
        Self(&Preset {
            name: "twn",
            what: "ternary weights from their statistics, activations as DoReFa-Net's where they \
                   have bits; not the first and the last layer",
            source: "arXiv 1605.04711",
            usual_bits: [2, FLOAT],
            bits: Some([2..=2, DorefaConfig::ACTIVATION_BITS]),
            plan: |weights, activations| {
                let twn = |_| QuantizerConfig::TwnWeight(TwnConfig::default());
                not_the_ends(weights, twn, activations, unit)
            },
        }),
        Self(&Preset {
            name: "ttq",
            what: "ternary weights of learned values, activations as DoReFa-Net's where they have \
                   bits; not the first and the last layer",
            source: "arXiv 1612.01064",
            usual_bits: [2, FLOAT],
            bits: Some([2..=2, DorefaConfig::ACTIVATION_BITS]),
            plan: |weights, activations| {
                let ttq = |_| QuantizerConfig::TtqWeight(TtqConfig::default());
                not_the_ends(weights, ttq, activations, unit)
            },
        }),
        Self(&Preset {
            name: "a2q",
            what: "weights whose sums fit 16 bits, or 8 more than the activations have, which are as LSQ's, \
                   what is added and averaged as TQT's; 8 bits in the first and the last layer",
            source: "arXiv 2401.10432",
            usual_bits: [8; 2],
            bits: Some([A2qConfig::BITS, LsqConfig::BITS]),
            plan: accumulator_aware,
        }),
        Self(&Preset {
            name: "learned-width",
            what: "fixed point of learned bits, which start from those given and shrink under a \
                   --bit-budget",
            source: "arXiv 2405.00645",
            usual_bits: [8; 2],
            bits: Some([LearnedWidthConfig::BITS, LearnedWidthConfig::BITS]),
            plan: |weights, activations| {
                let learned = |bits| QuantizerConfig::LearnedWidth(LearnedWidthConfig::new(bits));
                let layer = QConfig::of_operands(weights, learned, activations, learned);
                QPlan {
                    default: layer.clone(),
                    first: layer.clone(),
                    last: layer,
                    ..QPlan::default()
                }
            },
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

    /// What the method quantizes, and how, in a line.
    pub fn what(self) -> &'static str {
        self.0.what
    }

    /// The paper that it is from.
    pub fn source(self) -> &'static str {
        self.0.source
    }

    /// The widths of weights and of activations that the method uses unless told.
    pub fn usual_bits(self) -> [u32; 2] {
        self.0.usual_bits
    }

    /// What weights and inputs of its layers learn, such as `step`, with the slots they are of.
    pub fn learns(self) -> Vec<(String, &'static str)> {
        let [weight_bits, activation_bits] = self.usual_bits();
        let plan = self.plan(weight_bits, activation_bits);
        let slots = plan.default.slots();
        let learned = slots.flat_map(|(slot, quantizer)| {
            let trained = quantizer.learned().iter();
            let trained = trained.filter(|learned| learned.group.is_some());
            trained.map(move |learned| (slot.to_string(), learned.field))
        });
        learned.collect()
    }

    /// The widths of weights and of activations where they are given, the usual ones where not.
    ///
    /// # Errors
    /// If the method has no such width.
    pub fn widths(self, wbits: Option<u32>, abits: Option<u32>) -> Result<[u32; 2], Error> {
        for (field, given, widths) in [
            ("wbits", wbits, self.weight_bits()),
            ("abits", abits, self.activation_bits()),
        ] {
            if let Some(widths) = widths {
                self.check_width(field, given, &widths)?;
            }
        }
        let [weights, activations] = self.usual_bits();
        let given = [wbits.unwrap_or(weights), abits.unwrap_or(activations)];
        self.plan(given[0], given[1]).check()?;
        Ok(given)
    }

    /// Whether a width that is given is one of the method's, or that of float.
    pub(crate) fn check_width(
        self,
        field: &str,
        given: Option<u32>,
        widths: &RangeInclusive<u32>,
    ) -> Result<(), Error> {
        match given {
            Some(bits) if bits != FLOAT && !widths.contains(&bits) => {
                let taken = widths_text(widths);
                let message = format!("is {bits}, {self} takes {taken}, or {FLOAT} for float");
                Err(Error::config(field, message))
            }
            _ => Ok(()),
        }
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
    /// 1902.08153, section 2.3). 32 bits leave a tensor in float.
    pub fn lsq(weight_bits: u32, activation_bits: u32) -> Self {
        at_least_8_at_the_ends(weight_bits, lsq, activation_bits, lsq)
    }
}

/// Widths as a person reads them, such as `2 to 16`.
pub fn widths_text(widths: &RangeInclusive<u32>) -> String {
    let (first, last) = (widths.start(), widths.end());
    match first == last {
        true => first.to_string(),
        false => format!("{first} to {last}"),
    }
}

/// Weights and inputs of every layer, the first and the last with at least 8 bits.
fn at_least_8_at_the_ends(
    weight_bits: u32,
    weight: fn(u32) -> QuantizerConfig,
    input_bits: u32,
    input: fn(u32) -> QuantizerConfig,
) -> QPlan {
    let layer = |at_least: u32| {
        let (weight_bits, input_bits) = (weight_bits.max(at_least), input_bits.max(at_least));
        QConfig::of_operands(weight_bits, weight, input_bits, input)
    };
    QPlan {
        default: layer(0),
        first: layer(8),
        last: layer(8),
        ..QPlan::default()
    }
}

/// Weights and inputs of every layer but the first and the last.
fn not_the_ends(
    weight_bits: u32,
    weight: fn(u32) -> QuantizerConfig,
    input_bits: u32,
    input: fn(u32) -> QuantizerConfig,
) -> QPlan {
    QPlan {
        default: QConfig::of_operands(weight_bits, weight, input_bits, input),
        ..QPlan::default()
    }
}

/// A2Q+ beside LSQ's activations, the first and the last layer with 8 bits. What is averaged and added
/// has trained powers of two, so that all of it can be made integers.
fn accumulator_aware(weight_bits: u32, input_bits: u32) -> QPlan {
    let layer = |at_least: u32| {
        let input_bits = input_bits.max(at_least);
        let mut layer = QConfig::of_operands(FLOAT, lsq, input_bits, lsq);
        if weight_bits != FLOAT {
            let config = A2qConfig::new(weight_bits.max(at_least));
            let known = input_bits.min(*A2qConfig::INPUT_BITS.end());
            let sums = (known + 8).max(16);
            let config = config.with_input_bits(known).with_accumulator_bits(sums);
            layer = layer.with("weight", QuantizerConfig::A2q(config));
        }
        layer
    };
    QPlan {
        default: layer(0),
        first: layer(8),
        last: layer(8),
        unweighted: match input_bits {
            FLOAT => QConfig::new(),
            bits => {
                let bits = bits.max(8);
                let threshold = QuantizerConfig::Tqt(TrainedThresholdConfig::new(bits));
                QConfig::new().with("input", threshold)
            }
        },
        ..QPlan::default()
    }
}

fn lsq(bits: u32) -> QuantizerConfig {
    QuantizerConfig::Lsq(LsqConfig::new(bits))
}

fn dorefa(bits: u32) -> QuantizerConfig {
    QuantizerConfig::DorefaWeight(DorefaWeightConfig::new(bits))
}

/// Activations from 0 to 1.
fn unit(bits: u32) -> QuantizerConfig {
    QuantizerConfig::DorefaActivation(DorefaConfig { bits })
}

fn pact(bits: u32) -> QuantizerConfig {
    QuantizerConfig::Pact(PactConfig::new(bits))
}

fn over_own_range(bits: u32) -> QuantizerConfig {
    QuantizerConfig::RangeLinear(RangeLinearConfig::new(bits).with_scheme(Scheme::Symmetric))
}

fn over_average(bits: u32) -> QuantizerConfig {
    let range = RangeSource::MOVING_AVERAGE;
    QuantizerConfig::RangeLinear(RangeLinearConfig::new(bits).with_range(range))
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
            "unknown method `magic`, expected float, dorefa, tqt, lsq, lsq-plus, pact, sawb, wrpn, \
             range-linear, apot, binary, xnor, twn, ttq, a2q or learned-width"
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
