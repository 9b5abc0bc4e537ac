//! Rectifier with random slopes below zero.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::dropout::factors;
use crate::ops;
use crate::quantizers::{Draws, Quantizers, Signs};

/// Configuration of an [`RRelu`]; the fields of Burn's, and what is quantized.
#[derive(Config, Debug)]
pub struct RReluConfig {
    /// The least slope below zero.
    #[config(default = "0.125")]
    pub lower: f64,
    /// The slopes are below this, or all the same where it is the least.
    #[config(default = "1.0 / 3.0")]
    pub upper: f64,
    /// What is quantized; the slots are `input`, `output` and `error`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `x` where `x >= 0`, `a x` below (Xu et al., arXiv 1505.00853, section 2.4). In training, on an
/// autodiff device, each element has an `a` of its own, uniform from `lower` to below `upper`; anywhere
/// else, and where the layer is frozen, it is their mean. Built by [`RReluConfig`].
///
/// The random numbers are those of a [`Dropout`](crate::nn::Dropout), with another seed: a resumed run
/// draws the same.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::RReluConfig;
///
/// let device = Device::flex();
/// let layer = RReluConfig::new().with_lower(0.25).with_upper(0.75).init(&device);
/// let y = layer.forward(Tensor::<1>::from_floats([-4.0, 2.0], &device));
/// assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [-2.0, 2.0]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct RRelu {
    /// The least slope below zero.
    pub lower: f64,
    /// What the slopes are below.
    pub upper: f64,
    /// Whether slopes are random, on an autodiff device.
    pub training: Param<Flag>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
    #[module(skip)]
    draws: Draws,
}

/// Tells these random numbers from those that round with the same seed: "rrelu" in ASCII.
const SEED: u64 = 0x72_7265_6c75;

impl RReluConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> RRelu {
        RRelu {
            quantizers: self.init_quantizers(device),
            lower: self.lower,
            upper: self.upper,
            training: Param::from_bool(true),
            draws: Draws::new(),
        }
    }
}

impl Describe for RReluConfig {
    fn describe(&self) -> Description {
        Description::new("RRelu")
            .leaving_grid()
            .with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        let (lower, upper) = (self.lower, self.upper);
        if lower.is_finite() && upper.is_finite() && lower <= upper {
            return Ok(());
        }
        let message = format!("is {lower}, expected a number up to upper, {upper}");
        Err(Error::config("lower", message))
    }
}

impl RRelu {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let is_random = self.training.is_enabled() && input.device().is_autodiff();
        let output = match is_random {
            true => self.with_slopes(input),
            false => ops::leaky_relu(input, (self.lower + self.upper) / 2.0),
        };
        self.quantizers.output(output)
    }

    /// Each negative element times a slope of its own.
    fn with_slopes<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let width = (self.upper - self.lower) / 2f64.powi(32);
        let slope = |word: u32| (self.lower + f64::from(word) * width) as f32;
        let slopes = factors(&self.draws, SEED, input.shape().num_elements(), slope);
        let slopes = TensorData::new(slopes, input.shape());
        let slopes = Tensor::<D>::from_data(slopes, &input.device());
        let is_negative = input.clone().lower_scalar(0.0);
        input.clone().mask_where(is_negative, input * slopes)
    }
}

impl ModuleDisplay for RRelu {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("lower", &self.lower)
            .add("upper", &self.upper)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::set_rounding;

    /// Slopes from 1/4 to below 3/4: their mean over 10,000 has a deviation of 0.5 / sqrt(12 10,000), and
    /// the gradient of an element is its slope.
    #[test]
    fn in_training_slopes_are_random_and_repeat() {
        let device = Device::flex().autodiff();
        let layer = RReluConfig::new()
            .with_lower(0.25)
            .with_upper(0.75)
            .init(&device);
        let run = |step: u64| {
            set_rounding(7, step);
            let x = (Tensor::<1>::ones([10_000], &device) * -1.0).require_grad();
            let y = layer.forward(x.clone());
            let grads = y.clone().sum().backward();
            let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
            let (y, slopes) = (read(y), read(x.grad(&grads).unwrap()));
            assert!(y.iter().zip(&slopes).all(|(y, slope)| -y == *slope));
            slopes
        };
        let slopes = run(1);
        assert!(slopes.iter().all(|slope| (0.25..0.75).contains(slope)));
        let mean = slopes.iter().map(|&s| f64::from(s)).sum::<f64>() / 1e4;
        assert!(
            (mean - 0.5).abs() < 4.0 * 0.5 / (12.0 * 1e4f64).sqrt(),
            "{mean}"
        );
        assert_eq!(run(1), slopes);
        assert_ne!(run(2), slopes);
        let x = Tensor::<1>::from_floats([-1.0, 3.0], &device);
        let y = layer.freeze().forward(x).into_data();
        assert_eq!(y.try_to_vec::<f32>().unwrap(), [-0.5, 3.0]);
    }

    #[test]
    fn ends_in_the_wrong_order_are_refused() {
        let refused = RReluConfig::new().with_lower(0.5).check();
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .starts_with("RRelu.lower: is 0.5, expected a number up to upper, 0.33")
        );
    }
}
