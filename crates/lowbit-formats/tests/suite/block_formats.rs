//! Formats whose elements share a scale: every way of sharing, special numbers, codes.

use lowbit_formats::philox::Philox;
use lowbit_formats::{Format, FormatError, Rounding, Scales};

use crate::blocks::{block, parse, patterns, quantized};

/// Every mode, stochastic rounding twice.
fn roundings() -> impl Iterator<Item = Rounding> {
    let stochastic = [
        Rounding::stochastic(7, 3),
        Rounding::Stochastic {
            seed: 1,
            stream: 2,
            bits: 4,
        },
    ];
    Rounding::DETERMINISTIC.into_iter().chain(stochastic)
}

const FORMATS: [&str; 18] = [
    "bfp(8",
    "bfp(2",
    "bfp(24",
    "mxfp8(e4m3",
    "mxfp8(e5m2,scale=ceil",
    "mxfp6(e3m2,scale=even",
    "mxfp6(e2m3",
    "mxfp4(scale=up",
    "mxint8(scale=ceil",
    "nvfp4(dim=0",
    "affine(8",
    "affine(4,symmetric,narrow",
    "scaled(e4m3",
    "scaled(e5m2,scale=fp16",
    "scaled(nf4,scale=bf16",
    "scaled(fp4,eps=0.01",
    "scaled(bitsandbytes-nf4,reciprocal,double",
    "scaled(bitsandbytes-dynamic",
];

/// Numbers of both signs whose magnitudes spread over 2^-20 to 2^20, with some zeros.
fn spread(count: usize) -> Vec<f32> {
    let words = Philox::new(5, 6);
    (0..count as u64)
        .map(|i| {
            let word = words.word(i);
            let fraction = 1.0 + (word & 0xFFFF) as f32 / 65_536.0;
            let sign = if word >> 31 == 0 { 1.0 } else { -1.0 };
            match word >> 16 & 0x3F {
                0 => 0.0,
                exponent => sign * fraction * (exponent as f32 % 41.0 - 20.0).exp2(),
            }
        })
        .collect()
}

/// Every format with every way of sharing that its text allows.
fn shared(dims: usize) -> Vec<Format> {
    let mut formats = Vec::new();
    for text in FORMATS {
        let always_blocks = text.starts_with("mx") || text.starts_with("nv");
        let mut options = vec![String::new()];
        for dim in 0..dims {
            options.push(format!(",dim={dim}"));
            for size in [3, 32] {
                options.push(format!(",block={size},dim={dim}"));
            }
        }
        for option in options {
            // Dimension 0 is given in nvfp4's text already.
            let text = if always_blocks && text.contains("dim=0") {
                text.replace("dim=0", "block=16")
            } else {
                text.to_string()
            };
            let text = if option.contains("block=") {
                text.replace(",block=16", "").replace("(block=16", "(")
            } else {
                text
            };
            let text = format!("{text}{option})").replace("(,", "(");
            formats.push(parse(&text));
        }
        if text.starts_with("affine") || text.starts_with("scaled") || text.starts_with("bfp") {
            for tile in ["1x7", "16x2", "2x33"] {
                formats.push(parse(&format!("{text},block={tile})")));
            }
        }
    }
    formats
}

/// The kernels against the codes, which are found element by element on another path: from the
/// index of each element's scale, and with one random word at a time.
#[test]
fn kernels_give_what_the_codes_stand_for() {
    for shape in [&[2, 3, 40][..], &[3, 35, 2], &[40, 1]] {
        let input = spread(shape.iter().product());
        for format in shared(shape.len()) {
            let Format::Block(block) = &format else {
                panic!("{format}");
            };
            for rounding in roundings() {
                let ours = quantized(&format, &input, shape, rounding);
                let codes = block.encode(&input, shape, rounding).unwrap();
                let decoded = block.decode(&codes).unwrap();
                assert_eq!(ours, decoded, "{format} {shape:?} {rounding:?}");
            }
        }
    }
}

#[test]
fn threads_and_place_do_not_matter() {
    let shape = [11, 50, 67];
    let input = spread(shape.iter().product());
    for format in shared(3).into_iter().step_by(3) {
        for rounding in [Rounding::NearestEven, Rounding::stochastic(1, 2)] {
            let results = [1, 2, 16].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().unwrap();
                patterns(&pool.install(|| quantized(&format, &input, &shape, rounding)))
            });
            assert_eq!(results[0], results[1], "{format}");
            assert_eq!(results[0], results[2], "{format}");
            let mut data = input.clone();
            format
                .quantize_shaped_in_place(&mut data, &shape, rounding)
                .unwrap();
            assert_eq!(results[0], patterns(&data), "{format}");
        }
    }
}

/// QPyTorch's invariant: with a shared exponent of zero, words are symmetric fixed point.
#[test]
fn exponent_zero_is_fixed_point() {
    for word in 2..=24 {
        let mut input = spread(5000);
        input.iter_mut().for_each(|x| *x = x.clamp(-1.999, 1.999));
        input[17] = 1.25;
        let block = parse(&format!("bfp({word})"));
        let fixed = parse(&format!("fixed({word},{},symmetric)", word - 2));
        for rounding in roundings() {
            let ours = quantized(&block, &input, &[50, 100], rounding);
            assert_eq!(
                patterns(&ours),
                patterns(&quantized(&fixed, &input, &[5000], rounding))
            );
        }
    }
}

#[test]
fn results_are_representable() {
    let input = spread(4096);
    for text in [
        "bfp(8)",
        "bfp(4,block=16)",
        "mxfp8(e4m3)",
        "mxfp6(e2m3)",
        "mxint8",
    ] {
        let format = parse(text);
        for rounding in roundings() {
            let once = quantized(&format, &input, &[64, 64], Rounding::TowardZero);
            assert_eq!(
                once,
                quantized(&format, &once, &[64, 64], rounding),
                "{text} {rounding:?}"
            );
        }
    }
}

/// OCP Microscaling 1.0, section 6.3, by hand: m = 5 = 1.25 * 2^2, emax of e2m1 is 2, the scale
/// 2^0; 5 ties between 4 and 6 and goes to 4, whose mantissa is even.
#[test]
fn mxfp4_by_hand() {
    let mut input = [0.0; 32];
    input[..6].copy_from_slice(&[5.0, -0.3, 0.75, 1.25, -3.5, 2.5]);
    let ours = quantized(&parse("mxfp4"), &input, &[32], Rounding::NearestEven);
    assert_eq!(ours[..6], [4.0, -0.5, 1.0, 1.0, -4.0, 2.0]);
    // Ceil: log2 5 goes up to 3, the scale is 2; 5 / 2 = 2.5 ties to 2, times 2.
    let ours = quantized(
        &parse("mxfp4(scale=ceil)"),
        &input,
        &[32],
        Rounding::NearestEven,
    );
    assert_eq!(ours[..6], [4.0, 0.0, 1.0, 1.0, -4.0, 2.0]);
    // 7 = 1.75 * 2^2 with one mantissa bit is a tie to 2^3: the scale is 2, and 3.5 ties to 4.
    input[0] = 7.0;
    let even = block("mxfp4(scale=even)").scales(&input, &[32]).unwrap();
    assert_eq!(even, Scales::PowersOfTwo(vec![128]));
    // Up: 7 / 6 > 1, so 2; 6 / 6 = 1, so 1.
    let up = |x: f32| block("mxfp4(scale=up)").scales(&[x], &[1]).unwrap();
    assert_eq!(up(7.0), Scales::PowersOfTwo(vec![128]));
    assert_eq!(up(6.0), Scales::PowersOfTwo(vec![127]));
    assert_eq!(up(6.0f32.next_up()), Scales::PowersOfTwo(vec![128]));
}

/// bfp(4) by hand: the largest magnitude 5 has exponent 2, the step is 2^(2 + 2 - 4) = 1, the
/// limits are -7 and 7.
#[test]
fn block_float_by_hand() {
    let ours = quantized(
        &parse("bfp(4)"),
        &[5.0, -2.5, 0.4, 3.5],
        &[4],
        Rounding::NearestEven,
    );
    assert_eq!(ours, [5.0, -2.0, 0.0, 4.0]);
    // 7.9 rounds to 8 and is clamped.
    let ours = quantized(&parse("bfp(4)"), &[7.9, -7.9], &[2], Rounding::NearestEven);
    assert_eq!(ours, [7.0, -7.0]);
    // The maximum is of absolute values, also along a dimension: rows of exponents 2 and 0.
    let input = [-5.0, 0.4, 1.0, 0.4];
    let ours = quantized(
        &parse("bfp(4,dim=0)"),
        &input,
        &[2, 2],
        Rounding::NearestEven,
    );
    assert_eq!(ours, [-5.0, 0.0, 1.0, 0.5]);
    let ours = quantized(
        &parse("bfp(4,dim=1)"),
        &input,
        &[2, 2],
        Rounding::NearestEven,
    );
    // Columns of exponents 2 and -2: 0.4 / 2^-4 = 6.4.
    assert_eq!(ours, [-5.0, 0.375, 1.0, 0.375]);
}

#[test]
fn special_numbers_have_stated_results() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let one = |text: &str, input: &[f32]| {
        quantized(&parse(text), input, &[input.len()], Rounding::NearestEven)
    };
    for text in [
        "bfp(8)",
        "mxfp4",
        "mxint8",
        "nvfp4",
        "affine(8)",
        "affine(4,symmetric)",
    ] {
        assert_eq!(one(text, &[0.0, -0.0, 0.0]), [0.0; 3], "{text}");
        assert_eq!(one(text, &[]), [0.0; 0], "{text}");
    }
    // NaN and infinities make a microscaling block NaN, and leave its neighbours alone.
    for text in [
        "mxfp4(block=2)",
        "mxfp8(e5m2,block=2)",
        "mxint8(block=2)",
        "nvfp4(block=2)",
    ] {
        for special in [nan, inf, -inf] {
            let ours = one(text, &[1.0, special, 1.5, 0.0]);
            assert!(ours[0].is_nan() && ours[1].is_nan(), "{text}: {ours:?}");
            assert_eq!(ours[2..], [1.5, 0.0], "{text}");
        }
    }
    // Words and integers keep NaN in its place, and take an infinity as the largest f32.
    let ours = one("bfp(8,block=3)", &[1.0, nan, 0.25, 1.0, inf, -inf]);
    assert_eq!((ours[0], ours[2], ours[3]), (1.0, 0.25, 0.0));
    assert!(ours[1].is_nan());
    // (2^7 - 1) * 2^(127 + 2 - 8)
    assert_eq!(ours[4..], [127.0 * 121f32.exp2(), -127.0 * 121f32.exp2()]);
    let ours = one("affine(8,block=3)", &[1.0, nan, 0.0, inf, 0.0, -inf]);
    assert!((ours[0] - 1.0).abs() < 1e-6 && ours[1].is_nan() && ours[2] == 0.0);
    // Steps of (2 * f32::MAX) / 255, of which the lowest, -128, lies beyond f32.
    assert_eq!(ours[5], f32::NEG_INFINITY);
    assert!(ours[3] > 0.99 * f32::MAX && ours[3].is_finite() && ours[4] == 0.0);
    // Subnormals share the exponent -126: a step of 2^(-126 + 2 - 24) = 2^-148.
    let tiny = f32::from_bits(4);
    assert_eq!(one("bfp(24)", &[tiny]), [tiny]);
    assert_eq!(one("bfp(8)", &[tiny]), [0.0]);
}

/// A tiny number beside a huge one still lies above zero.
#[test]
fn directed_rounding_sees_what_scaling_loses() {
    let input = [1e38, 1e-45, -1e-45];
    for (text, step) in [
        // 2^(126 + 2 - 8), and 2^(126 - 8) * 2^-9
        ("bfp(8)", 120f32.exp2()),
        ("mxfp8(e4m3)", 109f32.exp2()),
        ("mxint8", 120f32.exp2()),
    ] {
        let up = quantized(&parse(text), &input, &[3], Rounding::Up);
        assert_eq!(up[1..], [step, 0.0], "{text}");
        let down = quantized(&parse(text), &input, &[3], Rounding::Down);
        assert_eq!(down[1..], [0.0, -step], "{text}");
    }
}

/// The share of each neighbour against the exact probability, by Pearson's chi-squared test with
/// one degree of freedom; 15.1 is exceeded by chance once in 10,000.
#[test]
fn stochastic_rounding_is_unbiased() {
    for (text, x, below, above) in [
        // Scales 2^0 for a largest magnitude of 1.5: steps of bfp(4) 2^-2, of mxint8 2^-6.
        ("bfp(4,block=2)", 0.3, 0.25, 0.5),
        ("mxint8(block=2)", 0.3, 19.0 / 64.0, 20.0 / 64.0),
        // e2m1 with emax 2: scale 2^-2, 0.3 is 1.2 between 1 and 1.5.
        ("mxfp4(block=2)", 0.3, 0.25, 0.375),
    ] {
        let count = 40_000;
        let input: Vec<f32> = (0..2 * count)
            .map(|i| if i % 2 == 0 { 1.5 } else { x })
            .collect();
        let ours = quantized(
            &parse(text),
            &input,
            &[input.len()],
            Rounding::stochastic(11, 0),
        );
        let up = ours
            .iter()
            .skip(1)
            .step_by(2)
            .filter(|&&y| y == above)
            .count() as f64;
        assert!(
            ours.iter()
                .skip(1)
                .step_by(2)
                .all(|&y| y == above || y == below),
            "{text}"
        );
        let expected = f64::from((x - below) / (above - below)) * f64::from(count);
        let rest = f64::from(count) - expected;
        let chi_squared = (up - expected).powi(2) * (1.0 / expected + 1.0 / rest);
        assert!(
            chi_squared < 15.1,
            "{text}: {up} of {count} up, expected {expected}"
        );
    }
}

#[test]
fn text_comes_back() {
    for (text, canonical) in [
        ("bfp(8, block=16, dim=0)", "bfp(8,block=16,dim=0)"),
        ("mxfp8(e4m3,block=32,scale=floor)", "mxfp8(e4m3)"),
        (
            "mxfp4(scale=up,dim=1,block=8)",
            "mxfp4(block=8,dim=1,scale=up)",
        ),
        ("nvfp4(block=16)", "nvfp4"),
        (
            "affine(4,narrow,symmetric,dim=1)",
            "affine(4,symmetric,narrow,dim=1)",
        ),
    ] {
        assert_eq!(parse(text).to_string(), canonical);
        assert_eq!(parse(canonical), parse(text));
    }
    for format in shared(3) {
        assert_eq!(parse(&format.to_string()), format);
    }
}

#[test]
fn bad_input_is_an_error() {
    for text in [
        "bfp",
        "bfp(1)",
        "bfp(25)",
        "bfp(8,block=0)",
        "bfp(8,dim=-1)",
        "bfp(8,scale=up)",
        "mxfp8",
        "mxfp8(e3m2)",
        "mxfp4(e2m1)",
        "mxfp4(scale=down)",
        "mxfp4(block=0)",
        "mxint8(block=99999999999)",
        "nvfp4(scale=up)",
        "affine(1)",
        "affine(17)",
        "affine(8,unsigned,symmetric)",
        "affine(8,block=0)",
        "affine(8,dim=300)",
    ] {
        assert!(
            matches!(text.parse::<Format>(), Err(FormatError::Parse { .. })),
            "{text}"
        );
    }
    let mut output = [0.0; 6];
    let format = parse("bfp(8,dim=2)");
    let error = format.quantize_shaped(&[0.0; 6], &[2, 3], &mut output, Rounding::Up);
    assert!(matches!(error, Err(FormatError::Shape { .. })));
    let error = format.quantize_shaped(&[0.0; 6], &[2, 2], &mut output, Rounding::Up);
    assert!(matches!(error, Err(FormatError::Shape { .. })));
    let error = parse("mxfp4").quantize(&[0.0; 5], &mut output, Rounding::Up);
    assert!(matches!(error, Err(FormatError::Length { .. })));
    let rounding = Rounding::Stochastic {
        seed: 0,
        stream: 0,
        bits: 0,
    };
    assert!(
        parse("mxfp4")
            .quantize(&[0.0; 6], &mut output, rounding)
            .is_err()
    );
    assert!(parse("mxfp4").encode(&[0.0; 6], Rounding::Up).is_err());
    let mut codes = block("mxfp4")
        .encode(&[1.0; 64], &[64], Rounding::Up)
        .unwrap();
    // 64 codes of 4 bits and two scales.
    assert_eq!(codes.bits(), 64 * 4 + 2 * 8);
    assert!(block("nvfp4").decode(&codes).is_err());
    codes.shape = vec![65];
    assert!(block("mxfp4").decode(&codes).is_err());
    codes.shape = vec![usize::MAX, 2];
    assert!(block("mxfp4").decode(&codes).is_err());
}
