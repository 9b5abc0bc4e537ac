//! Number formats of a few bits.
//!
//! A [`Format`] is a small value that says which real numbers a few bits can hold; a [`Rounding`]
//! says how a number between two of them is brought to one. Everything else (limits, codes,
//! slice kernels) is derived from those two.

pub mod accumulate;
pub mod block;
mod error;
pub mod format;
mod grammar;
pub mod kernel;
pub mod new_file;
pub mod rounding;
pub mod scalar;
pub mod study;
#[cfg(feature = "files")]
pub mod tensor_file;

// The names that modules had before they were grouped.
#[doc(hidden)]
pub use block::affine as grouped;
#[doc(hidden)]
pub use scalar as grid;

pub use accumulate::Accumulation;
pub use block::{
    BlockCodes, BlockFloat, BlockFormat, Granularity, GroupedInteger, Microscaling, MxElement,
    NvFp4, ScaleRule, ScaleType, Scaled, ScaledElement, Scales, granularity, microscaling, nvfp4,
};
pub use error::FormatError;
pub use format::Format;
pub use kernel::{Layout, Number, pack};
pub use rounding::{Rounding, philox};
pub use scalar::formats::*;
pub use scalar::{
    Affine, CodeField, Facts, Grid, IntegerGrid, IntegerRange, IntegerRounding, Pass, ScalarFormat,
    Visitor, Wide, apot, bits_of, codebook, e8m0, facts, fixed, float, integer, lns, p3109, posit,
    pot, qpytorch, unit,
};
#[cfg(feature = "verify")]
pub use study::verify;
pub use study::{bench, compare, error_summary, inspect, plot, svg, swamping};
