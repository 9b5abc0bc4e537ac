//! Block formats by their texts, and what they make of a tensor.

use lowbit_formats::{BlockFormat, Format, Rounding};

pub(crate) fn parse(text: &str) -> Format {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn block(text: &str) -> BlockFormat {
    match parse(text) {
        Format::Block(format) => format,
        other => panic!("{other} is no block format"),
    }
}

pub(crate) fn quantized(
    format: &Format,
    input: &[f32],
    shape: &[usize],
    rounding: Rounding,
) -> Vec<f32> {
    let mut output = vec![f32::NAN; input.len()];
    format
        .quantize_shaped(input, shape, &mut output, rounding)
        .unwrap();
    output
}

/// The bits of each number.
pub(crate) fn patterns(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}
