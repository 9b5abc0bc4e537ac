//! Sums as the matrix units of chips make them, many at a time.
//!
//! Products are brought to multiples of a power of two of each sum's own by a multiplication, which
//! is exact, and cut by a conversion to whole numbers; a block's sum is then a whole number below
//! 2^53, with which the accumulator is joined in f64. What a product is made in, the operands decide:
//! f32 where it holds every product and the power of two, else f64.

mod align;

use lowbit_formats::accumulate::{Joining, Order, Partial, TensorCore};
use lowbit_formats::kernel::isa::dispatch_on;
use lowbit_formats::{Accumulation, Float};
use rayon::prelude::*;

use crate::accumulate::float::{add_chunks, float};
use crate::accumulate::operands::Extent;
use crate::accumulate::{Shape, one_nan};
use align::{Align, Double, Single, Whole, power};

/// Columns whose sums are made together, where there are so many; else a quarter of them.
const WIDE: usize = 64;
const NARROW: usize = 16;

/// Rows of the output that a thread makes together.
const ROWS: usize = 4;

/// The exponent of no products, below every other.
const NOTHING: i16 = -300;

/// The exponent that an accumulator is aligned by.
#[inline(always)]
fn exponent_of_sum(sum: f32) -> i32 {
    ((sum.to_bits() >> 23 & 0xFF) as i32).max(1) - 127
}

/// A part of a block's products: the largest exponent, and the sum in units of
/// `2^(exponent - fraction_bits)`.
type Part<const T: usize> = ([i32; T], [f64; T]);

/// Numbers of some rows or columns with the exponents that they are aligned by.
#[derive(Clone, Copy)]
struct Aligned<'a, X, E> {
    numbers: &'a [X],
    exponents: &'a [E],
}

impl<X, E> Aligned<'_, X, E> {
    #[inline(always)]
    fn range(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            numbers: &self.numbers[range.clone()],
            exponents: &self.exponents[range],
        }
    }
}

type Row<'a> = Aligned<'a, f32, i16>;
type Columns<'a, const T: usize> = Aligned<'a, [f32; T], [i16; T]>;

/// The largest exponents of every `step`-th product.
#[inline(always)]
fn largest<const T: usize>(row: &[i16], columns: &[[i16; T]], step: usize) -> [i32; T] {
    let mut largest = [NOTHING; T];
    for k in (0..row.len()).step_by(step) {
        let (a, line) = (row[k], &columns[k]);
        for j in 0..T {
            largest[j] = largest[j].max(a + line[j]);
        }
    }
    let mut wide = [0; T];
    for j in 0..T {
        wide[j] = i32::from(largest[j]);
    }
    wide
}

/// What a unit does with a block.
#[derive(Clone, Copy)]
struct Arithmetic {
    addends: usize,
    fraction: i32,
    joining: Joining,
}

/// The products of a block from one of the first on, as many apart as there are parts.
#[inline(always)]
fn part<A: Align, const T: usize>(
    fraction: i32,
    row: Row<'_>,
    columns: Columns<'_, T>,
    [from, parts]: [usize; 2],
) -> Part<T> {
    let all = from.min(row.numbers.len())..row.numbers.len();
    let (row, columns) = (row.range(all.clone()), columns.range(all));
    let exponents = largest(row.exponents, columns.exponents, parts);
    let mut up = [0; T];
    for j in 0..T {
        up[j] = fraction - exponents[j];
    }
    let products = A::sums(row.numbers, columns.numbers, parts, &up);
    (exponents, products)
}

/// Adds blocks of products to the accumulators.
#[inline(always)]
fn add_blocks<A: Align, const T: usize>(
    unit: Arithmetic,
    row: Row<'_>,
    columns: Columns<'_, T>,
    sums: &mut [f32; T],
) {
    let Arithmetic {
        addends, fraction, ..
    } = unit;
    for first in (0..row.numbers.len()).step_by(addends) {
        let block = first..row.numbers.len().min(first + addends);
        let (row, columns) = (row.range(block.clone()), columns.range(block));
        match unit.joining {
            Joining::Together { mantissa } => {
                let mut shared = largest(row.exponents, columns.exponents, 1);
                let mut up = [0; T];
                for j in 0..T {
                    shared[j] = shared[j].max(exponent_of_sum(sums[j]));
                    up[j] = fraction - shared[j];
                }
                let products = A::sums(row.numbers, columns.numbers, 1, &up);
                together::<A, T>((shared, products), [fraction, mantissa as i32], sums);
            }
            Joining::Apart { parts } => {
                let (mut exponents, mut products) =
                    part::<A, T>(fraction, row, columns, [0, parts]);
                for from in 1..parts {
                    let other = part::<A, T>(fraction, row, columns, [from, parts]);
                    add_part(&mut exponents, &mut products, other);
                }
                apart((exponents, products), parts > 1, sums);
            }
        }
    }
}

/// Adds the sum of a block to the accumulators in units of `2^(exponent - fraction)` and cuts them to
/// so many bits: [`Joining::Together`].
#[inline(always)]
fn together<A: Align, const T: usize>(
    (exponents, products): Part<T>,
    [fraction, mantissa]: [i32; 2],
    sums: &mut [f32; T],
) {
    let kept = u64::MAX << (52 - mantissa);
    let (least, smallest) = (power(-126), power(-126 - mantissa));
    let per_smallest = power(126 + mantissa);
    for j in 0..T {
        let unit = exponents[j] - fraction;
        let sum = products[j] + (f64::from(sums[j]) * power(-unit)).trunc();
        let sum = f64::from_bits(sum.to_bits() & kept) * power(unit);
        let subnormal = A::SUBNORMAL && sum.abs() < least;
        let sum = if subnormal {
            (sum * per_smallest).trunc() * smallest
        } else {
            sum
        };
        sums[j] = sum as f32;
    }
}

/// Adds a further part of a block, both cut down to multiples of the larger unit.
#[inline(always)]
fn add_part<const T: usize>(exponents: &mut [i32; T], products: &mut [f64; T], other: Part<T>) {
    for j in 0..T {
        let larger = exponents[j].max(other.0[j]);
        let a = products[j] * power(exponents[j] - larger);
        let b = other.1[j] * power(other.0[j] - larger);
        products[j] = a.floor() + b.floor();
        exponents[j] = larger;
    }
}

/// Adds the sum of a block to the accumulators: [`Joining::Apart`].
#[inline(always)]
fn apart<const T: usize>((exponents, products): Part<T>, drops: bool, sums: &mut [f32; T]) {
    for j in 0..T {
        let own = exponent_of_sum(sums[j]);
        let larger = exponents[j].max(own);
        let products = (products[j] * power(7 + exponents[j] - larger)).floor();
        let kept = (f64::from(sums[j]) * power(24 - larger)).floor();
        let kept = if drops && own < larger - 25 {
            0.0
        } else {
            kept
        };
        sums[j] = ((products + kept * 128.0) * power(larger - 31)) as f32;
    }
}

/// A matrix with the exponents that its numbers are aligned by.
struct Matrix<X, E> {
    numbers: Vec<X>,
    exponents: Vec<E>,
}

/// The exponent of a number of a format with this least one.
#[inline(always)]
fn exponent(x: f32, least: i16) -> i16 {
    let exponent = (x.to_bits() >> 23 & 0xFF) as i16 - 127;
    if x == 0.0 { -126 } else { exponent.max(least) }
}

impl Matrix<f32, i16> {
    /// The left matrix, as it is.
    fn rows(unit: &TensorCore, numbers: &[f32]) -> Self {
        let least = unit.least_exponents()[0] as i16;
        let numbers: Vec<f32> = numbers.iter().map(|&x| unit.operand(x)).collect();
        let exponents = numbers.iter().map(|&x| exponent(x, least)).collect();
        Self { numbers, exponents }
    }
}

impl<const T: usize> Matrix<[f32; T], [i16; T]> {
    /// The right matrix, `T` columns after `T` columns, with zeros beyond the last.
    fn columns(unit: &TensorCore, shape: &Shape, numbers: &[f32]) -> Self {
        let least = unit.least_exponents()[1] as i16;
        let groups = shape.columns.div_ceil(T);
        let mut lines = vec![[0.0; T]; groups * shape.inner];
        for (group, lines) in lines.chunks_exact_mut(shape.inner).enumerate() {
            let first = group * T;
            let width = T.min(shape.columns - first);
            for (line, row) in lines.iter_mut().zip(numbers.chunks_exact(shape.columns)) {
                for (to, &x) in line.iter_mut().zip(&row[first..][..width]) {
                    *to = unit.operand(x);
                }
            }
        }
        let exponents = lines.iter().map(|line| line.map(|x| exponent(x, least)));
        let exponents = exponents.collect();
        Self {
            numbers: lines,
            exponents,
        }
    }
}

/// The products to be made.
struct Work<'a> {
    unit: &'a TensorCore,
    /// The products of a chunk and the format that chunks are summed in.
    chunks: Option<(usize, &'a Float)>,
    shape: &'a Shape,
    left: Matrix<f32, i16>,
    right: &'a [f32],
}

impl Work<'_> {
    fn run<A: Align>(&self, output: &mut [f32]) {
        if self.shape.columns > NARROW {
            self.run_wide::<A, WIDE>(output);
        } else {
            self.run_wide::<A, NARROW>(output);
        }
    }

    fn run_wide<A: Align, const T: usize>(&self, output: &mut [f32]) {
        let Shape { inner, columns, .. } = *self.shape;
        let right = Matrix::<[f32; T], [i16; T]>::columns(self.unit, self.shape, self.right);
        let groups = output.par_chunks_mut(ROWS * columns).enumerate();
        groups.for_each(|(at, output)| {
            for first in (0..columns).step_by(T) {
                let lines = first / T * inner..(first / T + 1) * inner;
                let right = Aligned {
                    numbers: &right.numbers[lines.clone()],
                    exponents: &right.exponents[lines],
                };
                for (row, output) in output.chunks_exact_mut(columns).enumerate() {
                    let numbers = (at * ROWS + row) * inner..(at * ROWS + row + 1) * inner;
                    let left = Aligned {
                        numbers: &self.left.numbers[numbers.clone()],
                        exponents: &self.left.exponents[numbers],
                    };
                    let sums = self.sums::<A, T>(left, right);
                    for (output, sum) in output[first..].iter_mut().zip(sums) {
                        *output = one_nan(sum);
                    }
                }
            }
        });
    }

    /// The sums of a row with some columns.
    fn sums<A: Align, const T: usize>(&self, row: Row<'_>, columns: Columns<'_, T>) -> [f32; T] {
        let unit = Arithmetic {
            addends: self.unit.addends(),
            fraction: self.unit.fraction_bits() as i32,
            joining: self.unit.joining(),
        };
        let add = |products: std::ops::Range<usize>| {
            let mut sums = [0.0; T];
            dispatch_on(
                (unit, row.range(products.clone()), columns.range(products)),
                &mut sums,
                #[inline(always)]
                |(unit, row, columns), sums| add_blocks::<A, T>(unit, row, columns, sums),
            );
            sums
        };
        let Some((size, outer)) = self.chunks else {
            return add(0..row.numbers.len());
        };
        let mut all = [0.0; T];
        for first in (0..row.numbers.len()).step_by(size) {
            let end = row.numbers.len().min(first.saturating_add(size));
            add_chunks(outer, &mut all, &add(first..end));
        }
        all
    }
}

/// Makes the products, if they are those of a matrix unit and all numbers are finite.
pub(super) fn product(
    accumulation: &Accumulation,
    shape: &Shape,
    [left, right]: [&[f32]; 2],
    extents: [Extent; 2],
    output: &mut [f32],
) -> bool {
    let Partial::TensorCore(unit) = accumulation.partial() else {
        return false;
    };
    let chunks = match accumulation.order() {
        Order::Chunked {
            size,
            outer: Some(outer),
        } => match float(outer) {
            Some(outer) => Some((*size, outer)),
            None => return false,
        },
        _ => None,
    };
    let [a, b] = extents;
    // AMD's products beyond f32 are infinite.
    let apart = matches!(unit.joining(), Joining::Apart { .. });
    if !a.finite() || !b.finite() || apart && a.highest + b.highest > 126 {
        return false;
    }
    let work = Work {
        unit,
        chunks,
        shape,
        left: Matrix::rows(unit, left),
        right,
    };
    // A power of two that f32 has aligns the smallest product; operands that are cut to tf32 have no
    // more than its bits.
    let fraction = unit.fraction_bits() as i32;
    let bits = |extent: Extent| match unit.takes() {
        ["tf32", ..] => extent.bits.min(11),
        _ => extent.bits,
    };
    let single = a.lowest + b.lowest >= fraction - 127
        && a.highest + b.highest < 127
        && bits(a) + bits(b) <= 24;
    if !single {
        work.run::<Double>(output);
    } else if unit.addends() << (fraction + 2) <= 1 << 24 {
        work.run::<Single>(output);
    } else {
        work.run::<Whole>(output);
    }
    true
}
