//! Sums of products of bfloat16 where no instruction makes them: the bits of `vdpbf16ps`, by which the
//! sums of all instruction sets are defined.
//!
//! To `c`, the instruction adds the product of the upper bfloat16 of two pairs, in one multiply-add, and to
//! that the product of the lower ones (Intel, "Architecture Instruction Set Extensions Programming
//! Reference", VDPBF16PS). Numbers below the least normal one are taken for zero, and so are results that
//! are below it when they are rounded to 24 bits whatever their exponent.

// The reasons are those of `Vector`'s contract: its caller says that the pointers reach sixteen numbers.

use super::{LANES, Vector, multiply_add};

/// Sixteen sums, or sixteen pairs, as an array that the compiler spreads over the registers it has. `FUSED`
/// says that what it is compiled for has a multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<const FUSED: bool>([f32; LANES]);

/// `a * b + c`, rounded once.
#[inline(always)]
fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    match FUSED {
        true => a.mul_add(b, c),
        false => multiply_add(a, b, c),
    }
}

/// Zero, with its sign, for what is below the least normal number.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    match x.abs() < f32::MIN_POSITIVE {
        true => f32::from_bits(x.to_bits() & 1 << 31),
        false => x,
    }
}

/// The same of `sum`, which is the least normal number: `a * b + c` may have been less, and rounded up
/// only since numbers below have fewer bits.
#[cold]
fn flushed_at_least(sum: f32, a: f32, b: f32, c: f32) -> f32 {
    // Half a unit below it in 24 bits. The sum in `f64` is no less than this unless the exact one is.
    let half_below = f64::from(f32::MIN_POSITIVE) * (1.0 - 0.5f64.powi(25));
    let exact = f64::from(a) * f64::from(b) + f64::from(c);
    match exact.abs() < half_below {
        true => f32::from_bits(sum.to_bits() & 1 << 31),
        false => sum,
    }
}

/// `c + a * b` of numbers that are zero or normal.
#[inline(always)]
fn add_products<const FUSED: bool>(
    c: [f32; LANES],
    a: [f32; LANES],
    b: [f32; LANES],
) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    let mut is_least = false;
    for lane in 0..LANES {
        let sum = fused::<FUSED>(a[lane], b[lane], c[lane]);
        is_least |= sum.abs() == f32::MIN_POSITIVE;
        sums[lane] = flushed(sum);
    }
    if is_least {
        for lane in 0..LANES {
            if sums[lane].abs() == f32::MIN_POSITIVE {
                sums[lane] = flushed_at_least(sums[lane], a[lane], b[lane], c[lane]);
            }
        }
    }
    sums
}

impl<const FUSED: bool> Pairs<FUSED> {
    #[inline(always)]
    fn upper(self) -> [f32; LANES] {
        self.0
            .map(|pair| flushed(f32::from_bits(pair.to_bits() & 0xffff_0000)))
    }

    #[inline(always)]
    fn lower(self) -> [f32; LANES] {
        self.0
            .map(|pair| flushed(f32::from_bits(pair.to_bits() << 16)))
    }
}

impl<const FUSED: bool> Vector for Pairs<FUSED> {
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
        let sums = self.0.map(flushed);
        let sums = add_products::<FUSED>(sums, a.upper(), b.upper());
        Self(add_products::<FUSED>(sums, a.lower(), b.lower()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum<const FUSED: bool>(c: f32, a: f32, b: f32) -> u32 {
        let [c, a, b] = [c, a, b].map(|x| Pairs::<FUSED>([x; LANES]));
        // SAFETY: plain arithmetic.
        unsafe { c.multiply_add(a, b) }.0[0].to_bits()
    }

    /// 2^-3 1.5 + 2 * 3 + 4 * 5, and which product comes first: -2^25 + 1 + 2^25 is 0,
    /// and 1 the other way.
    #[test]
    fn by_hand() {
        let pair = |upper: f32, lower: f32| {
            f32::from_bits(upper.to_bits() & 0xffff_0000 | lower.to_bits() >> 16)
        };
        let of = |c, a, b| {
            let bits = sum::<true>(c, a, b);
            assert_eq!(bits, sum::<false>(c, a, b));
            f32::from_bits(bits)
        };
        assert_eq!(of(0.1875, pair(2.0, 4.0), pair(3.0, 5.0)), 26.1875);
        let large = 4096.0;
        let c = -2.0 * large * large;
        assert_eq!(of(c, pair(1.0, large), pair(1.0, 2.0 * large)), 0.0);
        assert_eq!(of(c, pair(large, 1.0), pair(2.0 * large, 1.0)), 1.0);
        let tiny = f32::MIN_POSITIVE;
        assert_eq!(of(tiny / 2.0, 0.0, 0.0), 0.0);
        assert_eq!(of(0.0, pair(tiny, 0.0), pair(0.5, 0.0)), 0.0);
        assert_eq!(of(0.0, pair(tiny, tiny), pair(1.0, -1.0)), 0.0);
        // The least normal number less a quarter, an eighth of its last bit: 24 bits round the second up.
        let small = 0.5f32.powi(75);
        let less = |k: f32| of(tiny, pair(small, 0.0), pair(-k * 0.5f32.powi(76), 0.0));
        assert_eq!(less(1.5), 0.0);
        assert_eq!(less(1.0), tiny);
        assert!(of(f32::NAN, 0.0, 0.0).is_nan());
        assert_eq!(
            of(1.0, pair(f32::INFINITY, 1.0), pair(2.0, 1.0)),
            f32::INFINITY
        );
    }

    /// Against the instruction, in numbers of all magnitudes and ones near each other.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn sums_are_those_of_the_instruction() {
        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn instruction(c: f32, a: f32, b: f32) -> u32 {
            use super::super::Avx512Bf16;
            let mut sums = [0.0; LANES];
            // SAFETY: the CPU has been asked, and the pointers are those of numbers.
            unsafe {
                let [c, a, b] = [&c, &a, &b].map(|x| Avx512Bf16::splat(x));
                c.multiply_add(a, b).store(sums.as_mut_ptr());
            }
            sums[0].to_bits()
        }
        if !super::super::has_bfloat16() {
            println!("this CPU has no products of bfloat16: nothing was compared");
            return;
        }
        let mut state = 7u64;
        let mut bits = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for i in 0..1_000_000 {
            let [mut a, mut b, mut c] = [bits(), bits(), bits()];
            // Exponents near one, or such that products are near the least normal number.
            let center = [None, Some([127, 127]), Some([64, 5])][i % 3];
            if let Some([of_numbers, of_sum]) = center {
                let pair = |x: u32, low: u32, high: u32| {
                    x & 0x807f_807f | (of_numbers + low) << 7 | (of_numbers + high) << 23
                };
                a = pair(a, bits() % 8, bits() % 8);
                b = pair(b, bits() % 8, bits() % 8);
                c = c & 0x807f_ffff | (of_sum + bits() % 12) << 23;
            }
            let [c, a, b] = [c, a, b].map(f32::from_bits);
            // SAFETY: the CPU has the instruction.
            let expected = unsafe { instruction(c, a, b) };
            for made in [sum::<true>(c, a, b), sum::<false>(c, a, b)] {
                let both_nan = f32::from_bits(made).is_nan() && f32::from_bits(expected).is_nan();
                assert!(
                    made == expected || both_nan,
                    "{c:e} {a:e} {b:e}: {made:x} {expected:x}"
                );
            }
        }
    }
}
