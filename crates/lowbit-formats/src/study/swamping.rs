//! What a long sum loses: running sums in low precision by their length.

use serde::Serialize;

use crate::accumulate::Accumulation;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::scalar::Float;
use crate::study::compare::Distribution;

/// Sums of the first numbers of a list, by how many they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swamping {
    /// The numbers that are summed.
    pub numbers: Vec<f32>,
    /// Lengths, in ascending order.
    pub lengths: Vec<usize>,
    /// The exact sum of so many numbers.
    pub exact: Vec<f64>,
    /// For each way to make sums, the sum of so many numbers.
    pub sums: Vec<Vec<f32>>,
}

/// Sums of 1, 2, ... `points` times `every` numbers, made in each way: the figure on chunk-based sums of
/// Wang et al., "Training Deep Neural Networks with 8-bit Floating Point Numbers", arXiv 1812.08011,
/// section 3.
///
/// As there, the numbers are uniform with mean 1 and standard deviation 1, from `1 - sqrt(3)` to
/// `1 + sqrt(3)`, so that the exact sum grows by 1 with each on average; they are rounded to 1-5-2, the
/// paper's operands, and multiplied by 1. In 1-6-9, one after another, the sum slows down from 1024 on
/// and stands still at 4096, where all numbers are below half a step ("swamping"); in chunks of 64 it
/// stays near the exact one. A stochastic
/// rounding draws from `seed`, as output 0. With [`Accumulation`]s `e6m9`, `e6m9 chunk 64` and `fp32`,
/// `points` 64 and `every` 64 this is the figure for 4096 products.
pub fn swamping(
    accumulations: &[Accumulation],
    [points, every]: [usize; 2],
    seed: u64,
) -> Swamping {
    let numbers = numbers(points * every, seed);
    let ones = vec![1.0; numbers.len()];
    let lengths: Vec<usize> = (1..=points).map(|point| point * every).collect();
    let sums = accumulations.iter().map(|accumulation| {
        let sum = |&length: &usize| {
            accumulation.seeded_sum_of_products(&numbers[..length], &ones[..length], seed, 0)
        };
        lengths.iter().map(sum).collect()
    });
    let sums = sums.collect();
    // Multiples of 2^-16 below 2^3: f64 holds sums of 2^34 of them.
    let exact = lengths
        .iter()
        .map(|&length| numbers[..length].iter().map(|&x| f64::from(x)).sum());
    Swamping {
        exact: exact.collect(),
        numbers,
        lengths,
        sums,
    }
}

/// Uniform numbers of mean 1 and deviation 1 in 1-5-2.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let operand = Float::named("e5m2").expect("a named format");
    let operand = Format::Float(operand);
    let numbers = Distribution::Uniform.samples(count, seed).into_iter();
    let numbers = numbers.map(|x| operand.round(1.0 + x, Rounding::NearestEven, 0));
    numbers.collect()
}
