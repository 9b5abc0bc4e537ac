//! Number formats of a few bits.
//!
//! A `Format` is a small value that says which real numbers a few bits can hold; a [`Rounding`]
//! says how a number between two of them is brought to one. Everything else (limits, codes,
//! slice kernels) is derived from those two.

mod error;
pub mod kernel;
pub mod philox;
pub mod rounding;

pub use error::FormatError;
pub use rounding::Rounding;
