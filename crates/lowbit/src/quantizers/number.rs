//! A format with the rounding to it.

use std::fmt;
use std::str::FromStr;

use lowbit_formats::{Format, FormatError, Rounding};
use serde::{Deserialize, Serialize};

/// A number format, and how numbers are rounded to it.
///
/// Text: the format's, and after a colon the rounding's where that is not to nearest:
/// `posit(8,2)`, `e5m2:stochastic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Number {
    /// The format.
    pub format: Format,
    /// How a number between two of its values is rounded.
    pub rounding: Rounding,
}

impl Number {
    /// To the nearest value of `format`.
    pub fn nearest(format: Format) -> Self {
        Self {
            format,
            rounding: Rounding::default(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, rounding } = self;
        if *rounding == Rounding::default() {
            write!(f, "{format}")
        } else if *rounding == Rounding::stochastic(0, 0) {
            write!(f, "{format}:stochastic")
        } else {
            write!(f, "{format}:{rounding}")
        }
    }
}

impl FromStr for Number {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let (format, rounding) = match text.split_once(':') {
            Some((format, rounding)) => (format, rounding.parse()?),
            None => (text, Rounding::default()),
        };
        Ok(Self {
            format: format.parse()?,
            rounding,
        })
    }
}

impl TryFrom<String> for Number {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_go_both_ways() {
        for text in [
            "e5m2",
            "posit(8,2)",
            "fixed(8,4):toward-zero",
            "e4m3:stochastic",
            "e4m3:stochastic(seed=0,stream=0,bits=8)",
        ] {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), text);
        }
        let random: Number = "e4m3:stochastic".parse().unwrap();
        assert!(matches!(
            random.rounding,
            Rounding::Stochastic { bits: 32, .. }
        ));
        assert_eq!(random.to_string().parse::<Number>().unwrap(), random);
        assert!("e4m3:up:down".parse::<Number>().is_err());
        assert!(":up".parse::<Number>().is_err());
    }
}
