//! Rounding both ways against QPyTorch's `quantizer`; `tests/reference/qpytorch.py` writes the table.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use lowbit::ops::{ClampedGradient, GradientHook, GradientQuantization, TwoWay, quantize_two_ways};
use lowbit_formats::{Format, Rounding};

const TABLE: &str = include_str!("../reference/qpytorch.txt");
const TRIALS: usize = 4096;

fn bits(word: &str) -> f32 {
    f32::from_bits(u32::from_str_radix(word, 16).unwrap())
}

fn floats(words: &str) -> Vec<f32> {
    words.split_whitespace().map(bits).collect()
}

fn format(text: &str, rounding: Rounding) -> Option<(Format, Rounding)> {
    (text != "-").then(|| (text.parse().unwrap(), rounding))
}

/// `fixed(4,2) | e5m2 | clamped, times 4`: the format of the values, that of the gradients, options.
fn two_way(line: &str, roundings: [Rounding; 2], clamped: ClampedGradient) -> TwoWay {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let options = parts.get(2).copied().unwrap_or_default();
    let hooks = match options.contains("times 4") {
        true => vec![GradientHook::Scale(4.0)],
        false => Vec::new(),
    };
    TwoWay {
        forward: format(parts[0], roundings[0]),
        clamped: match options.contains("clamped") {
            true => clamped,
            false => ClampedGradient::Pass,
        },
        backward: GradientQuantization {
            hooks,
            rounding: format(parts[1], roundings[1]),
            ..GradientQuantization::default()
        },
    }
}

/// The values, and the gradient where `dy` reaches them.
fn both_ways(x: &[f32], dy: &[f32], quantization: TwoWay) -> [Vec<f32>; 2] {
    let device = Device::flex().autodiff();
    let x = Tensor::<1>::from_floats(x, &device).require_grad();
    let y = quantize_two_ways(x.clone(), quantization);
    let grads = (y.clone() * Tensor::from_floats(dy, &device))
        .sum()
        .backward();
    let gradient = x.grad(&grads).unwrap();
    [y, gradient].map(|t| t.into_data().iter::<f32>().collect())
}

/// Numbers that differ; zeros of either sign are equal, since QPyTorch leaves a minus zero of fixed
/// point.
fn different(ours: &[f32], theirs: &[f32]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).filter(|(a, b)| a != b).count()
}

/// The value of a line `key ...`.
fn value<'a>(line: &'a str, key: &str) -> &'a str {
    let (found, rest) = line.split_once(' ').unwrap();
    assert_eq!(found, key);
    rest
}

/// To nearest: equal bits, values and gradients, for every pair of formats; and where gradients are zero
/// beyond a limit, the rule for the rounded value is QPyTorch's, and the one for the value is not.
#[test]
fn nearest_both_ways_is_qpytorchs() {
    let mut lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let x = floats(value(lines.next().unwrap(), "x"));
    let dy = floats(value(lines.next().unwrap(), "dy"));
    let nearest = [Rounding::NearestEven; 2];
    let (mut compared, mut others) = (0, 0);
    while let Some(case) = lines.next().filter(|line| !line.starts_with("stochastic")) {
        let y = floats(value(lines.next().unwrap(), "y"));
        let dx = floats(value(lines.next().unwrap(), "dx"));
        let ours = both_ways(
            &x,
            &dy,
            two_way(case, nearest, ClampedGradient::ZeroRounded),
        );
        assert_eq!(different(&ours[0], &y), 0, "{case}: {:?} {y:?}", ours[0]);
        assert_eq!(different(&ours[1], &dx), 0, "{case}: {:?} {dx:?}", ours[1]);
        let by_value = both_ways(&x, &dy, two_way(case, nearest, ClampedGradient::Zero));
        others += different(&by_value[1], &dx);
        compared += 1;
    }
    assert_eq!(compared, 13);
    assert!(others > 0);
}

/// How often the gradient of each number came back as what.
fn counts(gradients: &[f32]) -> Vec<BTreeMap<u32, f64>> {
    let count = |gradients: &[f32]| {
        let mut counts = BTreeMap::new();
        for g in gradients {
            *counts.entry((g + 0.0).to_bits()).or_insert(0.0) += 1.0;
        }
        counts
    };
    gradients.chunks(TRIALS).map(count).collect()
}

/// A number, its incoming gradient, and how often each gradient came back, by its bits.
type Reference = (f32, f32, BTreeMap<u32, f64>);

/// Reads one.
fn reference(line: &str) -> Reference {
    let mut words = line.split(' ');
    let mut number = || bits(words.next().unwrap());
    let (x, dy) = (number(), number());
    let counts = words.map(|word| {
        let (value, count) = word.split_once('*').unwrap();
        ((bits(value) + 0.0).to_bits(), count.parse().unwrap())
    });
    (x, dy, counts.collect())
}

/// The largest difference of two counts of one outcome, in its standard deviations: that of a
/// difference of two Poisson counts is the root of their sum, and a binomial's is less.
fn deviation(ours: &BTreeMap<u32, f64>, theirs: &BTreeMap<u32, f64>) -> f64 {
    let of = |counts: &BTreeMap<u32, f64>, value| counts.get(value).copied().unwrap_or(0.0);
    let values = ours.keys().chain(theirs.keys());
    let deviations = values.map(|value| {
        let (a, b) = (of(ours, value), of(theirs, value));
        (a - b).abs() / (a + b).sqrt()
    });
    deviations.fold(0.0, f64::max)
}

/// At random, near both limits: gradients come back as what they do in QPyTorch as often as there. A
/// number beyond a limit by a part of a step is rounded to the limit with some probability, and
/// passes its gradient then.
#[test]
fn gradients_at_random_have_qpytorchs_distribution() {
    let mut cases: Vec<(&str, Vec<_>)> = Vec::new();
    let mut lines = TABLE
        .lines()
        .skip_while(|line| !line.starts_with("stochastic"));
    for line in lines.by_ref() {
        match line.strip_prefix("stochastic ") {
            Some(case) => cases.push((case, Vec::new())),
            None => cases.last_mut().unwrap().1.push(reference(line)),
        }
    }
    assert_eq!(cases.len(), 2);
    for (case, numbers) in cases {
        let each = |of: fn(&Reference) -> f32| -> Vec<f32> {
            let repeated = numbers
                .iter()
                .flat_map(|n| std::iter::repeat_n(of(n), TRIALS));
            repeated.collect()
        };
        let (x, dy) = (each(|n| n.0), each(|n| n.1));
        let gradients = |clamped| {
            let roundings = [Rounding::stochastic(3, 0), Rounding::stochastic(3, 1)];
            let two_way = two_way(&format!("{case} | clamped"), roundings, clamped);
            counts(&both_ways(&x, &dy, two_way)[1])
        };
        let worst = |ours: Vec<BTreeMap<u32, f64>>| {
            let pairs = ours.iter().zip(&numbers);
            let worst = pairs.map(|(ours, number)| deviation(ours, &number.2));
            worst.fold(0.0, f64::max)
        };
        let found = worst(gradients(ClampedGradient::ZeroRounded));
        assert!(found < 4.5, "{case}: {found} standard deviations");
        // By the value itself they would be zero every time.
        assert!(worst(gradients(ClampedGradient::Zero)) > 20.0, "{case}");
    }
}
