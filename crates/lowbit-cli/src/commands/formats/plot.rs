//! `lowbit formats plot`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit_formats::{Format, plot};

use crate::commands::Ended;
use crate::picture::write_svg;

/// Draw formats: a number line, and the relative error over magnitude.
///
/// Of a block format, whose scale follows the numbers, the elements at a scale of one are drawn.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Formats, at most seven, such as e4m3 "fixed(8,6)" "posit(8,1)"
    #[arg(value_name = "F", required = true)]
    formats: Vec<Format>,
    /// The picture, an SVG file
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Where the number line ends [default: the smallest of the formats' largest values]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    limit: Option<f32>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let picture = plot::plot(&self.formats, self.limit)?;
        write_svg(&self.out, &picture)?;
        Ok(ExitCode::SUCCESS)
    }
}
