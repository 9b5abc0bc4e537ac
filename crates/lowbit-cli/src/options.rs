//! The flags of the library's options.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use lowbit::train::{Command, Reason, SettingOption, Settings};

/// A command that has options of the library's list.
pub(crate) trait Of {
    /// Which one.
    const COMMAND: Command;
}

/// `lowbit train`.
pub(crate) struct Train;

/// `lowbit quantize`.
pub(crate) struct Quantize;

/// Commands that look at what was trained.
pub(crate) struct Look;

/// `lowbit distill`.
pub(crate) struct Distill;

/// `lowbit chain`.
pub(crate) struct Chain;

impl Of for Distill {
    const COMMAND: Command = Command::Distill;
}

impl Of for Chain {
    const COMMAND: Command = Command::Chain;
}

impl Of for Train {
    const COMMAND: Command = Command::Train;
}

impl Of for Quantize {
    const COMMAND: Command = Command::Quantize;
}

impl Of for Look {
    const COMMAND: Command = Command::Look;
}

/// What the flags of a command say.
pub(crate) struct Options<C> {
    pub(crate) settings: Box<Settings>,
    command: PhantomData<C>,
}

/// The flag of an option, if a command has it.
fn arg(option: &'static SettingOption, command: Command) -> Option<Arg> {
    let (flag, usage) = option.on(command)?;
    let mut arg = Arg::new(option.name)
        .long(option.long())
        .help(option.help(command)?)
        .required(usage.is_required);
    // Beside a teacher, the network is the student.
    if command == Command::Distill && option.name == "model" {
        arg = arg.long("student").alias("model");
    }
    if let Some(other) = usage.requires {
        arg = arg.requires(other);
    }
    let Some(value_name) = flag.value_name else {
        return Some(arg.action(ArgAction::SetTrue));
    };
    let action = match flag.is_list {
        true => ArgAction::Append,
        false => ArgAction::Set,
    };
    let read = move |text: &str| {
        (flag.set)(&mut Settings::default(), text)?;
        Ok::<_, Reason>(text.to_string())
    };
    let arg = arg.value_name(value_name).action(action);
    Some(arg.allow_negative_numbers(true).value_parser(read))
}

impl<C: Of> Args for Options<C> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let args = Settings::OPTIONS.iter();
        command.args(args.filter_map(|option| arg(option, C::COMMAND)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<C: Of> FromArgMatches for Options<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Settings::default();
        for option in Settings::OPTIONS {
            let Some((flag, _)) = option.on(C::COMMAND) else {
                continue;
            };
            let text = match flag.value_name {
                None if matches.get_flag(option.name) => flag.switch_value.to_string(),
                None => continue,
                Some(_) => match matches.get_many::<String>(option.name) {
                    Some(values) => values.cloned().collect::<Vec<_>>().join(","),
                    None => continue,
                },
            };
            (flag.set)(&mut settings, &text).map_err(|reason| {
                clap::Error::raw(clap::error::ErrorKind::ValueValidation, reason)
            })?;
        }
        Ok(Self {
            settings: Box::new(settings),
            command: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
