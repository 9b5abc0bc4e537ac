//! Number formats of a few bits.
//!
//! A [`Format`] is a small value that says which real numbers a few bits can hold; a [`Rounding`]
//! says how a number between two of them is brought to one. Everything else (limits, codes,
//! slice kernels) is derived from those two.

pub mod apot;
pub mod bench;
mod between;
pub mod block;
mod block_codes;
mod block_format;
mod blockwise;
pub mod codebook;
mod codes;
pub mod compare;
pub mod e8m0;
mod error;
pub mod error_summary;
pub mod facts;
mod fields;
pub mod fixed;
pub mod float;
mod float_grid;
mod format;
pub mod granularity;
pub mod grid;
pub mod grouped;
pub mod inspect;
pub mod integer;
pub mod kernel;
mod layout;
mod levels;
pub mod lns;
pub mod microscaling;
pub mod new_file;
mod number;
pub mod nvfp4;
pub mod p3109;
pub mod pack;
pub mod philox;
pub mod plot;
pub mod posit;
pub mod pot;
pub mod qpytorch;
pub mod rounding;
mod scaled;
mod strided;
#[cfg(feature = "files")]
pub mod tensor_file;
mod text;
pub mod unit;
#[cfg(feature = "verify")]
pub mod verify;

pub use apot::AdditivePowerOfTwo;
pub use block::BlockFloat;
pub use block_codes::{BlockCodes, Scales};
pub use block_format::BlockFormat;
pub use codebook::Codebook;
pub use e8m0::E8M0;
pub use error::FormatError;
pub use facts::Facts;
pub use fixed::FixedPoint;
pub use float::Float;
pub use format::{Format, Visitor};
pub use granularity::Granularity;
pub use grid::{Grid, Pass, ScalarFormat};
pub use grouped::GroupedInteger;
pub use integer::{Affine, Integer};
pub use layout::Layout;
pub use lns::Logarithmic;
pub use microscaling::{Microscaling, MxElement, ScaleRule};
pub use number::Number;
pub use nvfp4::NvFp4;
pub use p3109::P3109;
pub use posit::Posit;
pub use pot::PowerOfTwo;
pub use qpytorch::QPyTorch;
pub use rounding::Rounding;
pub use unit::UnitGrid;
