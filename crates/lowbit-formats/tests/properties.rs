//! What holds for every format, for arbitrary numbers and arbitrary formats.

use lowbit_formats::pack::{pack, unpack};
use lowbit_formats::philox::Philox;
use lowbit_formats::{Format, Rounding};
use proptest::prelude::*;

const DETERMINISTIC: [Rounding; 6] = [
    Rounding::NearestEven,
    Rounding::NearestAway,
    Rounding::TowardZero,
    Rounding::Down,
    Rounding::Up,
    Rounding::ToOdd,
];

/// Texts over the whole range of every parameter, valid or not; only the valid are taken.
fn format() -> impl Strategy<Value = Format> {
    let options = |all: &'static [&'static str]| proptest::sample::subsequence(all, 0..=all.len());
    let call = |name: String, options: Vec<&str>| match options.as_slice() {
        [] => format!("{name})"),
        _ => format!("{name},{})", options.join(",")),
    };
    let fixed = (
        prop_oneof!["fixed", "ufixed"],
        1u8..=32,
        -96i8..=126,
        options(&["symmetric", "wrap", "unbounded"]),
    )
        .prop_map(move |(name, word, fraction, o)| call(format!("{name}({word},{fraction}"), o));
    let float = (
        1u8..=8,
        0u8..=23,
        proptest::option::of(-126i16..=127),
        options(&["fn", "fnuz", "finite", "flush", "saturate"]),
    )
        .prop_map(move |(exponent, mantissa, bias, o)| {
            let bias = bias.map_or(String::new(), |bias| format!(",bias={bias}"));
            call(format!("float({exponent},{mantissa}{bias}"), o)
        });
    let p3109 = (
        3u8..=16,
        1u8..=15,
        options(&["unsigned", "finite", "saturate"]),
    )
        .prop_map(move |(width, precision, o)| call(format!("p3109({width},{precision}"), o));
    let texts = prop_oneof![
        2 => fixed,
        4 => float,
        2 => p3109,
        1 => (1u8..=8, 0u8..=22).prop_map(|(e, m)| format!("qpytorch({e},{m})")),
        1 => (prop_oneof!["int", "uint"], 1u8..=32, prop_oneof!["", "(narrow)"])
            .prop_map(|(name, bits, narrow)| format!("{name}{bits}{narrow}")),
        1 => (1u8..=16).prop_map(|bits| format!("unit({bits})")),
        3 => proptest::sample::select(Format::examples().map(String::from).collect::<Vec<_>>()),
    ];
    // Formats that share scales have properties of their own, in `block_formats.rs`.
    texts.prop_filter_map("not a scalar format", |text| {
        let format = text.parse().ok();
        format.filter(|format| !matches!(format, Format::Block(_)))
    })
}

/// Any bit pattern, and numbers of everyday size.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        -4.0f32..4.0,
        -300.0f32..300.0
    ]
}

fn rounding() -> impl Strategy<Value = Rounding> {
    prop_oneof![
        proptest::sample::select(&DETERMINISTIC[..]),
        (any::<u64>(), any::<u64>(), 1u8..=32)
            .prop_map(|(seed, stream, bits)| Rounding::Stochastic { seed, stream, bits }),
    ]
}

fn wraps(format: &Format) -> bool {
    format.to_string().contains("wrap")
}

fn is_qpytorch(format: &Format) -> bool {
    format.to_string().starts_with("qpytorch")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn printing_and_parsing_are_inverse(format in format()) {
        prop_assert_eq!(format.to_string().parse(), Ok(format));
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9(),=. -]{0,24}|\\PC{0,12}") {
        if let Err(error) = text.parse::<Format>() {
            // One line, whose suggestion is valid.
            let message = error.to_string();
            let suggestion = message.rsplit('`').nth(1).unwrap_or_default();
            prop_assert!(suggestion.parse::<Format>().is_ok(), "{}", message);
        }
    }

    #[test]
    fn rounding_is_idempotent(format in format(), x in number(), first in rounding(), second in rounding(), random: u32) {
        let once = format.round(x, first, random);
        let twice = format.round(once, second, random);
        prop_assert!(once.to_bits() == twice.to_bits() || once.is_nan(), "{} {} {}", x, once, twice);
    }

    #[test]
    fn results_have_codes(format in format(), x in number(), rounding in rounding(), random: u32) {
        let value = format.round(x, rounding, random);
        let facts = format.facts().unwrap();
        let held = match value.is_infinite() {
            true => facts.infinity,
            false => facts.min <= value && value <= facts.max,
        };
        if held {
            let codes = format.encode(&[value], Rounding::NearestEven).unwrap();
            prop_assert_eq!(format.decode(&codes)[0].to_bits(), value.to_bits(), "{:?}", codes);
        }
    }

    #[test]
    fn codes_have_values_that_stay(format in format(), code: u32, rounding in rounding()) {
        let bits = format.bits();
        let code = code & (u32::MAX >> (32 - bits));
        let value = format.decode(&[code])[0];
        let rounded = format.round(value, rounding, 0);
        // A saturating format takes its own infinities to the largest value.
        prop_assert!(rounded == value || value.is_nan() || value.is_infinite(), "{} {}", value, rounded);
        // f32 does not hold every value of a word of more than 24 bits.
        if !value.is_nan() && bits <= 24 && rounded == value {
            let again = format.encode(&[value], Rounding::NearestEven).unwrap();
            prop_assert_eq!(format.decode(&again)[0].to_bits(), value.to_bits());
        }
    }

    #[test]
    fn facts_count_the_values(format in format().prop_filter("too many values", |format| format.bits() <= 10)) {
        let (facts, values) = (format.facts().unwrap(), format.values().unwrap());
        let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
        prop_assert_eq!(facts.values, values.len() as u64);
        prop_assert_eq!((Some(&facts.min), Some(&facts.max)), (finite.first(), finite.last()));
        prop_assert_eq!(facts.min_positive, values.iter().copied().find(|value| *value > 0.0));
        prop_assert_eq!(facts.infinity, values.last() == Some(&f32::INFINITY));
        let codes: Vec<u32> = (0..1 << format.bits()).collect();
        let decoded = format.decode(&codes);
        prop_assert_eq!(facts.nan, decoded.iter().any(|value| value.is_nan()));
        let minus_zero = (-0.0f32).to_bits();
        prop_assert_eq!(facts.minus_zero, decoded.iter().any(|value| value.to_bits() == minus_zero));
    }

    #[test]
    fn rounding_is_monotone(format in format(), x in number(), y in number(), mode in proptest::sample::select(&DETERMINISTIC[..])) {
        let (low, high) = if x <= y { (x, y) } else { (y, x) };
        let results = (format.round(low, mode, 0), format.round(high, mode, 0));
        // NaN may become a number. Unordered results are NaN, for what lies beyond a format without infinity.
        prop_assert!(wraps(&format) || x.is_nan() || y.is_nan() || results.0.partial_cmp(&results.1) != Some(std::cmp::Ordering::Greater), "{:?}", results);
    }

    #[test]
    fn directed_modes_enclose(format in format(), x in number()) {
        let [down, up, zero, odd] = [Rounding::Down, Rounding::Up, Rounding::TowardZero, Rounding::ToOdd]
            .map(|mode| format.round(x, mode, 0));
        let (low, high) = format.limits();
        if !wraps(&format) && low <= x && x <= high && !down.is_nan() && !up.is_nan() {
            let unit = format.to_string().starts_with("unit");
            // The values of a unit grid are themselves rounded to f32.
            prop_assert!(unit || (down <= x || low >= x) && up >= x, "{} {} {}", down, x, up);
            prop_assert_eq!(zero, if x > 0.0 { down } else { up });
            prop_assert!(odd == down || odd == up);
            let [even, away] = [Rounding::NearestEven, Rounding::NearestAway].map(|mode| format.round(x, mode, 0));
            if !is_qpytorch(&format) {
                prop_assert!((even == down || even == up) && (away == down || away == up));
                let below = f64::from(x) - f64::from(down);
                let above = f64::from(up) - f64::from(x);
                if up.is_finite() && down.is_finite() && !unit && below != above {
                    let nearest = if below < above { down } else { up };
                    prop_assert_eq!((even, away), (nearest, nearest));
                }
            }
        }
    }

    #[test]
    fn symmetric_formats_round_symmetrically(format in format(), x in number(), rounding in rounding(), random: u32) {
        let facts = format.facts().unwrap();
        let mirrored = match rounding {
            Rounding::Down => Rounding::Up,
            Rounding::Up => Rounding::Down,
            other => other,
        };
        let (positive, negative) = (format.round(x, rounding, random), format.round(-x, mirrored, random));
        let unbounded = format.limits().1 > facts.max && !facts.infinity;
        if facts.min == -facts.max && !unbounded && !positive.is_nan() {
            prop_assert_eq!(positive, -negative);
        }
    }

    #[test]
    fn packing_is_reversible(codes in prop::collection::vec(any::<u32>(), 0..100), bits in 1u32..=32) {
        let codes: Vec<u32> = codes.into_iter().map(|code| code & (u32::MAX >> (32 - bits))).collect();
        prop_assert_eq!(unpack(&pack(&codes, bits).unwrap(), bits, codes.len()).unwrap(), codes);
    }

    #[test]
    fn slices_equal_scalars(format in format(), input in prop::collection::vec(number(), 0..100), rounding in rounding()) {
        let philox = match rounding {
            Rounding::Stochastic { seed, stream, .. } => Philox::new(seed, stream),
            _ => Philox::new(0, 0),
        };
        let output = format.quantize_to_vec(&input, rounding).unwrap();
        for (index, (x, y)) in (0u64..).zip(input.iter().zip(output)) {
            let scalar = format.round(*x, rounding, philox.word(index));
            prop_assert_eq!(scalar.to_bits(), y.to_bits(), "{}", x);
        }
    }
}
