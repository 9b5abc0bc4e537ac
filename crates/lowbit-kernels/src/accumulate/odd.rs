//! Sums rounded to odd.

/// The odd one of the f32 next to `sum + rest`, where `rest` lies between `sum` and its neighbour,
/// and of which `sign` has the sign bit; `sum` itself where there is no rest.
#[inline(always)]
fn to_odd(sum: f32, inexact: bool, sign: u32) -> f32 {
    let bits = sum.to_bits();
    // The neighbour nearer to zero, where the rest points there; then the odd one of the two that
    // share all bits but the last.
    let below = ((sign ^ bits) as i32 >> 31) as u32;
    f32::from_bits(if inexact {
        bits.wrapping_add(below) | 1
    } else {
        bits
    })
}

/// `x + y` rounded to odd, with the error of TwoSum (Knuth, The Art of Computer Programming, volume
/// 2, section 4.2.2, theorem B). An infinite sum has no error that is a number, and stays.
#[inline(always)]
pub(super) fn add_to_odd(x: f32, y: f32) -> f32 {
    let sum = x + y;
    let y_part = sum - x;
    let error = (x - (sum - y_part)) + (y - y_part);
    to_odd(sum, error.abs() > 0.0, error.to_bits())
}

/// `x + y` as an f32 rounded to odd.
#[inline(always)]
pub(super) fn add_double_to_odd(x: f64, y: f64) -> f32 {
    let sum = x + y;
    let y_part = sum - x;
    let error = (x - (sum - y_part)) + (y - y_part);
    let single = sum as f32;
    // The first part is zero or much larger than the second, so that their sum has the right sign.
    let rest = (sum - f64::from(single)) + error;
    let sign = (rest.to_bits() >> 32) as u32;
    to_odd(single, rest.abs() > 0.0, sign)
}

/// `x + y` as an f64 rounded to odd.
#[inline(always)]
pub(super) fn double_sum_to_odd(x: f64, y: f64) -> f64 {
    let sum = x + y;
    let y_part = sum - x;
    let error = (x - (sum - y_part)) + (y - y_part);
    let bits = sum.to_bits();
    let below = ((error.to_bits() ^ bits) as i64 >> 63) as u64;
    f64::from_bits(if error.abs() > 0.0 {
        bits.wrapping_add(below) | 1
    } else {
        bits
    })
}
