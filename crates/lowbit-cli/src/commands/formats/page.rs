//! `lowbit formats page`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::commands::Ended;
use crate::output::say;
use crate::picture::write_page;

/// Write a page to try formats in: one HTML file that needs no network.
///
/// A format's text gives its facts, its values on a line, numbers rounded in any mode, with the fields of
/// their codes, its error beside that of another format, and, up to 8 bits, all its codes. The numbers are
/// this program's own, compiled to WebAssembly.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The page, an HTML file
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        write_page(&self.out, &lowbit_playground::page())?;
        say(format_args!("page: {}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
