//! Second moments of what a layer reads.

use lowbit_kernels::Terms;
use lowbit_kernels::linear::{self, Shape, Wanted};

/// Sums over places, of the numbers `x` that a linear layer reads there: of `x x^T` and of `|x|`. Those of
/// a call are made in `f32` by the kernel of linear layers, whose order depends on shapes alone, and added up
/// in `f64`.
#[derive(Debug, Clone)]
pub struct Gram {
    /// Numbers of a place.
    pub(super) columns: usize,
    /// `sum x x^T`, `[columns][columns]`.
    pub(super) sums: Vec<f64>,
    /// `sum |x|`.
    magnitudes: Vec<f64>,
    /// Places.
    count: usize,
}

impl Gram {
    /// Nothing yet, of places of so many numbers.
    pub fn new(columns: usize) -> Self {
        Self {
            columns,
            sums: vec![0.0; columns * columns],
            magnitudes: vec![0.0; columns],
            count: 0,
        }
    }

    /// Adds places, `[count][columns]`.
    pub fn add(&mut self, x: &[f32]) {
        let columns = self.columns;
        let count = x.len() / columns.max(1);
        add_to(&mut self.sums, &products(x, x, [columns, columns], count));
        for row in x.chunks_exact(columns.max(1)) {
            let sums = self.magnitudes.iter_mut().zip(row);
            sums.for_each(|(sum, x)| *sum += f64::from(x.abs()));
        }
        self.count += count;
    }

    /// Numbers of a place.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Places that were added.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether every number that was added is finite, and so are their sums.
    pub fn is_finite(&self) -> bool {
        self.sums.iter().all(|x| x.is_finite())
    }

    /// `sum |W x|^2` of a weight `[rows][columns]`, by products in `f32`.
    pub fn power(&self, weight: &[f32]) -> f64 {
        let columns = self.columns.max(1);
        let rows = weight.len() / columns;
        // By the mean, so that `f32` holds it.
        let count = self.count.max(1) as f64;
        let means: Vec<f32> = self.sums.iter().map(|sum| (sum / count) as f32).collect();
        let turned = (0..weight.len()).map(|i| weight[i % rows * columns + i / rows]);
        let turned: Vec<f32> = turned.collect();
        let made = products(&turned, &means, [rows, columns], columns);
        let terms = made.iter().zip(weight);
        let terms = terms.map(|(&x, &w)| f64::from(x) * f64::from(w));
        (terms.sum::<f64>() * count).max(0.0)
    }

    /// The mean of `|x|` of each number of a place.
    pub(super) fn mean_magnitudes(&self) -> impl Iterator<Item = f64> {
        let count = self.count.max(1) as f64;
        self.magnitudes.iter().map(move |sum| sum / count)
    }

    /// The sums of places whose numbers are divided by these.
    pub fn divided(&self, by: &[f32]) -> Self {
        let mut divided = self.clone();
        let columns = self.columns.max(1);
        for (row, a) in divided.sums.chunks_exact_mut(columns).zip(by) {
            let both = row.iter_mut().zip(by);
            both.for_each(|(sum, b)| *sum /= f64::from(*a) * f64::from(*b));
        }
        let magnitudes = divided.magnitudes.iter_mut().zip(by);
        magnitudes.for_each(|(sum, by)| *sum /= f64::from(*by));
        divided
    }
}

/// `x^T y`, `[of x][of y]`.
pub(super) fn products(x: &[f32], y: &[f32], features: [usize; 2], rows: usize) -> Vec<f32> {
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
    let both = sums.iter_mut().zip(more);
    both.for_each(|(sum, &x)| *sum += f64::from(x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hand() {
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 2.0, 3.0, 4.0]);
        gram.add(&[0.0, -1.0]);
        assert_eq!(gram.sums, [10.0, 14.0, 14.0, 21.0]);
        let means: Vec<f64> = gram.mean_magnitudes().collect();
        assert_eq!(means, [4.0 / 3.0, 7.0 / 3.0]);
        // (1 - 2)^2 + (3 - 4)^2 + (0 + 1)^2, and 1^2 + 3^2 of the second row.
        let power = gram.power(&[1.0, -1.0, -1.0, 0.0]);
        assert!((power - 13.0).abs() < 1e-5, "{power}");
        let halved = gram.divided(&[2.0, 1.0]);
        assert_eq!(halved.sums, [2.5, 7.0, 7.0, 21.0]);
        assert!(gram.is_finite());
    }
}
