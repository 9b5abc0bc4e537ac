//! Networks without ties.

use lowbit_int::ops::{Convolution, Requantize, Sliding, Weights};
use lowbit_int::proof::{Exactness, Proof, count_ties};
use lowbit_int::{Graph, Numbers, Operator, Rounding, TieFree, interpret, tie_free};

use super::random::{Random, slices};

/// The graph's text with another rounding wherever it rounds to the nearest.
fn rounded(graph: &Graph, rounding: &str) -> Graph {
    let mut text = graph.to_json();
    for name in ["half-even", "half-away", "half-up"] {
        text = text.replace(name, rounding);
    }
    Graph::from_json(&text).unwrap()
}

/// Three convolutions of `bits` bits, each followed by a requantization.
fn network(random: &mut Random, bits: u32) -> Graph {
    let mut graph = Graph::new();
    let activations = Numbers::power_of_two(8, true, -5).unwrap();
    let mut x = graph.input("x", &[3, 7, 7], activations).unwrap();
    for layer in 0..3 {
        let numbers = Numbers::power_of_two(bits, true, -4).unwrap();
        let channels = graph.tensor(x).shape()[0];
        let shape = vec![5, channels, 3, 3];
        let count: usize = shape.iter().product();
        let values = (0..count).map(|_| random.number(numbers.least(), numbers.greatest()));
        let weights = Weights {
            values: values.collect(),
            shape,
            numbers,
        };
        let bias = Some((0..5).map(|_| random.number(-99, 99)).collect());
        let sliding = Sliding::new(2).with_padding(1);
        let convolution = Convolution::new(weights, bias).with_sliding(sliding);
        let sums = graph
            .push(&format!("conv{layer}"), convolution, &[x])
            .unwrap();
        // Sums in 2^-9.
        let requantize = Requantize::by_shift(4, Rounding::HalfAway, activations);
        x = graph
            .push(&format!("requantize{layer}"), requantize, &[sums])
            .unwrap();
    }
    graph.output(x).unwrap();
    graph
}

/// With any rounding to the nearest the bits of the old network with half up.
fn check(graph: &Graph, free: &Graph, random: &mut Random) {
    let images = random.images(graph, 2);
    let expected = interpret(&rounded(graph, "half-up"), &slices(&images)).unwrap();
    for rounding in ["half-even", "half-away", "half-up"] {
        let outputs = interpret(&rounded(free, rounding), &slices(&images)).unwrap();
        assert_eq!(outputs, expected, "{rounding} {}", graph.to_json());
    }
    for ties in count_ties(free, &slices(&images)).unwrap() {
        let id = free.find(&ties.node).unwrap();
        let node = free
            .nodes()
            .iter()
            .find(|node| node.output() == id)
            .unwrap();
        let Operator::Requantize(requantize) = node.operator() else {
            continue;
        };
        assert!(
            requantize.rounding == Rounding::Floor || ties.ties == 0,
            "{ties:?}"
        );
    }
}

#[test]
fn doubled_weights_and_odd_biases_have_no_ties() {
    let mut random = Random(11);
    for _ in 0..50 {
        let graph = network(&mut random, 7);
        assert_eq!(Proof::of(&graph).exactness(), Exactness::ProvenIfNoTie);
        for how in [TieFree::DoubledWeights, TieFree::Offset] {
            let (free, changed) = tie_free(&graph, how).unwrap();
            assert_eq!(changed, ["requantize0", "requantize1", "requantize2"]);
            assert_eq!(Proof::of(&free).exactness(), Exactness::Proven);
            let images = random.images(&graph, 4);
            let ties = count_ties(&free, &slices(&images)).unwrap();
            assert!(ties.iter().all(|ties| ties.impossible && ties.ties == 0));
            check(&graph, &free, &mut random);
            // Nothing is left to do.
            let (again, changed) = tie_free(&free, how).unwrap();
            assert_eq!((again, changed.len()), (free, 0));
        }
    }
}

#[test]
fn offsets_suit_every_graph() {
    let mut random = Random(12);
    let mut changed = 0;
    for _ in 0..1_000 {
        let graph = random.graph();
        let Ok((free, names)) = tie_free(&graph, TieFree::Offset) else {
            continue;
        };
        changed += names.len();
        check(&graph, &free, &mut random);
    }
    assert!(changed > 300, "{changed}");
}

#[test]
fn weights_of_eight_bits_are_refused() {
    let graph = network(&mut Random(13), 8);
    let error = tie_free(&graph, TieFree::DoubledWeights)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("conv0: a weight is ") && error.ends_with(", of more than 7 bits"));
}
