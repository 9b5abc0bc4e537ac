//! Sums of two f64 without error.

/// `x + y` rounded to odd: the f64 next to the exact sum whose significand is odd, or the sum itself
/// where it is one.
///
/// `t = fl(x + y)` and `e = x + y - t`, exact (TwoSum: Knuth, The Art of Computer Programming,
/// volume 2, section 4.2.2, theorem B); where `e` is not zero and `t` even, the odd neighbour in the
/// direction of `e` is the one sought. Of infinities and NaN it gives what addition gives.
pub(super) fn add_to_odd(x: f64, y: f64) -> f64 {
    let sum = x + y;
    let y_part = sum - x;
    let error = (x - (sum - y_part)) + (y - y_part);
    if error.is_nan() || error == 0.0 || sum.to_bits() & 1 == 1 {
        return sum;
    }
    if error > 0.0 {
        sum.next_up()
    } else {
        sum.next_down()
    }
}
