//! Counts of ones, in the registers of each instruction set.

// The reasons are those of `Count`'s contract, which is that of `Sums`.

use crate::integer::sums::Sums;

/// Counts ones in sixteen words of 32 bits.
///
/// # Safety
/// As of [`Sums`], whose instructions may be fewer; `p` of [`words`](Self::words) is valid for reads of
/// [`LANES`](crate::vector::LANES) words.
pub(super) trait Count {
    type Sums: Sums;
    /// Sixteen words.
    type Words: Copy;
    /// Counts that are not yet sums.
    type Counts: Copy;
    /// How many times may be counted before counts become sums; more than any window has words where
    /// they are sums.
    const MOST: usize;

    /// The words from `p` on.
    unsafe fn words(p: *const u32) -> Self::Words;
    /// Nothing counted.
    unsafe fn none() -> Self::Counts;
    /// With the ones of `x ^ words`.
    unsafe fn count(counts: Self::Counts, x: u32, words: Self::Words) -> Self::Counts;
    /// With what has been counted.
    unsafe fn total(sums: Self::Sums, counts: Self::Counts) -> Self::Sums;
    /// The sums with the ones of `x ^ words`.
    #[inline(always)]
    unsafe fn add(sums: Self::Sums, x: u32, words: Self::Words) -> Self::Sums {
        unsafe { Self::total(sums, Self::count(Self::none(), x, words)) }
    }
}

#[cfg(not(target_arch = "aarch64"))]
pub(super) use portable::Ones;

#[cfg(not(target_arch = "aarch64"))]
mod portable {
    use super::Count;
    use crate::integer::sums::{LANES, Portable};

    /// `count_ones` of the language.
    pub(in super::super) struct Ones;

    impl Count for Ones {
        type Sums = Portable;
        type Words = [u32; LANES];
        type Counts = [i32; LANES];
        const MOST: usize = usize::MAX;

        #[inline(always)]
        unsafe fn words(p: *const u32) -> Self::Words {
            unsafe { p.cast::<Self::Words>().read_unaligned() }
        }

        #[inline(always)]
        unsafe fn none() -> Self::Counts {
            [0; LANES]
        }

        #[inline(always)]
        unsafe fn count(mut counts: Self::Counts, x: u32, words: Self::Words) -> Self::Counts {
            for (count, word) in counts.iter_mut().zip(words) {
                *count = count.wrapping_add((x ^ word).count_ones() as i32);
            }
            counts
        }

        #[inline(always)]
        unsafe fn total(Portable(mut sums): Portable, counts: Self::Counts) -> Portable {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(count);
            }
            Portable(sums)
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Nibbles256, Nibbles512, Vpopcnt};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_setr_epi8, _mm256_add_epi8, _mm256_add_epi32, _mm256_and_si256,
        _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
        _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_xor_si256, _mm512_add_epi8,
        _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_loadu_si512,
        _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_popcnt_epi32, _mm512_set1_epi8,
        _mm512_set1_epi16, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8,
        _mm512_srli_epi16, _mm512_xor_si512,
    };

    use super::Count;
    use crate::integer::sums::{Avx2, Avx512, LANES};

    /// `vpopcntd`.
    pub(in super::super) struct Vpopcnt;

    impl Count for Vpopcnt {
        type Sums = Avx512;
        type Words = __m512i;
        type Counts = __m512i;
        const MOST: usize = usize::MAX;

        #[inline(always)]
        unsafe fn words(p: *const u32) -> Self::Words {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        unsafe fn none() -> Self::Counts {
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn count(counts: Self::Counts, x: u32, words: Self::Words) -> Self::Counts {
            unsafe {
                let differ = _mm512_xor_si512(words, _mm512_set1_epi32(x as i32));
                _mm512_add_epi32(counts, _mm512_popcnt_epi32(differ))
            }
        }

        #[inline(always)]
        unsafe fn total(Avx512(sums): Avx512, counts: Self::Counts) -> Avx512 {
            unsafe { Avx512(_mm512_add_epi32(sums, counts)) }
        }

        #[inline(always)]
        unsafe fn add(Avx512(sums): Avx512, x: u32, words: Self::Words) -> Avx512 {
            unsafe { Avx512(Self::count(sums, x, words)) }
        }
    }

    /// Each nibble's ones from a table in a register; bytes count up to 8 each time, so that 31 times
    /// fit.
    pub(in super::super) struct Nibbles512;

    impl Count for Nibbles512 {
        type Sums = Avx512;
        type Words = __m512i;
        type Counts = __m512i;
        const MOST: usize = 31;

        #[inline(always)]
        unsafe fn words(p: *const u32) -> Self::Words {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        unsafe fn none() -> Self::Counts {
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn count(counts: Self::Counts, x: u32, words: Self::Words) -> Self::Counts {
            unsafe {
                let ones = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
                let (ones, nibble) = (_mm512_broadcast_i32x4(ones), _mm512_set1_epi8(15));
                let differ = _mm512_xor_si512(words, _mm512_set1_epi32(x as i32));
                let low = _mm512_and_si512(differ, nibble);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(differ), nibble);
                let counts = _mm512_add_epi8(counts, _mm512_shuffle_epi8(ones, low));
                _mm512_add_epi8(counts, _mm512_shuffle_epi8(ones, high))
            }
        }

        #[inline(always)]
        unsafe fn total(Avx512(sums): Avx512, counts: Self::Counts) -> Avx512 {
            unsafe {
                let pairs = _mm512_maddubs_epi16(counts, _mm512_set1_epi8(1));
                let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
                Avx512(_mm512_add_epi32(sums, fours))
            }
        }
    }

    /// As [`Nibbles512`], in two registers.
    pub(in super::super) struct Nibbles256;

    impl Count for Nibbles256 {
        type Sums = Avx2;
        type Words = [__m256i; 2];
        type Counts = [__m256i; 2];
        const MOST: usize = 31;

        #[inline(always)]
        unsafe fn words(p: *const u32) -> Self::Words {
            unsafe {
                let second = p.add(LANES / 2);
                [
                    _mm256_loadu_si256(p.cast()),
                    _mm256_loadu_si256(second.cast()),
                ]
            }
        }

        #[inline(always)]
        unsafe fn none() -> Self::Counts {
            unsafe { [_mm256_setzero_si256(); 2] }
        }

        #[inline(always)]
        unsafe fn count([a, b]: Self::Counts, x: u32, words: Self::Words) -> Self::Counts {
            unsafe {
                let x = _mm256_set1_epi32(x as i32);
                [half(a, x, words[0]), half(b, x, words[1])]
            }
        }

        #[inline(always)]
        unsafe fn total(Avx2([a, b]): Avx2, counts: Self::Counts) -> Avx2 {
            unsafe { Avx2([half_total(a, counts[0]), half_total(b, counts[1])]) }
        }
    }

    /// With the ones of `x ^ words`.
    #[inline(always)]
    unsafe fn half(counts: __m256i, x: __m256i, words: __m256i) -> __m256i {
        unsafe {
            let ones = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
            let (ones, nibble) = (_mm256_broadcastsi128_si256(ones), _mm256_set1_epi8(15));
            let differ = _mm256_xor_si256(words, x);
            let low = _mm256_and_si256(differ, nibble);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(differ), nibble);
            let counts = _mm256_add_epi8(counts, _mm256_shuffle_epi8(ones, low));
            _mm256_add_epi8(counts, _mm256_shuffle_epi8(ones, high))
        }
    }

    /// With what has been counted.
    #[inline(always)]
    unsafe fn half_total(sums: __m256i, counts: __m256i) -> __m256i {
        unsafe {
            let pairs = _mm256_maddubs_epi16(counts, _mm256_set1_epi8(1));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            _mm256_add_epi32(sums, fours)
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use neon::Cnt;

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{
        uint8x16_t, uint32x4_t, vaddq_s32, vaddq_u8, vcntq_u8, vdupq_n_u8, vdupq_n_u32, veorq_u32,
        vld1q_u32, vpaddlq_u8, vpaddlq_u16, vreinterpretq_s32_u32, vreinterpretq_u8_u32,
    };

    use super::Count;
    use crate::integer::sums::Neon;

    /// `cnt`, which counts the ones of bytes: up to 8 each time, so that 31 times fit.
    pub(in super::super) struct Cnt;

    impl Count for Cnt {
        type Sums = Neon<false>;
        type Words = [uint32x4_t; 4];
        type Counts = [uint8x16_t; 4];
        const MOST: usize = 31;

        #[inline(always)]
        unsafe fn words(p: *const u32) -> Self::Words {
            unsafe { [0, 4, 8, 12].map(|i| vld1q_u32(p.add(i))) }
        }

        #[inline(always)]
        unsafe fn none() -> Self::Counts {
            unsafe { [vdupq_n_u8(0); 4] }
        }

        #[inline(always)]
        unsafe fn count(counts: Self::Counts, x: u32, words: Self::Words) -> Self::Counts {
            unsafe {
                let x = vdupq_n_u32(x);
                [0, 1, 2, 3].map(|i| {
                    let differ = vreinterpretq_u8_u32(veorq_u32(words[i], x));
                    vaddq_u8(counts[i], vcntq_u8(differ))
                })
            }
        }

        #[inline(always)]
        unsafe fn total(Neon(sums): Neon<false>, counts: Self::Counts) -> Neon<false> {
            unsafe {
                Neon([0, 1, 2, 3].map(|i| {
                    let words = vpaddlq_u16(vpaddlq_u8(counts[i]));
                    vaddq_s32(sums[i], vreinterpretq_s32_u32(words))
                }))
            }
        }
    }
}
