//! The steps of sixteen sums.

use std::arch::x86_64::{
    __m512, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEG_INF, _MM_FROUND_TO_POS_INF, _mm512_add_ps,
    _mm512_add_round_ps, _mm512_castps_si512, _mm512_fmadd_ps, _mm512_fmadd_round_ps,
    _mm512_mask_add_round_ps, _mm512_mask_mov_ps, _mm512_mask_mul_round_ps, _mm512_mul_round_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_sub_ps, _mm512_testn_epi32_mask, _mm512_xor_ps,
};

use crate::accumulate::avx512::nearest::Nearest;

const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
const UP: i32 = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;

/// What is added before it is rounded to the format, as an f32 that is rounded to the nearest or to odd.
pub(super) mod way {
    /// Products, which f32 holds, and sums are added to the nearest.
    pub(in crate::accumulate) const PLAIN: u8 = 0;
    /// Products are added to odd, sums to the nearest.
    pub(in crate::accumulate) const ODD_PRODUCTS: u8 = 1;
    /// Products and sums are added to odd.
    pub(in crate::accumulate) const ODD: u8 = 2;
}

/// Sums rounded to the numbers of a grid, of products that are rounded to those of another if
/// `PRODUCTS` has any cases.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps<const WAY: u8, const SUMS: u8, const ADDS: u8, const PRODUCTS: u8> {
    pub(super) grid: Nearest<SUMS>,
    /// For what is added to a sum beside products.
    pub(super) adds: Nearest<ADDS>,
    pub(super) product: Option<Nearest<PRODUCTS>>,
}

/// Which of sixteen numbers are even in their last place.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn even(x: __m512) -> u16 {
    _mm512_testn_epi32_mask(_mm512_castps_si512(x), _mm512_set1_epi32(1))
}

/// `x + y` rounded to odd. Of the two f32 around a number, one is odd: the number rounded down, or if
/// that is even, the number rounded up, which of an exact one is the same, and of zero the plus zero
/// that it is to nearest.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn add_to_odd(x: __m512, y: __m512) -> __m512 {
    let down = _mm512_add_round_ps::<DOWN>(x, y);
    _mm512_mask_add_round_ps::<UP>(down, even(down), x, y)
}

/// `a b` rounded to odd.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn multiply_to_odd(a: __m512, b: __m512) -> __m512 {
    let down = _mm512_mul_round_ps::<DOWN>(a, b);
    _mm512_mask_mul_round_ps::<UP>(down, even(down), a, b)
}

/// `a b + sum` rounded to odd.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn multiply_add_to_odd(a: __m512, b: __m512, sum: __m512) -> __m512 {
    let down = _mm512_fmadd_round_ps::<DOWN>(a, b, sum);
    let up = _mm512_fmadd_round_ps::<UP>(a, b, sum);
    _mm512_mask_mov_ps(down, even(down), up)
}

impl<const WAY: u8, const SUMS: u8, const ADDS: u8, const PRODUCTS: u8>
    Steps<WAY, SUMS, ADDS, PRODUCTS>
{
    /// `R(sum + a b)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn add_product(self, sum: __m512, [a, b]: [__m512; 2], peak: &mut __m512) -> __m512 {
        let sum = match self.product {
            Some(product) if PRODUCTS != 0 => {
                let product = product.round(multiply_to_odd(a, b), peak);
                match WAY {
                    way::PLAIN => _mm512_add_ps(sum, product),
                    _ => add_to_odd(sum, product),
                }
            }
            _ => match WAY {
                way::PLAIN => _mm512_fmadd_ps(a, b, sum),
                _ => multiply_add_to_odd(a, b, sum),
            },
        };
        self.grid.round(sum, peak)
    }

    /// `R(sum + other)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn add(self, sum: __m512, other: __m512, peak: &mut __m512) -> __m512 {
        let sum = match WAY {
            way::ODD => add_to_odd(sum, other),
            _ => _mm512_add_ps(sum, other),
        };
        self.adds.round(sum, peak)
    }

    /// `R(sum - other)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn subtract(self, sum: __m512, other: __m512, peak: &mut __m512) -> __m512 {
        let sum = match WAY {
            way::ODD => add_to_odd(sum, _mm512_xor_ps(other, _mm512_set1_ps(-0.0))),
            _ => _mm512_sub_ps(sum, other),
        };
        self.adds.round(sum, peak)
    }

    /// Whether a sum went beyond the format, where that is watched.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn is_beyond<const N: usize>(self, peaks: &[__m512; N]) -> bool {
        peaks.iter().any(|&peak| self.grid.is_beyond(peak))
    }
}
