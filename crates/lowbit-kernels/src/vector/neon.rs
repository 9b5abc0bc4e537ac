//! NEON.

// The reasons are those of `Vector`'s contract: every CPU of this architecture has the
// instructions, and its caller says that the pointers reach sixteen numbers.

use std::arch::aarch64::{
    float32x4_t, vdupq_n_f32, vfmaq_f32, vld1q_dup_f32, vld1q_f32, vst1q_f32,
};

use super::Vector;

/// Four registers of NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

impl Vector for Neon {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self([vdupq_n_f32(0.0); 4]) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        unsafe { Self([vld1q_dup_f32(p); 4]) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self([0, 4, 8, 12].map(|i| vld1q_f32(p.add(i)))) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        for (i, part) in self.0.into_iter().enumerate() {
            unsafe { vst1q_f32(p.add(4 * i), part) }
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
        unsafe { Self([0, 1, 2, 3].map(|i| vfmaq_f32(self.0[i], a.0[i], b.0[i]))) }
    }
}
