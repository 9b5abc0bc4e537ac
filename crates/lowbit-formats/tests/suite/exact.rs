//! Numbers as integers and powers of two, for comparisons without rounding.

use std::cmp::Ordering;

/// An f64 as `significand * 2^exponent`.
pub(crate) fn parts(x: f64) -> (i128, i32) {
    let field = (x.to_bits() >> 52 & 0x7FF) as i32;
    let leading = i128::from(field > 0) << 52;
    let significand = i128::from(x.to_bits() & ((1 << 52) - 1)) | leading;
    let sign = if x < 0.0 { -1 } else { 1 };
    (sign * significand, field.max(1) - 1075)
}

/// `n / d` to nearest-even.
pub(crate) fn whole(n: i128, d: i128) -> i128 {
    let (floor, rest) = (n.div_euclid(d), n.rem_euclid(d));
    match (2 * rest).cmp(&d) {
        Ordering::Less => floor,
        Ordering::Greater => floor + 1,
        Ordering::Equal => floor + floor.rem_euclid(2),
    }
}

/// A positive `n / d` as f32, to nearest-even.
pub(crate) fn single(n: i128, d: i128) -> f32 {
    // The quotient times `2^-exponent` has 24 bits.
    let mut exponent = n.ilog2() as i32 - d.ilog2() as i32 - 23;
    let scaled = |exponent: i32| whole(n << (-exponent).max(0), d << exponent.max(0));
    if scaled(exponent) < 1 << 23 {
        exponent -= 1;
    }
    scaled(exponent) as f32 * 2f32.powi(exponent)
}
