//! Properties of the formats whose values are listed: codebooks, powers of two and their sums,
//! logarithmic numbers.

use lowbit_formats::philox::Philox;
use lowbit_formats::{
    AdditivePowerOfTwo, Codebook, Format, Logarithmic, PowerOfTwo, Rounding, ScalarFormat,
};

/// Every mode.
fn modes() -> impl Iterator<Item = Rounding> {
    Rounding::DETERMINISTIC
        .into_iter()
        .chain([Rounding::stochastic(0, 0)])
}

/// A format with its values and what its codes decode to.
struct Listed {
    format: Format,
    values: Vec<f32>,
    code: Box<dyn Fn(f32, Rounding, u32) -> u32>,
    decode: Box<dyn Fn(u32) -> f32>,
}

macro_rules! listed {
    ($format:expr) => {{
        let (encoder, decoder) = ($format, $format);
        Listed {
            values: encoder.values().to_vec(),
            format: encoder.clone().into(),
            code: Box::new(move |x, rounding, random| encoder.encode(x, rounding, random)),
            decode: Box::new(move |code| decoder.decode(code)),
        }
    }};
}

fn formats() -> Vec<Listed> {
    let mut formats: Vec<Listed> = Codebook::names()
        .map(|name| listed!(Codebook::named(name).unwrap()))
        .collect();
    let uneven = [-70.0, -3.0, -2.9, 0.001, 0.5, 0.5000001, 1e9];
    let many: Vec<f32> = (0..256u32).map(|i| (i * i) as f32 * 1e-3 - 7.0).collect();
    formats.extend([
        listed!(Codebook::new(&uneven).unwrap()),
        listed!(Codebook::new(&many).unwrap().scaled(0.3).unwrap()),
        listed!(Codebook::new(&[4.5]).unwrap()),
        listed!(Codebook::with_sign(&[0.0, 0.25, 7.0]).unwrap()),
        listed!(PowerOfTwo::new(3).unwrap()),
        listed!(PowerOfTwo::new(8).unwrap()),
        listed!(PowerOfTwo::new(5).unwrap().with_max_exponent(9).unwrap()),
        listed!(AdditivePowerOfTwo::new(4, 1.5).unwrap()),
        listed!(AdditivePowerOfTwo::new(9, 1.0).unwrap()),
        listed!(Logarithmic::new(2, 0).unwrap()),
        listed!(Logarithmic::new(4, 3).unwrap()),
        listed!(Logarithmic::new(7, 8).unwrap()),
    ]);
    formats
}

/// Numbers of all magnitudes, ascending, with those around every value.
fn inputs(values: &[f32]) -> Vec<f32> {
    let mut inputs: Vec<f32> = (0..u32::MAX / 1_300_021)
        .map(|i| f32::from_bits(i * 1_300_021))
        .filter(|x| !x.is_nan())
        .collect();
    inputs.extend([
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::from_bits(1),
    ]);
    let some = values.iter().step_by(values.len() / 500 + 1);
    inputs.extend(some.flat_map(|x| [x.next_down(), *x, x.next_up()]));
    inputs.sort_by(f32::total_cmp);
    inputs
}

#[test]
fn results_are_values_idempotent_and_monotone() {
    for Listed { format, values, .. } in formats() {
        for mode in modes() {
            let mut previous = f32::NEG_INFINITY;
            for x in inputs(&values) {
                let y = format.round(x, mode, 0x1234_5678);
                let name = || format!("{format} {mode:?} {x:e} to {y:e}");
                assert!(
                    values.binary_search_by(|v| v.total_cmp(&y)).is_ok(),
                    "{}",
                    name()
                );
                assert_eq!(
                    format.round(y, mode, 99).to_bits(),
                    y.to_bits(),
                    "{}",
                    name()
                );
                assert!(y >= previous, "{}", name());
                previous = y;
            }
            assert!(format.round(f32::NAN, mode, 0).is_nan());
        }
    }
}

/// Directed modes by a search through the list of values.
#[test]
fn directed_modes_find_the_neighbours() {
    for Listed { format, values, .. } in formats() {
        let (first, last) = (values[0], values[values.len() - 1]);
        for x in inputs(&values) {
            let below = values[..values.partition_point(|&v| v <= x)]
                .last()
                .copied();
            let above = values.get(values.partition_point(|&v| v < x)).copied();
            let (down, up) = (below.unwrap_or(first), above.unwrap_or(last));
            // Of two as near to zero, where zero is no value, the upper one.
            let toward_zero = if up.abs() <= down.abs() { up } else { down };
            for (mode, expected) in [
                (Rounding::Down, down),
                (Rounding::Up, up),
                (Rounding::TowardZero, toward_zero),
            ] {
                assert_eq!(
                    format.round(x, mode, 0),
                    expected,
                    "{format} {mode:?} {x:e}"
                );
            }
        }
    }
}

/// The nearest value by comparing distances in f64, for the formats that round to the nearest in
/// value and have a zero of their own or none.
#[test]
fn nearest_is_nearest() {
    for Listed { format, values, .. } in formats() {
        let text = format.to_string();
        if ["lns", "qpytorch", "binary"]
            .iter()
            .any(|name| text.starts_with(name))
        {
            continue;
        }
        for x in inputs(&values).into_iter().filter(|x| x.is_finite()) {
            let distance = |v: f32| (f64::from(v) - f64::from(x)).abs();
            let smallest = values
                .iter()
                .map(|&v| distance(v))
                .fold(f64::INFINITY, f64::min);
            for mode in [
                Rounding::NearestEven,
                Rounding::NearestAway,
                Rounding::NearestUp,
            ] {
                let y = format.round(x, mode, 0);
                assert_eq!(distance(y), smallest, "{text} {mode:?} {x:e} to {y:e}");
            }
            let nearest = |v: &&f32| distance(**v) == smallest;
            let upper = values.iter().rev().find(nearest).copied();
            let y = format.round(x, Rounding::NearestUp, 0);
            let within = x >= values[0] && x <= values[values.len() - 1];
            assert!(!within || Some(y) == upper, "{text} {x:e} to {y:e}");
        }
    }
}

#[test]
fn codes_decode_to_the_rounded_number() {
    for Listed {
        format,
        values,
        code,
        decode,
    } in formats()
    {
        let decoded: std::collections::HashMap<u32, f32> = values
            .iter()
            .map(|&v| code(v, Rounding::NearestEven, 0))
            .map(|code| (code, decode(code)))
            .collect();
        assert_eq!(
            decoded.len(),
            values.len(),
            "{format}: each value has its own code"
        );
        assert!(decoded.keys().all(|&code| code >> format.bits() == 0));
        for mode in modes() {
            for x in inputs(&values) {
                let expected = format.round(x, mode, 0x7654_3210);
                let code = code(x, mode, 0x7654_3210);
                assert_eq!(
                    decoded[&code].to_bits(),
                    expected.to_bits(),
                    "{format} {x:e}"
                );
            }
        }
    }
}

#[test]
fn signs_are_symmetric_where_the_format_is() {
    for Listed { format, values, .. } in formats() {
        let mirrored: Vec<f32> = values.iter().rev().map(|v| 0.0 - v).collect();
        if mirrored != values || format.to_string() == "binary" {
            continue;
        }
        for mode in [
            Rounding::NearestEven,
            Rounding::NearestAway,
            Rounding::ToOdd,
        ] {
            for x in inputs(&values) {
                let (y, negative) = (format.round(x, mode, 0), format.round(-x, mode, 0));
                assert_eq!(negative, -y, "{format} {mode:?} {x:e}");
            }
        }
    }
}

/// Chi-squared against the exact probability; 15.1 is its 99.99 % quantile for one degree of
/// freedom.
#[test]
fn stochastic_rounding_is_unbiased() {
    for Listed { format, .. } in formats() {
        for x in [0.3f32, -0.11, 0.004, 1.7] {
            let (lower, upper) = (
                format.round(x, Rounding::Down, 0),
                format.round(x, Rounding::Up, 0),
            );
            if lower == upper {
                continue;
            }
            let probability =
                (f64::from(x) - f64::from(lower)) / (f64::from(upper) - f64::from(lower));
            let philox = Philox::new(3, x.to_bits().into());
            let trials = 4000u32;
            let ups = (0..trials)
                .filter(|&trial| {
                    let random = philox.word(trial.into());
                    format.round(x, Rounding::stochastic(0, 0), random) == upper
                })
                .count() as f64;
            let trials = f64::from(trials);
            let variance = trials * probability * (1.0 - probability);
            let statistic = (ups - trials * probability).powi(2) / variance;
            assert!(statistic < 15.1, "{format} {x}: {statistic}");
        }
    }
}

#[test]
fn limits_are_the_ends_of_the_list() {
    for Listed { format, values, .. } in formats() {
        assert_eq!(
            format.limits(),
            (values[0], values[values.len() - 1]),
            "{format}"
        );
    }
    assert_eq!(PowerOfTwo::new(4).unwrap().bits(), 4);
}

/// A table of three numbers leaves the code 3 of its two bits, apot(3) that of minus zero; nf4 has a
/// number for every code.
#[test]
fn nan_takes_a_code_that_no_number_has() {
    for (text, code) in [("table(-1,0,2)", 3), ("apot(3)", 4), ("table(5)", 1)] {
        let format: Format = text.parse().unwrap();
        let codes = format.encode(&[f32::NAN], Rounding::NearestEven).unwrap();
        assert_eq!(codes, [code], "{text}");
        assert!(format.decode(&codes)[0].is_nan() && format.facts().nan);
    }
    let nf4: Format = "nf4".parse().unwrap();
    let codes = nf4.encode(&[f32::NAN, 0.0], Rounding::NearestEven).unwrap();
    assert!(codes[0] == codes[1] && !nf4.facts().nan);
}
