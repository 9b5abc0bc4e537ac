//! Sixteen numbers at a time, in the widest registers that the CPU at run time has.

// Vector instructions of the CPU, each called where the CPU has been asked for it.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Numbers in a [`Vector`].
pub(crate) const LANES: usize = 16;

/// Sixteen `f32`.
///
/// # Safety
/// The methods of an implementation may only be called where the CPU has its instructions, which
/// [`dispatch`] and [`isa`] find out.
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
        unsafe {
            self.store(all.as_mut_ptr());
            p.copy_from_nonoverlapping(all.as_ptr(), count);
        }
    }

    /// `a * b + self`.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;

    /// Says that the sixteen numbers from `p` on will be written soon.
    #[inline(always)]
    unsafe fn expect_store(_p: *const f32) {}
}

/// Instruction sets with kernels of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// AVX-512: 32 registers of sixteen numbers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with FMA: 16 registers of eight numbers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON: 32 registers of four numbers.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// What every CPU of the target has.
    #[cfg(not(target_arch = "aarch64"))]
    Portable,
}

/// The best instruction set of this CPU.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Isa::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Isa::Avx2;
            }
        }
        // Every CPU of this architecture has it.
        #[cfg(target_arch = "aarch64")]
        return Isa::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Portable
    })
}

/// Work that is compiled for each instruction set. Mark `run` `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What it makes.
    type Output;

    /// Does it.
    fn run(self) -> Self::Output;
}

/// Runs `kernel` compiled for this CPU, so that plain loops in it use its widest registers.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        // SAFETY: the CPU has the instructions.
        match isa() {
            Isa::Avx512 if has_avx512_vectors() => return unsafe { avx512(kernel) },
            Isa::Avx512 | Isa::Avx2 => return unsafe { avx2(kernel) },
            Isa::Portable => {}
        }
    }
    // Elsewhere the compiler has the widest registers anyway.
    kernel.run()
}

/// Whether the CPU has the parts of AVX-512 that compilers use for plain loops.
#[cfg(target_arch = "x86_64")]
fn has_avx512_vectors() -> bool {
    is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _MM_HINT_ET0, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_mask_storeu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::Vector;

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

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

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    impl Vector for Avx2 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn splat(p: *const f32) -> Self {
            unsafe {
                let v = _mm256_broadcast_ss(&*p);
                Self(v, v)
            }
        }

        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            unsafe {
                _mm256_storeu_ps(p, self.0);
                _mm256_storeu_ps(p.add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn multiply_add(self, a: Self, b: Self) -> Self {
            unsafe {
                Self(
                    _mm256_fmadd_ps(a.0, b.0, self.0),
                    _mm256_fmadd_ps(a.1, b.1, self.1),
                )
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod neon {
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
}

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

/// An array that the compiler spreads over the registers it has.
#[cfg(not(target_arch = "aarch64"))]
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

#[cfg(not(target_arch = "aarch64"))]
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
