//! Rows of sums, made in an order.

use lowbit_formats::accumulate::Order;
use lowbit_formats::kernel::isa::dispatch_on;
use rayon::prelude::*;

use crate::accumulate::Shape;

/// Columns whose sums are made together: they stay in the first cache, and with the right matrix's
/// columns in the second one.
const COLUMNS: usize = 256;

/// Rows of the output that a thread makes together.
const ROWS: usize = 4;

/// Products that are added to the sums of one row before those of the next.
const PRODUCTS: usize = 16;

/// Sums that are in registers together.
const WIDE: usize = 128;

/// Sums that are attempted together.
const LINE: usize = 32;

/// Sums that are made in pairs together.
const PAIRS: usize = 64;

/// Sums that wait for another of as many products, each of twice as many as that before.
const LEVELS: usize = usize::BITS as usize;

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

    /// Whether [`attempt`](Self::attempt) is worth it.
    const ATTEMPTS: bool = false;

    /// Products that are attempted together.
    #[inline(always)]
    fn together(self) -> usize {
        1
    }

    /// The same in a cheaper way, and whether that may be wrong.
    #[inline(always)]
    fn attempt(self, sum: Self::Sum, a: Self::Operand, b: Self::Operand) -> (Self::Sum, bool) {
        (self.add_product(sum, a, b), false)
    }

    /// `R(sum + other)`.
    fn add(self, sum: Self::Sum, other: Self::Sum) -> Self::Sum;

    /// `R(sum - other)`.
    fn subtract(self, sum: Self::Sum, other: Self::Sum) -> Self::Sum;
}

/// Adds sums of chunks to those of the chunks before.
pub(super) type AddChunks<'a, S> = &'a (dyn Fn(&mut [S], &[S]) + Sync);

/// Sums of some rows, at the beginning of a cache line.
#[repr(align(64))]
struct Sums<S>([[S; COLUMNS]; ROWS]);

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
        let groups = output.par_chunks_mut(ROWS * columns);
        groups
            .zip(self.left.par_chunks(ROWS * inner))
            .for_each(|(output, rows)| {
                let mut sums = Sums([[S::ZERO; COLUMNS]; ROWS]);
                for first in (0..columns).step_by(COLUMNS) {
                    let width = COLUMNS.min(columns - first);
                    let sums = &mut sums.0[..rows.len() / inner];
                    sums.as_flattened_mut().fill(S::ZERO);
                    self.sums(rows, first, sums, width);
                    for (row, sums) in output.chunks_exact_mut(columns).zip(&*sums) {
                        for (output, &sum) in row[first..][..width].iter_mut().zip(sums) {
                            *output = finish(sum);
                        }
                    }
                }
            });
    }

    /// The sums of some rows with `width` columns from `first` on; they are zero before.
    fn sums(
        &self,
        rows: &[S::Operand],
        first: usize,
        sums: &mut [[S::Sum; COLUMNS]],
        width: usize,
    ) {
        let Shape { inner, columns, .. } = *self.shape;
        let right = &self.right[first..];
        match self.order {
            Order::Sequential => self.add_rows(rows, first, 0..inner, sums, width),
            Order::Pairwise => {
                for (row, sums) in rows.chunks_exact(inner).zip(sums) {
                    pairwise(self.steps, (row, right, columns), &mut sums[..width]);
                }
            }
            Order::Kahan => {
                for (row, sums) in rows.chunks_exact(inner).zip(sums) {
                    kahan(self.steps, (row, right, columns), &mut sums[..width]);
                }
            }
            Order::Chunked { size, .. } => {
                let mut of_chunk = Sums([[S::ZERO; COLUMNS]; ROWS]);
                let of_chunk = &mut of_chunk.0[..sums.len()];
                for start in (0..inner).step_by(*size) {
                    let end = inner.min(start.saturating_add(*size));
                    of_chunk.as_flattened_mut().fill(S::ZERO);
                    self.add_rows(rows, first, start..end, of_chunk, width);
                    for (sums, of_chunk) in sums.iter_mut().zip(&*of_chunk) {
                        (self.add_chunks)(&mut sums[..width], &of_chunk[..width]);
                    }
                }
            }
        }
    }

    /// Adds products of some rows, a few at a time for all rows, so that the right matrix's numbers
    /// come from the first cache for all but one.
    fn add_rows(
        &self,
        rows: &[S::Operand],
        first: usize,
        products: std::ops::Range<usize>,
        sums: &mut [[S::Sum; COLUMNS]],
        width: usize,
    ) {
        let Shape { inner, columns, .. } = *self.shape;
        let end = products.end;
        for start in products.step_by(PRODUCTS) {
            let end = end.min(start + PRODUCTS);
            let right = &self.right[start * columns + first..];
            for (row, sums) in rows.chunks_exact(inner).zip(&mut *sums) {
                let row = &row[start..end];
                add_products(self.steps, (row, right, columns), &mut sums[..width]);
            }
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
    let (row, right, columns) = operands;
    if !S::ATTEMPTS {
        return add_all(steps, operands, sums);
    }
    let whole = sums.len() / LINE * LINE;
    let (lines, rest) = sums.split_at_mut(whole);
    attempt_all(steps, operands, lines);
    if !rest.is_empty() && !row.is_empty() {
        add_all(steps, (row, &right[whole..], columns), rest);
    }
}

/// As [`add_all`], for whole lines of sums; those of a line are made again where an attempt may have
/// been wrong.
fn attempt_all<S: Steps>(steps: S, operands: Operands<'_, S::Operand>, sums: &mut [S::Sum]) {
    dispatch_on(
        operands,
        sums,
        #[inline(always)]
        move |(row, right, columns), sums| {
            let together = steps.together();
            for (k, row) in row.chunks(together).enumerate() {
                let right = &right[k * together * columns..];
                for (at, sums) in sums.as_chunks_mut::<LINE>().0.iter_mut().enumerate() {
                    attempt_line(steps, (row, &right[at * LINE..], columns), sums);
                }
            }
        },
    );
}

/// A few products of a line.
#[inline(always)]
fn attempt_line<S: Steps>(
    steps: S,
    (row, right, columns): Operands<'_, S::Operand>,
    sums: &mut [S::Sum; LINE],
) {
    let mut attempted = *sums;
    let mut doubtful = [0u32; LINE];
    for (k, &a) in row.iter().enumerate() {
        let line = &right[k * columns..][..LINE];
        for j in 0..LINE {
            let (sum, doubt) = steps.attempt(attempted[j], a, line[j]);
            attempted[j] = sum;
            doubtful[j] |= u32::from(doubt);
        }
    }
    if doubtful.iter().fold(0, |any, &doubt| any | doubt) == 0 {
        *sums = attempted;
        return;
    }
    for (k, &a) in row.iter().enumerate() {
        let line = &right[k * columns..][..LINE];
        for j in 0..LINE {
            sums[j] = steps.add_product(sums[j], a, line[j]);
        }
    }
}

/// Adds the products of a row in the way that is always right.
fn add_all<S: Steps>(steps: S, operands: Operands<'_, S::Operand>, sums: &mut [S::Sum]) {
    dispatch_on(
        operands,
        sums,
        #[inline(always)]
        move |(row, right, columns), sums| {
            let (wide, rest) = sums.as_chunks_mut::<WIDE>();
            let done = wide.len() * WIDE;
            for (at, sums) in wide.iter_mut().enumerate() {
                // A copy of known length stays in registers.
                let mut made = *sums;
                for (k, &a) in row.iter().enumerate() {
                    let line = &right[k * columns + at * WIDE..][..WIDE];
                    for j in 0..WIDE {
                        made[j] = steps.add_product(made[j], a, line[j]);
                    }
                }
                *sums = made;
            }
            if rest.is_empty() {
                return;
            }
            for (k, &a) in row.iter().enumerate() {
                let line = &right[k * columns + done..][..rest.len()];
                for (sum, &b) in rest.iter_mut().zip(line) {
                    *sum = steps.add_product(*sum, a, b);
                }
            }
        },
    );
}

/// Adds the products of a row in pairs.
fn pairwise<S: Steps>(steps: S, operands: Operands<'_, S::Operand>, sums: &mut [S::Sum]) {
    dispatch_on(
        operands,
        sums,
        #[inline(always)]
        move |(row, right, columns), sums| {
            let mut line = [[S::ZERO; PAIRS]; LEVELS];
            for (at, sums) in sums.chunks_mut(PAIRS).enumerate() {
                let right = &right[at * PAIRS..];
                if let Ok(sums) = <&mut [S::Sum; PAIRS]>::try_from(&mut *sums) {
                    *sums = pairs(steps, (row, right, columns), &mut line);
                    continue;
                }
                for (j, sum) in sums.iter_mut().enumerate() {
                    let mut line = [[S::ZERO; 1]; LEVELS];
                    [*sum] = pairs(steps, (row, &right[j..], columns), &mut line);
                }
            }
        },
    );
}

/// Neighbours are added as soon as both are there: after product `k + 1`, as often as that number is
/// even. What is left over at last goes from the smaller sums to the larger.
#[inline(always)]
fn pairs<S: Steps, const T: usize>(
    steps: S,
    (row, right, columns): Operands<'_, S::Operand>,
    waiting: &mut [[S::Sum; T]; LEVELS],
) -> [S::Sum; T] {
    for (k, &a) in row.iter().enumerate() {
        let line = &right[k * columns..][..T];
        let mut sum = [S::ZERO; T];
        for j in 0..T {
            sum[j] = steps.add_product(S::ZERO, a, line[j]);
        }
        let level = k.trailing_ones() as usize;
        for before in &waiting[..level] {
            for j in 0..T {
                sum[j] = steps.add(before[j], sum[j]);
            }
        }
        waiting[level] = sum;
    }
    let mut left = (0..LEVELS).filter(|level| row.len() >> level & 1 == 1);
    let Some(first) = left.next() else {
        return [S::ZERO; T];
    };
    let mut sum = waiting[first];
    for level in left {
        for j in 0..T {
            sum[j] = steps.add(waiting[level][j], sum[j]);
        }
    }
    sum
}

/// Adds the products of a row, compensated.
fn kahan<S: Steps>(steps: S, operands: Operands<'_, S::Operand>, sums: &mut [S::Sum]) {
    dispatch_on(
        operands,
        sums,
        #[inline(always)]
        move |(row, right, columns), sums| {
            for (at, sums) in sums.chunks_mut(WIDE).enumerate() {
                let right = &right[at * WIDE..];
                if let Ok(sums) = <&mut [S::Sum; WIDE]>::try_from(&mut *sums) {
                    *sums = compensated(steps, (row, right, columns));
                    continue;
                }
                for (j, sum) in sums.iter_mut().enumerate() {
                    [*sum] = compensated(steps, (row, &right[j..], columns));
                }
            }
        },
    );
}

#[inline(always)]
fn compensated<S: Steps, const T: usize>(
    steps: S,
    (row, right, columns): Operands<'_, S::Operand>,
) -> [S::Sum; T] {
    let (mut sums, mut errors) = ([S::ZERO; T], [S::ZERO; T]);
    for (k, &a) in row.iter().enumerate() {
        let line = &right[k * columns..][..T];
        for j in 0..T {
            let before = sums[j];
            let y = steps.add_product(errors[j], a, line[j]);
            sums[j] = steps.add(before, y);
            errors[j] = steps.add(steps.subtract(before, sums[j]), y);
        }
    }
    sums
}
