//! The floating-point types of files, as little-endian bytes.

use half::{bf16, f16};

/// A type whose tensors are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// Bytes of a number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The numbers that bytes hold, exactly.
    pub(crate) fn numbers(self, bytes: &[u8]) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks().0.iter().map(|&b| number(b)).collect()
        }
        match self {
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f64()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f64()),
            Self::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
            Self::F64 => each(bytes, f64::from_le_bytes),
        }
    }

    /// The bytes of numbers, and the numbers that they hold: the nearest of this type.
    pub(crate) fn bytes(self, numbers: &[f32]) -> (Vec<u8>, Vec<f64>) {
        let mut bytes = Vec::with_capacity(numbers.len() * self.size());
        let mut held = Vec::with_capacity(numbers.len());
        for &x in numbers {
            held.push(match self {
                Self::F16 => {
                    let x = f16::from_f32(x);
                    bytes.extend(x.to_le_bytes());
                    x.to_f64()
                }
                Self::Bf16 => {
                    let x = bf16::from_f32(x);
                    bytes.extend(x.to_le_bytes());
                    x.to_f64()
                }
                Self::F32 => {
                    bytes.extend(x.to_le_bytes());
                    x.into()
                }
                Self::F64 => {
                    bytes.extend(f64::from(x).to_le_bytes());
                    x.into()
                }
            });
        }
        (bytes, held)
    }
}

/// `x` as f32, an inexact one to the neighbour with an odd significand: rounding that to fewer
/// bits gives what rounding `x` itself gives (Boldo and Melquiond, "Emulation of FMA and Correctly
/// Rounded Sums: Proved Algorithms Using Rounding to Odd", 2008).
pub(crate) fn to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) == x || x.is_nan() {
        return nearest;
    }
    let toward_zero = if f64::from(nearest).abs() > x.abs() {
        // Below infinity lies the largest f32, whose significand is odd.
        f32::from_bits(nearest.to_bits() - 1)
    } else {
        nearest
    };
    f32::from_bits(toward_zero.to_bits() | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_odd_by_hand() {
        assert_eq!(to_odd(1.0), 1.0);
        // 1 + 2^-30 is inexact; of 1 and 1 + 2^-23 the latter is odd. So it is from below.
        let step = f64::from(f32::EPSILON);
        assert_eq!(to_odd(1.0 + step / 128.0), 1.0 + f32::EPSILON);
        assert_eq!(to_odd(-1.0 - step * 1.5), -1.0 - f32::EPSILON);
        assert_eq!(to_odd(1.0 + step * 2.5), 1.0 + 3.0 * f32::EPSILON);
        assert_eq!(to_odd(1e300), f32::MAX);
        assert_eq!(to_odd(1e-300), f32::from_bits(1));
        assert_eq!(to_odd(f64::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(to_odd(f64::NAN).is_nan());
    }

    #[test]
    fn numbers_come_back() {
        let numbers = [0.5, -2.0, 65504.0, f32::INFINITY];
        for element in [Element::F16, Element::Bf16, Element::F32, Element::F64] {
            let (bytes, held) = element.bytes(&numbers);
            assert_eq!(bytes.len(), 4 * element.size());
            assert_eq!(element.numbers(&bytes), held);
            assert_eq!(held[..2], [0.5, -2.0]);
        }
        // 65504 needs ten mantissa bits, bf16 has seven: 65536 is the nearest.
        assert_eq!(Element::Bf16.bytes(&numbers).1[2], 65536.0);
    }
}
