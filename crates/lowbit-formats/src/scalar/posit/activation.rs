//! Sigmoid and hyperbolic tangent from the bits of a posit without exponent bits.

use crate::error::FormatError;
use crate::rounding::Rounding;
use crate::scalar::posit::Posit;

/// A function that [`PositActivation`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PositFunction {
    /// The logistic function `1 / (1 + e^-x)`, about.
    Sigmoid,
    /// `2 * sigmoid(2x) - 1`, about `tanh(x)`.
    Tanh,
    /// [`Tanh`](Self::Tanh) with 0.06795 added to magnitudes above 0.7583, then clamped to
    /// `[-1, 1]`, which brings the flat ends nearer to the true function.
    TanhEnhanced,
}

/// An activation function by the bit trick on posits with es = 0 and 8 or 16 bits.
///
/// For such a posit, flipping the first bit of its code and shifting the code right by two places
/// (zeros come in) gives the code of about `1 / (1 + e^-x)`: exactly 1/2 at zero, with the true
/// slope 1/4 there, and within 0.07 everywhere. (Gustafson and Yonemoto, "Beating Floating Point at
/// its Own Game: Posit Arithmetic", 2017, section 1.3.)
///
/// The input is first rounded to the posit (nearest, ties to even code), the sigmoid is a posit of
/// the same format, and the two hyperbolic tangents are computed from it in `f32`, as in
/// QPyTorch's posit extension, whose constants the enhanced one has. (QPyTorch keeps two more bits
/// of the 8-bit sigmoid than an 8-bit posit has; here the code is cut to its 8 bits.)
///
/// NaN and both infinities are NaR and give NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PositActivation {
    posit: Posit,
    function: PositFunction,
}

impl PositActivation {
    /// `function` on the posit of `bits` bits (8 or 16) without exponent bits.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] for another number of bits.
    pub fn new(function: PositFunction, bits: u8) -> Result<Self, FormatError> {
        if bits != 8 && bits != 16 {
            return Err(FormatError::parameter(
                "posit",
                "bits of an activation",
                bits,
                "8 or 16",
            ));
        }
        Ok(Self {
            posit: Posit::new(bits, 0)?,
            function,
        })
    }

    /// The function.
    pub const fn function(&self) -> PositFunction {
        self.function
    }

    /// The posit that the input is rounded to.
    pub const fn posit(&self) -> Posit {
        self.posit
    }

    /// The function of `x`.
    #[inline]
    pub fn apply(&self, x: f32) -> f32 {
        match self.function {
            PositFunction::Sigmoid => self.sigmoid(x),
            PositFunction::Tanh => self.tanh(x),
            PositFunction::TanhEnhanced => {
                let tanh = self.tanh(x);
                let moved = if tanh.abs() > 0.7583 {
                    tanh + 0.06795_f32.copysign(tanh)
                } else {
                    tanh
                };
                moved.clamp(-1.0, 1.0)
            }
        }
    }

    fn tanh(&self, x: f32) -> f32 {
        2.0 * self.sigmoid(2.0 * x) - 1.0
    }

    fn sigmoid(&self, x: f32) -> f32 {
        let code = self.posit.encode(x, Rounding::NearestEven, 0);
        if code == self.posit.nar() {
            return f32::NAN;
        }
        self.posit.decode((code ^ self.posit.nar()) >> 2) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(function: PositFunction, bits: u8, x: f32) -> f32 {
        PositActivation::new(function, bits).unwrap().apply(x)
    }

    /// posit(8,0) by hand: 0 is 00000000, flipped 10000000, shifted 00100000 = 1/2. 1 is 01000000,
    /// flipped 11000000, shifted 00110000 = 2^-1 * 1.5 = 0.75. -1 is 11000000, flipped 01000000,
    /// shifted 00010000 = 1/4. 2 is 01100000, flipped 11100000, shifted 00111000 = 2^-1 * 1.75.
    /// 64 is 01111111, flipped 11111111, shifted 00111111 = 2^-1 * (1 + 31/32) = 63/64.
    /// -64 is 10000001, flipped 00000001, shifted 0.
    #[test]
    fn sigmoid_by_hand() {
        let cases = [
            (0.0, 0.5),
            (1.0, 0.75),
            (-1.0, 0.25),
            (2.0, 0.875),
            (64.0, 63.0 / 64.0),
        ];
        for (x, expected) in cases {
            assert_eq!(apply(PositFunction::Sigmoid, 8, x), expected, "{x}");
        }
        assert_eq!(apply(PositFunction::Sigmoid, 8, -64.0), 0.0);
        // 16 bits: 1 is 0100...0, flipped 1100...0, shifted 0011 0...0 = 0.75.
        assert_eq!(apply(PositFunction::Sigmoid, 16, 1.0), 0.75);
    }

    /// 2 * sigmoid(2 * 0.5) - 1 = 0.5, and 2 * sigmoid(2) - 1 = 0.75, which the enhanced one leaves;
    /// at 2, sigmoid(4) = 01110000 -> 11110000 -> 00111100 = 2^-1 * 1.875, so 0.875 + 0.06795.
    #[test]
    fn tanh_by_hand() {
        assert_eq!(apply(PositFunction::Tanh, 8, 0.5), 0.5);
        assert_eq!(apply(PositFunction::TanhEnhanced, 16, 1.0), 0.75);
        assert_eq!(apply(PositFunction::TanhEnhanced, 8, 2.0), 0.875 + 0.06795);
        assert_eq!(
            apply(PositFunction::TanhEnhanced, 8, -2.0),
            -0.875 - 0.06795
        );
        assert_eq!(apply(PositFunction::TanhEnhanced, 16, 1e4), 1.0);
    }

    #[test]
    fn follows_the_true_functions() {
        for bits in [8, 16] {
            for step in -400..=400 {
                let x = step as f32 / 40.0;
                let sigmoid = 1.0 / (1.0 + (-x).exp());
                let error = (apply(PositFunction::Sigmoid, bits, x) - sigmoid).abs();
                assert!(error < 0.07, "sigmoid, {bits} bits at {x}: off by {error}");
                let error = (apply(PositFunction::TanhEnhanced, bits, x) - x.tanh()).abs();
                assert!(error < 0.09, "tanh, {bits} bits at {x}: off by {error}");
            }
        }
    }

    #[test]
    fn not_a_real_stays_so() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(apply(PositFunction::Sigmoid, 8, x).is_nan());
            assert!(apply(PositFunction::TanhEnhanced, 16, x).is_nan());
        }
    }

    #[test]
    fn other_widths_are_errors() {
        assert!(PositActivation::new(PositFunction::Tanh, 10).is_err());
    }
}
