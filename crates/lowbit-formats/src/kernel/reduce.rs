//! Reductions, alone and together with a map.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::kernel::{CHUNK, PARALLEL, THREADS, as_uninit, lanes};

/// Reduces a slice: `f` takes an accumulator and an element, `combine` two accumulators.
///
/// `identity` must leave the other argument of `combine` unchanged. Element `i` of a chunk goes
/// to accumulator `i % 32`; accumulators are combined pairwise, chunks from first to last.
#[inline]
pub fn fold<A: Copy + Send + Sync>(
    input: &[f32],
    identity: A,
    f: impl Fn(A, f32) -> A + Sync + Send + Copy,
    combine: impl Fn(A, A) -> A + Sync + Send + Copy,
) -> A {
    each_chunk(
        input,
        identity,
        |input| lanes::fold(input, identity, f),
        combine,
    )
}

/// Reduces each chunk to accumulators, and combines them as [`fold`] does.
#[inline]
fn each_chunk<A: Copy + Send + Sync>(
    input: &[f32],
    identity: A,
    reduce: impl Fn(&[f32]) -> [A; lanes::LANES] + Sync + Send + Copy,
    combine: impl Fn(A, A) -> A + Sync + Send + Copy,
) -> A {
    let chunk = |input: &[f32]| join_lanes(reduce(input), combine);
    if !THREADS || input.len() < PARALLEL {
        return input.chunks(CHUNK).map(chunk).fold(identity, combine);
    }
    let partial: Vec<A> = input.par_chunks(CHUNK).map(chunk).collect();
    partial.into_iter().fold(identity, combine)
}

/// One pass that writes and reduces: `f(accumulator, left[i], right[i])` gives `output[i]` and the
/// next accumulator. Returns the reduction, ordered as in [`fold`].
///
/// # Panics
///
/// If the slices differ in length.
#[inline]
pub fn zip_fold<A: Copy + Send + Sync>(
    left: &[f32],
    right: &[f32],
    output: &mut [f32],
    identity: A,
    f: impl Fn(A, f32, f32) -> (f32, A) + Sync + Send + Copy,
    combine: impl Fn(A, A) -> A + Sync + Send + Copy,
) -> A {
    zip_fold_into(left, right, as_uninit(output), identity, f, combine)
}

/// As [`zip_fold`] with one input.
///
/// # Panics
///
/// If the slices differ in length.
#[inline]
pub fn map_fold<A: Copy + Send + Sync>(
    input: &[f32],
    output: &mut [f32],
    identity: A,
    f: impl Fn(A, f32) -> (f32, A) + Sync + Send + Copy,
    combine: impl Fn(A, A) -> A + Sync + Send + Copy,
) -> A {
    zip_fold_into(
        input,
        input,
        as_uninit(output),
        identity,
        #[inline(always)]
        move |accumulator, x, _| f(accumulator, x),
        combine,
    )
}

/// The largest absolute value; 0 for an empty slice, NaN elements are passed over.
pub fn max_abs(input: &[f32]) -> f32 {
    fold(
        input,
        0.0,
        |m, x| if x.abs() > m { x.abs() } else { m },
        f32::max,
    )
}

/// The smallest and the largest element; `(inf, -inf)` for an empty slice, NaN elements are passed
/// over.
pub fn min_max(input: &[f32]) -> (f32, f32) {
    each_chunk(
        input,
        (f32::INFINITY, f32::NEG_INFINITY),
        lanes::min_max,
        |(min, max), (other_min, other_max)| (min.min(other_min), max.max(other_max)),
    )
}

/// The sum, in f64.
pub fn sum(input: &[f32]) -> f64 {
    fold(input, 0.0, |sum, x| sum + f64::from(x), |a, b| a + b)
}

#[inline]
fn zip_fold_into<A: Copy + Send + Sync>(
    left: &[f32],
    right: &[f32],
    output: &mut [MaybeUninit<f32>],
    identity: A,
    f: impl Fn(A, f32, f32) -> (f32, A) + Sync + Send + Copy,
    combine: impl Fn(A, A) -> A + Sync + Send + Copy,
) -> A {
    assert_eq!(left.len(), right.len(), "slices differ in length");
    assert_eq!(left.len(), output.len(), "slices differ in length");
    type Chunk<'a> = ((&'a mut [MaybeUninit<f32>], &'a [f32]), &'a [f32]);
    let chunk = |((output, left), right): Chunk<'_>| {
        join_lanes(lanes::zip_fold(left, right, output, identity, f), combine)
    };
    if !THREADS || left.len() < PARALLEL {
        return output
            .chunks_mut(CHUNK)
            .zip(left.chunks(CHUNK))
            .zip(right.chunks(CHUNK))
            .map(chunk)
            .fold(identity, combine);
    }
    let partial: Vec<A> = output
        .par_chunks_mut(CHUNK)
        .zip(left.par_chunks(CHUNK))
        .zip(right.par_chunks(CHUNK))
        .map(chunk)
        .collect();
    partial.into_iter().fold(identity, combine)
}

/// Combines neighbours pairwise until one is left.
fn join_lanes<A: Copy>(mut lanes: [A; lanes::LANES], combine: impl Fn(A, A) -> A) -> A {
    let mut width = lanes::LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] = combine(lanes[2 * lane], lanes[2 * lane + 1]);
        }
    }
    lanes[0]
}
