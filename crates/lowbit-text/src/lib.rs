//! Transformers of text.

mod error;

pub use error::Error;
