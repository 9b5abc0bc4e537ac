//! `lowbit export --to transformers`.

use std::path::Path;
use std::process::ExitCode;

use lowbit::config::QPlan;
use lowbit::data::text::Text;
use lowbit::models::Network;
use lowbit::train::Experiment;
use lowbit_formats::new_file::holds_something;
use lowbit_text::models::CharacterModel;
use serde::Serialize;

use super::{Arguments, Files, write};
use crate::commands::{Ended, print_json};
use crate::output::{print, say};

/// What `--json` prints of a folder.
#[derive(Serialize)]
struct Folder<'a> {
    run: &'a str,
    out: &'a Path,
}

impl Arguments {
    /// Writes a network of text as a folder.
    pub(super) fn write_folder(
        &self,
        experiment: &Experiment,
        name: &str,
        model: &Network,
    ) -> Ended {
        self.check_flags()?;
        let dir = self.options.settings.data_dir.as_deref();
        let dir = dir.or(experiment.data_dir.as_deref());
        let (Network::Gpt(gpt), Some(text)) = (model, Text::of(experiment.data, dir)?) else {
            let model = experiment.model;
            let message =
                format!("{model} sees images, and --to transformers writes networks of text");
            return Err(message.into());
        };
        let default = || self.to.default_path(name);
        let out = self.out.clone().unwrap_or_else(default);
        if holds_something(&out) {
            let message = format!("{}: is not empty, expected a new folder", out.display());
            return Err(message.into());
        }
        let network = CharacterModel {
            network: &gpt.language_model(),
            sizes: gpt.sizes(),
            alphabet: &text.alphabet(),
        };
        let files = network.files().into_iter();
        let mut files: Files = files.map(|(path, bytes)| (out.join(path), bytes)).collect();
        let run = experiment.runs.iter().find(|run| run.name == name);
        let plan = run.map(|run| &run.plan);
        let plan = plan.filter(|plan| **plan != QPlan::float());
        if let Some(plan) = plan {
            files.push((out.join("plan.toml"), plan.to_toml().into_bytes()));
        }
        write(&files)?;
        self.tell(name, &out, plan.is_some())
    }

    /// Whether nothing is asked for that is of integers.
    fn check_flags(&self) -> Result<(), String> {
        let of_integers = [
            ("--certify", self.certify),
            ("--tie-free", self.tie_free.is_some()),
            ("--target", self.target.is_some()),
            ("--random", self.random > 0),
        ];
        match of_integers.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(format!(
                "{flag}: is of integers, and --to transformers writes none"
            )),
        }
    }

    fn tell(&self, run: &str, out: &Path, has_plan: bool) -> Ended {
        if self.json {
            print_json(&Folder { run, out })?;
            return Ok(ExitCode::SUCCESS);
        }
        let path = out.display();
        print(format_args!("written to {path}\n"))?;
        let option = match has_plan {
            true => format!(" --plan {}", out.join("plan.toml").display()),
            false => String::new(),
        };
        say(format_args!(
            "to use it: lowbit lm --model {path}{option} --prompt TEXT"
        ));
        Ok(ExitCode::SUCCESS)
    }
}
