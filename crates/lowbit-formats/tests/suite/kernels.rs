//! The slice kernels give what the scalar functions give, bit for bit, however they are run.

use lowbit_formats::philox::Philox;
use lowbit_formats::{Format, Rounding};

use crate::blocks::patterns;

const STOCHASTIC: Rounding = Rounding::Stochastic {
    seed: 11,
    stream: 3,
    bits: 20,
};

/// Every mode, stochastic rounding twice.
fn roundings() -> impl Iterator<Item = Rounding> {
    let stochastic = [Rounding::stochastic(1, 2), STOCHASTIC];
    Rounding::DETERMINISTIC.into_iter().chain(stochastic)
}

/// Every 40,503rd bit pattern of f32: all exponents, both signs, NaN, and values beside the
/// special ones. Fewer where nothing is optimized.
fn numbers() -> Vec<f32> {
    let stride = if cfg!(debug_assertions) {
        100_003
    } else {
        40_503
    };
    let special = [0.0, 1.0, 2.5, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE];
    (0..=u32::MAX / stride)
        .map(|i| f32::from_bits(i * stride))
        .chain(special)
        .chain(special.map(|x: f32| -x))
        .collect()
}

/// The formats that store each number by itself; the others are in `block_formats.rs`.
fn formats() -> impl Iterator<Item = Format> {
    Format::examples()
        .map(|text| text.parse().unwrap())
        .filter(|format| !matches!(format, Format::Block(_)))
}

#[test]
fn kernels_equal_the_scalar_function() {
    let input = numbers();
    for format in formats() {
        for rounding in roundings() {
            let philox = match rounding {
                Rounding::Stochastic { seed, stream, .. } => Philox::new(seed, stream),
                _ => Philox::new(0, 0),
            };
            let scalar: Vec<f32> = (0u64..)
                .zip(&input)
                .map(|(i, &x)| format.round(x, rounding, philox.word(i)))
                .collect();
            let mut output = vec![0.0; input.len()];
            format.quantize(&input, &mut output, rounding).unwrap();
            assert!(
                patterns(&output) == patterns(&scalar),
                "{format} {rounding:?}"
            );
            let new = format.quantize_to_vec(&input, rounding).unwrap();
            assert!(
                patterns(&new) == patterns(&scalar),
                "{format} {rounding:?} to_vec"
            );
            output.copy_from_slice(&input);
            format.quantize_in_place(&mut output, rounding).unwrap();
            assert!(
                patterns(&output) == patterns(&scalar),
                "{format} {rounding:?} in place"
            );
        }
    }
}

#[test]
fn stochastic_results_do_not_depend_on_threads() {
    let input = numbers();
    for format in formats() {
        let [one, two, sixteen] = [1, 2, 16].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            patterns(&pool.install(|| format.quantize_to_vec(&input, STOCHASTIC).unwrap()))
        });
        assert!(one == two && two == sixteen, "{format}");
        // A prefix, which is cut into other chunks, gets the same numbers.
        let prefix = format.quantize_to_vec(&input[..1234], STOCHASTIC).unwrap();
        assert!(patterns(&prefix) == one[..1234], "{format}");
    }
}

/// Output too large for the caches is written another way. In place it is not, which gives what to
/// compare with; neither rows nor lines come out even.
#[test]
fn large_tensors_get_the_same_numbers() {
    let shape = [1021, 8221];
    let philox = Philox::new(1, 1);
    let numbers = (0..).step_by(32).flat_map(|i| philox.group(i / 32));
    let input: Vec<f32> = numbers
        .map(|word| (word as f32 - 2e9) * 1e-8)
        .take(shape[0] * shape[1])
        .collect();
    let mut output = vec![0.0; input.len() + 1];
    // Off by one from where lines of the cache begin.
    let output = &mut output[1..];
    for text in [
        "e4m3",
        "bfp(8)",
        "bfp(6,block=300)",
        "mxfp4",
        "nvfp4",
        "bfp(6,dim=0)",
    ] {
        let format: Format = text.parse().unwrap();
        for rounding in [Rounding::NearestEven, STOCHASTIC] {
            format
                .quantize_shaped(&input, &shape, output, rounding)
                .unwrap();
            let mut expected = input.clone();
            format
                .quantize_shaped_in_place(&mut expected, &shape, rounding)
                .unwrap();
            assert!(*output == expected, "{text} {rounding}");
        }
    }
}

/// A tensor passed in parts gets the numbers that it gets in one pass.
#[test]
fn parts_make_a_whole() {
    let input = numbers();
    let format: Format = "e5m2".parse().unwrap();
    let whole = format.quantize_to_vec(&input, STOCHASTIC).unwrap();
    let mut parts = vec![0.0; input.len()];
    let size = 32 * 300;
    for (i, (x, y)) in input.chunks(size).zip(parts.chunks_mut(size)).enumerate() {
        let first = (i * size) as u64;
        format.quantize_from(first, x, y, STOCHASTIC).unwrap();
    }
    assert!(patterns(&parts) == patterns(&whole));
    assert!(
        format
            .quantize_from(31, &input, &mut parts, STOCHASTIC)
            .is_err()
    );
}

/// Formats and roundings are saved as what they print.
#[test]
fn saved_as_text() {
    let format: Format = "e4m3(saturate)".parse().unwrap();
    let saved = serde_json::to_string(&format).unwrap();
    assert_eq!(saved, "\"e4m3(saturate)\"");
    assert_eq!(serde_json::from_str::<Format>(&saved).unwrap(), format);
    assert!(serde_json::from_str::<Format>("\"e4m33\"").is_err());
    for mode in roundings() {
        let saved = serde_json::to_string(&mode).unwrap();
        assert_eq!(saved, format!("\"{mode}\""));
        assert_eq!(serde_json::from_str::<Rounding>(&saved).unwrap(), mode);
    }
}
