//! Sums of products of bfloat16 with AVX-512 BF16.

// The reasons are those of `Vector`'s contract: its caller says that the CPU has the instructions
// and that the pointers reach sixteen numbers.

use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps};
use std::mem::transmute;

use super::{Avx512, Vector};

/// One register: sixteen sums, or sixteen pairs of bfloat16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    #[inline(always)]
    unsafe fn pairs(self) -> __m512bh {
        // SAFETY: both are 64 bytes, and every pattern of bits is thirty-two bfloat16.
        unsafe { transmute(self.0.0) }
    }
}

impl Vector for Avx512Bf16 {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(Avx512::zero()) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        unsafe { Self(Avx512::splat(p)) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self(Avx512::load(p)) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { self.0.store(p) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize) {
        unsafe { self.0.store_first(p, count) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        unsafe { Self(Avx512(_mm512_dpbf16_ps(self.0.0, a.pairs(), b.pairs()))) }
    }

    #[inline(always)]
    unsafe fn expect_store(p: *const f32) {
        unsafe { Avx512::expect_store(p) }
    }
}
