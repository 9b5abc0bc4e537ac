//! Number formats of a few bits.
//!
//! A [`Format`] is a small value that says which real numbers a few bits can hold; a [`Rounding`]
//! says how a number between two of them is brought to one. Everything else (limits, codes,
//! slice kernels) is derived from those two.

mod error;
pub mod fixed;
pub mod float;
mod format;
pub mod grid;
pub mod integer;
pub mod kernel;
pub mod philox;
pub mod rounding;
mod text;
pub mod unit;

pub use error::FormatError;
pub use fixed::FixedPoint;
pub use float::Float;
pub use format::{Format, Visitor};
pub use grid::{Grid, ScalarFormat};
pub use integer::{Affine, Integer};
pub use rounding::Rounding;
pub use unit::UnitGrid;
