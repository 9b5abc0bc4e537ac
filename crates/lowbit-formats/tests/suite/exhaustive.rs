//! Sweeps over all 2^32 inputs against independent implementations; posits are in
//! `posit_exhaustive.rs`. They take minutes:
//!
//! ```text
//! cargo test --release -p lowbit-formats --features verify --test suite -- exhaustive:: --ignored --nocapture
//! ```

use std::time::Instant;

use lowbit_formats::Format;
use lowbit_formats::verify::verify;

fn assert_no_mismatch(texts: &[&str]) {
    for text in texts {
        let format: Format = text.parse().unwrap();
        let start = Instant::now();
        let found = verify(&format, |_, _| ()).unwrap();
        println!(
            "{text} against {}: {} inputs, {} mismatches, {:.1} s {:?}",
            found.reference,
            found.inputs,
            found.mismatches,
            start.elapsed().as_secs_f64(),
            found.cases,
        );
        assert_eq!(found.inputs, 1 << 32, "{text}");
        assert_eq!(found.mismatches, 0, "{text}: {:?}", found.cases);
    }
}

#[test]
#[ignore = "minutes"]
fn halves_match_half() {
    assert_no_mismatch(&["fp16", "bf16"]);
}

#[test]
#[ignore = "minutes"]
fn eight_bit_floats_match_float8() {
    assert_no_mismatch(&["e4m3", "e4m3(saturate)", "e5m2", "e5m2(saturate)"]);
}

#[test]
#[ignore = "minutes"]
fn fixed_point_matches_exact_arithmetic() {
    assert_no_mismatch(&[
        "fixed(8,6)",
        "fixed(8,6,symmetric)",
        "fixed(8,6,wrap)",
        "fixed(8,6,unbounded)",
        "ufixed(8,8)",
        "fixed(16,12)",
        "fixed(32,16)",
        "fixed(8,-3)",
        "fixed(4,40)",
        "fixed(24,12,wrap)",
    ]);
}

#[test]
#[ignore = "minutes"]
fn integers_match_exact_arithmetic() {
    assert_no_mismatch(&["int8", "int8(narrow)", "uint4", "int16", "int32", "uint32"]);
}
