//! The engine has the interpreter's bits.

use lowbit_int::{Engine, interpret};

use super::random::{Random, slices};

/// Some random graphs, each run twice, since the second call finds buffers that the first has used.
/// Returns how many nodes there were, and how many of them are not the engine's own.
pub(crate) fn check(seed: u64, graphs: usize) -> (usize, usize) {
    let mut random = Random(seed);
    let (mut nodes, mut plain) = (0, 0);
    for _ in 0..graphs {
        let graph = random.graph();
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
