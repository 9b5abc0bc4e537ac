//! How a simulator makes steps of NIR's equations.

use crate::Error;
use crate::ops::{Firing, Reset};

/// What the equations leave open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Convention {
    /// The time step, in the unit of the time constants.
    pub dt: f64,
    /// Whether a decay is `exp(-dt / tau)` and the input of a membrane is taken as it is; otherwise Euler's
    /// forward step, whose decay is `1 - dt / tau` and whose input is multiplied by `r dt / tau`, that of
    /// a synapse by `w_in dt / tau_syn`.
    pub exponential: bool,
    /// When and how neurons fire.
    pub firing: Firing,
    /// Whether an `IF` takes `dt r` of its input, as the step of its equation `dv/dt = r I` does;
    /// otherwise `r`.
    pub scales_if: bool,
    /// Whether the potential of an `IF` stays above minus its threshold.
    pub limits_if: bool,
    /// Whether a membrane is set to its node's `v_reset`, where it has one, in place of `firing.reset`.
    pub resets_to_v_reset: bool,
}

impl Convention {
    pub(super) fn check(&self) -> Result<(), Error> {
        let dt = self.dt;
        if dt > 0.0 && dt.is_finite() {
            return Ok(());
        }
        let message = format!("is {dt}, expected finite and positive");
        Err(Error::config("dt", message))
    }

    /// NIR's own equations by Euler's forward step: a spike at the threshold, then `v_reset`.
    pub fn nir(dt: f64) -> Self {
        let firing = Firing {
            reset: Reset::To(0.0),
            ..Firing::default()
        };
        Self {
            dt,
            exponential: false,
            firing,
            scales_if: true,
            limits_if: false,
            resets_to_v_reset: true,
        }
    }

    /// snnTorch's `Leaky`, `Synaptic` and their recurrent forms as they start: the threshold is
    /// subtracted in the step after the spike. It exports networks with a step of 1e-4 and with a
    /// `v_reset` of 0 whatever the reset is.
    pub fn snntorch() -> Self {
        let firing = Firing {
            reset: Reset::Subtract,
            reset_next: true,
            above: true,
            reset_gradient: false,
            ..Firing::default()
        };
        Self {
            dt: 1e-4,
            exponential: false,
            firing,
            scales_if: false,
            limits_if: false,
            resets_to_v_reset: false,
        }
    }

    /// sinabs as it loads a file: steps of 1, exponential decays, several spikes a step, each of which is
    /// subtracted.
    pub fn sinabs() -> Self {
        let firing = Firing {
            most_spikes: u32::MAX,
            ..Firing::default()
        };
        Self {
            dt: 1.0,
            exponential: true,
            firing,
            scales_if: false,
            limits_if: true,
            resets_to_v_reset: false,
        }
    }
}
