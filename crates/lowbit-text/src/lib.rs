//! Transformers of text.

mod error;
pub mod squad;
mod tokenizer;

pub use error::Error;
pub use tokenizer::{Encoding, SpecialIds, Tokenizer};
