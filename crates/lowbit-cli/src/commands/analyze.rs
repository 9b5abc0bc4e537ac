//! `lowbit analyze`.

mod accumulators;
mod curves;
mod front;
mod quantizer;
mod run;

use clap::{Args, Subcommand};

use super::Ended;

/// Look into a run: what quantization does to its network, which layer is to blame, and what would help
/// most; or into quantizers.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Arguments,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        match self.command {
            Some(command) => command.run(),
            None => self.run.run(),
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Draw a quantizer: what it does to a number, and its gradients.
    Quantizer(quantizer::Arguments),
    Curves(curves::Arguments),
    Front(front::Arguments),
    /// Show the bits that the sums inside a trained network's layers can need.
    Accumulators(accumulators::Arguments),
}

impl Command {
    fn run(self) -> Ended {
        match self {
            Self::Quantizer(arguments) => arguments.run(),
            Self::Curves(arguments) => arguments.run(),
            Self::Front(arguments) => arguments.run(),
            Self::Accumulators(arguments) => arguments.run(),
        }
    }
}
