//! Second moments of what a layer reads, with what it is to make of it.

use super::gram::{Gram, products};

/// Sums over places of products of numbers, as [`Gram`] makes them.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Numbers that a result sums up.
    pub(super) columns: usize,
    /// Results of a place.
    pub(super) rows: usize,
    /// Of what is read.
    pub(super) gram: Gram,
    /// `sum y x^T`, `[rows][columns]`.
    pub(super) cross: Vec<f64>,
    /// `sum |y|^2`.
    pub(super) power: f64,
}

impl Moments {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            gram: Gram::new(columns),
            cross: vec![0.0; rows * columns],
            power: 0.0,
        }
    }

    /// Adds places: `x` is `[count][columns]`, `y` `[count][rows]`.
    pub(super) fn add(&mut self, x: &[f32], y: &[f32]) {
        let (columns, rows) = (self.columns, self.rows);
        let count = x.len() / columns.max(1);
        self.gram.add(x);
        let crossed = products(x, y, [columns, rows], count);
        for (row, sums) in self.cross.chunks_exact_mut(columns).enumerate() {
            let of_row = crossed.iter().skip(row).step_by(rows);
            sums.iter_mut()
                .zip(of_row)
                .for_each(|(sum, &x)| *sum += f64::from(x));
        }
        self.power += y.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>();
    }

    /// Whether a number is none.
    pub(super) fn are_finite(&self) -> bool {
        self.gram.is_finite() && self.power.is_finite() && self.cross.iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_by_hand() {
        let mut moments = Moments::new(2, 1);
        moments.add(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0]);
        moments.add(&[0.0, 1.0], &[1.0]);
        assert_eq!(moments.gram.sums, [10.0, 14.0, 14.0, 21.0]);
        assert_eq!(moments.cross, [23.0, 35.0]);
        assert_eq!((moments.power, moments.gram.count()), (62.0, 3));
    }
}
