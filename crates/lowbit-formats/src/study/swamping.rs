//! What a long sum loses: running sums in low precision by their length.

use serde::Serialize;

use crate::accumulate::Accumulation;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::scalar::Float;
use crate::study::compare::Distribution;
use crate::study::svg::{Anchor, COLORS, Panel, document, line as line_of, text};

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
/// stays near the exact one. A stochastic rounding draws from `seed`, as output 0. With [`Accumulation`]s `e6m9`, `e6m9 chunk 64` and `fp32`,
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

impl Swamping {
    /// The sums over their lengths, each with its text of `names`, beside the exact one.
    ///
    /// # Panics
    ///
    /// If there are not as many names as ways to make sums.
    pub fn svg(&self, names: &[String]) -> String {
        assert_eq!(names.len(), self.sums.len());
        let last = self.lengths.last().copied().unwrap_or(1) as f64;
        let of_ways = self.sums.iter().flatten().filter(|sum| sum.is_finite());
        let of_ways = of_ways.map(|&sum| f64::from(sum));
        let all = self.exact.iter().copied().chain(of_ways);
        let (least, most) = all.fold((0.0, 0.0), |(a, b): (f64, f64), x| (a.min(x), b.max(x)));
        let panel = Panel {
            frame: [70.0, 50.0, 560.0, 340.0],
            x: (0.0, last),
            y: (least, if most > least { most } else { least + 1.0 }),
        };
        let mut parts = panel.axes("Sums of so many products", "products");
        let key = |i: usize, style: &str, name: &str| {
            let y = 446.0 + 22.0 * i as f64;
            let line = [Some((70.0, y - 4.0)), Some((100.0, y - 4.0))];
            line_of(line.into_iter(), style) + &text((108.0, y), Anchor::Start, name)
        };
        let points = self.lengths.iter().zip(&self.exact);
        let points = points.map(|(&length, &sum)| (length as f64, sum));
        let exact = "stroke=\"#000000\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"";
        parts += &panel.line(points, exact);
        parts += &key(0, exact, "exact");
        for (i, (sums, name)) in self.sums.iter().zip(names).enumerate() {
            let color = COLORS[i % (COLORS.len() - 1)];
            let style = format!("stroke=\"{color}\" stroke-width=\"2\"");
            // A sum that overflowed is drawn no further.
            let points = self.lengths.iter().zip(sums).map(|(&length, &sum)| {
                sum.is_finite().then(|| panel.at(length as f64, sum.into()))
            });
            parts += &line_of(points, &style);
            let end = sums.last().copied().unwrap_or_default();
            parts += &key(i + 1, &style, &format!("{name}: {end}"));
        }
        let height = 456.0 + 22.0 * (names.len() + 1) as f64;
        document((670.0, height), 13, &parts)
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
