//! Block formats by their texts, and what they make of a tensor.

use lowbit_formats::{BlockFormat, Format, Rounding, Scales};

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

/// A matrix of rows of very different sizes, with a row of zeros.
fn matrix(rows: usize, columns: usize) -> Vec<f32> {
    let number = |i: usize| {
        let (row, column) = (i / columns, i % columns);
        let wave = (column as f32 * 0.37 + row as f32 * 1.3).sin();
        if row == 2 {
            0.0
        } else {
            wave * (row as f32 - 3.0).exp2()
        }
    };
    (0..rows * columns).map(number).collect()
}

/// Codes with a matrix's own scales are its codes, whole and column by column, and the scales of parts that
/// are beside one another are those of the whole.
#[test]
fn parts_of_a_matrix_have_its_scales_and_codes() {
    let (rows, columns) = (7, 24);
    let shape = [rows, columns];
    let input = matrix(rows, columns);
    let near = Rounding::NearestEven;
    let texts = [
        ("affine(4,symmetric,block=8)", 8),
        ("affine(3,block=8)", 8),
        ("affine(8,dim=0)", 24),
        ("mxfp4(block=8)", 8),
        ("nvfp4(block=8)", 8),
        ("scaled(e4m3,block=8)", 8),
        ("scaled(e4m3,block=2x8)", 8),
        ("scaled(e4m3)", 24),
    ];
    for (text, width) in texts {
        let format = block(text);
        let codes = format.encode(&input, &shape, near).unwrap();
        let scales = codes.scales.clone();
        let given = format
            .encode_with(&input, &shape, scales.clone(), near)
            .unwrap();
        assert_eq!(given, codes, "{text}");
        let numbers = format.decode(&codes).unwrap();
        let mut parts = Vec::new();
        for first in (0..columns).step_by(width) {
            let part: Vec<f32> = input
                .chunks(columns)
                .flat_map(|row| row[first..first + width].to_vec())
                .collect();
            let of_part = format
                .scales_of_part(&scales, &part, &[rows, width])
                .unwrap();
            for j in 0..width {
                let column: Vec<f32> = part.iter().skip(j).step_by(width).copied().collect();
                let one = format.encode_with(&column, &[rows, 1], of_part.clone(), near);
                let found = format.decode(&one.unwrap()).unwrap();
                let expected: Vec<f32> = numbers
                    .iter()
                    .skip(first + j)
                    .step_by(columns)
                    .copied()
                    .collect();
                assert_eq!(
                    patterns(&found),
                    patterns(&expected),
                    "{text}, column {}",
                    first + j
                );
            }
            parts.push(of_part);
        }
        assert_eq!(Scales::beside(&parts), Some(scales), "{text}");
    }
}

#[test]
fn scales_of_another_shape_or_kind_are_refused() {
    let input = matrix(4, 16);
    let near = Rounding::NearestEven;
    let scales = |text: &str| block(text).scales(&input, &[4, 16]).unwrap();
    let with = |given: Scales| {
        let refused = block("mxfp4(block=8)").encode_with(&input, &[4, 16], given, near);
        refused.unwrap_err().to_string()
    };
    let few = with(scales("mxfp4(block=16)"));
    assert!(few.contains('4') && few.contains('8'), "{few}");
    let other = with(scales("affine(4,block=8)"));
    assert!(other.contains("scales of this kind"), "{other}");
    let parts = [scales("mxfp4(block=8)"), scales("affine(4,block=8)")];
    assert_eq!(Scales::beside(&parts), None);
    assert_eq!(Scales::beside(&[]), None);
    let of_more_rows = block("mxfp4(block=8)").scales(&input, &[8, 8]).unwrap();
    assert_eq!(
        Scales::beside(&[scales("mxfp4(block=16)"), of_more_rows]),
        None
    );
}
