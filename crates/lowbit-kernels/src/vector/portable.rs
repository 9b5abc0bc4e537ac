//! Whatever registers the target's base has.

// The reasons are those of `Vector`'s contract: there are no instructions to ask for, and its caller
// says that the pointers reach sixteen numbers.

use super::{LANES, Vector};

/// An array that the compiler spreads over the registers it has.
#[derive(Clone, Copy)]
#[cfg_attr(target_arch = "aarch64", allow(dead_code))]
pub(crate) struct Portable([f32; LANES]);

impl Vector for Portable {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        unsafe { Self([*p; LANES]) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self(p.cast::<[f32; LANES]>().read()) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { p.cast::<[f32; LANES]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        let mut sum = self.0;
        for ((sum, a), b) in sum.iter_mut().zip(a.0).zip(b.0) {
            *sum = multiply_add(a, b, *sum);
        }
        Self(sum)
    }
}

/// `a * b + c`, rounded once. x86-64's base has no fused instruction, and a call for each number would be
/// slow.
///
/// In `f64` the product is exact. Its sum with `c` is rounded to odd, that is, of two neighbours between
/// which the sum lies to the one whose last bit is set; rounded from 53 bits to 24, to nearest, this is
/// what the sum itself would become (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums:
/// proved algorithms using rounding to odd", IEEE Transactions on Computers 57(4), 2008). What the sum is
/// rounded by is the error of a sum of two (Knuth, The Art of Computer Programming 2, section 4.2.2).
#[inline(always)]
pub(super) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let of_c = sum - product;
    let error = (product - (sum - of_c)) + (c - of_c);
    let bits = sum.to_bits();
    // Of numbers that are not finite there is no error: it is NaN.
    let is_between = (error > 0.0) | (error < 0.0);
    let is_even = bits & 1 == 0;
    // The magnitude is too small where error and sum have one sign.
    let is_below = (error > 0.0) == (sum > 0.0);
    let odd = if is_below {
        bits + 1
    } else {
        bits.wrapping_sub(1)
    };
    f64::from_bits(if is_between & is_even { odd } else { bits }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the standard library's, in numbers of all magnitudes and ones that nearly cancel.
    #[test]
    fn products_and_sums_are_rounded_once() {
        let mut state = 7u64;
        let mut bits = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 32) as u32
        };
        let same = |a: f32, b: f32, c: f32| {
            let (made, expected) = (multiply_add(a, b, c), a.mul_add(b, c));
            let equal = made.to_bits() == expected.to_bits() || made.is_nan() && expected.is_nan();
            assert!(equal, "{a:e} * {b:e} + {c:e}: {made:e}, not {expected:e}");
        };
        for _ in 0..2_000_000 {
            let [a, b, c] = [bits(), bits(), bits()].map(f32::from_bits);
            same(a, b, c);
            // Of the product's magnitude, up to 2^30 above or below.
            let near = (a * b) * 2f32.powi((bits() % 61) as i32 - 30);
            same(a, b, near);
            same(a, b, -(a * b));
            let ulps = f32::from_bits((a * b).to_bits().wrapping_add(bits() % 5));
            same(a, b, -ulps);
        }
        let special = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            f32::NAN,
            1e-45,
        ];
        for a in special {
            for b in special {
                for c in special {
                    same(a, b, c);
                    same(-a, b, c);
                }
            }
        }
    }
}
