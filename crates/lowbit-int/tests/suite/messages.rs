//! What is said of graphs that do not fit: one line, with the node's name.

use lowbit_int::ops::{
    Add, Clamp, Convolution, Embedding, Linear, LookUp, MaxPool, Rectifier, Requantize, Sliding,
    Weights, Windows,
};
use lowbit_int::{Graph, Interval, Numbers, Operator, Rounding, interpret};

fn int8() -> Numbers {
    Numbers::power_of_two(8, true, -7).unwrap()
}

fn weights(shape: &[usize]) -> Weights {
    Weights {
        shape: shape.to_vec(),
        numbers: int8(),
        values: vec![1; shape.iter().product()],
    }
}

/// A graph with an image of 3 channels, and the image pooled to a row.
fn graph() -> Graph {
    let mut graph = Graph::new();
    let image = graph.input("image", &[3, 4, 4], int8()).unwrap();
    graph.push("relu", Rectifier {}, &[image]).unwrap();
    graph
}

#[track_caller]
fn refused(operator: impl Into<Operator>, inputs: &[&str], message: &str) {
    let mut graph = graph();
    let before = graph.clone();
    let inputs: Vec<_> = inputs
        .iter()
        .map(|name| graph.find(name).unwrap())
        .collect();
    let error = graph.push("node", operator, &inputs).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(graph, before);
}

#[test]
fn shapes_that_do_not_fit() {
    let convolution = |shape: &[usize]| Convolution::new(weights(shape), None);
    refused(
        convolution(&[8, 4, 3, 3]),
        &["image"],
        "node: weights [8, 4, 3, 3] in 1 groups do not fit 3 channels",
    );
    refused(
        convolution(&[8, 3, 3]),
        &["image"],
        "node: weights' shape is [8, 3, 3], expected 4 dimensions",
    );
    refused(
        convolution(&[8, 3, 5, 5]),
        &["image"],
        "node: a window of 5 does not fit 4 elements",
    );
    refused(
        convolution(&[8, 3, 3, 3]).with_sliding(Sliding::new(2).with_stride(0)),
        &["image"],
        "node: stride is out of range",
    );
}

#[test]
fn rows_and_pairs_that_do_not_fit() {
    refused(
        Linear {
            weights: weights(&[2, 5]),
            bias: None,
        },
        &["image"],
        "node: input is [3, 4, 4], expected 5 in the last dimension",
    );
    refused(
        Linear {
            weights: weights(&[2, 4]),
            bias: Some(vec![1]),
        },
        &["image"],
        "node: 1 biases given, expected 2",
    );
    refused(
        Add {
            multipliers: [1, 1],
        },
        &["image"],
        "node: 1 inputs, expected 2",
    );
    refused(
        Add {
            multipliers: [1, 2],
        },
        &["image", "relu"],
        "node: exponents -7 and -7 do not meet with multipliers [1, 2]",
    );
    refused(
        MaxPool {
            windows: Windows::Adaptive { output: vec![5, 1] },
        },
        &["image"],
        "node: [5, 1] windows do not fit an image of [3, 4, 4]",
    );
}

#[test]
fn numbers_that_do_not_fit() {
    let requantize = |shift, exponent| {
        let numbers = Numbers::power_of_two(8, true, exponent).unwrap();
        Requantize::by_shift(shift, Rounding::HalfEven, numbers)
    };
    refused(
        requantize(3, -3),
        &["image"],
        "node: a shift to exponent -4, but the output has -3",
    );
    refused(
        requantize(63, 56),
        &["image"],
        "node: multiplier 1 and shift 63, expected 1 or more and 0 to 62",
    );
    refused(
        Clamp {
            least: 0,
            greatest: 200,
        },
        &["image"],
        "node: limits are 0 to 200, expected within -128 to 127",
    );
    refused(
        LookUp {
            table: vec![0; 255],
            numbers: int8(),
        },
        &["image"],
        "node: a table of 255 for 8 bits, expected 256",
    );
    refused(
        Embedding {
            weights: weights(&[4, 2]),
        },
        &["image"],
        "node: input [3, 4, 4] of -128 to 127, expected [length] of 0 to 3",
    );
}

#[test]
fn weights_that_do_not_fit() {
    let mut wide = weights(&[8, 3, 3, 3]);
    wide.values[5] = 128;
    refused(
        Convolution::new(wide, None),
        &["image"],
        "node: a weight is 128, expected -128 to 127",
    );
    let mut biased = Convolution::new(weights(&[1, 3, 1, 1]), Some(vec![i64::MAX]));
    refused(
        biased.clone(),
        &["image"],
        "node: sums reach -384 to 9223372036854776188, beyond 63 bits",
    );
    biased.bias = None;
    biased.weights.values.pop();
    refused(
        biased,
        &["image"],
        "node: 2 weights given, expected [1, 3, 1, 1]",
    );
}

#[test]
fn names_and_inputs() {
    let mut graph = graph();
    let image = graph.find("image").unwrap();
    let message = |result: Result<_, lowbit_int::GraphError>| result.unwrap_err().to_string();
    let taken = message(graph.push("relu", Rectifier {}, &[image]).map(drop));
    assert_eq!(taken, "relu: the name is taken");
    let empty = message(graph.push("a\nb", Rectifier {}, &[image]).map(drop));
    assert_eq!(
        empty,
        "\"a\\nb\": a name has one or more characters, none of which controls a terminal"
    );
    let unfit = message(graph.push("a\nb", Rectifier {}, &[]).map(drop));
    assert_eq!(unfit, "\"a\\nb\": 0 inputs, expected 1");
    let late = message(graph.input("late", &[1], int8()).map(drop));
    assert_eq!(late, "late: inputs are added before nodes");
    let late = message(graph.limit(
        image,
        Interval {
            least: 0,
            greatest: 1,
        },
    ));
    assert_eq!(
        late,
        "image: only inputs have limits, said before nodes are added"
    );
    let wrong = message(interpret(&graph, &[&[0; 47]]).map(drop));
    assert_eq!(
        wrong,
        "image: 47 numbers given, expected 48 an image, as many images in each input"
    );
    let beyond = message(interpret(&graph, &[&[128; 48]]).map(drop));
    assert_eq!(beyond, "image: a number is 128, expected -128 to 127");
    let none = message(interpret(&graph, &[]).map(drop));
    assert_eq!(none, "inputs: 0 inputs given, expected 1");
}

#[test]
fn files_name_the_node() {
    let text = graph().to_json();
    let message = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        Graph::from_json(&text.replace(from, to))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message("\"op\":\"rectifier\"", "\"op\":\"cosine\""),
        "relu: unknown variant `cosine`, expected one of `convolution`, `linear`, `add`, `mul`, \
         `concat`, `max-pool`, `average-pool`, `rectifier`, `clamp`, `requantize`, `flatten`, \
         `look-up`, `embedding`"
    );
    assert_eq!(
        message("\"inputs\":[\"image\"]", "\"inputs\":[\"none\"]"),
        "relu: no tensor \"none\" comes before it"
    );
    assert_eq!(
        message("\"exponent\":-7", "\"scale\":0.0"),
        "image: scale is 0, expected a finite number above 0"
    );
    // What JSON's reader repeats of a file does not end the line or reach the terminal.
    assert_eq!(
        message(
            "\"op\":\"rectifier\"",
            "\"op\":\"rectifier\",\"a\\n\\u001b[2J\":0"
        ),
        "relu: unknown field `a\\n\\u{1b}[2J`, there are no fields"
    );
    assert_eq!(
        message("\"version\":1", "\"version\":1,\"a\\nb\":0"),
        "JSON: unknown field `a\\nb`, expected one of `format`, `version`, `inputs`, `nodes`, \
         `outputs` at line 1 column 41"
    );
    assert_eq!(
        message("\"version\":1", "\"version\":2"),
        "JSON: format \"lowbit-int\" version 2, expected \"lowbit-int\" version 1"
    );
}
