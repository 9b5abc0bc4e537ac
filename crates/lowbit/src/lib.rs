//! Low-precision arithmetic and quantization-aware training on Burn.

pub mod calibrate;
pub mod config;
pub mod data;
mod error;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod quantizers;
pub mod train;

pub use error::Error;
