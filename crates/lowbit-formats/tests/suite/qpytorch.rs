//! Formats against QPyTorch's extended version, on random tensors; `tests/reference/qpytorch_extended.py`
//! writes the tables.

use std::collections::BTreeMap;

use half::bf16;
use lowbit_formats::posit::{PositActivation, PositFunction};
use lowbit_formats::{BlockFormat, Format, Posit, Rounding};

use crate::blocks::{parse, quantized};
use crate::stochastic::{limit, statistic};
use crate::words::{assert_same, bits, floats, lines, same};

/// A format's results for a tensor, and how many of them QPyTorch defines otherwise.
struct Compared {
    equal: usize,
    departures: usize,
}

/// Compares element by element; where the two differ, `departure` says whether QPyTorch does so by a
/// rule of its own.
fn compare(
    name: &str,
    ours: &[f32],
    (x, theirs): (&[f32], &[f32]),
    departure: impl Fn(f32, f32) -> bool,
) -> Compared {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let mut compared = Compared {
        equal: 0,
        departures: 0,
    };
    for ((&x, &a), &b) in x.iter().zip(ours).zip(theirs) {
        if same(a + 0.0, b + 0.0) {
            compared.equal += 1;
        } else {
            let what = format!("{name} of {x:e} is {a:e}, QPyTorch has {b:e}");
            assert!(departure(x, b), "{what}");
            compared.departures += 1;
        }
    }
    compared
}

/// QPyTorch adds a half in `f32` before it rounds, and so adds a rounding where the sum is not exact.
fn adds_a_half_inexactly(x: f32, fraction: i8) -> bool {
    let steps = x * f32::from(fraction).exp2();
    f64::from(steps + 0.5) != f64::from(steps) + 0.5
}

/// QPyTorch adds 6 times the power of two of the largest magnitude, in `f32`, rounds the sum's bits with
/// ties up, and subtracts it: it departs where a number is a tie, and goes up, or becomes one in `f32`.
fn goes_up_or_becomes_a_tie(word: u8, exponent: i8, x: f32, theirs: f32) -> bool {
    let step = (f64::from(exponent) - f64::from(word - 2)).exp2();
    let steps = f64::from(x) / step;
    let from_tie = (steps - steps.floor() - 0.5).abs();
    let up = f64::from(theirs) / step == steps.floor() + 1.0;
    // The last place of 6 times the power of two, in steps.
    from_tie == 0.0 && up || from_tie > 0.0 && from_tie <= (f64::from(word) - 22.0).exp2()
}

/// QPyTorch rounds the product with its scale to `f32` before it is rounded to a posit.
fn rounds_the_product(plain: Posit, scale: f32, x: f32, theirs: f32) -> bool {
    let product = x * scale;
    let inexact = f64::from(product) != f64::from(x) * f64::from(scale);
    inexact && plain.round(product, Rounding::NearestEven, 0) / scale == theirs
}

/// Of two values as near, QPyTorch takes the first in its table; and more than 1e5 beyond, zero.
fn takes_the_first_or_zero(ours: f32, x: f32, theirs: f32) -> bool {
    let distance = |y: f32| (f64::from(x) - f64::from(y)).abs();
    let is_first = distance(ours) == distance(theirs) && theirs.abs() < ours.abs();
    is_first || theirs == 0.0 && distance(ours) > 1e5
}

/// The scale of QPyTorch in `posit(8,1,scale=1/3)`, if it is no power of two.
fn divisor(name: &str) -> Option<f32> {
    let number = name.split_once("scale=1/")?.1.trim_end_matches(')');
    let number: f32 = number.parse().unwrap();
    (number.log2().fract() != 0.0).then_some(number)
}

/// The results of one line of the table.
fn check(name: &str, x: &[f32], theirs: &[f32]) -> Compared {
    let activation = |function| {
        let activation = PositActivation::new(function, 16).unwrap();
        let ours: Vec<f32> = x.iter().map(|&x| activation.apply(x)).collect();
        compare(name, &ours, (x, theirs), |_, _| false)
    };
    match name {
        "sigmoid" => return activation(PositFunction::Sigmoid),
        "tanh" => return activation(PositFunction::Tanh),
        "tanh_enhanced" => return activation(PositFunction::TanhEnhanced),
        "bfloat16" => {
            let posit = Posit::new(8, 1).unwrap();
            // Numbers out of the posit's range are taken as 1 by the script.
            let limits = 2f32.powi(-11)..2f32.powi(11);
            let inside = |&x: &f32| match limits.contains(&x.abs()) && x.abs() > limits.start {
                true => bf16::from_f32(x),
                false => bf16::ONE,
            };
            let round = |x| posit.round_bf16(x, Rounding::NearestEven, 0).to_f32();
            let ours: Vec<f32> = x.iter().map(inside).map(round).collect();
            return compare(name, &ours, (x, theirs), |_, _| false);
        }
        _ => {}
    }
    let format = parse(name);
    let mode = match &format {
        Format::QPyTorch(_) => Rounding::NearestAway,
        _ => Rounding::NearestEven,
    };
    let ours = quantized(&format, x, &[x.len()], mode);
    let both = (x, theirs);
    match &format {
        Format::Fixed(fixed) => compare(name, &ours, both, |x, _| {
            adds_a_half_inexactly(x, fixed.fraction())
        }),
        Format::Block(BlockFormat::Float(bfp)) => {
            let exponent = bfp.exponents(x, &[x.len()]).unwrap()[0];
            compare(name, &ours, both, |x, theirs| {
                goes_up_or_becomes_a_tie(bfp.word(), exponent, x, theirs)
            })
        }
        Format::Posit(posit) => compare(name, &ours, both, |x, theirs| {
            let plain = Posit::new(name_bits(name), posit.exponent_bits() as u8).unwrap();
            divisor(name).is_some_and(|scale| rounds_the_product(plain, scale, x, theirs))
        }),
        Format::Codebook(_) => {
            let of = |x: f32| format.round(x, mode, 0);
            compare(name, &ours, both, |x, theirs| {
                takes_the_first_or_zero(of(x), x, theirs)
            })
        }
        _ => compare(name, &ours, both, |_, _| false),
    }
}

/// The bits of `posit(8,1)`.
fn name_bits(name: &str) -> u8 {
    let bits = name.trim_start_matches("posit(").split(',').next();
    bits.unwrap().parse().unwrap()
}

/// To nearest, on normal numbers, on numbers of many magnitudes, on ties, and beside the boundaries of
/// scaled posits: equal bits, but for the rules above.
#[test]
fn nearest_is_qpytorchs() {
    let mut input = Vec::new();
    let (mut equal, mut departures) = (BTreeMap::new(), BTreeMap::new());
    for line in lines(include_str!("../reference/extended.txt")) {
        let (name, words) = line.split_once(": ").unwrap();
        if name == "input" {
            input = floats(words);
            continue;
        }
        let compared = check(name, &input, &floats(words));
        let kind = name.split('(').next().unwrap();
        *equal.entry(kind).or_insert(0) += compared.equal;
        *departures.entry(kind).or_insert(0) += compared.departures;
    }
    // Six formats thrice, six, seven, eight with six scales, of 3 tensors of 64 numbers.
    for (kind, formats) in [("fixed", 18), ("bfp", 6), ("qpytorch", 7), ("posit", 48)] {
        let all = equal[kind] + departures[kind];
        assert!(all >= formats * 3 * 64, "{kind}: {all}");
        assert!(
            departures[kind] * 20 < all,
            "{kind}: {departures:?} {equal:?}"
        );
    }
    for kind in ["qpytorch", "sigmoid", "tanh", "tanh_enhanced", "bfloat16"] {
        assert_eq!(departures[kind], 0, "{kind}");
    }
    for kind in ["fixed", "bfp", "posit", "table"] {
        println!(
            "{kind}: {} equal, {} otherwise",
            equal[kind], departures[kind]
        );
    }
    // QPyTorch's own rules show in the table.
    assert!(departures["bfp"] > 0 && departures["posit"] > 0);
}

/// What each number becomes with which probability: with every random word of 16 bits.
fn probabilities(format: &Format, x: f32) -> BTreeMap<u32, f64> {
    const BITS: u8 = 16;
    let rounding = Rounding::Stochastic {
        seed: 0,
        stream: 0,
        bits: BITS,
    };
    let mut times = BTreeMap::new();
    for random in 0..1u32 << BITS {
        let y = format.round(x, rounding, random << (32 - BITS)) + 0.0;
        *times.entry(y.to_bits()).or_insert(0.0) += 1.0 / f64::from(1u32 << BITS);
    }
    times
}

/// The same where numbers share a scale: by the distance from the values on either side.
fn probabilities_of_block(format: &Format, x: &[f32]) -> Vec<BTreeMap<u32, f64>> {
    let [down, up] =
        [Rounding::Down, Rounding::Up].map(|mode| quantized(format, x, &[x.len()], mode));
    let of = |((&x, &low), &high): ((&f32, &f32), &f32)| {
        let [x, from, to] = [x, low, high].map(f64::from);
        let bits = [low, high].map(|y| (y + 0.0).to_bits());
        match x <= from || x >= to {
            true => BTreeMap::from([(if x <= from { bits[0] } else { bits[1] }, 1.0)]),
            false => {
                let part = (x - from) / (to - from);
                BTreeMap::from([(bits[0], 1.0 - part), (bits[1], part)])
            }
        }
    };
    x.iter().zip(&down).zip(&up).map(of).collect()
}

/// A number and how often QPyTorch made what of it.
fn counts(line: &str) -> (f32, BTreeMap<u32, usize>) {
    let mut words = line.split(' ');
    let x = bits(words.next().unwrap());
    let mut times = BTreeMap::new();
    for word in words {
        let (value, count) = word.split_once('*').unwrap();
        *times.entry((bits(value) + 0.0).to_bits()).or_insert(0) += count.parse::<usize>().unwrap();
    }
    (x, times)
}

/// Chi-squared of QPyTorch's counts for one format against our probabilities, and its degrees of
/// freedom; exact where a number can become but one.
fn chi_squared(name: &str, numbers: &[(f32, BTreeMap<u32, usize>)]) -> (f64, f64) {
    let format = parse(name);
    let x: Vec<f32> = numbers.iter().map(|number| number.0).collect();
    let all = match &format {
        Format::Block(_) => probabilities_of_block(&format, &x),
        _ => x.iter().map(|&x| probabilities(&format, x)).collect(),
    };
    let (mut sum, mut freedom) = (0.0, 0.0);
    for ((x, times), probabilities) in numbers.iter().zip(all) {
        let trials: usize = times.values().sum();
        assert_eq!(trials, 4096, "{name} {x:e}");
        assert!(probabilities.len() <= 2, "{name} {x:e}: {probabilities:?}");
        for value in times.keys() {
            let y = f32::from_bits(*value);
            assert!(
                probabilities.contains_key(value),
                "{name}: {x:e} became {y:e}"
            );
        }
        let (value, probability) = probabilities.iter().next_back().unwrap();
        let up = times.get(value).copied().unwrap_or(0);
        if probabilities.len() == 1 {
            assert_eq!(up, trials, "{name} {x:e}");
            continue;
        }
        sum += statistic(up, *probability, trials);
        freedom += 1.0;
    }
    (sum, freedom)
}

/// At random: QPyTorch's frequencies fit our probabilities, format by format and together. With
/// `stochastic=original` they do so below the smallest number as well.
#[test]
fn stochastic_rounding_has_qpytorchs_distribution() {
    let mut formats: Vec<(&str, Vec<_>)> = Vec::new();
    for line in lines(include_str!("../reference/stochastic.txt")) {
        match line.contains('*') {
            false => formats.push((line, Vec::new())),
            true => formats.last_mut().unwrap().1.push(counts(line)),
        }
    }
    let (mut sum, mut freedom) = (0.0, 0.0);
    for (name, numbers) in &formats {
        let (chi_squared, count) = chi_squared(name, numbers);
        assert!(
            chi_squared < limit(count),
            "{name}: {chi_squared} of {count}"
        );
        sum += chi_squared;
        freedom += count;
    }
    assert!(sum < limit(freedom), "{sum} of {freedom}");
    assert!(formats.len() == 16 && freedom > 150.0, "{freedom}");
}

/// Our unbiased rule is not QPyTorch's: 0.75 of the smallest number became that number every time.
#[test]
fn unbiased_rounding_differs_below_the_smallest_number() {
    let text = include_str!("../reference/stochastic.txt");
    let lines: Vec<&str> = lines(text).collect();
    let own = "qpytorch(5,2,stochastic=original)";
    let first = lines.iter().position(|line| *line == own).unwrap();
    let x = 0.75 * 2f32.powi(-15);
    let line = lines[first + 1..]
        .iter()
        .map(|line| counts(line))
        .find(|(y, _)| *y == x);
    let always = BTreeMap::from([(2f32.powi(-15).to_bits(), 4096)]);
    assert_eq!(line.unwrap().1, always);
    assert_same(
        &[probabilities(&parse("qpytorch(5,2)"), x)[&2f32.powi(-15).to_bits()] as f32],
        &[0.75],
        "unbiased",
    );
}
