//! One command a file.

pub(crate) mod analyze;
pub(crate) mod bench;
pub(crate) mod eval;
pub(crate) mod formats;
pub(crate) mod quantize;
pub(crate) mod train;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use lowbit::config::Fold;
use lowbit::data::{DataSet, Split};
use lowbit::models::Tolerance;

use crate::output::print;
use crate::progress::Bars;

/// What a command ends with: an exit code, or the one line that says what went wrong.
pub(crate) type Ended = Result<ExitCode, Box<dyn Error>>;

/// Where the images are, and how many threads work on them.
#[derive(Args)]
pub(crate) struct Resources {
    /// Folder with the data set's files [default: a cache folder, filled by download]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Threads; the numbers do not depend on it [default: all cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// The names of [`Fold`].
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum FoldArgument {
    Off,
    Training,
    Merged,
}

impl From<FoldArgument> for Fold {
    fn from(fold: FoldArgument) -> Self {
        match fold {
            FoldArgument::Off => Self::Off,
            FoldArgument::Training => Self::Training,
            FoldArgument::Merged => Self::Merged,
        }
    }
}

/// How weights may differ from the network that loads them.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Difference {
    /// Those that the network alone has keep their first values
    Missing,
    /// Those that the file alone has are passed over
    Unexpected,
    /// Those of another shape are passed over
    OtherShape,
}

impl Difference {
    /// All of these accepted.
    pub(crate) fn tolerance(accepted: &[Self]) -> Tolerance {
        Tolerance {
            missing: accepted.contains(&Self::Missing),
            unexpected: accepted.contains(&Self::Unexpected),
            other_shape: accepted.contains(&Self::OtherShape),
        }
    }
}

/// Gives the process its threads. Called once, before any tensor is touched.
fn use_threads(threads: usize) -> Result<(), Box<dyn Error>> {
    if threads == 0 {
        return Err("threads: is 0, expected at least 1".into());
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    Ok(())
}

/// Loads a data set, with a bar while something is downloaded.
fn load(
    data: DataSet,
    dir: Option<&std::path::Path>,
    bars: &mut Bars,
) -> Result<Split, lowbit::Error> {
    data.load(dir, &mut |progress| {
        bars.download(progress.file, progress.done, progress.total)
    })
}

/// Prints a value as JSON, the only thing on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Box<dyn Error>> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(print(format_args!("{text}\n"))?)
}
