//! Graphs that are large: what is proven of them takes no longer than it needs, and what asks for more
//! than there is room for is refused.

use std::time::Instant;

use lowbit_int::ops::{
    AveragePool, Convolution, Embedding, Linear, LookUp, MaxPool, Rectifier, Sliding, Weights,
    Windows,
};
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

/// 2^17 rows, of all of which the same is known, times a matrix of 64 x 64: 2^29 products are in all
/// of them, 2^12 in one. `64 * -128` is the least sum.
#[test]
fn linear_layers_of_long_sequences() {
    let linear = Linear {
        weights: ones(&[64, 64]),
        bias: None,
    };
    let (interval, seconds) = proven(linear, &[1 << 17, 64]);
    assert_eq!([interval.least, interval.greatest], [-64 * 128, 64 * 127]);
    assert!(seconds < 1.0, "{seconds}");
}

fn ones(shape: &[usize]) -> Weights {
    Weights {
        shape: shape.to_vec(),
        numbers: byte(),
        values: vec![1; shape.iter().product()],
    }
}

/// 2^20 indices, each of any of 2^16 rows; and as many numbers of 16 bits, each through a table of
/// 2^16. Looked at for each, they would be 2^36 numbers.
#[test]
fn tables_of_long_sequences() {
    let index = Numbers::power_of_two(16, false, 0).unwrap();
    let (rows, numbers) = (ones(&[1 << 16, 1]), byte());
    let table = vec![7; 1 << 16];
    let of: [(Operator, i64); 2] = [
        (Embedding { weights: rows }.into(), 1),
        (LookUp { table, numbers }.into(), 7),
    ];
    for (operator, expected) in of {
        let mut graph = Graph::new();
        let x = graph.input("x", &[1 << 20], index).unwrap();
        let start = Instant::now();
        let y = graph.push("y", operator, &[x]).unwrap();
        assert_eq!(graph.tensor(y).interval().greatest, expected);
        let seconds = start.elapsed().as_secs_f64();
        assert!(seconds < 1.0, "{seconds}");
    }
}

/// 2^22 outputs whose windows have 2^12 elements each, with zeros between the input's: 2^34 in all,
/// of which 4 or 5 meet the input. The least sum is -128 times 4: `2^12 / 2^10`.
#[test]
fn transposed_windows_of_long_sequences() {
    let convolution = Convolution::new(ones(&[1, 1, 1 << 12]), None)
        .with_sliding(Sliding::new(1).with_stride(1 << 10))
        .with_transposed(vec![0]);
    let (interval, seconds) = proven(convolution, &[1, 1 << 12]);
    assert_eq!([interval.least, interval.greatest], [-128 * 4, 127 * 4]);
    assert!(seconds < 5.0, "{seconds}");
}

#[track_caller]
fn refused(operator: impl Into<Operator>, shape: &[usize], message: &str) {
    let mut graph = Graph::new();
    let x = graph.input("x", shape, byte()).unwrap();
    let before = graph.clone();
    let start = Instant::now();
    let error = graph.push("node", operator, &[x]).unwrap_err();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(error.to_string(), message);
    assert_eq!(graph, before);
    assert!(seconds < 5.0, "{seconds}");
}

/// One pixel between 65,535 of padding on each side: 131,071^2 = 17,179,607,041 for an output of 2 x 2.
#[test]
fn padded_images_are_bounded() {
    let sliding = Sliding::new(2)
        .with_stride(1 << 16)
        .with_padding((1 << 16) - 1);
    refused(
        Convolution::new(ones(&[1, 1, 1, 1]), None).with_sliding(sliding),
        &[1, 1, 1],
        "node: with its padding the input has 17179607041 elements, expected at most 33554432",
    );
}

#[test]
fn windows_that_do_not_fit_the_padded_image_are_refused() {
    let windows = Windows::Sliding {
        kernel: vec![1 << 16],
        sliding: Sliding::new(1).with_padding(1 << 14),
    };
    refused(
        MaxPool { windows },
        &[1, 8],
        "node: a window of 65536 does not fit 32776 elements",
    );
}

/// In each dimension 2,048 windows have 1 to 2,048 elements: as many pairs of these look at 2^22
/// elements each, at most.
#[test]
fn windows_that_all_differ_are_refused() {
    let windows = Windows::Sliding {
        kernel: vec![1 << 11; 2],
        sliding: Sliding::new(2).with_padding((1 << 11) - 1),
    };
    let average = AveragePool {
        windows,
        include_padding: true,
    };
    refused(
        average,
        &[1, 1 << 11, 1 << 11],
        "node: its windows differ so much that 17592186044416 products bound its sums, expected at \
         most 4294967296",
    );
}

/// 2^28 elements are 16 tensors of 2^24.
#[test]
fn all_tensors_together_are_bounded() {
    let mut graph = Graph::new();
    let mut last = graph.input("x", &[1, 1 << 24], byte()).unwrap();
    for node in 1..16 {
        last = graph
            .push(&node.to_string(), Rectifier {}, &[last])
            .unwrap();
    }
    let before = graph.clone();
    let error = graph.push("more", Rectifier {}, &[last]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "more: the graph's tensors and padded images have 285212672 elements and 17 indices of first \
         dimensions, expected at most 268435456 and 33554432 together"
    );
    assert_eq!(graph, before);
}
