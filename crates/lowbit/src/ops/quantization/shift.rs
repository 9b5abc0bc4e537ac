//! The power of two that stands for the largest magnitude of a tensor.

use burn::backend::flex::FlexTensor;
use lowbit_formats::{Format, Rounding, kernel};
use serde::{Deserialize, Serialize};

use crate::ops::backend::flex;
use crate::ops::backend::operator::{Inputs, Operator, array};
use crate::ops::quantization::format::FakeQuantize;

/// A power of two near the largest magnitude of a tensor, by which the tensor is divided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LargestPower {
    /// The nearest in logarithm, `2^round(log2 max |x|)`: the shift of WAGE (Wu et al., arXiv
    /// 1802.04680, equation 7) and `R` of WAGEUBN (Yang et al., arXiv 1909.02384, section III).
    #[default]
    Nearest,
    /// The least that is not below it, `2^ceil(log2 max |x|)`: the shift by the width of the largest
    /// integer of NITI (Wang et al., arXiv 2009.13108, section III).
    Above,
}

impl LargestPower {
    /// Whether it is the nearest.
    pub(crate) fn is_nearest(&self) -> bool {
        *self == Self::Nearest
    }

    /// The exponent of the power for a largest magnitude; `None` for zero, and for what is not finite.
    pub(crate) fn exponent(self, largest: f32) -> Option<i32> {
        if largest == 0.0 || !largest.is_finite() {
            return None;
        }
        // As f64, every one is normal.
        let bits = f64::from(largest).abs().to_bits();
        let exponent = (bits >> 52) as i32 - 1023;
        let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
        let is_next = match self {
            Self::Nearest => fraction > std::f64::consts::SQRT_2,
            Self::Above => fraction > 1.0,
        };
        Some(exponent + i32::from(is_next))
    }

    /// The format, made for values from -1 to 1, as it is for a tensor with this largest magnitude:
    /// `R` times its values. Zeros and what is not finite need no other one.
    ///
    /// # Panics
    /// If the format is not one that [`Format::times_power_of_two`] knows.
    pub(crate) fn format(self, format: &Format, largest: f32) -> Format {
        let Some(exponent) = self.exponent(largest) else {
            return format.clone();
        };
        // Of what is near the ends of f32, the nearest format that there is.
        let nearer = (0..=exponent.abs()).map(|by| exponent - by * exponent.signum());
        let made = nearer
            .map(|log2| format.times_power_of_two(log2))
            .find(Option::is_some);
        made.flatten().expect("a format with a scale")
    }
}

/// The tensor of f32 rounded to `R` times the values of a format.
pub(crate) fn rounded(
    x: FlexTensor,
    (format, rounding): (&Format, Rounding),
    power: LargestPower,
) -> FlexTensor {
    let x = flex::dense(x);
    let format = power.format(format, kernel::max_abs(x.storage::<f32>()));
    let quantize = FakeQuantize::of_gradient((format, rounding));
    let [x] = array(quantize.flex_forward(Inputs::new(vec![x])));
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The square root of two is above the nearest f32, 0x3fb504f3, and below the next.
    #[test]
    fn exponents_by_hand() {
        let nearest = |x| LargestPower::Nearest.exponent(x);
        let above = |x| LargestPower::Above.exponent(x);
        for (x, expected) in [
            (1.0, [Some(0), Some(0)]),
            (f32::from_bits(0x3fb5_04f3), [Some(0), Some(1)]),
            (f32::from_bits(0x3fb5_04f4), [Some(1), Some(1)]),
            (3.0, [Some(2), Some(2)]),
            (2.5, [Some(1), Some(2)]),
            (0.5, [Some(-1), Some(-1)]),
            (f32::from_bits(1), [Some(-149), Some(-149)]),
            (f32::MAX, [Some(128), Some(128)]),
            (0.0, [None, None]),
            (f32::INFINITY, [None, None]),
            (f32::NAN, [None, None]),
        ] {
            assert_eq!([nearest(x), above(x)], expected, "{x}");
        }
    }

    #[test]
    fn formats_follow_the_largest() {
        let of = |text: &str, largest| {
            let format = LargestPower::Nearest.format(&text.parse().unwrap(), largest);
            format.to_string()
        };
        assert_eq!(of("fixed(8,7,symmetric)", 0.3), "fixed(8,9,symmetric)");
        assert_eq!(of("flag(8)", 5.0), "flag(8,scale_log2=2)");
        assert_eq!(of("fixed(8,7)", 0.0), "fixed(8,7)");
        // 2^-149 is below what a format's step can be.
        assert_eq!(of("fixed(8,7)", f32::from_bits(1)), "fixed(8,126)");
        assert_eq!(of("fixed(8,7)", f32::MAX), "fixed(8,-96)");
    }
}
