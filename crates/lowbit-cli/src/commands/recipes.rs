//! `lowbit recipes`.

use std::process::ExitCode;

use clap::Args;
use lowbit::report::summary;
use lowbit::train::NamedRecipe;
use serde::Serialize;

use super::{Ended, print_json};
use crate::output::print;

/// List the experiments that the program brings along, or print one's file.
///
/// `lowbit train --recipe NAME` runs one; flags such as --epochs override what it says.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The recipe whose file is printed, to be changed and given to --config
    #[arg(value_name = "NAME", value_parser = NamedRecipe::find)]
    name: Option<NamedRecipe>,
    /// Print one JSON array instead of a table
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

/// What `--json` prints of each.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    about: &'static str,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        match self.name {
            Some(recipe) => print(recipe.text)?,
            None if self.json => {
                let entries = NamedRecipe::ALL.iter().map(|recipe| Entry {
                    name: recipe.name,
                    about: recipe.about(),
                });
                print_json(&entries.collect::<Vec<_>>())?;
            }
            None => print(summary::recipes(NamedRecipe::ALL))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
