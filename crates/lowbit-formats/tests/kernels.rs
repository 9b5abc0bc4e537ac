//! The slice kernels give what the scalar functions give, bit for bit, however they are run.

use lowbit_formats::philox::Philox;
use lowbit_formats::{Format, Rounding};

const STOCHASTIC: Rounding = Rounding::Stochastic {
    seed: 11,
    stream: 3,
    bits: 20,
};

const MODES: [Rounding; 8] = [
    Rounding::NearestEven,
    Rounding::NearestAway,
    Rounding::TowardZero,
    Rounding::Down,
    Rounding::Up,
    Rounding::ToOdd,
    Rounding::stochastic(1, 2),
    STOCHASTIC,
];

/// Every 40,503rd bit pattern of f32: all exponents, both signs, NaN, and values beside the
/// special ones.
fn numbers() -> Vec<f32> {
    let special = [0.0, 1.0, 2.5, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE];
    (0..=u32::MAX / 40_503)
        .map(|i| f32::from_bits(i * 40_503))
        .chain(special)
        .chain(special.map(|x: f32| -x))
        .collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
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
        for rounding in MODES {
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
            assert!(bits(&output) == bits(&scalar), "{format} {rounding:?}");
            let new = format.quantize_to_vec(&input, rounding).unwrap();
            assert!(bits(&new) == bits(&scalar), "{format} {rounding:?} to_vec");
            output.copy_from_slice(&input);
            format.quantize_in_place(&mut output, rounding).unwrap();
            assert!(
                bits(&output) == bits(&scalar),
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
            bits(&pool.install(|| format.quantize_to_vec(&input, STOCHASTIC).unwrap()))
        });
        assert!(one == two && two == sixteen, "{format}");
        // A prefix, which is cut into other chunks, gets the same numbers.
        let prefix = format.quantize_to_vec(&input[..1234], STOCHASTIC).unwrap();
        assert!(bits(&prefix) == one[..1234], "{format}");
    }
}
