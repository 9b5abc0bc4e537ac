//! Posits against the `softposit` crate on a sample of inputs and around every rounding boundary,
//! and against the properties that the Posit Standard gives them. `posit_exhaustive.rs` has all
//! inputs.

use half::bf16;
use lowbit_formats::posit::Posit;
use lowbit_formats::verify::softposit::{Reference, es1, es2, standard};
use lowbit_formats::{Rounding, ScalarFormat};
use softposit::{P16E1, PxE2};

fn posit(bits: u8, es: u8) -> Posit {
    Posit::new(bits, es).unwrap()
}

fn nearest(format: Posit, x: f32) -> f32 {
    format.round(x, Rounding::NearestEven, 0)
}

/// Every 65,521st bit pattern, the special ones, and for formats of up to 12 bits the values and
/// the boundaries between them (the posits of one bit more) with the numbers beside each.
fn inputs(format: Posit) -> Vec<f32> {
    let special = [
        0.0,
        1.0,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        1e-45,
        f32::MIN_POSITIVE,
    ];
    let mut inputs: Vec<f32> = (0..=u32::MAX).step_by(65_521).map(f32::from_bits).collect();
    inputs.extend(special.into_iter().flat_map(|x| [x, -x]));
    if format.bits() <= 12 {
        let finer = posit(format.bits() as u8 + 1, format.exponent_bits() as u8);
        let boundaries = (0..1u32 << finer.bits()).map(|code| finer.decode_f32(code));
        inputs.extend(boundaries.flat_map(|x| [x.next_down(), x, x.next_up()]));
    }
    inputs
}

#[test]
fn codes_and_values_are_the_references() {
    for Reference {
        bits,
        exponent_bits,
        encode,
        decode,
    } in standard().into_iter().chain(es1()).chain(es2())
    {
        let posit = posit(bits, exponent_bits);
        let name = posit.to_string();
        if name == "posit(3,2)" {
            continue;
        }
        for x in inputs(posit) {
            let code = posit.encode(x, Rounding::NearestEven, 0);
            assert_eq!(code, encode(x), "{name} of {x:e}");
            let (ours, theirs) = (posit.decode(code), decode(code));
            assert!(
                ours == theirs || (ours.is_nan() && theirs.is_nan()),
                "{name} {code:#x}"
            );
            let value = nearest(posit, x);
            assert!(
                value == theirs as f32 || (value.is_nan() && theirs.is_nan()),
                "{name} {x:e}"
            );
        }
    }
}

/// Two places where the reference departs from the standard.
///
/// posit(16,1): 1.5 * 2^-26 lies halfway between the codes 2 (2^-26) and 3 (2^-25): with one bit
/// more, 0 00000000000001 0 1 is 2^-26 * (1 + 1/2). The `f32` after it is above halfway, so code 3
/// is the nearest. The reference loses the last bit of an `f32`, but not of the same number as an
/// `f64`.
///
/// posit(3,2): with one bit more, 0 01 1 is 2^-4 * 2^2 = 1/4, the boundary between the codes 1
/// (2^-4) and 2 (1), so everything above it up to 1 has code 2.
#[test]
fn where_the_reference_errs() {
    let x = (1.5 * 2f32.powi(-26)).next_up();
    assert_eq!(posit(16, 1).encode(x, Rounding::NearestEven, 0), 3);
    assert_eq!(P16E1::from_f32(x).to_bits(), 2);
    assert_eq!(P16E1::from_f64(x.into()).to_bits(), 3);

    let x = 0.250_658_15;
    assert_eq!(posit(3, 2).encode(x, Rounding::NearestEven, 0), 2);
    assert_eq!(PxE2::<3>::from_f32(x).to_bits() >> 29, 1);
}

/// The tables of the Posit Standard, section 3, and hand calculations: posit8 has maxPos 2^24,
/// posit16 2^56, posit32 2^120; the smallest values are their reciprocals; and 1 + epsilon has the
/// n - 5 fraction bits that are left at 1.
#[test]
fn limits_of_the_standard() {
    for (bits, exponent) in [(8, 24), (16, 56), (32, 120)] {
        let format = posit(bits, 2);
        assert_eq!(format.largest(), 2f64.powi(exponent));
        assert_eq!(format.smallest(), 2f64.powi(-exponent));
        assert_eq!(format.epsilon(), 2f64.powi(5 - i32::from(bits)));
        assert_eq!(f64::from(format.max()), format.largest());
    }
    // posit(16,4): 2^(16 * 14) is beyond f32; the largest posit within has regime 7 and 6 bits of
    // exponent and fraction, so 2^127 * 1.75.
    let wide = posit(16, 4);
    assert_eq!(wide.largest(), 2f64.powi(224));
    assert_eq!(wide.max(), 1.75 * 2f32.powi(127));
    assert_eq!(nearest(wide, f32::MAX), 1.75 * 2f32.powi(127));
    let code = wide.encode(f32::MAX, Rounding::NearestEven, 0);
    assert_eq!(wide.decode(code), 2f64.powi(128));
}

/// posit(3,0) has the values 0, 1/2, 1, 2; by the standard everything above 0 is at least 1/2.
#[test]
fn three_bits_by_hand() {
    let format = posit(3, 0);
    assert_eq!(
        format.values().unwrap(),
        [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    );
    let modes = Rounding::DETERMINISTIC;
    for (x, expected) in [
        (0.1, [0.5, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]),
        (-0.1, [-0.5, -0.5, -0.5, 0.0, -0.5, 0.0, -0.5]),
        // Halfway between the codes 1 and 2, and between 2 and 3.
        (0.75, [1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 0.5]),
        (-0.75, [-1.0, -1.0, -0.5, -0.5, -1.0, -0.5, -0.5]),
        (1.5, [1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]),
        (-1.75, [-2.0, -2.0, -2.0, -1.0, -2.0, -1.0, -2.0]),
        (1e30, [2.0; 7]),
        (-1e-45, [-0.5, -0.5, -0.5, 0.0, -0.5, 0.0, -0.5]),
        (-0.0, [0.0; 7]),
    ] {
        for (mode, expected) in modes.into_iter().zip(expected) {
            let y = format.round(x, mode, 0);
            assert_eq!(y.to_bits(), f32::to_bits(expected), "{mode:?} {x}");
            assert_eq!(format.decode_f32(format.encode(x, mode, 0)), expected);
        }
    }
    assert!(nearest(format, f32::NEG_INFINITY).is_nan());
    assert_eq!(format.encode(f32::NAN, Rounding::Up, 0), 0b100);
}

/// All widths and exponent sizes: results are values (their code decodes to them), they stay when
/// rounded again, they ascend with the input, and a sign changes sign and mode only.
#[test]
fn results_are_values_idempotent_monotone_and_symmetric() {
    let mirrored = |mode| match mode {
        Rounding::Down => Some(Rounding::Up),
        Rounding::Up => Some(Rounding::Down),
        // Ties that go down are no mode.
        Rounding::NearestUp => None,
        other => Some(other),
    };
    let modes = Rounding::DETERMINISTIC
        .into_iter()
        .chain([Rounding::stochastic(0, 0)])
        .map(|mode| (mode, mirrored(mode)));
    for (bits, es) in (2..=32).flat_map(|bits| (0..=4).map(move |es| (bits, es))) {
        for scale in [-64, 0, 63] {
            let format = posit(bits, es).with_scale_log2(scale).unwrap();
            let mut inputs: Vec<f32> = (0..0x7f80_0000)
                .step_by(900_001)
                .map(f32::from_bits)
                .collect();
            inputs.extend([f32::MAX, f32::from_bits(1)]);
            inputs.sort_by(f32::total_cmp);
            for (mode, mirrored) in modes.clone() {
                let mut previous = 0.0;
                for &x in &inputs {
                    let y = format.round(x, mode, 0x8765_4321);
                    let name = || format!("{format} {mode:?} {x:e}");
                    assert!(y.is_finite(), "{}", name());
                    assert_eq!(
                        format.round(y, mode, 77).to_bits(),
                        y.to_bits(),
                        "{}",
                        name()
                    );
                    assert!(y >= previous, "{}", name());
                    previous = y;
                    let code = format.encode(x, mode, 0x8765_4321);
                    assert_eq!(format.decode_f32(code).to_bits(), y.to_bits(), "{}", name());
                    if let Some(mirrored) = mirrored {
                        let negative = format.round(-x, mirrored, 0x8765_4321);
                        assert_eq!(negative, -y, "{}", name());
                    }
                }
            }
        }
    }
}

/// With a scale, rounding is that of the plain posit between a division and a multiplication by the
/// power of two.
#[test]
fn scale_moves_the_values() {
    let plain = posit(8, 1);
    let scaled = plain.with_scale_log2(-5).unwrap();
    for x in inputs(plain)
        .into_iter()
        .filter(|x| x.abs() > 1e-30 && x.abs() < 1e30)
    {
        assert_eq!(nearest(scaled, x), nearest(plain, x * 32.0) / 32.0);
    }
}

/// bfloat16 in and out is exact: the result is what the same number gives as an `f32`.
#[test]
fn bfloat16_needs_no_second_rounding() {
    for format in [
        posit(8, 0),
        posit(8, 2),
        posit(16, 1),
        posit(16, 4),
        posit(32, 2),
    ] {
        for bits in 0..=u16::MAX {
            let x = bf16::from_bits(bits);
            let (narrow, wide) = (
                format.round_bf16(x, Rounding::NearestEven, 0).to_f32(),
                nearest(format, x.to_f32()),
            );
            assert!(
                narrow == wide || (narrow.is_nan() && wide.is_nan()),
                "{format} {x}"
            );
        }
    }
}

/// The chi-squared statistic of `trials` stochastic roundings of `x` against the exact probability
/// of the upper neighbour.
fn chi_squared(format: Posit, x: f32, trials: u32) -> f64 {
    let lower = format.round(x, Rounding::Down, 0);
    let upper = format.round(x, Rounding::Up, 0);
    let probability = (f64::from(x) - f64::from(lower)) / (f64::from(upper) - f64::from(lower));
    let philox = lowbit_formats::philox::Philox::new(7, x.to_bits().into());
    let mut ups = 0.0;
    for trial in 0..trials {
        let y = format.round(x, Rounding::stochastic(0, 0), philox.word(trial.into()));
        assert!(y == lower || y == upper, "{format} {x} gives {y}");
        ups += f64::from(u8::from(y == upper));
    }
    let trials = f64::from(trials);
    let (expected_up, expected_down) = (trials * probability, trials * (1.0 - probability));
    (ups - expected_up).powi(2) / expected_up
        + (trials - ups - expected_down).powi(2) / expected_down
}

/// Unbiased also where exponent bits are cut, where the codes' spacing is logarithmic, and below
/// the smallest posit. 15.1 is the 99.99 % quantile of chi-squared with one degree of freedom.
#[test]
fn stochastic_rounding_is_unbiased_in_value() {
    for (bits, es, x) in [
        (8, 0, 1.01),
        (8, 2, 1.9e6),
        (8, 2, -3.3e-6),
        (8, 4, 3.0e17),
        (6, 3, -2.0e9),
        (8, 1, 1e-4),
        (8, 0, 0.01),
        (16, 1, -0.123_456_79),
        (5, 4, 1e-18),
        (2, 2, 0.3),
    ] {
        let statistic = chi_squared(posit(bits, es), x, 20_000);
        assert!(statistic < 15.1, "posit({bits},{es}) of {x}: {statistic}");
    }
}

/// The probability itself, with every random number of a few bits: posit(4,4) has 1 and 2^8 as
/// neighbours (regime 10, of the exponent only the first bit is kept); 86 lies 85/255 = 1/3 of the
/// way, so of 2^8 random numbers floor(256 / 3) = 85 go up. Below the smallest posit of posit(4,0),
/// 1/4, 0.0625 is a quarter of the way from zero.
#[test]
fn stochastic_probability_by_hand() {
    let ups = |format: Posit, x: f32, bits: u8| {
        let rounding = Rounding::Stochastic {
            seed: 0,
            stream: 0,
            bits,
        };
        let upper = format.round(x, Rounding::Up, 0);
        (0..1u32 << bits)
            .filter(|random| format.round(x, rounding, random << (32 - bits)) == upper)
            .count()
    };
    assert_eq!(posit(4, 4).round(86.0, Rounding::Up, 0), 256.0);
    assert_eq!(posit(4, 4).round(86.0, Rounding::Down, 0), 1.0);
    assert_eq!(ups(posit(4, 4), 86.0, 8), 85);
    assert_eq!(ups(posit(4, 4), 86.0, 2), 1);
    assert_eq!(ups(posit(4, 0), 0.0625, 4), 4);
    assert_eq!(ups(posit(4, 0), 0.25, 4), 16);
    assert_eq!(ups(posit(8, 0), 1e9, 4), 16);
}

#[test]
fn bad_parameters_are_errors() {
    for (bits, es) in [(1, 0), (33, 2), (8, 5), (0, 0)] {
        assert!(Posit::new(bits, es).is_err());
    }
    assert!(posit(8, 0).with_scale_log2(-65).is_err());
    assert!(posit(17, 1).values().is_err());
}
