//! What widths may take.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::Serialize;

use super::layer::operations;
use super::prediction::WIDTHS;
use crate::Error;
use crate::config::Layer;
use crate::models::Classifier;
use crate::quantizers::{Selection, Slot, Tapped, Taps};

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

/// What a network has in all: weights of layers whose input can be quantized, too, and products of an
/// image.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) weights: f64,
    pub(super) operations: f64,
}

impl Sizes {
    /// Whether weights and inputs of so many bits fit; with a budget of bytes, inputs have 8.
    pub(super) fn fit(self, bits: u32, budget: Budget) -> bool {
        let width = f64::from(bits);
        match budget {
            Budget::Bits(most) => width <= most,
            Budget::Bytes(most) => width * self.weights / 8.0 <= most,
            Budget::BitOperations(most) => width * width * self.operations <= most,
        }
    }
}

/// The error of a budget that is less than the least widths take.
pub(super) fn too_small(budget: Budget) -> Error {
    let least = WIDTHS[0];
    let message = format!("is {budget}, less than what {least} bits everywhere take");
    Error::config("budget", message)
}

/// The error of a network in which nothing can have widths.
pub(super) fn no_layer() -> Error {
    Error::config("budget", "no layer has a weight and an input to quantize")
}

/// Whether some widths of a network fit a budget, told from the tensors of one image.
///
/// # Errors
/// If none do.
pub(super) fn check<M: Classifier>(
    budget: Budget,
    model: &M,
    image: Tensor<4>,
) -> Result<(), Error> {
    let slots = [Slot::INPUT, Slot::WEIGHT, Slot::OUTPUT];
    let selection = slots.into_iter().fold(Selection::all(), Selection::slot);
    let taps = Taps::attach(model, selection);
    model.forward(image);
    let seen = taps.detach();
    let numbers = |layer: &Layer, slot: &str| {
        let own = |tapped: &&Tapped| tapped.place.layer == layer.path && tapped.place.slot == slot;
        let all = seen.iter().filter(own);
        all.map(|tapped| tapped.tensor.num_elements())
            .reduce(|a, b| a + b)
    };
    let weighted = model.layers().iter().filter(|layer| {
        layer.description.weight.is_some() && numbers(layer, Slot::INPUT).is_some()
    });
    let mut sizes = Sizes::default();
    for layer in weighted {
        let weight = seen
            .iter()
            .find(|tapped| tapped.place.layer == layer.path && tapped.place.slot == Slot::WEIGHT);
        sizes.weights += weight.map_or(0, |weight| weight.tensor.num_elements()) as f64;
        let outputs = numbers(layer, Slot::OUTPUT).unwrap_or_default();
        sizes.operations += operations(layer, outputs as u64) as f64;
    }
    match sizes {
        Sizes { weights: 0.0, .. } => Err(no_layer()),
        sizes if sizes.fit(WIDTHS[0], budget) => Ok(()),
        _ => Err(too_small(budget)),
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
