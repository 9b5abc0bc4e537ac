//! A hyperbolic tangent that the compiler can vectorize.

use crate::exp::exp_within;

/// `tanh(x)`, within 3 units in the last place of the exact value.
///
/// Below 0.625 an odd polynomial, above it `1 - 2 / (e^(2x) + 1)`. The polynomial is the one of
/// the Cephes library's `tanhf` (S. Moshier, 1992).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let z = x * x;
    let polynomial = -5.704_988_7e-3_f32;
    let polynomial = polynomial * z + 2.063_908_8e-2;
    let polynomial = polynomial * z - 5.373_971_6e-2;
    let polynomial = polynomial * z + 1.333_144_2e-1;
    let polynomial = polynomial * z - 3.333_328e-1;
    let small = x * (1.0 + z * polynomial);
    // tanh(x) rounds to 1 from x = 9.02 on.
    let e = exp_within(2.0 * if magnitude > 10.0 { 10.0 } else { magnitude });
    let large = (1.0 - 2.0 / (e + 1.0)).copysign(x);
    // A NaN takes the first branch's value, which is NaN.
    if magnitude >= 0.625 { large } else { small }
}

#[cfg(test)]
mod tests {
    use super::tanh;

    #[test]
    fn agrees_with_the_exact_value_to_three_ulp() {
        // Every 1,009th float from 2^-30 to 16, against the f64 function.
        let (first, last) = ((2.0f32).powi(-30).to_bits(), 16.0f32.to_bits());
        let mut worst = 0;
        for bits in (first..last).step_by(1009) {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).tanh() as f32;
            let ulp = tanh(x).to_bits().abs_diff(exact.to_bits());
            worst = worst.max(ulp);
            assert_eq!(tanh(-x), -tanh(x));
        }
        assert!(worst <= 3, "worst error is {worst} ulp");
    }

    #[test]
    fn special_values() {
        assert_eq!(tanh(0.0).to_bits(), 0.0f32.to_bits());
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
    }
}
