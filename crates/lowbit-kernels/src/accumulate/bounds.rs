//! How large partial sums can become.

use lowbit_formats::Float;
use lowbit_formats::float::Specials;

use crate::accumulate::operands::Extent;

/// The exponent of the smallest normal number.
pub(super) fn min_exponent(format: &Float) -> i32 {
    (format.min_normal().to_bits() >> 23) as i32 - 127
}

/// Beyond the exponents of every format.
const BEYOND: i32 = 1000;

/// An exponent that no exact product goes beyond, if the operands are finite.
#[cfg(target_arch = "x86_64")]
pub(super) fn highest_product([left, right]: [Extent; 2]) -> i32 {
    if left.finite() && right.finite() {
        left.highest + right.highest + 2
    } else {
        BEYOND
    }
}

/// An exponent that no partial sum of so many products goes beyond, nor what it is compensated with:
/// each addition rounds up by at most one part in `2^mantissa`, less than 1.45 `2^-mantissa` as an
/// exponent. Rounded products that become NaN stay NaN, and infinite ones infinite. Beyond every format
/// where operands are not finite, or an infinite product would be another number of the sums'.
pub(super) fn highest(
    [left, right]: [Extent; 2],
    inner: &Float,
    product: Option<&Float>,
    longest: usize,
) -> i32 {
    let exponent = |x: f32| (x.to_bits() >> 23) as i32 - 127;
    let infinite = |format: &Float| format.specials() == Specials::Ieee && !format.saturates();
    let mut of_product = left.highest + right.highest + 2;
    if let Some(product) = product {
        let largest = exponent(product.max_finite());
        if of_product > largest && infinite(product) && !infinite(inner) {
            return BEYOND;
        }
        of_product = of_product.min(largest + 1);
    }
    if !left.finite() || !right.finite() {
        return BEYOND;
    }
    let length = (usize::BITS - longest.leading_zeros()) as i32;
    let growth = (longest >> inner.mantissa())
        .saturating_mul(2)
        .min(BEYOND as usize) as i32;
    // Two more for compensated sums, one for the part of the growth that is below one.
    of_product.max(min_exponent(inner)) + length + growth + 4
}
