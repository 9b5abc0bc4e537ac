//! What widths may take.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::Error;

/// What widths may take, as text: `bits=4`, `bytes=60000`, `bitops=5e8`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Budget {
    /// Bits of a weight on average over all weights, and of an input over all inputs.
    Bits(f64),
    /// Bytes of all weights; inputs have 8 bits.
    Bytes(f64),
    /// Products of an image, each times the bits of its weight and of its input.
    BitOperations(f64),
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "bits={bits}"),
            Self::Bytes(bytes) => write!(f, "bytes={bytes}"),
            Self::BitOperations(count) => write!(f, "bitops={count}"),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || {
            let message =
                format!("is `{text}`, expected such as bits=4, bytes=60000 or bitops=5e8");
            Error::config("budget", message)
        };
        let (kind, number) = text.split_once('=').ok_or_else(refused)?;
        let number: f64 = number.trim().parse().map_err(|_| refused())?;
        if !(number.is_finite() && number > 0.0) {
            return Err(refused());
        }
        match kind.trim() {
            "bits" => Ok(Self::Bits(number)),
            "bytes" => Ok(Self::Bytes(number)),
            "bitops" => Ok(Self::BitOperations(number)),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_texts() {
        for text in ["bits=4", "bytes=60000", "bitops=500000000"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
        for text in ["4", "bits", "bits=0", "bits=x", "watts=3"] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.starts_with("budget: is `"), "{error}");
        }
    }
}
