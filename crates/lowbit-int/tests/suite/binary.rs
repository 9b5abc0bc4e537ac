//! Networks with weights of one magnitude and activations of one or two bits.

use lowbit_int::ops::{Add, Convolution, Linear, LookUp, Requantize, Sliding, Weights};
use lowbit_int::{Engine, Graph, Interval, Numbers, Rounding, TensorId, interpret};

use super::random::{Random, slices};

/// Weights of `h` and `-h`, with an `h` for each output; now and then one that is another number.
fn weights(random: &mut Random, shape: Vec<usize>) -> Weights {
    let (count, outputs) = (shape.iter().product::<usize>(), shape[0]);
    let most = if random.chance(3) { 127 } else { 1 };
    let magnitudes: Vec<i64> = (0..outputs).map(|_| random.number(1, most)).collect();
    let of_output = count / outputs;
    let values = (0..count).map(|i| match random.chance(2) {
        true => magnitudes[i / of_output],
        false => -magnitudes[i / of_output],
    });
    let mut values: Vec<i64> = values.collect();
    if random.chance(20) {
        values[random.below(count)] = 0;
    }
    Weights {
        shape,
        numbers: Numbers::power_of_two(8, true, 0).unwrap(),
        values,
    }
}

/// An input of at most four numbers, and perhaps a table of -1 and 1 after it.
fn input(random: &mut Random, graph: &mut Graph, shape: &[usize]) -> TensorId {
    let kind = random.below(6);
    let numbers = match kind {
        0 => Numbers::power_of_two(1, random.chance(2), 0),
        1 => Numbers::power_of_two(2, random.chance(2), 0),
        2 => Numbers::affine(2, false, 0.3, random.number(0, 3)),
        _ => Numbers::power_of_two(8, true, 0),
    };
    let numbers = numbers.unwrap();
    let x = graph.input("x", shape, numbers).unwrap();
    if kind == 3 || kind == 4 {
        let least = random.number(-8, 7);
        let greatest = least + random.number(0, 4);
        graph.limit(x, Interval { least, greatest }).unwrap();
    }
    if kind != 5 {
        return x;
    }
    let values = [[-1, 1], [0, 2], [-4, 4], [3, 5]][random.below(4)];
    let table = (0..256).map(|_| values[random.below(2)]).collect();
    let numbers = Numbers::power_of_two(4, true, 0).unwrap();
    graph
        .push("signs", LookUp { table, numbers }, &[x])
        .unwrap()
}

/// A convolution of an image, or a linear layer of its last dimension.
fn product(random: &mut Random, graph: &mut Graph, name: &str, x: TensorId) -> Option<TensorId> {
    let shape = graph.tensor(x).shape().to_vec();
    let outputs = [1, 10, 16, 32, 48, 64, 80, 1 + random.below(40)][random.below(8)];
    let bias = |random: &mut Random, count: usize| {
        let bias = (0..count).map(|_| random.number(-20, 20)).collect();
        random.chance(2).then_some(bias)
    };
    if shape.len() == 1 {
        let weights = weights(random, vec![outputs, shape[0]]);
        let bias = bias(random, outputs);
        return graph.push(name, Linear { weights, bias }, &[x]).ok();
    }
    let groups = [1, 1, 2, 3, shape[0]][random.below(5)];
    let groups = if shape[0].is_multiple_of(groups) {
        groups
    } else {
        1
    };
    let outputs = if groups == 1 {
        outputs
    } else {
        groups * [1, 16, 32][random.below(3)]
    };
    let mut of = vec![outputs, shape[0] / groups];
    of.extend(shape[1..].iter().map(|_| 1 + random.below(3)));
    let sliding = Sliding {
        stride: shape[1..].iter().map(|_| 1 + random.below(2)).collect(),
        padding: shape[1..]
            .iter()
            .map(|_| [random.below(3), random.below(3)])
            .collect(),
        dilation: shape[1..].iter().map(|_| 1 + random.below(2)).collect(),
    };
    let weights = weights(random, of);
    let bias = bias(random, outputs);
    let convolution = Convolution::new(weights, bias)
        .with_groups(groups)
        .with_sliding(sliding);
    graph.push(name, convolution, &[x]).ok()
}

/// A requantization to so many bits, by a shift or by a multiplier for each channel.
fn requantize(
    random: &mut Random,
    graph: &mut Graph,
    name: &str,
    (x, bits, signed): (TensorId, u32, bool),
) -> TensorId {
    let tensor = graph.tensor(x);
    let (most, channels) = (
        tensor.numbers().bits().saturating_sub(bits),
        tensor.shape()[0],
    );
    let shift = random.below(most as usize + 1) as u32;
    let rounding = Rounding::ALL[random.below(4)];
    let exponent = tensor.numbers().exponent().filter(|_| !random.chance(3));
    let requantize = match exponent {
        Some(exponent) => {
            let numbers = Numbers::power_of_two(bits, signed, exponent + shift as i32);
            Requantize::by_shift(shift, rounding, numbers.unwrap())
        }
        None => Requantize {
            multiplier: (0..channels)
                .map(|_| 1 + 2 * random.below(2000) as i64)
                .collect(),
            offset: (0..channels).map(|_| random.number(-5000, 5000)).collect(),
            shift: vec![shift + 11],
            rounding,
            numbers: Numbers::affine(bits, signed, 0.3, 0).unwrap(),
        },
    };
    graph.push(name, requantize, &[x]).unwrap()
}

/// A few layers; what follows a product may be added to a tensor of its shape.
pub(crate) fn graph(random: &mut Random) -> Graph {
    let mut graph = Graph::new();
    let mut shape = vec![[1, 3, 8, 16, 20, 32, 64, 100][random.below(8)]];
    for _ in 0..random.below(6).min(2) {
        shape.push(1 + random.below(12));
    }
    let mut last = input(random, &mut graph, &shape);
    for layer in 0..1 + random.below(3) {
        let Some(sums) = product(random, &mut graph, &format!("n{layer}"), last) else {
            break;
        };
        let few = (1 + random.below(2) as u32, random.chance(4));
        let (bits, signed) = if random.chance(2) { (8, true) } else { few };
        last = requantize(
            random,
            &mut graph,
            &format!("r{layer}"),
            (sums, bits, signed),
        );
        let shape = graph.tensor(last).shape();
        let alike = graph
            .tensors()
            .filter(|(_, tensor)| tensor.shape() == shape);
        let alike: Vec<TensorId> = alike.map(|(id, _)| id).collect();
        let other = alike[random.below(alike.len())];
        let multipliers = [1, 1 << random.below(3)];
        let add = graph.push(&format!("a{layer}"), Add { multipliers }, &[last, other]);
        if let Ok(sums) = add {
            let (bits, signed) = few;
            last = requantize(
                random,
                &mut graph,
                &format!("s{layer}"),
                (sums, bits, signed),
            );
        }
    }
    let _ = graph.output(last);
    graph
}

/// Some graphs; returns how many products there were, and how many of them were counted as bits.
#[allow(dead_code)]
pub(crate) fn check(seed: u64, graphs: usize) -> (usize, usize) {
    let mut random = Random(seed);
    let (mut products, mut counted) = (0, 0);
    for _ in 0..graphs {
        let graph = graph(&mut random);
        let images = random.images(&graph, 2);
        let expected = interpret(&graph, &slices(&images)).unwrap();
        let engine = Engine::new(graph);
        for _ in 0..2 {
            let outputs = engine.run(&slices(&images)).unwrap();
            assert_eq!(outputs, expected, "{}", engine.graph().to_json());
        }
        let nodes = engine.graph().nodes().iter();
        products += nodes.filter(|node| node.name().starts_with('n')).count();
        counted += engine.binary_nodes().count();
    }
    (products, counted)
}

#[test]
fn counts_of_bits_have_the_interpreters_bits() {
    let (products, counted) = check(11, 1_000);
    assert!(counted > products / 4, "{counted} of {products} products");
}

/// Weights of 127 and -127, codes 3 and 0, sums up to 127 * 3 * 9 * 64 = 219,456: by bits, as the
/// interpreter has them, with a bias that lifts half of them above zero.
#[test]
fn the_greatest_weights_and_codes() {
    let mut graph = Graph::new();
    let numbers = Numbers::power_of_two(2, false, 0).unwrap();
    let x = graph.input("x", &[64, 5, 5], numbers).unwrap();
    let weights = Weights {
        shape: vec![2, 64, 3, 3],
        numbers: Numbers::power_of_two(8, true, 0).unwrap(),
        values: [[127; 576], [-127; 576]].concat(),
    };
    let sliding = Sliding::new(2).with_padding(1);
    let convolution = Convolution::new(weights, Some(vec![1, -1])).with_sliding(sliding);
    let y = graph.push("y", convolution, &[x]).unwrap();
    graph.output(y).unwrap();
    let engine = Engine::new(graph);
    assert_eq!(engine.binary_nodes().collect::<Vec<_>>(), ["y"]);
    let sums = engine.run(&[&[3; 64 * 25]]).unwrap();
    // The middle of the image, and a corner, where four of nine elements lie in it.
    assert_eq!((sums[0][12], sums[0][25 + 12]), (219_457, -219_457));
    assert_eq!(
        (sums[0][0], sums[0][25]),
        (127 * 3 * 4 * 64 + 1, -127 * 3 * 4 * 64 - 1)
    );
}
