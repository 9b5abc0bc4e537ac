//! Rounding of f64 and of decimal texts, once, against exact arithmetic over the formats' values.

use std::cmp::Ordering;

use lowbit_formats::{Codebook, Format, Rounding, codebook::Decision};

use crate::blocks::parse;
use crate::exact::{parts, single, whole};
use crate::posit_scale::longer;

/// A generator of 64-bit words (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// By hand: what lies next to a middle or a value, which f32 cannot tell from it.
#[test]
fn numbers_are_rounded_once() {
    let near = Rounding::NearestEven;
    let round = |format: &str, x: f64, mode| parse(format).round_f64(x, mode, 0);
    let x = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    assert_eq!(round("tf32", x, near), 1.0 + 2f32.powi(-10));
    assert_eq!(round("tf32", 1.0 + 2f64.powi(-11), near), 1.0);
    let toward = Rounding::TowardZero;
    assert_eq!(
        round("fixed(20,16)", 0.999_999_999_999, toward),
        65535.0 / 65536.0
    );
    assert_eq!(round("fp32", 0.1, Rounding::Down), 0.099_999_994);
    assert_eq!(round("fp32", 0.1, Rounding::Up), 0.1);
    assert_eq!(round("bf16", 1.003_906_250_000_01, near), 1.007_812_5);
    // Finite numbers beyond f32 and below it.
    assert_eq!(round("fp32", 1e300, near), f32::INFINITY);
    assert_eq!(round("fp32", 1e300, toward), f32::MAX);
    let last = 2f64.powi(128) - 2f64.powi(103);
    assert_eq!(round("fp32", last, near), f32::INFINITY);
    assert_eq!(round("fp32", last.next_down(), near), f32::MAX);
    assert_eq!(round("fp32(saturate)", f64::INFINITY, near), f32::MAX);
    assert_eq!(round("e5m2", 1e300, Rounding::Down), 57344.0);
    assert_eq!(round("fixed(8,6,wrap)", 1e300, near), 0.0);
    assert_eq!(
        round("fixed(8,6,wrap)", 129.0 + 1e-12, Rounding::Up),
        1.0 + 1.0 / 64.0
    );
    assert_eq!(round("fixed(8,6,unbounded)", 1e300, toward), f32::MAX);
    assert_eq!(round("posit(8,2)", 1e300, near), 2f32.powi(24));
    assert_eq!(round("posit(8,2)", 1e-300, near), 2f32.powi(-24));
    assert_eq!(round("posit(8,2)", -1e-300, near), -(2f32.powi(-24)));
    assert_eq!(round("posit(8,2)", 1e-300, toward), 0.0);
    assert_eq!(round("e8m0", 1e-300, near), 2f32.powi(-127));
    assert!(round("e8m0", -1e-300, near).is_nan());
    assert_eq!(round("binary", -1e-300, near), -1.0);
    assert!(round("e4m3", f64::NAN, near).is_nan());
    // 2^-149 lies below the smallest posit(16,4) that f32 holds, 2^-144, and above 2^-160.
    assert_eq!(
        round("posit(16,4)", 2f64.powi(-149), near),
        parse("posit(16,4)").round(1e-45, near, 0)
    );
    for mode in [near, Rounding::NearestAway, Rounding::NearestUp] {
        for x in [1e-45, 3e-45, 1e-44] {
            assert!(parse("posit(16,4)").round(x, mode, 0) > 0.0);
            assert!(parse("posit(8,3,scale_log2=-64)").round(-x, mode, 0) < 0.0);
        }
    }
}

#[test]
fn texts_are_rounded_once() {
    let round = |format: &str, x: &str, mode| parse(format).round_text(x, mode, 0).unwrap();
    let near = Rounding::NearestEven;
    assert_eq!(round("bf16", "1.00390625000001", near), 1.007_812_5);
    // Beyond f64, too.
    assert_eq!(round("bf16", "1.00390625", near), 1.0);
    assert_eq!(
        round("bf16", "1.00390625000000000000000000000000001", near),
        1.007_812_5
    );
    assert_eq!(
        round("bf16", "-1.00390625000000000000000000000000001", near),
        -1.007_812_5
    );
    assert_eq!(
        round("bf16", "1.01171874999999999999999999999999999", near),
        1.007_812_5
    );
    assert_eq!(
        round("bf16", "1.0000000000000000000000000000001", Rounding::Up),
        1.007_812_5
    );
    assert_eq!(
        round("bf16", "0.9999999999999999999999999999999", Rounding::Down),
        0.996_093_75
    );
    assert_eq!(
        round("bf16", "1e-9999", Rounding::Up),
        f32::from_bits(1 << 16)
    );
    assert_eq!(round("fp32", "1e9999", Rounding::Down), f32::MAX);
    assert_eq!(round("fp32", "-inf", near), f32::NEG_INFINITY);
    assert_eq!(
        round("int8", "2.5000000000000000000000000000001", near),
        3.0
    );
    assert!(parse("fp32").round_text("1,5", near, 0).is_err());
}

/// Whether the nearest modes put `x` below, at or above the boundary between two values, from each
/// format's definition; `None` where the definition is in f32 arithmetic.
fn side(format: &Format, x: f64, lower: f64, upper: f64) -> Option<Ordering> {
    let (small, large) = (lower.abs().min(upper.abs()), lower.abs().max(upper.abs()));
    let outward = |order: Ordering| if x < 0.0 { order.reverse() } else { order };
    match format {
        Format::Posit(posit) => {
            if small == 0.0 {
                return Some(outward(Ordering::Greater));
            }
            // The posit with one more bit (Posit Standard 2022, section 4.1).
            let finer = longer(*posit)?;
            let code = posit.encode(small as f32, Rounding::NearestEven, 0);
            Some(outward(x.abs().total_cmp(&finer.decode(2 * code + 1))))
        }
        Format::Logarithmic(lns) => {
            let steps = f64::from(1u32 << lns.fraction());
            let k = (large.log2() * steps).round();
            Some(outward(x.abs().total_cmp(&((k - 0.5) / steps).exp2())))
        }
        // QPyTorch rounds the place first, and then what is left to zero or the smallest value.
        Format::QPyTorch(_) if small == 0.0 => None,
        Format::Unit(grid) => {
            let steps = f64::from(grid.steps());
            let i = (lower * steps).round();
            Some((x * steps).total_cmp(&(i + 0.5)))
        }
        Format::Codebook(table) => code_side(table, x, lower, upper),
        Format::AdditivePowerOfTwo(_) => Some((x - lower).total_cmp(&(upper - x))),
        // A float of few bits and a number near it are far from f64's last place.
        _ => Some((x - lower).total_cmp(&(upper - x))),
    }
}

fn code_side(table: &Codebook, x: f64, lower: f64, upper: f64) -> Option<Ordering> {
    match table.decision() {
        Decision::Nearest
            if table.has_sign() && table.table()[0] != 0.0 && lower * upper == 0.0 =>
        {
            Some(if x < 0.0 {
                Ordering::Less
            } else {
                Ordering::Greater
            })
        }
        Decision::Nearest => Some((x - lower).total_cmp(&(upper - x))),
        _ => None,
    }
}

/// What a format of at most 16 bits gives for `x` between two neighbouring values.
fn expected(format: &Format, x: f64, lower: f32, upper: f32, mode: Rounding) -> Option<f32> {
    let (low, high) = (f64::from(lower), f64::from(upper));
    let up = match mode {
        Rounding::Down => false,
        Rounding::Up => true,
        Rounding::TowardZero => high.abs() <= low.abs(),
        // Every significand of a power of two is 1, which is odd.
        Rounding::ToOdd if matches!(format, Format::E8M0(_)) => false,
        Rounding::ToOdd => {
            let codes = format
                .encode(&[lower, upper], Rounding::TowardZero)
                .unwrap();
            if (codes[0] ^ codes[1]).is_multiple_of(2) {
                // No code is odd, next to a zero without subnormals.
                return None;
            }
            codes[0].is_multiple_of(2)
        }
        _ => match side(format, x, low, high)? {
            Ordering::Less => false,
            Ordering::Greater => true,
            // Ties of QPyTorch's own rounding go away from zero, whatever the mode.
            Ordering::Equal
                if mode == Rounding::NearestUp && !matches!(format, Format::QPyTorch(_)) =>
            {
                true
            }
            Ordering::Equal => return None,
        },
    };
    Some(if up { upper } else { lower })
}

/// Numbers beside each value and each middle, some places of f64 away, and anywhere between.
fn numbers(values: &[f32], random: &mut SplitMix) -> Vec<f64> {
    let mut numbers = Vec::new();
    for _ in 0..400 {
        let i = random.next() as usize % (values.len() - 1);
        let (low, high) = (f64::from(values[i]), f64::from(values[i + 1]));
        if !low.is_finite() || !high.is_finite() {
            continue;
        }
        let gap = high - low;
        let part = (random.next() >> 11) as f64 / 2f64.powi(53);
        let small = 2f64.powi(-30 - (random.next() % 15) as i32);
        for at in [part, 0.5, 0.5 - small, 0.5 + small, small, 1.0 - small] {
            let x = low + at * gap;
            numbers.extend([x, x.next_up(), x.next_down()]);
        }
    }
    numbers
}

/// Every format of at most 16 bits and every mode without random numbers, on numbers within range.
#[test]
fn every_format_against_its_values() {
    let mut random = SplitMix(20_261_126);
    let (mut compared, mut wrong) = (0, Vec::new());
    for text in Format::examples() {
        let format = parse(text);
        if matches!(format, Format::Block(_)) || format.bits() > 16 || text.contains("unbounded") {
            continue;
        }
        let mut values = format.values().unwrap();
        values.retain(|v| v.is_finite());
        for x in numbers(&values, &mut random) {
            let place = values.partition_point(|&v| f64::from(v) <= x);
            if place == 0 || place == values.len() || f64::from(values[place - 1]) == x {
                continue;
            }
            let (lower, upper) = (values[place - 1], values[place]);
            for mode in Rounding::DETERMINISTIC {
                let Some(expected) = expected(&format, x, lower, upper, mode) else {
                    continue;
                };
                let ours = format.round_f64(x, mode, 0);
                if matches!(format, Format::Unit(_)) && ours != expected {
                    // The product of f32 already rounds near a boundary.
                    let steps = f64::from(1u32 << format.bits()) - 1.0;
                    let from_boundary = (x * steps * 2.0).round() - x * steps * 2.0;
                    assert!(from_boundary.abs() < 1e-3, "{text} {mode:?} {x:e}");
                    continue;
                }
                let bits = |x: f32| (x + 0.0).to_bits();
                let text_of_x = match mode {
                    // All digits: at a tie the shortest text lies beside it.
                    Rounding::NearestUp => format!("{x:.1100e}"),
                    _ => format!("{x:e}"),
                };
                let printed = format.round_text(&text_of_x, mode, 0).unwrap();
                if [ours, printed].map(bits) != [bits(expected); 2] {
                    wrong.push(format!(
                        "{text} {mode:?} {x:e}: {ours:e}, as text {printed:e}, not {expected:e}"
                    ));
                }
                compared += 1;
            }
        }
    }
    let first = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{}: {first:#?}", wrong.len());
    assert!(compared > 500_000, "{compared}");
}

/// The numerator and the denominator of `x / divisor`, in integers; magnitudes near one only.
fn ratio(x: f64, divisor: f32) -> (i128, i128) {
    let ((n, up), (d, down)) = (parts(x), parts(divisor.into()));
    // An f32 has 29 zeros at its end.
    let (d, down) = (d >> 29, down + 29);
    let shift = up - down;
    assert!(shift.abs() < 72, "{x} {divisor}");
    let (n, d) = (n << shift.max(0), d << (-shift).max(0));
    (n, d)
}

/// Eight numbers about one, the first beside a middle of two f32, where rounding to f32 first shows.
fn block(random: &mut SplitMix) -> Vec<f64> {
    let mut number = || (random.next() >> 11) as f64 / 2f64.powi(52) - 1.0;
    let mut block: Vec<f64> = (0..8).map(|_| number()).collect();
    block[0] = 1.0 + f64::from(f32::EPSILON) * (0.5 + number() * 2f64.powi(-20));
    block
}

fn quantized(format: &Format, block: &[f64], mode: Rounding) -> Vec<f32> {
    let mut output = vec![0.0; block.len()];
    format.quantize_f64(block, &mut output, mode).unwrap();
    output
}

/// Scale and elements by their definition, in integers: the scale is the nearest f32 to
/// `largest / steps`, an element the nearest integer to `x / scale`, and its value their product in
/// f32.
#[test]
fn integers_with_a_scale_in_exact_arithmetic() {
    let mut random = SplitMix(3);
    let mut other = 0;
    for steps in [127i128, 7, 2047] {
        let bits = steps.ilog2() + 2;
        let format = parse(&format!("affine({bits},symmetric,narrow)"));
        for _ in 0..2000 {
            let block = block(&mut random);
            let (n, exponent) = parts(block[0]);
            let scale = single(n, steps << -exponent);
            let values = block.iter().map(|&x| {
                let (n, d) = ratio(x, scale);
                whole(n, d).clamp(-steps, steps) as f32 * scale
            });
            let expected: Vec<f32> = values.collect();
            let near = Rounding::NearestEven;
            let ours = quantized(&format, &block, near);
            assert_eq!(ours, expected, "{format} {block:?}");
            let singles: Vec<f32> = block.iter().map(|&x| x as f32).collect();
            other += u32::from(format.quantize_to_vec(&singles, near).unwrap() != ours);
        }
    }
    assert!(other > 100, "{other}");
}

/// By hand: `fl32((1 + 1e-12) / 127) = fl32(1 / 127)`, so that one becomes one; and fl32(1 / 2688),
/// fl32(1 / 448) alike. (The nearest f32 with an odd significand is 1.00000012.)
#[test]
fn scales_of_numbers_beside_f32() {
    for text in [
        "affine(8,symmetric,narrow)",
        "affine(8)",
        "nvfp4",
        "scaled(e4m3)",
        "scaled(nf4,reciprocal)",
        "scaled(e4m3,scale=bf16)",
        "scaled(bitsandbytes-nf4,reciprocal,double)",
    ] {
        let format = parse(text);
        let singles = [1.0, 0.3, -0.7f32];
        let expected = format
            .quantize_to_vec(&singles, Rounding::NearestEven)
            .unwrap();
        let numbers = [1.0 + 1e-12, 0.3, -0.7];
        let ours = quantized(&format, &numbers, Rounding::NearestEven);
        assert_eq!(ours, expected, "{text}");
    }
    let format = parse("affine(8,symmetric,narrow)");
    let ours = quantized(&format, &[1.0 + 1e-12, 0.3, -0.7], Rounding::NearestEven);
    // 127/127, 38/127 and -89/127.
    assert_eq!(ours, [1.0, 0.299_212_6, -0.700_787_4]);
    let near = Rounding::NearestEven;
    assert_eq!(parse("affine(8)").round_f64(0.500_000_000_01, near, 0), 0.5);
    let long = "1.0000000000000000000000000001";
    for text in ["affine(8,symmetric,narrow)", "nvfp4", "scaled(nf4)"] {
        assert_eq!(parse(text).round_text(long, near, 0), Ok(1.0), "{text}");
    }
    // 2.5 steps and a little more are three, as exactly as f64 tells: the scale is 1 / 2.
    let steps = [63.5, 1.25 + 1e-15, 1.25];
    let format = parse("affine(8,symmetric,narrow)");
    assert_eq!(quantized(&format, &steps, near), [63.5, 1.5, 1.0]);
    // Beyond f32 a number counts as the largest one.
    let largest = format.quantize_to_vec(&[f32::MAX, 1.0], near).unwrap();
    assert_eq!(quantized(&format, &[1e300, 1.0], near), largest);
}

/// What the definition of a format with a float scale gives, in f64: where it says f32, an f64 is
/// rounded to that, which is rounding once unless a quotient lies within `2^-53` of a middle; and
/// elements are rounded as their own format rounds an f64.
fn by_definition(text: &str, block: &[f64], mode: Rounding) -> Vec<f32> {
    let low = block.iter().fold(0.0, |m: f64, x| m.min(*x));
    let high = block.iter().fold(0.0, |m: f64, x| m.max(*x));
    let m = high.max(-low);
    let scaled = |element: &str, scale: f32, divide: &dyn Fn(f64) -> f64| {
        let element = parse(element);
        let value = |&x: &f64| element.round_f64(divide(x), mode, 0) * scale;
        block.iter().map(value).collect()
    };
    match text {
        "affine(8)" => {
            let scale = (high - low) as f32 / 255.0;
            let s = f64::from(scale);
            let zero = (-128.0 - (low / s).round_ties_even()).clamp(-128.0, 127.0);
            let integers = parse("int16");
            let value = |&x: &f64| {
                let q = f64::from(integers.round_f64(x / s, mode, 0)) + zero;
                (q.clamp(-128.0, 127.0) - zero) as f32 * scale
            };
            block.iter().map(value).collect()
        }
        "nvfp4" => {
            let tensor = (m / 2688.0) as f32;
            let quotient = (m / 6.0) as f32 / tensor;
            let float8 = parse("e4m3(saturate)").round(quotient, Rounding::NearestEven, 0);
            let scale = tensor * float8;
            scaled("e2m1", scale, &|x| x / f64::from(scale))
        }
        "scaled(e4m3)" => {
            let scale = (m / 448.0) as f32;
            scaled("e4m3(saturate)", scale, &|x| x / f64::from(scale))
        }
        "scaled(e5m2,scale=bf16)" => {
            let scale = parse("bf16").round((m / 57344.0) as f32, Rounding::NearestEven, 0);
            scaled("e5m2(saturate)", scale, &|x| x / f64::from(scale))
        }
        "scaled(nf4)" => scaled("nf4", m as f32, &|x| x / f64::from(m as f32)),
        "scaled(e4m3,reciprocal)" => {
            let factor = (448.0 / m) as f32;
            let scale = (m / 448.0) as f32;
            scaled("e4m3(saturate)", scale, &|x| x * f64::from(factor))
        }
        // OCP Microscaling Formats 1.0, section 6.3: the exponent of 6 is 2, that of 448 is 8.
        "mxfp4" | "mxfp8(e4m3)" => {
            let (element, exponent) = match text {
                "mxfp4" => ("e2m1", 2.0),
                _ => ("e4m3(saturate)", 8.0),
            };
            let scale = (m.log2().floor() - exponent).exp2();
            scaled(element, scale as f32, &|x| x / scale)
        }
        "bfp(8)" => {
            let scale = (m.log2().floor() - 6.0).exp2();
            scaled("fixed(8,0,symmetric)", scale as f32, &|x| x / scale)
        }
        _ => unreachable!("{text}"),
    }
}

#[test]
fn block_formats_against_their_definitions() {
    let mut random = SplitMix(11);
    for text in [
        "affine(8)",
        "nvfp4",
        "scaled(e4m3)",
        "scaled(e5m2,scale=bf16)",
        "scaled(nf4)",
        "scaled(e4m3,reciprocal)",
        "mxfp4",
        "mxfp8(e4m3)",
        "bfp(8)",
    ] {
        let format = parse(text);
        for _ in 0..500 {
            let block = block(&mut random);
            for mode in Rounding::DETERMINISTIC {
                let expected = by_definition(text, &block, mode);
                let ours = quantized(&format, &block, mode);
                assert_eq!(ours, expected, "{text} {mode:?} {block:?}");
                // The same codes: decoding them gives the same numbers.
                let wide: Vec<_> = block.iter().map(|&x| x.into()).collect();
                let inspected = format.inspect_wide(&wide, mode).unwrap();
                assert!(inspected.iter().map(|r| r.value).eq(ours), "{text}");
            }
        }
    }
}

/// Formats of more than 16 bits, on neighbours that follow from their steps.
#[test]
fn wide_formats_against_their_steps() {
    let mut random = SplitMix(5);
    let mut compared = 0;
    // The fraction's bits of a float, or the power of two that is the step.
    for (text, fraction, step) in [
        ("fp32", 23, None),
        ("tf32", 10, None),
        ("float(8,20)", 20, None),
        ("float(8,12,flush)", 12, None),
        ("int24", 0, Some(0)),
        ("fixed(24,16)", 0, Some(-16)),
    ] {
        let format = parse(text);
        for i in 0..4000 {
            let x = (random.next() >> 11) as f64 / 2f64.powi(46) - 64.0;
            let exponent = step.unwrap_or((x.abs().log2().floor() as i32) - fraction);
            let step = 2f64.powi(exponent);
            let low = (x / step).floor() * step;
            // Anywhere between, and beside the middle and the ends.
            let parts = [(x - low) / step, 0.5, 0.5 - 1e-7, 0.5 + 1e-7, 1e-7];
            let x = low + parts[i % 5] * step;
            for mode in Rounding::DETERMINISTIC {
                let (lower, upper) = (low as f32, (low + step) as f32);
                let Some(expected) = expected(&format, x, lower, upper, mode) else {
                    continue;
                };
                assert_eq!(
                    format.round_f64(x, mode, 0),
                    expected,
                    "{text} {mode} {x:e}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
}

/// Out of range and anywhere else: where the f32 on both sides of a number become the same, so does
/// the number, in every mode.
#[test]
fn between_two_f32_that_become_one_number() {
    let mut random = SplitMix(17);
    let mut compared = 0;
    for text in Format::examples() {
        let format = parse(text);
        // A remainder is another at each number, and a scale another for each.
        if text.contains("wrap") || matches!(format, Format::Block(_)) {
            continue;
        }
        let largest = f64::from(format.facts().max);
        for i in 0..400 {
            let near = [largest, 1.5 * largest, 3e38, 1e5][i % 4];
            let part = 1.0 + (random.next() >> 11) as f64 / 2f64.powi(54);
            let x = near * part * if i % 8 < 4 { 1.0 } else { -1.0 };
            let single = x as f32;
            if f64::from(single) == x || !single.is_finite() {
                continue;
            }
            let other = match f64::from(single) < x {
                true => single.next_up(),
                false => single.next_down(),
            };
            for mode in Rounding::DETERMINISTIC {
                let [a, b] = [single, other].map(|x| format.round(x, mode, 0));
                if a.to_bits() == b.to_bits() {
                    let ours = format.round_f64(x, mode, 0);
                    assert!(
                        ours.to_bits() == a.to_bits() || (ours.is_nan() && a.is_nan()),
                        "{text} {mode} {x:e}: {ours:e}, not {a:e}"
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 50_000, "{compared}");
}

/// A slice is its numbers, of every format and mode; an f64 that is an f32 gives what the f32 gives.
#[test]
fn slices_are_their_numbers() {
    let mut random = SplitMix(7);
    let mut compared = 0;
    for text in Format::examples() {
        let format = parse(text);
        let stochastic = Rounding::Stochastic {
            seed: 3,
            stream: 1,
            bits: 12,
        };
        let doubles: Vec<f64> = (0..500)
            .map(|i| match i % 4 {
                0 => f64::from_bits(random.next()),
                1 => f64::from(f32::from_bits(random.next() as u32)),
                _ => ((random.next() >> 11) as f64 / 2f64.powi(50) - 4.0) * 2f64.powi(i % 9),
            })
            .collect();
        for mode in Rounding::DETERMINISTIC.into_iter().chain([stochastic]) {
            let mut ours = vec![0.0; doubles.len()];
            let singles: Vec<f32> = doubles.iter().map(|&x| x as f32).collect();
            if matches!(format, Format::Block(_)) {
                assert!(format.quantize_f64(&doubles, &mut ours[1..], mode).is_err());
                // All numbers of a block have to be f32; and NaN spoils one, so without NaN, and with.
                for finite in [true, false] {
                    let kept = |x: &&f32| !finite || x.is_finite();
                    let singles: Vec<f32> = singles.iter().filter(kept).copied().collect();
                    let doubles: Vec<f64> = singles.iter().map(|&x| x.into()).collect();
                    let expected = format.quantize_to_vec(&singles, mode).unwrap();
                    for (a, b) in quantized(&format, &doubles, mode).into_iter().zip(expected) {
                        let same = a == b || (a.is_nan() && b.is_nan());
                        assert!(same, "{text} {mode:?}: {a:e} {b:e}");
                        compared += 1;
                    }
                }
                continue;
            }
            format.quantize_f64(&doubles, &mut ours, mode).unwrap();
            let rounded = format.quantize_to_vec(&singles, mode).unwrap();
            for (i, (&x, &y)) in doubles.iter().zip(&ours).enumerate() {
                let same =
                    |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                if mode != stochastic {
                    assert!(
                        same(y, format.round_f64(x, mode, 0)),
                        "{text} {mode:?} {x:e}: {y:e}"
                    );
                }
                if f64::from(singles[i]) == x || x.is_nan() {
                    assert!(same(y, rounded[i]), "{text} {mode:?} {x:e}: {y:e}");
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
}

/// The share of numbers that move is `floor(fraction 2^bits) / 2^bits`, by definition; the fraction
/// is one that f32 does not hold.
#[test]
fn stochastic_rounding_counts_the_fraction() {
    let rounding = Rounding::Stochastic {
        seed: 0,
        stream: 0,
        bits: 8,
    };
    for (text, x, low, moved) in [
        // 77.999/256 of the step 2^-7 above 1, and the same below -1.
        ("bf16", 1.0 + 77.999 / 32768.0, 1.0, 77),
        ("bf16", -1.0 - 77.999 / 32768.0, -1.0, 77),
        ("int8", 3.0 + 78.0 / 256.0, 3.0, 78),
        ("int8", 3.0 + (78.0 - 1e-10) / 256.0, 3.0, 77),
        ("fp32", 1.0 + 2f64.powi(-25), 1.0, 64),
        ("fp32", 2f64.powi(128) - 2f64.powi(102), f32::MAX, 192),
    ] {
        let format = parse(text);
        let count = (0..256u32)
            .filter(|r| format.round_f64(x, rounding, r << 24) != low)
            .count();
        assert_eq!(count, moved, "{text} {x}");
    }
}
