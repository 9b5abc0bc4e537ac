//! Fixed point on the interval from -1 to 1, times a power of two.

use burn::tensor::Tensor;
use lowbit_formats::IntegerRange;

use crate::ops::quantization::grid::ValueGrid;
use crate::ops::quantization::pointwise::{Method, Pointwise, Quantize, Rounding, Steps};

/// `2^log2 clip(d round(x / d), -1 + d, 1 - d)` with `d = 2^(1 - bits)`, ties to even: the weights of
/// WAGE (Wu et al., arXiv 1802.04680, equations 4 and 5), which are stored on the unit interval and
/// divided by a power of two that depends on the layer.
///
/// The gradient is `2^log2` times the incoming one, also where `x` is clipped.
///
/// # Shapes
/// `x` and the result: any shape, the same.
///
/// # Panics
/// If `bits` is not from 2 to 24, or `log2` not from -100 to 100.
pub fn scaled_fixed<const D: usize>(x: Tensor<D>, bits: u32, log2: i32) -> Tensor<D> {
    let method = ScaledFixed { bits, log2 };
    Quantize { method, axis: 0 }.apply(x, Vec::new())
}

/// The method, which has no parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaledFixed {
    pub(crate) bits: u32,
    pub(crate) log2: i32,
}

impl ScaledFixed {
    /// The largest integer.
    fn largest(self) -> i64 {
        (1 << (self.bits - 1)) - 1
    }

    /// The exponent of the results' step.
    fn exponent(self) -> i32 {
        self.log2 + 1 - self.bits as i32
    }
}

impl Method<0> for ScaledFixed {
    const PARAMETERS: usize = 0;

    type Rounding = ToFixed;

    fn check(&self, _dims: &[usize], _parameters: &[Tensor<1>], _axis: usize) {
        let Self { bits, log2 } = self;
        assert!((2..=24).contains(bits), "bits: is {bits}, expected 2 to 24");
        let in_range = (-100..=100).contains(log2);
        assert!(in_range, "log2: is {log2}, expected -100 to 100");
    }

    fn steps(&self, _parameters: &[Tensor<1>]) -> Option<Steps> {
        let largest = i128::from(self.largest());
        Some(Steps {
            range: IntegerRange {
                min: -largest,
                max: largest,
                exponent: self.exponent(),
            },
            trained: None,
        })
    }

    /// Weights alone are quantized so: a number is not brought to its nearest value.
    fn grid(&self, _parameters: &[f32]) -> Option<ValueGrid> {
        let largest = self.largest();
        let step = f64::from(self.exponent()).exp2();
        Some(ValueGrid::some(step, [-largest, largest]))
    }

    fn prepare(&self, _parameters: &[f32]) -> ToFixed {
        let power = |exponent: i32| (f64::from(exponent)).exp2() as f32;
        ToFixed {
            per_step: power(self.bits as i32 - 1),
            largest: self.largest() as f32,
            step: power(self.exponent()),
            scale: power(self.log2),
        }
    }
}

/// The constants of the formula.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToFixed {
    per_step: f32,
    largest: f32,
    step: f32,
    scale: f32,
}

impl Rounding<0> for ToFixed {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let integer = (x * self.per_step).round_ties_even();
        integer.clamp(-self.largest, self.largest) * self.step
    }

    #[inline(always)]
    fn gradients(self, _x: f32, grad: f32) -> (f32, [f32; 0]) {
        (grad * self.scale, [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Two bits are -1/2, 0 and 1/2, here times 1/4; a quarter is a tie, to 0, and the gradient is a
    /// quarter.
    #[test]
    fn two_bits_by_hand() {
        let device = Device::flex().autodiff();
        let x = [-3.0, -0.3, -0.25, 0.2, 0.26, 0.75, 1.0];
        let x = Tensor::<1>::from_floats(x, &device).require_grad();
        let y = scaled_fixed(x.clone(), 2, -2);
        let grads = y.clone().sum().backward();
        let read = |x: Tensor<1>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(read(y), [-0.125, -0.125, 0.0, 0.0, 0.125, 0.125, 0.125]);
        assert_eq!(read(x.grad(&grads).unwrap()), [0.25; 7]);
    }
}
