//! Products of matrices, as many pairs as there are.
//!
//! The register tiles are those of convolutions (`tile`); every sum runs over the inner index from its
//! beginning to its end.

// Register tiles work on raw pointers; each call says why they are in bounds.
#![allow(unsafe_code)]

use rayon::prelude::*;

use crate::scratch;
use crate::tile::{Run, Sums, SumsTiles, Terms, channel_tiles, vectors_of};
use crate::vector::LANES;

/// Rows whose sums one thread makes at a time.
const ROWS: usize = 128;

/// How many matrices there are, and their sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pairs of matrices.
    pub matrices: usize,
    /// Rows of the left ones and of the products.
    pub rows: usize,
    /// Columns of the left ones, rows of the right ones.
    pub inner: usize,
    /// Columns of the right ones and of the products.
    pub columns: usize,
}

/// Matrices whose numbers lie at distances of their own.
#[derive(Debug, Clone, Copy)]
pub struct Matrices<'a> {
    /// The numbers.
    pub numbers: &'a [f32],
    /// From one matrix to the next, one row to the next, one column to the next.
    pub strides: [usize; 3],
}

impl Matrices<'_> {
    /// Each with its rows for columns.
    pub fn turned(self) -> Self {
        let [matrix, row, column] = self.strides;
        Self {
            strides: [matrix, column, row],
            ..self
        }
    }

    /// So many numbers of a row, from a column on.
    fn copy_row(&self, matrix: usize, row: usize, column: usize, to: &mut [f32]) {
        let [of_matrix, of_row, step] = self.strides;
        let from = &self.numbers[matrix * of_matrix + row * of_row + column * step..];
        match step {
            0 => to.fill(from[0]),
            1 => to.copy_from_slice(&from[..to.len()]),
            _ => {
                for (to, x) in to.iter_mut().zip(from.iter().step_by(step)) {
                    *to = *x;
                }
            }
        }
    }
}

/// `left right` of each pair; `output` is `[matrices][rows][columns]`.
///
/// # Panics
/// If a slice is shorter than the shape says.
pub fn matmul(shape: &Shape, left: Matrices<'_>, right: Matrices<'_>, output: &mut [f32]) {
    let &Shape {
        matrices,
        rows,
        inner,
        columns,
    } = shape;
    assert_eq!(output.len(), matrices * rows * columns);
    if output.is_empty() || inner == 0 {
        output.fill(0.0);
        return;
    }
    let of_right = vectors_of(columns) * LANES * inner;
    let mut packed = scratch::take(matrices * of_right);
    let each = packed.par_chunks_mut(of_right).enumerate();
    each.for_each(|(matrix, packed)| pack_right(shape, right, matrix, packed));
    let parts = output
        .par_chunks_mut(rows * columns)
        .zip(packed.par_chunks(of_right));
    parts.enumerate().for_each(|(matrix, (output, right))| {
        let parts = output.par_chunks_mut(ROWS * columns).enumerate();
        parts.for_each(|(part, output)| {
            rows_of_products(shape, (left, matrix, part * ROWS), right, output);
        });
    });
}

/// `[tiles of columns][inner][width]`
fn pack_right(shape: &Shape, right: Matrices<'_>, matrix: usize, mut packed: &mut [f32]) {
    for tile in channel_tiles(shape.columns) {
        let (block, rest) = packed.split_at_mut(tile.width() * shape.inner);
        for (row, line) in block.chunks_exact_mut(tile.width()).enumerate() {
            right.copy_row(matrix, row, tile.first, &mut line[..tile.channels]);
            line[tile.channels..].fill(0.0);
        }
        packed = rest;
    }
}

/// The products' rows from `first` on.
fn rows_of_products(
    shape: &Shape,
    (left, matrix, first): (Matrices<'_>, usize, usize),
    mut right: &[f32],
    output: &mut [f32],
) {
    let (inner, columns) = (shape.inner, shape.columns);
    let rows = output.len() / columns;
    // `[ceil(inner / 16)][rows][16]`
    let mut packed = scratch::take(inner.div_ceil(LANES) * rows * LANES);
    for (block, lines) in packed.chunks_exact_mut(rows * LANES).enumerate() {
        let start = block * LANES;
        let count = LANES.min(inner - start);
        for (row, line) in lines.chunks_exact_mut(LANES).enumerate() {
            left.copy_row(matrix, first + row, start, &mut line[..count]);
        }
    }
    let runs: Vec<Run> = (0..inner)
        .step_by(LANES)
        .map(|start| Run {
            offset: start * rows,
            length: LANES.min(inner - start),
        })
        .collect();
    let tiles = SumsTiles::new(LANES, Terms::Numbers);
    for tile in channel_tiles(columns) {
        let sums = Sums {
            input: packed.as_ptr(),
            input_row: 0,
            runs: &runs,
            weights: right.as_ptr(),
            bias: std::ptr::null(),
            output: output[tile.first..].as_mut_ptr(),
            output_step: [columns, 0],
            channels: tile.channels,
        };
        // SAFETY: the left rows are packed as the runs say, the right ones in whole tiles, and the output has
        // a line of all columns for each row.
        unsafe { tiles.run(tile.vectors, LANES, [1, rows], sums) };
        right = &right[tile.width() * inner..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, whose sums are exact in any order.
    #[test]
    fn products_are_the_exact_ones_however_matrices_lie() {
        let sizes = [
            (1, 1, 1, 1),
            (3, 5, 17, 33),
            (2, 130, 40, 16),
            (2, 300, 3, 7),
        ];
        for (matrices, rows, inner, columns) in sizes {
            let shape = Shape {
                matrices,
                rows,
                inner,
                columns,
            };
            let whole = |count: usize, step: usize| -> Vec<f32> {
                (0..count)
                    .map(|i| ((i * step) % 31) as f32 - 15.0)
                    .collect()
            };
            let left = whole(matrices * rows * inner, 7);
            let right = whole(matrices * inner * columns, 11);
            let by_rows = |numbers, rows, columns| Matrices {
                numbers,
                strides: [rows * columns, columns, 1],
            };
            let by_columns = |numbers, rows, columns| by_rows(numbers, columns, rows).turned();
            for (a, b) in [
                (by_rows(&left, rows, inner), by_rows(&right, inner, columns)),
                (
                    by_columns(&left, rows, inner),
                    by_columns(&right, inner, columns),
                ),
            ] {
                let mut output = vec![f32::NAN; matrices * rows * columns];
                matmul(&shape, a, b, &mut output);
                let at = |x: &Matrices<'_>, matrix: usize, row: usize, column: usize| {
                    let [of_matrix, of_row, of_column] = x.strides;
                    x.numbers[matrix * of_matrix + row * of_row + column * of_column]
                };
                for (i, found) in output.into_iter().enumerate() {
                    let (row, column) = (i / columns % rows, i % columns);
                    let matrix = i / columns / rows;
                    let terms =
                        (0..inner).map(|j| at(&a, matrix, row, j) * at(&b, matrix, j, column));
                    assert_eq!(found, terms.sum::<f32>(), "{shape:?} {i}");
                }
            }
        }
    }

    /// One number for all: with ones, the sums of the other's columns.
    #[test]
    fn a_number_may_stand_for_all_of_a_row() {
        let shape = Shape {
            matrices: 1,
            rows: 2,
            inner: 20,
            columns: 1,
        };
        let one = Matrices {
            numbers: &[1.0],
            strides: [0; 3],
        };
        let counted: Vec<f32> = (1..=20).map(|i| i as f32).collect();
        let column = Matrices {
            numbers: &counted,
            strides: [20, 1, 1],
        };
        let mut output = [f32::NAN; 2];
        matmul(&shape, one, column, &mut output);
        assert_eq!(output, [210.0; 2]);
    }

    #[test]
    fn sums_of_nothing_are_zero() {
        let shape = Shape {
            matrices: 1,
            rows: 2,
            inner: 0,
            columns: 2,
        };
        let none = Matrices {
            numbers: &[],
            strides: [0; 3],
        };
        let mut output = [f32::NAN; 4];
        matmul(&shape, none, none, &mut output);
        assert_eq!(output, [0.0; 4]);
    }
}
