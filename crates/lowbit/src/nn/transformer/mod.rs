//! Transformers.

mod decoder;
mod encoder;
mod pwff;

pub use decoder::{
    TransformerDecoder, TransformerDecoderConfig, TransformerDecoderInput, TransformerDecoderLayer,
};
pub use encoder::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput, TransformerEncoderLayer,
};
pub use pwff::{PositionWiseFeedForward, PositionWiseFeedForwardConfig};
