//! How fast a state decays.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::quantizers::{Quantizers, Slot};

/// What is given, and learned, of a decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayValue {
    /// The time constant, in the unit of the time step; positive.
    Tau(f64),
    /// What is left after a step, 0 to 1.
    Alpha(f64),
}

/// Configuration of a [`Decay`].
#[derive(Config, Debug)]
pub struct DecayConfig {
    /// What is given.
    pub value: DecayValue,
    /// The time step, in the unit of the time constant.
    #[config(default = 1.0)]
    pub dt: f64,
    /// Whether the decay is `1 - dt / tau`, Euler's forward step, and not `exp(-dt / tau)`.
    #[config(default = false)]
    pub euler: bool,
    /// Neurons with a value of their own each; one value for all if not given.
    pub neurons: Option<usize>,
    /// Whether it is trained.
    #[config(default = false)]
    pub trained: bool,
}

impl DecayConfig {
    /// From a time constant.
    pub fn tau(tau: f64) -> Self {
        Self::new(DecayValue::Tau(tau))
    }

    /// From what is left after a step.
    pub fn alpha(alpha: f64) -> Self {
        Self::new(DecayValue::Alpha(alpha))
    }

    /// Builds the parameter.
    pub fn init(&self, device: &Device) -> Decay {
        let length = [self.neurons.unwrap_or(1)];
        let parameter = |value: f64| {
            let values = Tensor::<1>::full(length, value, device);
            Param::from_tensor(values).set_require_grad(self.trained)
        };
        let (tau, alpha) = match self.value {
            DecayValue::Tau(tau) => (Some(parameter(tau)), None),
            DecayValue::Alpha(alpha) => (None, Some(parameter(alpha))),
        };
        Decay {
            tau,
            alpha,
            dt: self.dt,
            euler: self.euler,
        }
    }

    /// Whether it is in its range; the error names the field `name`.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        let refused = |field: &str, value: f64, expected: &str| {
            let message = format!("{field} is {value}, expected {expected}");
            Err(Error::config(name, message))
        };
        if !(self.dt > 0.0 && self.dt.is_finite()) {
            return refused("dt", self.dt, "finite and positive");
        }
        match self.value {
            DecayValue::Tau(tau) if !(tau > 0.0 && tau.is_finite()) => {
                refused("tau", tau, "finite and positive")
            }
            DecayValue::Alpha(alpha) if !(0.0..=1.0).contains(&alpha) => {
                refused("alpha", alpha, "0 to 1")
            }
            _ if self.neurons == Some(0) => refused("neurons", 0.0, "at least 1"),
            _ => Ok(()),
        }
    }
}

/// A time constant `tau`, from which the decay is `exp(-dt / tau)`, or the decay `alpha` itself.
/// Built by [`DecayConfig`].
#[derive(Module, Debug)]
pub struct Decay {
    /// `[1]` or `[neurons]`, where that is what is learned.
    pub tau: Option<Param<Tensor<1>>>,
    /// `[1]` or `[neurons]`, where that is what is learned.
    pub alpha: Option<Param<Tensor<1>>>,
    /// The time step.
    pub dt: f64,
    /// Whether the decay is `1 - dt / tau`.
    pub euler: bool,
}

/// The least time constant in steps: `exp(-2^20)` is zero.
const LEAST_TAU: f64 = 1.0 / (1 << 20) as f64;

impl Decay {
    /// The decay of a step, `[1]` or `[neurons]`, without quantization.
    pub fn value(&self) -> Tensor<1> {
        self.alpha(&Quantizers::default())
    }

    /// The decay of a step, `[1]` or `[neurons]`: the time constant through its slot `tau`, what is made
    /// of it through `alpha`.
    pub(super) fn alpha(&self, quantizers: &Quantizers) -> Tensor<1> {
        if let Some(alpha) = &self.alpha {
            return quantizers.parameter(Slot::ALPHA, alpha.val()).quantized();
        }
        let tau = self.tau.as_ref().expect("a decay has one of both");
        let tau = quantizers.parameter(Slot::TAU, tau.val()).quantized();
        // So short a time constant leaves nothing, as one that was rounded to zero, whose reciprocal has
        // no gradient; in Euler's step nothing is left by one of `dt`.
        let short = tau.clone().lower_elem(self.dt * LEAST_TAU);
        let nothing = if self.euler { 1.0 } else { LEAST_TAU };
        let tau = tau.mask_fill(short, self.dt * nothing);
        let rate = tau.recip() * self.dt;
        let alpha = if self.euler {
            1.0 - rate
        } else {
            (-rate).exp()
        };
        quantizers.activation(Slot::ALPHA, alpha).quantized()
    }
}
