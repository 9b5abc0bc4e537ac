//! `lowbit formats`.

mod apply;
mod compare;
mod describe;
mod list;
mod page;
mod plot;
mod round;
mod sums;
mod verify;

use std::error::Error;
use std::str::FromStr;

use clap::{Args, Subcommand};
use lowbit_formats::tensor_file::{ByteType, Streams};
use lowbit_formats::{Facts, FormatError, Rounding};

pub(crate) use round::with_minus_signs;

use super::Ended;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List formats of every kind, with their facts.
    List(list::Arguments),
    /// Show the facts of a format and, up to 8 bits, all its values.
    Describe(describe::Arguments),
    /// Round numbers: value, code and error of each.
    Round(round::Arguments),
    /// Round the tensors of a file.
    ///
    /// A file may be larger than memory: it is read and written piece by piece. A tensor is in memory
    /// as a whole where all of it shares a scale, or where its codes and scales are written.
    Apply(apply::Arguments),
    /// Compare formats: facts, and noise on numbers of several distributions.
    Compare(compare::Arguments),
    /// Draw formats: a number line, and the relative error over magnitude.
    Plot(plot::Arguments),
    Page(page::Arguments),
    Sums(sums::Arguments),
    /// Compare a format with an independent implementation over all 2^32 inputs.
    Verify(verify::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::List(arguments) => arguments.run(),
            Self::Describe(arguments) => arguments.run(),
            Self::Round(arguments) => arguments.run(),
            Self::Apply(arguments) => arguments.run(),
            Self::Compare(arguments) => arguments.run(),
            Self::Plot(arguments) => arguments.run(),
            Self::Page(arguments) => arguments.run(),
            Self::Sums(arguments) => arguments.run(),
            Self::Verify(arguments) => arguments.run(),
        }
    }
}

/// How numbers are rounded.
#[derive(Args)]
struct RoundingArguments {
    /// nearest-even, nearest-away, nearest-up, toward-zero, down, up, to-odd or stochastic, also as
    /// stochastic(bits=8,stream=3): random bits, and which random numbers of the seed's
    #[arg(long, value_name = "MODE", default_value = "nearest-even")]
    rounding: Mode,
    /// Where the random numbers of stochastic rounding come from [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl RoundingArguments {
    fn rounding(&self) -> Result<Rounding, Box<dyn Error>> {
        match (self.rounding.rounding, self.seed) {
            (rounding, None) => Ok(rounding),
            (Rounding::Stochastic { stream, bits, .. }, Some(seed)) => {
                Ok(Rounding::Stochastic { seed, stream, bits })
            }
            _ => Err("--seed goes with --rounding stochastic".into()),
        }
    }

    /// Where the tensors of a file draw from, if that is not said.
    fn streams(&self) -> Streams {
        if self.rounding.has_stream {
            Streams::Numbered
        } else {
            Streams::Named
        }
    }
}

/// A rounding mode as it was typed.
#[derive(Clone, Copy)]
struct Mode {
    rounding: Rounding,
    /// Whether the text names the stream.
    has_stream: bool,
}

impl FromStr for Mode {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Ok(Self {
            rounding: text.parse()?,
            has_stream: text.contains("stream"),
        })
    }
}

/// What the bytes of a NumPy file may be, where it does not say so.
#[derive(Args)]
struct FileArguments {
    /// What a NumPy file's numbers of the type V1 are: float8_e4m3fn or another type of ml_dtypes.
    /// Arrays of other types in a .npz file are read as what they are
    #[arg(long, value_name = "TYPE")]
    dtype: Option<ByteType>,
}

/// A number as short as it can be told apart from its neighbours.
fn number(x: f32) -> String {
    match x.abs() {
        magnitude if magnitude == 0.0 || x.is_nan() => x.to_string(),
        magnitude if (1e-4..1e7).contains(&magnitude) || x.is_infinite() => x.to_string(),
        _ => format!("{x:e}"),
    }
}

fn number_or(x: Option<f32>, otherwise: &str) -> String {
    x.map_or(otherwise.into(), number)
}

/// What a format holds besides numbers.
fn specials(facts: &Facts) -> String {
    let held = [
        (facts.infinity, "infinity"),
        (facts.nan, "NaN"),
        (facts.minus_zero, "-0"),
    ];
    let held: Vec<&str> = held
        .into_iter()
        .filter_map(|(is, name)| is.then_some(name))
        .collect();
    if held.is_empty() {
        "-".into()
    } else {
        held.join(", ")
    }
}

/// The headings of [`facts_row`].
const FACTS: [&str; 9] = [
    "format",
    "bits",
    "min",
    "max",
    "min positive",
    "epsilon",
    "decades",
    "values",
    "specials",
];

/// One line of a table of formats.
fn facts_row(format: &str, facts: &Facts) -> [String; 9] {
    [
        format.into(),
        facts.bits.to_string(),
        number(facts.min),
        number(facts.max),
        number_or(facts.min_positive, "-"),
        number_or(facts.epsilon, "-"),
        facts
            .range_decades
            .map_or("-".into(), |decades| format!("{decades:.2}")),
        facts.values.to_string(),
        specials(facts),
    ]
}
