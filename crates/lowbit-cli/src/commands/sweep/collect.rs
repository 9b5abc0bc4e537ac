//! The results of a sweep, collected from the folders of its cells.

use std::error::Error;
use std::path::Path;

use lowbit::report::SweepReport;
use lowbit::train::sweep::SweepFolder;
use lowbit_formats::new_file;

use super::super::print_json;
use crate::output::{print, say};
use crate::picture::write_svg;

/// How results are shown.
pub(super) struct Shown {
    /// The key along which the picture goes.
    pub(super) by: Option<String>,
    pub(super) json: bool,
}

impl Shown {
    /// Writes the results beside the cells, and prints them.
    pub(super) fn show(&self, folder: &SweepFolder) -> Result<(), Box<dyn Error>> {
        let report = SweepReport::read(folder)?;
        let picture = report.svg(self.by.as_deref())?;
        let at = |name: &str| folder.path().join(name);
        write(&at("results.csv"), &report.numbers().csv())?;
        write(&at("results.json"), &serde_json::to_string_pretty(&report)?)?;
        let mut files = "results.csv and results.json";
        if let Some(picture) = picture {
            write_svg(&at("accuracy.svg"), &picture)?;
            files = "results.csv, results.json and accuracy.svg";
        }
        if self.json {
            return print_json(&report);
        }
        print(report.cells())?;
        if let Some(means) = report.means() {
            print(format_args!("\n{means}"))?;
        }
        let path = folder.path().display();
        say(format_args!("wrote {files} in {path}"));
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let written = new_file::write(path, text.as_bytes());
    written.map_err(|error| format!("{}: {error}", path.display()).into())
}
