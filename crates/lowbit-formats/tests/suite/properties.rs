//! What holds for every format, for arbitrary numbers and arbitrary formats.

use lowbit_formats::codebook::Decision;
use lowbit_formats::pack::{pack, unpack};
use lowbit_formats::philox::Philox;
use lowbit_formats::{Format, FormatError, Posit, Rounding};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::posit_scale::longer;

/// Fewer where nothing is optimized.
const CASES: u32 = if cfg!(debug_assertions) { 500 } else { 4_000 };

const DETERMINISTIC: [Rounding; 7] = Rounding::DETERMINISTIC;

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
        options(&["unsigned", "finite", "saturate", "propagate"]),
    )
        .prop_map(move |(width, precision, o)| call(format!("p3109({width},{precision}"), o));
    let scale = prop_oneof![
        3 => (-3i8..=3).prop_map(|scale| match scale {
            0 => String::new(),
            _ => format!(",scale_log2={scale}"),
        }),
        2 => (prop_oneof!["", "1/"], -20f32..20.0)
            .prop_map(|(reciprocal, log2)| format!(",scale={reciprocal}{}", log2.exp2())),
        1 => (prop_oneof!["", "1/"], any::<u32>())
            .prop_map(|(reciprocal, bits)| format!(",scale={reciprocal}{}", f32::from_bits(bits))),
    ];
    let posit = (2u8..=32, 0u8..=4, scale)
        .prop_map(move |(bits, es, scale)| format!("posit({bits},{es}{scale})"));
    let listed = prop_oneof![
        (2u8..=8, -2i8..=2).prop_map(|(bits, max)| match max {
            0 => format!("pot({bits})"),
            _ => format!("pot({bits},max={max})"),
        }),
        (3u8..=9).prop_map(|bits| format!("apot({bits})")),
        (2u8..=12, -9i8..=9).prop_map(|(bits, log2)| match log2 {
            0 => format!("flag({bits})"),
            _ => format!("flag({bits},scale_log2={log2})"),
        }),
        (1u8..=7, 0u8..=4).prop_map(|(integer, fraction)| format!("lns({integer},{fraction})")),
    ];
    let texts = prop_oneof![
        2 => posit,
        1 => listed,
        2 => fixed,
        4 => float,
        2 => p3109,
        1 => (1u8..=8, 0u8..=22, prop_oneof!["", ",stochastic=original"])
            .prop_map(|(e, m, rule)| format!("qpytorch({e},{m}{rule})")),
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

/// Formats with a float scale, whose text may be of any options.
fn scaled() -> impl Strategy<Value = Format> {
    let elements = [
        "e4m3",
        "e5m2",
        "e3m4",
        "e2m1",
        "float(3,0)",
        "nf4",
        "fp4",
        "bitsandbytes-nf4",
        "bitsandbytes-dynamic",
    ];
    let shared = prop_oneof![
        Just(String::new()),
        Just(",dim=0".to_string()),
        (1u8..80).prop_map(|size| format!(",block={size}")),
        (1u8..80).prop_map(|size| format!(",block={size},dim=0")),
        (1u8..9, 1u8..9).prop_map(|(rows, columns)| format!(",block={rows}x{columns}")),
    ];
    let options = [
        "scale=bf16",
        "scale=fp16",
        "eps=0.5",
        "reciprocal",
        "double",
    ];
    let options = proptest::sample::subsequence(options.to_vec(), 0..=2);
    let text = (proptest::sample::select(elements.to_vec()), shared, options);
    text.prop_filter_map("not a valid combination", |(element, shared, options)| {
        let options: String = options.iter().map(|option| format!(",{option}")).collect();
        format!("scaled({element}{shared}{options})").parse().ok()
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

/// Whether `x` lies between the limits. Where infinities come of infinities alone, numbers go up to
/// the largest value.
fn within(format: &Format, x: f32) -> bool {
    let (low, high) = format.limits();
    let facts = format.facts();
    if x.is_finite() && format.to_string().contains("propagate") {
        facts.min <= x && x <= facts.max
    } else {
        low <= x && x <= high
    }
}

/// Where the nearest modes of a format leave one of two neighbours for the other.
enum Parting {
    /// Halfway in value: IEEE 754-2019, section 4.3.1; OCP; P3109; whole numbers of steps; and
    /// lists of values.
    Halfway,
    /// At the value of the code with one bit more: the Posit Standard (2022), section 4.1, cuts
    /// the bit string, and gives zero to nothing but zero.
    LongerCode(Posit),
    /// Halfway between the logarithms: logarithmic numbers, whose zero counts as one step of the
    /// logarithm, the given ratio, below the smallest magnitude; and tables that ask for it, whose
    /// zero has a threshold instead.
    Ratio(Option<f64>),
    /// Elsewhere, which tests of the format itself compare: QPyTorch's float adds to the bits and
    /// cuts them; a table may give thresholds; a table of magnitudes without zero keeps all but
    /// zero away from zero; `unit` computes in f32, and so its values are rounded too; a posit of
    /// 32 bits, or of 24 with a scale that is no power of two, has no code with one bit more.
    Elsewhere,
}

fn parting(format: &Format) -> Parting {
    match format {
        Format::Posit(posit) => longer(*posit).map_or(Parting::Elsewhere, Parting::LongerCode),
        Format::Logarithmic(format) => {
            Parting::Ratio(Some((0.5f64).powi(format.fraction() as i32).exp2()))
        }
        Format::Codebook(table) => match table.decision() {
            Decision::Nearest if !table.has_sign() || table.table()[0] == 0.0 => Parting::Halfway,
            Decision::GeometricMean { .. } => Parting::Ratio(None),
            _ => Parting::Elsewhere,
        },
        Format::QPyTorch(_) | Format::Unit(_) => Parting::Elsewhere,
        _ => Parting::Halfway,
    }
}

/// To which of its neighbours `x` is nearer by the format's own measure, `None` on a tie or where
/// the measure is not known here.
fn nearer(format: &Format, x: f32, down: f32, up: f32) -> Option<f32> {
    let (x, [low, high]) = (f64::from(x), [down, up].map(f64::from));
    let (inner, outer) = match down.abs() < up.abs() {
        true => (down, up),
        false => (up, down),
    };
    let magnitude = x.abs();
    let inner_is_nearer = match parting(format) {
        Parting::Halfway if low.is_finite() && high.is_finite() => {
            let (below, above) = (x - low, high - x);
            return (below != above).then_some(if below < above { down } else { up });
        }
        Parting::LongerCode(_) if inner == 0.0 => false,
        Parting::LongerCode(longer) => {
            let Format::Posit(posit) = format else {
                return None;
            };
            let code = posit.encode(inner.abs(), Rounding::NearestEven, 0);
            let boundary = longer.decode(2 * code + 1);
            if magnitude == boundary {
                return None;
            }
            magnitude < boundary
        }
        Parting::Ratio(step) if low * high >= 0.0 => {
            let outer = f64::from(outer).abs();
            let inner = match inner == 0.0 {
                true => outer / step?,
                false => f64::from(inner).abs(),
            };
            let ratio = magnitude * magnitude / (inner * outer);
            // The values are rounded to f32, by up to 2^-24 of them.
            if (ratio - 1.0).abs() < 1e-6 {
                return None;
            }
            ratio < 1.0
        }
        _ => return None,
    };
    Some(if inner_is_nearer { inner } else { outer })
}

/// Whether zero is a value of the format; of `binary`, for one, it is not.
fn holds_zero(format: &Format) -> bool {
    format.round(0.0, Rounding::Down, 0) == 0.0
}

/// Whether the values lie symmetrically about zero. A format of more than 16 bits holds floats,
/// posits or whole numbers of steps, whose limits tell.
fn has_symmetric_values(format: &Format) -> bool {
    let facts = format.facts();
    if facts.min != -facts.max {
        return false;
    }
    let Ok(values) = format.values() else {
        return true;
    };
    values
        .iter()
        .copied()
        .eq(values.iter().rev().map(|value| -value))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn printing_and_parsing_are_inverse(format in format()) {
        prop_assert_eq!(format.to_string().parse(), Ok(format));
    }

    #[test]
    fn scaled_formats_print_and_parse(format in scaled()) {
        prop_assert_eq!(format.to_string().parse(), Ok(format));
    }

    /// An f64 that is an f32 becomes what the f32 becomes, and what the codes stand for is that.
    #[test]
    fn scaled_formats_agree_with_themselves(format in scaled(), input in prop::collection::vec(-300.0f32..300.0, 0..100), rounding in rounding()) {
        let singles = format.quantize_to_vec(&input, rounding).unwrap();
        let wide: Vec<f64> = input.iter().map(|&x| x.into()).collect();
        let mut doubles = vec![0.0; input.len()];
        format.quantize_f64(&wide, &mut doubles, rounding).unwrap();
        prop_assert_eq!(&doubles, &singles);
        let Format::Block(block) = format else { return Err(TestCaseError::fail("no block format")); };
        let codes = block.encode(&input, &[input.len()], rounding).unwrap();
        prop_assert_eq!(block.decode(&codes).unwrap(), singles);
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9(),=. -]{0,24}|\\PC{0,12}") {
        if let Err(error) = text.parse::<Format>() {
            // A suggestion is valid.
            let FormatError::Parse { nearest, .. } = &error else {
                return Err(TestCaseError::fail(error.to_string()));
            };
            prop_assert!(nearest.is_empty() || nearest.parse::<Format>().is_ok(), "{}", error);
            prop_assert!(error.to_string().contains(nearest.as_str()));
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
        let facts = format.facts();
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
        // f32 does not hold every value of a word of more than 24 bits, and reaches down to no
        // smallest posit: a zero of either sign stands for what is below it.
        let is_below_f32 = value == 0.0 && matches!(format, Format::Posit(_));
        let is_held = bits <= 24 && !is_below_f32;
        if !value.is_nan() && is_held && rounded == value {
            let again = format.encode(&[value], Rounding::NearestEven).unwrap();
            prop_assert_eq!(format.decode(&again)[0].to_bits(), value.to_bits());
        }
    }

    #[test]
    fn facts_count_the_values(format in format().prop_filter("too many values", |format| format.bits() <= 10)) {
        // f32 does not hold every posit with many exponent bits, or with a scale far from one.
        let is_beyond = |posit: &Posit| posit.largest() > f32::MAX.into() || posit.smallest() < 1e-45;
        prop_assume!(!matches!(&format, Format::Posit(posit) if is_beyond(posit)));
        let (facts, values) = (format.facts(), format.values().unwrap());
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
        let low = format.min();
        if !wraps(&format) && within(&format, x) && !down.is_nan() && !up.is_nan() {
            let unit = matches!(format, Format::Unit(_));
            // The values of a unit grid are themselves rounded to f32.
            prop_assert!(unit || (down <= x || low >= x) && up >= x, "{} {} {}", down, x, up);
            if format.bits() <= 8 {
                let between = |value: &f32| down < *value && *value < up;
                prop_assert!(!format.values().unwrap().iter().any(between), "{} {}", down, up);
            }
            if holds_zero(&format) {
                prop_assert_eq!(zero, if x > 0.0 { down } else { up });
            } else {
                // Of two values as far from zero, the upper.
                prop_assert_eq!(zero, if up.abs() <= down.abs() { up } else { down });
            }
            prop_assert!(odd == down || odd == up);
        }
    }

    #[test]
    fn nearest_modes_take_the_nearer_neighbour(format in format(), x in number()) {
        let [down, up, even, away, upper] = [Rounding::Down, Rounding::Up, Rounding::NearestEven, Rounding::NearestAway, Rounding::NearestUp]
            .map(|mode| format.round(x, mode, 0));
        if !wraps(&format) && within(&format, x) && !down.is_nan() && !up.is_nan() {
            prop_assert!((even == down || even == up) && (away == down || away == up), "{} {} {} {}", down, up, even, away);
            prop_assert!(upper == even || upper == up, "{} {}", down, up);
            if let Some(nearest) = nearer(&format, x, down, up) {
                prop_assert_eq!((even, away, upper), (nearest, nearest, nearest), "{} {}", down, up);
            }
            if x > 0.0 && down.abs() != up.abs() {
                prop_assert_eq!(upper, away);
            }
        }
    }

    /// In a table without a sign, an index breaks ties, and of two values as far from zero the
    /// upper is taken: only its directed modes need be symmetric.
    #[test]
    fn symmetric_formats_round_symmetrically(format in format(), x in number(), rounding in rounding(), random: u32) {
        let (mirrored, directed) = match rounding {
            Rounding::Down => (Rounding::Up, true),
            Rounding::Up => (Rounding::Down, true),
            // Ties go down on the other side, which no mode does.
            Rounding::NearestUp => (Rounding::NearestAway, false),
            other => (other, false),
        };
        let rounding = if rounding == Rounding::NearestUp { mirrored } else { rounding };
        let indexed = matches!(&format, Format::Codebook(table) if !table.has_sign());
        let (positive, negative) = (format.round(x, rounding, random), format.round(-x, mirrored, random));
        let facts = format.facts();
        let unbounded = format.limits().1 > facts.max && !facts.infinity;
        if has_symmetric_values(&format) && (directed || !indexed) && !unbounded && !positive.is_nan() {
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
