//! Recurrent layers.

mod bi_gru;
mod bi_lstm;
mod gate_controller;
mod gru;
mod lstm;

pub use bi_gru::{BiGru, BiGruConfig};
pub use bi_lstm::{BiLstm, BiLstmConfig};
pub use gate_controller::GateController;
pub use gru::{Gru, GruConfig};
pub use lstm::{Lstm, LstmConfig};

use burn::tensor::Tensor;

use crate::Error;

/// Slot of the values of the gates.
const GATES: &str = "gates";
/// Slot of what may enter the state.
const CANDIDATE: &str = "candidate";
/// Slot of the hidden state.
const HIDDEN: &str = "hidden";
/// Slot of the cell state.
const CELL: &str = "cell";
/// Slot of what the output gate lets through of the cell.
const ACTIVATED_CELL: &str = "activated_cell";

/// Whether a state can be clamped to this on either side.
fn check_clip(clip: Option<f64>) -> Result<(), Error> {
    match clip {
        Some(clip) if !(clip.is_finite() && clip > 0.0) => {
            let message = format!("is {clip}, expected finite and positive");
            Err(Error::config("clip", message))
        }
        _ => Ok(()),
    }
}

/// The tensor with batch and sequence exchanged, unless the batch comes first already.
fn with_batch_first(x: Tensor<3>, batch_first: bool) -> Tensor<3> {
    match batch_first {
        true => x,
        false => x.swap_dims(0, 1),
    }
}

/// Steps of a sequence `[batch, length, features]`, each `[batch, features]`, last first where it is
/// reversed.
fn steps_of(x: Tensor<3>, reverse: bool) -> Vec<Tensor<2>> {
    let steps = x.iter_dim(1).map(|step| step.squeeze_dim::<2>(1));
    let mut steps: Vec<Tensor<2>> = steps.collect();
    if reverse {
        steps.reverse();
    }
    steps
}

/// The sequence of these steps.
fn sequence_of(mut steps: Vec<Tensor<2>>, reverse: bool) -> Tensor<3> {
    if reverse {
        steps.reverse();
    }
    Tensor::stack(steps, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Describe;

    #[test]
    fn a_state_is_clamped_to_what_is_finite_and_positive() {
        for clip in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let lstm = LstmConfig::new(1, 1, true).with_clip(Some(clip)).check();
            let gru = GruConfig::new(1, 1, true).with_clip(Some(clip)).check();
            for (name, refused) in [("Lstm", lstm), ("Gru", gru)] {
                assert_eq!(
                    refused.unwrap_err().to_string(),
                    format!("{name}.clip: is {clip}, expected finite and positive")
                );
            }
        }
        let lstm = LstmConfig::new(1, 1, true);
        assert!(lstm.with_clip(Some(0.5)).check().is_ok());
    }
}
