//! Sixteen numbers at a time, in the widest registers that the CPU at run time has.
//!
//! Two kinds of work go through here. Register tiles are written against `Vector`, which has a file
//! for each instruction set; they decide by hand what stays in which register. Plain loops are a
//! [`Kernel`], which [`dispatch`] compiles once for each instruction set and leaves to the compiler.
//! Which one is in use is asked in one place for both, and for the passes over number formats.

// Vector instructions of the CPU, each called where the CPU has been asked for it.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pairs;
mod portable;

pub use lowbit_formats::kernel::isa::{Isa, Kernel, dispatch, isa, use_at_most};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512_bf16::Avx512Bf16;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use pairs::Pairs;
#[cfg(not(target_arch = "aarch64"))]
pub(crate) use portable::Portable;
use portable::multiply_add;

/// Numbers in a vector: a cache line of them, and the widest register there is. Narrower
/// instruction sets take several registers, so that what is packed, and the order in which sums are
/// made, is the same everywhere.
pub const LANES: usize = 16;

/// Sixteen `f32`.
///
/// # Safety
/// What holds for every method of every implementation, and is not said there again:
///
/// - It may only be called where the CPU has the implementation's instruction set, which [`isa`]
///   finds out. The methods are inlined into a function that is compiled for it
///   (`#[target_feature]`); that function is called behind a `match` on [`isa`] alone.
/// - `p` of [`splat`](Self::splat) is valid for reads of one number, `p` of [`load`](Self::load) for
///   reads of [`LANES`] numbers, `p` of [`store`](Self::store) for writes of as many, `p` of
///   [`store_first`](Self::store_first) for writes of `count`. Pointers are aligned to a number and
///   need no more.
/// - [`expect_store`](Self::expect_store) takes any address.
pub(crate) trait Vector: Copy {
    /// Sixteen zeros.
    unsafe fn zero() -> Self;
    /// The number at `p`, sixteen times.
    unsafe fn splat(p: *const f32) -> Self;
    /// The sixteen numbers from `p` on.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes the sixteen numbers from `p` on.
    unsafe fn store(self, p: *mut f32);
    /// Writes the first `count` numbers, at most sixteen, from `p` on.
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize) {
        let mut all = [0.0; LANES];
        // SAFETY: `all` has sixteen numbers, of which `count` are written where the caller says.
        unsafe {
            self.store(all.as_mut_ptr());
            p.copy_from_nonoverlapping(all.as_ptr(), count);
        }
    }

    /// `a * b + self`, rounded once: the same bits with every instruction set.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;

    /// Says that the sixteen numbers from `p` on will be written soon.
    #[inline(always)]
    unsafe fn expect_store(_p: *const f32) {}
}

/// Whether the CPU has products of pairs of bfloat16 beside AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_bfloat16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Says that `numbers` will be read soon.
#[inline(always)]
pub(crate) fn expect_load(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks(LANES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it takes any address, and every CPU of the target has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}
