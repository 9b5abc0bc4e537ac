//! Descriptions: what goes into which slot of a layer ([`QConfig`]) and of a network ([`QPlan`]).
//! Both are plain values that can be written as TOML.

mod plan;
mod qconfig;

pub use plan::{Layer, Override, Planner, Position, QPlan};
pub use qconfig::{QConfig, Quantizers};
