//! Sixteen numbers rounded to the nearest of a floating-point format.

use std::arch::x86_64::{
    __m512, _CMP_GT_OQ, _mm512_abs_ps, _mm512_and_epi32, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_mask_ternarylogic_epi32,
    _mm512_max_epu32, _mm512_min_epu32, _mm512_range_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_ternarylogic_epi32,
};

use lowbit_formats::Float;
use lowbit_formats::float::Specials;

const SIGN: i32 = i32::MIN;
const EXPONENT: u32 = 0x7F80_0000;

/// `(a & b) | c` of three operands' bits.
const AND_OR: i32 = 0xEA;

/// The greater of two magnitudes, without its sign; of a number and NaN, the number's.
const GREATER_MAGNITUDE: i32 = 0b1011;

/// What numbers may be, as bits of a parameter of [`Nearest`]. Without any, they are multiples of the
/// smallest number and not beyond the largest.
pub(super) mod case {
    /// Below the smallest normal number, of any bits.
    pub(in crate::accumulate) const SMALL: u8 = 1;
    /// Negative and small, or minus zero: what is left is minus zero. Else it is plus zero.
    pub(in crate::accumulate) const SIGNED: u8 = 2;
    /// Beyond the largest, which is seen and makes all sums again.
    pub(in crate::accumulate) const WATCHED: u8 = 4;
    /// Beyond the largest.
    pub(in crate::accumulate) const LARGE: u8 = 8;
    /// So large that f32 has no such steps above, or infinite.
    pub(in crate::accumulate) const HUGE: u8 = 16;
    /// Any.
    pub(in crate::accumulate) const ANY: u8 = SMALL | SIGNED | LARGE | HUGE;
}

/// Steps as those of [`Narrow`](crate::accumulate::nearest::Narrow), whose `c` is the power of two of
/// `x` times `1.5 2^(23 - mantissa)`: a product that is exact, so that fused instructions make `x + c`
/// and take `c` away again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest<const CASES: u8> {
    /// Exponents, in place, of the smallest normal and of the largest value.
    exponents: [u32; 2],
    lift: f32,
    max: f32,
    /// What a larger magnitude becomes.
    overflow: u32,
}

impl<const CASES: u8> Nearest<CASES> {
    /// The rounding to a format that has minus zero and subnormals, of numbers below
    /// `2^(highest + 1)`, if the cases allow these and f32 holds each `c`.
    pub(super) fn new(format: &Float, highest: i32) -> Option<Self> {
        let max = format.max_finite();
        let [least, greatest] = [format.min_normal(), max].map(|x| (x.to_bits() >> 23) as i32);
        let up = 23 - i32::from(format.mantissa());
        let highest = highest + 127;
        // The largest number has its exponent and may have any bits.
        let within = CASES & (case::WATCHED | case::LARGE) != 0 || highest < greatest;
        let largest = if CASES & case::HUGE == 0 {
            highest
        } else {
            greatest
        };
        let fits = (1..=21).contains(&format.mantissa())
            && format.has_subnormals()
            && format.specials() != Specials::Fnuz
            && least >= 1
            && within
            && largest + up <= 254;
        let overflow = match format.specials() {
            _ if format.saturates() => max,
            Specials::Ieee => f32::INFINITY,
            _ => f32::NAN,
        };
        fits.then(|| Self {
            exponents: [least, greatest].map(|exponent| (exponent as u32) << 23),
            lift: 1.5 * (1u32 << up) as f32,
            max,
            overflow: overflow.to_bits(),
        })
    }

    /// The same with other cases, which have to allow no more.
    pub(super) fn with_cases<const OTHER: u8>(self) -> Nearest<OTHER> {
        let Self {
            exponents,
            lift,
            max,
            overflow,
        } = self;
        Nearest {
            exponents,
            lift,
            max,
            overflow,
        }
    }

    /// `x` rounded to the nearest, ties to even. `peak` is the greatest magnitude that was rounded, if
    /// that is watched.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn round(self, x: __m512, peak: &mut __m512) -> __m512 {
        let splat = |bits: u32| _mm512_set1_epi32(bits as i32);
        let has = |case: u8| CASES & case != 0;
        let bits = _mm512_castps_si512(x);
        let sign = _mm512_set1_epi32(SIGN);
        let mut exponent = _mm512_and_epi32(bits, splat(EXPONENT));
        if has(case::SMALL) {
            exponent = _mm512_max_epu32(exponent, splat(self.exponents[0]));
        }
        if has(case::HUGE) {
            exponent = _mm512_min_epu32(exponent, splat(self.exponents[1]));
        }
        let power = _mm512_castsi512_ps(exponent);
        let lift = _mm512_set1_ps(self.lift);
        let rounded = _mm512_fnmadd_ps(power, lift, _mm512_fmadd_ps(power, lift, x));
        let mut made = _mm512_castps_si512(rounded);
        if has(case::SIGNED) {
            made = _mm512_ternarylogic_epi32::<AND_OR>(bits, sign, made);
        }
        if has(case::WATCHED) {
            *peak = _mm512_range_ps::<GREATER_MAGNITUDE>(*peak, x);
        }
        if has(case::LARGE) {
            let max = _mm512_set1_ps(self.max);
            let beyond = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_abs_ps(rounded), max);
            let overflow = splat(self.overflow);
            made = _mm512_mask_ternarylogic_epi32::<AND_OR>(made, beyond, sign, overflow);
        }
        _mm512_castsi512_ps(made)
    }

    /// Whether a number beyond the largest was rounded, if that is watched.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn is_beyond(self, peak: __m512) -> bool {
        let beyond = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(peak, _mm512_set1_ps(self.max));
        CASES & case::WATCHED != 0 && beyond != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::{Isa, LANES, isa};
    use lowbit_formats::{Format, Rounding};
    use std::arch::x86_64::{_mm512_loadu_ps, _mm512_setzero_ps, _mm512_storeu_ps};

    #[target_feature(enable = "avx512f,avx512dq")]
    fn rounded<const CASES: u8>(grid: Nearest<CASES>, x: &mut [f32; LANES]) -> bool {
        let mut peak = _mm512_setzero_ps();
        // SAFETY: these are sixteen numbers.
        unsafe {
            let made = grid.round(_mm512_loadu_ps(x.as_ptr()), &mut peak);
            _mm512_storeu_ps(x.as_mut_ptr(), made);
        }
        grid.is_beyond(peak)
    }

    /// Many f32, some next to a number or in the middle of two, as far as `is_case` has them, against the
    /// format's own rounding.
    fn check<const CASES: u8>(format: &Float, is_case: impl Fn(f32) -> bool) -> usize {
        let Some(grid) = Nearest::<CASES>::new(format, 20) else {
            return 0;
        };
        let near = (0..1u32 << 13).flat_map(|k| {
            let middle = k << 19;
            [middle.wrapping_sub(1), middle, middle + 1]
        });
        let far = (0..1u32 << 15).map(|k| k * 131_071);
        let numbers: Vec<f32> = near
            .chain(far)
            .map(f32::from_bits)
            .filter(|&x| is_case(x))
            .collect();
        let own = Format::Float(*format);
        for numbers in numbers.as_chunks::<LANES>().0 {
            let mut made = *numbers;
            // SAFETY: the caller has asked the CPU.
            if unsafe { rounded(grid, &mut made) } {
                assert!(numbers.iter().any(|x| x.abs() > format.max_finite()));
                continue;
            }
            for (&x, made) in numbers.iter().zip(made) {
                let mut expected = own.round(x, Rounding::NearestEven, 0);
                if CASES & case::SIGNED == 0 && expected == 0.0 {
                    expected = 0.0;
                }
                let same = made.to_bits() == expected.to_bits();
                assert!(same || made.is_nan() && expected.is_nan(), "{format} {x}");
            }
        }
        numbers.len()
    }

    #[test]
    fn rounds_as_the_format_does() {
        const WATCHED: u8 = case::SMALL | case::SIGNED | case::WATCHED;
        const PRODUCTS: u8 = case::SMALL | case::LARGE;
        if isa() != Isa::Avx512 {
            return;
        }
        let mut numbers = [0; 5];
        for (exponent, mantissa) in (2..=8).flat_map(|e| (0..=21).map(move |m| (e, m))) {
            for specials in [Specials::Ieee, Specials::Fn, Specials::Finite] {
                let Ok(format) = Float::with_specials(exponent, mantissa, specials) else {
                    continue;
                };
                for format in [format, format.saturating()] {
                    let step = format.min_normal() / (1u32 << mantissa) as f32;
                    let multiple = |x: f32| x / step % 1.0 == 0.0;
                    let bounded = |x: f32| x.abs() < 2f32.powi(21);
                    let counts = [
                        check::<{ case::ANY }>(&format, |x| !x.is_nan()),
                        check::<PRODUCTS>(&format, bounded),
                        check::<WATCHED>(&format, bounded),
                        check::<{ case::WATCHED }>(&format, |x| bounded(x) && multiple(x)),
                        check::<0>(&format, |x| bounded(x) && multiple(x)),
                    ];
                    numbers = std::array::from_fn(|at| numbers[at] + counts[at]);
                }
            }
        }
        assert!(numbers.iter().all(|&count| count > 100_000), "{numbers:?}");
    }
}
