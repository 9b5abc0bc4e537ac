//! Floats and tables with a float scale, against bitsandbytes, torchao and hand calculations;
//! `tests/reference/generate.py scales` writes the tables.

use lowbit_formats::pack::unpack;
use lowbit_formats::{
    BlockCodes, BlockFormat, Codebook, Format, FormatError, Rounding, ScalarFormat, Scaled, Scales,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::blocks::{self, block, parse};
use crate::words::{self, bytes, floats};

fn scaled(text: &str) -> Scaled {
    match block(text) {
        BlockFormat::Scaled(format) => format,
        other => panic!("{other}"),
    }
}

/// Lines that are not comments, as a first word and the rest.
fn lines(table: &str) -> impl Iterator<Item = (&str, &str)> {
    words::lines(table).map(|line| line.split_once(' ').unwrap())
}

/// Scales, and codes as hexadecimal digits.
fn scales_and_codes(words: &str) -> (Vec<f32>, Vec<u8>) {
    let (scales, codes) = words.rsplit_once(' ').unwrap();
    (floats(scales), bytes(codes))
}

fn quantized(text: &str, input: &[f32], shape: &[usize]) -> Vec<f32> {
    blocks::quantized(&parse(text), input, shape, Rounding::NearestEven)
}

fn encoded(text: &str, input: &[f32], shape: &[usize]) -> BlockCodes {
    block(text)
        .encode(input, shape, Rounding::NearestEven)
        .unwrap()
}

fn values_of(scales: &Scales) -> &[f32] {
    match scales {
        Scales::Float { values, .. } => values,
        other => panic!("{other:?}"),
    }
}

fn assert_same(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(
            a.to_bits(),
            b.to_bits(),
            "{what}: element {i}, {a:e} and {b:e}"
        );
    }
}

/// The values of bitsandbytes' codes of FP4, as its documentation of the kernel lists them.
const FP4: [f32; 8] = [
    0.0,
    0.005_208_333_5,
    2.0 / 3.0,
    1.0,
    1.0 / 3.0,
    0.5,
    1.0 / 6.0,
    0.25,
];

fn four_bit_value(kind: &str, code: u8) -> f32 {
    match (kind, code) {
        ("nf4", code) => Codebook::named("nf4").unwrap().decode(code.into()),
        (_, code) if code >= 8 => -FP4[usize::from(code - 8)],
        (_, code) => FP4[usize::from(code)],
    }
}

/// Blocks of 64 and 128 of any size, and of 64 with numbers beside every threshold.
#[test]
fn nf4_and_fp4_match_bitsandbytes() {
    let (mut input, mut ours, mut compared) = (Vec::new(), Vec::new(), 0);
    for (what, words) in lines(include_str!("../reference/bitsandbytes.txt")) {
        match what {
            "input" => input = floats(words),
            "nf4" | "fp4" => {
                let (size, words) = words.split_once(' ').unwrap();
                let (absmax, packed) = scales_and_codes(words);
                let text = format!("scaled(bitsandbytes-{what},block={size},reciprocal)");
                let shape = [input.len()];
                let codes = encoded(&text, &input, &shape);
                assert_same(values_of(&codes.scales), &absmax, &text);
                let size: usize = size.parse().unwrap();
                let theirs: Vec<f32> = packed
                    .iter()
                    .flat_map(|byte| [byte >> 4, byte & 15])
                    .zip((0..).map(|i: usize| absmax[i / size]))
                    .map(|(code, absmax)| four_bit_value(what, code) * absmax)
                    .collect();
                ours = quantized(&text, &input, &shape);
                // As numbers: bitsandbytes has a minus zero.
                assert_eq!(ours, theirs, "{text}");
                assert_eq!(block(&text).decode(&codes).unwrap(), ours, "{text}");
                compared += ours.len();
            }
            "output" if input.len() == ours.len() => assert_eq!(ours, floats(words)),
            "dynamic" | "map" => break,
            _ => {}
        }
    }
    assert!(compared > 2_000, "{compared}");
}

/// The 8-bit dynamic map, and codes in blocks of 256.
#[test]
fn the_dynamic_map_matches_bitsandbytes() {
    let (mut input, mut compared) = (Vec::new(), 0);
    let map = Codebook::named("bitsandbytes-dynamic").unwrap();
    for (what, words) in lines(include_str!("../reference/bitsandbytes.txt")) {
        match what {
            "map" => assert_same(map.values(), &floats(words), "map"),
            "input" => input = floats(words),
            "dynamic" => {
                let (size, words) = words.split_once(' ').unwrap();
                let (absmax, theirs) = scales_and_codes(words);
                let text = format!("scaled(bitsandbytes-dynamic,block={size},reciprocal)");
                let codes = encoded(&text, &input, &[input.len()]);
                assert_same(values_of(&codes.scales), &absmax, &text);
                assert_eq!(codes.elements, theirs, "{text}");
                compared += 1;
            }
            _ => {}
        }
    }
    assert_eq!(compared, 2);
    assert_eq!(map.bits(), 8);
}

/// QLoRA's double quantization: the mean, the groups' scales, the codes, and the numbers.
#[test]
fn scales_of_scales_match_bitsandbytes() {
    let text = "scaled(bitsandbytes-nf4,block=32,reciprocal,double)";
    let (mut input, mut numbers) = (Vec::new(), Vec::new());
    let mut compared = 0;
    for (what, words) in lines(include_str!("../reference/bitsandbytes.txt")) {
        match what {
            "sparse" => {
                for four in floats(words).chunks(4) {
                    input.extend_from_slice(four);
                    input.extend([0.0; 28]);
                }
            }
            "double" => {
                let (floats, theirs) = scales_and_codes(words);
                let codes = encoded(text, &input, &[input.len()]);
                let Scales::Double {
                    codes: ours,
                    groups,
                    mean,
                } = &codes.scales
                else {
                    panic!("{codes:?}");
                };
                assert_same(&[*mean], &floats[..1], "mean");
                assert_same(groups, &floats[1..], "groups");
                assert_eq!(*ours, theirs);
                // 320 blocks: a code of 8 bits each, two groups, the mean, and codes of 4 bits.
                assert_eq!(codes.bits(), 8 * 320 + 32 * 3 + 4 * input.len());
                numbers = quantized(text, &input, &[input.len()]);
                assert_eq!(block(text).decode(&codes).unwrap(), numbers);
                compared += 1;
            }
            "output" if !numbers.is_empty() => {
                let firsts = numbers.chunks(32).flat_map(|block| &block[..4]);
                let firsts: Vec<f32> = firsts.copied().collect();
                assert_same(&firsts, &floats(words), text);
                compared += 1;
            }
            _ => {}
        }
    }
    assert_eq!(compared, 2);
    // A tensor of several dimensions has the same blocks, and rows in parts are not taken.
    let rows = quantized(text, &input, &[input.len() / 64, 64]);
    assert_eq!(rows, numbers);
}

/// torchao's float8 with a scale per tensor, channel, run and tile; DeepSeek's runs of 128.
#[test]
fn float8_matches_torchao_and_deepseek() {
    let (mut input, mut shape, mut ours) = (Vec::new(), [0, 0], Vec::new());
    let (mut compared, mut of_codes) = (0, 0);
    for (what, words) in lines(include_str!("../reference/scaled.txt")) {
        match what {
            "input" => {
                let mut words = words.splitn(3, ' ');
                let mut extent = || words.next().unwrap().parse().unwrap();
                shape = [extent(), extent()];
                input = floats(words.next().unwrap());
            }
            "output" => assert_same(&ours, &floats(words), "numbers"),
            "codes" => {
                let (text, theirs) = words.split_once(' ').unwrap();
                let codes = encoded(text, &input, &shape);
                assert_eq!(codes.elements, bytes(theirs), "{text}");
                of_codes += 1;
            }
            "hashed" => large_tiles(words),
            text => {
                let (scales, theirs) = scales_and_codes(words);
                let codes = encoded(text, &input, &shape);
                assert_same(values_of(&codes.scales), &scales, text);
                assert_eq!(codes.elements, theirs, "{text}");
                ours = quantized(text, &input, &shape);
                assert_same(&block(text).decode(&codes).unwrap(), &ours, text);
                compared += 1;
            }
        }
    }
    assert_eq!((compared, of_codes), (2 * 6 + 1, 2));
}

/// Tiles of 128 by 128 of a matrix of 256 by 384, whose codes are compared by their FNV-1a hash.
fn large_tiles(words: &str) {
    let (text, words) = words.split_once(' ').unwrap();
    let (scales, theirs) = words.rsplit_once(' ').unwrap();
    let number = |i: u32| {
        let word = i.wrapping_mul(2_654_435_761);
        ((word >> 8) as i32 - (1 << 23)) as f32 * (-20f32).exp2()
    };
    let input: Vec<f32> = (0..256 * 384).map(number).collect();
    let codes = encoded(text, &input, &[256, 384]);
    assert_same(values_of(&codes.scales), &floats(scales), text);
    let hash = codes
        .elements
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    assert_eq!(format!("{hash:x}"), theirs);
    let ours = quantized(text, &input, &[256, 384]);
    assert_same(&block(text).decode(&codes).unwrap(), &ours, text);
}

/// By hand: the largest magnitude 3.5 of e4m3, whose largest value is 448, gives 2^-7, at which
/// 0.3 is 38.4, between 36 and 40 with the middle 38.
#[test]
fn scales_by_hand() {
    let input = [3.5, -0.3, 0.0, -0.0];
    let ours = quantized("scaled(e4m3)", &input, &[4]);
    assert_same(&ours, &[3.5, -40.0 / 128.0, 0.0, -0.0], "e4m3");
    // Columns of magnitudes 3.5 and 0.3: each keeps its largest.
    let ours = quantized("scaled(e2m1,dim=1)", &[3.0, 0.75, -6.0, 0.5], &[2, 2]);
    // 0.5 is 4 at the scale 1/8.
    assert_eq!(ours, [3.0, 0.75, -6.0, 0.5]);
    // 1/3 in bfloat16 is 0x3EAB, 171/512: at it, 1 is 2.99, which is 3 in e2m1, of which 6 is the
    // largest for the magnitude 2.
    let ours = quantized("scaled(e2m1,scale=bf16)", &[2.0, 1.0], &[2]);
    assert_eq!(ours, [6.0 * 171.0 / 512.0, 3.0 * 171.0 / 512.0]);
    // The largest scale of binary16: 65504 * 448 is the largest number.
    let ours = quantized("scaled(e4m3,scale=fp16)", &[1e9], &[1]);
    assert_eq!(ours, [65504.0 * 448.0]);
    // eps: the scale of a magnitude of 448 for one of 1, so that 0.3 is between 0.28125 and 0.3125.
    let ours = quantized("scaled(e4m3,eps=448)", &[1.0, 0.3], &[2]);
    assert_eq!(ours, [1.0, 0.3125]);
}

/// Tiles of two by two of a matrix of three by three, by hand: each has a scale for its largest.
#[test]
fn tiles_by_hand() {
    let input = [1.0, 2.0, 5.0, -4.0, 3.0, 7.0, 8.0, 0.5, 0.125];
    let scales = |text| scaled(text).block_scales(&input, &[3, 3]).unwrap();
    let fp4 = "scaled(fp4,block=2x2)";
    assert_eq!(scales(fp4), [4.0, 7.0, 8.0, 0.125]);
    // 1, 2 and 3 of 4 are 3/12, 6/12 and 9/12, a tie of 8/12 and 12/12 between codes 6 and 7 that
    // goes to the even one; 5 of 7 is next to 8/12.
    let ours = quantized(fp4, &input, &[3, 3]);
    let thirds = 4.0 * (8.0f32 / 12.0);
    assert_eq!(
        ours,
        [
            1.0,
            2.0,
            7.0 * (8.0f32 / 12.0),
            -4.0,
            thirds,
            7.0,
            8.0,
            0.041_666_668,
            0.125
        ]
    );
    // A tensor of one dimension is a row, and of more a list of matrices.
    assert_eq!(
        quantized("scaled(e4m3,block=5x3)", &input, &[9]),
        quantized("scaled(e4m3,block=3)", &input, &[9])
    );
    let twice: Vec<f32> = input.iter().chain(&input).copied().collect();
    let ours = scaled(fp4).block_scales(&twice, &[2, 3, 3]).unwrap();
    assert_eq!(ours, [4.0, 7.0, 8.0, 0.125, 4.0, 7.0, 8.0, 0.125]);
}

#[test]
fn special_numbers_have_stated_results() {
    for text in [
        "scaled(e4m3,block=2)",
        "scaled(e5m2,block=2,scale=fp16)",
        "scaled(nf4,block=2)",
        "scaled(fp4,block=2,reciprocal)",
        "scaled(bitsandbytes-nf4,block=2,reciprocal,double)",
    ] {
        assert_eq!(quantized(text, &[0.0, -0.0], &[2]), [0.0, 0.0], "{text}");
        assert_eq!(quantized(text, &[], &[0]), [0.0; 0], "{text}");
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let input = [1.0, special, 1.0, 0.0];
            let ours = quantized(text, &input, &[4]);
            assert!(ours[0].is_nan() && ours[1].is_nan(), "{text}: {ours:?}");
            if text.contains("double") {
                assert!(ours[2].is_nan() && ours[3].is_nan(), "{text}: {ours:?}");
            } else {
                // The scale 1/57344 is a subnormal number of binary16, with nine bits.
                let error = (ours[2] - 1.0).abs();
                assert!(error < 0.002 && ours[3] == 0.0, "{text}: {ours:?}");
            }
            let decoded = block(text).decode(&encoded(text, &input, &[4])).unwrap();
            assert!(decoded[0].is_nan() && decoded[1].is_nan(), "{text}");
        }
        // A scale below the smallest number is zero, and so is its block; the largest number stays.
        let tiny = f32::from_bits(1);
        let ours = quantized(text, &[tiny, -tiny], &[2]);
        assert!(ours.iter().all(|x| x.abs() <= tiny), "{text}: {ours:?}");
        let ours = quantized(text, &[f32::MAX, 1.0], &[2]);
        assert!(ours[0].is_finite(), "{text}: {ours:?}");
        // A scale of binary16 saturates, and leaves room for a small number.
        assert!(ours[1] == 0.0 || text.contains("fp16"), "{text}: {ours:?}");
    }
}

#[test]
fn texts_come_back() {
    for (text, canonical) in [
        (
            "scaled( e4m3 , block = 128x128 )",
            "scaled(e4m3,block=128x128)",
        ),
        ("scaled(e4m3(saturate))", "scaled(e4m3)"),
        ("scaled(float(4,3,fn),dim=0)", "scaled(e4m3,dim=0)"),
        (
            "scaled(nf4,double,reciprocal,block=64)",
            "scaled(nf4,block=64,reciprocal,double)",
        ),
        ("scaled(e5m2,eps=0,scale=fp32)", "scaled(e5m2)"),
        ("scaled(e5m2,eps=1e-4)", "scaled(e5m2,eps=0.0001)"),
        ("affine(8,block=2x3)", "affine(8,block=2x3)"),
        ("bitsandbytes-fp4", "bitsandbytes-fp4"),
    ] {
        assert_eq!(parse(text).to_string(), canonical);
        assert_eq!(parse(canonical), parse(text));
    }
}

#[test]
fn bad_texts_are_errors_of_one_line() {
    for (text, reason) in [
        (
            "scaled(int8)",
            "`int8` is no element of scaled, expected a float such as e4m3, or a table: nf4, fp4, \
             qpytorch-weight, qpytorch-activation, binary, ternary, bitsandbytes-nf4, \
             bitsandbytes-fp4, bitsandbytes-dynamic",
        ),
        (
            "scaled(fp32)",
            "scaled: element is fp32, expected a float of at most 7 exponent bits",
        ),
        (
            "scaled(e4m3,rows=3)",
            "unknown option `rows`, expected one of: block=.., dim=.., scale=.., eps=.., \
             reciprocal, double",
        ),
        (
            "scaled(e4m3,scale=int8)",
            "unknown option `int8`, expected one of: fp32, bf16, fp16",
        ),
        (
            "scaled(e4m3,block=128x128,dim=0)",
            "`dim` and a block of rows and columns contradict each other",
        ),
        (
            "scaled(e4m3,block=0x128)",
            "scaled: block is 0x128, expected 1x1 or more",
        ),
        (
            "scaled(e4m3,block=0)",
            "scaled: block is 0, expected 1 or more",
        ),
        (
            "scaled(e4m3,block=2x3x4)",
            "block `2x3x4` is neither a size nor rows x columns, such as 128x128",
        ),
        (
            "scaled(e4m3,eps=-1)",
            "scaled: eps is -1, expected 0 or a positive number",
        ),
        (
            "scaled(nf4,double,scale=bf16)",
            "scaled: scale is bf16, expected fp32 with `double`",
        ),
        (
            "scaled(e4m3,reciprocal,scale=fp16)",
            "scaled: scale is fp16, expected fp32 with `reciprocal`",
        ),
        ("scaled(nf4,double=256)", "option `double` takes no value"),
        ("scaled", "`scaled` takes 1 numbers, 0 given"),
        (
            "mxfp4(block=2x2)",
            "a block of mxfp4 is a run of elements, not a tile",
        ),
        (
            "nvfp4(block=2x2)",
            "a block of nvfp4 is a run of elements, not a tile",
        ),
    ] {
        let Err(FormatError::Parse { reason: ours, .. }) = text.parse::<Format>() else {
            panic!("{text} parses");
        };
        assert_eq!(ours, reason, "{text}");
    }
}

#[test]
fn codes_that_do_not_fit_are_errors() {
    let text = "scaled(e4m3,block=2x2)";
    let codes = encoded(text, &[1.0; 9], &[3, 3]);
    let mut short = codes.clone();
    short.elements.pop();
    assert!(block(text).decode(&short).is_err());
    let mut long = codes.clone();
    long.shape = vec![5, 3];
    assert!(block(text).decode(&long).is_err());
    assert!(block("nvfp4").decode(&codes).is_err());
    // The scales of another granularity.
    assert!(block("scaled(e4m3)").decode(&codes).is_err());
    assert!(unpack(&codes.elements, 8, 10).is_err());
}

/// Any format of this kind.
fn texts() -> impl Strategy<Value = String> {
    let tables: Vec<&str> = Codebook::names().collect();
    let elements = prop_oneof![
        proptest::sample::select(tables).prop_map(str::to_string),
        proptest::sample::select(vec!["e4m3", "e5m2", "e2m1", "e3m2", "e4m3fnuz", "fp16"])
            .prop_map(str::to_string),
        (2u8..=5, 0u8..=6).prop_map(|(e, m)| format!("float({e},{m})")),
    ];
    let shared = prop_oneof![
        Just(String::new()),
        (0u8..2).prop_map(|dim| format!(",dim={dim}")),
        (1u8..40).prop_map(|size| format!(",block={size}")),
        (1u8..40, 0u8..2).prop_map(|(size, dim)| format!(",block={size},dim={dim}")),
        (1u8..9, 1u8..20).prop_map(|(rows, columns)| format!(",block={rows}x{columns}")),
    ];
    let options = proptest::sample::select(vec![
        "",
        ",reciprocal",
        ",double",
        ",reciprocal,double",
        ",scale=bf16",
        ",scale=fp16",
        ",eps=0.01",
    ]);
    (elements, shared, options)
        .prop_map(|(element, shared, options)| format!("scaled({element}{shared}{options})"))
}

proptest! {
    #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::with_cases(1_000)
        })]

    /// The text comes back; the kernels give what the codes stand for, in every mode and in place;
    /// no number becomes larger than its block's largest.
    #[test]
    fn codes_are_the_numbers(
        text in texts(),
        rows in 1usize..7,
        columns in 1usize..70,
        seed in any::<u32>(),
        rounding in proptest::sample::select(
            Rounding::DETERMINISTIC.into_iter().chain([Rounding::stochastic(3, 4)])
                .collect::<Vec<_>>()
        ),
    ) {
        let format = parse(&text);
        prop_assert_eq!(&parse(&format.to_string()), &format);
        let number = |i: usize| {
            let word = (i as u32 ^ seed).wrapping_mul(2_654_435_761);
            let magnitude = f32::from((word >> 20) as i16 - 2048) / 512.0;
            magnitude * (((word >> 8) % 13) as f32 - 6.0).exp2()
        };
        let input: Vec<f32> = (0..rows * columns).map(number).collect();
        let shape = [rows, columns];
        let mut ours = vec![0.0; input.len()];
        format.quantize_shaped(&input, &shape, &mut ours, rounding).unwrap();
        let codes = block(&text).encode(&input, &shape, rounding).unwrap();
        prop_assert_eq!(&block(&text).decode(&codes).unwrap(), &ours, "{}", text);
        let mut data = input.clone();
        format.quantize_shaped_in_place(&mut data, &shape, rounding).unwrap();
        prop_assert_eq!(&data, &ours);
        if text.contains("double") {
            return Ok(());
        }
        // Both lie within their block's largest magnitude, but for the rounding of a scale to nine
        // bits.
        let largest = input.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (x, y) in input.iter().zip(&ours) {
            prop_assert!((x - y).abs() <= largest * 2.01, "{}: {} and {}", text, x, y);
        }
    }
}
