//! Low-precision arithmetic and quantization-aware training on Burn.

pub mod data;
mod error;

pub use error::Error;
