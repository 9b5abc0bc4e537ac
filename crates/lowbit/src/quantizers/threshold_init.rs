//! Where a trained threshold starts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How calibration chooses a threshold, or the ends of a range, from the values it saw. The text forms
/// are `max`, `mean-max`, `3sd`, `sd(2.5)`, `kl-j`, `kl-j(1024)`, `percentile(99.9)`, `mse`, `gauss`,
/// `laplace`, `entropy` and `entropy(1024)`; the functions are in [`calibrate`](crate::calibrate).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum ThresholdInit {
    /// The largest magnitude.
    #[default]
    Max,
    /// The mean over the batches of the largest magnitude; of the smallest and the largest value.
    MeanMax,
    /// The mean plus three standard deviations.
    ThreeDeviations,
    /// The mean plus so many standard deviations, and less so many.
    Deviations {
        /// How many, in thousandths, 1 to 1,000,000.
        thousandths: u32,
    },
    /// What clips values of a normal distribution with the least mean square error (ACIQ).
    Gauss,
    /// The same of a Laplace distribution.
    Laplace,
    /// The least symmetric divergence (KL-J) between the values and the quantized ones.
    KlJ {
        /// Bins of the range of 99.9 % of the magnitudes, at least, a power of two from 128 to 4096.
        bins: u32,
    },
    /// The magnitude that a fraction of the values does not exceed.
    Percentile {
        /// The fraction, in millionths, 1 to 1,000,000.
        millionths: u32,
    },
    /// The least mean square error.
    Mse,
    /// The least Kullback-Leibler divergence of the quantized values from the values.
    Entropy {
        /// Bins of the range of 99.9 % of the magnitudes, at least, a power of two from 128 to 4096.
        bins: u32,
    },
}

impl ThresholdInit {
    /// The text forms.
    pub const FORMS: &str = "max, mean-max, 3sd, sd(N), kl-j, kl-j(BINS), percentile(PERCENT), mse, \
                             gauss, laplace, entropy or entropy(BINS)";

    /// Bins of a histogram unless told (arXiv 1903.08066, section 5.1).
    pub const BINS: u32 = 2048;

    /// KL-J with the usual bins.
    pub const KL_J: Self = Self::KlJ { bins: Self::BINS };

    /// One-way divergence with the usual bins.
    pub const ENTROPY: Self = Self::Entropy { bins: Self::BINS };
}

impl fmt::Display for ThresholdInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::MeanMax => f.write_str("mean-max"),
            Self::ThreeDeviations => f.write_str("3sd"),
            Self::Deviations { thousandths } => {
                write!(f, "sd({})", f64::from(*thousandths) / 1e3)
            }
            Self::Gauss => f.write_str("gauss"),
            Self::Laplace => f.write_str("laplace"),
            Self::KlJ { bins: Self::BINS } => f.write_str("kl-j"),
            Self::KlJ { bins } => write!(f, "kl-j({bins})"),
            Self::Percentile { millionths } => {
                write!(f, "percentile({})", f64::from(*millionths) / 1e4)
            }
            Self::Mse => f.write_str("mse"),
            Self::Entropy { bins: Self::BINS } => f.write_str("entropy"),
            Self::Entropy { bins } => write!(f, "entropy({bins})"),
        }
    }
}

impl FromStr for ThresholdInit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown {
            kind: "threshold initialization",
            text: text.into(),
            expected: Self::FORMS,
        };
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')').ok_or_else(unknown)?)),
            None => (text, None),
        };
        let bins = || match argument.map(str::parse::<u32>) {
            None => Ok(Self::BINS),
            Some(Ok(bins)) if bins.is_power_of_two() && (128..=4096).contains(&bins) => Ok(bins),
            Some(_) => Err(Error::config(
                text,
                "the bins are a power of two from 128 to 4096",
            )),
        };
        match (name, argument) {
            ("max", None) => Ok(Self::Max),
            ("mean-max", None) => Ok(Self::MeanMax),
            ("3sd", None) => Ok(Self::ThreeDeviations),
            ("gauss", None) => Ok(Self::Gauss),
            ("laplace", None) => Ok(Self::Laplace),
            ("sd", Some(count)) => {
                let thousandths = count.parse::<f64>().map_err(|_| unknown())? * 1e3;
                if !(1.0..=1e6).contains(&thousandths) {
                    return Err(Error::config(text, "the deviations are 0.001 to 1000"));
                }
                Ok(Self::Deviations {
                    thousandths: thousandths.round() as u32,
                })
            }
            ("mse", None) => Ok(Self::Mse),
            ("kl-j", _) => Ok(Self::KlJ { bins: bins()? }),
            ("entropy", _) => Ok(Self::Entropy { bins: bins()? }),
            ("percentile", Some(percent)) => {
                let millionths = percent.parse::<f64>().map_err(|_| unknown())? * 1e4;
                if !(1.0..=1e6).contains(&millionths) {
                    return Err(Error::config(text, "the percentage is 0.0001 to 100"));
                }
                Ok(Self::Percentile {
                    millionths: millionths.round() as u32,
                })
            }
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for ThresholdInit {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ThresholdInit> for String {
    fn from(init: ThresholdInit) -> Self {
        init.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_as_they_are_written() {
        for text in [
            "max",
            "mean-max",
            "3sd",
            "sd(2.5)",
            "kl-j",
            "kl-j(1024)",
            "percentile(99.99)",
            "mse",
            "gauss",
            "laplace",
            "entropy",
            "entropy(128)",
        ] {
            assert_eq!(text.parse::<ThresholdInit>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_initialization_is_refused() {
        for text in [
            "",
            "min",
            "max(3)",
            "kl-j(",
            "kl-j(1000)",
            "percentile(0)",
            "percentile",
            "sd(0)",
            "sd",
            "gauss(3)",
        ] {
            assert!(text.parse::<ThresholdInit>().is_err(), "{text}");
        }
    }
}
