//! The engine has the interpreter's bits.

use std::time::Instant;

use lowbit_int::ops::{Linear, Rectifier, Requantize, Weights};
use lowbit_int::{Engine, Graph, Interval, Numbers, Rounding, interpret};

use super::random::{Draw, Random, slices};

/// Some random graphs, each run twice, since the second call finds buffers that the first has used.
/// Returns how many nodes there were, and how many of them are not the engine's own.
pub(crate) fn check(seed: u64, graphs: usize) -> (usize, usize) {
    let mut random = Random(seed);
    let (mut nodes, mut plain) = (0, 0);
    for graph in 0..graphs {
        let graph = match graph % 2 {
            0 => random.graph(),
            _ => random.graph_of(Draw::WideSums),
        };
        let batch = random.below(4);
        let images = random.images(&graph, batch);
        let expected = interpret(&graph, &slices(&images)).unwrap();
        let engine = Engine::new(graph);
        for _ in 0..2 {
            let outputs = engine.run(&slices(&images)).unwrap();
            assert_eq!(outputs, expected, "{}", engine.graph().to_json());
        }
        nodes += engine.graph().nodes().len();
        plain += engine.plain_nodes().count();
    }
    (nodes, plain)
}

#[test]
fn random_graphs_have_the_interpreters_bits() {
    let (nodes, plain) = check(9, 4_000);
    assert!(plain < nodes * 2 / 3, "{plain} of {nodes} nodes");
}

/// 300 x 299 weights of four bits, which the engine keeps two in a byte, and their ends.
#[test]
fn a_linear_layer_of_four_bits_has_the_interpreters_bits() {
    let mut random = Random(17);
    let mut graph = Graph::new();
    let numbers = |bits| Numbers::power_of_two(bits, true, 0).unwrap();
    let x = graph.input("x", &[299], numbers(8)).unwrap();
    let values = (0..300 * 299).map(|_| random.number(-8, 7)).collect();
    let weights = Weights {
        shape: vec![300, 299],
        values,
        numbers: numbers(4),
    };
    let bias = Some((0..300).map(|_| random.number(-999, 999)).collect());
    let sums = graph.push("sums", Linear { weights, bias }, &[x]).unwrap();
    graph.output(sums).unwrap();
    let images = random.images(&graph, 5);
    let expected = interpret(&graph, &slices(&images)).unwrap();
    let engine = Engine::new(graph);
    assert_eq!(engine.plain_nodes().count(), 0);
    assert_eq!(engine.run(&slices(&images)).unwrap(), expected);
}

/// 2^60 times 0 or 1 fits; times 255, the greatest number of 8 bits, it does not.
#[test]
fn a_table_has_what_is_proven_of_its_input() {
    let mut graph = Graph::new();
    let byte = Numbers::power_of_two(8, false, 0).unwrap();
    let x = graph.input("x", &[2], byte).unwrap();
    let limits = Interval {
        least: 0,
        greatest: 1,
    };
    graph.limit(x, limits).unwrap();
    let requantize = Requantize::by_multiplier(1 << 60, 60, Rounding::HalfEven, byte);
    let y = graph.push("y", requantize, &[x]).unwrap();
    graph.output(y).unwrap();
    let engine = Engine::new(graph);
    assert_eq!(engine.plain_nodes().count(), 0);
    assert_eq!(engine.run(&[&[0, 1]]).unwrap(), [[0, 1]]);
}

/// A table of 256 numbers is made of as many, not of 256 images of 2^22.
#[test]
fn a_table_is_planned_without_the_image() {
    let mut graph = Graph::new();
    let byte = Numbers::power_of_two(8, true, 0).unwrap();
    let x = graph.input("x", &[4, 1 << 10, 1 << 10], byte).unwrap();
    graph.push("y", Rectifier {}, &[x]).unwrap();
    let start = Instant::now();
    let engine = Engine::new(graph);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(engine.plain_nodes().count(), 0);
    assert!(seconds < 0.5, "{seconds}");
}
