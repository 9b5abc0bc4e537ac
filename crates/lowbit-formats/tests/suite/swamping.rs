//! The swamping of long sums in low precision, against exact arithmetic.

use lowbit_formats::accumulate::Accumulation;
use lowbit_formats::swamping::swamping;
use lowbit_formats::{Format, Rounding};

use crate::accumulate::{Exact, Oracle, Random, ieee};

/// The swamping of Wang et al. (arXiv 1812.08011, section 3 and figure 3): 4096 numbers from a
/// uniform distribution of mean 1 and deviation 1 in 1-6-9. Added one after another the sum stops
/// to grow where the numbers are below half a step; in chunks of 64 it stays near the exact one.
#[test]
fn swamping_and_chunks() {
    let mut random = Random(13);
    // Uniform of mean 1 and deviation 1: from 1 - sqrt(3) to 1 + sqrt(3), in 1-5-2 as the paper's
    // operands.
    let operand: Format = "e5m2".parse().unwrap();
    let a: Vec<f32> = (0..4096)
        .map(|_| {
            let uniform = f64::from(random.next()) / 2f64.powi(32);
            let x = 1.0 + 3f64.sqrt() * (2.0 * uniform - 1.0);
            operand.round_f64(x, Rounding::NearestEven, 0)
        })
        .collect();
    let ones = vec![1.0; a.len()];
    let exact: f64 = a.iter().map(|&x| f64::from(x)).sum();
    let oracle = |order, chunk| Oracle {
        inner: ieee(6, 9),
        outer: ieee(6, 9),
        product: None,
        rounding: Rounding::NearestEven,
        order,
        chunk,
    };
    for (text, order, chunk) in [("e6m9", "", 1), ("e6m9 chunk 64", "chunk", 64)] {
        let sum = text
            .parse::<Accumulation>()
            .unwrap()
            .sum_of_products(&a, &ones);
        assert_eq!(
            Exact::of(sum),
            oracle(order, chunk).sum(&a, &ones),
            "{text}"
        );
        let relative = (f64::from(sum) - exact).abs() / exact;
        println!("{text}: {sum} of {exact}, {relative:.4} from it");
        if order.is_empty() {
            assert!(relative > 0.1, "{relative}");
        } else {
            assert!(relative < 0.01, "{relative}");
        }
    }
}

/// The figure's sums, each again in exact arithmetic (`i128`) with one rounding to 1-6-9 a step.
#[test]
fn the_figure_of_swamping() {
    let texts = ["e6m9", "e6m9 chunk 64", "fp32", "e6m9:stochastic"];
    let accumulations = texts.map(|text| text.parse().unwrap());
    let figure = swamping(&accumulations, [64, 64], 1);
    assert_eq!(figure.lengths.last(), Some(&4096));
    let ones = vec![1.0; 4096];
    for (order, sums) in ["", "chunk"].into_iter().zip(&figure.sums) {
        let oracle = Oracle {
            inner: ieee(6, 9),
            outer: ieee(6, 9),
            product: None,
            rounding: Rounding::NearestEven,
            order,
            chunk: 64,
        };
        for (&length, &sum) in figure.lengths.iter().zip(sums) {
            let numbers = &figure.numbers[..length];
            let exact = oracle.sum(numbers, &ones[..length]);
            assert_eq!(Exact::of(sum), exact, "{order} {length}");
        }
    }
    for (&length, &exact) in figure.lengths.iter().zip(&figure.exact) {
        let steps: i64 = figure.numbers[..length]
            .iter()
            .map(|&x| (f64::from(x) * 65_536.0) as i64)
            .sum();
        assert_eq!(exact, steps as f64 / 65_536.0);
        // Mean 1 and deviation 1: five deviations of the mean.
        assert!((exact - length as f64).abs() < 5.0 * (length as f64).sqrt());
    }
    let relative: Vec<f64> = figure
        .sums
        .iter()
        .map(|sums| f64::from(sums[63]) / figure.exact[63])
        .collect();
    println!("{texts:?} of 4096 products over the exact sum: {relative:.4?}");
    // From 2048 on half a step of 1-6-9 is 2, and only numbers above that are still felt.
    assert!(relative[0] < 0.9);
    assert!((relative[1] - 1.0).abs() < 0.01);
    assert!((relative[2] - 1.0).abs() < 1e-6);
    assert!((relative[3] - 1.0).abs() < 0.1);
}

/// Numbers are at most 2.5 or 3 in 1-5-2, and from 4096 on half a step is 4: the sum stands still there,
/// a quarter of the exact one.
#[test]
fn a_swamped_sum_stands_still() {
    let accumulations = ["e6m9", "e6m9 chunk 64"].map(|text| text.parse().unwrap());
    let figure = swamping(&accumulations, [64, 256], 1);
    assert!(figure.numbers.iter().all(|x| x.abs() < 4.0));
    let [sequential, chunked] = &figure.sums[..] else {
        panic!("two sums");
    };
    let still = sequential.iter().position(|&sum| sum == 4096.0).unwrap();
    assert!(still < 40, "{still}");
    assert!(sequential[still..].iter().all(|&sum| sum == 4096.0));
    for (&sum, &exact) in chunked.iter().zip(&figure.exact) {
        assert!((f64::from(sum) / exact - 1.0).abs() < 0.01, "{sum} {exact}");
    }
    assert!(figure.exact[63] > 3.9 * 4096.0);
}
