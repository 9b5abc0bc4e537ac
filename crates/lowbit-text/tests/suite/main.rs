//! The crate against Hugging Face's libraries and the official scripts.

mod reference;
mod squad_answers;
mod squad_scores;
mod tokenizers;
