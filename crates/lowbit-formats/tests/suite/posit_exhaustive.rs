//! Sweeps of posits over all 2^32 `f32` inputs against the `softposit` crate: the codes, and the
//! values that the kernels give. Long, so they are ignored by default:
//!
//! `cargo test --release -p lowbit-formats --features verify --test suite -- posit_exhaustive --ignored --nocapture`
//!
//! The reference's generic types loop over the exponent and take about two minutes a format on two
//! cores; `POSIT="8,1 16,2"` in the environment chooses among them.

use std::time::Instant;

use lowbit_formats::verify::softposit::{Reference, es1, es2, standard};
use lowbit_formats::{Format, Posit, Rounding};
use rayon::prelude::*;

const INPUTS: u64 = 1 << 32;

/// Inputs that a kernel gets at a time; few enough that it stays on the calling thread.
const SLICE: u64 = 1 << 14;

fn posit(reference: &Reference) -> Posit {
    Posit::new(reference.bits, reference.exponent_bits).unwrap()
}

/// Compares all inputs, the code and what the slice kernel gives; returns the number that differ
/// and the first ones.
fn sweep(reference: &Reference) -> (u64, Vec<u32>) {
    let posit = posit(reference);
    (0..INPUTS / SLICE)
        .into_par_iter()
        .map(|slice| {
            let first = (slice * SLICE) as u32;
            let mut different = compare(posit, reference, first);
            let count = different.len() as u64;
            different.truncate(4);
            (count, different)
        })
        .reduce(
            || (0, Vec::new()),
            |(a, mut first), (b, other)| {
                first.extend(other);
                first.truncate(8);
                (a + b, first)
            },
        )
}

/// The inputs of a slice for which a code or a value differs.
fn compare(posit: Posit, reference: &Reference, first: u32) -> Vec<u32> {
    let input: Vec<f32> = (0..SLICE as u32)
        .map(|i| f32::from_bits(first + i))
        .collect();
    let values = Format::Posit(posit)
        .quantize_to_vec(&input, Rounding::NearestEven)
        .unwrap();
    let differs = |(x, value): (f32, f32)| {
        let code = (reference.encode)(x);
        let expected = (reference.decode)(code) as f32;
        let same = value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan();
        (!same || posit.encode(x, Rounding::NearestEven, 0) != code).then_some(x.to_bits())
    };
    input.into_iter().zip(values).filter_map(differs).collect()
}

/// Formats in which the reference errs; `tests/suite/posit.rs` shows how.
const REFERENCE_ERRS: [(u8, u8); 1] = [(3, 2)];

fn sweep_all(references: &[Reference]) {
    let chosen = std::env::var("POSIT").ok();
    for reference in references {
        let posit = posit(reference);
        let (bits, es) = (reference.bits, reference.exponent_bits);
        let named = |text: &String| text.split(' ').any(|name| name == format!("{bits},{es}"));
        if !chosen.as_ref().is_none_or(named) {
            continue;
        }
        let start = Instant::now();
        let (mismatches, first) = sweep(reference);
        println!(
            "posit({bits},{es}): inputs {}, mismatches {mismatches}, {:.1} s",
            1u64 << 32,
            start.elapsed().as_secs_f64()
        );
        for x in first.iter().copied().map(f32::from_bits) {
            let (code, expected) = (
                posit.encode(x, Rounding::NearestEven, 0),
                (reference.encode)(x),
            );
            println!(
                "  {x:e}: code {code:#x} ({:e}), reference {expected:#x} ({:e})",
                posit.decode(code),
                (reference.decode)(expected)
            );
        }
        assert!(mismatches == 0 || REFERENCE_ERRS.contains(&(bits, es)));
    }
}

#[test]
#[ignore = "a minute a format"]
fn standard_formats() {
    sweep_all(&standard());
}

#[test]
#[ignore = "two minutes a format"]
fn generic_es1() {
    sweep_all(&es1());
}

#[test]
#[ignore = "two minutes a format"]
fn generic_es2() {
    sweep_all(&es2());
}

/// posit(3,2) by its three boundaries, since the reference errs there: the codes 1, 2, 3 are 2^-4,
/// 1 and 2^4; with one bit more, 0 01 1 is 2^-4 * 2^2 = 1/4 and 0 10 1 is 2^2 = 4; both ties go to
/// the even code 2. Nothing else rounds to zero, and nothing is larger than code 3.
#[test]
#[ignore = "half a minute"]
fn posit_3_2_by_hand() {
    let by_hand = Reference {
        bits: 3,
        exponent_bits: 2,
        encode: |x| {
            let magnitude = match x.abs() {
                m if !m.is_finite() => return 4,
                0.0 => return 0,
                m if m < 0.25 => 1,
                m if m <= 4.0 => 2,
                _ => 3,
            };
            if x < 0.0 { 8 - magnitude } else { magnitude }
        },
        decode: |code| [0.0, 0.0625, 1.0, 16.0, f64::NAN, -16.0, -1.0, -0.0625][code as usize],
    };
    let start = Instant::now();
    let (mismatches, _) = sweep(&by_hand);
    println!(
        "posit(3,2) by hand: inputs {}, mismatches {mismatches}, {:.1} s",
        1u64 << 32,
        start.elapsed().as_secs_f64()
    );
    assert_eq!(mismatches, 0);
}
