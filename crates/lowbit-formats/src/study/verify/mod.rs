//! Sweeps over every f32 against implementations that others wrote.
//!
//! Needs the cargo feature `verify`. A sweep runs the slice kernels, not the scalar function, over
//! all 2^32 bit patterns, rounding to nearest-even, and compares bit for bit (any NaN with any
//! NaN).

#[doc(hidden)]
pub mod softposit;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::scalar::ScalarFormat;
use crate::scalar::fixed::{FixedPoint, Overflow};
use crate::scalar::float::Float;
use crate::scalar::posit::Posit;

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// The format's text.
    pub format: String,
    /// What it was compared with.
    pub reference: String,
    /// How many inputs were compared.
    pub inputs: u64,
    /// For how many of them the results differ.
    pub mismatches: u64,
    /// The mismatches with the smallest bit patterns, at most [`CASES`].
    pub cases: Vec<Mismatch>,
}

/// An input for which the results differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mismatch {
    /// The bits of the f32 that was rounded.
    pub input: u32,
    /// What this crate gives.
    pub ours: f32,
    /// What the reference gives.
    pub reference: f32,
}

/// How many mismatches are kept.
pub const CASES: usize = 8;

/// Inputs that a kernel gets at a time; few enough that it stays on the calling thread.
const SLICE: usize = 1 << 14;

/// Slices between two calls of the progress function.
const STRIDE: u64 = 1 << 8;

const INPUTS: u64 = 1 << 32;

/// Compares a format with its reference over all 2^32 inputs.
///
/// - `fp16`, `bf16`: the crate `half`.
/// - `e4m3`, `e5m2`: the crate `float8`, which always saturates. Without `saturate`, numbers that
///   round beyond the largest value are held against ml_dtypes' behaviour instead: NaN for
///   `|x| > 464` in e4m3, infinity for `|x| >= 61440` in e5m2, and infinities alike.
/// - `posit(8,0)`, `posit(32,2)`, and `posit(n,1)` and `posit(n,2)` up to 16 bits: the crate
///   `softposit`, whose `posit(3,2)` departs from the standard and is left out.
/// - fixed point and integers: exact arithmetic in f64 and, for wrapping, in i128.
///
/// `progress` is called now and then, from any thread, with the inputs done and their total.
///
/// # Errors
///
/// [`FormatError::Unsupported`] if there is no reference for the format.
pub fn verify(
    format: &Format,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<Verification, FormatError> {
    match format {
        Format::Fixed(fixed) => {
            let reference = exact_fixed(fixed);
            sweep(format, "exact arithmetic (f64, i128)", reference, progress)
        }
        Format::Integer(integer) => {
            let (min, max) = integer.limits();
            // Where f32 cannot hold the limits: its number next to them, toward zero.
            let (min, max) = (
                min as f64,
                f64::from(ScalarFormat::max(integer)).min(max as f64),
            );
            let reference = move |x: f32| exact_step(x, 1.0, min, max);
            sweep(format, "exact arithmetic (f64)", reference, progress)
        }
        Format::Float(float) => verify_float(format, *float, progress),
        Format::Posit(posit) => {
            let reference = posit_reference(*posit).ok_or_else(|| no_reference(format))?;
            sweep(format, "softposit", reference, progress)
        }
        _ => Err(no_reference(format)),
    }
}

fn verify_float(
    format: &Format,
    float: Float,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<Verification, FormatError> {
    use float8::{F8E4M3, F8E5M2};
    let named = |name| Float::named(name).expect("a named format");
    if float == named("fp16") {
        let reference = |x| half::f16::from_f32(x).to_f32();
        return sweep(format, "half::f16", reference, progress);
    }
    if float == named("bf16") {
        let reference = |x| half::bf16::from_f32(x).to_f32();
        return sweep(format, "half::bf16", reference, progress);
    }
    if float == named("e4m3").saturating() {
        let reference = |x| F8E4M3::from_f32(x).to_f32();
        return sweep(format, "float8::F8E4M3", reference, progress);
    }
    if float == named("e5m2").saturating() {
        let reference = |x| F8E5M2::from_f32(x).to_f32();
        return sweep(format, "float8::F8E5M2", reference, progress);
    }
    if float == named("e4m3") {
        let reference = |x: f32| match x.abs() {
            magnitude if magnitude > 464.0 => f32::NAN,
            _ => F8E4M3::from_f32(x).to_f32(),
        };
        let name = "float8::F8E4M3 to 464, ml_dtypes' NaN beyond";
        return sweep(format, name, reference, progress);
    }
    if float == named("e5m2") {
        let reference = |x: f32| match x.abs() {
            magnitude if magnitude >= 61_440.0 => f32::INFINITY.copysign(x),
            _ => F8E5M2::from_f32(x).to_f32(),
        };
        let name = "float8::F8E5M2 below 61440, ml_dtypes' infinity beyond";
        return sweep(format, name, reference, progress);
    }
    Err(no_reference(format))
}

/// Rounding to nearest of the `softposit` crate, where it has the format and follows the standard.
fn posit_reference(posit: Posit) -> Option<impl Fn(f32) -> f32 + Sync> {
    let widths = (posit.bits(), posit.exponent_bits());
    if posit.scale() != 1.0 || widths == (3, 2) {
        return None;
    }
    let all = [softposit::standard(), softposit::es1(), softposit::es2()];
    let reference = all
        .into_iter()
        .flatten()
        .find(|reference| (reference.bits.into(), reference.exponent_bits.into()) == widths)?;
    Some(move |x| (reference.decode)((reference.encode)(x)) as f32)
}

fn no_reference(format: &Format) -> FormatError {
    FormatError::Unsupported {
        format: format.to_string(),
        operation: "verification: there is no independent implementation of it here".into(),
    }
}

/// Compares a format with any function over all 2^32 inputs; `name` says what the function is.
///
/// # Errors
///
/// [`FormatError`] if the format cannot be applied to a slice.
pub fn sweep(
    format: &Format,
    name: &str,
    reference: impl Fn(f32) -> f32 + Sync,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<Verification, FormatError> {
    let done = AtomicU64::new(0);
    let slice = |index: u64| {
        let first = (index * SLICE as u64) as u32;
        let found = compare(format, &reference, first)?;
        let count = done.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(STRIDE) {
            progress(count * SLICE as u64, INPUTS);
        }
        Ok(found)
    };
    let (mismatches, cases) = (0..INPUTS / SLICE as u64)
        .into_par_iter()
        .map(slice)
        .try_reduce(
            || (0, Vec::new()),
            |(count, mut cases), (more, others)| {
                cases.extend(others);
                cases.sort_by_key(|case: &Mismatch| case.input);
                cases.truncate(CASES);
                Ok((count + more, cases))
            },
        )?;
    Ok(Verification {
        format: format.to_string(),
        reference: name.into(),
        inputs: INPUTS,
        mismatches,
        cases,
    })
}

/// The mismatches among the inputs of a slice.
fn compare(
    format: &Format,
    reference: impl Fn(f32) -> f32,
    first: u32,
) -> Result<(u64, Vec<Mismatch>), FormatError> {
    let input: Vec<f32> = (0..SLICE as u32)
        .map(|i| f32::from_bits(first + i))
        .collect();
    let output = format.quantize_to_vec(&input, Rounding::NearestEven)?;
    let mut count = 0;
    let mut cases = Vec::new();
    for (&x, &ours) in input.iter().zip(&output) {
        let reference = reference(x);
        if ours.to_bits() == reference.to_bits() || (ours.is_nan() && reference.is_nan()) {
            continue;
        }
        count += 1;
        if cases.len() < CASES {
            cases.push(Mismatch {
                input: x.to_bits(),
                ours,
                reference,
            });
        }
    }
    Ok((count, cases))
}

/// Fixed point in exact arithmetic. f64 holds every f32 times every step, so that scaling,
/// rounding to an integer and scaling back are all exact.
fn exact_fixed(format: &FixedPoint) -> impl Fn(f32) -> f32 + Sync + use<> {
    let step = (-f64::from(format.fraction())).exp2();
    let (low, high) = format.steps();
    // Limits that f32 cannot hold are documented as the f32 below.
    let largest = f64::from(ScalarFormat::max(format)) / step;
    let (overflow, word, signed) = (format.overflow(), format.word(), format.is_signed());
    move |x| match overflow {
        Overflow::Clamp => exact_step(x, step, low as f64, largest.min(high as f64)),
        Overflow::Unbounded => exact_step(x, step, f64::NEG_INFINITY, f64::INFINITY),
        Overflow::Wrap if x.is_infinite() => f32::NAN,
        Overflow::Wrap => {
            let steps = exact_step(x, step, f64::NEG_INFINITY, f64::INFINITY);
            if steps.is_nan() {
                return steps;
            }
            let steps = f64::from(steps) / step;
            (wrapped(steps, word, signed) as f64 * step) as f32
        }
    }
}

/// Two's complement arithmetic: a whole number modulo `2^word`.
fn wrapped(steps: f64, word: u8, signed: bool) -> i128 {
    let modulus = 1i128 << word;
    // A multiple of 2^70 is one of the modulus, which is at most 2^24; i128 holds the others.
    let steps = if steps.abs() >= 120f64.exp2() {
        0
    } else {
        steps as i128
    };
    let rest = steps.rem_euclid(modulus);
    if signed && rest >= modulus / 2 {
        rest - modulus
    } else {
        rest
    }
}

/// `x` rounded to a whole number of steps and clamped; minus zero becomes zero.
fn exact_step(x: f32, step: f64, low: f64, high: f64) -> f32 {
    let steps = (f64::from(x) / step).round_ties_even();
    let steps = if steps.is_nan() {
        steps
    } else {
        steps.clamp(low, high)
    };
    (steps * step + 0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_reference_is_found() {
        let format: Format = "e4m3".parse().unwrap();
        // The slice of 2^14 inputs from 1 on, in which e4m3 rounds all to 1.
        let first = 1f32.to_bits();
        let (count, cases) = compare(&format, |_| 1.0, first).unwrap();
        assert_eq!((count, cases.len()), (0, 0));
        let (count, cases) = compare(&format, |_| 2.0, first).unwrap();
        assert_eq!((count, cases.len()), (SLICE as u64, CASES));
        assert_eq!(cases[0].input, first);
    }

    #[test]
    fn exact_arithmetic_by_hand() {
        let reference = |text: &str, x: f32| match text.parse().unwrap() {
            Format::Fixed(fixed) => exact_fixed(&fixed)(x),
            _ => panic!("{text}"),
        };
        // 0.1 * 64 = 6.4; 5 * 64 = 320 = 64 modulo 256; -3 * 64 = -192 = 64 modulo 256.
        assert_eq!(reference("fixed(8,6)", 0.1), 6.0 / 64.0);
        assert_eq!(reference("fixed(8,6)", 5.0), 127.0 / 64.0);
        assert_eq!(reference("fixed(8,6,wrap)", 5.0), 1.0);
        assert_eq!(reference("fixed(8,6,wrap)", -3.0), 1.0);
        assert_eq!(reference("fixed(8,6,unbounded)", 5.01), 5.015_625);
    }

    /// 2^14 inputs each from 2^-20, 1 and -3 on, and the last ones, all NaN.
    #[test]
    fn posits_match_softposit_in_a_few_slices() {
        for text in [
            "posit(8,0)",
            "posit(16,1)",
            "posit(32,2)",
            "posit(5,1)",
            "posit(12,2)",
        ] {
            let format: Format = text.parse().unwrap();
            let Format::Posit(posit) = format else {
                panic!("{text}")
            };
            let reference = posit_reference(posit).unwrap();
            let last = u32::MAX - SLICE as u32 + 1;
            let firsts = [2f32.powi(-20), 1.0, -3.0].map(f32::to_bits);
            for first in firsts.into_iter().chain([last]) {
                let (count, cases) = compare(&format, &reference, first).unwrap();
                assert_eq!(count, 0, "{text} {cases:?}");
            }
        }
    }

    #[test]
    fn formats_without_a_reference_are_an_error() {
        for text in [
            "bfp(8)",
            "posit(3,2)",
            "posit(20,1)",
            "posit(8,0,scale_log2=1)",
            "posit(8,0,scale=1.5)",
        ] {
            let format: Format = text.parse().unwrap();
            assert!(verify(&format, |_, _| ()).is_err(), "{text}");
        }
    }
}
