//! Graphs of other targets' arithmetic, against what those computed.

use lowbit_int::{Engine, Graph, Target, for_target, interpret};
use serde::Deserialize;
use serde_json::Value;

use super::random::slices;

/// A line that `tests/reference/targets.py` wrote.
#[derive(Deserialize)]
struct Case {
    kind: String,
    graph: Value,
    inputs: Vec<Vec<i64>>,
    /// What CMSIS-NN and TensorFlow Lite computed, with two roundings and with one.
    twice: Vec<i64>,
    once: Vec<i64>,
}

/// Compares every layer, and says of how many numbers the network itself has other ones.
fn compare(lines: &str) -> (usize, usize, usize) {
    let (mut cases, mut numbers, mut others) = (0, 0, 0);
    for line in lines.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let graph = Graph::from_json(&case.graph.to_string()).unwrap();
        let own = interpret(&graph, &slices(&case.inputs)).unwrap();
        for (target, expected) in [
            (Target::Tflite, &case.twice),
            (Target::CmsisNn, &case.twice),
            (Target::TfliteSingle, &case.once),
            (Target::CmsisNnSingle, &case.once),
        ] {
            let (rebuilt, changed) = for_target(&graph, target).unwrap();
            let outputs = interpret(&rebuilt, &slices(&case.inputs)).unwrap();
            assert_eq!(&outputs[0], expected, "{} {target} {line}", case.kind);
            let engine = Engine::new(rebuilt);
            let outputs = engine.run(&slices(&case.inputs)).unwrap();
            assert_eq!(&outputs[0], expected, "engine {target} {line}");
            let differ = own[0].iter().zip(expected).filter(|(a, b)| a != b).count();
            assert!(differ == 0 || !changed.is_empty(), "{target} {line}");
            numbers += expected.len();
            others += differ;
        }
        cases += 1;
    }
    (cases, numbers, others)
}

/// `tests/reference/targets.py 14 270`.
#[test]
fn kernels_have_the_integers_of_cmsis_nn_and_tflite() {
    let (cases, numbers, others) = compare(include_str!("../reference/targets.jsonl"));
    assert_eq!(cases, 270);
    assert!(numbers > 20_000, "{numbers}");
    assert!(others > 500, "{others}");
}

/// More of them, from a file that the same script wrote.
#[test]
fn kernels_of_a_file_have_the_same_integers() {
    let Ok(path) = std::env::var("LOWBIT_TARGETS") else {
        eprintln!("skipped: LOWBIT_TARGETS names no file of targets.py");
        return;
    };
    let lines = std::fs::read_to_string(path).unwrap();
    let (cases, numbers, others) = compare(&lines);
    eprintln!("{cases} layers, {numbers} numbers equal, {others} of which generic has others");
}
