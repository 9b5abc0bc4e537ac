//! AVX-512.

// The reasons are those of `Vector`'s contract: its caller says that the CPU has the instructions
// and that the pointers reach sixteen numbers.

use std::arch::x86_64::{
    __m512, _MM_HINT_ET0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::Vector;

/// One register of AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(super) __m512);

impl Vector for Avx512 {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        unsafe { Self(_mm512_set1_ps(*p)) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self(_mm512_loadu_ps(p)) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize) {
        let mask = ((1u32 << count) - 1) as u16;
        // What the mask leaves out is not written, so it need not be memory of ours.
        unsafe { _mm512_mask_storeu_ps(p, mask, self.0) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }

    #[inline(always)]
    unsafe fn expect_store(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(p.cast()) }
    }
}
