//! Networks of the families whose weights people have.

mod decoder;
mod encoder;
mod family;
mod json;
mod load;
mod network;
mod positions;

pub use decoder::{
    Cache, Decoder, DecoderConfig, DecoderKind, DecoderLayer, FeedForward, Gated, LlamaKind, Norm,
    Plain,
};
pub use encoder::{Encoder, EncoderConfig, EncoderInput, EncoderLayer};
pub use family::Family;
pub use json::{Architecture, ModelConfig};
pub use load::Loaded;
pub use network::{LanguageModel, QuestionAnswering};
pub use positions::{Rotary, Stretch};
