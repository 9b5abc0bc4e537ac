//! Transformers of text, built of Lowbit's layers: ALBERT, BERT, GPT-2 and Llama from Hugging Face's
//! folders, quantized by any plan.

mod error;
pub mod models;
mod weights;

pub use error::Error;
pub use weights::Weights;
