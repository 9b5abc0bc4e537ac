//! A factor of the inverse of a positive definite matrix. No library that the workspace keeps has one in
//! `f64` whose sums have one order.

/// Numbers that a sum adds up side by side.
const LANES: usize = 8;

/// The upper triangle `U` with `A^-1 = U^T U` and a positive diagonal, of a symmetric positive definite
/// `A`, both `[n][n]`: what GPTQ calls the Cholesky factor of the inverse (arXiv 2210.17323, step 3).
///
/// With rows and columns in the opposite order, `A` is `M M^T` of a lower triangle `M`; then `U` is `M^-1`
/// in the opposite order again, and no inverse is factored. `None` where `A` is not positive definite.
pub(super) fn inverse_factor(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut m: Vec<f64> = a.iter().rev().copied().collect();
    factor(&mut m, n)?;
    let mut inverse = inverse_of_lower(&m, n);
    inverse.reverse();
    Some(inverse)
}

/// Replaces a symmetric positive definite matrix by the lower triangle `L` of which it is `L L^T`, with
/// anything above it.
fn factor(a: &mut [f64], n: usize) -> Option<()> {
    for i in 0..n {
        let (before, rest) = a.split_at_mut(i * n);
        let row = &mut rest[..n];
        for j in 0..i {
            let other = &before[j * n..][..n];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let square = row[i] - dot(&row[..i], &row[..i]);
        if square <= 0.0 || !square.is_finite() {
            return None;
        }
        row[i] = square.sqrt();
    }
    Some(())
}

/// The inverse of a lower triangle, with zeros above it.
fn inverse_of_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        let (before, rest) = inverse.split_at_mut(i * n);
        let (row, of_l) = (&mut rest[..n], &l[i * n..][..n]);
        for (k, &factor) in of_l[..i].iter().enumerate() {
            let known = &before[k * n..][..=k];
            row.iter_mut()
                .zip(known)
                .for_each(|(x, y)| *x -= factor * y);
        }
        row[i] = 1.0;
        row[..=i].iter_mut().for_each(|x| *x /= of_l[i]);
    }
    inverse
}

/// `sum a b`, in an order that vectors can have.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[[4, 2], [2, 3]]` has the inverse `[[3, -2], [-2, 4]] / 8`, which is `U^T U` of
    /// `[[sqrt(3/8), -1/4 / sqrt(3/8)], [0, sqrt(1/2 - 1/6)]]`.
    #[test]
    fn two_by_two_by_hand() {
        let u = inverse_factor(&[4.0, 2.0, 2.0, 3.0], 2).unwrap();
        let first = 0.375f64.sqrt();
        let expected = [first, -0.25 / first, 0.0, (1.0 / 3.0f64).sqrt()];
        for (found, expected) in u.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{u:?}");
        }
    }

    #[test]
    fn the_factor_undoes_its_matrix() {
        let n = 37;
        let x = |i: usize| ((i * 7919 + 13) % 101) as f64 / 101.0 - 0.5;
        let mut a = vec![0.0; n * n];
        for (at, number) in a.iter_mut().enumerate() {
            let (i, j) = (at / n, at % n);
            let products = (0..2 * n).map(|k| x(k * n + i) * x(k * n + j));
            *number = products.sum::<f64>() + if i == j { 0.1 } else { 0.0 };
        }
        let u = inverse_factor(&a, n).unwrap();
        // A^-1 A, row by row.
        for i in 0..n {
            for j in 0..n {
                let inverse = |k: usize| (0..n).map(|r| u[r * n + i] * u[r * n + k]).sum::<f64>();
                let product: f64 = (0..n).map(|k| inverse(k) * a[k * n + j]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product - expected).abs() < 1e-9, "{i} {j} {product}");
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_none() {
        assert!(inverse_factor(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(inverse_factor(&[f64::NAN], 1).is_none());
    }
}
