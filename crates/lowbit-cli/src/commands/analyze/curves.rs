//! `lowbit analyze curves`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use lowbit::report::TrainingCurves;
use lowbit::train::RunFolder;

use crate::commands::Ended;
use crate::picture::write_svg;

/// Draw how the runs in a folder learned: training loss and test accuracy, epoch by epoch.
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
        let curves = TrainingCurves::read(&folder, &experiment)?;
        write_svg(&self.out, &curves.svg())?;
        Ok(ExitCode::SUCCESS)
    }
}
