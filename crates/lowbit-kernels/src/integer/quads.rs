//! Sums of products of bytes, in the registers of each instruction set.

// The reasons are those of `Sums`' contract, which is this one's.

use super::sums::{LANES, Portable, Sums};

/// Bytes of weights in a vector: four inputs for each of sixteen sums.
pub(crate) const WEIGHTS: usize = 4 * LANES;

/// Sixteen `i32`, to which products of four bytes each are added.
///
/// # Safety
/// As of [`Sums`], whose instructions may be fewer; `p` of [`weights`](Self::weights) is valid for
/// reads of [`WEIGHTS`] bytes.
pub(crate) trait Quads: Sums {
    /// Four signed bytes for each of sixteen sums.
    type Weights: Copy;

    /// The weights of four inputs.
    unsafe fn weights(p: *const i8) -> Self::Weights;
    /// `self[lane] + sum over j of x[j] * weights[lane][j]`, modulo 2^32; `x` are four bytes without
    /// sign. No partial sum saturates.
    unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self;
}

impl Quads for Portable {
    type Weights = [[i8; 4]; LANES];

    #[inline(always)]
    unsafe fn weights(p: *const i8) -> Self::Weights {
        unsafe { p.cast::<Self::Weights>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self {
        let mut sums = self.0;
        for (sum, w) in sums.iter_mut().zip(weights) {
            for (x, w) in x.into_iter().zip(w) {
                *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
            }
        }
        Self(sums)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_set1_epi32, _mm256_slli_epi16, _mm256_srai_epi16,
        _mm256_srli_epi16, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32,
    };

    use super::super::sums::{Avx2, Avx512};
    use super::{LANES, Quads};

    /// `vpdpbusd` (VNNI) multiplies bytes without sign with signed ones and adds four products to a
    /// sum in one instruction.
    impl Quads for Avx512 {
        type Weights = __m512i;

        #[inline(always)]
        unsafe fn weights(p: *const i8) -> Self::Weights {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self {
            unsafe {
                let x = _mm512_set1_epi32(i32::from_ne_bytes(x));
                Self(_mm512_dpbusd_epi32(self.0, x, weights))
            }
        }
    }

    /// The instruction for products of bytes saturates their sums in pairs (255 * 127 * 2 is beyond 16
    /// bits), so bytes are widened: even and odd ones apart, which needs no order to be restored since
    /// all four are added.
    impl Quads for Avx2 {
        /// Even and odd bytes, as 16-bit numbers.
        type Weights = [[__m256i; 2]; 2];

        #[inline(always)]
        unsafe fn weights(p: *const i8) -> Self::Weights {
            unsafe {
                [0, 2 * LANES].map(|i| {
                    let bytes = _mm256_loadu_si256(p.add(i).cast());
                    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
                    [even, _mm256_srai_epi16::<8>(bytes)]
                })
            }
        }

        #[inline(always)]
        unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self {
            unsafe {
                let x = _mm256_set1_epi32(i32::from_ne_bytes(x));
                let even = _mm256_and_si256(x, _mm256_set1_epi32(0x00ff_00ff));
                let odd = _mm256_srli_epi16::<8>(x);
                Self([0, 1].map(|half| {
                    let [w_even, w_odd] = weights[half];
                    let sum = _mm256_add_epi32(self.0[half], _mm256_madd_epi16(even, w_even));
                    _mm256_add_epi32(sum, _mm256_madd_epi16(odd, w_odd))
                }))
            }
        }
    }
}
