//! Sums whose roundings are stochastic: which random words they draw, and that they are unbiased.

use lowbit_formats::accumulate::{Accumulation, random_word};
use lowbit_formats::rounding::philox::philox_4x32_10;
use lowbit_formats::{Format, Rounding};

const RANDOM: Rounding = Rounding::Stochastic {
    seed: 0,
    stream: 0,
    bits: 32,
};

/// The counter is the rounding's number by four, then the output; the key is the seed.
#[test]
fn words_by_hand() {
    let seed = 0x0123_4567_89AB_CDEF;
    let block = philox_4x32_10([2, 0, 5, 1], [0x89AB_CDEF, 0x0123_4567]);
    for (at, word) in block.into_iter().enumerate() {
        assert_eq!(random_word(seed, (1 << 32) + 5, 8 + at as u64), word);
    }
}

/// Numbers are multiples of 1/16 below 16, whose sums f64 holds.
#[test]
fn each_rounding_draws_the_next_word() {
    let format: Format = "e4m3".parse().unwrap();
    let outer: Format = "e5m4".parse().unwrap();
    let a: Vec<f32> = (0..23u8).map(|i| f32::from(i * 37 % 29) / 16.0).collect();
    let b = vec![1.0; a.len()];
    for (seed, output) in [(0, 0), (9, 3), (u64::MAX, 1 << 40)] {
        let sum = |text: &str| {
            let accumulation: Accumulation = text.parse().unwrap();
            accumulation.seeded_sum_of_products(&a, &b, seed, output)
        };
        let mut number = 0;
        let mut round = |format: &Format, x: f64| {
            number += 1;
            format.round_f64(x, RANDOM, random_word(seed, output, number - 1))
        };
        let sequential = a.iter().fold(0.0, |s: f32, &x| {
            round(&format, f64::from(s) + f64::from(x))
        });
        assert_eq!(sum("e4m3:stochastic"), sequential);
        number = 0;
        let mut round = |format: &Format, x: f64| {
            number += 1;
            format.round_f64(x, RANDOM, random_word(seed, output, number - 1))
        };
        let chunked = a.chunks(5).fold(0.0, |total: f32, chunk| {
            let of_chunk = chunk.iter().fold(0.0, |s: f32, &x| {
                round(&format, f64::from(s) + f64::from(x))
            });
            round(&outer, f64::from(total) + f64::from(of_chunk))
        });
        let text = "e4m3:stochastic chunk 5 outer float(5,4)";
        assert_eq!(sum(text), chunked);
    }
}

/// 4096 ones in 1-6-9: to the nearest the sum stays at 1024; at random its mean is 4096. From 1024 on a
/// one moves a sum by a step `u` of 2 or 4 with probability `1 / u`, with a variance of `u - 1`: 1 for
/// the first thousand, 3 for the others. The mean of 400 sums has a deviation of
/// `sqrt((1024 + 3 * 2048) / 400) = 4.2`.
#[test]
fn the_mean_is_the_exact_sum() {
    let ones = vec![1.0; 4096];
    let stochastic: Accumulation = "e6m9:stochastic".parse().unwrap();
    let sum = |output| stochastic.seeded_sum_of_products(&ones, &ones, 5, output);
    let mean = (0..400).map(|output| f64::from(sum(output))).sum::<f64>() / 400.0;
    println!("mean {mean}");
    assert!((mean - 4096.0).abs() < 5.0 * 4.3, "{mean}");
    let nearest: Accumulation = "e6m9".parse().unwrap();
    assert_eq!(nearest.sum_of_products(&ones, &ones), 1024.0);
    assert_ne!(sum(0), sum(1));
}

/// Integers in units of 1/4, products of 1/16: three of four steps up and down.
#[test]
fn integers_are_unbiased() {
    let stochastic: Accumulation = "fixed(16,2):stochastic".parse().unwrap();
    for exact in [0.1875, -0.1875] {
        let sum = |output| stochastic.seeded_sum_of_products(&[exact], &[1.0], 1, output);
        let sums: Vec<f32> = (0..4000).map(sum).collect();
        let up = sums
            .iter()
            .filter(|&&sum| sum == 0.25f32.copysign(exact))
            .count();
        assert_eq!(sums.iter().filter(|&&sum| sum == 0.0).count(), 4000 - up);
        // Five deviations of `sqrt(4000 * 3 / 16) = 27.4`.
        assert!(up.abs_diff(3000) < 137, "{up}");
    }
}
