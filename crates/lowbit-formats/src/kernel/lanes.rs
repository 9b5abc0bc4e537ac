//! The inner loops, compiled once per instruction set and chosen at run time.
//!
//! Each is an ordinary loop around an inlined closure that the compiler turns into vector code.
//! Floating-point operations are never contracted or reordered, so every version gives the same
//! bits.

use std::mem::MaybeUninit;

use crate::kernel::isa;
use crate::rounding::philox::{PAIR, Philox};

/// Accumulators a reduction keeps, on every machine, so that its order of additions is fixed.
pub(crate) const LANES: usize = 32;

pub(crate) fn map<T: Copy, U, F: Fn(T) -> U>(input: &[T], output: &mut [MaybeUninit<U>], f: F) {
    isa::dispatch_on(
        input,
        output,
        #[inline(always)]
        move |input, output| map_inline(input, output, f),
    )
}

#[inline(always)]
fn map_inline<T: Copy, U, F: Fn(T) -> U>(input: &[T], output: &mut [MaybeUninit<U>], f: F) {
    for (y, &x) in output.iter_mut().zip(input) {
        y.write(f(x));
    }
}

pub(crate) fn zip<F: Fn(f32, f32) -> f32>(
    left: &[f32],
    right: &[f32],
    output: &mut [MaybeUninit<f32>],
    f: F,
) {
    isa::dispatch_on(
        (left, right),
        output,
        #[inline(always)]
        move |(left, right), output| zip_inline(left, right, output, f),
    )
}

#[inline(always)]
fn zip_inline<F: Fn(f32, f32) -> f32>(
    left: &[f32],
    right: &[f32],
    output: &mut [MaybeUninit<f32>],
    f: F,
) {
    for ((y, &a), &b) in output.iter_mut().zip(left).zip(right) {
        y.write(f(a, b));
    }
}

/// The words of `philox` begin with `input[0]`.
pub(crate) fn map_random<T: Copy, U, F: Fn(T, u32) -> U>(
    input: &[T],
    output: &mut [MaybeUninit<U>],
    philox: Philox,
    f: F,
) {
    isa::dispatch_on(
        input,
        output,
        #[inline(always)]
        move |input, output| map_random_inline(input, output, philox, f),
    )
}

#[inline(always)]
fn map_random_inline<T: Copy, U, F: Fn(T, u32) -> U>(
    input: &[T],
    output: &mut [MaybeUninit<U>],
    philox: Philox,
    f: F,
) {
    let (blocks, rest) = input.as_chunks::<PAIR>();
    let (output, rest_output) = output.as_chunks_mut::<PAIR>();
    let mut group = 0;
    for (y, x) in output.iter_mut().zip(blocks) {
        let words = philox.pair(group);
        for lane in 0..PAIR {
            y[lane].write(f(x[lane], words[lane]));
        }
        group += 2;
    }
    let words = philox.pair(group);
    for ((y, &x), word) in rest_output.iter_mut().zip(rest).zip(words) {
        y.write(f(x, word));
    }
}

/// `f` of each element and its word.
pub(crate) fn map_words<T: Copy, U, F: Fn(T, u32) -> U>(
    input: &[T],
    words: &[u32],
    output: &mut [MaybeUninit<U>],
    f: F,
) {
    isa::dispatch_on(
        (input, words),
        output,
        #[inline(always)]
        move |(input, words), output| {
            for ((y, &x), &word) in output.iter_mut().zip(input).zip(words) {
                y.write(f(x, word));
            }
        },
    )
}

pub(crate) fn fold<A: Copy, F: Fn(A, f32) -> A>(input: &[f32], identity: A, f: F) -> [A; LANES] {
    isa::dispatch_on(
        input,
        (),
        #[inline(always)]
        move |input, ()| fold_inline(input, identity, f),
    )
}

#[inline(always)]
fn fold_inline<A: Copy, F: Fn(A, f32) -> A>(input: &[f32], identity: A, f: F) -> [A; LANES] {
    let mut lanes = [identity; LANES];
    let mut blocks = input.chunks_exact(LANES);
    for block in &mut blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = f(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane = f(*lane, x);
    }
    lanes
}

/// The smallest and the largest element of each lane. All of one lie together, and all of the other:
/// in pairs they would have to change places before each comparison.
pub(crate) fn min_max(input: &[f32]) -> [(f32, f32); LANES] {
    isa::dispatch_on(
        input,
        (),
        #[inline(always)]
        |input, ()| min_max_inline(input),
    )
}

#[inline(always)]
fn min_max_inline(input: &[f32]) -> [(f32, f32); LANES] {
    let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (blocks, rest) = input.as_chunks::<LANES>();
    for block in blocks {
        for (min, &x) in min.iter_mut().zip(block) {
            *min = if x < *min { x } else { *min };
        }
        for (max, &x) in max.iter_mut().zip(block) {
            *max = if x > *max { x } else { *max };
        }
    }
    for ((min, max), &x) in min.iter_mut().zip(&mut max).zip(rest) {
        *min = if x < *min { x } else { *min };
        *max = if x > *max { x } else { *max };
    }
    std::array::from_fn(|lane| (min[lane], max[lane]))
}

pub(crate) fn zip_fold<A: Copy, F: Fn(A, f32, f32) -> (f32, A)>(
    left: &[f32],
    right: &[f32],
    output: &mut [MaybeUninit<f32>],
    identity: A,
    f: F,
) -> [A; LANES] {
    isa::dispatch_on(
        (left, right),
        output,
        #[inline(always)]
        move |(left, right), output| zip_fold_inline(left, right, output, identity, f),
    )
}

#[inline(always)]
fn zip_fold_inline<A: Copy, F: Fn(A, f32, f32) -> (f32, A)>(
    left: &[f32],
    right: &[f32],
    output: &mut [MaybeUninit<f32>],
    identity: A,
    f: F,
) -> [A; LANES] {
    let mut lanes = [identity; LANES];
    let blocks = output.chunks_mut(LANES);
    for ((y, a), b) in blocks.zip(left.chunks(LANES)).zip(right.chunks(LANES)) {
        for (((lane, y), &a), &b) in lanes.iter_mut().zip(y).zip(a).zip(b) {
            let (value, next) = f(*lane, a, b);
            y.write(value);
            *lane = next;
        }
    }
    lanes
}
