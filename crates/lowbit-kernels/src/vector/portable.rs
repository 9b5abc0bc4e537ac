//! Whatever registers the target's base has.

// The reasons are those of `Vector`'s contract: there are no instructions to ask for, and its caller
// says that the pointers reach sixteen numbers.

use super::{LANES, Vector};

/// An array that the compiler spreads over the registers it has.
#[derive(Clone, Copy)]
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
            // x86-64's base has no fused instruction; a call for each number would be slow.
            *sum += a * b;
        }
        Self(sum)
    }
}
