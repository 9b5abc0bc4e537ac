//! The fuzz targets on random bytes: a thousand in every run, where a fuzzer tries millions.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Fewer where nothing is optimized.
const CASES: u32 = if cfg!(debug_assertions) { 100 } else { 1_000 };

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1000),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn texts(bytes in bytes()) {
        targets::texts(&bytes);
    }

    #[test]
    fn kernels(bytes in bytes()) {
        targets::kernels(&bytes);
    }

    #[test]
    fn codes(bytes in bytes()) {
        targets::codes(&bytes);
    }
}
