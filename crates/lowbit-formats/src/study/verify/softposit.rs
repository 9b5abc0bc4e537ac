//! The `softposit` crate as an independent reference: its formats and their codes.

use softposit::{P8E0, P16E1, P32E2, PxE1, PxE2};

/// A format of the reference crate.
pub struct Reference {
    /// Bits of a code.
    pub bits: u8,
    /// Number of exponent bits (es).
    pub exponent_bits: u8,
    /// The code of an `f32` rounded to nearest, in the lowest bits.
    pub encode: fn(f32) -> u32,
    /// The value of a code.
    pub decode: fn(u32) -> f64,
}

fn reference(
    bits: u8,
    exponent_bits: u8,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f64,
) -> Reference {
    Reference {
        bits,
        exponent_bits,
        encode,
        decode,
    }
}

macro_rules! generic_widths {
    ($type:ident, $es:literal, $($bits:literal)*) => {
        vec![$(reference(
            $bits,
            $es,
            // The generic types keep their code in the upper bits of a word.
            |x| $type::<$bits>::from_f32(x).to_bits() >> (32 - $bits),
            |code| $type::<$bits>::from_bits(code << (32 - $bits)).to_f64(),
        )),*]
    };
}

/// posit(8,0), posit(16,1), posit(32,2).
pub fn standard() -> Vec<Reference> {
    vec![
        reference(
            8,
            0,
            |x| P8E0::from_f32(x).to_bits().into(),
            |c| P8E0::from_bits(c as u8).to_f64(),
        ),
        reference(
            16,
            1,
            |x| P16E1::from_f64(x.into()).to_bits().into(),
            |c| P16E1::from_bits(c as u16).to_f64(),
        ),
        reference(
            32,
            2,
            |x| P32E2::from_f32(x).to_bits(),
            |c| P32E2::from_bits(c).to_f64(),
        ),
    ]
}

/// posit(n,1) for n from 3 to 16.
pub fn es1() -> Vec<Reference> {
    generic_widths!(PxE1, 1, 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
}

/// posit(n,2) for n from 3 to 16.
pub fn es2() -> Vec<Reference> {
    generic_widths!(PxE2, 2, 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
}
