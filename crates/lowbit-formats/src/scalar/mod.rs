//! What every scalar format offers, and the passes that apply one to a slice.

pub mod apot;
pub mod codebook;
pub mod e8m0;
pub mod facts;
pub(crate) mod fields;
pub mod fixed;
pub mod flag;
pub mod float;
pub mod integer;
pub mod integer_grid;
pub(crate) mod levels;
pub mod lns;
pub mod p3109;
pub mod posit;
pub mod pot;
pub mod qpytorch;
pub mod unit;
pub mod wide;

/// The scalar formats, in the order in which a text is tried: `module::Type as Kind`, where
/// [`Format`](crate::Format) has the variant `Kind`. A new format is its file and a line here.
macro_rules! scalar_formats {
    ($for_all:ident) => {
        $for_all! {
            /// Fixed point.
            fixed::FixedPoint as Fixed,
            /// Two fixed-point grids and a flag.
            flag::Flag as Flag,
            /// Floating point.
            float::Float as Float,
            /// Integers.
            integer::Integer as Integer,
            /// The grid of k bits on 0..1.
            unit::UnitGrid as Unit,
            /// Posits.
            posit::Posit as Posit,
            /// Powers of two.
            pot::PowerOfTwo as PowerOfTwo,
            /// Sums of powers of two.
            apot::AdditivePowerOfTwo as AdditivePowerOfTwo,
            /// Logarithmic numbers.
            lns::Logarithmic as Logarithmic,
            /// Tables of values.
            codebook::Codebook as Codebook,
            /// Floating point of IEEE P3109.
            p3109::P3109 as P3109,
            /// QPyTorch's floating point.
            qpytorch::QPyTorch as QPyTorch,
            /// Powers of two in eight bits, the scales of microscaling.
            e8m0::E8M0 as E8M0,
        }
    };
}
pub(crate) use scalar_formats;

/// The formats' types.
pub(crate) mod formats {
    macro_rules! types {
        ($($(#[$doc:meta])* $module:ident::$format:ident as $kind:ident,)*) => {
            $(pub use super::$module::$format;)*
        };
    }
    super::scalar_formats!(types);
}

pub use facts::Facts;
pub use fields::CodeField;
pub use formats::*;
pub use integer::Affine;
pub use integer_grid::{IntegerGrid, IntegerRange, IntegerRounding, bits_of};
pub use wide::Wide;

use std::cmp::Ordering;

use self::fields::fields;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::kernel::{self, ChannelsLast};
use crate::rounding::Rounding;
use crate::rounding::philox::Philox;

/// A set of numbers, prepared for rounding: the constants that a kernel keeps in registers.
pub trait Grid: Copy + Send + Sync {
    /// Whether each rounding mode is worth a slice kernel of its own. Otherwise nearest-even and
    /// stochastic rounding have theirs, and the other modes share one that asks for the mode at
    /// each number: a kernel for each mode of each kind of grid would take minutes to compile.
    const EVERY_MODE: bool = false;

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

    /// The value that a code stands for. Bits above the lowest [`bits`](Self::bits) are ignored;
    /// a code that stands for nothing has the value nearest to what its bits suggest.
    fn decode(&self, code: u32) -> f32;

    /// The fields of a code, given its binary digits, the highest first: the name of each and its
    /// digits. A field has at least one digit, and together they are all of them.
    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        fields(digits, &[], "code")
    }

    /// The integers times a power of two on which all its values lie: fixed point, integers, and
    /// lists whose values are multiples of the smallest one, a power of two, by less than 2^62.
    /// `None` for others.
    fn integer_range(&self) -> Option<IntegerRange>;

    /// What there is to know about the format.
    fn facts(&self) -> Facts;

    /// The smallest number that rounding gives; minus infinity where the format has it.
    fn min(&self) -> f32;

    /// The largest number that rounding gives; infinity where the format has it.
    fn max(&self) -> f32;

    /// `x` rounded, as the grid does it. One copy of it serves a page, which is to be small.
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn round_single(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        self.grid().round(x, rounding, random)
    }

    /// `x` rounded, once, to the values of the format that are f32.
    fn round_wide(&self, x: Wide, rounding: Rounding, random: u32) -> f32 {
        wide::round(self, x, rounding, random)
    }

    /// On which side of the boundary between two neighbouring values, at which the nearest modes go
    /// over from one to the other, a number lies that is no f32. In place of an infinity or NaN there
    /// is the [end](Self::past_ends). Most formats part in the middle.
    fn compare_boundary(
        &self,
        x: Wide,
        (lower, upper): (f64, f64),
        rounding: Rounding,
    ) -> Ordering {
        let _ = rounding;
        x.compare_middle(lower, upper)
    }

    /// The numbers that would follow the smallest and the largest value, where a number that rounds
    /// to them overflows to infinity or NaN; infinite where there is no overflow.
    fn past_ends(&self) -> (f64, f64) {
        (f64::NEG_INFINITY, f64::INFINITY)
    }
}

/// The text of a format; [`Display`](std::fmt::Display) prints it.
pub(crate) trait FormatText: ScalarFormat + std::fmt::Display + Sized {
    /// Texts that an error may suggest, beside the names of formats.
    const EXAMPLES: &'static [&'static str];

    /// Whether a text that begins with `name` is one of these formats.
    fn has_name(name: &str) -> bool;

    /// Reads the text.
    fn from_call(call: &Call<'_>) -> Result<Self, Reason>;
}

/// Something to do with a format once its kind is known, so that the kind is looked up once per
/// slice and not per number.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<F: ScalarFormat>(self, format: &F) -> Self::Output;
}

/// Work on numbers of one format, compiled for each kind of grid.
pub trait Pass {
    /// What comes of it.
    type Output;

    /// Does the work.
    fn run<G: Grid>(self, grid: G) -> Self::Output;
}

/// Rounding in one mode, as a closure whose type holds grid and mode: every pass that asks for
/// the same two shares one compiled loop, and the other modes vanish from it. `MODE` is a place in
/// [`Rounding::DETERMINISTIC`].
fn in_mode<G: Grid, const MODE: usize>(grid: G) -> impl Fn(f32) -> f32 + Sync + Send + Copy {
    std::convert::identity(
        #[inline(always)]
        move |x| grid.round(x, const { Rounding::DETERMINISTIC[MODE] }, 0),
    )
}

/// As [`in_mode`], for any of the modes after nearest-even.
fn in_other_mode<G: Grid>(grid: G, mode: Rounding) -> impl Fn(f32) -> f32 + Sync + Send + Copy {
    std::convert::identity(
        #[inline(always)]
        move |x| grid.round(x, mode, 0),
    )
}

/// As [`in_mode`], for stochastic rounding.
fn at_random<G: Grid>(grid: G, bits: u8) -> impl Fn(f32, u32) -> f32 + Sync + Send + Copy {
    std::convert::identity(
        #[inline(always)]
        move |x, random| {
            // Seed and stream have done their part in `random`.
            let (seed, stream) = (0, 0);
            grid.round(x, Rounding::Stochastic { seed, stream, bits }, random)
        },
    )
}

/// Calls `$plain` or `$random`, which take the arguments and a closure, for the rounding at hand.
macro_rules! with_mode {
    ($grid:expr, $rounding:expr, $skip:expr, $plain:path, $random:path, ($($argument:expr),*)) => {
        match $rounding {
            Rounding::NearestEven => $plain($($argument,)* in_mode::<_, 0>($grid)),
            Rounding::Stochastic { seed, stream, bits } => {
                let philox = Philox::new(seed, stream).skip_groups($skip);
                $random($($argument,)* philox, at_random($grid, bits))
            }
            mode => {
                // The compiler leaves out the branch that the constant rules out.
                if G::EVERY_MODE {
                    let place = Rounding::DETERMINISTIC.iter().position(|m| *m == mode);
                    match place {
                        Some(1) => $plain($($argument,)* in_mode::<_, 1>($grid)),
                        Some(2) => $plain($($argument,)* in_mode::<_, 2>($grid)),
                        Some(3) => $plain($($argument,)* in_mode::<_, 3>($grid)),
                        Some(4) => $plain($($argument,)* in_mode::<_, 4>($grid)),
                        Some(5) => $plain($($argument,)* in_mode::<_, 5>($grid)),
                        _ => $plain($($argument,)* in_mode::<_, 6>($grid)),
                    }
                } else {
                    $plain($($argument,)* in_other_mode($grid, mode))
                }
            }
        }
    };
}

/// `output[i] = grid.round(input[i])`, for slices of one length and a valid rounding; element `i`
/// takes word `i` of the generator, of which `skipped` groups go before.
pub(crate) struct Quantize<'a> {
    pub(crate) input: &'a [f32],
    pub(crate) output: &'a mut [f32],
    pub(crate) rounding: Rounding,
    pub(crate) skipped: u64,
}

impl Pass for Quantize<'_> {
    type Output = ();

    fn run<G: Grid>(self, grid: G) {
        let (input, output) = (self.input, self.output);
        with_mode!(
            grid,
            self.rounding,
            self.skipped,
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
    pub(crate) skipped: u64,
}

impl Pass for QuantizeInPlace<'_> {
    type Output = ();

    fn run<G: Grid>(self, grid: G) {
        let data = self.data;
        with_mode!(
            grid,
            self.rounding,
            self.skipped,
            kernel::map_in_place,
            kernel::map_random_in_place,
            (data)
        );
    }
}

/// As [`Quantize`] in stochastic rounding, for images whose channels lie side by side; without an
/// input, in place.
pub(crate) struct QuantizeImages<'a> {
    pub(crate) input: Option<&'a [f32]>,
    pub(crate) output: &'a mut [f32],
    pub(crate) images: ChannelsLast,
    pub(crate) philox: Philox,
    pub(crate) bits: u8,
}

impl Pass for QuantizeImages<'_> {
    type Output = ();

    fn run<G: Grid>(self, grid: G) {
        let Self {
            input,
            output,
            images,
            philox,
            bits,
        } = self;
        kernel::map_random_images(input, output, images, philox, at_random(grid, bits));
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
        with_mode!(
            grid,
            self.rounding,
            0,
            kernel::map_to_vec,
            kernel::map_random_to_vec,
            (input)
        )
    }
}

/// `output[i] = grid.round(input[i])`; in stochastic rounding, element `i` takes word `i` of the
/// generator.
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
    check_slices(input.len(), output.len(), rounding)?;
    let pass = Quantize {
        input,
        output,
        rounding,
        skipped: 0,
    };
    pass.run(grid);
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
    let pass = QuantizeInPlace {
        data,
        rounding,
        skipped: 0,
    };
    pass.run(grid);
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
    Ok(QuantizeToVec { input, rounding }.run(grid))
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

/// `2^exponent` as f64, for exponents from -1022 to 1023.
pub(crate) const fn wide_power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// `2^exponent`, for exponents from -149 to 127.
pub(crate) const fn power_of_two(exponent: i32) -> f32 {
    if exponent >= -126 {
        f32::from_bits(((exponent + 127) as u32) << 23)
    } else {
        f32::from_bits(1 << (exponent + 149))
    }
}
