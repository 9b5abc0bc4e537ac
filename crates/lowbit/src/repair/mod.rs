//! Trained networks made ready for quantization without training: what needs some images, or none, and
//! moves parameters alone.
//!
//! [`equalize`] comes before calibration, which then sees what it made; [`adaround`] or [`gptq`] after it,
//! and [`bias_correct`] last. Each takes a network whose forward can be recorded, one of ours or a
//! [captured](crate::capture) one, and returns it with other parameters: weights that were rounded lie on
//! the grid of their quantizer, which rounds each to itself. So nothing else in the library knows of it.
//!
//! [`gptq_blocks`] and [`awq_factors`] are for one weight at a time, in a format whose blocks have scales that
//! are stored with it.

mod adaround;
mod algorithm;
mod awq;
mod bias;
mod cholesky;
mod equalize;
mod gptq;
mod gram;
mod moments;
mod patches;
#[cfg(test)]
mod reference;
mod rounding;
mod wiring;

pub use adaround::adaround;
pub use algorithm::{Algorithm, check_algorithms};
pub use awq::awq_factors;
pub use bias::bias_correct;
pub use equalize::equalize;
pub use gptq::{GptqFactor, gptq, gptq_blocks};
pub use gram::Gram;

use serde::Serialize;

/// What an algorithm did to a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repaired {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What it did, in the order of the forward.
    pub tensors: Vec<RepairedTensor>,
    /// Why layers were left as they were, a sentence each.
    pub notes: Vec<String>,
}

/// A parameter that an algorithm moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepairedTensor {
    /// Its path, such as `conv1.weight`.
    pub path: String,
    /// The number that the algorithm makes better, see [`Algorithm::measures`], before.
    pub before: f64,
    /// The same after.
    pub after: f64,
}
