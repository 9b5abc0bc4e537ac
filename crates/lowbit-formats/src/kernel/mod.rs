//! Passes over slices: vector code for the CPU found at run time, spread over threads.
//!
//! Every pass is generic over a closure that says what happens to one element. Mark a closure
//! that is more than a few operations `#[inline(always)]`, so that it becomes part of the vector
//! loop:
//!
//! ```
//! use lowbit_formats::kernel;
//!
//! let mut output = [0.0; 3];
//! kernel::map(&[1.4, -0.2, 7.0], &mut output, #[inline(always)] |x: f32| x.clamp(0.0, 6.0));
//! assert_eq!(output, [1.4, 0.0, 6.0]);
//! ```
//!
//! Results do not depend on the number of threads or on the instruction set: work is cut into
//! chunks of [`CHUNK`] elements, reductions keep a fixed number of accumulators per chunk and are
//! combined in order, and random numbers belong to an element's index. Slices shorter than
//! [`PARALLEL`] are handled by the calling thread. Output far larger than the caches is written past
//! them.

// Writing into uninitialized memory saves the pass that would zero it; each use says why it is
// sound.
#![allow(unsafe_code)]

mod images;
#[doc(hidden)]
pub mod isa;
mod lanes;
mod layout;
mod number;
pub mod pack;
mod reduce;
pub(crate) mod stream;
mod strided;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::rounding::philox::{GROUP, Philox};

pub(crate) use images::{ChannelsLast, map_random_images};
pub use layout::Layout;
pub use number::Number;
pub use reduce::{fold, map_fold, max_abs, min_max, sum, zip_fold};
pub(crate) use strided::{map_parts, map_parts_in_place};

/// Elements a thread takes at a time, and the unit of a reduction.
pub const CHUNK: usize = 1 << 14;

/// Groups of random words that a chunk takes.
const GROUPS: u64 = (CHUNK / GROUP) as u64;

/// The shortest slice that is spread over threads.
pub const PARALLEL: usize = 1 << 15;

/// What a slice may hold: plain numbers, of these types alone, since large outputs are copied as
/// bytes.
pub trait Element: sealed::Plain + Copy + Send + Sync {}

mod sealed {
    /// A number without padding, all of whose bytes may be copied.
    pub trait Plain {}
}

macro_rules! elements {
    ($($number:ty)*) => {
        $(
            impl sealed::Plain for $number {}
            impl Element for $number {}
        )*
    };
}

elements!(f32 f64 u8 u16 u32 i8 i16 i32 half::f16 half::bf16);

/// Whether there are threads. WebAssembly has none, and then the code that would spread work over them is
/// left out, which a page would have to hold.
const THREADS: bool = cfg!(not(target_family = "wasm"));

/// Elements that a pass in place takes out of the way at a time; they stay in the first cache.
pub(crate) const BUFFER: usize = 1 << 10;

/// `output[i] = f(input[i])`.
///
/// # Panics
///
/// If the slices differ in length.
#[inline]
pub fn map<T: Element, U: Element>(
    input: &[T],
    output: &mut [U],
    f: impl Fn(T) -> U + Sync + Send + Copy,
) {
    map_into(input, as_uninit(output), f);
}

/// `f(input[i])`, in a new vector whose memory is written once.
#[inline]
pub fn map_to_vec<T: Element, U: Element>(
    input: &[T],
    f: impl Fn(T) -> U + Sync + Send + Copy,
) -> Vec<U> {
    collect(input.len(), |output| map_into(input, output, f))
}

/// `data[i] = f(data[i])`.
#[inline]
pub fn map_in_place<T: Element>(data: &mut [T], f: impl Fn(T) -> T + Sync + Send + Copy) {
    in_place(data, |input, output, _| lanes::map(input, output, f));
}

/// `output[i] = f(left[i], right[i])`.
///
/// # Panics
///
/// If the slices differ in length.
#[inline]
pub fn zip(
    left: &[f32],
    right: &[f32],
    output: &mut [f32],
    f: impl Fn(f32, f32) -> f32 + Sync + Send + Copy,
) {
    zip_into(left, right, as_uninit(output), f);
}

/// `f(left[i], right[i])`, in a new vector whose memory is written once.
///
/// # Panics
///
/// If the slices differ in length.
#[inline]
pub fn zip_to_vec(
    left: &[f32],
    right: &[f32],
    f: impl Fn(f32, f32) -> f32 + Sync + Send + Copy,
) -> Vec<f32> {
    collect(left.len(), |output| zip_into(left, right, output, f))
}

/// `output[i] = f(input[i], r[i])` with the random words `r` of `philox`, whose index is `i`.
///
/// # Panics
///
/// If the slices differ in length.
#[inline]
pub fn map_random<T: Element, U: Element>(
    input: &[T],
    output: &mut [U],
    philox: Philox,
    f: impl Fn(T, u32) -> U + Sync + Send + Copy,
) {
    map_random_into(input, as_uninit(output), philox, f);
}

/// `f(input[i], r[i])` as in [`map_random`], in a new vector whose memory is written once.
#[inline]
pub fn map_random_to_vec<T: Element, U: Element>(
    input: &[T],
    philox: Philox,
    f: impl Fn(T, u32) -> U + Sync + Send + Copy,
) -> Vec<U> {
    collect(input.len(), |output| {
        map_random_into(input, output, philox, f)
    })
}

/// `data[i] = f(data[i], r[i])` as in [`map_random`].
#[inline]
pub fn map_random_in_place<T: Element>(
    data: &mut [T],
    philox: Philox,
    f: impl Fn(T, u32) -> T + Sync + Send + Copy,
) {
    in_place(data, |input, output, groups| {
        lanes::map_random(input, output, philox.skip_groups(groups), f)
    });
}

/// What happens to a chunk, given its index, its input and its output. It has no type of its own,
/// so that handing it to threads, which is more code than most kernels, is compiled once.
type ChunkWork<'a, T, U> = &'a (dyn Fn(usize, &[T], &mut [U]) + Sync);

/// Calls `work` with every chunk of both slices, in parallel if there are enough.
fn each_chunk<T: Sync, U: Send>(input: &[T], output: &mut [U], work: ChunkWork<'_, T, U>) {
    if !THREADS || input.len() < PARALLEL {
        let chunks = input.chunks(CHUNK).zip(output.chunks_mut(CHUNK));
        let chunks = chunks.enumerate();
        return chunks.for_each(|(chunk, (input, output))| work(chunk, input, output));
    }
    let chunks = input.par_chunks(CHUNK).zip(output.par_chunks_mut(CHUNK));
    let chunks = chunks.enumerate();
    chunks.for_each(|(chunk, (input, output))| work(chunk, input, output));
}

/// As [`each_chunk`], for one slice.
fn each_part<T: Send>(data: &mut [T], work: &(dyn Fn(usize, &mut [T]) + Sync)) {
    if !THREADS || data.len() < PARALLEL {
        let chunks = data.chunks_mut(CHUNK).enumerate();
        return chunks.for_each(|(chunk, data)| work(chunk, data));
    }
    let chunks = data.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(chunk, data)| work(chunk, data));
}

#[inline]
fn map_into<T: Element, U: Element>(
    input: &[T],
    output: &mut [MaybeUninit<U>],
    f: impl Fn(T) -> U + Sync + Send + Copy,
) {
    assert_eq!(input.len(), output.len(), "slices differ in length");
    let large = stream::is_large::<U>(output.len());
    each_chunk(input, output, &|_, input, output| {
        if large {
            stream::by_parts(input, output, |x, y, _| lanes::map(x, y, f));
        } else {
            lanes::map(input, output, f);
        }
    });
}

/// Runs `pass` over a copy of each part of `data` into that part; its third argument says how many
/// groups of random words come before the part. So one compiled pass serves out of place and in
/// place.
#[inline]
fn in_place<T: Element>(
    data: &mut [T],
    pass: impl Fn(&[T], &mut [MaybeUninit<T>], u64) + Sync + Send + Copy,
) {
    each_part(data, &|chunk, data| {
        let mut buffer = [data[0]; BUFFER];
        for (part, data) in data.chunks_mut(BUFFER).enumerate() {
            let input = &mut buffer[..data.len()];
            input.copy_from_slice(data);
            let groups = (chunk * CHUNK + part * BUFFER) / GROUP;
            pass(input, as_uninit(data), groups as u64);
        }
    });
}

#[inline]
fn zip_into(
    left: &[f32],
    right: &[f32],
    output: &mut [MaybeUninit<f32>],
    f: impl Fn(f32, f32) -> f32 + Sync + Send + Copy,
) {
    assert_eq!(left.len(), right.len(), "slices differ in length");
    assert_eq!(left.len(), output.len(), "slices differ in length");
    each_chunk(left, output, &|chunk, left, output| {
        let right = &right[chunk * CHUNK..][..left.len()];
        lanes::zip(left, right, output, f);
    });
}

#[inline]
fn map_random_into<T: Element, U: Element>(
    input: &[T],
    output: &mut [MaybeUninit<U>],
    philox: Philox,
    f: impl Fn(T, u32) -> U + Sync + Send + Copy,
) {
    assert_eq!(input.len(), output.len(), "slices differ in length");
    let large = stream::is_large::<U>(output.len());
    each_chunk(input, output, &|chunk, input, output| {
        let philox = philox.skip_groups(chunk as u64 * GROUPS);
        if large {
            stream::by_parts(input, output, |x, y, first| {
                lanes::map_random(x, y, philox.skip_groups((first / GROUP) as u64), f);
            });
        } else {
            lanes::map_random(input, output, philox, f);
        }
    });
}

/// `f(i)` of every index below `count`, in order.
pub(crate) fn each_index<T: Send>(count: usize, f: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    match THREADS {
        true => (0..count).into_par_iter().map(f).collect(),
        false => (0..count).map(f).collect(),
    }
}

/// Lets a pass that writes each element exactly once fill memory that already holds numbers.
pub(crate) fn as_uninit<U: Element>(output: &mut [U]) -> &mut [MaybeUninit<U>] {
    // SAFETY: both types have the same layout, and the passes above only ever store initialized
    // numbers through the returned slice.
    unsafe { &mut *(std::ptr::from_mut(output) as *mut [MaybeUninit<U>]) }
}

/// A vector of `length` elements, all of which `fill` writes.
fn collect<U: Element>(length: usize, fill: impl FnOnce(&mut [MaybeUninit<U>])) -> Vec<U> {
    let mut output = Vec::with_capacity(length);
    fill(&mut output.spare_capacity_mut()[..length]);
    // SAFETY: `fill` is one of the `_into` passes, which write every element of their output or
    // panic; after a panic this line is not reached.
    unsafe { output.set_len(length) };
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 9] = [
        0,
        1,
        31,
        33,
        1000,
        CHUNK,
        PARALLEL - 1,
        PARALLEL,
        3 * CHUNK + 17,
    ];

    fn ramp(length: usize) -> Vec<f32> {
        (0..length).map(|i| (i % 1009) as f32 - 504.0).collect()
    }

    #[test]
    fn every_element_is_mapped_once() {
        for length in LENGTHS {
            let input = ramp(length);
            let expected: Vec<f32> = input.iter().map(|x| x * 2.0 + 1.0).collect();
            let f = |x: f32| x * 2.0 + 1.0;
            let mut output = vec![0.0; length];
            map(&input, &mut output, f);
            assert_eq!(output, expected);
            assert_eq!(map_to_vec(&input, f), expected);
            map_in_place(&mut output, |x| (x - 1.0) / 2.0);
            assert_eq!(output, input);
        }
    }

    #[test]
    fn pairs_meet() {
        for length in LENGTHS {
            let left = ramp(length);
            let right: Vec<f32> = left.iter().map(|x| 3.0 - x).collect();
            assert_eq!(zip_to_vec(&left, &right, |a, b| a + b), vec![3.0; length]);
            let mut output = vec![0.0; length];
            let sum = zip_fold(
                &left,
                &right,
                &mut output,
                0.0f64,
                |sum, a, b| (a, sum + f64::from(a + b)),
                |a, b| a + b,
            );
            assert_eq!(output, left);
            assert_eq!(sum, 3.0 * length as f64);
            let count = map_fold(
                &left,
                &mut output,
                0u64,
                |n, x| (-x, n + u64::from(x > 0.0)),
                |a, b| a + b,
            );
            assert_eq!(count as usize, left.iter().filter(|&&x| x > 0.0).count());
            assert!(output.iter().zip(&left).all(|(y, x)| *y == -x));
        }
    }

    #[test]
    fn random_words_belong_to_indices() {
        let philox = Philox::new(3, 4);
        for length in LENGTHS {
            let input = vec![0.0; length];
            let f = |_: f32, word: u32| f32::from_bits(word >> 2);
            let expected: Vec<f32> = (0..length as u64)
                .map(|index| f(0.0, philox.word(index)))
                .collect();
            assert_eq!(map_random_to_vec(&input, philox, f), expected);
            let mut data = input.clone();
            map_random(&input, &mut data, philox, f);
            assert_eq!(data, expected);
            map_random_in_place(&mut data, philox, f);
            assert_eq!(data, expected);
        }
    }

    #[test]
    fn reductions_do_not_depend_on_threads() {
        // Sums whose value depends on their order.
        let input: Vec<f32> = (0..5 * PARALLEL).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let sum = || fold(&input, 0.0f32, |sum, x| sum + x, |a, b| a + b);
        let mut sums = [1, 2, 16].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(sum).to_bits()
        });
        sums.sort_unstable();
        assert_eq!(sums[0], sums[2]);
        // The harmonic number H(163840) = ln(163840) + 0.5772156649 + 1 / 327680.
        assert!((f32::from_bits(sums[0]) - 12.583_886).abs() < 1e-4);
    }

    #[test]
    fn extremes() {
        assert_eq!(max_abs(&[]), 0.0);
        assert_eq!(max_abs(&[1.0, -3.0, f32::NAN, 2.0]), 3.0);
        assert_eq!(min_max(&[1.0, -3.0, f32::NAN, 2.0]), (-3.0, 2.0));
        assert_eq!(sum(&[0.5; 100_000]), 50_000.0);
    }
}
