//! The crate against Hugging Face's libraries and the official scripts.

mod characters;
mod compress;
mod finetune;
mod models;
mod posits;
mod reference;
mod squad_answers;
mod squad_scores;
mod tokenizers;
