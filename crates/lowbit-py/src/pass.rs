//! Rounding from one view to another.

use half::{bf16, f16};
use lowbit_formats::{Format, FormatError, Number, Rounding};

use crate::memory::{Kind, Pair, Plain, View};

/// 2^53: up to here f64 has every integer.
const EXACT: u64 = 1 << 53;

/// Rounds an array into another of the same shape, whose type is the input's or, of integers and float64, one
/// of float32 and float64.
///
/// # Errors
///
/// As [`Format::quantize_strided`] and [`Format::quantize_f64_shaped`]; [`FormatError::Unsupported`] for an
/// integer that float64 does not have.
pub(crate) fn quantize(
    format: &Format,
    rounding: Rounding,
    input: &View,
    output: &View,
) -> Result<(), FormatError> {
    let wide = |numbers: Vec<f64>| from_wide(format, rounding, &numbers, output);
    let narrow = |numbers: Vec<f32>| from_narrow(format, rounding, numbers, output);
    match input.kind() {
        Kind::F16 => same::<f16>(format, rounding, input, output),
        Kind::Bf16 => same::<bf16>(format, rounding, input, output),
        Kind::F32 => same::<f32>(format, rounding, input, output),
        Kind::F64 => wide(input.gather::<f64>()),
        Kind::I8 => narrow(gather::<i8, f32>(input)),
        Kind::I16 => narrow(gather::<i16, f32>(input)),
        Kind::U8 => narrow(gather::<u8, f32>(input)),
        Kind::U16 => narrow(gather::<u16, f32>(input)),
        Kind::I32 => wide(gather::<i32, f64>(input)),
        Kind::U32 => wide(gather::<u32, f64>(input)),
        Kind::I64 => {
            let numbers = input.gather::<i64>();
            check_exact(format, numbers.iter().map(|x| x.unsigned_abs()))?;
            wide(numbers.into_iter().map(|x| x as f64).collect())
        }
        Kind::U64 => {
            let numbers = input.gather::<u64>();
            check_exact(format, numbers.iter().copied())?;
            wide(numbers.into_iter().map(|x| x as f64).collect())
        }
    }
}

/// An array's numbers, as a type that has all of them.
pub(crate) fn gather<T: Plain + Into<U>, U>(input: &View) -> Vec<U> {
    input.gather::<T>().into_iter().map(Into::into).collect()
}

fn check_exact(format: &Format, magnitudes: impl Iterator<Item = u64>) -> Result<(), FormatError> {
    match magnitudes.max() {
        Some(largest) if largest > EXACT => Err(FormatError::Unsupported {
            format: format.to_string(),
            operation: format!("the integer {largest}, which is more than 2^53"),
        }),
        _ => Ok(()),
    }
}

/// Of numbers that are rounded where they lie.
fn same<N: Number + Plain>(
    format: &Format,
    rounding: Rounding,
    input: &View,
    output: &View,
) -> Result<(), FormatError> {
    let random = matches!(rounding, Rounding::Stochastic { .. });
    let alone = !random && !matches!(format, Format::Block(_));
    let flat = [input.elements()];
    let shape = if input.is_row_major() && output.is_row_major() {
        Some(input.shape())
    } else if alone && input.lies_as(output) {
        Some(&flat[..])
    } else {
        None
    };
    View::pair::<N, _>(input, output, |pair| match (shape, pair) {
        (Some(shape), Pair::Apart(from, to)) => {
            if let (Some(from), Some(to)) = (N::singles(from), N::singles_mut(to)) {
                return format.quantize_shaped(from, shape, to, rounding);
            }
            format.quantize_half_shaped(from, shape, to, rounding)
        }
        (Some(shape), Pair::InPlace(data)) => {
            if let Some(data) = N::singles_mut(data) {
                return format.quantize_shaped_in_place(data, shape, rounding);
            }
            let layout = lowbit_formats::Layout::contiguous(shape)?;
            format.quantize_strided_in_place(data, &layout, rounding)
        }
        (None, Pair::Apart(from, to)) => {
            format.quantize_strided(from, &input.layout()?, to, &output.layout()?, rounding)
        }
        (None, Pair::InPlace(data)) => {
            format.quantize_strided_in_place(data, &output.layout()?, rounding)
        }
    })
}

fn from_wide(
    format: &Format,
    rounding: Rounding,
    numbers: &[f64],
    output: &View,
) -> Result<(), FormatError> {
    let mut rounded = vec![0.0; numbers.len()];
    format.quantize_f64_shaped(numbers, output.shape(), &mut rounded, rounding)?;
    write(&rounded, output);
    Ok(())
}

fn from_narrow(
    format: &Format,
    rounding: Rounding,
    mut numbers: Vec<f32>,
    output: &View,
) -> Result<(), FormatError> {
    format.quantize_shaped_in_place(&mut numbers, output.shape(), rounding)?;
    write(&numbers, output);
    Ok(())
}

fn write(rounded: &[f32], output: &View) {
    match output.kind() {
        Kind::F64 => output.scatter(rounded.iter().map(|&x| f64::from(x))),
        _ => output.scatter(rounded.iter().copied()),
    }
}
