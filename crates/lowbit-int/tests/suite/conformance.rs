//! Conformance packs: what is whole is the same, and what is changed is noticed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use lowbit_int::conformance::{ConformanceError, check, pack};
use lowbit_int::interpret::evaluate;
use lowbit_int::{Graph, Interval, Node, Operator, Rounding};
use serde_json::Value;

use super::networks;
use super::random::{Random, slices};
use super::source::Folder;
use super::variable;

/// Writes a pack of two random images.
fn write(folder: &Path, graph: &Graph, random: &mut Random) {
    let images = random.images(graph, 2);
    for (path, bytes) in pack(graph, &slices(&images)).unwrap() {
        std::fs::write(folder.join(path), bytes).unwrap();
    }
}

/// The Python of the variable `LOWBIT_PYTHON`, if it has NumPy; else says that its part is skipped.
fn python() -> Option<String> {
    let Some(python) = variable("LOWBIT_PYTHON") else {
        eprintln!("SKIPPED: LOWBIT_PYTHON names no Python");
        return None;
    };
    let numpy = Command::new(&python).args(["-c", "import numpy"]).output();
    if !numpy.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: {python:?} has no NumPy");
        return None;
    }
    Some(python)
}

/// What the pack's own program says.
fn run_py(python: &str, folder: &Path) -> Output {
    let mut command = Command::new(python);
    command.arg(folder.join("run.py")).output().unwrap()
}

#[test]
fn packs_are_the_same() {
    let mut random = Random(41);
    let mut graphs: Vec<Graph> = networks::all()
        .into_iter()
        .map(|(_, graph)| graph)
        .collect();
    graphs.extend((0..60).map(|_| random.graph()));
    let folder = Folder::new("packs");
    let python = python();
    for graph in graphs {
        write(&folder.0, &graph, &mut random);
        let checked = check(&folder.0).unwrap();
        assert_eq!(checked.nodes, graph.nodes().len());
        if let Some(python) = &python {
            let output = run_py(python, &folder.0);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{error}\n{}", graph.to_json());
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text.trim(), format!("{} nodes: the same", checked.nodes));
        }
    }
}

/// Changes one number of a list by one, to what is still within its numbers.
fn change(list: &mut Value, random: &mut Random, least: i64, greatest: i64) -> Option<()> {
    let list = list.as_array_mut()?;
    let place = random.below(list.len());
    let number = list[place].as_i64()?;
    let changed = if random.chance(2) {
        number + 1
    } else {
        number - 1
    };
    list[place] = changed.into();
    (least..=greatest).contains(&changed).then_some(())
}

/// One weight, multiplier, shift, offset, rounding or zero point of a node, changed. `None` where the
/// node has none, or there is no such graph.
fn sabotage(graph: &Graph, random: &mut Random) -> Option<(String, &'static str, Graph)> {
    let mut json: Value = serde_json::from_str(&graph.to_json()).unwrap();
    let nodes = graph.nodes().len();
    if nodes == 0 {
        return None;
    }
    let index = random.below(nodes);
    let node = &mut json["nodes"][index];
    let what = [
        "weight",
        "multiplier",
        "shift",
        "offset",
        "rounding",
        "zero point",
    ][random.below(6)];
    match what {
        "weight" => {
            let numbers = match graph.nodes()[index].operator() {
                Operator::Convolution(convolution) => convolution.weights.numbers,
                Operator::Linear(linear) => linear.weights.numbers,
                Operator::Embedding(embedding) => embedding.weights.numbers,
                _ => return None,
            };
            let values = &mut node["weights"]["values"];
            change(values, random, numbers.least(), numbers.greatest())?;
        }
        "multiplier" => {
            let list = node["multiplier"].as_array_mut()?;
            let place = random.below(list.len());
            // A bit of it.
            let changed = list[place].as_i64()? ^ 1 << random.below(31);
            list[place] = changed.into();
        }
        "shift" => change(&mut node["shift"], random, 0, 62)?,
        "offset" => change(&mut node["offset"], random, i64::MIN, i64::MAX)?,
        "rounding" => {
            let old = node["rounding"].as_str()?.to_owned();
            let names = ["half-even", "half-away", "half-up", "floor"];
            let other = names.into_iter().filter(|name| *name != old);
            node["rounding"] = other.collect::<Vec<_>>()[random.below(3)].into();
        }
        _ => {
            node["rounding"].as_str()?;
            let zero = node["numbers"]["zero_point"].as_i64()?;
            node["numbers"]["zero_point"] = (zero + if random.chance(2) { 1 } else { -1 }).into();
        }
    }
    let name = node["name"].as_str()?.to_owned();
    let changed = Graph::from_json(&json.to_string()).ok()?;
    (changed != *graph).then_some((name, what, changed))
}

/// Whether two functions that do not fall have the same values from `least` to `greatest`. Where both
/// ends have one value, so has all that is between them; else each half is looked at.
fn are_alike(functions: [&dyn Fn(i64) -> i64; 2], least: i64, greatest: i64) -> bool {
    let [low, high] = [least, greatest].map(|x| functions.map(|f| f(x)));
    if low[0] != low[1] || high[0] != high[1] {
        return false;
    }
    let middle = least + (greatest - least) / 2;
    let halves = || are_alike(functions, least, middle) && are_alike(functions, middle, greatest);
    low == high || middle == least || halves()
}

/// Steps at 1 and 10^12, and at 1 and 10^12 - 1: they differ for one number.
#[test]
fn functions_are_alike_by_hand() {
    const FAR: i64 = 1_000_000_000_000;
    let steps = |x: i64, last: i64| i64::from(x >= 1) + i64::from(x >= last);
    let [old, new] = [FAR, FAR - 1].map(|last| move |x| steps(x, last));
    assert!(are_alike([&old, &old], -FAR, 2 * FAR));
    assert!(!are_alike([&old, &new], -FAR, 2 * FAR));
    assert!(are_alike([&old, &new], -FAR, FAR - 2));
    assert!(are_alike([&old, &new], FAR, 2 * FAR));
    assert!(!are_alike([&old, &new], FAR - 1, FAR - 1));
}

/// Whether a change alters no integer of any input that is proven possible: of a requantization every
/// number of the interval is tried, or both sides of every step if there are many; of a sum, every
/// element of the input.
fn alters_nothing(old: &Graph, new: &Graph, name: &str) -> bool {
    let node = |graph: &Graph| -> Node {
        graph
            .nodes()
            .iter()
            .find(|node| node.name() == name)
            .unwrap()
            .clone()
    };
    let input = old.tensor(node(old).inputs()[0]);
    let zero = input.numbers().zero_point();
    match (node(old).operator(), node(new).operator()) {
        (Operator::Requantize(old), Operator::Requantize(new)) => {
            let of = |list: &[i64], channel: usize| list[channel.min(list.len() - 1)];
            input.intervals().iter().enumerate().all(|(c, known)| {
                let Interval { least, greatest } = *known;
                let output = |r: &lowbit_int::ops::Requantize, x: i64| {
                    let shift = r.shift[c.min(r.shift.len() - 1)];
                    let scaled = of(&r.multiplier, c) * (x - zero) + of(&r.offset, c);
                    let rounded = Rounding::shift(r.rounding, scaled, shift);
                    let numbers = r.numbers;
                    (rounded + numbers.zero_point()).clamp(numbers.least(), numbers.greatest())
                };
                if greatest - least < 1 << 24 {
                    return (least..=greatest).all(|x| output(old, x) == output(new, x));
                }
                are_alike([&|x| output(old, x), &|x| output(new, x)], least, greatest)
            })
        }
        (Operator::Convolution(_) | Operator::Linear(_), _) => {
            // Two sums are the same if they are so for each input element that may not be zero, alone.
            let mut image = vec![zero; input.elements()];
            let pixels = input.elements() / input.shape()[0];
            (0..image.len()).all(|element| {
                let Interval { least, greatest } = input.intervals()[element / pixels];
                image[element] = if greatest == zero { least } else { greatest };
                let made = [old, new].map(|graph| evaluate(graph, &node(graph), &[&image]));
                image[element] = zero;
                made[0] == made[1]
            })
        }
        _ => false,
    }
}

/// Fletcher's checksum, by its definition.
fn checksum(bytes: &[u8]) -> String {
    let (mut sum, mut sums) = (0u64, 0u64);
    for &byte in bytes {
        sum = (sum + u64::from(byte)) % 0xffff_ffff;
        sums = (sums + sum) % 0xffff_ffff;
    }
    format!("{sums:08x}{sum:08x}")
}

/// Puts a changed graph into a pack, with a checksum that fits it. Returns what `cases.json` was.
fn replace_graph(folder: &Path, changed: &Graph) -> String {
    let file = |name: &str| folder.join(name);
    let cases = std::fs::read_to_string(file("cases.json")).unwrap();
    let old = checksum(&std::fs::read(file("graph.json")).unwrap());
    let text = changed.to_json();
    let forged = cases.replace(&old, &checksum(text.as_bytes()));
    std::fs::write(file("graph.json"), text).unwrap();
    std::fs::write(file("cases.json"), forged).unwrap();
    cases
}

/// Whether a node is the changed one, or reads its zero point, which is part of both's arithmetic.
fn is_at_fault(graph: &Graph, node: &str, name: &str, what: &str) -> bool {
    let reads = || {
        let mut nodes = graph.nodes().iter();
        let node = nodes.find(|other| other.name() == node).unwrap();
        let mut inputs = node.inputs().iter();
        inputs.any(|&id| graph.tensor(id).name() == name)
    };
    node == name || what == "zero point" && reads()
}

/// Changed graphs, until the integers have told of a hundred. First the checksum is made to fit, as if another program computed so: the
/// integers have to tell, and name the node that was changed, or there is no input that could. Then the
/// checksum is as it was recorded, and every change is noticed.
#[test]
fn a_hundred_sabotages_are_noticed() {
    let mut random = Random(42);
    let small = [
        networks::residual(),
        networks::depthwise(),
        networks::digits(),
    ];
    let (python, folder) = (python(), Folder::new("sabotage"));
    // For each kind of change how many the integers tell, and how many the checksum alone.
    let mut counts = BTreeMap::<&str, [usize; 2]>::new();
    let total = |counts: &BTreeMap<&str, [usize; 2]>, which: usize| -> usize {
        counts.values().map(|count| count[which]).sum()
    };
    while total(&counts, 0) < 100 {
        let graph = match random.below(4) {
            3 => random.graph(),
            network => small[network].clone(),
        };
        let Some((name, what, changed)) = sabotage(&graph, &mut random) else {
            continue;
        };
        write(&folder.0, &graph, &mut random);
        let cases = replace_graph(&folder.0, &changed);
        let count = counts.entry(what).or_default();
        if let Err(error) = check(&folder.0) {
            let ConformanceError::Differs { node, .. } = &error else {
                panic!("{what} of {name}: {error}");
            };
            assert!(is_at_fault(&graph, node, &name, what), "{name}: {error}");
            count[0] += 1;
            if let Some(python) = &python {
                let output = run_py(python, &folder.0);
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(1), "{text}");
                let start = format!("{node}: differs from ");
                assert!(text.starts_with(&start), "{what} of {name}: {text}");
            }
        } else {
            let alike = alters_nothing(&graph, &changed, &name);
            assert!(alike, "{what} of {name}\n{}", graph.to_json());
            count[1] += 1;
        }
        std::fs::write(folder.0.join("cases.json"), cases).unwrap();
        assert!(check(&folder.0).is_err());
    }
    println!("by their integers, by the checksum alone: {counts:?}");
}

/// A changed or missing file, of every kind, is refused in one line.
#[test]
fn damaged_packs_are_refused() {
    let mut random = Random(43);
    let folder = Folder::new("damaged");
    write(&folder.0, &networks::digits(), &mut random);
    let names = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in names.collect::<Vec<_>>() {
        let whole = std::fs::read(&path).unwrap();
        for damage in 0..6 {
            let mut bytes = whole.clone();
            match damage {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => bytes.truncate(random.below(bytes.len())),
                _ => {
                    let place = random.below(bytes.len());
                    bytes[place] ^= 1 << random.below(8);
                }
            }
            if damage > 0 {
                std::fs::write(&path, bytes).unwrap();
            }
            let error = check(&folder.0).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            std::fs::write(&path, &whole).unwrap();
        }
    }
    assert!(check(&folder.0).is_ok());
}
