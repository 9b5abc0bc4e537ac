//! What every scalar format offers, and the passes that apply one to a slice.

use crate::facts::Facts;
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
pub trait ScalarFormat: Sync {
    /// The prepared form; borrows what does not fit into registers.
    type Grid<'a>: Grid
    where
        Self: 'a;

    /// Prepares the format for rounding.
    fn grid(&self) -> Self::Grid<'_>;

    /// Runs a pass with the grid, or with one that rounds alike and faster.
    fn apply<P: Pass>(&self, pass: P) -> P::Output {
        pass.run(self.grid())
    }

    /// How many bits a code takes.
    fn bits(&self) -> u32;

    /// The code of a value, in the lowest [`bits`](Self::bits) bits.
    ///
    /// `value` must be one that rounding gives; another one gets the code of some value near it.
    /// NaN has the code of zero if it has none of its own.
    fn encode(&self, value: f32) -> u32;

    /// The value that a code stands for. Bits above the lowest [`bits`](Self::bits) are ignored.
    fn decode(&self, code: u32) -> f32;

    /// What there is to know about the format.
    fn facts(&self) -> Facts;

    /// The smallest number that rounding gives; minus infinity where the format has it.
    fn min(&self) -> f32;

    /// The largest number that rounding gives; infinity where the format has it.
    fn max(&self) -> f32;
}

/// Work on numbers of one format, compiled for each kind of grid.
pub trait Pass {
    /// What comes of it.
    type Output;

    /// Does the work.
    fn run<G: Grid>(self, grid: G) -> Self::Output;
}

/// Calls `$plain` or `$random` with the closure for `$rounding`, so that each mode becomes a kernel of its own.
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

/// `output[i] = grid.round(input[i])`, for slices of one length and a valid rounding; element `i`
/// takes word `i` of the generator.
pub(crate) struct Quantize<'a> {
    pub(crate) input: &'a [f32],
    pub(crate) output: &'a mut [f32],
    pub(crate) rounding: Rounding,
}

impl Pass for Quantize<'_> {
    type Output = ();

    fn run<G: Grid>(self, grid: G) {
        let (input, output) = (self.input, self.output);
        for_each_rounding!(
            grid,
            self.rounding,
            kernel::map,
            kernel::map_random,
            (input, output)
        );
    }
}

/// As [`Quantize`], in place.
pub(crate) struct QuantizeInPlace<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rounding: Rounding,
}

impl Pass for QuantizeInPlace<'_> {
    type Output = ();

    fn run<G: Grid>(self, grid: G) {
        let data = self.data;
        for_each_rounding!(
            grid,
            self.rounding,
            kernel::map_in_place,
            kernel::map_random_in_place,
            (data)
        );
    }
}

/// As [`Quantize`], into a new vector.
pub(crate) struct QuantizeToVec<'a> {
    pub(crate) input: &'a [f32],
    pub(crate) rounding: Rounding,
}

impl Pass for QuantizeToVec<'_> {
    type Output = Vec<f32>;

    fn run<G: Grid>(self, grid: G) -> Vec<f32> {
        let input = self.input;
        for_each_rounding!(
            grid,
            self.rounding,
            kernel::map_to_vec,
            kernel::map_random_to_vec,
            (input)
        )
    }
}

/// Checks that a kernel's slices match and its rounding is valid.
pub(crate) fn check_slices(
    input: usize,
    output: usize,
    rounding: Rounding,
) -> Result<(), FormatError> {
    if input != output {
        return Err(FormatError::Length { input, output });
    }
    rounding.validate()
}

/// `2^exponent`, for exponents from -149 to 127.
pub(crate) const fn power_of_two(exponent: i32) -> f32 {
    if exponent >= -126 {
        f32::from_bits(((exponent + 127) as u32) << 23)
    } else {
        f32::from_bits(1 << (exponent + 149))
    }
}
