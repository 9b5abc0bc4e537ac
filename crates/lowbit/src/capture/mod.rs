//! Any Burn model, quantized from a plan without a change to its code.
//!
//! [`prepare`] records what a model's forward does with Burn's capture backend, finds the layers in it,
//! and gives each the quantizers of a [`QPlan`](crate::config::QPlan) by the model's own paths. What it
//! returns, a [`Captured`] model, makes the same calls of the same backend in the same order, with the
//! quantizers between them; so it trains, with gradients, and is a module like any other.
//!
//! [`prepare_parameters`] does without the recording, for a model whose control flow depends on the
//! values of tensors: its parameters are quantized where the model reads them, its activations are not.

mod batch;
mod captured;
mod integers;
mod layers;
pub(crate) mod linear;
mod norm;
mod output;
mod rank;
pub(crate) mod record;
pub(crate) mod replay;
mod weights;

pub use captured::{Captured, prepare};
pub(crate) use captured::{State, constant, on};
pub use integers::IntegerParameter;
pub use output::{ModelOutput, OutputParts};
pub(crate) use rank::of_any_rank;
pub use record::ModelInput;
pub use weights::prepare_parameters;
