//! The program, run in a folder.

use std::path::Path;
use std::process::{Command, Output};

/// The program with these arguments, which have no spaces within.
pub(crate) fn lowbit(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    command
}

pub(crate) fn run(folder: &Path, arguments: &str) -> Output {
    lowbit(folder, arguments).output().unwrap()
}

/// What a command prints, which ends well.
pub(crate) fn text(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command complains of, which fails and prints nothing else.
pub(crate) fn error(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments} succeeded");
    assert!(output.stdout.is_empty(), "{arguments} printed");
    String::from_utf8(output.stderr).unwrap()
}
