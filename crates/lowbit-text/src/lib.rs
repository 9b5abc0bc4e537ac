//! Transformers of text, built of Lowbit's layers: ALBERT, BERT, GPT-2 and Llama from Hugging Face's
//! folders, quantized by any plan.

mod error;
pub mod models;
pub mod squad;
mod tokenizer;
mod weights;

pub use error::Error;
pub use tokenizer::{Encoding, SpecialIds, Tokenizer};
pub use weights::Weights;
