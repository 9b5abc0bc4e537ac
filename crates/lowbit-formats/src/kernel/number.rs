//! The types of numbers that kernels take.

use half::{bf16, f16};

use crate::kernel::Element;

/// A floating-point type that [`Format`](crate::Format)'s kernels read and write: `f32`,
/// [`f16`](half::f16) or [`bf16`](half::bf16).
pub trait Number: Element {
    /// The type's name.
    const NAME: &'static str;

    /// The largest number.
    const LARGEST: f32;

    /// The number as f32, exactly.
    fn widen(self) -> f32;

    /// A number of this type, given as f32. One that the type does not hold gives some number near
    /// it, and `2^(e+1)`, for the exponent `e` of the type's largest number, infinity.
    fn narrow(x: f32) -> Self;

    /// Every number of the type, if there are few enough to look at.
    fn every() -> Option<Vec<f32>>;

    /// The slice, where the type is f32.
    fn singles(slice: &[Self]) -> Option<&[f32]> {
        let _ = slice;
        None
    }

    /// As [`singles`](Self::singles), to be written.
    fn singles_mut(slice: &mut [Self]) -> Option<&mut [f32]> {
        let _ = slice;
        None
    }
}

impl Number for f32 {
    const NAME: &'static str = "f32";
    const LARGEST: f32 = f32::MAX;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    fn every() -> Option<Vec<f32>> {
        None
    }

    fn singles(slice: &[f32]) -> Option<&[f32]> {
        Some(slice)
    }

    fn singles_mut(slice: &mut [f32]) -> Option<&mut [f32]> {
        Some(slice)
    }
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
    const LARGEST: f32 = f32::from_bits(0x7F7F_0000);

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_bits((x.to_bits() >> 16) as u16)
    }

    fn every() -> Option<Vec<f32>> {
        Some((0..=u16::MAX).map(|x| Self::from_bits(x).widen()).collect())
    }
}

impl Number for f16 {
    const NAME: &'static str = "f16";
    const LARGEST: f32 = 65_504.0;

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        // Exponent and mantissa in place, and the difference of the biases, 112, by a product
        // that also normalizes subnormals. Infinity and NaN need the highest exponent.
        let scaled = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
        let special = if bits & 0x7C00 == 0x7C00 {
            0x7F80_0000
        } else {
            0
        };
        f32::from_bits(scaled.to_bits() | special | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        let bits = x.to_bits();
        let sign = (bits >> 16) & 0x8000;
        // The opposite product, which is exact for a number that f16 holds.
        let scaled = f32::from_bits(bits & 0x7FFF_FFFF) * f32::from_bits((127 - 112) << 23);
        let magnitude = if x.is_nan() {
            0x7E00
        } else if x.is_infinite() {
            0x7C00
        } else {
            scaled.to_bits() >> 13
        };
        Self::from_bits((magnitude | sign) as u16)
    }

    fn every() -> Option<Vec<f32>> {
        Some((0..=u16::MAX).map(|x| Self::from_bits(x).widen()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_widen_and_narrow_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (f, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(f.widen() == f.to_f32() || f.is_nan() && f.widen().is_nan());
            assert!(b.widen() == b.to_f32() || b.is_nan() && b.widen().is_nan());
            assert!(f16::narrow(f.widen()).to_bits() == bits || f.is_nan());
            assert!(bf16::narrow(b.widen()).to_bits() == bits);
        }
        assert_eq!(<f16 as Number>::LARGEST, f16::MAX.to_f32());
        assert_eq!(<bf16 as Number>::LARGEST, bf16::MAX.to_f32());
        assert_eq!(f16::narrow(-65536.0), f16::NEG_INFINITY);
        assert_eq!(bf16::narrow(f32::INFINITY), bf16::INFINITY);
    }
}
