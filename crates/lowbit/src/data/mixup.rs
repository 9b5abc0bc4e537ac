use std::f64::consts::TAU;

use super::random::{self, Purpose};

/// Each image of a batch mixed with the one after it, the last with the first (Zhang et al., arXiv
/// 1710.09412): `share x + (1 - share) x'`, with the same share for the whole batch, drawn from the
/// beta distribution of `alpha` and `alpha`, as in the paper's figure 1.
///
/// Of share and 1 - share the greater is taken. That changes nothing but which of two images is
/// called the first: the distribution is symmetric, and an epoch goes through the images in a random
/// order.
///
/// The draw is keyed by the run's seed, the epoch and the first image of the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixup {
    /// Both parameters of the distribution, above 0: below 1 most images stay nearly what they are,
    /// at 1 every share is as likely.
    pub alpha: f64,
}

impl Mixup {
    /// The share of the first image of each pair in the batch of these images, a half to one.
    pub fn share(&self, seed: u64, epoch: u32, indices: &[u32]) -> f32 {
        let first = indices.first().copied().unwrap_or_default();
        let mut words = random::stream(seed, Purpose::Mixup, epoch, first);
        let mut uniform = || {
            let word = words.next().expect("it never ends");
            (f64::from(word) + 0.5) / 4_294_967_296.0
        };
        // x / (x + y) for x and y from the gamma distribution of alpha.
        let [x, y] = [(); 2].map(|()| log_gamma_variate(self.alpha, &mut uniform));
        let share = 1.0 / (1.0 + (-(x - y).abs()).exp());
        share as f32
    }

    /// Mixes the images of a batch.
    ///
    /// # Shapes
    /// - `images`: `[batch, ...]`, each of `size` numbers
    pub fn mix(images: &mut [f32], size: usize, share: f32) {
        let Some(first) = images.get(..size).map(<[f32]>::to_vec) else {
            return;
        };
        for start in (0..images.len()).step_by(size) {
            let (own, rest) = images[start..].split_at_mut(size);
            let other = if rest.is_empty() {
                &first
            } else {
                &rest[..size]
            };
            for (x, other) in own.iter_mut().zip(other) {
                *x = share * *x + (1.0 - share) * other;
            }
        }
    }
}

/// The logarithm of a number from the gamma distribution of shape `alpha` and scale 1 (Marsaglia,
/// Tsang, "A Simple Method for Generating Gamma Variables", 2000; below 1, one of `alpha + 1` times
/// `u^(1 / alpha)`). Its logarithm, since itself it may be less than any number.
fn log_gamma_variate(alpha: f64, uniform: &mut impl FnMut() -> f64) -> f64 {
    if alpha < 1.0 {
        let smaller = uniform().ln() / alpha;
        return log_gamma_variate(alpha + 1.0, uniform) + smaller;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        // A normal number by the method of Box and Muller.
        let radius = (-2.0 * uniform().ln()).sqrt();
        let x = radius * (TAU * uniform()).cos();
        let v = 1.0 + c * x;
        let v = v * v * v;
        let u = uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d.ln() + v.ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_mixed_with_the_next_by_hand() {
        let mut images = [4.0, 0.0, 8.0, 4.0, 0.0, 2.0];
        Mixup::mix(&mut images, 2, 0.75);
        // 3/4 (4, 0) + 1/4 (8, 4), 3/4 (8, 4) + 1/4 (0, 2), 3/4 (0, 2) + 1/4 (4, 0).
        assert_eq!(images, [5.0, 1.0, 6.0, 3.5, 1.0, 1.5]);
        let mut alone = [4.0, 1.0];
        Mixup::mix(&mut alone, 2, 0.75);
        assert_eq!(alone, [4.0, 1.0]);
    }

    /// The variance of the beta distribution of a and a, whose mean is a half, is 1 / (4 (2 a + 1)).
    #[test]
    fn shares_have_the_variance_of_their_distribution() {
        for alpha in [0.2, 1.0, 4.0] {
            let shares = (0..4000).map(|i| Mixup { alpha }.share(3, 1, &[i]));
            let squares = shares.map(|share| {
                assert!((0.5..=1.0).contains(&share));
                (f64::from(share) - 0.5).powi(2)
            });
            let variance = squares.sum::<f64>() / 4000.0;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!(
                (variance / expected - 1.0).abs() < 0.08,
                "{alpha}: {variance} {expected}"
            );
        }
    }

    /// With alpha 1 every share from a half to one is as likely: 400 of 4000 in each tenth, standard
    /// deviation 19.
    #[test]
    fn shares_of_alpha_one_are_even() {
        let mut counts = [0; 10];
        for i in 0..4000 {
            let share = Mixup { alpha: 1.0 }.share(8, 0, &[i]);
            counts[(((share - 0.5) * 20.0) as usize).min(9)] += 1;
        }
        assert!(
            counts.iter().all(|count| (300..500).contains(count)),
            "{counts:?}"
        );
    }

    /// A share from a thousandth is one or a half to the last bit, and never NaN.
    #[test]
    fn extreme_distributions_give_numbers() {
        for alpha in [1e-3, 1e6] {
            let shares = (0..100).map(|i| Mixup { alpha }.share(0, 0, &[i]));
            assert!(shares.into_iter().all(|share| (0.5..=1.0).contains(&share)));
        }
    }
}
