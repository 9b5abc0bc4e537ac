//! Ctrl-C, and what else tells a command to end.

use std::process::exit;
use std::sync::{Mutex, PoisonError};

use lowbit::train::Interrupter;
use lowbit_formats::new_file::remove_unfinished;

/// The run that is to stop with a checkpoint, if one is under way.
static RUN: Mutex<Option<Interrupter>> = Mutex::new(None);

/// From here on, the first signal to end lets the run under way finish its step and write a
/// checkpoint; a second one ends at once.
pub(crate) fn stop_gently(interrupter: &Interrupter) {
    *run() = Some(interrupter.clone());
}

/// From here on, a signal to end ends at once.
pub(crate) fn end_at_once() {
    *run() = None;
}

fn run() -> std::sync::MutexGuard<'static, Option<Interrupter>> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the run under way to stop; where there is none, or it was asked before, ends the process
/// without half-written files.
fn end(signal: &str, code: i32) {
    if let Some(interrupter) = &*run()
        && !interrupter.should_stop()
    {
        return interrupter.stop(Some(signal));
    }
    let _halted = remove_unfinished();
    exit(code);
}

/// Listens to Ctrl-C, SIGTERM and, of a terminal that is closed, SIGHUP. What the process was
/// started to ignore it goes on to ignore: SIGHUP under `nohup`.
#[cfg(unix)]
pub(crate) fn listen() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignored = ignored();
    let heard = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| ignored & 1 << (signal - 1) == 0);
    let mut signals = signal_hook::iterator::Signals::new(heard)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let name = match signal {
                    SIGINT => "Ctrl-C",
                    SIGTERM => "SIGTERM",
                    _ => "SIGHUP",
                };
                // What a shell reports of a process that a signal ended.
                end(name, 128 + signal);
            }
        })
        .map(drop)
}

/// The signals that the process ignores, one a bit, the first the lowest. Where the system does
/// not tell, SIGHUP is taken to be ignored.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(1 << (signal_hook::consts::SIGHUP - 1))
}

/// Listens to Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| end("Ctrl-C", 130))
}
