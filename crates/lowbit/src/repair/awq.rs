//! AWQ: Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, "AWQ: Activation-aware Weight Quantization for
//! LLM Compression and Acceleration", arXiv 2306.00978.

use super::Gram;

/// Exponents that are tried: 0, 1/20, ..., 19/20 (section 3.2).
const TRIED: usize = 20;

/// The least factor before all are brought about 1.
const LEAST: f64 = 1e-4;

/// What the columns of weights are multiplied by before they are rounded, and what is read is divided by, so
/// that the columns which meet large numbers are rounded more finely.
///
/// Of weights `W` that read the same numbers `x`, the factors are `s_j = (mean |x_j|)^a`, each at least 1e-4,
/// over the root of the largest times the smallest, with the exponent `a` of 0, 0.05, ..., 0.95 for which the sum
/// of `|round(W diag(s)) diag(s)^-1 x - W x|^2` over the weights and over what was read is least (equations 4
/// and 5); 0, all factors 1, is among them. Weights are not clipped.
///
/// `weights` are `[rows][gram.columns()]`, `round` rounds one.
///
/// # Errors
/// Those of `round`.
pub fn awq_factors<E>(
    weights: &[Vec<f32>],
    gram: &Gram,
    mut round: impl FnMut(&[f32]) -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    let mut best: Option<(f64, Vec<f32>)> = None;
    for tried in 0..TRIED {
        let factors = factors(gram, tried as f64 / TRIED as f64);
        let mut error = 0.0;
        for weight in weights {
            let scaled = times(weight, &factors);
            let rounded = round(&scaled)?;
            let columns = factors.iter().cycle();
            let numbers = rounded.iter().zip(weight).zip(columns);
            let apart: Vec<f32> = numbers.map(|((q, w), s)| q / s - w).collect();
            error += gram.power(&apart);
        }
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, factors));
        }
    }
    Ok(best.map_or_else(Vec::new, |(_, factors)| factors))
}

fn factors(gram: &Gram, exponent: f64) -> Vec<f32> {
    let powers = gram.mean_magnitudes().map(|x| x.powf(exponent).max(LEAST));
    let powers: Vec<f64> = powers.collect();
    let largest = powers.iter().copied().fold(f64::MIN, f64::max);
    let smallest = powers.iter().copied().fold(f64::MAX, f64::min);
    let middle = (largest * smallest).sqrt();
    powers.iter().map(|power| (power / middle) as f32).collect()
}

/// A weight whose columns are multiplied by factors.
fn times(weight: &[f32], factors: &[f32]) -> Vec<f32> {
    let both = weight.iter().zip(factors.iter().cycle());
    both.map(|(w, s)| w * s).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// To whole numbers.
    fn whole(weight: &[f32]) -> Result<Vec<f32>, Infallible> {
        Ok(weight.iter().map(|w| w.round_ties_even()).collect())
    }

    /// The second column meets numbers 16 times as large. With exponent a its factor is 16^(a/2), at most
    /// 16^0.475 = 3.73, of which 0.3 becomes 1.12; of factors up to 3.73 that which brings 0.3 nearest to a
    /// whole number, after its division, wins.
    #[test]
    fn the_column_that_meets_large_numbers_is_rounded_finely() {
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 0.0, 0.0, 16.0]);
        let Ok(found) = awq_factors(&[vec![0.0, 0.3]], &gram, whole);
        let error = |a: f64| {
            let factor = 16f64.powf(a / 2.0);
            ((0.3 * factor).round_ties_even() / factor - 0.3).abs()
        };
        let tried = (0..20).map(|k| f64::from(k) / 20.0);
        let best = tried
            .min_by(|&a, &b| error(a).total_cmp(&error(b)))
            .unwrap();
        assert_eq!(
            found,
            [
                16f64.powf(-best / 2.0) as f32,
                16f64.powf(best / 2.0) as f32
            ]
        );
        assert!(found[1] > 1.0);
    }

    #[test]
    fn weights_that_lie_on_their_grid_stay() {
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 9.0]);
        let Ok(found) = awq_factors(&[vec![1.0, -2.0], vec![3.0, 0.0]], &gram, whole);
        assert_eq!(found, [1.0, 1.0]);
    }
}
