//! The exponential, in operations that every instruction set rounds alike and the compiler can vectorize.

/// `e^r` and `n` with `e^x = 2^n e^r`, `|r| <= ln(2)/2`, by the Taylor polynomial of degree 7.
#[inline(always)]
fn parts(x: f32) -> (f32, f32) {
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    // ln 2 in two parts, so that n * high is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    (p * r + 1.0, n)
}

/// `2^n` of a whole number from -126 to 127.
///
/// The sum with 1.5 2^23 has the integer n + 127 in its last bits, of which the shift leaves the exponent of
/// 2^n: a cast, which saturates, would be made number by number.
#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    f32::from_bits((n + (12_582_912.0 + 127.0)).to_bits() << 23)
}

/// `e^x` for `-87 <= x <= 87`, within 2 units in the last place. A NaN gives a NaN.
#[inline(always)]
pub(crate) fn exp_within(x: f32) -> f32 {
    let (p, n) = parts(x);
    p * power_of_two(n)
}

/// `e^x`, within 2 units in the last place of the exact value; zero below -87.3, where it leaves the normal
/// numbers, infinite above 88.7. A NaN gives a NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// `ln(2^-126)` and `ln(2^128)`, towards zero.
    const ENDS: (f32, f32) = (-87.336_54, 88.722_83);
    let inside = if x < ENDS.0 { ENDS.0 } else { x };
    let inside = if inside > ENDS.1 { ENDS.1 } else { inside };
    let (p, n) = parts(inside);
    // 2^128 is no number, its root twice is.
    let half = (0.5 * n).round_ties_even();
    let y = p * power_of_two(half) * power_of_two(n - half);
    let y = if x < ENDS.0 { 0.0 } else { y };
    if x > ENDS.1 { f32::INFINITY } else { y }
}

/// Every 1,009th normal float of both signs up to `end`.
#[cfg(test)]
pub(crate) fn floats(end: f32) -> impl Iterator<Item = f32> {
    let bits = f32::MIN_POSITIVE.to_bits()..=end.to_bits();
    let magnitudes = bits.step_by(1009).map(f32::from_bits);
    magnitudes.flat_map(|x| [x, -x])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_two_units() {
        let mut worst = 0;
        for x in floats(87.0) {
            let exact = f64::from(x).exp() as f32;
            worst = worst.max(exp(x).to_bits().abs_diff(exact.to_bits()));
            assert_eq!(exp_within(x), exp(x));
        }
        assert!(worst <= 2, "worst error is {worst} ulp");
        assert_eq!([f32::NEG_INFINITY, -88.0].map(exp), [0.0; 2]);
        assert_eq!([89.0, f32::INFINITY].map(exp), [f32::INFINITY; 2]);
        assert!(exp(f32::NAN).is_nan() && exp_within(f32::NAN).is_nan());
        let last = f64::from(88.72_f32).exp() as f32;
        let most = exp(88.72).to_bits().abs_diff(last.to_bits());
        assert!(most <= 2, "{most}");
    }
}
