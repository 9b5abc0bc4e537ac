//! `lowbit analyze`.

mod accumulators;
mod curves;
mod front;
mod quantizer;

use clap::Subcommand;

use super::Ended;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Draw a quantizer: what it does to a number, and its gradients.
    Quantizer(quantizer::Arguments),
    Curves(curves::Arguments),
    Front(front::Arguments),
    /// Show the bits that the sums inside a trained network's layers can need.
    Accumulators(accumulators::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Quantizer(arguments) => arguments.run(),
            Self::Curves(arguments) => arguments.run(),
            Self::Front(arguments) => arguments.run(),
            Self::Accumulators(arguments) => arguments.run(),
        }
    }
}
