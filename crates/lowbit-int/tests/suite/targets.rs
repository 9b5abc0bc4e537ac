//! Graphs of other targets' arithmetic, against what those computed.

use lowbit_int::ops::{
    Add, AveragePool, Clamp, Convolution, Flatten, Linear, LookUp, MaxPool, Rectifier, Requantize,
    Sliding, Weights, Windows,
};
use lowbit_int::{
    Engine, Graph, Numbers, Operator, Rounding, Target, TensorId, TieFree, for_target, interpret,
    tie_free,
};
use serde::Deserialize;
use serde_json::Value;

use super::networks;
use super::random::{Random, slices};
use super::variable;

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

/// `tests/reference/targets.py 15 270`.
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
    let Some(path) = variable("LOWBIT_TARGETS") else {
        eprintln!("skipped: LOWBIT_TARGETS names no file of targets.py");
        return;
    };
    let lines = std::fs::read_to_string(path).unwrap();
    let (cases, numbers, others) = compare(&lines);
    eprintln!("{cases} layers, {numbers} numbers equal, {others} of which generic has others");
}

/// Sums or averages of one shift, as `tests/reference/targets_esp.py` wrote them.
#[derive(Deserialize)]
struct Shifted {
    shift: u32,
    sums: Vec<i64>,
    esp32_p4: Vec<i64>,
    esp32_s3: Vec<i64>,
}

#[derive(Deserialize)]
struct OfEsp {
    shifts: Vec<Shifted>,
    averages: Vec<Shifted>,
}

fn power(bits: u32, signed: bool, exponent: i32) -> Numbers {
    Numbers::power_of_two(bits, signed, exponent).unwrap()
}

/// A shift that says of itself that it rounds down.
fn floor(shift: u32, exponent: i32) -> Requantize {
    Requantize::by_shift(shift, Rounding::Floor, power(8, true, exponent))
}

impl Shifted {
    fn check(&self, graph: &Graph, inputs: &[i64]) {
        for (target, expected) in [
            (Target::Esp32P4, &self.esp32_p4),
            (Target::Esp32S3, &self.esp32_s3),
        ] {
            let (graph, _) = for_target(graph, target).unwrap();
            let outputs = interpret(&graph, &[inputs]).unwrap();
            assert_eq!(&outputs[0], expected, "{target} {}", self.shift);
        }
    }
}

/// A sum is the bias of a linear layer over a zero; an average is over eight numbers that have the sum.
#[test]
fn chips_round_as_esp_dl_does() {
    let all: OfEsp = serde_json::from_str(include_str!("../reference/targets_esp.json")).unwrap();
    for shifted in &all.shifts {
        let mut graph = Graph::new();
        let x = graph.input("x", &[1], power(8, true, -4)).unwrap();
        let count = shifted.sums.len();
        let weights = Weights {
            shape: vec![count, 1],
            numbers: power(8, true, -3),
            values: vec![1; count],
        };
        let bias = Some(shifted.sums.clone());
        let sums = graph.push("sums", Linear { weights, bias }, &[x]).unwrap();
        let y = floor(shifted.shift, shifted.shift as i32 - 7);
        let y = graph.push("y", y, &[sums]).unwrap();
        graph.output(y).unwrap();
        shifted.check(&graph, &[0]);
    }
    for shifted in &all.averages {
        let mut graph = Graph::new();
        let count = shifted.sums.len();
        let x = graph
            .input("x", &[count, 2, 4], power(8, true, -5))
            .unwrap();
        let pool = AveragePool {
            windows: Windows::global(2),
            include_padding: false,
        };
        let sums = graph.push("sums", pool, &[x]).unwrap();
        let y = floor(shifted.shift, shifted.shift as i32 - 8);
        let y = graph.push("y", y, &[sums]).unwrap();
        graph.output(y).unwrap();
        let eight = |sum: i64| (0..8).map(move |i| (sum + i).div_euclid(8));
        let images: Vec<i64> = shifted.sums.iter().copied().flat_map(eight).collect();
        shifted.check(&graph, &images);
    }
}

/// Three convolutions of at most 7 bits with a residual sum of one step, the greatest of windows, and a
/// linear layer.
fn network(random: &mut Random) -> Graph {
    let mut graph = Graph::new();
    let byte = power(8, true, -5);
    let mut random_weights = |shape: &[usize]| Weights {
        shape: shape.to_vec(),
        numbers: power(7, true, -4),
        values: (0..shape.iter().product())
            .map(|_| random.number(-64, 63))
            .collect(),
    };
    let mut x = graph.input("x", &[3, 6, 6], byte).unwrap();
    let mut residual = x;
    for (layer, rounding) in [Rounding::HalfEven, Rounding::HalfAway, Rounding::HalfUp]
        .into_iter()
        .enumerate()
    {
        let bias = Some(vec![7 * layer as i64, -5, 0]);
        let sliding = Sliding::new(2).with_padding(1);
        let convolution = Convolution::new(random_weights(&[3, 3, 3, 3]), bias);
        let convolution = convolution.with_sliding(sliding);
        let sums = graph.push(&format!("conv{layer}"), convolution, &[x]);
        // Sums in 2^-9.
        let shift = Requantize::by_shift(6, rounding, power(8, true, -3));
        let shift = match layer {
            0 => Requantize::by_shift(4, rounding, byte),
            1 => Requantize::by_shift(4, rounding, byte),
            _ => shift,
        };
        x = graph
            .push(&format!("out{layer}"), shift, &[sums.unwrap()])
            .unwrap();
        match layer {
            0 => residual = x,
            1 => {
                let add = Add {
                    multipliers: [1, 1],
                };
                let sums = graph.push("add", add, &[x, residual]).unwrap();
                let saturated = Requantize::by_shift(0, rounding, byte);
                x = graph.push("sum", saturated, &[sums]).unwrap();
            }
            _ => {}
        }
    }
    let windows = Windows::Sliding {
        kernel: vec![2, 2],
        sliding: Sliding::new(2).with_stride(2),
    };
    x = graph.push("pool", MaxPool { windows }, &[x]).unwrap();
    x = graph.push("flatten", Flatten {}, &[x]).unwrap();
    let linear = Linear {
        weights: random_weights(&[10, 27]),
        bias: None,
    };
    let sums = graph.push("linear", linear, &[x]).unwrap();
    let y = Requantize::by_shift(5, Rounding::HalfEven, power(8, true, -2));
    let y = graph.push("y", y, &[sums]).unwrap();
    graph.output(y).unwrap();
    graph
}

/// Without ties one rounding is as good as another; two are not.
#[test]
fn without_ties_targets_that_round_once_agree() {
    let mut random = Random(21);
    let (mut ties, mut twice) = (0, 0);
    for _ in 0..20 {
        let graph = network(&mut random);
        let (free, _) = tie_free(&graph, TieFree::DoubledWeights).unwrap();
        let images = random.images(&graph, 8);
        let expected = interpret(&free, &slices(&images)).unwrap();
        for target in Target::ALL {
            let run = |graph: &Graph| interpret(graph, &slices(&images)).unwrap();
            let (own, _) = for_target(&graph, target).unwrap();
            ties += usize::from(run(&own) != expected);
            let (rebuilt, changed) = for_target(&free, target).unwrap();
            if matches!(target, Target::Tflite | Target::CmsisNn) {
                twice += usize::from(run(&rebuilt) != expected);
                continue;
            }
            assert_eq!(run(&rebuilt), expected, "{target}");
            assert_eq!(changed, [""; 0], "{target}");
        }
    }
    assert!(ties > 60 && twice > 20, "{ties} {twice}");
}

/// A quarter of 1 is 0.25: half of it, rounded up, is 1, half of which, rounded away from zero, is 1.
/// Half of -1, rounded up, is 0.
#[test]
fn two_roundings_by_hand() {
    let mut graph = Graph::new();
    let x = graph.input("x", &[4], power(8, true, 0)).unwrap();
    let y = Requantize::by_shift(2, Rounding::HalfEven, power(8, true, 2));
    let y = graph.push("y", y, &[x]).unwrap();
    graph.output(y).unwrap();
    for (target, expected, changed) in [
        (Target::Generic, [0, 0, 1, -1], vec![]),
        (Target::Tflite, [1, 0, 1, -1], vec!["y"]),
        (Target::TfliteSingle, [0, 0, 1, -1], vec!["y"]),
    ] {
        let (graph, names) = for_target(&graph, target).unwrap();
        assert_eq!(interpret(&graph, &[&[1, -1, 3, -5]]).unwrap(), [expected]);
        assert_eq!(names, changed);
    }
}

/// Of 1, 1, 0 and 0 the average is a half, which is 1; a half of that is 1 again. Chips make one
/// quarter of it, which is 0.
#[test]
fn averages_are_rounded_before_their_step_changes() {
    let mut graph = Graph::new();
    let x = graph.input("x", &[1, 2, 2], power(8, true, 0)).unwrap();
    let pool = AveragePool {
        windows: Windows::global(2),
        include_padding: false,
    };
    let sums = graph.push("average", pool, &[x]).unwrap();
    let flat = graph.push("flat", Flatten {}, &[sums]).unwrap();
    let y = graph.push("y", floor(3, 1), &[flat]).unwrap();
    graph.output(y).unwrap();
    for (target, expected) in [
        (Target::Tflite, 1),
        (Target::CmsisNnSingle, 1),
        (Target::Esp32P4, 0),
        (Target::Esp32S3, 0),
        (Target::Finn, 0),
    ] {
        let (graph, _) = for_target(&graph, target).unwrap();
        let output = interpret(&graph, &[&[1, 1, 0, 0]]).unwrap();
        assert_eq!(output, [[expected]], "{target}");
    }
}

/// Names, shapes and numbers stay, the engine and files have the same integers, and whatever a target
/// cannot do is one line.
#[test]
fn random_graphs_are_rebuilt_or_refused() {
    let mut random = Random(22);
    let mut rebuilt = [0; 9];
    for number in 0..1_000 {
        let graph = random.graph();
        let images = random.images(&graph, 2);
        for (place, target) in Target::ALL.into_iter().enumerate() {
            // A certificate takes its time.
            if target == Target::OrtX86 && number % 20 > 0 {
                continue;
            }
            let (other, changed) = match for_target(&graph, target) {
                Ok(made) => made,
                Err(error) => {
                    assert!(!error.to_string().contains('\n'), "{error}");
                    continue;
                }
            };
            rebuilt[place] += 1;
            for &id in graph.outputs() {
                let old = graph.tensor(id);
                let new = other.tensor(other.find(old.name()).unwrap());
                // A sum may need more bits, or fewer.
                let [a, b] = [old, new].map(|t| (t.numbers().scale(), t.numbers().zero_point()));
                assert_eq!((old.shape(), a), (new.shape(), b));
            }
            let expected = interpret(&other, &slices(&images)).unwrap();
            if changed.is_empty() {
                assert_eq!(interpret(&graph, &slices(&images)).unwrap(), expected);
            }
            let again = Graph::from_json(&other.to_json()).unwrap();
            assert_eq!(again, other);
            let found = Engine::new(again).run(&slices(&images)).unwrap();
            assert_eq!(found, expected, "{target} {}", graph.to_json());
        }
    }
    let least = [999, 30, 50, 50, 50, 50, 1, 1, 200];
    let enough = rebuilt.iter().zip(least).all(|(n, least)| *n > least);
    assert!(enough, "{rebuilt:?}");
}

/// The networks whose files are certified as exact, rounded half to even.
#[test]
fn networks_for_onnx_runtime_round_half_to_even() {
    for (name, graph) in networks::all() {
        let (rebuilt, _) = for_target(&graph, Target::OrtX86).unwrap();
        for node in rebuilt.nodes() {
            if let Operator::Requantize(requantize) = node.operator() {
                assert_eq!(requantize.rounding, Rounding::HalfEven, "{name}");
            }
        }
    }
}

/// A network of one operator and a requantization, of its first error on a target.
fn error(
    target: Target,
    numbers: Numbers,
    operator: impl Into<Operator>,
    requantize: Requantize,
) -> String {
    let mut graph = Graph::new();
    let x = graph.input("x", &[2, 3, 3], numbers).unwrap();
    let operator = operator.into();
    let inputs: Vec<TensorId> = match operator {
        Operator::Add(_) => vec![x, x],
        _ => vec![x],
    };
    let sums = graph.push("sums", operator, &inputs).unwrap();
    let y = graph.push("y", requantize, &[sums]).unwrap();
    graph.output(y).unwrap();
    for_target(&graph, target).unwrap_err().to_string()
}

/// Pointwise, of two channels.
fn pointwise(bits: u32, weight: i64, bias: i64) -> Convolution {
    let weights = Weights {
        shape: vec![2, 2, 1, 1],
        numbers: power(bits, true, -3),
        values: vec![weight; 4],
    };
    Convolution::new(weights, Some(vec![bias; 2]))
}

fn byte() -> Numbers {
    power(8, true, -4)
}

/// Sums in 2^-7, shifted.
fn shift(shift: u32) -> Requantize {
    floor(shift, shift as i32 - 7)
}

fn affine() -> Numbers {
    Numbers::affine(8, true, 0.1, 3).unwrap()
}

fn add(a: i64, b: i64) -> Add {
    Add {
        multipliers: [a, b],
    }
}

fn average() -> AveragePool {
    AveragePool {
        windows: Windows::global(2),
        include_padding: false,
    }
}

/// A ninth, of which two channels have one each.
fn ninth(channels: usize) -> Requantize {
    Requantize {
        multiplier: vec![57; channels],
        shift: vec![9; channels],
        ..Requantize::by_multiplier(57, 9, Rounding::HalfUp, byte())
    }
}

#[test]
fn what_kernels_cannot_do_is_said() {
    let error = |operator: Operator, end| error(Target::Tflite, byte(), operator, end);
    let point = |bits, weight, bias| Operator::from(pointwise(bits, weight, bias));
    let offset = Requantize {
        offset: vec![1],
        ..shift(4)
    };
    let wide = Requantize::by_shift(4, Rounding::HalfUp, power(12, true, -3));
    let most = i64::from(i32::MAX);
    let table = LookUp::of(byte(), byte(), f64::tanh).unwrap();
    for (found, expected) in [
        (
            error(point(8, 1, 0), offset),
            "y: tflite adds nothing before it rounds, here 1",
        ),
        (
            error(point(8, 1, 0), wide),
            "y: has 12 bits with sign, tflite has 8 or fewer",
        ),
        (
            error(point(9, 200, 0), shift(4)),
            "sums: tflite has weights of 8 bits with sign, one is 200",
        ),
        (
            error(point(8, 1, most + 1), shift(30)),
            "sums: tflite has biases of 32 bits, one is 2147483648",
        ),
        (
            error(point(8, 127, most), shift(30)),
            "sums: tflite has sums of 32 bits, here of 33",
        ),
        (
            error(average().into(), ninth(2)),
            "y: tflite has one multiplier and shift here",
        ),
        (
            error(add(1, -1).into(), floor(1, -3)),
            "sums: tflite has no differences here",
        ),
        (
            error(table.into(), floor(0, -4)),
            "sums: tflite has no tables",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn what_chips_cannot_do_is_said() {
    let error = |numbers, operator: Operator, end| error(Target::Esp32P4, numbers, operator, end);
    let point = || Operator::from(pointwise(8, 1, 0));
    let any = || Requantize::by_multiplier(3, 9, Rounding::HalfUp, byte());
    let mut groups = pointwise(8, 1, 0).with_groups(2);
    groups.weights.shape = vec![4, 1, 1, 1];
    groups.bias = None;
    for (found, expected) in [
        (
            error(byte(), point(), any()),
            "y: esp32-p4 shifts by 0 to 31 here, not by 3 / 2^9",
        ),
        (
            error(affine(), point(), any()),
            "x: has no power of two as scale, esp32-p4 has nothing else",
        ),
        (
            error(power(8, false, -4), point(), shift(4)),
            "x: has 8 bits without sign, esp32-p4 has 8 with sign or, of those, the 7 from zero on",
        ),
        (
            error(byte(), average().into(), ninth(1)),
            "sums: esp32-p4 averages in floats, 9 elements are no power of two",
        ),
        (
            error(byte(), add(1, 1).into(), floor(1, -3)),
            "y: esp32-p4 shifts by 0 to 0 here, not by 1 / 2^1",
        ),
        (
            error(byte(), add(2, 2).into(), floor(1, -4)),
            "sums: esp32-p4 adds tensors of one step",
        ),
        (
            error(byte(), groups.into(), shift(4)),
            "sums: esp32-p4 has one group, or one for each channel",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

/// Of the ESP32-S3 beside what both chips cannot do, and of FINN.
#[test]
fn what_others_cannot_do_is_said() {
    let each = Requantize {
        multiplier: vec![1, 1],
        shift: vec![4, 5],
        ..shift(4)
    };
    let sums = pointwise(8, 127, 500_000);
    let found = error(Target::Esp32S3, byte(), sums, shift(13));
    assert_eq!(found, "sums: esp32-s3 has sums of 20 bits, here of 21");
    let found = error(Target::Esp32S3, byte(), pointwise(8, 1, 0), each);
    assert_eq!(found, "y: esp32-s3 has one shift for all channels");
    let any = Requantize::by_multiplier(3, 2, Rounding::Floor, byte());
    let found = error(Target::Finn, affine(), Rectifier {}, any);
    assert_eq!(found, "x: zero_point is 3, expected 0");
}

/// Sums that are not requantized, or twice, have no tensor on such a target.
#[test]
fn sums_become_eight_bits_once() {
    let mut graph = Graph::new();
    let x = graph.input("x", &[2, 3, 3], power(8, true, -4)).unwrap();
    let sums = graph.push("sums", pointwise(8, 1, 0), &[x]).unwrap();
    graph.output(sums).unwrap();
    let refused = |graph: &Graph| for_target(graph, Target::CmsisNn).unwrap_err().to_string();
    let expected = "sums: is an output, expected a requantization to 8 bits before";
    assert_eq!(refused(&graph), expected);
    let y = graph.push("y", floor(4, -3), &[sums]).unwrap();
    let expected = "sums: cmsis-nn requantizes sums once, here they are read twice";
    assert_eq!(refused(&graph), expected);

    let mut graph = Graph::new();
    let x = graph.input("x", &[2, 3, 3], power(8, true, -4)).unwrap();
    let sums = graph.push("sums", pointwise(8, 1, 0), &[x]).unwrap();
    let next = graph.push("next", pointwise(8, 1, 0), &[sums]).unwrap();
    graph.output(next).unwrap();
    let expected = "next: reads sums, expected a requantization to 8 bits between";
    assert_eq!(refused(&graph), expected);
    let _ = y;
}

/// Limits that lie between a sum and its requantization are those of an activation.
#[test]
fn limits_before_a_requantization_are_those_after_it() {
    let mut random = Random(23);
    for target in [Target::Tflite, Target::TfliteSingle] {
        for shift in 1..8 {
            let limit = random.number(0, 900);
            let build = |after: bool| {
                let mut graph = Graph::new();
                let x = graph.input("x", &[2, 3, 3], power(8, true, -4)).unwrap();
                let mut y = graph.push("sums", pointwise(8, 3, 5), &[x]).unwrap();
                if !after {
                    let (least, greatest) = (-5, limit);
                    y = graph
                        .push("clamp", Clamp { least, greatest }, &[y])
                        .unwrap();
                }
                let numbers = power(8, true, shift - 7);
                let requantize = Requantize::by_shift(shift as u32, Rounding::HalfEven, numbers);
                y = graph.push("y", requantize, &[y]).unwrap();
                graph.output(y).unwrap();
                for_target(&graph, target).unwrap().0
            };
            // What the target makes of a limit is what it makes of a sum as large.
            let images = random.images(&build(true), 8);
            let free = interpret(&build(true), &slices(&images)).unwrap();
            let limited = interpret(&build(false), &slices(&images)).unwrap();
            let one = |sum: i64| {
                let mut graph = Graph::new();
                let x = graph.input("x", &[2, 1, 1], power(8, true, -4)).unwrap();
                let sums = graph.push("sums", pointwise(8, 0, sum), &[x]).unwrap();
                let numbers = power(8, true, shift - 7);
                let requantize = Requantize::by_shift(shift as u32, Rounding::HalfEven, numbers);
                let y = graph.push("y", requantize, &[sums]).unwrap();
                graph.output(y).unwrap();
                let (graph, _) = for_target(&graph, target).unwrap();
                interpret(&graph, &[&[0, 0]]).unwrap()[0][0]
            };
            let (least, greatest) = (one(-5), one(limit));
            let clamped = free[0].iter().map(|v| *v.max(&least).min(&greatest));
            assert_eq!(clamped.collect::<Vec<_>>(), limited[0]);
        }
    }
}
