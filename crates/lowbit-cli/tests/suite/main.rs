//! The command as a user runs it.

mod analyze;
mod command;
mod config;
mod distill;
mod export;
mod formats;
mod hashes;
#[cfg(unix)]
mod outputs;
mod program;
mod recipes;
mod sweep;
mod text;
