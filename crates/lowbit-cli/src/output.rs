//! What a command says: its results on standard output, all else on standard error.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use lowbit_formats::FormatError;

/// What a shell reports of a process that wrote to a pipe without a reader: 128 and SIGPIPE.
const NO_READER: u8 = 141;

/// Standard output took no more.
#[derive(Debug)]
pub(crate) struct Unwritten(io::Error);

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output: {}", self.0)
    }
}

impl Error for Unwritten {}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

/// Writes to standard output.
///
/// # Errors
///
/// If it takes no more; with `?`, [`failed`] ends the command as is due.
pub(crate) fn print(text: impl fmt::Display) -> Result<(), Unwritten> {
    let mut output = io::stdout().lock();
    write!(output, "{text}")?;
    Ok(output.flush()?)
}

/// Writes a line to standard error. What nobody reads is no reason to stop.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says in one line why a command ends. Where nobody reads its output there is nobody to tell.
pub(crate) fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    let unread = match error.downcast_ref() {
        Some(Unwritten(reason)) => reason.kind() == ErrorKind::BrokenPipe,
        None => matches!(error.downcast_ref(), Some(FormatError::NoReader { .. })),
    };
    match unread {
        true => ExitCode::from(NO_READER),
        false => {
            say(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
