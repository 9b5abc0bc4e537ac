//! Second moments of what a layer reads, with what it is to make of it.

use lowbit_kernels::Terms;
use lowbit_kernels::linear::{self, Shape, Wanted};

/// Sums over places of products of numbers. Those of a call are made in `f32` by the kernel of linear
/// layers, whose order depends on shapes alone, and added up in `f64`.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Numbers that a result sums up.
    pub(super) columns: usize,
    /// Results of a place.
    pub(super) rows: usize,
    /// `sum x x^T`, `[columns][columns]`.
    pub(super) gram: Vec<f64>,
    /// `sum y x^T`, `[rows][columns]`.
    pub(super) cross: Vec<f64>,
    /// `sum |y|^2`.
    pub(super) power: f64,
    /// Places.
    pub(super) count: usize,
}

impl Moments {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            gram: vec![0.0; columns * columns],
            cross: vec![0.0; rows * columns],
            power: 0.0,
            count: 0,
        }
    }

    /// Adds places: `x` is `[count][columns]`, `y` `[count][rows]`.
    pub(super) fn add(&mut self, x: &[f32], y: &[f32]) {
        let (columns, rows) = (self.columns, self.rows);
        let count = x.len() / columns.max(1);
        add_to(&mut self.gram, &products(x, x, [columns, columns], count));
        let crossed = products(x, y, [columns, rows], count);
        for (row, sums) in self.cross.chunks_exact_mut(columns).enumerate() {
            let of_row = crossed.iter().skip(row).step_by(rows);
            sums.iter_mut()
                .zip(of_row)
                .for_each(|(sum, &x)| *sum += f64::from(x));
        }
        self.power += y.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>();
        self.count += count;
    }

    /// Whether a number is none.
    pub(super) fn are_finite(&self) -> bool {
        let all = self.gram.iter().chain(&self.cross);
        self.power.is_finite() && all.copied().all(f64::is_finite)
    }
}

/// `x^T y`, `[of x][of y]`.
fn products(x: &[f32], y: &[f32], features: [usize; 2], rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; features[0] * features[1]];
    let none = vec![0.0; out.len()];
    let wanted = Wanted {
        input: None,
        weight: Some(&mut out),
        bias: None,
        terms: Terms::Numbers,
    };
    let shape = Shape { rows, features };
    linear::backward(&shape, [x, &none, y], [None; 3], [None, None], wanted);
    out
}

fn add_to(sums: &mut [f64], more: &[f32]) {
    sums.iter_mut()
        .zip(more)
        .for_each(|(sum, &x)| *sum += f64::from(x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_by_hand() {
        let mut moments = Moments::new(2, 1);
        moments.add(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0]);
        moments.add(&[0.0, 1.0], &[1.0]);
        assert_eq!(moments.gram, [10.0, 14.0, 14.0, 21.0]);
        assert_eq!(moments.cross, [23.0, 35.0]);
        assert_eq!((moments.power, moments.count), (62.0, 3));
    }
}
