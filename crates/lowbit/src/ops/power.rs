//! Whole powers.

use std::ops::Mul;

/// `base^exponent` by repeated squaring, each product rounded to nearest.
///
/// `powi` promises no last bit: where the compiler knows the operands, it may give another one
/// than at run time, and then two builds of one program train differently.
pub(crate) fn power<F: Copy + From<f32> + Mul<Output = F>>(mut base: F, mut exponent: usize) -> F {
    let mut product = F::from(1.0);
    loop {
        if exponent % 2 == 1 {
            product = product * base;
        }
        exponent /= 2;
        if exponent == 0 {
            return product;
        }
        base = base * base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_by_hand() {
        assert_eq!(
            [0, 1, 2, 5, 10].map(|n| power(3f64, n)),
            [1.0, 3.0, 9.0, 243.0, 59049.0]
        );
        // 0.999 is 0x1.ff7ceep-1; its square is rounded to 0x1.fef9fep-1, and the product of both to
        // 0x1.fe7730p-1, where the cube rounded once is 0x1.fe772ep-1.
        for base in [0.999, std::hint::black_box(0.999f32)] {
            assert_eq!(power(base, 3).to_bits(), 0x3f7f_3b98);
        }
    }
}
