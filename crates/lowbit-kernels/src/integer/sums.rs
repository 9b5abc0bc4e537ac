//! Sixteen sums, in the registers of each instruction set, and what becomes of them.

// The reasons are those of `Sums`' contract: its caller says that the CPU has the instructions and
// that the pointers reach far enough.

use super::finish::{Addition, Shift};

// Sums in a vector: 512 bits of `i32`, as of `f32`.
pub(crate) use crate::vector::LANES;

/// Bytes that four vectors of sums become.
pub(crate) const BYTES: usize = 4 * LANES;

/// Sixteen `i32`. All arithmetic is modulo 2^32.
///
/// # Safety
/// What holds for every method of every implementation, and is not said there again:
///
/// - It may only be called where the CPU has the implementation's instruction set. The methods are
///   inlined into a function that is compiled for it (`#[target_feature]`).
/// - `p` of [`load`](Self::load) is valid for reads of [`LANES`] numbers, of [`bytes`](Self::bytes)
///   for reads of [`BYTES`] bytes, of [`store`](Self::store) for writes of [`LANES`] numbers, of
///   [`store_bytes`](Self::store_bytes) for writes of [`BYTES`] bytes. Pointers need no alignment.
pub(crate) trait Sums: Copy {
    /// [`BYTES`] bytes.
    type Bytes: Copy;
    /// Whether sixteen vectors of sums fit the registers.
    const WIDE: bool;

    /// Sixteen zeros.
    unsafe fn zero() -> Self;
    /// The sixteen sums from `p` on.
    unsafe fn load(p: *const i32) -> Self;
    /// Writes the sums.
    unsafe fn store(self, p: *mut i32);
    /// The sums of both.
    unsafe fn plus(self, other: Self) -> Self;
    /// The products of both.
    unsafe fn times(self, other: Self) -> Self;
    /// The bytes from `p` on.
    unsafe fn bytes(p: *const u8) -> Self::Bytes;
    /// Writes bytes.
    unsafe fn store_bytes(bytes: Self::Bytes, p: *mut u8);
    /// A byte of each sum of four vectors, one vector's after the other's.
    unsafe fn shift(sums: [Self; 4], shift: &Shift) -> Self::Bytes;
    /// For each sum how many of its thresholds it is not below; `thresholds` are of one level after
    /// the other.
    unsafe fn levels(sums: [Self; 4], thresholds: &[[Self; 4]]) -> Self::Bytes;
    /// A byte of each pair.
    unsafe fn add(a: Self::Bytes, b: Self::Bytes, addition: &Addition) -> Self::Bytes;
}

/// An array that the compiler spreads over the registers it has.
#[cfg(not(target_arch = "aarch64"))]
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(crate) [i32; LANES]);

#[cfg(not(target_arch = "aarch64"))]
impl Sums for Portable {
    type Bytes = [u8; BYTES];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; LANES])
    }

    #[inline(always)]
    unsafe fn load(p: *const i32) -> Self {
        unsafe { Self(p.cast::<[i32; LANES]>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut i32) {
        unsafe { p.cast::<[i32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        let mut sums = self.0;
        for (sum, other) in sums.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(other);
        }
        Self(sums)
    }

    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        let mut products = self.0;
        for (product, other) in products.iter_mut().zip(other.0) {
            *product = product.wrapping_mul(other);
        }
        Self(products)
    }

    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> Self::Bytes {
        unsafe { p.cast::<Self::Bytes>().read() }
    }

    #[inline(always)]
    unsafe fn store_bytes(bytes: Self::Bytes, p: *mut u8) {
        unsafe { p.cast::<Self::Bytes>().write(bytes) }
    }

    #[inline(always)]
    unsafe fn shift(sums: [Self; 4], shift: &Shift) -> Self::Bytes {
        unsafe { plain::shift(sums, shift) }
    }

    #[inline(always)]
    unsafe fn levels(sums: [Self; 4], thresholds: &[[Self; 4]]) -> Self::Bytes {
        unsafe { plain::levels(sums, thresholds) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Bytes, b: Self::Bytes, addition: &Addition) -> Self::Bytes {
        plain::add(&a, &b, addition)
    }
}

/// Loops over arrays, which the compiler turns into the instructions of the function that they are
/// inlined into.
pub(crate) mod plain {
    use super::{Addition, BYTES, LANES, Shift, Sums};

    /// The numbers of four vectors.
    ///
    /// # Safety
    /// As of [`Sums`].
    #[inline(always)]
    unsafe fn numbers<T: Sums>(sums: [T; 4]) -> [i32; BYTES] {
        let mut numbers = [0; BYTES];
        for (i, sums) in sums.into_iter().enumerate() {
            // SAFETY: the array has four times as many; the rest is the caller's.
            unsafe { sums.store(numbers.as_mut_ptr().add(i * LANES)) }
        }
        numbers
    }

    /// # Safety
    /// As of [`Sums`].
    #[inline(always)]
    pub(crate) unsafe fn shift<T: Sums>(sums: [T; 4], shift: &Shift) -> [u8; BYTES] {
        // SAFETY: the caller's.
        let numbers = unsafe { numbers(sums) };
        let mut bytes = [0; BYTES];
        for (byte, sum) in bytes.iter_mut().zip(numbers) {
            *byte = shift.apply(sum);
        }
        bytes
    }

    /// # Safety
    /// As of [`Sums`].
    #[inline(always)]
    pub(crate) unsafe fn levels<T: Sums>(sums: [T; 4], thresholds: &[[T; 4]]) -> [u8; BYTES] {
        // SAFETY: the caller's.
        let sums = unsafe { numbers(sums) };
        let mut bytes = [0; BYTES];
        for &level in thresholds {
            // SAFETY: the caller's.
            let level = unsafe { numbers(level) };
            for ((byte, sum), threshold) in bytes.iter_mut().zip(sums).zip(level) {
                *byte += u8::from(sum >= threshold);
            }
        }
        bytes
    }

    #[inline(always)]
    pub(crate) fn add(a: &[u8; BYTES], b: &[u8; BYTES], addition: &Addition) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for ((byte, &a), &b) in bytes.iter_mut().zip(a).zip(b) {
            *byte = addition.apply(a, b);
        }
        bytes
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_loadu_si256,
        _mm256_mullo_epi32, _mm256_setzero_si256, _mm256_storeu_si256, _mm512_add_epi8,
        _mm512_add_epi16, _mm512_add_epi32, _mm512_and_si512, _mm512_cmpge_epi32_mask,
        _mm512_loadu_si512, _mm512_maddubs_epi16, _mm512_mask_and_epi32, _mm512_mask_blend_epi16,
        _mm512_maskz_set1_epi8, _mm512_min_epu8, _mm512_mullo_epi32, _mm512_packs_epi32,
        _mm512_packus_epi16, _mm512_permutexvar_epi32, _mm512_set_epi32, _mm512_set1_epi8,
        _mm512_set1_epi16, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_sra_epi16,
        _mm512_sra_epi32, _mm512_storeu_si512, _mm512_testn_epi16_mask, _mm512_testn_epi32_mask,
        _mm512_unpackhi_epi8, _mm512_unpacklo_epi8,
    };

    use super::{Addition, BYTES, LANES, Shift, Sums, plain};

    /// One register of AVX-512 (F and BW).
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(pub(crate) __m512i);

    /// A shift's count, as instructions take it.
    #[inline(always)]
    unsafe fn count(shift: u32) -> __m128i {
        unsafe { _mm_cvtsi32_si128(shift as i32) }
    }

    /// Four vectors' numbers as bytes, saturated.
    #[inline(always)]
    unsafe fn pack([a, b, c, d]: [__m512i; 4]) -> __m512i {
        unsafe {
            // Packing goes by lanes of 128 bits: four bytes of each vector in turn.
            let packed = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            let order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
            _mm512_permutexvar_epi32(order, packed)
        }
    }

    impl Sums for Avx512 {
        type Bytes = __m512i;
        const WIDE: bool = true;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self(_mm512_setzero_si512()) }
        }

        #[inline(always)]
        unsafe fn load(p: *const i32) -> Self {
            unsafe { Self(_mm512_loadu_si512(p.cast())) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32) {
            unsafe { _mm512_storeu_si512(p.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_epi32(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            unsafe { Self(_mm512_mullo_epi32(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> Self::Bytes {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        unsafe fn store_bytes(bytes: Self::Bytes, p: *mut u8) {
            unsafe { _mm512_storeu_si512(p.cast(), bytes) }
        }

        #[inline(always)]
        unsafe fn shift([a, b, c, d]: [Self; 4], shift: &Shift) -> Self::Bytes {
            unsafe {
                let rounded = [
                    rounded(a, shift),
                    rounded(b, shift),
                    rounded(c, shift),
                    rounded(d, shift),
                ];
                _mm512_min_epu8(pack(rounded), _mm512_set1_epi8(shift.most as i8))
            }
        }

        #[inline(always)]
        unsafe fn levels([a, b, c, d]: [Self; 4], thresholds: &[[Self; 4]]) -> Self::Bytes {
            unsafe {
                let mut bytes = _mm512_setzero_si512();
                for level in thresholds {
                    let mut reached = u64::from(_mm512_cmpge_epi32_mask(a.0, level[0].0));
                    reached |= u64::from(_mm512_cmpge_epi32_mask(b.0, level[1].0)) << 16;
                    reached |= u64::from(_mm512_cmpge_epi32_mask(c.0, level[2].0)) << 32;
                    reached |= u64::from(_mm512_cmpge_epi32_mask(d.0, level[3].0)) << 48;
                    bytes = _mm512_add_epi8(bytes, _mm512_maskz_set1_epi8(reached, 1));
                }
                bytes
            }
        }

        #[inline(always)]
        unsafe fn add(a: Self::Bytes, b: Self::Bytes, addition: &Addition) -> Self::Bytes {
            unsafe {
                let first = added(_mm512_unpacklo_epi8(a, b), addition);
                let second = added(_mm512_unpackhi_epi8(a, b), addition);
                let bytes = _mm512_packus_epi16(first, second);
                _mm512_min_epu8(bytes, _mm512_set1_epi8(addition.most as i8))
            }
        }
    }

    // Functions, not closures, that are always inlined: what is not inlined is not compiled for the
    // instructions of the function that calls it.

    /// A shift of sums, without its limits.
    #[inline(always)]
    unsafe fn rounded(Avx512(sum): Avx512, shift: &Shift) -> __m512i {
        unsafe {
            let up = _mm512_sra_epi32(sum, count(shift.shift));
            if shift.keep == -1 {
                return up;
            }
            let tie = _mm512_testn_epi32_mask(sum, _mm512_set1_epi32(shift.low));
            _mm512_mask_and_epi32(up, tie, up, _mm512_set1_epi32(shift.keep))
        }
    }

    /// An addition of pairs of bytes, without its limits.
    #[inline(always)]
    unsafe fn added(pairs: __m512i, addition: &Addition) -> __m512i {
        unsafe {
            let [m, n] = addition.multipliers;
            let multipliers = _mm512_set1_epi16(i16::from_le_bytes([m as u8, n as u8]));
            let sum = _mm512_maddubs_epi16(pairs, multipliers);
            let sum = _mm512_add_epi16(sum, _mm512_set1_epi16(addition.constant));
            let up = _mm512_sra_epi16(sum, count(addition.shift));
            if addition.keep == -1 {
                return up;
            }
            let tie = _mm512_testn_epi16_mask(sum, _mm512_set1_epi16(addition.low));
            let kept = _mm512_and_si512(up, _mm512_set1_epi16(addition.keep));
            _mm512_mask_blend_epi16(tie, up, kept)
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(pub(crate) [__m256i; 2]);

    impl Sums for Avx2 {
        type Bytes = [u8; BYTES];
        const WIDE: bool = false;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self([_mm256_setzero_si256(); 2]) }
        }

        #[inline(always)]
        unsafe fn load(p: *const i32) -> Self {
            unsafe {
                let second = p.add(LANES / 2);
                Self([
                    _mm256_loadu_si256(p.cast()),
                    _mm256_loadu_si256(second.cast()),
                ])
            }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32) {
            unsafe {
                _mm256_storeu_si256(p.cast(), self.0[0]);
                _mm256_storeu_si256(p.add(LANES / 2).cast(), self.0[1]);
            }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            let ([a, b], [c, d]) = (self.0, other.0);
            unsafe { Self([_mm256_add_epi32(a, c), _mm256_add_epi32(b, d)]) }
        }

        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            let ([a, b], [c, d]) = (self.0, other.0);
            unsafe { Self([_mm256_mullo_epi32(a, c), _mm256_mullo_epi32(b, d)]) }
        }

        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> Self::Bytes {
            unsafe { p.cast::<Self::Bytes>().read() }
        }

        #[inline(always)]
        unsafe fn store_bytes(bytes: Self::Bytes, p: *mut u8) {
            unsafe { p.cast::<Self::Bytes>().write(bytes) }
        }

        #[inline(always)]
        unsafe fn shift(sums: [Self; 4], shift: &Shift) -> Self::Bytes {
            unsafe { plain::shift(sums, shift) }
        }

        #[inline(always)]
        unsafe fn levels(sums: [Self; 4], thresholds: &[[Self; 4]]) -> Self::Bytes {
            unsafe { plain::levels(sums, thresholds) }
        }

        #[inline(always)]
        unsafe fn add(a: Self::Bytes, b: Self::Bytes, addition: &Addition) -> Self::Bytes {
            plain::add(&a, &b, addition)
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{int32x4_t, vaddq_s32, vdupq_n_s32, vld1q_s32, vmulq_s32, vst1q_s32};

    use super::{Addition, BYTES, Shift, Sums, plain};

    /// Four registers of NEON. `DOT` says whether products are made by `sdot`, which not every CPU has.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon<const DOT: bool>(pub(crate) [int32x4_t; 4]);

    impl<const DOT: bool> Sums for Neon<DOT> {
        type Bytes = [u8; BYTES];
        const WIDE: bool = false;

        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Self([vdupq_n_s32(0); 4]) }
        }

        #[inline(always)]
        unsafe fn load(p: *const i32) -> Self {
            unsafe { Self([0, 4, 8, 12].map(|i| vld1q_s32(p.add(i)))) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32) {
            for (i, sums) in self.0.into_iter().enumerate() {
                unsafe { vst1q_s32(p.add(4 * i), sums) }
            }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            unsafe { Self([0, 1, 2, 3].map(|i| vaddq_s32(self.0[i], other.0[i]))) }
        }

        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            unsafe { Self([0, 1, 2, 3].map(|i| vmulq_s32(self.0[i], other.0[i]))) }
        }

        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> Self::Bytes {
            unsafe { p.cast::<Self::Bytes>().read() }
        }

        #[inline(always)]
        unsafe fn store_bytes(bytes: Self::Bytes, p: *mut u8) {
            unsafe { p.cast::<Self::Bytes>().write(bytes) }
        }

        #[inline(always)]
        unsafe fn shift(sums: [Self; 4], shift: &Shift) -> Self::Bytes {
            unsafe { plain::shift(sums, shift) }
        }

        #[inline(always)]
        unsafe fn levels(sums: [Self; 4], thresholds: &[[Self; 4]]) -> Self::Bytes {
            unsafe { plain::levels(sums, thresholds) }
        }

        #[inline(always)]
        unsafe fn add(a: Self::Bytes, b: Self::Bytes, addition: &Addition) -> Self::Bytes {
            plain::add(&a, &b, addition)
        }
    }
}
