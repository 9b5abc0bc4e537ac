//! Inputs of one node that tell its arithmetic from another's.

use crate::graph::{Graph, Node};
use crate::ops::{Operator, Requantize};
use crate::proof::witness;
use crate::tensor::{Interval, Tensor};

/// Images that a node is probed with at most, for lists of numbers.
const IMAGES: usize = 1 << 10;
/// Steps of a requantization that are all probed.
const STEPS: i64 = 1 << 10;

/// Images for a node, each an image for every input, within what is proven of them. An input that is
/// read twice has one image.
pub(crate) fn probes(graph: &Graph, node: &Node) -> Vec<Vec<Vec<i64>>> {
    let inputs = graph.inputs_of(node);
    if let Some(lists) = lists(node, inputs[0]) {
        return spread(inputs[0], &lists)
            .into_iter()
            .map(|image| vec![image])
            .collect();
    }
    let mut images = Vec::new();
    for greatest in [false, true] {
        images.extend(witness(graph, node, greatest).map(|witness| witness.inputs));
    }
    let mut random = 1;
    for ends in [true, true, false, false] {
        let mut image: Vec<Vec<i64>> = Vec::new();
        for (tensor, id) in inputs.iter().zip(&node.inputs) {
            // A tensor that is read twice is one: what each is, the other is too.
            let before = node.inputs[..image.len()].iter().position(|i| i == id);
            image.push(match before {
                Some(same) => image[same].clone(),
                None => mixed(tensor, ends, &mut random),
            });
        }
        images.push(image);
    }
    images
}

/// For each channel the numbers that determine a function of one number.
fn lists(node: &Node, input: &Tensor) -> Option<Vec<Vec<i64>>> {
    let known = input.intervals.iter().copied();
    let zero = input.numbers.zero_point();
    let lists = match &node.operator {
        Operator::Requantize(requantize) => {
            let channels = known.enumerate();
            channels
                .map(|(c, known)| steps(requantize, zero, c, known))
                .collect()
        }
        Operator::Clamp(clamp) => {
            let ends = [clamp.least, clamp.greatest];
            known.map(|known| around(&ends, known)).collect()
        }
        Operator::Rectifier(_) => known.map(|known| around(&[zero], known)).collect(),
        Operator::LookUp(_) | Operator::Embedding(_) => {
            let all = |known: Interval| (known.least..=known.greatest).collect();
            known.map(all).collect()
        }
        _ => return None,
    };
    Some(lists)
}

/// The ends of an interval, and what is in it of given numbers and their neighbours.
fn around(numbers: &[i64], known: Interval) -> Vec<i64> {
    let near = numbers
        .iter()
        .flat_map(|n| [n.saturating_sub(1), *n, n.saturating_add(1)]);
    let inside = near.filter(|n| (known.least..=known.greatest).contains(n));
    [known.least, known.greatest]
        .into_iter()
        .chain(inside)
        .collect()
}

/// The numbers on both sides of each step of a requantization. It does not fall, so that these are
/// all that there is to know of it: another one that does not fall and has the same outputs for them
/// has the same for every number of the interval. Of more than `STEPS` steps the first, the last, those
/// about zero, and some between.
fn steps(requantize: &Requantize, zero: i64, channel: usize, known: Interval) -> Vec<i64> {
    let output = |x: i64| requantize.apply(x, zero, channel);
    let (first, last) = (output(known.least), output(known.greatest));
    let middle = requantize.numbers.zero_point();
    let every = ((last - first) / (STEPS / 2)).max(1);
    let wanted = |y: i64| {
        last - first <= STEPS
            || (y - first) % every == 0
            || [first, last, middle]
                .iter()
                .any(|end| (y - end).abs() <= STEPS / 8)
    };
    let mut numbers = vec![known.least, known.greatest];
    let mut y = first + 1;
    while y <= last {
        if wanted(y) {
            let x = least_with(known, |x| output(x) >= y);
            numbers.extend([x - 1, x]);
            // Outputs that are passed over have no step of their own.
            y = y.max(output(x));
        }
        y = next_wanted(y, first, last, middle, every);
    }
    numbers
}

/// The next output that may be wanted.
fn next_wanted(y: i64, first: i64, last: i64, middle: i64, every: i64) -> i64 {
    if last - first <= STEPS {
        return y + 1;
    }
    let near = |end: i64| {
        let from = (end - STEPS / 8).max(y + 1);
        if from <= end + STEPS / 8 {
            from
        } else {
            i64::MAX
        }
    };
    let regular = first + ((y - first) / every + 1) * every;
    [near(first), near(middle), near(last), regular]
        .into_iter()
        .min()
        .unwrap_or(last + 1)
}

/// The least number of an interval with a property that all greater ones have, of which one is there.
fn least_with(known: Interval, property: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (known.least, known.greatest);
    while low < high {
        let middle = low + (high - low) / 2;
        if property(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Images that have every number of a channel's list somewhere in the channel; of longer lists than
/// `IMAGES` images hold, evenly chosen ones.
fn spread(tensor: &Tensor, lists: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let pixels = tensor.elements() / tensor.shape[0];
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let images = longest.div_ceil(pixels).min(IMAGES);
    let image = |image: usize| {
        let elements = 0..tensor.elements();
        let number = |element: usize| {
            let list = &lists[element / pixels];
            let place = image * pixels + element % pixels;
            let held = images * pixels;
            let at = if list.len() > held {
                place * list.len() / held
            } else {
                place % list.len()
            };
            list[at]
        };
        elements.map(number).collect()
    };
    (0..images).map(image).collect()
}

/// An image at random, of numbers other than the zero point wherever there is one: so that each factor
/// of a sum counts. Of ends alone, or of all numbers.
fn mixed(tensor: &Tensor, ends: bool, random: &mut u64) -> Vec<i64> {
    let zero = tensor.numbers.zero_point();
    let elements = 0..tensor.elements();
    let number = |element: usize| {
        let Interval { least, greatest } = tensor.intervals[tensor.channel(element)];
        // Knuth's MMIX.
        *random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let span = greatest.abs_diff(least) + 1;
        let chosen = match (ends, *random >> 63) {
            (true, 0) => least,
            (true, _) => greatest,
            (false, _) => least.wrapping_add_unsigned((*random >> 20) % span),
        };
        match chosen {
            _ if chosen != zero => chosen,
            _ if greatest != zero => greatest,
            _ => least,
        }
    };
    elements.map(number).collect()
}
