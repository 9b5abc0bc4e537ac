//! Stochastic rounding goes up exactly as often as the distances say, and is unbiased.

use lowbit_formats::{Format, Rounding};

const SAMPLES: usize = 1 << 16;

/// Numbers between two values of every example, some of them subnormal there.
const NUMBERS: [f32; 7] = [0.3, 0.77, 1.03, 0.9999, 0.021, 0.4999, 0.000_7];

fn neighbours(format: &Format, x: f32) -> (f64, f64) {
    let round = |mode| f64::from(format.round(x, mode, 0));
    (round(Rounding::Down), round(Rounding::Up))
}

/// How many of the samples went up, how likely that was for each, and their mean.
fn sample(format: &Format, x: f32, rounding: Rounding) -> (usize, f64) {
    let (low, high) = neighbours(format, x);
    let rounded = format.quantize_to_vec(&vec![x; SAMPLES], rounding).unwrap();
    assert!(
        rounded
            .iter()
            .all(|y| f64::from(*y) == low || f64::from(*y) == high)
    );
    let up = rounded.iter().filter(|y| f64::from(**y) == high).count();
    (up, (f64::from(x) - low) / (high - low))
}

/// The sum of `(observed - expected)^2 / variance` over independent counts is chi-squared. With
/// `n` of them it exceeds `n + 5 sqrt(2 n)` less than once in 10^5 runs; the seed is fixed.
#[test]
fn frequencies_fit_the_exact_probability() {
    let (mut chi_squared, mut count) = (0.0, 0.0);
    for (stream, text) in (0u64..).zip(Format::examples()) {
        let format: Format = text.parse().unwrap();
        if matches!(format, Format::Block(_)) {
            continue;
        }
        for (seed, x) in (0u64..)
            .zip(NUMBERS)
            .flat_map(|(s, x)| [(s, x), (s + 100, -x)])
        {
            let (low, high) = neighbours(&format, x);
            let inside = f64::from(x) > low && f64::from(x) < high;
            if !inside || !high.is_finite() || !low.is_finite() {
                continue;
            }
            let (up, probability) = sample(&format, x, Rounding::stochastic(seed, stream));
            let expected = probability * SAMPLES as f64;
            let variance = expected * (1.0 - probability);
            chi_squared += (up as f64 - expected).powi(2) / variance;
            count += 1.0;
        }
    }
    assert!(count > 200.0);
    let bound = 5.0 * (2.0f64 * count).sqrt();
    assert!(
        (chi_squared - count).abs() < bound,
        "{chi_squared} of {count}"
    );
}

/// With `bits` random bits the probability is `floor(fraction * 2^bits) / 2^bits`.
#[test]
fn few_random_bits_cut_the_probability() {
    for text in ["fixed(8,6)", "e4m3", "bf16", "int8"] {
        let format: Format = text.parse().unwrap();
        for x in [0.3f32, 1.77] {
            let (low, high) = neighbours(&format, x);
            if low == high {
                continue;
            }
            for bits in [1u8, 2, 4] {
                let steps = f64::from(1u32 << bits);
                let fraction = (f64::from(x) - low) / (high - low);
                let probability = (fraction * steps).floor() / steps;
                let rounding = Rounding::Stochastic {
                    seed: 9,
                    stream: 1,
                    bits,
                };
                let up = sample(&format, x, rounding).0 as f64;
                // Five standard deviations of a binomial count.
                let tolerance = 5.0 * (SAMPLES as f64 * probability * (1.0 - probability)).sqrt();
                assert!(
                    (up - probability * SAMPLES as f64).abs() <= tolerance,
                    "{text} {x} {bits}"
                );
            }
        }
    }
}
