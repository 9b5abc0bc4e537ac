//! The floating-point types of files, as little-endian bytes.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;

/// A type whose tensors are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Byte(ByteType),
    F16,
    Bf16,
    F32,
    F64,
}

/// A floating-point type of at most eight bits, one number a byte, under its name in ml_dtypes.
///
/// NumPy writes all of them but `float8_e5m2` as `V1`, which does not say which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteType {
    /// Four exponent bits, three mantissa bits, no infinity (OCP).
    E4m3Fn,
    /// The same with infinities, as IEEE 754 would have it.
    E4m3,
    /// A bias of 8, and no minus zero.
    E4m3Fnuz,
    /// A bias of 11, and no minus zero.
    E4m3B11Fnuz,
    /// Five exponent bits, two mantissa bits (OCP).
    E5m2,
    /// A bias of 16, no infinity and no minus zero.
    E5m2Fnuz,
    /// Three exponent bits, four mantissa bits.
    E3m4,
    /// Six bits (OCP microscaling).
    E3m2Fn,
    /// Six bits (OCP microscaling).
    E2m3Fn,
    /// Four bits (OCP microscaling).
    E2m1Fn,
}

impl ByteType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::E4m3Fn,
        Self::E5m2,
        Self::E4m3,
        Self::E4m3Fnuz,
        Self::E4m3B11Fnuz,
        Self::E5m2Fnuz,
        Self::E3m4,
        Self::E3m2Fn,
        Self::E2m3Fn,
        Self::E2m1Fn,
    ];

    /// The name in ml_dtypes.
    pub const fn name(self) -> &'static str {
        self.names().0
    }

    /// The format whose codes the bytes are.
    fn format(self) -> Format {
        let text = self.names().1;
        text.parse().expect("the text is that of a format")
    }

    /// The name in ml_dtypes, and the format's text.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::E4m3Fn => ("float8_e4m3fn", "e4m3"),
            Self::E4m3 => ("float8_e4m3", "float(4,3)"),
            Self::E4m3Fnuz => ("float8_e4m3fnuz", "e4m3fnuz"),
            Self::E4m3B11Fnuz => ("float8_e4m3b11fnuz", "e4m3b11fnuz"),
            Self::E5m2 => ("float8_e5m2", "e5m2"),
            Self::E5m2Fnuz => ("float8_e5m2fnuz", "e5m2fnuz"),
            Self::E3m4 => ("float8_e3m4", "e3m4"),
            Self::E3m2Fn => ("float6_e3m2fn", "e3m2"),
            Self::E2m3Fn => ("float6_e2m3fn", "e2m3"),
            Self::E2m1Fn => ("float4_e2m1fn", "e2m1"),
        }
    }

    /// The values of all bytes.
    fn values(self) -> Vec<f64> {
        let codes: Vec<u32> = (0..=255).collect();
        let values = self.format().decode(&codes).into_iter();
        values.map(f64::from).collect()
    }

    /// The nearest codes, and the numbers they stand for.
    fn bytes(self, numbers: &[f32]) -> (Vec<u8>, Vec<f64>) {
        let format = self.format();
        let largest = format.facts().max;
        let within: Vec<f32> = numbers.iter().map(|&x| finite(x, largest)).collect();
        let codes = format
            .encode(&within, Rounding::NearestEven)
            .expect("the format is no block format");
        let values = self.values();
        let bytes: Vec<u8> = codes.into_iter().map(|code| code as u8).collect();
        let held = bytes.iter().map(|&byte| values[usize::from(byte)]);
        let held = held.collect();
        (bytes, held)
    }
}

/// The name in ml_dtypes.
impl fmt::Display for ByteType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ByteType {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or_else(|| FormatError::Parameter {
            what: "file",
            field: "type",
            value: text.into(),
            expected: Self::ALL.map(Self::name).join(", "),
        })
    }
}

impl Element {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Byte(byte) => byte.name(),
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// Bytes of a number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Byte(_) => 1,
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
            Self::Byte(byte) => {
                let values = byte.values();
                each(bytes, |[b]| values[usize::from(b)])
            }
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f64()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f64()),
            Self::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
            Self::F64 => each(bytes, f64::from_le_bytes),
        }
    }

    /// The bytes of numbers, and the numbers that they hold: the nearest of this type, where a
    /// finite one stays finite.
    pub(crate) fn bytes(self, numbers: &[f32]) -> (Vec<u8>, Vec<f64>) {
        if let Self::Byte(byte) = self {
            return byte.bytes(numbers);
        }
        let mut bytes = Vec::with_capacity(numbers.len() * self.size());
        let mut held = Vec::with_capacity(numbers.len());
        for &x in numbers {
            held.push(match self {
                Self::F16 => {
                    let x = f16::from_f32(finite(x, f16::MAX.to_f32()));
                    bytes.extend(x.to_le_bytes());
                    x.to_f64()
                }
                Self::Bf16 => {
                    let x = bf16::from_f32(finite(x, bf16::MAX.to_f32()));
                    bytes.extend(x.to_le_bytes());
                    x.to_f64()
                }
                Self::F64 => {
                    bytes.extend(f64::from(x).to_le_bytes());
                    x.into()
                }
                Self::F32 | Self::Byte(_) => {
                    bytes.extend(x.to_le_bytes());
                    x.into()
                }
            });
        }
        (bytes, held)
    }
}

/// `x`, a finite one brought within the range of a type.
fn finite(x: f32, largest: f32) -> f32 {
    if x.is_finite() {
        x.clamp(-largest, largest)
    } else {
        x
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
