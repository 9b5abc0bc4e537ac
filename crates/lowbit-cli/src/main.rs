//! The `lowbit` command. It parses, calls the library and prints; it computes nothing itself.

mod commands;
mod interrupt;
mod options;
mod output;
mod picture;
mod progress;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::output::say;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use lowbit_formats::FormatError;
use lowbit_formats::kernel::isa::{Isa, use_at_most};

/// Train and ship networks in a few bits.
///
/// Without any flag, `lowbit train` trains a small network on the handwritten digits that are part
/// of this program, first in float and then with 4-bit weights and activations, and compares the
/// two.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The widest instruction set that kernels use; the numbers do not depend on it [default: the
    /// widest that the CPU has]
    #[arg(long, value_name = "NAME", global = true, value_parser = Isa::named)]
    isa: Option<Isa>,
}

#[derive(Subcommand)]
enum Command {
    Train(commands::train::Arguments),
    Quantize(commands::quantize::Arguments),
    Distill(commands::distill::Arguments),
    Chain(commands::chain::Arguments),
    Eval(commands::eval::Arguments),
    Export(commands::export::Arguments),
    Run(commands::run::Arguments),
    Qa(commands::qa::Arguments),
    Lm(commands::lm::Arguments),
    Finetune(commands::finetune::Arguments),
    Compress(commands::compress::Arguments),
    Methods(commands::methods::Arguments),
    Report(commands::report::Arguments),
    Recipes(commands::recipes::Arguments),
    Sweep(commands::sweep::Arguments),
    /// Check plans, and print those that names stand for.
    #[command(subcommand)]
    Config(commands::config::Command),
    Analyze(commands::analyze::Arguments),
    /// Describe, apply, compare, draw and verify number formats.
    #[command(subcommand)]
    Formats(commands::formats::Command),
    /// Measure speed.
    #[command(subcommand)]
    Bench(commands::bench::Command),
}

fn main() -> ExitCode {
    let arguments = commands::formats::with_minus_signs(std::env::args_os());
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return refused(&error),
    };
    if let Some(isa) = arguments.isa {
        use_at_most(isa);
    }
    if let Err(error) = interrupt::listen() {
        return output::failed(&error);
    }
    let result = match arguments.command {
        Command::Train(arguments) => arguments.run(),
        Command::Quantize(arguments) => arguments.run(),
        Command::Distill(arguments) => arguments.run(),
        Command::Chain(arguments) => arguments.run(),
        Command::Eval(arguments) => arguments.run(),
        Command::Export(arguments) => arguments.run(),
        Command::Run(arguments) => arguments.run(),
        Command::Qa(arguments) => arguments.run(),
        Command::Lm(arguments) => arguments.run(),
        Command::Finetune(arguments) => arguments.run(),
        Command::Compress(arguments) => arguments.run(),
        Command::Methods(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run(),
        Command::Recipes(arguments) => arguments.run(),
        Command::Sweep(arguments) => arguments.run(),
        Command::Config(command) => command.run(),
        Command::Analyze(arguments) => arguments.run(),
        Command::Formats(command) => command.run(),
        Command::Bench(command) => command.run(),
    };
    result.unwrap_or_else(|error| output::failed(&*error))
}

/// Ends where the arguments do not parse. A value that is refused gets one line, the library's own
/// if it has one; clap explains what is wrong with the command itself.
fn refused(error: &clap::Error) -> ExitCode {
    let reason = match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(reason)) => reason,
        _ => return explained(error),
    };
    let names_it = reason.is::<FormatError>()
        || matches!(reason.downcast_ref(), Some(lowbit::Error::Config { .. }))
        || matches!(
            reason.downcast_ref(),
            Some(lowbit_text::Error::Field { .. })
        );
    match names_it {
        true => say(format_args!("error: {reason}")),
        // Names the argument, which the reason does not.
        false => say(error.to_string().lines().next().unwrap_or_default()),
    }
    ExitCode::from(2)
}

/// What clap has to say: help and version on standard output, the rest on standard error.
fn explained(error: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(reason) if !error.use_stderr() => output::failed(&output::Unwritten::from(reason)),
        _ => code,
    }
}
