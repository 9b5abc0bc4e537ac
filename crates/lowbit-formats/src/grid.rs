//! What every scalar format offers, and the passes that apply one to a slice.

use crate::philox::Philox;
use crate::{FormatError, Rounding, kernel};

/// A set of numbers, prepared for rounding: the constants that a kernel keeps in registers.
pub trait Grid: Copy + Send + Sync {
    /// The member of the set to which `x` is rounded; `random` decides stochastic rounding.
    ///
    /// Implementations are `#[inline(always)]`, short and without data-dependent branches: the
    /// slice kernels are this function inside a loop that becomes vector code.
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32;
}

/// A format in which each number is stored by itself, without regard to its neighbours.
pub trait ScalarFormat {
    /// The prepared form; borrows what does not fit into registers.
    type Grid<'a>: Grid
    where
        Self: 'a;

    /// Prepares the format for rounding.
    fn grid(&self) -> Self::Grid<'_>;

    /// How many bits a code takes.
    fn bits(&self) -> u32;

    /// The smallest number that rounding gives; minus infinity where the format has it.
    fn min(&self) -> f32;

    /// The largest number that rounding gives; infinity where the format has it.
    fn max(&self) -> f32;
}

/// Calls `$pass` with the closure for `$rounding`, so that each mode becomes a kernel of its own.
macro_rules! for_each_rounding {
    ($grid:ident, $rounding:expr, $plain:expr, $random:expr, ($($argument:expr),*)) => {{
        macro_rules! plain {
            ($mode:ident) => {
                $plain(
                    $($argument,)*
                    #[inline(always)]
                    move |x| $grid.round(x, Rounding::$mode, 0),
                )
            };
        }
        match $rounding {
            Rounding::NearestEven => plain!(NearestEven),
            Rounding::NearestAway => plain!(NearestAway),
            Rounding::TowardZero => plain!(TowardZero),
            Rounding::Down => plain!(Down),
            Rounding::Up => plain!(Up),
            Rounding::ToOdd => plain!(ToOdd),
            Rounding::Stochastic { seed, stream, bits } => $random(
                $($argument,)*
                Philox::new(seed, stream),
                #[inline(always)]
                move |x, random| {
                    $grid.round(x, Rounding::Stochastic { seed, stream, bits }, random)
                },
            ),
        }
    }};
}

/// `output[i] = grid.round(input[i])`; element `i` takes word `i` of the generator.
///
/// # Errors
///
/// [`FormatError::Length`] if the slices differ in length, [`FormatError::Parameter`] if the
/// number of random bits is not in 1..=32.
pub fn quantize(
    grid: impl Grid,
    input: &[f32],
    output: &mut [f32],
    rounding: Rounding,
) -> Result<(), FormatError> {
    rounding.validate()?;
    if input.len() != output.len() {
        return Err(FormatError::Length {
            input: input.len(),
            output: output.len(),
        });
    }
    for_each_rounding!(
        grid,
        rounding,
        kernel::map,
        kernel::map_random,
        (input, output)
    );
    Ok(())
}

/// As [`quantize`], in place.
///
/// # Errors
///
/// [`FormatError::Parameter`] if the number of random bits is not in 1..=32.
pub fn quantize_in_place(
    grid: impl Grid,
    data: &mut [f32],
    rounding: Rounding,
) -> Result<(), FormatError> {
    rounding.validate()?;
    for_each_rounding!(
        grid,
        rounding,
        kernel::map_in_place,
        kernel::map_random_in_place,
        (data)
    );
    Ok(())
}

/// As [`quantize`], into a new vector whose memory is written once.
///
/// # Errors
///
/// [`FormatError::Parameter`] if the number of random bits is not in 1..=32.
pub fn quantize_to_vec(
    grid: impl Grid,
    input: &[f32],
    rounding: Rounding,
) -> Result<Vec<f32>, FormatError> {
    rounding.validate()?;
    Ok(for_each_rounding!(
        grid,
        rounding,
        kernel::map_to_vec,
        kernel::map_random_to_vec,
        (input)
    ))
}

/// `2^exponent`, for exponents from -149 to 127.
pub(crate) const fn power_of_two(exponent: i32) -> f32 {
    if exponent >= -126 {
        f32::from_bits(((exponent + 127) as u32) << 23)
    } else {
        f32::from_bits(1 << (exponent + 149))
    }
}
