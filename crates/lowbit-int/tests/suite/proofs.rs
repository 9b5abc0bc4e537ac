//! What is proven: it holds, it is tight, and it is what `f32` needs.

use lowbit_int::interpret::evaluate;
use lowbit_int::ops::{Add, Linear, Mul, Requantize, Weights};
use lowbit_int::proof::{Exactness, Proof, count_ties, witness};
use lowbit_int::{Engine, Graph, Interval, Numbers, Operator, Rounding, interpret, trace};

use super::random::{Random, slices};

/// A linear layer of 8-bit weights over inputs of given bits.
fn linear(bits: u32, weights: Vec<i64>, bias: i64) -> Graph {
    let mut graph = Graph::new();
    let numbers = Numbers::power_of_two(bits, true, -4).unwrap();
    let x = graph.input("x", &[weights.len()], numbers).unwrap();
    let weights = Weights {
        shape: vec![1, weights.len()],
        numbers: Numbers::power_of_two(8, true, -4).unwrap(),
        values: weights,
    };
    let bias = Some(vec![bias]);
    let y = graph.push("sum", Linear { weights, bias }, &[x]).unwrap();
    graph.output(y).unwrap();
    graph
}

fn exactness(graph: &Graph, node: usize) -> Exactness {
    Proof::of(graph).nodes()[node].exactness.clone()
}

/// Every sum and product of a graph has inputs for which it is the least and the greatest, within what
/// is proven of them; the width that is proven holds both, and one bit less does not. Returns how many
/// there were.
fn check_witnesses(graph: &Graph) -> usize {
    let mut attained = 0;
    for (node, proof) in graph.nodes().iter().zip(Proof::of(graph).nodes()) {
        let ends = [false, true].map(|greatest| witness(graph, node, greatest));
        let [Some(least), Some(greatest)] = ends else {
            continue;
        };
        for witness in [&least, &greatest] {
            for (values, &id) in witness.inputs.iter().zip(node.inputs()) {
                let tensor = graph.tensor(id);
                let of_channel = values.len() / tensor.shape()[0];
                for (values, interval) in values.chunks(of_channel).zip(tensor.intervals()) {
                    let holds = |x| (interval.least..=interval.greatest).contains(x);
                    assert!(values.iter().all(holds));
                }
            }
            // A tensor that is read twice is the same in both places.
            let read = node.inputs().iter().zip(&witness.inputs);
            for (id, values) in read.clone() {
                assert!(
                    read.clone()
                        .all(|(other, same)| other != id || same == values)
                );
            }
            let sums = evaluate(graph, node, &slices(&witness.inputs));
            assert_eq!(sums[witness.element], witness.sum, "{node:?}");
        }
        let fits = |bits: u32, sum: i64| {
            let limit = 1i128 << (bits - 1);
            (-limit..limit).contains(&i128::from(sum))
        };
        let (bits, sums) = (proof.bits, [least.sum, greatest.sum]);
        assert!(sums.iter().all(|&sum| fits(bits, sum)));
        assert!(bits == 1 || !sums.iter().all(|&sum| fits(bits - 1, sum)));
        attained += 1;
    }
    attained
}

#[test]
fn witnesses_attain_the_bounds() {
    let mut random = Random(5);
    let attained = (0..3_000).map(|_| check_witnesses(&random.graph()));
    let attained: usize = attained.sum();
    assert!(attained > 3_000, "{attained}");
}

/// 21 convolutions, 9 additions, an average and a linear layer; all of 8 bits, so that all their sums
/// are exact in `f32`. The engine runs it with the interpreter's bits.
#[test]
fn resnet20() {
    let mut net = super::resnet20::resnet20().unwrap();
    // Convolutions of 3x3: the first of 3 channels, three stages with six each, the first in the
    // second and third stage from half the channels; shortcuts of 1x1; the linear layer.
    let stage = |size: usize, c: usize, from: usize| size * size * c * (9 * from + 5 * 9 * c);
    let stages = stage(32, 16, 16) + stage(16, 32, 16) + stage(8, 64, 32);
    let others = 32 * 32 * 16 * 27 + 16 * 16 * 32 * 16 + 8 * 8 * 64 * 32 + 640;
    assert_eq!(net.products, stages + others);
    assert_eq!(check_witnesses(&net.graph), 21 + 9 + 1 + 1);
    let proof = Proof::of(&net.graph);
    assert_eq!(proof.exactness(), Exactness::Proven, "{proof}");
    let image: Vec<i64> = (0..2 * 3 * 32 * 32).map(|_| net.byte()).collect();
    let expected = interpret(&net.graph, &[&image]).unwrap();
    assert_eq!(Engine::new(net.graph).run(&[&image]).unwrap(), expected);
}

/// Every input of three numbers of three bits is tried.
#[test]
fn the_interval_is_that_of_all_inputs() {
    let mut random = Random(6);
    for _ in 0..200 {
        let weights: Vec<i64> = (0..3).map(|_| random.number(-128, 127)).collect();
        let bias = random.number(-500, 500);
        let graph = linear(3, weights.clone(), bias);
        let x = |code: i64, place: u32| (code >> (3 * place)) % 8 - 4;
        let sums = (0..512).map(|code| {
            let products = (0..3).map(|i| weights[i as usize] * x(code, i));
            products.sum::<i64>() + bias
        });
        let expected = Interval {
            least: sums.clone().min().unwrap(),
            greatest: sums.max().unwrap(),
        };
        assert_eq!(Proof::of(&graph).nodes()[0].interval, expected);
    }
}

/// Of a number from -128 to 127: twice it, its differences to itself, and its square, which is not
/// below 0.
#[test]
fn a_tensor_that_is_read_twice_is_one() {
    let mut graph = Graph::new();
    let byte = Numbers::power_of_two(8, true, 0).unwrap();
    let x = graph.input("x", &[2, 3], byte).unwrap();
    let add = |multipliers| Operator::from(Add { multipliers });
    for (name, operator, expected) in [
        ("twice", add([1, 1]), [-256, 254]),
        ("nothing", add([1, -1]), [0, 0]),
        ("difference", add([3, -3]), [0, 0]),
        ("square", Mul {}.into(), [0, 16_384]),
    ] {
        let y = graph.push(name, operator, &[x, x]).unwrap();
        let Interval { least, greatest } = graph.tensor(y).interval();
        assert_eq!([least, greatest], expected, "{name}");
    }
    assert_eq!(check_witnesses(&graph), 4);
    // Partial sums are those of either term alone.
    let nothing = &Proof::of(&graph).nodes()[1].sums.clone().unwrap()[0];
    assert_eq!(
        [nothing.partial.least, nothing.partial.greatest],
        [-255, 255]
    );
}

#[test]
fn what_runs_is_within_what_is_proven() {
    let mut random = Random(7);
    for _ in 0..3_000 {
        let graph = random.graph();
        let images = random.images(&graph, 1);
        let trace = trace(&graph, &slices(&images)).unwrap();
        for (id, tensor) in graph.tensors() {
            let values = trace.tensor(id);
            let channels = values.chunks(values.len() / tensor.shape()[0]);
            for ((values, interval), residue) in
                channels.zip(tensor.intervals()).zip(tensor.residues())
            {
                for &x in values {
                    assert!(
                        (interval.least..=interval.greatest).contains(&x),
                        "{tensor:?}"
                    );
                    assert!(residue.meets(residue.bits, x), "{tensor:?}");
                    let numbers = tensor.numbers();
                    assert!((numbers.least()..=numbers.greatest()).contains(&x));
                }
            }
        }
        for ties in count_ties(&graph, &slices(&images)).unwrap() {
            assert!(!ties.impossible || ties.ties == 0, "{ties:?}");
        }
    }
}

/// Sums that are proven exact are summed in `f32`, forwards, backwards, in pairs, and with fused
/// instructions.
#[test]
fn sums_proven_exact_are_exact_in_any_order() {
    let mut random = Random(8);
    let mut proven = 0;
    for _ in 0..2_000 {
        let count = 1 + random.below(200);
        let weights: Vec<i64> = (0..count).map(|_| random.number(-128, 127)).collect();
        let bias = random.number(-(1 << 20), 1 << 20);
        let graph = linear(11, weights.clone(), bias);
        if exactness(&graph, 0) != Exactness::Proven {
            continue;
        }
        proven += 1;
        let x = &random.images(&graph, 1)[0];
        let exact = evaluate(&graph, &graph.nodes()[0], &[x])[0] as f32 / 256.0;
        let real = |k: i64| k as f32 / 16.0;
        let products: Vec<(f32, f32)> = x
            .iter()
            .zip(&weights)
            .map(|(&x, &w)| (real(x), real(w)))
            .collect();
        let bias = bias as f32 / 256.0;
        let forwards = products.iter().fold(bias, |sum, (x, w)| sum + x * w);
        let backwards = products.iter().rev().fold(0.0, |sum, (x, w)| sum + x * w) + bias;
        let fused = products.iter().fold(bias, |sum, (x, w)| x.mul_add(*w, sum));
        let mut pairs: Vec<f32> = products.iter().map(|(x, w)| x * w).chain([bias]).collect();
        while pairs.len() > 1 {
            pairs = pairs.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
        assert_eq!([forwards, backwards, fused, pairs[0]], [exact; 4]);
    }
    assert!((500..2_000).contains(&proven), "{proven}");
}

/// 2^10 * 127 * 129 = 16,776,192 is below 2^24 = 16,777,216, by 1,024: a bias of 1,023 is the last
/// that is proven, in either direction.
#[test]
fn the_limit_by_hand() {
    let graph = |bias| linear(11, vec![-127; 129], bias);
    assert_eq!(exactness(&graph(1_023), 0), Exactness::Proven);
    let reason = "sum reaches 16777216, f32 holds 2^24".to_string();
    assert_eq!(exactness(&graph(1_024), 0), Exactness::Not(reason));
    // Below: 1,023 * 127 * 129 = 16,759,809, and 17,407 more are 2^24.
    assert_eq!(exactness(&graph(-17_406), 0), Exactness::Proven);
    assert!(matches!(exactness(&graph(-17_407), 0), Exactness::Not(_)));
    // The sum is small, but half of its terms are not.
    let mut cancelling = Graph::new();
    let numbers = Numbers::power_of_two(24, false, 0).unwrap();
    let (least, greatest) = (numbers.greatest() - 1, numbers.greatest());
    let a = cancelling.input("a", &[1], numbers).unwrap();
    let b = cancelling.input("b", &[1], numbers).unwrap();
    for input in [a, b] {
        cancelling
            .limit(input, Interval { least, greatest })
            .unwrap();
    }
    cancelling
        .push(
            "difference",
            Add {
                multipliers: [2, -2],
            },
            &[a, b],
        )
        .unwrap();
    assert_eq!(Proof::of(&cancelling).nodes()[0].interval.greatest, 2);
    let reason = "partial sums reach 33554430, f32 holds 2^24".to_string();
    assert_eq!(exactness(&cancelling, 0), Exactness::Not(reason));
}

/// Sums of `w x + b` in 2^-8, shifted by `shift`.
fn requantized(w: i64, b: i64, shift: u32, rounding: Rounding) -> Graph {
    let mut graph = linear(8, vec![w], b);
    let sum = graph.find("sum").unwrap();
    let numbers = Numbers::power_of_two(16, true, shift as i32 - 8).unwrap();
    let requantize = Requantize::by_shift(shift, rounding, numbers);
    graph.push("requantize", requantize, &[sum]).unwrap();
    graph
}

#[test]
fn ties_by_hand() {
    let of = |w, b, shift, rounding| exactness(&requantized(w, b, shift, rounding), 1);
    for rounding in [Rounding::HalfAway, Rounding::HalfUp] {
        // 3 x + 1 with a shift by 2 is 2 modulo 4 for x = 3.
        assert_eq!(of(3, 1, 2, rounding), Exactness::ProvenIfNoTie);
        // 6 x + 1 is odd; half of 4 is even.
        assert_eq!(of(6, 1, 2, rounding), Exactness::Proven);
        // With a shift by 1, what is odd is a tie.
        assert_eq!(of(6, 1, 1, rounding), Exactness::ProvenIfNoTie);
        // And what is even is none.
        assert_eq!(of(6, 2, 1, rounding), Exactness::Proven);
        assert_eq!(of(5, 5, 0, rounding), Exactness::Proven);
    }
    assert_eq!(of(3, 1, 2, Rounding::HalfEven), Exactness::Proven);
    assert!(matches!(of(3, 1, 2, Rounding::Floor), Exactness::Not(_)));
    // 3 x + 1 over all 256 inputs: x = 3 modulo 4, a quarter.
    let graph = requantized(3, 1, 2, Rounding::HalfUp);
    let all: Vec<i64> = (-128..128).collect();
    let ties = &count_ties(&graph, &[&all]).unwrap()[0];
    assert_eq!((ties.ties, ties.numbers, ties.impossible), (64, 256, false));
}

#[test]
fn other_scales_are_not_proven() {
    let mut graph = linear(8, vec![1], 0);
    let sum = graph.find("sum").unwrap();
    let numbers = Numbers::affine(8, true, 0.3, 0).unwrap();
    let requantize = Requantize::by_multiplier(7, 9, Rounding::HalfEven, numbers);
    graph.push("requantize", requantize, &[sum]).unwrap();
    let reason = "the scale of requantize is no power of two".to_string();
    assert_eq!(exactness(&graph, 1), Exactness::Not(reason.clone()));
    let all = Exactness::Not(format!("requantize: {reason}"));
    assert_eq!(Proof::of(&graph).exactness(), all);
    let table = Proof::of(&graph).to_string();
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("sum") && line.ends_with("proven"))
    );
}

/// 4 times 2^126 is 2^128, which is infinite in `f32`; 1 times 2^126 is not. The sums, in units of
/// 2^100, are small.
#[test]
fn weights_beyond_f32_are_not_proven() {
    let mut graph = Graph::new();
    let numbers = Numbers::power_of_two(4, true, -26).unwrap();
    let x = graph.input("x", &[1], numbers).unwrap();
    for (name, weight) in [("one", 1), ("four", 4)] {
        let weights = Weights {
            shape: vec![1, 1],
            numbers: Numbers::power_of_two(8, true, 126).unwrap(),
            values: vec![weight],
        };
        let bias = None;
        graph.push(name, Linear { weights, bias }, &[x]).unwrap();
    }
    assert_eq!(exactness(&graph, 0), Exactness::Proven);
    let reason = "its weights are beyond the greatest f32".to_string();
    assert_eq!(exactness(&graph, 1), Exactness::Not(reason));
}
