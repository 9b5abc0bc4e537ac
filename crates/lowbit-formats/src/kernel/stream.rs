//! Output too large for the caches, written past them.
//!
//! An ordinary store first reads the line that it changes. Where a whole tensor is written that no
//! cache holds until it is read again, those reads are a third of the traffic, so parts are worked
//! out in the first cache and copied out by stores that do without.

use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use crate::kernel::isa::{Isa, isa};

/// Bytes from which on output is written past the caches; smaller ones are likely to be read again
/// while the last-level cache has them.
const LARGE: usize = 1 << 25;

/// Elements of a part.
pub(crate) const PART: usize = 1 << 9;

/// Whether an output of so many elements is worth it.
pub(crate) fn is_large<U>(elements: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    let whole_lines = isa() == Isa::Avx512;
    #[cfg(not(target_arch = "x86_64"))]
    let whole_lines = false;
    whole_lines && elements.saturating_mul(size_of::<U>()) >= LARGE
}

/// Calls `work` with parts of an input and a buffer for the output, and writes them out. Its third
/// argument is the index of a part's first element.
pub(crate) fn by_parts<T, U: Copy>(
    input: &[T],
    output: &mut [MaybeUninit<U>],
    mut work: impl FnMut(&[T], &mut [MaybeUninit<U>], usize),
) {
    let mut buffer = [MaybeUninit::uninit(); PART];
    for (part, (x, y)) in input.chunks(PART).zip(output.chunks_mut(PART)).enumerate() {
        let buffer = &mut buffer[..x.len()];
        work(x, buffer, part * PART);
        copy(buffer, y);
    }
    finish();
}

/// Copies past the caches; [`finish`] comes before another thread reads.
///
/// # Panics
///
/// If the slices differ in length.
pub(crate) fn copy<U: Copy>(input: &[MaybeUninit<U>], output: &mut [MaybeUninit<U>]) {
    assert_eq!(input.len(), output.len(), "slices differ in length");
    let bytes = |elements: usize| elements * size_of::<U>();
    let start = output.as_mut_ptr().align_offset(LINE).min(input.len());
    let lines = bytes(input.len() - start) / LINE;
    let end = start + lines * LINE / size_of::<U>();
    output[..start].copy_from_slice(&input[..start]);
    output[end..].copy_from_slice(&input[end..]);
    let (from, to) = (
        input[start..].as_ptr().cast::<Line>(),
        output[start..].as_mut_ptr().cast::<Line>(),
    );
    // SAFETY: both sides hold the bytes of `lines` lines, and `to` is aligned to a line. The bytes
    // are those of plain numbers, each of which the caller has written.
    unsafe { copy_lines(from, to, lines) };
}

/// Bytes that a cache holds side by side.
const LINE: usize = 64;

type Line = [u8; LINE];

/// # Safety
///
/// `lines` lines may be read from `from`, which may be anywhere, and written to `to`, which is
/// aligned to a line.
unsafe fn copy_lines(from: *const Line, to: *mut Line, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        // SAFETY: as the caller promises, and the CPU has the instructions.
        return unsafe { copy_lines_512(from, to, lines) };
    }
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(from, to, lines) };
}

/// # Safety
///
/// As [`copy_lines`], and the processor has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn copy_lines_512(from: *const Line, to: *mut Line, lines: usize) {
    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_stream_si512};
    for i in 0..lines {
        // SAFETY: as the caller promises.
        unsafe { _mm512_stream_si512(to.add(i).cast(), _mm512_loadu_si512(from.add(i).cast())) };
    }
}

/// Makes what was copied visible in order with what this thread writes next, as ordinary stores are.
pub(crate) fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86_64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::as_uninit;

    /// Every length and every place relative to a line, for elements of two and four bytes.
    #[test]
    fn copies_are_whole() {
        fn check<U: crate::kernel::Element + PartialEq + std::fmt::Debug>(number: fn(usize) -> U) {
            let input: Vec<U> = (0..200).map(number).collect();
            for length in 0..=140 {
                for at in 0..40 {
                    let mut output = vec![number(500); 200];
                    let mut source = input.clone();
                    let part = as_uninit(&mut source[..length]);
                    copy(part, &mut as_uninit(&mut output)[at..at + length]);
                    finish();
                    assert_eq!(output[at..at + length], input[..length]);
                    let around = output[..at].iter().chain(&output[at + length..]);
                    assert!(around.copied().all(|x| x == number(500)));
                }
            }
        }
        check(|i| i as f32);
        check(|i| i as u16);
    }

    #[test]
    fn parts_come_in_order() {
        let input: Vec<f32> = (0..3 * PART + 5).map(|i| i as f32).collect();
        let mut output = vec![0.0; input.len()];
        by_parts(&input, as_uninit(&mut output), |x, y, first| {
            for (y, x) in y.iter_mut().zip(x) {
                y.write(x + first as f32);
            }
        });
        let expected = (0..input.len()).map(|i| (i + i / PART * PART) as f32);
        assert!(output.into_iter().eq(expected));
    }
}
