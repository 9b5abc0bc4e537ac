//! Quantization to a fixed number format.

use std::cell::Cell;

use burn::module::Module;
use lowbit_formats::{Format, Rounding};
use serde::{Deserialize, Serialize};

use super::Switch;
use crate::ops::{ClampedGradient, Quantization};

thread_local! {
    static STEP: Cell<u64> = const { Cell::new(0) };
}

/// Sets the training step on this thread. Stochastic rounding draws other numbers in every step,
/// and the same ones when a resumed run repeats it.
pub fn set_rounding_step(step: u64) {
    STEP.set(step);
}

/// Rounds to a [`Format`], the gradient passing straight through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatQuantizerConfig {
    /// The format, such as `fixed(8,6)` or `e4m3`.
    pub format: Format,
    /// How a number between two values of the format is rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// The gradient where the input is outside the format's range.
    #[serde(default)]
    pub clamped: ClampedGradient,
}

impl FormatQuantizerConfig {
    /// Builds the quantizer.
    pub fn init(&self) -> FormatQuantizer {
        FormatQuantizer {
            config: self.clone(),
            switch: Switch::default(),
        }
    }
}

/// The module of [`FormatQuantizerConfig`]. It has no parameters.
#[derive(Module, Debug)]
pub struct FormatQuantizer {
    #[module(skip)]
    config: FormatQuantizerConfig,
    /// On or off.
    pub switch: Switch,
}

impl FormatQuantizer {
    pub(super) fn quantization(&self) -> Quantization {
        let rounding = match self.config.rounding {
            // The upper half of the stream counts steps; the lower half tells layers apart.
            Rounding::Stochastic { seed, stream, bits } => Rounding::Stochastic {
                seed,
                stream: stream & 0xffff_ffff | STEP.get() << 32,
                bits,
            },
            other => other,
        };
        Quantization::Format {
            format: self.config.format.clone(),
            rounding,
            clamped: self.config.clamped,
        }
    }
}
