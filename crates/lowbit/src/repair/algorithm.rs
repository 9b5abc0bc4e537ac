//! The algorithms by name, and in which order they make sense.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::Layer;
use crate::quantizers::{QuantizerConfig, Slot};

/// What is done to a trained network so that quantization costs it less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// [`equalize`](super::equalize()).
    Equalize,
    /// [`adaround`](super::adaround()).
    Adaround,
    /// [`gptq`](super::gptq()).
    Gptq,
    /// [`bias_correct`](super::bias_correct).
    BiasCorrect,
}

impl Algorithm {
    /// All of them, in an order that makes sense.
    pub const ALL: [Self; 4] = [
        Self::Equalize,
        Self::Adaround,
        Self::Gptq,
        Self::BiasCorrect,
    ];

    /// Their names.
    pub const NAMES: &str = "equalize, adaround, gptq, bias-correct";

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equalize => "equalize",
            Self::Adaround => "adaround",
            Self::Gptq => "gptq",
            Self::BiasCorrect => "bias-correct",
        }
    }

    /// What [`RepairedTensor`](super::RepairedTensor) says of a tensor.
    pub fn measures(self) -> &'static str {
        match self {
            Self::Equalize => "the channels' mean share of the tensor's range",
            Self::Adaround | Self::Gptq => {
                "error over signal of the layer's sums, to nearest and now"
            }
            Self::BiasCorrect => "the channels' mean error over the root mean square of the sums",
        }
    }

    /// Whether it chooses how weights are rounded.
    pub fn rounds(self) -> bool {
        matches!(self, Self::Adaround | Self::Gptq)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| Error::Unknown {
            kind: "algorithm",
            text: text.into(),
            expected: Self::NAMES,
        })
    }
}

/// Whether these algorithms, one after the other, make sense: each once, equalization first, which moves
/// what the others go by, one that rounds weights at most, and the correction of biases last, which makes
/// up for what the others leave.
///
/// # Errors
/// [`Error::Config`] of the field `algorithms`, with the first that is out of place.
pub fn check_algorithms(algorithms: &[Algorithm]) -> Result<(), Error> {
    for (i, &second) in algorithms.iter().enumerate() {
        for &first in &algorithms[..i] {
            let message = match (first, second) {
                _ if first == second => format!("{first} is there twice"),
                (_, Algorithm::Equalize) => {
                    format!("equalize is after {first}, whose work it undoes; expected before it")
                }
                _ if first.rounds() && second.rounds() => {
                    format!("{first} leaves {second} nothing to round; expected one of them")
                }
                (Algorithm::BiasCorrect, _) => format!(
                    "bias-correct is before {second}, which moves what it corrects; expected after it"
                ),
                _ => continue,
            };
            return Err(Error::config("algorithms", message));
        }
    }
    Ok(())
}

impl Algorithm {
    /// Whether the quantized weights of these layers are what it can move.
    ///
    /// # Errors
    /// [`Error::Config`] of the first that learns its width, is made by a function of what is stored, or,
    /// where it is to be rounded, is on no grid of integers times a power of two.
    pub fn check_layers(self, layers: &[Layer]) -> Result<(), Error> {
        if self == Self::BiasCorrect {
            return Ok(());
        }
        for layer in layers {
            let message = match layer.config.get(Slot::WEIGHT) {
                Some(QuantizerConfig::LearnedWidth(_)) => {
                    "learns its width, expected a width that stays".into()
                }
                Some(config) if config.transforms() => format!(
                    "is quantized by {}, which makes it by a function of what is stored",
                    config.name()
                ),
                Some(config) if self.rounds() && !config.has_integers() => format!(
                    "is quantized by {}, expected integers times a power of two",
                    config.name()
                ),
                _ => continue,
            };
            return Err(Error::config(format!("{}.weight", layer.path), message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_file() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), algorithm);
            assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
        }
        assert_eq!(
            Algorithm::ALL.map(Algorithm::name).join(", "),
            Algorithm::NAMES
        );
        let error = "smooth".parse::<Algorithm>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown algorithm `smooth`, expected equalize, adaround, gptq, bias-correct"
        );
    }

    #[test]
    fn an_order_without_sense_is_refused() {
        let check = |text: &str| {
            let list: Vec<Algorithm> = text.split(',').map(|name| name.parse().unwrap()).collect();
            check_algorithms(&list).map_err(|error| error.to_string())
        };
        for text in [
            "gptq",
            "equalize,adaround,bias-correct",
            "equalize,bias-correct",
        ] {
            check(text).unwrap();
        }
        for (text, message) in [
            ("gptq,gptq", "gptq is there twice"),
            (
                "adaround,equalize",
                "equalize is after adaround, whose work it undoes; expected before it",
            ),
            (
                "adaround,gptq",
                "adaround leaves gptq nothing to round; expected one of them",
            ),
            (
                "equalize,bias-correct,adaround",
                "bias-correct is before adaround, which moves what it corrects; expected after it",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), format!("algorithms: {message}"));
        }
    }
}
