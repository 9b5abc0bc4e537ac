//! Encoders and decoders of transformers, of the families whose weights people have.

mod decoder;
mod encoder;
mod heads;
mod positions;

pub use decoder::{
    Cache, Decoder, DecoderConfig, DecoderKind, DecoderLayer, FeedForward, Gated, LlamaKind, Norm,
    Plain, Seen,
};
pub use encoder::{Encoder, EncoderConfig, EncoderInput, EncoderLayer};
pub use heads::{LanguageModel, QuestionAnswering};
pub use positions::{Rotary, Stretch};
