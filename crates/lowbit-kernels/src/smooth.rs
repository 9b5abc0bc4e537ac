//! Smooth functions of one number that the compiler can vectorize: GELU and SiLU.
//!
//! No branch depends on a number, and products are not fused with sums, so that every instruction set
//! has the same bits.

use crate::exp::exp;

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// A smooth function and its derivative, as a type, so that loops over it are compiled for each.
/// Implementations are `#[inline(always)]`.
pub trait Smooth: Copy + Send + Sync {
    /// The function.
    fn of(self, x: f32) -> f32;

    /// Its derivative.
    fn derivative(self, x: f32) -> f32;
}

/// `x / 2 (1 + erf(x / sqrt(2)))` (Hendrycks and Gimpel, arXiv 1606.08415).
#[derive(Debug, Clone, Copy)]
pub struct Gelu;

/// `x / 2 (1 + tanh(u))`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`, which is `x / (1 + e^(-2 u))`.
#[derive(Debug, Clone, Copy)]
pub struct GeluApproximate;

/// `x / (1 + e^-x)` (Elfwing et al., arXiv 1702.03118).
#[derive(Debug, Clone, Copy)]
pub struct Silu;

/// What of a standard normal distribution lies below `x`.
///
/// Below 1 deviation times the root of 2 an odd polynomial for the error function, from there
/// `e^-a^2 P(1 / a^2) / a` for its complement: those of the Cephes library's `erff` and `erfcf`
/// (S. Moshier, 1992).
#[inline(always)]
fn below(x: f32) -> f32 {
    let a = x * std::f32::consts::FRAC_1_SQRT_2;
    let z = a * a;
    let p = 7.853_861_4e-5_f32;
    let p = p * z - 8.010_193_6e-4;
    let p = p * z + 5.188_327_6e-3;
    let p = p * z - 2.685_381_2e-2;
    let p = p * z + 1.128_358_5e-1;
    let p = p * z - 3.761_262_7e-1;
    let p = p * z + std::f32::consts::FRAC_2_SQRT_PI;
    let near = 0.5 + 0.5 * a * p;
    let magnitude = if a.abs() < 1.0 { 1.0 } else { a.abs() };
    let inverse = 1.0 / magnitude;
    let y = inverse * inverse;
    let (middle, far) = (tail_to_two(y), tail_from_two(y));
    let p = if magnitude < 2.0 { middle } else { far };
    let tail = 0.5 * exp(-magnitude * magnitude) * inverse * p;
    let outside = if x > 0.0 { 1.0 - tail } else { tail };
    if a.abs() >= 1.0 { outside } else { near }
}

/// `e^a^2 a erfc(a)` of `y = 1 / a^2`, `1 <= a <= 2`.
#[inline(always)]
fn tail_to_two(y: f32) -> f32 {
    let p = 2.326_819_9e-2_f32;
    let p = p * y - 1.387_039_4e-1;
    let p = p * y + 3.687_424_7e-1;
    let p = p * y - 5.824_733e-1;
    let p = p * y + 6.210_004_7e-1;
    let p = p * y - 4.944_515_3e-1;
    let p = p * y + 3.404_88e-1;
    let p = p * y - 2.741_127e-1;
    p * y + 5.638_259_4e-1
}

/// The same, `a >= 2`.
#[inline(always)]
fn tail_from_two(y: f32) -> f32 {
    let p = -1.047_766_4e1_f32;
    let p = p * y + 1.297_72e1;
    let p = p * y - 7.495_519;
    let p = p * y + 2.921_019;
    let p = p * y - 1.015_265_3;
    let p = p * y + 4.218_463_6e-1;
    let p = p * y - 2.820_767_5e-1;
    p * y + 5.641_895e-1
}

impl Smooth for Gelu {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        x * below(x)
    }

    #[inline(always)]
    fn derivative(self, x: f32) -> f32 {
        /// `1 / sqrt(2 pi)`
        const PEAK: f32 = 0.398_942_3;
        below(x) + x * PEAK * exp(-0.5 * x * x)
    }
}

/// `2 sqrt(2 / pi)`
const TWICE: f32 = 1.595_769_2;
/// The weight of the cube in [`GeluApproximate`].
const CUBE: f32 = 0.044_715;

impl Smooth for GeluApproximate {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        x * sigmoid(TWICE * (x + CUBE * x * x * x))
    }

    #[inline(always)]
    fn derivative(self, x: f32) -> f32 {
        let s = sigmoid(TWICE * (x + CUBE * x * x * x));
        let slope = TWICE * (1.0 + 3.0 * CUBE * x * x);
        s + x * s * (1.0 - s) * slope
    }
}

impl Smooth for Silu {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        x * sigmoid(x)
    }

    #[inline(always)]
    fn derivative(self, x: f32) -> f32 {
        let s = sigmoid(x);
        s + x * s * (1.0 - s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exp::floats;

    /// erfc in f64 by its continued fraction (Abramowitz and Stegun, 7.1.14), and erf by its series (7.1.5)
    /// below 2.5.
    fn below_exactly(x: f64) -> f64 {
        let a = x.abs() / 2.0_f64.sqrt();
        let root = std::f64::consts::PI.sqrt();
        let tail = if a < 2.5 {
            let mut term = a;
            let mut sum = a;
            for n in 1..80 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            0.5 - sum / root
        } else {
            let mut fraction = a;
            for n in (1..200).rev() {
                fraction = a + f64::from(n) / 2.0 / fraction;
            }
            (-a * a).exp() / fraction / root / 2.0
        };
        if x > 0.0 { 1.0 - tail } else { tail }
    }

    /// The largest error over the larger of the exact value and `x` times 2^-20.
    fn worst(smooth: impl Smooth, exact: impl Fn(f64) -> f64) -> f64 {
        let errors = floats(30.0).map(|x| {
            let wide = f64::from(x);
            let exact = exact(wide);
            let scale = exact.abs().max(wide.abs() / f64::from(1 << 20));
            (f64::from(smooth.of(x)) - exact).abs() / scale
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_the_exact_ones() {
        let gelu = worst(Gelu, |x| x * below_exactly(x));
        let u = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        let approximate = worst(GeluApproximate, |x| x / (1.0 + (-2.0 * u(x)).exp()));
        let silu = worst(Silu, |x| x / (1.0 + (-x).exp()));
        println!("{gelu:.1e} {approximate:.1e} {silu:.1e}");
        assert!(gelu < 2e-6 && approximate < 2e-6 && silu < 1e-6);
        for smooth in [Gelu.of(-40.0), GeluApproximate.of(-40.0), Silu.of(-120.0)] {
            assert_eq!(smooth, 0.0);
        }
        assert!(Gelu.of(f32::NAN).is_nan() && Silu.of(f32::NAN).is_nan());
        assert_eq!(Gelu.of(f32::INFINITY), f32::INFINITY);
    }

    /// Against differences of the exact functions.
    #[test]
    fn derivatives_are_slopes() {
        let step = 1e-5;
        let u = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        let slope = |f: &dyn Fn(f64) -> f64, x: f64| (f(x + step) - f(x - step)) / (2.0 * step);
        for x in (-600..600).map(|i| i as f32 / 64.0) {
            let wide = f64::from(x);
            let pairs = [
                (Gelu.derivative(x), slope(&|x| x * below_exactly(x), wide)),
                (
                    GeluApproximate.derivative(x),
                    slope(&|x| x / (1.0 + (-2.0 * u(x)).exp()), wide),
                ),
                (Silu.derivative(x), slope(&|x| x / (1.0 + (-x).exp()), wide)),
            ];
            for (ours, exact) in pairs {
                assert!(
                    (f64::from(ours) - exact).abs() < 2e-6,
                    "{x}: {ours}, {exact}"
                );
            }
        }
    }
}
