//! Layers that are made of layers.

use burn::nn::activation::ActivationConfig;

use crate::Error;
use crate::config::{Planner, QPlan};

/// A layer whose parts have no plan: they are in float.
///
/// # Panics
/// With the one line of the error where one cannot be built.
pub(super) fn with_parts_in_float<M>(
    build: impl FnOnce(&mut Planner<'_>) -> Result<M, Error>,
) -> M {
    let plan = QPlan::float();
    let built = Planner::new(&plan).and_then(|mut planner| build(&mut planner));
    built.unwrap_or_else(|error| panic!("{error}"))
}

/// Whether an activation inside a layer is a function alone: parameters would have no slot.
pub(super) fn check_function(field: &str, activation: &ActivationConfig) -> Result<(), Error> {
    match activation {
        ActivationConfig::PRelu(_) | ActivationConfig::SwiGlu(_) => {
            let message = "has parameters, which no slot would quantize";
            Err(Error::config(field, message))
        }
        _ => Ok(()),
    }
}
