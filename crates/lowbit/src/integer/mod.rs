//! Networks as integers: what a quantized network computes, without floating point.
//!
//! [`lower`] records the forward of a network, one of ours or a [captured](crate::capture) one, and makes
//! a [`lowbit_int::Graph`] of it: each quantizer becomes a requantization, each layer the integers of its
//! weights. What is on no grid is named by layer and slot. [`IntegerNetwork::compare`] runs both side by
//! side.

mod compare;
mod constants;
mod exhaustive;
mod join;
mod line;
mod lower;
mod network;
mod pool;
mod product;
mod requantize;

pub use compare::{Comparison, TensorComparison};
pub use network::{IntegerNetwork, lower};
