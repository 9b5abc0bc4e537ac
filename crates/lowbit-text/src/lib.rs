//! Transformers of text.
