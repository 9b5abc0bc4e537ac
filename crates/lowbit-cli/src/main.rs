//! The `lowbit` command. It parses, calls the library and prints; it computes nothing itself.

mod commands;
mod progress;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    let result = match Arguments::parse().command {
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
