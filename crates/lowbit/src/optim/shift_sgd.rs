//! Steps of integers, of gradients brought to one magnitude.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use lowbit_formats::{FixedPoint, Rounding};

use crate::ops::{
    ClampedGradient, GradientHook, GradientQuantization, LargestPower, fake_quantize,
};
use crate::quantizers::{Draws, unit_interval};

/// Gradient descent in whole steps of the weights' grid, `w = clip(w - d Sr(lr 2^m g / R), -1 + d, 1 - d)`
/// with `d = 2^(1 - bits)`, stochastic rounding to integers `Sr` and a power of two `R` by the largest
/// magnitude of the gradient; nothing happens where that is zero.
///
/// With `m = 0` and the nearest power it is WAGE's (Wu et al., arXiv 1802.04680, section 3.3.4, equations
/// 8 to 10), whose rates are 8, 1 and 1/8; with the next power it is NITI's (Wang et al., arXiv
/// 2009.13108, section III), where the largest part of a gradient has `m` bits.
///
/// The paper of WAGE clips weights, after a step, by the step of their own grid, as here; its authors'
/// program by that of the weights as they are read, QPyTorch's example by the same before the step.
#[derive(Debug, Clone)]
pub struct ShiftSgd {
    /// Bits of the weights, 2 to 24.
    bits: u32,
    /// The exponent `m`.
    gradient_log2: i32,
    /// Which power of two `R` is.
    power: LargestPower,
    draws: Draws,
}

impl ShiftSgd {
    /// The optimizer of weights of so many bits.
    pub fn new(bits: u32, gradient_log2: i32, power: LargestPower) -> Self {
        Self {
            bits,
            gradient_log2,
            power,
            draws: Draws::new(),
        }
    }
}

/// [`ShiftSgd`] remembers nothing.
#[derive(Debug, Clone)]
pub struct ShiftSgdState;

impl RecordState for ShiftSgdState {
    fn state_flatten(&self, _prefix: &str, _out: &mut StateSink) {}

    fn state_unflatten(_prefix: &str, _src: &mut StateSource, _device: &Device) -> Option<Self> {
        None
    }
}

impl Optimizer for ShiftSgd {
    type State<const D: usize> = ShiftSgdState;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        _state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let fraction = self.bits as i8 - 1;
        let log2 = self.gradient_log2 - i32::from(fraction);
        let scale = (lr * f64::from(log2).exp2()) as f32;
        let steps = FixedPoint::new(24, fraction).expect("a width from 2 to 24");
        let rounding = self.draws.rounding(Rounding::stochastic(0, 0));
        let quantization = GradientQuantization {
            hooks: vec![GradientHook::Shift(self.power), GradientHook::Scale(scale)],
            ..GradientQuantization::to(steps.into(), rounding)
        };
        let stepped = tensor - quantization.apply(grad);
        let unit = unit_interval(self.bits).into();
        let weight = fake_quantize(stepped, &unit, Rounding::NearestEven, ClampedGradient::Pass);
        (weight, None)
    }

    fn to_device<const D: usize>(state: Self::State<D>, _device: &Device) -> Self::State<D> {
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::set_rounding;

    fn read(x: Tensor<1>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    fn step(optimizer: &ShiftSgd, lr: f64, weight: &[f32], gradient: &[f32]) -> Vec<f32> {
        let device = Device::flex();
        let tensor = |x| Tensor::<1>::from_floats(x, &device);
        read(optimizer.step(lr, tensor(weight), tensor(gradient), None).0)
    }

    /// WAGE at a rate of 4: gradients up to 24 are divided by 32 (log2 24 is 4.58), so 24 is 0.75 and
    /// three steps, 16 two, -8 one; steps are 1/128, and 126/128 ends at 127/128.
    #[test]
    fn wage_by_hand() {
        let wage = ShiftSgd::new(8, 0, LargestPower::Nearest);
        let steps = |n: i32| n as f32 / 128.0;
        let weight = [steps(10), steps(-126), steps(126), 0.0];
        let made = step(&wage, 4.0, &weight, &[24.0, 16.0, -24.0, -8.0]);
        assert_eq!(made, [steps(7), steps(-127), steps(127), steps(1)]);
        assert_eq!(step(&wage, 4.0, &weight, &[0.0; 4]), weight);
    }

    /// NITI with five bits: gradients up to 24 are divided by 32, so 24 is 24 steps. Half the rate is a
    /// bit less.
    #[test]
    fn niti_by_hand() {
        let niti = ShiftSgd::new(8, 5, LargestPower::Above);
        let steps = |n: i32| n as f32 / 128.0;
        let weight = [steps(10), 0.0, steps(-120)];
        let made = step(&niti, 1.0, &weight, &[24.0, -2.0, 16.0]);
        assert_eq!(made, [steps(-14), steps(2), steps(-127)]);
        let made = step(&niti, 0.5, &weight, &[24.0, -2.0, 16.0]);
        assert_eq!(made, [steps(-2), steps(1), steps(-127)]);
    }

    /// A quarter of a step: one weight in four moves by one, and the mean by a quarter.
    #[test]
    fn parts_of_steps_are_made_at_random() {
        let wage = ShiftSgd::new(8, 0, LargestPower::Nearest);
        let mut gradient = vec![0.25f32; 4096];
        gradient[0] = 1.0;
        set_rounding(3, 7);
        let made = step(&wage, 1.0, &[0.0; 4096], &gradient);
        assert!(made.iter().all(|w| *w == 0.0 || *w == -1.0 / 128.0));
        let moved = made.iter().filter(|w| **w != 0.0).count() as f64;
        // 1024 of 4096; the variance is 768.
        assert!((moved - 1024.0).abs() < 4.0 * 768f64.sqrt(), "{moved}");
    }
}
