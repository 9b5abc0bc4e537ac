//! Batch normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param, RunningState};
use burn::tensor::{Device, Tensor};

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::nn::activation::Relu;
use crate::nn::norm::Normalization;
use crate::nn::norm::parts::{INSIDE, check_epsilon, description, divisor, scaled_and_shifted};
use crate::nn::norm::statistics::batch_weight;
use crate::nn::window::at_least_one;
use crate::ops::{self, Activation};
use crate::quantizers::{Quantizers, Slot, Taps};

/// Configuration of a [`BatchNorm`]; the fields of `burn::nn::BatchNormConfig`, and what is
/// quantized.
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// Channels, at least one.
    pub num_features: usize,
    /// Added to the variance; finite and positive.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Weight of a batch in the running statistics, 0 to 1.
    #[config(default = 0.1)]
    pub momentum: f64,
    /// What is quantized; the slots are `input`, `gamma`, `beta`, `mean`, `deviation`,
    /// `normalized`, `output`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Batch normalization (Ioffe, Szegedy, arXiv 1502.03167). Built by [`BatchNormConfig`]; parameter
/// paths are those of `burn::nn::BatchNorm`.
///
/// One pass, unless `mean`, `deviation` or `normalized` have a quantizer; several then, and in evaluation
/// composed of tensor operations. Where a deviation is rounded to zero, the normalized
/// numbers are zero.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::BatchNormConfig;
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(1).init(&device);
/// // Mean 2 and variance 1: 3 is one deviation above the mean.
/// let y = norm.forward(Tensor::<2>::from_floats([[1.0], [3.0]], &device));
/// assert!((y.into_data().try_to_vec::<f32>().unwrap()[1] - 1.0).abs() < 1e-4);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm {
    /// Scale, `[num_features]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[num_features]`.
    pub beta: Param<Tensor<1>>,
    /// Whether the statistics of the batch are used and followed, on an autodiff device.
    pub training: Param<Flag>,
    /// Running mean, `[num_features]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running (biased) variance, `[num_features]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Weight of a batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl BatchNormConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> BatchNorm {
        let quantizers = self.init_quantizers(device);
        let plain = burn::nn::BatchNormConfig::new(self.num_features)
            .with_epsilon(self.epsilon)
            .with_momentum(self.momentum)
            .init(device);
        BatchNorm {
            gamma: plain.gamma,
            beta: plain.beta,
            training: plain.training,
            running_mean: plain.running_mean,
            running_var: plain.running_var,
            momentum: plain.momentum,
            epsilon: plain.epsilon,
            quantizers,
        }
    }
}

impl Describe for BatchNormConfig {
    fn describe(&self) -> Description {
        let own = [
            Slot::GAMMA,
            Slot::BETA,
            Slot::MEAN,
            Slot::DEVIATION,
            Slot::NORMALIZED,
        ];
        description("BatchNorm", &own)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        at_least_one("num_features", &[self.num_features])?;
        check_epsilon(self.epsilon)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            let message = format!("is {}, expected 0 to 1", self.momentum);
            return Err(Error::config("momentum", message));
        }
        Ok(())
    }
}

impl BatchNorm {
    /// Applies the layer.
    ///
    /// # Shapes
    /// `input` and result: `[batch, num_features, ...]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.quantizers
            .output(self.normalize(input, Activation::Identity))
    }

    /// Applies the layer and the rectifier that follows it, in one pass where nothing is to be
    /// quantized or seen between them. The result is that of one after the other.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_rectified<const D: usize>(&self, input: Tensor<D>, relu: &Relu) -> Tensor<D> {
        let between = [
            self.quantizers.get(Slot::OUTPUT),
            self.quantizers.get(Slot::ERROR),
            relu.quantizers.get(Slot::INPUT),
        ];
        let apart = between.iter().any(Option::is_some);
        if apart || Taps::are_attached() {
            return relu.forward(self.forward(input));
        }
        relu.quantizers
            .output(self.normalize(input, Activation::Relu))
    }

    fn normalize<const D: usize>(&self, input: Tensor<D>, activation: Activation) -> Tensor<D> {
        let quantizers = &self.quantizers;
        let input = quantizers.input(input).quantized();
        let inside = INSIDE.iter().any(|slot| quantizers.get(slot).is_some());
        if inside {
            let device = input.device();
            let normalized = self.composed(input);
            if self.is_live(&device) {
                let affine = self.affine();
                // Nothing is left to normalize: mean 0 and variance 1.
                let none = affine[0].clone().detach();
                let statistics = [none.zeros_like(), none.ones_like()];
                return ops::batch_norm(normalized, affine, statistics, 0.0, activation);
            }
            let (gamma, beta) = (self.gamma.val(), Some(self.beta.val()));
            let output = scaled_and_shifted(quantizers, normalized, gamma, beta, 1);
            return match activation {
                Activation::Identity => output,
                Activation::Relu => ops::relu(output),
                Activation::Relu6 => ops::relu6(output),
            };
        }
        if Taps::are_attached() {
            // To be seen only: the one pass makes the result.
            self.with_slots(input.clone(), self.statistics(&input));
        }
        let affine = self.affine();
        let device = input.device();
        if !self.is_live(&device) {
            let statistics = [&self.running_mean, &self.running_var]
                .map(|running| running.value().to_device(&device));
            return ops::batch_norm(input, affine, statistics, self.epsilon, activation);
        }
        let batch = ops::batch_norm_train(input, affine, self.epsilon, activation);
        self.update(batch.mean, batch.variance, &device);
        batch.output
    }

    /// Gamma and beta, through their slots.
    fn affine(&self) -> [Tensor<1>; 2] {
        let affine = [(Slot::GAMMA, &self.gamma), (Slot::BETA, &self.beta)];
        affine.map(|(slot, p)| self.quantizers.parameter(slot, p.val()).quantized())
    }

    /// Whether the statistics are those of the batch.
    fn is_live(&self, device: &Device) -> bool {
        device.is_autodiff() && self.training.is_enabled()
    }

    /// The normalized input, before gamma and beta, composed of tensor operations; running
    /// statistics follow the batch.
    fn composed<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let device = input.device();
        let [mean, variance] = self.statistics(&input);
        // In evaluation it stays composed of the operations that a recording knows.
        if !self.is_live(&device) {
            return self.with_slots(input, [mean, variance]);
        }
        self.update(mean.clone(), variance.clone(), &device);
        let [mean, deviation] = self.given([mean, variance]);
        let normalized = ops::standardize(input, mean, deviation);
        let normalized = self.quantizers.activation(Slot::NORMALIZED, normalized);
        normalized.quantized()
    }

    /// What is subtracted and divided by, through the slots.
    fn given(&self, [mean, variance]: [Tensor<1>; 2]) -> [Tensor<1>; 2] {
        let deviation = variance.add_scalar(self.epsilon).sqrt();
        let mean = self.quantizers.activation(Slot::MEAN, mean).quantized();
        [mean, divisor(&self.quantizers, deviation)]
    }

    /// Mean and (biased) variance of each channel: of the batch, or the running ones.
    fn statistics<const D: usize>(&self, input: &Tensor<D>) -> [Tensor<1>; 2] {
        let device = input.device();
        if !self.is_live(&device) {
            return [&self.running_mean, &self.running_var]
                .map(|running| running.value().to_device(&device));
        }
        ops::channel_statistics(input.clone())
    }

    /// `(x - mean) / sqrt(variance + epsilon)`, all of it through the slots.
    fn with_slots<const D: usize>(
        &self,
        input: Tensor<D>,
        statistics: [Tensor<1>; 2],
    ) -> Tensor<D> {
        let along = |per_channel: Tensor<1>| {
            let mut shape = [1; D];
            shape[1] = per_channel.dims()[0];
            per_channel.reshape(shape)
        };
        let [mean, deviation] = self.given(statistics);
        let normalized = (input - along(mean)) / along(deviation);
        let normalized = self.quantizers.activation(Slot::NORMALIZED, normalized);
        normalized.quantized()
    }

    /// What it does with the running statistics.
    pub(crate) fn running(&self, device: &Device) -> Normalization {
        let [mean, variance] = [&self.running_mean, &self.running_var]
            .map(|running| running.value_sync().to_device(device));
        self.with_statistics(mean, variance)
    }

    /// Gamma, beta, mean and variance in evaluation, as they are quantized, and the epsilon.
    pub(super) fn in_evaluation(&self, device: &Device) -> ([Tensor<1>; 4], f64) {
        let statistics = [&self.running_mean, &self.running_var]
            .map(|running| running.value().to_device(device));
        let ([gamma, beta], [mean, variance]) = (self.affine(), statistics);
        ([gamma, beta, mean, variance], self.epsilon)
    }

    fn with_statistics(&self, mean: Tensor<1>, variance: Tensor<1>) -> Normalization {
        Normalization {
            gamma: self.gamma.val(),
            beta: self.beta.val(),
            mean,
            variance,
            epsilon: self.epsilon,
        }
    }

    /// What it does with mean and (biased) variance of a batch, `[batch, num_features, ...]`, which
    /// the running statistics take note of.
    pub(crate) fn of_batch(&self, batch: Tensor<4>) -> Normalization {
        let [mean, variance] = statistics_of(batch.clone());
        self.update(mean.clone(), variance.clone(), &batch.device());
        self.with_statistics(mean, variance)
    }

    /// Moves the running statistics towards those of a batch.
    fn update(&self, mean: Tensor<1>, variance: Tensor<1>, device: &Device) {
        let momentum = batch_weight().unwrap_or(self.momentum);
        let follow = |running: &RunningState<Tensor<1>>, seen: Tensor<1>| {
            if momentum == 1.0 {
                // What was there before may be no number.
                return running.update(seen.detach());
            }
            let kept = running
                .value_sync()
                .to_device(device)
                .mul_scalar(1.0 - momentum);
            running.update(kept.add(seen.detach().mul_scalar(momentum)).detach());
        };
        follow(&self.running_mean, mean);
        follow(&self.running_var, variance);
    }
}

/// Mean and (biased) variance of each channel, `[channels]`, of `[batch, channels, ...]`.
fn statistics_of<const D: usize>(batch: Tensor<D>) -> [Tensor<1>; 2] {
    let features = batch.dims()[1];
    let rows = batch.swap_dims(0, 1).reshape([features as i32, -1]);
    let mean = rows.clone().mean_dim(1);
    let variance = (rows - mean.clone()).square().mean_dim(1);
    [mean, variance].map(|of_rows| of_rows.reshape([features]))
}

impl ModuleDisplay for BatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [num_features] = self.beta.dims();
        content
            .add("num_features", &num_features)
            .add("momentum", &self.momentum)
            .add("epsilon", &self.epsilon)
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 3 and variance 4 with momentum 1 become the running ones: (5 - 3) / 2 = 1.
    #[test]
    fn the_running_statistics_follow_and_are_used_afterwards() {
        let device = Device::flex().autodiff();
        let config = BatchNormConfig::new(1).with_momentum(1.0);
        let norm = config.with_epsilon(1e-12).init(&device);
        norm.forward(Tensor::<2>::from_floats([[1.0], [5.0]], &device));
        let norm = norm.valid();
        let y = norm.forward(Tensor::<2>::from_floats([[5.0]], &Device::flex()));
        assert!((y.into_scalar::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        let refused = |config: BatchNormConfig| config.check().unwrap_err().to_string();
        assert_eq!(
            refused(BatchNormConfig::new(0)),
            "BatchNorm.num_features: is 0, expected at least 1"
        );
        assert_eq!(
            refused(BatchNormConfig::new(1).with_epsilon(0.0)),
            "BatchNorm.epsilon: is 0, expected finite and positive"
        );
        assert_eq!(
            refused(BatchNormConfig::new(1).with_momentum(1.5)),
            "BatchNorm.momentum: is 1.5, expected 0 to 1"
        );
    }
}
