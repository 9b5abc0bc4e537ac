//! Formats against tables that other packages made; `tests/reference/generate.py` writes them.

use std::collections::BTreeMap;

use lowbit_formats::{Format, Rounding};

use crate::words::{assert_same, bits, floats, lines, same};

/// The modes that the references have, in their order.
const MODES: &[Rounding] = &[
    Rounding::NearestEven,
    Rounding::NearestAway,
    Rounding::TowardZero,
    Rounding::Down,
    Rounding::Up,
];

/// Ours by the name in the tables, overflowing and saturating.
fn element_formats(name: &str) -> Option<(Format, Option<Format>)> {
    let text = match name {
        "e4m3fn" => "e4m3",
        "e4m3ieee" => "float(4,3)",
        name => name,
    };
    let format: Format = text.parse().ok()?;
    let saturating = match text.strip_suffix(')') {
        Some(text) => format!("{text},saturate)"),
        None => format!("{text}(saturate)"),
    };
    Some((format, saturating.parse().ok()))
}

/// gfloat 0.5.2 has no rule for negative numbers in unsigned formats of P3109: it gives negative
/// numbers, where the report (version 4.0, section 4.7.5) has NaN or zero.
fn is_negative_unsigned(name: &str, x: f32) -> bool {
    x < 0.0 && name.starts_with("p3109") && name.contains('u')
}

/// gfloat 0.5.2 gives NaN beyond the largest value of a finite format of P3109, where the report has
/// the largest value; saturating they agree.
fn is_beyond_finite(name: &str, x: f32, max: f32) -> bool {
    x.abs() > max && name.starts_with("p3109") && name.ends_with('f')
}

/// How many roundings of each format were compared.
fn elements(
    table: &str,
    formats: impl Fn(&str) -> Option<(Format, Option<Format>)>,
) -> BTreeMap<String, usize> {
    let mut compared = BTreeMap::new();
    let (mut name, mut values, mut current) = ("", Vec::new(), None);
    for line in lines(table) {
        if let Some(format) = line.strip_prefix("format ") {
            name = format.split(' ').nth(1).unwrap();
            current = formats(name);
            continue;
        }
        if let Some(words) = line.strip_prefix("values ") {
            values = floats(words);
            continue;
        }
        let Some((format, saturating)) = &current else {
            continue;
        };
        let count: &mut usize = compared.entry(name.to_string()).or_default();
        let mut check = |format: &Format, x: f32, mode: Rounding, code: &str| {
            if code == "-" {
                return;
            }
            let expected = values[usize::from_str_radix(code, 16).unwrap()];
            let ours = format.round(x, mode, 0);
            assert!(
                same(ours, expected),
                "{format} {mode:?}: {x:e} is {ours:e}, not {expected:e}"
            );
            *count += 1;
        };
        let words: Vec<&str> = line.split(' ').collect();
        let (inputs, modes, codes) = match words.as_slice() {
            ["near", x, codes @ ..] => {
                let x = bits(x);
                // From a zero, the neighbours are the smallest numbers of either sign.
                (
                    [x.next_down(), x, x.next_up()].to_vec(),
                    [MODES[0]; 3].to_vec(),
                    codes,
                )
            }
            [x, codes @ ..] => (vec![bits(x); 5], MODES.to_vec(), codes),
            [] => continue,
        };
        let (plain, saturated) = codes.split_at(inputs.len());
        let saturated = if saturated.is_empty() {
            plain
        } else {
            saturated
        };
        for (((&x, &mode), plain), saturated) in inputs.iter().zip(&modes).zip(plain).zip(saturated)
        {
            if is_negative_unsigned(name, x) {
                continue;
            }

            if !is_beyond_finite(name, x, format.facts().max) {
                check(format, x, mode, plain);
            }
            if let Some(format) = saturating {
                check(format, x, mode, saturated);
            }
        }
    }
    compared
}

/// ml_dtypes and gfloat: the roundings of all boundaries, values and their neighbours.
#[test]
fn floats_to_8_bits_match_ml_dtypes_and_gfloat() {
    let compared = elements(include_str!("../reference/elements.txt"), element_formats);
    for name in [
        "e5m2",
        "e4m3fn",
        "e4m3ieee",
        "e3m4",
        "e5m2fnuz",
        "e4m3fnuz",
        "e4m3b11fnuz",
        "e3m2",
        "e2m3",
        "e2m1",
        "e8m0",
    ] {
        assert!(compared[name] > 150, "{name}: {compared:?}");
    }
    assert!(compared["e5m2"] > 10_000);
}

/// gfloat: every P3109 format of 3 to 8 bits, to nearest at all boundaries and their neighbours,
/// to 5 bits in five roundings at all boundaries.
#[test]
fn p3109_matches_gfloat() {
    let compared = elements(include_str!("../reference/p3109.txt"), |name| {
        // p3109_k8p4se: width, precision, signed or unsigned, extended or finite.
        let (width, rest) = name.strip_prefix("p3109_k")?.split_once('p')?;
        let (precision, kind) = rest.split_at(rest.len() - 2);
        let unsigned = if kind.starts_with('u') {
            ",unsigned"
        } else {
            ""
        };
        let finite = if kind.ends_with('f') { ",finite" } else { "" };
        // Ours ends where f32's normal numbers end.
        if !unsigned.is_empty() && (width, precision) == ("8", "1") {
            return None;
        }
        let text = format!("p3109({width},{precision}{unsigned}{finite}");
        let parse = |text: String| text.parse().unwrap_or_else(|error| panic!("{error}"));
        Some((parse(text.clone() + ")"), Some(parse(text + ",saturate)"))))
    });
    // Widths k from 3 to 8, extended or not, k - 1 precisions signed and k unsigned; two left out.
    let (signed, unsigned) = (2 + 3 + 4 + 5 + 6 + 7, 3 + 4 + 5 + 6 + 7 + 8);
    assert_eq!(compared.len(), 2 * (signed + unsigned) - 2);
    assert!(compared.values().all(|&count| count >= 12), "{compared:?}");
}

/// QPyTorch's `float_quantize`, ties and range ends included.
#[test]
fn qpytorch_floats_match_qpytorch() {
    pairs(
        include_str!("../reference/qpytorch.txt"),
        |name, input, expected| {
            let format: Format = format!("qpytorch({})", name.replace(' ', ","))
                .parse()
                .unwrap();
            let ours = format
                .quantize_to_vec(input, Rounding::NearestAway)
                .unwrap();
            assert_same(&ours, expected, &format.to_string());
        },
    );
}

/// torchao and gfloat: blocks of 32, by every scale rule.
#[test]
fn microscaling_matches_torchao_and_gfloat() {
    let values = element_values();
    let mut block = Vec::new();
    let mut compared = 0;
    for line in lines(include_str!("../reference/microscaling.txt")) {
        if let Some(words) = line.strip_prefix("block ") {
            block = floats(words);
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let [element, rule, scale, codes] = words.as_slice() else {
            panic!("{line}");
        };
        let rule = rule.replace("rceil", "up");
        let format: Format = match *element {
            "e4m3" | "e5m2" => format!("mxfp8({element},scale={rule})"),
            "e3m2" | "e2m3" => format!("mxfp6({element},scale={rule})"),
            "e2m1" => format!("mxfp4(scale={rule})"),
            _ => format!("mxint8(scale={rule})"),
        }
        .parse()
        .unwrap();
        let Format::Block(lowbit_formats::BlockFormat::Microscaling(mx)) = &format else {
            panic!("{format} is no microscaling format");
        };
        let scale = u8::from_str_radix(scale, 16).unwrap();
        assert_eq!(mx.scales(&block, &[32]).unwrap(), [scale], "{format}");
        let codes = codes
            .as_bytes()
            .chunks(2)
            .map(|c| std::str::from_utf8(c).unwrap());
        let factor = (f64::from(scale) - 127.0).exp2();
        let expected: Vec<f32> = codes
            .map(|code| {
                let code = usize::from_str_radix(code, 16).unwrap();
                let value = match *element {
                    // gfloat uses the code of -2; ours is left unused, as microxcaling's.
                    "int8" => f64::from((code as u8 as i8).max(-127)) / 64.0,
                    name => f64::from(values[name][code]),
                };
                (value * factor) as f32
            })
            .collect();
        let mut ours = vec![0.0; 32];
        format
            .quantize(&block, &mut ours, Rounding::NearestEven)
            .unwrap();
        assert_same(&ours, &expected, &format!("{format} of {block:?}"));
        compared += 1;
    }
    assert!(compared > 600, "{compared}");
}

/// The values of every code, from the tables.
fn element_values() -> BTreeMap<&'static str, Vec<f32>> {
    let mut name = "";
    let mut values = BTreeMap::new();
    for line in lines(include_str!("../reference/elements.txt")) {
        if let Some(format) = line.strip_prefix("format ") {
            name = format.split(' ').nth(1).unwrap().trim_end_matches("fn");
        } else if let Some(words) = line.strip_prefix("values ") {
            values.insert(name, floats(words));
        }
    }
    values
}

/// torchao: two levels of scales.
#[test]
fn nvfp4_matches_torchao() {
    let values = element_values();
    let (mut tensor, mut scale, mut blocks) = (Vec::new(), 0.0, Vec::new());
    let mut compared = 0;
    for line in lines(include_str!("../reference/nvfp4.txt")) {
        let (what, words) = line.split_once(' ').unwrap();
        match what {
            "tensor" => tensor = floats(words),
            "scale" => scale = bits(words),
            "blocks" => {
                let code = |word| values["e4m3"][usize::from_str_radix(word, 16).unwrap()];
                blocks = words.split(' ').map(code).collect();
            }
            _ => {
                let codes = words.bytes().map(|c| (c as char).to_digit(16).unwrap());
                let expected: Vec<f32> = codes
                    .enumerate()
                    .map(|(i, code)| values["e2m1"][code as usize] * (scale * blocks[i / 16]))
                    .collect();
                assert_eq!(lowbit_formats::NvFp4::tensor_scale(&tensor), scale);
                let format: Format = "nvfp4".parse().unwrap();
                let mut ours = vec![0.0; tensor.len()];
                format
                    .quantize_shaped(&tensor, &[4, 64], &mut ours, Rounding::NearestEven)
                    .unwrap();
                assert_same(&ours, &expected, "nvfp4");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3);
}

/// QPyTorch's `block_quantize`, whole tensors and along each dimension.
#[test]
fn block_floating_point_matches_qpytorch() {
    let mut input = Vec::new();
    let mut compared = 0;
    for line in lines(include_str!("../reference/block.txt")) {
        let (what, words) = line.split_once(": ").unwrap();
        if what.starts_with("input") {
            input = floats(words);
            continue;
        }
        let format: Format = match what.split_once(' ').unwrap() {
            (word, "-1") => format!("bfp({word})"),
            (word, dim) => format!("bfp({word},dim={dim})"),
        }
        .parse()
        .unwrap();
        let mut ours = vec![0.0; input.len()];
        format
            .quantize_shaped(&input, &[3, 4, 5], &mut ours, Rounding::NearestEven)
            .unwrap();
        assert_same(&ours, &floats(words), &format.to_string());
        compared += 1;
    }
    assert_eq!(compared, 3 * 7 * 4);
}

/// Calls `check` with the text of each format and its pairs of input and result.
fn pairs(table: &str, check: impl Fn(&str, &[f32], &[f32])) {
    let mut format = "";
    let (mut input, mut result) = (Vec::new(), Vec::new());
    for line in lines(table).chain(["format end"]) {
        if let Some(next) = line.strip_prefix("format ") {
            if !input.is_empty() {
                check(format, &input, &result);
            }
            (format, input, result) = (next, Vec::new(), Vec::new());
            continue;
        }
        for pair in line.split(' ') {
            let (x, y) = pair.split_once('=').unwrap();
            input.push(bits(x));
            result.push(bits(y));
        }
    }
}

/// QPyTorch's `fixed_point_quantize`, away from ties, which QPyTorch rounds up.
#[test]
fn fixed_point_matches_qpytorch() {
    pairs(
        include_str!("../reference/fixed.txt"),
        |name, input, expected| {
            let words: Vec<&str> = name.split(' ').collect();
            let [word, fraction, clamp, symmetric] = words.as_slice() else {
                panic!("{name}");
            };
            let option = match (*clamp, *symmetric) {
                // A symmetric format of one bit holds zero alone, which ours does not build.
                ("1", "1") if *word == "1" => return,
                ("1", "1") => ",symmetric",
                ("0", _) => ",unbounded",
                _ => "",
            };
            let format: Format = format!("fixed({word},{fraction}{option})").parse().unwrap();
            let ours = format
                .quantize_to_vec(input, Rounding::NearestEven)
                .unwrap();
            // QPyTorch keeps the sign of a zero that was negative; as numbers they are equal.
            assert_eq!(ours, expected, "{format}");
        },
    );
}

/// PyTorch's observers and fake-quantization.
#[test]
fn affine_integers_match_pytorch() {
    let mut format: Option<(Format, Vec<f32>)> = None;
    let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
    let mut compared = 0;
    for line in lines(include_str!("../reference/affine.txt")) {
        let (what, words) = line.split_once(' ').unwrap();
        match what {
            "input" => format.as_mut().unwrap().1 = floats(words),
            "scales" => scales = floats(words),
            "zero_points" => {
                zero_points = words
                    .split(' ')
                    .map(|w| w.parse::<i32>().unwrap())
                    .collect()
            }
            "output" => {
                let (format, input) = format.as_ref().unwrap();
                let Format::Block(lowbit_formats::BlockFormat::Grouped(grouped)) = format else {
                    panic!("{format}");
                };
                let parameters = grouped.parameters(input, &[4, 6]).unwrap();
                let ours: Vec<f32> = parameters.iter().map(|p| p.scale).collect();
                assert_same(&ours, &scales, &format!("scales of {format}"));
                let ours: Vec<i32> = parameters.iter().map(|p| p.zero_point).collect();
                assert_eq!(ours, zero_points, "{format}");
                let mut ours = vec![0.0; input.len()];
                format
                    .quantize_shaped(input, &[4, 6], &mut ours, Rounding::NearestEven)
                    .unwrap();
                // As numbers: PyTorch may leave a minus zero.
                assert_eq!(ours, floats(words), "{format}");
                compared += 1;
            }
            bits => {
                let words: Vec<&str> = words.split(' ').collect();
                let [signed, scheme, axis] = words.as_slice() else {
                    panic!("{line}");
                };
                let mut text = format!("affine({bits}");
                text += if *signed == "unsigned" {
                    ",unsigned"
                } else {
                    ""
                };
                text += if *scheme == "narrow" {
                    ",symmetric,narrow"
                } else {
                    ""
                };
                if *axis != "-1" {
                    text += &format!(",dim={axis}");
                }
                format = Some(((text + ")").parse().unwrap(), Vec::new()));
            }
        }
    }
    assert_eq!(compared, 4 * 3 * 3 * 4);
}
