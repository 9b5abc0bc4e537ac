//! A shift convolution and the adder that reads it, as one layer.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Foldable, Planner};
use crate::nn::conv::adder2d::{Adder2d, Adder2dConfig};
use crate::nn::conv::shift_conv2d::{ShiftConv2d, ShiftConv2dConfig};
use crate::nn::norm::Normalization;
use crate::nn::norm::{BatchNorm, BatchNormConfig};
use crate::quantizers::{FormatQuantizer, FormatQuantizerConfig, Quantizers, Slot};

/// Configuration of a [`ShiftAdder2d`].
#[derive(Config, Debug)]
pub struct ShiftAdder2dConfig {
    /// The shift convolution. What it hands on is quantized by the adder's `input` alone, so it
    /// has no `output`.
    pub shift: ShiftConv2dConfig,
    /// The adder.
    pub adder: Adder2dConfig,
    /// Whether a normalization follows the shift convolution.
    #[config(default = false)]
    pub shift_norm: bool,
    /// Whether a normalization follows the adder.
    #[config(default = true)]
    pub adder_norm: bool,
    /// How the normalizations' factors are rounded. None leaves them as they are, so that the
    /// folded layer is the layers one after the other;
    /// [`FormatQuantizerConfig::shifts`]`(-15..=15)` makes each a power of two, so that the pair
    /// needs no multiplication.
    #[config(default = "None")]
    pub factors: Option<FormatQuantizerConfig>,
}

/// The pair of ShiftAddNet (arXiv 2010.12785): a shift convolution and an adder on its result, with
/// the normalizations after either folded into it. Built by [`ShiftAdder2dConfig`].
///
/// The convolution's sum goes to the adder at the width of its accumulator; what lies between them
/// is one quantizer, the adder's `input`.
///
/// A normalization turns each channel's sum `a` into `s a + t` with `s = gamma / sqrt(variance +
/// epsilon)` and `t = beta + s (b - mean)`. Into a convolution, `s` goes by its weight. Here it
/// cannot: a weight of the shift convolution has to stay a power of two; and `s |x - w| = |s x - s
/// w|` needs an `s` that is positive and one for all channels that read the same `x`. What is exact
/// for both layers, for any sign and with any padding, is to let `s` follow the sum and `t` become
/// the bias. `s` may be rounded ([`ShiftAdder2dConfig::factors`]): to a power of two,
/// `sign(s) 2^round(log2 |s|)`, it is one more shift a channel. Its gradient passes straight
/// through the rounding, and `gamma` trains with that, so what rounding takes away (up to a factor
/// of `sqrt(2)`) the network can make up for.
///
/// The `bias` slots quantize `t`. The statistics are those of the batch until they are frozen, on
/// an autodiff device, and the running ones elsewhere.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{Adder2dConfig, ShiftAdder2dConfig, ShiftConv2dConfig};
///
/// let device = Device::flex();
/// let shift = ShiftConv2dConfig::new([3, 8], [3, 3]);
/// let adder = Adder2dConfig::new([8, 8], [1, 1]);
/// let pair = ShiftAdder2dConfig::new(shift, adder).init(&device);
/// assert_eq!(pair.forward(Tensor::zeros([1, 3, 9, 9], &device)).dims(), [1, 8, 7, 7]);
/// ```
#[derive(Module, Debug)]
pub struct ShiftAdder2d {
    /// The shift convolution.
    pub shift: ShiftConv2d,
    /// The normalization after it.
    pub shift_norm: Option<BatchNorm>,
    /// What is left of one that is merged: its factors, `[channels_out]` of `shift`.
    pub shift_scale: Option<Param<Tensor<1>>>,
    /// The adder.
    pub adder: Adder2d,
    /// The normalization after it.
    pub adder_norm: Option<BatchNorm>,
    /// What is left of one that is merged: its factors, `[channels_out]` of `adder`.
    pub adder_scale: Option<Param<Tensor<1>>>,
    /// Rounds the factors.
    pub factors: Option<FormatQuantizer>,
}

impl ShiftAdder2dConfig {
    /// The pair with what its layers at `path.shift` and `path.adder` quantize.
    ///
    /// # Errors
    /// As [`Planner::layer`] and [`check`](Self::check).
    pub fn planned(self, planner: &mut Planner, path: &str) -> Result<Self, Error> {
        let shift = Foldable {
            layer: self.shift,
            folded: self.shift_norm,
        };
        let adder = Foldable {
            layer: self.adder,
            folded: self.adder_norm,
        };
        let shift = planner.layer(format!("{path}.shift"), shift)?;
        let adder = planner.layer(format!("{path}.adder"), adder)?;
        let planned = Self {
            shift: shift.layer,
            adder: adder.layer,
            ..self
        };
        planned.check().map_err(|error| error.within(path))?;
        Ok(planned)
    }

    /// Whether the layer can be built.
    ///
    /// # Errors
    /// If one of its layers cannot; if the adder does not read as many channels as the convolution
    /// makes; if the convolution quantizes its `output`; if weight and bias of a normalized adder share
    /// a scale.
    pub fn check(&self) -> Result<(), Error> {
        self.shift.check_at("shift")?;
        self.adder.check_at("adder")?;
        let (made, read) = (self.shift.channels[1], self.adder.channels[0]);
        if made != read {
            let message = format!("reads {read}, expected the {made} that the convolution makes");
            return Err(Error::config("adder.channels", message));
        }
        if self.shift.quantization.get(Slot::OUTPUT).is_some() {
            let message = "is quantized by the adder's input, expected none";
            return Err(Error::config("shift.output", message));
        }
        if self.adder_norm && !self.adder.quantization.share.is_empty() {
            let message = "the bias is added after the normalization, expected none";
            return Err(Error::config("adder.share", message));
        }
        Ok(())
    }

    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Self::check) where that is an error.
    pub fn init(&self, device: &Device) -> ShiftAdder2d {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        let norm = |wanted: bool, channels: [usize; 2]| {
            wanted.then(|| BatchNormConfig::new(channels[1]).init(device))
        };
        ShiftAdder2d {
            shift: self.shift.init(device),
            shift_norm: norm(self.shift_norm, self.shift.channels),
            shift_scale: None,
            adder: self.adder.init(device),
            adder_norm: norm(self.adder_norm, self.adder.channels),
            adder_scale: None,
            factors: self.factors.as_ref().map(FormatQuantizerConfig::init),
        }
    }
}

impl ShiftAdder2d {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels_in, height, width]`
    /// - result: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let bias = |bias: &Option<Param<Tensor<1>>>| bias.as_ref().map(|bias| bias.val());
        let between = {
            let (norm, scale) = (&self.shift_norm, &self.shift_scale);
            let bias = bias(&self.shift.bias);
            match self.is_scaled(norm, scale) {
                false => self.shift.forward(input),
                true => {
                    let sums = self.shift.sums(input, None);
                    self.scaled(sums, bias, norm, scale, &self.shift.quantizers)
                }
            }
        };
        let (norm, scale) = (&self.adder_norm, &self.adder_scale);
        let bias = bias(&self.adder.bias);
        match self.is_scaled(norm, scale) {
            false => self.adder.forward(between),
            true => {
                let sums = self.adder.sums(between, None);
                self.scaled(sums, bias, norm, scale, &self.adder.quantizers)
            }
        }
    }

    fn is_scaled(&self, norm: &Option<BatchNorm>, scale: &Option<Param<Tensor<1>>>) -> bool {
        norm.is_some() || scale.is_some()
    }

    /// `s a + t` of the sums, quantized as the layer that made them says.
    fn scaled(
        &self,
        sums: Tensor<4>,
        bias: Option<Tensor<1>>,
        norm: &Option<BatchNorm>,
        scale: &Option<Param<Tensor<1>>>,
        quantizers: &Quantizers,
    ) -> Tensor<4> {
        let (scale, bias) = match (norm, scale) {
            (Some(norm), _) => {
                let statistics = self.statistics(norm, &sums, bias.clone());
                let (scale, bias) = self.folded(statistics, bias);
                (Some(scale), Some(bias))
            }
            (None, scale) => (scale.as_ref().map(|scale| scale.val()), bias),
        };
        let wide = |values: Tensor<1>| {
            let [channels] = values.dims();
            values.reshape([1, channels, 1, 1])
        };
        let mut y = sums;
        if let Some(scale) = scale {
            y = y * wide(scale);
        }
        if let Some(bias) = bias {
            y = y + wide(quantizers.bias(bias).quantized());
        }
        quantizers.output(y)
    }

    /// What `norm` does to the sums with their bias.
    fn statistics(
        &self,
        norm: &BatchNorm,
        sums: &Tensor<4>,
        bias: Option<Tensor<1>>,
    ) -> Normalization {
        let device = sums.device();
        if !(device.is_autodiff() && norm.training.is_enabled()) {
            return norm.running(&device);
        }
        let seen = match bias {
            Some(bias) => {
                let [channels] = bias.dims();
                sums.clone() + bias.reshape([1, channels, 1, 1])
            }
            None => sums.clone(),
        };
        norm.of_batch(seen)
    }

    /// The factor of each channel, and the bias after it.
    fn folded(&self, norm: Normalization, bias: Option<Tensor<1>>) -> (Tensor<1>, Tensor<1>) {
        let scale = match &self.factors {
            Some(factors) => factors.operand(norm.scale()).quantized(),
            None => norm.scale(),
        };
        let shift = match bias {
            Some(bias) => bias - norm.mean,
            None => norm.mean.neg(),
        };
        (scale.clone(), norm.beta + shift * scale)
    }

    /// The layer without its normalizations, for good: their running statistics are in the biases
    /// and in a factor for each channel.
    pub fn merged(mut self) -> Self {
        let device = self.shift.weight.val().device();
        let plain = |bias: &Option<Param<Tensor<1>>>| bias.as_ref().map(|bias| bias.val());
        if let Some(norm) = self.shift_norm.take() {
            let (scale, bias) = self.folded(norm.running(&device), plain(&self.shift.bias));
            self.shift_scale = Some(fixed(scale));
            self.shift.bias = Some(Param::from_tensor(bias.detach()));
        }
        if let Some(norm) = self.adder_norm.take() {
            let (scale, bias) = self.folded(norm.running(&device), plain(&self.adder.bias));
            self.adder_scale = Some(fixed(scale));
            self.adder.bias = Some(Param::from_tensor(bias.detach()));
        }
        self
    }
}

/// A parameter that does not train: what is rounded would not stay so.
fn fixed(scale: Tensor<1>) -> Param<Tensor<1>> {
    Param::from_tensor(scale.detach()).set_require_grad(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0.3 is the shift 1/4, of which 8 makes 2; its distance from 5 is 3.
    #[test]
    fn a_shift_and_a_distance_by_hand() {
        let device = Device::flex();
        let shift = ShiftConv2dConfig::new([1, 1], [1, 1]).with_bias(false);
        let adder = Adder2dConfig::new([1, 1], [1, 1]);
        let mut pair = ShiftAdder2dConfig::new(shift, adder)
            .with_adder_norm(false)
            .init(&device);
        pair.shift.weight = Param::from_tensor(Tensor::full([1, 1, 1, 1], 0.3, &device));
        pair.adder.weight = Param::from_tensor(Tensor::full([1, 1, 1, 1], 5.0, &device));
        let y = pair.forward(Tensor::full([1, 1, 1, 1], 8.0, &device));
        assert_eq!(y.into_scalar::<f32>(), -3.0);
    }
}
