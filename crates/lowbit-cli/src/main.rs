//! The `lowbit` command. It parses, calls the library and prints; it computes nothing itself.

mod commands;
mod options;
mod progress;

use std::error::Error;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use lowbit_formats::FormatError;

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
}

#[derive(Subcommand)]
enum Command {
    Train(commands::train::Arguments),
    Quantize(commands::quantize::Arguments),
    Eval(commands::eval::Arguments),
    /// Look into quantizers and quantized networks.
    #[command(subcommand)]
    Analyze(commands::analyze::Command),
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
    let result = match arguments.command {
        Command::Train(arguments) => arguments.run(),
        Command::Quantize(arguments) => arguments.run(),
        Command::Eval(arguments) => arguments.run(),
        Command::Analyze(command) => command.run(),
        Command::Formats(command) => command.run(),
        Command::Bench(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Ends where the arguments do not parse. A value that is refused gets one line, the library's own
/// if it has one; clap explains what is wrong with the command itself.
fn refused(error: &clap::Error) -> ExitCode {
    let reason = match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(reason)) => reason,
        _ => error.exit(),
    };
    let names_it = reason.is::<FormatError>()
        || matches!(reason.downcast_ref(), Some(lowbit::Error::Config { .. }));
    match names_it {
        true => eprintln!("error: {reason}"),
        // Names the argument, which the reason does not.
        false => eprintln!("{}", error.to_string().lines().next().unwrap_or_default()),
    }
    ExitCode::from(2)
}
