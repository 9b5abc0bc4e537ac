//! Which threads do the work.
//!
//! A process that was forked has none of its parent's threads but the one that forked, so that work handed to
//! the parent's pool would wait for ever. Work in such a process gets a pool of its own.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Below so many numbers the interpreter waits: handing it to another thread takes as long.
const ALONE: usize = 1 << 12;

/// The process that loaded the module, in which Rayon's own pool works.
static HOME: AtomicU32 = AtomicU32::new(0);

/// How many threads were asked for; 0 for as many as Rayon takes.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// A pool, the process that made it, and how many threads were asked for. The lock is held by threads alone
/// that the interpreter lets run, so that nobody holds it while a process forks.
static POOL: Mutex<Option<(u32, usize, Arc<ThreadPool>)>> = Mutex::new(None);

/// Remembers the process.
pub(crate) fn at_home() {
    HOME.store(std::process::id(), Ordering::Relaxed);
}

/// Does work on so many numbers, other Python threads running meanwhile where it is long. Work that
/// `spreads` may ask for threads however few the numbers are.
pub(crate) fn work<T: Send>(
    py: Python<'_>,
    elements: usize,
    spreads: bool,
    work: impl FnOnce() -> T + Send,
) -> PyResult<T> {
    let long = elements >= ALONE;
    if !long && !spreads {
        return Ok(work());
    }
    Ok(match pool()? {
        Some(pool) => py.detach(|| pool.install(work)),
        None if long => py.detach(work),
        None => work(),
    })
}

/// The pool to be used instead of Rayon's own, if any.
fn pool() -> PyResult<Option<Arc<ThreadPool>>> {
    let (process, asked) = (std::process::id(), ASKED.load(Ordering::Relaxed));
    if asked == 0 && process == HOME.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((maker, size, pool)) = &*pool
        && (*maker, *size) == (process, asked)
    {
        return Ok(Some(Arc::clone(pool)));
    }
    let made = ThreadPoolBuilder::new().num_threads(asked).build();
    let made = Arc::new(made.map_err(|error| PyRuntimeError::new_err(error.to_string()))?);
    if let Some((maker, _, old)) = pool.replace((process, asked, Arc::clone(&made)))
        && maker != process
    {
        // Its threads are another process's.
        std::mem::forget(old);
    }
    Ok(Some(made))
}

/// How many threads round a large array: as many as `set_num_threads` asked for, else those of RAYON_NUM_THREADS,
/// else one a core.
#[pyfunction]
pub(crate) fn get_num_threads() -> usize {
    match ASKED.load(Ordering::Relaxed) {
        0 => rayon::current_num_threads(),
        asked => asked,
    }
}

/// Sets how many threads round a large array. Numbers do not depend on it.
#[pyfunction]
pub(crate) fn set_num_threads(threads: usize) -> PyResult<()> {
    if !(1..=1024).contains(&threads) {
        let message = format!("threads is {threads}, expected 1 to 1024");
        return Err(PyValueError::new_err(message));
    }
    ASKED.store(threads, Ordering::Relaxed);
    Ok(())
}
