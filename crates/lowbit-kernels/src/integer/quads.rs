//! Sums of products of bytes, in the registers of each instruction set.

// The reasons are those of `Sums`' contract, which is this one's.

#[cfg(not(target_arch = "aarch64"))]
use super::sums::Portable;
use super::sums::{LANES, Sums};

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
    /// The weights of four inputs and of four more, which are the lower and the upper half of
    /// [`WEIGHTS`] bytes from `p` on, each plus eight.
    #[inline(always)]
    unsafe fn nibbles(p: *const u8) -> [Self::Weights; 2] {
        // SAFETY: the caller's; the arrays have as many bytes as are read.
        unsafe {
            let bytes = p.cast::<[u8; WEIGHTS]>().read();
            let mut halves = [[0i8; WEIGHTS]; 2];
            for (i, byte) in bytes.into_iter().enumerate() {
                halves[0][i] = (byte & 15) as i8 - 8;
                halves[1][i] = (byte >> 4) as i8 - 8;
            }
            let [low, high] = halves;
            [Self::weights(low.as_ptr()), Self::weights(high.as_ptr())]
        }
    }
    /// `self[lane] + sum over j of x[j] * weights[lane][j]`, modulo 2^32; `x` are four bytes without
    /// sign. No partial sum saturates. An implementation may count inputs from 128, where sums start with
    /// what that takes away.
    unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self;
}

#[cfg(not(target_arch = "aarch64"))]
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
        _mm256_srli_epi16, _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_set1_epi8, _mm512_set1_epi32, _mm512_srli_epi16, _mm512_sub_epi8,
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
        unsafe fn nibbles(p: *const u8) -> [Self::Weights; 2] {
            unsafe {
                let (low, eight) = (_mm512_set1_epi8(15), _mm512_set1_epi8(8));
                let bytes = _mm512_loadu_si512(p.cast());
                let above = _mm512_srli_epi16::<4>(bytes);
                [
                    _mm512_sub_epi8(_mm512_and_si512(bytes, low), eight),
                    _mm512_sub_epi8(_mm512_and_si512(above, low), eight),
                ]
            }
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
            unsafe { [apart(p), apart(p.add(2 * LANES))] }
        }

        #[inline(always)]
        unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self {
            unsafe {
                let x = _mm256_set1_epi32(i32::from_ne_bytes(x));
                let even = _mm256_and_si256(x, _mm256_set1_epi32(0x00ff_00ff));
                let x = [even, _mm256_srli_epi16::<8>(x)];
                let [a, b] = self.0;
                Self([half(a, x, weights[0]), half(b, x, weights[1])])
            }
        }
    }

    /// Even and odd ones of 32 bytes, as 16-bit numbers.
    #[inline(always)]
    unsafe fn apart(p: *const i8) -> [__m256i; 2] {
        unsafe {
            let bytes = _mm256_loadu_si256(p.cast());
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
            [even, _mm256_srai_epi16::<8>(bytes)]
        }
    }

    /// Eight sums with the products of even and of odd bytes.
    #[inline(always)]
    unsafe fn half(sums: __m256i, x: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
        unsafe {
            let sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x[0], weights[0]));
            _mm256_add_epi32(sums, _mm256_madd_epi16(x[1], weights[1]))
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{
        int8x16_t, int32x4_t, vaddq_s32, vcombine_s16, vdupq_n_s32, vget_low_s8, vget_low_s16,
        vld1_s16, vld1q_s8, vmovl_high_s8, vmovl_s8, vmull_high_s16, vmull_s16, vpaddq_s32,
        vreinterpretq_s8_s32,
    };
    use std::arch::asm;

    use super::super::sums::Neon;
    use super::Quads;

    /// Bytes widened to 16 bits, products of 32, added in pairs.
    impl Quads for Neon<false> {
        type Weights = [int8x16_t; 4];

        #[inline(always)]
        unsafe fn weights(p: *const i8) -> Self::Weights {
            unsafe { [0, 16, 32, 48].map(|i| vld1q_s8(p.add(i))) }
        }

        #[inline(always)]
        unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self {
            unsafe {
                let x = vld1_s16(x.map(i16::from).as_ptr());
                let twice = vcombine_s16(x, x);
                Self([0, 1, 2, 3].map(|i| {
                    let low = vmovl_s8(vget_low_s8(weights[i]));
                    let high = vmovl_high_s8(weights[i]);
                    // Of each lane four products, of two lanes two sums each, of four lanes one each.
                    let of = |pair| {
                        let first = vmull_s16(vget_low_s16(pair), x);
                        vpaddq_s32(first, vmull_high_s16(pair, twice))
                    };
                    vaddq_s32(self.0[i], vpaddq_s32(of(low), of(high)))
                }))
            }
        }
    }

    /// `sdot`, whose intrinsic the language does not have yet. It takes bytes with sign, so that inputs
    /// are counted from 128.
    impl Quads for Neon<true> {
        type Weights = [int8x16_t; 4];

        #[inline(always)]
        unsafe fn weights(p: *const i8) -> Self::Weights {
            unsafe { [0, 16, 32, 48].map(|i| vld1q_s8(p.add(i))) }
        }

        #[inline(always)]
        unsafe fn add_products(self, x: [u8; 4], weights: Self::Weights) -> Self {
            unsafe {
                let x = u32::from_ne_bytes(x) ^ 0x8080_8080;
                let x = vreinterpretq_s8_s32(vdupq_n_s32(x as i32));
                Self([0, 1, 2, 3].map(|i| dot(self.0[i], weights[i], x)))
            }
        }
    }

    /// # Safety
    /// The CPU has `sdot`.
    #[inline(always)]
    unsafe fn dot(mut sums: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's; registers are all that it reads and writes.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {weights:v}.16b, {x:v}.16b",
                sums = inout(vreg) sums,
                weights = in(vreg) weights,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }
}
