//! The potential at which a neuron fires.

use burn::config::Config;
use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::Error;

/// Configuration of the threshold of neurons.
#[derive(Config, Debug)]
pub struct FiringThresholdConfig {
    /// The potential; positive.
    pub value: f64,
    /// Neurons with a value of their own each; one value for all if not given.
    pub neurons: Option<usize>,
    /// Whether it is trained.
    #[config(default = false)]
    pub trained: bool,
}

impl FiringThresholdConfig {
    /// Builds the parameter, `[1]` or `[neurons]`.
    pub fn init(&self, device: &Device) -> Param<Tensor<1>> {
        let values = Tensor::<1>::full([self.neurons.unwrap_or(1)], self.value, device);
        Param::from_tensor(values).set_require_grad(self.trained)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let value = self.value;
        if value > 0.0 && value.is_finite() && self.neurons != Some(0) {
            return Ok(());
        }
        let message = format!("is {value}, expected finite and positive, of one neuron at least");
        Err(Error::config("threshold", message))
    }
}
