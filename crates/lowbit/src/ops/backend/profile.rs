//! Which operator a training step spends its time in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    let outer = Outer {
        spent: std::mem::take(&mut *spent()),
        enabled: ENABLED.swap(true, Ordering::Relaxed),
    };
    let made = work();
    let meanwhile = spent().clone();
    drop(outer);
    (made, meanwhile)
}

/// What was counted before; counting goes on as then, or not, when this is dropped, also by a
/// panic.
struct Outer {
    spent: BTreeMap<&'static str, Spent>,
    enabled: bool,
}

impl Drop for Outer {
    fn drop(&mut self) {
        ENABLED.store(self.enabled, Ordering::Relaxed);
        let mut all = spent();
        if !self.enabled {
            all.clear();
        }
        for (name, before) in std::mem::take(&mut self.spent) {
            all.entry(name).or_default().add(before);
        }
    }
}

fn spent() -> MutexGuard<'static, BTreeMap<&'static str, Spent>> {
    SPENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.operations += other.operations;
    }
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
    spent().entry(name).or_default().add(Spent {
        seconds,
        operations,
    });
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_leaves_what_was_counted() {
        // Operators of other tests may be counted too.
        const NAME: &str = "an operator of this test";
        let count = || counted(NAME, 1.0, || ());
        let panics = || {
            let inside = || {
                count();
                panic!("inside")
            };
            std::panic::catch_unwind(|| profile(inside)).is_err()
        };
        assert!(panics());
        assert!(!ENABLED.load(Ordering::Relaxed));
        assert!(!spent().contains_key(NAME));
        let ((), outer) = profile(|| {
            count();
            assert!(panics());
            let ((), inner) = profile(count);
            assert_eq!(inner[NAME].operations, 1.0);
            count();
        });
        // One before, one by either inside, and one after.
        assert_eq!(outer[NAME].operations, 4.0);
        assert!(!ENABLED.load(Ordering::Relaxed));
    }
}
