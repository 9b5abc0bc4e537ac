//! `lowbit analyze front`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::WidthFront;
use lowbit::train::RunFolder;

use crate::commands::Ended;
use crate::picture::write_svg;

/// Draw accuracy against width for runs that learned their widths (--method learned-width): each epoch
/// a point, and the line of those that no narrower one has beaten.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of an experiment
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The picture, an SVG file
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let (folder, experiment) = RunFolder::open(self.run)?;
        let front = WidthFront::read(&folder, &experiment)?;
        write_svg(&self.out, &front.svg())?;
        Ok(ExitCode::SUCCESS)
    }
}
