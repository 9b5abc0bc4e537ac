//! Number formats of a few bits.
//!
//! A [`Format`] is a small value that says which real numbers a few bits can hold; a [`Rounding`]
//! says how a number between two of them is brought to one. Everything else (limits, codes,
//! slice kernels) is derived from those two.

pub mod block;
mod block_format;
mod blockwise;
mod error;
pub mod fixed;
pub mod float;
mod format;
pub mod granularity;
pub mod grid;
pub mod grouped;
pub mod integer;
pub mod kernel;
pub mod microscaling;
pub mod nvfp4;
pub mod philox;
pub mod rounding;
mod scaled;
mod text;
pub mod unit;

pub use block::BlockFloat;
pub use block_format::BlockFormat;
pub use error::FormatError;
pub use fixed::FixedPoint;
pub use float::Float;
pub use format::{Format, Visitor};
pub use granularity::Granularity;
pub use grid::{Grid, ScalarFormat};
pub use grouped::GroupedInteger;
pub use integer::{Affine, Integer};
pub use microscaling::{Element, Microscaling, ScaleRule};
pub use nvfp4::NvFp4;
pub use rounding::Rounding;
pub use unit::UnitGrid;
