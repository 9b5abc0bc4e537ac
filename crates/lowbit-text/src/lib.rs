//! Transformers of text, built of Lowbit's layers: ALBERT, BERT, GPT-2 and Llama from Hugging Face's
//! folders, quantized by any plan.

mod answering;
pub mod bench;
pub mod compress;
mod error;
pub mod finetune;
mod folder;
mod language;
pub mod models;
mod packed;
pub mod plans;
pub mod squad;
mod tokenizer;
mod weights;

pub use answering::{Answering, Evaluated};
pub use error::Error;
pub use folder::ModelFolder;
pub use language::{Language, Perplexity, Sampling};
pub use tokenizer::{Encoding, SpecialIds, Tokenizer};
pub use weights::Weights;
