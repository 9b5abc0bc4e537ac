//! Sixteen sums of products of bytes, in the registers of each instruction set.

// The reasons are those of `Quads`' contract: its caller says that the CPU has the instructions and
// that the pointers reach far enough.

// Sums in a vector: 512 bits of `i32`, as of `f32`.
pub(crate) use crate::vector::LANES;

/// Bytes of weights in a vector: four inputs for each of sixteen sums.
pub(crate) const WEIGHTS: usize = 4 * LANES;

/// Sixteen `i32`, to which products of four bytes each are added.
///
/// # Safety
/// What holds for every method of every implementation, and is not said there again:
///
/// - It may only be called where the CPU has the implementation's instruction set. The methods are
///   inlined into a function that is compiled for it (`#[target_feature]`).
/// - `p` of [`load`](Self::load) is valid for reads of [`LANES`] numbers, of
///   [`weights`](Self::weights) for reads of [`WEIGHTS`] bytes, of [`store`](Self::store) for writes
///   of [`LANES`] numbers. Pointers need no alignment.
pub(crate) trait Quads: Copy {
    /// Four signed bytes for each of sixteen sums.
    type Weights: Copy;
    /// Whether sixteen vectors of sums fit the registers.
    const WIDE: bool;

    /// The sixteen sums from `p` on.
    unsafe fn load(p: *const i32) -> Self;
    /// Writes the sums.
    unsafe fn store(self, p: *mut i32);
    /// The weights of four inputs.
    unsafe fn weights(p: *const i8) -> Self::Weights;
    /// `self[lane] + sum over j of x[j] * weights[lane][j]`, modulo 2^32; `x` are four bytes without
    /// sign. No partial sum saturates.
    unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self;
}

/// An array that the compiler spreads over the registers it has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([i32; LANES]);

impl Quads for Portable {
    type Weights = [[i8; 4]; LANES];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        unsafe { Self(p.cast::<[i32; LANES]>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        unsafe { p.cast::<[i32; LANES]>().write_unaligned(self.0) }
    }

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
pub(crate) use x86::{Avx2, Vnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_set1_epi32, _mm256_slli_epi16, _mm256_srai_epi16,
        _mm256_srli_epi16, _mm256_storeu_si256, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_storeu_si512,
    };

    use super::{LANES, Quads};

    /// One register of AVX-512, whose `vpdpbusd` multiplies bytes without sign with signed ones and
    /// adds four products to a sum in one instruction.
    #[derive(Clone, Copy)]
    pub(crate) struct Vnni(__m512i);

    impl Quads for Vnni {
        type Weights = __m512i;
        const WIDE: bool = true;

        #[inline(always)]
        unsafe fn load(p: *const i32) -> Self {
            unsafe { Self(_mm512_loadu_si512(p.cast())) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32) {
            unsafe { _mm512_storeu_si512(p.cast(), self.0) }
        }

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

    /// Two registers of AVX2. Its instruction for products of bytes saturates their sums in pairs
    /// (255 * 127 * 2 is beyond 16 bits), so bytes are widened: even and odd ones apart, which needs
    /// no order to be restored since all four are added.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2([__m256i; 2]);

    impl Quads for Avx2 {
        /// Even and odd bytes, as 16-bit numbers.
        type Weights = [[__m256i; 2]; 2];
        const WIDE: bool = false;

        #[inline(always)]
        unsafe fn load(p: *const i32) -> Self {
            unsafe { Self([0, LANES / 2].map(|i| _mm256_loadu_si256(p.add(i).cast()))) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32) {
            unsafe {
                _mm256_storeu_si256(p.cast(), self.0[0]);
                _mm256_storeu_si256(p.add(LANES / 2).cast(), self.0[1]);
            }
        }

        #[inline(always)]
        unsafe fn weights(p: *const i8) -> Self::Weights {
            unsafe {
                [0, 32].map(|i| {
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
