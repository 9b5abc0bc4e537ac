//! Analytical clipping for normal and Laplace distributions.

use crate::quantizers::Histogram;

/// The distribution that values are taken to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Normal.
    Gauss,
    /// Laplace.
    Laplace,
}

/// The clipping value of least expected square error for `2^bits` steps between it and its opposite,
/// in units of the distribution's scale, for 1 to 17 bits: where the derivative is zero of (Banner et
/// al., "Post-training 4-bit quantization of convolution networks for rapid-deployment", arXiv
/// 1810.05723, equation 6 for Laplace; the authors' implementation for both)
///
/// ```text
/// Laplace, scale b:  2 b^2 exp(-a / b) + a^2 / (3 4^bits)
/// Gauss, scale s:    (a^2 + s^2) (1 - erf(a / (s sqrt 2))) - sqrt(2 / pi) a s exp(-a^2 / (2 s^2))
///                    + a^2 / (3 4^bits)
/// ```
fn constant(distribution: Distribution, bits: u32) -> f64 {
    const GAUSS: [f64; 17] = [
        1.23990527, 1.71063517, 2.15159274, 2.55913646, 2.93620061, 3.28691422, 3.61511422,
        3.92403549, 4.21632983, 4.49416053, 4.75929976, 5.01321047, 5.25711121, 5.49202628,
        5.7188243, 5.93824808, 6.15093783,
    ];
    const LAPLACE: [f64; 17] = [
        1.86281686,
        2.83068299,
        3.89722946,
        5.02864014,
        6.20476633,
        7.41312621,
        8.64561998,
        9.89675977,
        11.16268502,
        12.44059128,
        13.7283847,
        15.02446477,
        16.32758309,
        17.63674863,
        18.95116243,
        20.27017164,
        21.5932363,
    ];
    let table = match distribution {
        Distribution::Gauss => GAUSS,
        Distribution::Laplace => LAPLACE,
    };
    table[bits.clamp(1, 17) as usize - 1]
}

/// The ends between which values are clipped with the least expected square error, if they have the
/// distribution, on a grid of `bits` (ACIQ, arXiv 1810.05723): the mean less and plus the
/// clipping value, and no farther than the values themselves.
///
/// Of values that are never negative, of which a rectifier is taken to have cut off the other half,
/// the ends are 0 and the clipping value for one bit more. The scale of the whole distribution is then
/// `2 E[x]` (Laplace) or `sqrt(2 E[x^2])` (normal).
pub fn aciq(values: &Histogram, distribution: Distribution, bits: u32, signed: bool) -> (f32, f32) {
    let mean = values.mean();
    if !signed {
        let mean_square = values.standard_deviation().powi(2) + mean * mean;
        let scale = match distribution {
            Distribution::Gauss => (2.0 * mean_square).sqrt(),
            Distribution::Laplace => 2.0 * mean,
        };
        let end = constant(distribution, bits + 1) * scale;
        return (0.0, (end as f32).min(values.max()));
    }
    let scale = match distribution {
        Distribution::Gauss => values.sample_deviation(),
        Distribution::Laplace => values.mean_deviation(),
    };
    let end = constant(distribution, bits) * scale;
    (
        ((mean - end) as f32).max(values.min()),
        ((mean + end) as f32).min(values.max()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each constant is where its derivative changes its sign: for Laplace `-2 e^-a + 2 a / (3 4^b)`.
    #[test]
    fn constants_are_where_the_error_is_least() {
        for bits in 1..=17 {
            let slope = |a: f64| -2.0 * (-a).exp() + 2.0 * a / (3.0 * 4f64.powi(bits));
            let a = constant(Distribution::Laplace, bits as u32);
            assert!(slope(a - 1e-7) < 0.0 && slope(a + 1e-7) > 0.0, "{bits}");
        }
        // The paper's own numbers: 2.83, 3.89 and 5.03 for 2, 3 and 4 bits of Laplace.
        for (bits, published) in [(2, 2.83), (3, 3.89), (4, 5.03)] {
            assert!((constant(Distribution::Laplace, bits) - published).abs() < 0.01);
        }
        for (bits, published) in [(2, 1.71), (3, 2.15), (4, 2.55)] {
            assert!((constant(Distribution::Gauss, bits) - published).abs() < 0.01);
        }
    }
}
