//! Low-precision arithmetic and quantization-aware training on Burn.
//!
//! A network from [`models`] is built of layers from [`nn`], each of whose tensors may have a
//! quantizer; a [`QPlan`](config::QPlan) says which. Burn's learner trains it, and so does
//! [`train`], whose runs can be stopped and resumed to the bit.

pub mod analysis;
pub mod bench;
pub mod calibrate;
pub mod capture;
pub mod config;
pub mod data;
pub mod device;
mod error;
mod files;
mod host;
pub mod integer;
pub mod models;
pub mod nir;
pub mod nn;
pub mod ops;
pub mod optim;
mod png;
pub mod quantizers;
pub mod repair;
pub mod report;
pub mod tensorboard;
pub mod train;

pub use device::{Device, DeviceKind};
pub use error::Error;

/// The README's program is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
