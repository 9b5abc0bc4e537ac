//! What can be said about a quantizer or a quantized network: numbers and pictures.

mod accumulator;
mod quantizer_curve;
mod svg;

pub use accumulator::{AccumulatorBits, accumulator_bits};
pub use quantizer_curve::{CurveConfig, QuantizerCurve};
