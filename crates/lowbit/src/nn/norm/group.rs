//! Group normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::norm::parts::{check_epsilon, description, normalized, scaled_and_shifted};
use crate::nn::window::at_least_one;
use crate::quantizers::{Quantizers, Slot};

/// Configuration of a [`GroupNorm`]; the fields of `burn::nn::GroupNormConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct GroupNormConfig {
    /// Groups, at least one.
    pub num_groups: usize,
    /// Channels, a multiple of the groups.
    pub num_channels: usize,
    /// Added to the variance; finite and positive.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether channels are scaled and shifted.
    #[config(default = true)]
    pub affine: bool,
    /// What is quantized; the slots are `input`, `gamma`, `beta`, `mean`, `deviation`,
    /// `normalized`, `output`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and (biased) variance of each
/// example's group of channels (Wu and He, arXiv 1803.08494). Built by [`GroupNormConfig`];
/// parameter paths are those of `burn::nn::GroupNorm`. Composed of tensor operations. Where a
/// deviation is rounded to zero, the normalized numbers are zero.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::GroupNormConfig;
///
/// let device = Device::flex();
/// let norm = GroupNormConfig::new(1, 2).init(&device);
/// // Mean 2 and variance 1: 3 is one deviation above the mean.
/// let y = norm.forward(Tensor::<3>::from_floats([[[1.0], [3.0]]], &device));
/// assert!((y.into_data().try_to_vec::<f32>().unwrap()[1] - 1.0).abs() < 1e-4);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct GroupNorm {
    /// Scale, `[num_channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// Shift, `[num_channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Groups.
    pub num_groups: usize,
    /// Channels.
    pub num_channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether channels are scaled and shifted.
    pub affine: bool,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl GroupNormConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> GroupNorm {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::GroupNormConfig::new(self.num_groups, self.num_channels)
            .with_epsilon(self.epsilon)
            .with_affine(self.affine)
            .init(device);
        GroupNorm {
            gamma: plain.gamma,
            beta: plain.beta,
            num_groups: plain.num_groups,
            num_channels: plain.num_channels,
            epsilon: plain.epsilon,
            affine: plain.affine,
            quantizers,
        }
    }
}

impl Describe for GroupNormConfig {
    fn describe(&self) -> Description {
        of_groups("GroupNorm", self.affine)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("num_groups", &[self.num_groups])?;
        at_least_one("num_channels", &[self.num_channels])?;
        if !self.num_channels.is_multiple_of(self.num_groups) {
            let (channels, groups) = (self.num_channels, self.num_groups);
            let message = format!("is {channels}, expected a multiple of num_groups, {groups}");
            return Err(Error::config("num_channels", message));
        }
        check_epsilon(self.epsilon)
    }
}

impl GroupNorm {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[batch, num_channels, ...]`
    ///
    /// # Panics
    /// If the channels are others.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let affine = [&self.gamma, &self.beta].map(|p| p.as_ref().map(|p| p.val()));
        let channels = [self.num_channels, self.num_groups];
        normalize_groups(&self.quantizers, input, affine, channels, self.epsilon)
    }
}

/// A normalization of groups of channels, as plans see it.
pub(super) fn of_groups(name: &'static str, affine: bool) -> Description {
    let slots = [
        Slot::GAMMA,
        Slot::BETA,
        Slot::MEAN,
        Slot::DEVIATION,
        Slot::NORMALIZED,
    ];
    let own = if affine { &slots[..] } else { &slots[2..] };
    description(name, own).leaving_grid()
}

/// Normalizes each of the groups into which `[channels, groups]` divides the channels.
pub(super) fn normalize_groups<const D: usize>(
    quantizers: &Quantizers,
    input: Tensor<D>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
    [channels, groups]: [usize; 2],
    epsilon: f64,
) -> Tensor<D> {
    let shape = input.dims();
    assert!(D >= 3, "a normalization of groups needs rank 3, got {D}");
    assert_eq!(
        shape[1], channels,
        "the input has {} channels, expected {channels}",
        shape[1]
    );
    let size = shape[1..].iter().product::<usize>() / groups;
    let input = quantizers.input(input).quantized();
    let rows = input.reshape([shape[0], groups, size]);
    let normalized = normalized(quantizers, rows, 2, epsilon).reshape(shape);
    let output = match gamma {
        Some(gamma) => scaled_and_shifted(quantizers, normalized, gamma, beta, 1),
        None => normalized,
    };
    quantizers.output(output)
}

impl ModuleDisplay for GroupNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_groups", &self.num_groups)
            .add("num_channels", &self.num_channels)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.affine)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_that_do_not_divide_into_groups_are_refused() {
        let refused = |groups| {
            let checked = GroupNormConfig::new(groups, 4).check();
            checked.unwrap_err().to_string()
        };
        assert_eq!(
            refused(3),
            "GroupNorm.num_channels: is 4, expected a multiple of num_groups, 3"
        );
        assert_eq!(
            refused(0),
            "GroupNorm.num_groups: is 0, expected at least 1"
        );
    }

    #[test]
    fn without_parameters_there_are_no_slots_for_them() {
        let description = GroupNormConfig::new(1, 2).with_affine(false).describe();
        let has = ["gamma", "beta", "gradient", "mean"].map(|slot| description.has_slot(slot));
        assert_eq!(has, [false, false, false, true]);
    }
}
