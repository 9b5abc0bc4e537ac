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

/// Pearson's statistic of `count` samples of which `up` went up.
pub(crate) fn statistic(up: usize, probability: f64, count: usize) -> f64 {
    let expected = probability * count as f64;
    (up as f64 - expected).powi(2) / (expected * (1.0 - probability))
}

/// What a sum of `freedom` such statistics exceeds by chance once in 100,000 (Wilson and Hilferty's
/// approximation of the chi-squared distribution).
pub(crate) fn limit(freedom: f64) -> f64 {
    let part = 2.0 / (9.0 * freedom);
    freedom * (1.0 - part + 4.265 * part.sqrt()).powi(3)
}

/// Every format by itself, and all together, which shows smaller faults. The seeds are fixed.
#[test]
fn frequencies_fit_the_exact_probability() {
    let (mut sum, mut freedom) = (0.0, 0.0);
    for (stream, text) in (0u64..).zip(Format::examples()) {
        let format: Format = text.parse().unwrap();
        if matches!(format, Format::Block(_)) {
            continue;
        }
        let (mut chi_squared, mut count) = (0.0, 0.0);
        for (seed, x) in (0u64..)
            // posit(32,2) holds the others.
            .zip(NUMBERS.into_iter().chain([1.23e33]))
            .flat_map(|(s, x)| [(s, x), (s + 100, -x)])
        {
            let (low, high) = neighbours(&format, x);
            let inside = f64::from(x) > low && f64::from(x) < high;
            if !inside || !high.is_finite() || !low.is_finite() {
                continue;
            }
            let (up, probability) = sample(&format, x, Rounding::stochastic(seed, stream));
            chi_squared += statistic(up, probability, SAMPLES);
            count += 1.0;
        }
        // All the numbers are numbers of fp32.
        assert!(count > 0.0 || text == "fp32", "{text}: nothing was rounded");
        assert!(
            count == 0.0 || chi_squared < limit(count),
            "{text}: {chi_squared} of {count}"
        );
        sum += chi_squared;
        freedom += count;
    }
    assert!(
        freedom > 200.0 && sum < limit(freedom),
        "{sum} of {freedom}"
    );
}

/// Formats that share scales: a large number in every block of 16 gives them all the same one, at
/// which the neighbours of the others are what they are rounded to down and up.
#[test]
fn frequencies_in_blocks_fit_the_exact_probability() {
    let anchors = [1.9, -1.9];
    for (stream, text) in (0u64..).zip(Format::examples()) {
        let format: Format = text.parse().unwrap();
        if !matches!(format, Format::Block(_)) {
            continue;
        }
        let (mut chi_squared, mut count) = (0.0, 0.0);
        for (seed, x) in (0u64..)
            .zip(NUMBERS)
            .flat_map(|(s, x)| [(s, x), (s + 100, -x)])
        {
            let input: Vec<f32> = (0..SAMPLES)
                .map(|i| anchors.get(i % 16).copied().unwrap_or(x))
                .collect();
            let shape = [SAMPLES / 256, 256];
            let round = |rounding| {
                let mut output = vec![0.0; SAMPLES];
                format
                    .quantize_shaped(&input, &shape, &mut output, rounding)
                    .unwrap();
                output
            };
            let (down, up) = (round(Rounding::Down), round(Rounding::Up));
            let drawn = round(Rounding::stochastic(seed, stream));
            let place = 7;
            let (low, high) = (f64::from(down[place]), f64::from(up[place]));
            if low == high {
                continue;
            }
            let others = |i: &usize| i % 16 >= anchors.len();
            let ups = (0..SAMPLES).filter(others).filter(|&i| {
                assert_eq!((down[i], up[i]), (down[place], up[place]), "{text}");
                assert!(drawn[i] == down[i] || drawn[i] == up[i], "{text}");
                drawn[i] == up[i]
            });
            let samples = SAMPLES / 16 * (16 - anchors.len());
            let probability = (f64::from(x) - low) / (high - low);
            chi_squared += statistic(ups.count(), probability, samples);
            count += 1.0;
        }
        assert!(count > 0.0, "{text}: nothing was rounded");
        assert!(
            chi_squared < limit(count),
            "{text}: {chi_squared} of {count}"
        );
    }
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
