//! Which operator a training step spends its time in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

static ENABLED: AtomicBool = AtomicBool::new(false);
static SPENT: Mutex<BTreeMap<&'static str, Spent>> = Mutex::new(BTreeMap::new());

/// What one kind of operator took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Seconds.
    pub seconds: f64,
    /// Multiplications and additions, where the operator counts them.
    pub operations: f64,
}

/// Runs `work`; returns what it made, and what each kind of operator took meanwhile, whoever called
/// it. Operators without a kernel of ours are not in it, nor is what lies between operators.
pub fn profile<T>(work: impl FnOnce() -> T) -> (T, BTreeMap<&'static str, Spent>) {
    let take = || std::mem::take(&mut *SPENT.lock().unwrap_or_else(PoisonError::into_inner));
    take();
    ENABLED.store(true, Ordering::Relaxed);
    let made = work();
    ENABLED.store(false, Ordering::Relaxed);
    (made, take())
}

/// Counts the time of `work` for the operator `name`.
pub(crate) fn timed<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    counted(name, 0.0, work)
}

/// Counts the time of `work` and its multiplications and additions for the operator `name`.
pub(crate) fn counted<T>(name: &'static str, operations: f64, work: impl FnOnce() -> T) -> T {
    if !ENABLED.load(Ordering::Relaxed) {
        return work();
    }
    let start = Instant::now();
    let made = work();
    let seconds = start.elapsed().as_secs_f64();
    let mut spent = SPENT.lock().unwrap_or_else(PoisonError::into_inner);
    let spent = spent.entry(name).or_default();
    spent.seconds += seconds;
    spent.operations += operations;
    made
}
