//! Where the range of affine integers comes from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::quantizers::threshold_init::ThresholdInit;

/// Where a range comes from. The text forms are `dynamic`, `fixed(MIN,MAX)`, `scale(S)`,
/// `scale(S,ZERO)`, `min-max`, `moving-average`, `moving-average(C)` and those of [`ThresholdInit`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RangeSource {
    /// The smallest and the largest value of each tensor that comes.
    #[default]
    Dynamic,
    /// Always this one.
    Fixed {
        /// The lower end, a finite number.
        min: f32,
        /// The upper end, a finite number above it.
        max: f32,
    },
    /// Always these parameters.
    Scale {
        /// The scale, a finite positive number.
        scale: f32,
        /// The integer that stands for zero, which a symmetric scheme has none of but 0.
        zero_point: i32,
    },
    /// The smallest and the largest value of all batches in training (PyTorch's `MinMaxObserver`). In
    /// evaluation they stay.
    MinMax,
    /// Their moving averages in training, `min += c (min of the batch - min)`, of which the first batch
    /// is the start (PyTorch's `MovingAverageMinMaxObserver`). In evaluation they stay.
    MovingAverage {
        /// `c`, in millionths, 1 to 1,000,000.
        millionths: u32,
    },
    /// What calibration finds.
    Calibrated(ThresholdInit),
}

/// Ends and scales that are no numbers are refused.
impl Eq for RangeSource {}

impl RangeSource {
    /// A moving average with PyTorch's constant, 0.01.
    pub const MOVING_AVERAGE: Self = Self::MovingAverage { millionths: 10_000 };

    /// Whether it follows what is seen in training.
    pub fn is_observed(self) -> bool {
        matches!(self, Self::MinMax | Self::MovingAverage { .. })
    }

    /// An end of a range that is seen, as it follows from what it was and what a batch has; `outer`
    /// is the further out of two.
    pub(super) fn follow(self, end: f32, seen: f32, outer: fn(f32, f32) -> f32) -> f32 {
        match self {
            Self::MovingAverage { millionths } => {
                let constant = f64::from(millionths) / 1e6;
                (f64::from(end) + constant * (f64::from(seen) - f64::from(end))) as f32
            }
            _ => outer(end, seen),
        }
    }

    /// `fixed` and `scale`; none where the text is neither.
    fn given(text: &str) -> Option<Result<Self, Error>> {
        let (name, rest) = text.split_once('(')?;
        let numbers = rest.strip_suffix(')')?.split(',').map(str::trim);
        let numbers: Vec<&str> = numbers.collect();
        let finite = |text: &str| text.parse().ok().filter(|x: &f32| x.is_finite());
        let read = match (name, &numbers[..]) {
            ("fixed", [min, max]) => finite(min)
                .zip(finite(max))
                .filter(|(min, max)| min < max)
                .map(|(min, max)| Self::Fixed { min, max })
                .ok_or("the ends are finite, the first below the second"),
            ("scale", [scale, zero @ ..]) if zero.len() <= 1 => finite(scale)
                .filter(|scale| *scale > 0.0)
                .zip(zero.first().map_or(Some(0), |zero| zero.parse().ok()))
                .map(|(scale, zero_point)| Self::Scale { scale, zero_point })
                .ok_or("the scale is positive, the zero point an integer"),
            _ => return None,
        };
        Some(read.map_err(|message| Error::config(text, message)))
    }
}

impl fmt::Display for RangeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Dynamic => f.write_str("dynamic"),
            Self::Fixed { min, max } => write!(f, "fixed({min},{max})"),
            Self::Scale {
                scale,
                zero_point: 0,
            } => write!(f, "scale({scale})"),
            Self::Scale { scale, zero_point } => write!(f, "scale({scale},{zero_point})"),
            Self::MinMax => f.write_str("min-max"),
            average if average == Self::MOVING_AVERAGE => f.write_str("moving-average"),
            Self::MovingAverage { millionths } => {
                write!(f, "moving-average({})", f64::from(millionths) / 1e6)
            }
            Self::Calibrated(init) => write!(f, "{init}"),
        }
    }
}

impl FromStr for RangeSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "dynamic" => return Ok(Self::Dynamic),
            "min-max" => return Ok(Self::MinMax),
            "moving-average" => return Ok(Self::MOVING_AVERAGE),
            _ => {}
        }
        let constant = text.strip_prefix("moving-average(");
        if let Some(constant) = constant.and_then(|rest| rest.strip_suffix(')')) {
            let millionths = constant.parse::<f64>().map_or(0.0, |c| c * 1e6);
            if !(1.0..=1e6).contains(&millionths) {
                return Err(Error::config(text, "the constant is 0.000001 to 1"));
            }
            return Ok(Self::MovingAverage {
                millionths: millionths.round() as u32,
            });
        }
        if let Some(given) = Self::given(text) {
            return given;
        }
        let init = text.parse().map_err(|_| Error::Unknown {
            kind: "range",
            text: text.into(),
            expected: FORMS,
        })?;
        Ok(Self::Calibrated(init))
    }
}

const FORMS: &str = "dynamic, fixed(MIN,MAX), scale(S), scale(S,ZERO), min-max, moving-average, \
                     moving-average(C), or a calibration such as max, mean-max, sd(N), percentile(PERCENT), gauss or laplace";

impl TryFrom<String> for RangeSource {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RangeSource> for String {
    fn from(range: RangeSource) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_they_are_written() {
        for text in [
            "dynamic",
            "fixed(-1,1.5)",
            "scale(0.1)",
            "scale(0.25,-3)",
            "min-max",
            "moving-average",
            "moving-average(0.1)",
            "max",
            "sd(2)",
            "laplace",
        ] {
            assert_eq!(text.parse::<RangeSource>().unwrap().to_string(), text);
        }
        for text in [
            "fixed(1)",
            "fixed(1,1)",
            "fixed(0,inf)",
            "scale(0)",
            "scale(1,0.5)",
            "scale()",
        ] {
            assert!(text.parse::<RangeSource>().is_err(), "{text}");
        }
        for text in ["", "moving-average(0)", "moving-average()", "min"] {
            assert!(text.parse::<RangeSource>().is_err(), "{text}");
        }
    }
}
