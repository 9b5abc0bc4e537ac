//! Sweeps over all 2^32 `f32` inputs against the `softposit` crate. Long, so they are ignored by
//! default:
//!
//! `cargo test --release -p lowbit-formats --test posit_exhaustive -- --ignored --nocapture`

mod posit_reference;

use std::time::Instant;

use lowbit_formats::Rounding;
use posit_reference::{Reference, es1, es2, standard};
use rayon::prelude::*;

/// Compares code and value of all inputs; returns the number that differ and the first ones.
fn sweep(reference: &Reference) -> (u64, Vec<u32>) {
    let Reference { posit, encode, .. } = reference;
    (0..1u32 << 16)
        .into_par_iter()
        .map(|upper| {
            let mut different = Vec::new();
            for lower in 0..1u32 << 16 {
                let bits = upper << 16 | lower;
                let x = f32::from_bits(bits);
                let expected = encode(x);
                let code = posit.encode(x, Rounding::NearestEven, 0);
                if code != expected {
                    different.push(bits);
                }
            }
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

fn sweep_all(references: &[Reference]) {
    for reference in references {
        let posit = reference.posit;
        let start = Instant::now();
        let (mismatches, first) = sweep(reference);
        println!(
            "posit({},{}): inputs {}, mismatches {mismatches}, {:.1} s",
            posit.bits(),
            posit.exponent_bits(),
            1u64 << 32,
            start.elapsed().as_secs_f64()
        );
        for bits in first {
            let x = f32::from_bits(bits);
            println!(
                "  {x:e} ({bits:#010x}): code {:#x}, reference {:#x}",
                posit.encode(x, Rounding::NearestEven, 0),
                (reference.encode)(x)
            );
        }
    }
}

#[test]
#[ignore]
fn standard_formats() {
    sweep_all(&standard());
}

#[test]
#[ignore]
fn generic_es1() {
    sweep_all(&es1());
}

#[test]
#[ignore]
fn generic_es2() {
    sweep_all(&es2());
}
