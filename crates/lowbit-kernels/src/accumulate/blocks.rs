//! Rows of sums, made in an order.

use lowbit_formats::accumulate::Order;
use lowbit_formats::kernel::isa::dispatch_on;
use rayon::prelude::*;

use crate::accumulate::Shape;

/// Columns whose sums are made together: they stay in the first cache, and with the right matrix's
/// columns in the second one.
const COLUMNS: usize = 256;

/// Products that a sum takes while it is in a register.
const STEPS: usize = 4;

/// The steps of a sum. Methods are `#[inline(always)]` and without branches, since they become parts
/// of vector loops.
pub(super) trait Steps: Copy + Send + Sync {
    /// A number of a matrix.
    type Operand: Copy + Send + Sync;
    /// A partial sum.
    type Sum: Copy + Send + Sync;

    /// The sum of nothing.
    const ZERO: Self::Sum;

    /// `R(sum + a b)`.
    fn add_product(self, sum: Self::Sum, a: Self::Operand, b: Self::Operand) -> Self::Sum;

    /// `R(sum + other)`.
    fn add(self, sum: Self::Sum, other: Self::Sum) -> Self::Sum;

    /// `R(sum - other)`.
    fn subtract(self, sum: Self::Sum, other: Self::Sum) -> Self::Sum;
}

/// Adds sums of chunks to those of the chunks before.
pub(super) type AddChunks<'a, S> = &'a (dyn Fn(&mut [S], &[S]) + Sync);

/// A matrix product to be made.
pub(super) struct Product<'a, S: Steps> {
    pub(super) steps: S,
    pub(super) order: &'a Order,
    /// For sums in chunks.
    pub(super) add_chunks: AddChunks<'a, S::Sum>,
    pub(super) shape: &'a Shape,
    pub(super) left: &'a [S::Operand],
    pub(super) right: &'a [S::Operand],
}

impl<S: Steps> Product<'_, S> {
    /// Makes all sums and writes `finish(sum)`.
    pub(super) fn run(&self, finish: impl Fn(S::Sum) -> f32 + Sync, output: &mut [f32]) {
        let Shape { inner, columns, .. } = *self.shape;
        let rows = output.par_chunks_mut(columns);
        rows.zip(self.left.par_chunks(inner))
            .for_each(|(output, row)| {
                let mut sums = [S::ZERO; COLUMNS];
                for (block, output) in output.chunks_mut(COLUMNS).enumerate() {
                    let sums = &mut sums[..output.len()];
                    sums.fill(S::ZERO);
                    self.sums(row, block * COLUMNS, sums);
                    for (output, &sum) in output.iter_mut().zip(&*sums) {
                        *output = finish(sum);
                    }
                }
            });
    }

    /// The sums of a row with the columns from `first` on, which are zero before.
    fn sums(&self, row: &[S::Operand], first: usize, sums: &mut [S::Sum]) {
        let columns = self.shape.columns;
        let right = &self.right[first..];
        match self.order {
            Order::Sequential => add_products(self.steps, (row, right, columns), sums),
            Order::Pairwise => self.pairwise(row, right, sums),
            Order::Kahan => kahan(self.steps, (row, right, columns), sums),
            Order::Chunked { size, .. } => {
                let mut of_chunk = [S::ZERO; COLUMNS];
                let of_chunk = &mut of_chunk[..sums.len()];
                for (chunk, row) in row.chunks(*size).enumerate() {
                    let right = &right[chunk * size * columns..];
                    of_chunk.fill(S::ZERO);
                    add_products(self.steps, (row, right, columns), of_chunk);
                    (self.add_chunks)(sums, of_chunk);
                }
            }
        }
    }

    /// Neighbours are added as soon as both are there: after product `k + 1`, as often as that
    /// number is even. What is left over at last goes from the smaller sums to the larger.
    fn pairwise(&self, row: &[S::Operand], right: &[S::Operand], sums: &mut [S::Sum]) {
        let (columns, width) = (self.shape.columns, sums.len());
        let mut waiting: Vec<[S::Sum; COLUMNS]> = Vec::new();
        for (k, a) in row.iter().enumerate() {
            let mut sum = [S::ZERO; COLUMNS];
            let right = &right[k * columns..];
            let a = std::slice::from_ref(a);
            add_products(self.steps, (a, right, columns), &mut sum[..width]);
            waiting.push(sum);
            for _ in 0..(k + 1).trailing_zeros() {
                self.add_last(&mut waiting, width);
            }
        }
        while waiting.len() > 1 {
            self.add_last(&mut waiting, width);
        }
        if let Some(sum) = waiting.first() {
            sums.copy_from_slice(&sum[..width]);
        }
    }

    /// Adds the last two.
    fn add_last(&self, waiting: &mut Vec<[S::Sum; COLUMNS]>, width: usize) {
        if let Some(last) = waiting.pop()
            && let Some(before) = waiting.last_mut()
        {
            let steps = self.steps;
            add_sums(
                #[inline(always)]
                |a, b| steps.add(a, b),
                &mut before[..width],
                &last[..width],
            );
        }
    }
}

/// `sums[j] = add(sums[j], others[j])`.
pub(super) fn add_sums<S: Copy>(add: impl Fn(S, S) -> S, sums: &mut [S], others: &[S]) {
    dispatch_on(
        others,
        sums,
        #[inline(always)]
        move |others, sums| {
            for (sum, &other) in sums.iter_mut().zip(others) {
                *sum = add(*sum, other);
            }
        },
    );
}

/// The numbers of a row, the right matrix from its first column on, and that matrix's columns.
type Operands<'a, T> = (&'a [T], &'a [T], usize);

/// Adds the products of a row, one after another.
fn add_products<S: Steps>(steps: S, operands: Operands<'_, S::Operand>, sums: &mut [S::Sum]) {
    dispatch_on(
        operands,
        sums,
        #[inline(always)]
        move |(row, right, columns), sums| {
            let width = sums.len();
            let (several, rest) = row.as_chunks::<STEPS>();
            for (k, &[a, b, c, d]) in several.iter().enumerate() {
                let line = |i| &right[(k * STEPS + i) * columns..][..width];
                let (w, x, y, z) = (line(0), line(1), line(2), line(3));
                for j in 0..width {
                    let sum = steps.add_product(sums[j], a, w[j]);
                    let sum = steps.add_product(sum, b, x[j]);
                    let sum = steps.add_product(sum, c, y[j]);
                    sums[j] = steps.add_product(sum, d, z[j]);
                }
            }
            let done = row.len() - rest.len();
            for (k, &a) in rest.iter().enumerate() {
                let line = &right[(done + k) * columns..][..width];
                for (sum, &b) in sums.iter_mut().zip(line) {
                    *sum = steps.add_product(*sum, a, b);
                }
            }
        },
    );
}

/// Adds the products of a row, compensated.
fn kahan<S: Steps>(steps: S, operands: Operands<'_, S::Operand>, sums: &mut [S::Sum]) {
    let mut errors = [S::ZERO; COLUMNS];
    dispatch_on(
        operands,
        (sums, &mut errors),
        #[inline(always)]
        move |(row, right, columns), (sums, errors)| {
            for (k, &a) in row.iter().enumerate() {
                let line = &right[k * columns..][..sums.len()];
                for ((sum, error), &b) in sums.iter_mut().zip(errors.iter_mut()).zip(line) {
                    let before = *sum;
                    let y = steps.add_product(*error, a, b);
                    *sum = steps.add(before, y);
                    *error = steps.add(steps.subtract(before, *sum), y);
                }
            }
        },
    );
}
