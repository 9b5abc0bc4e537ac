//! Matrix products whose partial sums are those of low-precision hardware.
//!
//! What a sum is, an [`Accumulation`] says; every output here has the bits of its
//! [`sum_of_products`](Accumulation::sum_of_products) (of NaN, one). Vectors go over outputs and
//! never over a sum, so that its order is the same on every instruction set, and threads take rows
//! of the output.
//!
//! A partial sum and an exact product must be rounded once. There are these ways, of which the
//! cheapest is taken that the operands and the formats allow:
//!
//! - f32 where that changes nothing: of a product of `q` bits that f32 holds, and partial sums of
//!   `p` bits, where `q <= p <= 11`, the sum rounded to f32's 24 bits and then to `p` is the sum
//!   rounded to `p` bits, since `24 >= 2p + 2` (Figueroa, "When is double rounding innocuous?",
//!   SIGNUM Newsletter 30(3), 1995);
//! - f32 rounded to odd, for `p` up to 22 and products that f32 holds, and f64 rounded to odd for
//!   other products (Boldo and Melquiond, IEEE Transactions on Computers 57(4), 2008);
//! - with AVX-512, whose instructions round down and up, f32 rounded to odd for every product;
//! - the fused instruction for fp32 itself;
//! - i32 and i64 where the operands are whole numbers of steps and the products' step is the unit;
//! - for the matrix units of chips, f32 or f64 and whole numbers, see `tensor_core`;
//! - f64 rounded to odd, with random words, where the rounding is stochastic, see `stochastic`;
//! - otherwise, and for other formats and roundings, one sum at a time.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod bounds;
mod float;
mod integer;
mod nearest;
mod odd;
mod operands;
mod stochastic;
mod tensor_core;

use lowbit_formats::Accumulation;
use rayon::prelude::*;

use operands::Extent;

/// What a product works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the left matrix and of the output.
    pub rows: usize,
    /// Products of a sum: columns of the left matrix, rows of the right one.
    pub inner: usize,
    /// Columns of the right matrix and of the output.
    pub columns: usize,
}

/// `output = left * right` with `left` `[rows][inner]`, `right` `[inner][columns]` and `output`
/// `[rows][columns]`, each sum over `inner` made as `accumulation` says, from the first product to
/// the last. Where the rounding is stochastic, each rounding draws from the seed, the output's place
/// `row columns + column` and its own number, as
/// [`seeded_sum_of_products`](Accumulation::seeded_sum_of_products) does; else the seed changes
/// nothing, and zero is what to give. Products that are to be independent need seeds of their own.
///
/// # Panics
/// Where a slice is not as long as `shape` says.
pub fn product(
    accumulation: &Accumulation,
    shape: &Shape,
    [left, right]: [&[f32]; 2],
    seed: u64,
    output: &mut [f32],
) {
    assert_eq!(left.len(), shape.rows * shape.inner);
    assert_eq!(right.len(), shape.inner * shape.columns);
    assert_eq!(output.len(), shape.rows * shape.columns);
    if output.is_empty() {
        return;
    }
    if left.is_empty() {
        return output.fill(0.0);
    }
    let extents = [left, right].map(Extent::of);
    let done = float::product(accumulation, shape, [left, right], extents, output)
        || integer::product(accumulation, shape, [left, right], extents, output)
        || tensor_core::product(accumulation, shape, [left, right], extents, output)
        || stochastic::product(accumulation, shape, [left, right], (extents, seed), output);
    if !done {
        one_by_one(accumulation, shape, [left, right], seed, output);
    }
}

/// The same, one sum after another.
fn one_by_one(
    accumulation: &Accumulation,
    shape: &Shape,
    [left, right]: [&[f32]; 2],
    seed: u64,
    output: &mut [f32],
) {
    let mut columns = vec![0.0; right.len()];
    for (k, row) in right.chunks_exact(shape.columns).enumerate() {
        for (column, &x) in columns.chunks_exact_mut(shape.inner).zip(row) {
            column[k] = x;
        }
    }
    let rows = output.par_chunks_mut(shape.columns);
    rows.zip(left.par_chunks(shape.inner))
        .enumerate()
        .for_each(|(at, (output, row))| {
            let columns = columns.chunks_exact(shape.inner);
            for (j, (sum, column)) in output.iter_mut().zip(columns).enumerate() {
                let place = (at * shape.columns + j) as u64;
                *sum = one_nan(accumulation.seeded_sum_of_products(row, column, seed, place));
            }
        });
}

/// The number, or the one NaN: which of several a sum meets first, and its sign, depends on the
/// instructions.
#[inline(always)]
fn one_nan(x: f32) -> f32 {
    if x.is_nan() { f32::NAN } else { x }
}
