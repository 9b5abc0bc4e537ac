//! Networks of Hugging Face's folders: which they are, and their weights.

mod characters;
mod family;
mod json;
mod load;
mod quantizers;
mod save;

pub use characters::CharacterModel;
pub use family::Family;
pub use json::{Architecture, ModelConfig};
pub use load::Loaded;
pub use lowbit::models::transformer::{
    Cache, Decoder, DecoderConfig, DecoderKind, DecoderLayer, Encoder, EncoderConfig, EncoderInput,
    EncoderLayer, FeedForward, Gated, LanguageModel, LlamaKind, Norm, Plain, QuestionAnswering,
    Rotary, Stretch,
};
pub(crate) use quantizers::{QUANTIZERS, quantizers};
pub(crate) use save::{file, serialized, tensors};
