//! Sums of chips' matrix units against MMA-Sim, the reference model of arXiv 2511.10909: the vectors
//! that `tests/reference/tensor_cores.py` had it make.

use lowbit_formats::Format;
use lowbit_formats::accumulate::{Accumulation, TensorCore};

/// The vectors of a matrix, from codes in hexadecimal.
fn vectors(format: &str, text: &str) -> Vec<Vec<f32>> {
    let format: Format = format.parse().unwrap();
    // tf32 is held by f32.
    let single = format.to_string() == "tf32";
    let bits = if single { 32 } else { format.bits() };
    let vectors = text.split(',').map(|text| {
        let codes = text.as_bytes().chunks(bits as usize / 4);
        let codes = codes.map(|code| u32::from_str_radix(str::from_utf8(code).unwrap(), 16));
        let codes: Vec<u32> = codes.map(Result::unwrap).collect();
        if single {
            return codes.into_iter().map(f32::from_bits).collect();
        }
        format.decode(&codes)
    });
    vectors.collect()
}

#[test]
fn bits_of_the_reference_model() {
    let lines = include_str!("../reference/tensor_cores.txt").lines();
    let (mut sums, mut profiles, mut infinite, mut nan) = (0, Vec::new(), 0, 0);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [profile, left, right, _, chunk, rows, columns, expected] = words[..] else {
            panic!("{line}");
        };
        let text = match chunk {
            "0" => format!("{profile} operands {left} {right}"),
            chunk => format!("{profile} operands {left} {right} chunk {chunk}"),
        };
        let accumulation: Accumulation = text.parse().unwrap();
        let (rows, columns) = (vectors(left, rows), vectors(right, columns));
        let mut expected = expected.split(',');
        for row in &rows {
            for column in &columns {
                let expected = u32::from_str_radix(expected.next().unwrap(), 16).unwrap();
                let expected = f32::from_bits(expected);
                let sum = accumulation.sum_of_products(row, column);
                let same = sum == expected || sum.is_nan() && expected.is_nan();
                assert!(
                    same,
                    "{text}: {sum:e}, expected {expected:e}: {row:?} {column:?}"
                );
                infinite += usize::from(sum.is_infinite());
                nan += usize::from(sum.is_nan());
                sums += 1;
            }
        }
        assert_eq!(expected.next(), None);
        profiles.push(profile);
    }
    profiles.dedup();
    for core in TensorCore::ALL {
        assert!(profiles.contains(&core.name()), "{}", core.name());
    }
    println!("{sums} sums, {infinite} infinite, {nan} NaN, 0 differences");
    assert!(sums > 5000 && infinite > 50 && nan > 50);
}

/// Facts of arXiv 2412.19437, section 3.3.2: Hopper keeps about 14 bits of an FP8 product beside the
/// largest, and sums of 4096 have errors of nearly 2 percent; DeepSeek-V3's chunks of 128 have not.
#[test]
fn hopper_loses_bits_that_chunks_keep() {
    let ones = vec![1.0; 4096];
    // 64 is large beside 2^-8, of which only the part from 2^-7 on is kept.
    let mut numbers = vec![2f32.powi(-8); 4096];
    numbers[0] = 64.0;
    let sum = |text: &str| {
        let accumulation: Accumulation = text.parse().unwrap();
        accumulation
            .with_operands(&"e5m2".parse().unwrap(), &"e5m2".parse().unwrap())
            .unwrap()
            .sum_of_products(&numbers, &ones)
    };
    let exact = 64.0 + 4095.0 / 256.0;
    assert_eq!(sum("hopper-fp8"), 64.0);
    assert_eq!(sum("blackwell-fp8"), exact);
    // The first chunk loses 127 of them; 31 sums of 128 / 256 are exact.
    assert_eq!(sum("hopper-fp8 chunk 128"), 64.0 + 15.5);
}
