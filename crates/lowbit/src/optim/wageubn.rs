//! Training in integers with momentum: WAGEUBN.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};
use lowbit_formats::fixed::Overflow;
use lowbit_formats::{FixedPoint, Format, Rounding};
use serde::{Deserialize, Serialize};

use super::{Sgd, SgdState};
use crate::Error;
use crate::ops::{ClampedGradient, fake_quantize};
use crate::quantizers::{ConstantConfig, Draws, unit_interval};

/// The update of WAGEUBN (Yang et al., arXiv 1909.02384, sections III-E and III-F), `Q(x, k)` being
/// multiples of `2^(1 - k)`:
///
/// - of weights `G = CQ(g + weight_decay w)` ([`ConstantConfig`]), of tensors of one dimension (biases,
///   a normalization's factors and summands) `G = Q(g, vector_bits)`;
/// - `v = momentum Q(v', momentum_bits) + G`, `v'` being that of the last step;
/// - `w = Q(w - clip(Q(lr, rate_bits), -1 + d, 1 - d) v, weight_bits)`.
///
/// With the paper's widths nothing of that is rounded twice: `v` is a multiple of `2^-14`, the rate of
/// `2^-9`, and their product of `2^-23`, the step of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WageubnConfig {
    /// How much of the last step is kept; the paper's is 1/4, of three bits.
    pub momentum: f32,
    /// Factor of the weights that is added to their gradient.
    pub weight_decay: f32,
    /// How gradients of weights are quantized.
    pub gradient: ConstantConfig,
    /// Bits of other gradients.
    pub vector_bits: u32,
    /// Bits of what is kept.
    pub momentum_bits: u32,
    /// Bits of the learning rate.
    pub rate_bits: u32,
    /// Bits of the weights.
    pub weight_bits: u32,
    /// Bits of the weights as training starts.
    pub first_weight_bits: u32,
}

impl Default for WageubnConfig {
    fn default() -> Self {
        Self {
            momentum: 0.25,
            weight_decay: 1e-4,
            gradient: ConstantConfig::default(),
            vector_bits: 15,
            momentum_bits: 13,
            rate_bits: 10,
            weight_bits: 24,
            first_weight_bits: 16,
        }
    }
}

impl WageubnConfig {
    /// Whether every field is in its range.
    ///
    /// # Errors
    /// With the name of the field.
    pub fn check(&self) -> Result<(), Error> {
        let widths = [
            ("vector_bits", self.vector_bits),
            ("momentum_bits", self.momentum_bits),
            ("rate_bits", self.rate_bits),
            ("weight_bits", self.weight_bits),
            ("first_weight_bits", self.first_weight_bits),
        ];
        if let Some((field, bits)) = widths.iter().find(|(_, bits)| !(2..=24).contains(bits)) {
            return Err(Error::config(
                *field,
                format!("is {bits}, expected 2 to 24"),
            ));
        }
        self.gradient
            .check()
            .map_err(|error| error.within("gradient"))
    }

    /// The learning rate in its width.
    fn rate(&self, lr: LearningRate) -> f32 {
        let rate = unit_interval(self.rate_bits);
        Format::from(rate).round(lr as f32, Rounding::NearestEven, 0)
    }
}

/// Multiples of `2^(1 - bits)` of any size: the paper's direct quantization `Q(x, bits)`.
///
/// # Panics
/// If `bits` is not from 2 to 24.
pub(super) fn direct(bits: u32) -> Format {
    let places = i8::try_from(bits).expect("a width from 2 to 24") - 1;
    let fixed = FixedPoint::new(24, places);
    let fixed = fixed.and_then(|fixed| fixed.with_overflow(Overflow::Unbounded));
    fixed.expect("a width from 2 to 24").into()
}

/// The optimizer of a [`WageubnConfig`].
#[derive(Debug, Clone)]
pub struct Wageubn {
    config: WageubnConfig,
    draws: Draws,
}

impl Wageubn {
    /// The optimizer.
    ///
    /// # Errors
    /// If a field is out of its range.
    pub fn new(config: WageubnConfig) -> Result<Self, Error> {
        config.check()?;
        let draws = Draws::new();
        Ok(Self { config, draws })
    }
}

fn rounded<const D: usize>(x: Tensor<D>, bits: u32) -> Tensor<D> {
    let rounding = Rounding::NearestEven;
    fake_quantize(x, &direct(bits), rounding, ClampedGradient::Pass)
}

impl Optimizer for Wageubn {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let config = &self.config;
        let gradient = match D {
            1 => rounded(grad, config.vector_bits),
            _ => {
                let decayed = grad + tensor.clone() * config.weight_decay;
                config.gradient.of_gradient(&self.draws).apply(decayed)
            }
        };
        let velocity = match state {
            Some(state) => state.velocity * config.momentum + gradient,
            None => gradient,
        };
        let step = velocity.clone() * config.rate(lr);
        let weight = rounded(tensor - step, config.weight_bits);
        let velocity = rounded(velocity, config.momentum_bits);
        (weight, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        <Sgd as Optimizer>::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
        x.to_data().iter::<f32>().map(f64::from).collect()
    }

    /// Two steps of weights. The gradient 1, -0.5 is divided by 1, times 128 it is 128, held to 127, and
    /// -64: in steps of 2^-14. A rate of 0.05 is 26 of 512 (25.6). After the first step what is kept,
    /// 127 and -64 of 2^-14, is 32 and -16 of 2^-12 (31.75); the second gradient is zero, and a quarter
    /// of that is 8 and -4 of 2^-12.
    #[test]
    fn two_steps_by_hand() {
        let config = WageubnConfig {
            weight_decay: 0.0,
            ..WageubnConfig::default()
        };
        let optimizer = Wageubn::new(config).unwrap();
        let device = Device::flex();
        let tensor = |x: [f32; 2]| Tensor::<2>::from_floats([x], &device);
        let start = [0.25, -0.5];
        let (weight, state) = optimizer.step(0.05, tensor(start), tensor([1.0, -0.5]), None);
        let [rate, g] = [26.0 / 512.0, 2f64.powi(-14)];
        let first = [0.25 - rate * 127.0 * g, -0.5 + rate * 64.0 * g];
        assert_eq!(read(&weight), first);
        let kept = read(&state.as_ref().unwrap().velocity);
        assert_eq!(kept, [32.0 / 4096.0, -16.0 / 4096.0]);
        let (weight, state) = optimizer.step(0.05, weight, tensor([0.0; 2]), state);
        let second = [
            first[0] - rate * 8.0 / 4096.0,
            first[1] + rate * 4.0 / 4096.0,
        ];
        assert_eq!(read(&weight), second);
        assert_eq!(
            read(&state.unwrap().velocity),
            [8.0 / 4096.0, -4.0 / 4096.0]
        );
    }

    /// A bias: 0.3 is 4915 of 2^-14 (4915.2), and its step at a rate of 1/512 that many of 2^-23.
    #[test]
    fn vectors_keep_their_magnitude() {
        let optimizer = Wageubn::new(WageubnConfig::default()).unwrap();
        let device = Device::flex();
        let tensor = |x: f32| Tensor::<1>::from_floats([x], &device);
        let (bias, _) = optimizer.step(1.0 / 512.0, tensor(0.0), tensor(0.3), None);
        assert_eq!(read(&bias), [-4915.0 * 2f64.powi(-23)]);
    }

    #[test]
    fn widths_out_of_range_are_named() {
        let config = WageubnConfig {
            rate_bits: 40,
            ..WageubnConfig::default()
        };
        let error = Wageubn::new(config).unwrap_err();
        assert_eq!(error.to_string(), "rate_bits: is 40, expected 2 to 24");
    }
}
