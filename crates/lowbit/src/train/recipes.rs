//! Experiments from papers and examples, by name.

use std::path::Path;

use super::settings::ConfigFile;
use crate::Error;

/// An experiment that the program brings along: a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedRecipe {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

/// The recipes by their files' names.
macro_rules! recipes {
    ($($name:literal)+) => {
        &[$(NamedRecipe {
            name: $name,
            text: include_str!(concat!("../../../../recipes/", $name, ".toml")),
        }),+]
    };
}

impl NamedRecipe {
    /// All recipes.
    pub const ALL: &[Self] = recipes! {
        "methods"
        "dorefa-widths"
        "cifar10-methods"
        "number-formats"
        "stochastic-rounding"
        "tensor-cores"
        "lp-train-bfloat16"
        "lp-train-bfp8"
        "lp-train-fixed12"
        "ibm8"
        "swalp"
        "posit-cifar10"
        "posit-mnist"
        "deepseek-v3-fp8"
        "gpt-nano"
        "mxfp8"
        "nvfp4"
        "wage"
        "wageubn"
        "wageubn-16e2"
        "niti"
        "spiking-digits"
        "spiking-mnist"
    };

    /// The recipe of that name.
    ///
    /// # Errors
    /// If there is none, with the list.
    pub fn find(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|recipe| recipe.name == name);
        found.copied().ok_or_else(|| Error::Unknown {
            kind: "recipe",
            text: name.into(),
            expected: Self::names(),
        })
    }

    /// Their names, as a person reads them.
    pub fn names() -> &'static str {
        static NAMES: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
            let names: Vec<&str> = NamedRecipe::ALL.iter().map(|recipe| recipe.name).collect();
            crate::error::one_of(&names)
        });
        &NAMES
    }

    /// What it is, in one line: the first of the file, a comment.
    pub fn about(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.trim_start_matches(['#', ' '])
    }

    /// What it says.
    ///
    /// # Errors
    /// None, for those of the program.
    pub fn read(&self) -> Result<ConfigFile, Error> {
        ConfigFile::parse(Path::new(self.name), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Settings;

    #[test]
    fn all_are_complete_and_say_what_they_are() {
        for recipe in NamedRecipe::ALL {
            assert!(recipe.text.starts_with("# "), "{}", recipe.name);
            assert!(recipe.about().ends_with('.'), "{}", recipe.about());
            let file = recipe.read().unwrap();
            let complete = file.complete(Settings::default());
            complete.unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
        }
    }

    #[test]
    fn an_unknown_recipe_is_answered_with_the_list() {
        let error = NamedRecipe::find("soup").unwrap_err().to_string();
        assert!(
            error.starts_with("unknown recipe `soup`, expected methods, dorefa-widths, "),
            "{error}"
        );
    }
}
