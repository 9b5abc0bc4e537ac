//! Descriptions: what goes into which slot of a layer ([`QConfig`]) and of a network ([`QPlan`]).
//! Both are plain values that can be written as TOML.

mod layer;
mod plan;
mod qconfig;

pub use layer::{Layer, LayerType};
pub use plan::{Override, Planner, QPlan, TqtWidths};
pub use qconfig::QConfig;
