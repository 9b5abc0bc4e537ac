//! Graphs that are large: what is proven of them takes no longer than it needs.

use std::time::Instant;

use lowbit_int::ops::{AveragePool, Linear, Sliding, Weights, Windows};
use lowbit_int::{Graph, Interval, Numbers, Operator};

fn byte() -> Numbers {
    Numbers::power_of_two(8, true, 0).unwrap()
}

/// The interval of an operator over bytes of a shape, and how many seconds it takes to prove.
fn proven(operator: impl Into<Operator>, shape: &[usize]) -> (Interval, f64) {
    let mut graph = Graph::new();
    let x = graph.input("x", shape, byte()).unwrap();
    let start = Instant::now();
    let y = graph.push("y", operator, &[x]).unwrap();
    (graph.tensor(y).interval(), start.elapsed().as_secs_f64())
}

/// A million windows; those in the corners have 4 elements, on the sides 6, inside 9. Their least
/// common multiple is 36: a corner's sum is 9 times that of 4 elements, and so are all others 36
/// times an average.
#[test]
fn averages_of_large_images() {
    let windows = Windows::Sliding {
        kernel: vec![3, 3],
        sliding: Sliding::new(2).with_padding(1),
    };
    let average = AveragePool {
        windows,
        include_padding: false,
    };
    let (interval, seconds) = proven(average, &[1, 1 << 10, 1 << 10]);
    assert_eq!([interval.least, interval.greatest], [-128 * 36, 127 * 36]);
    assert!(seconds < 0.5, "{seconds}");
}

/// One window of 2^20 elements.
#[test]
fn averages_of_long_sequences() {
    let average = AveragePool {
        windows: Windows::global(1),
        include_padding: false,
    };
    let (interval, seconds) = proven(average, &[1, 1 << 20]);
    assert_eq!([interval.least, interval.greatest], [-128 << 20, 127 << 20]);
    assert!(seconds < 0.5, "{seconds}");
}

/// 2^15 rows, of all of which the same is known, times a matrix of 64 x 64: 2^27 products are in all
/// of them, 2^12 in one. `64 * -128` is the least sum.
#[test]
fn linear_layers_of_long_sequences() {
    let weights = Weights {
        shape: vec![64, 64],
        numbers: byte(),
        values: vec![1; 64 * 64],
    };
    let linear = Linear {
        weights,
        bias: None,
    };
    let (interval, seconds) = proven(linear, &[1 << 15, 64]);
    assert_eq!([interval.least, interval.greatest], [-64 * 128, 64 * 127]);
    assert!(seconds < 0.2, "{seconds}");
}
