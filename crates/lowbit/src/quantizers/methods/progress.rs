//! How far training has come, for what is quantized otherwise early and late.

use std::cell::Cell;

thread_local! {
    static PROGRESS: Cell<f64> = const { Cell::new(0.0) };
}

/// Says how much of training is done, from 0 to 1, to the quantizers that this thread uses from here
/// on: those whose range becomes smaller on the way. Where nobody says so, it is the beginning.
pub fn set_progress(part: f64) {
    PROGRESS.set(part);
}

/// How much of it is done.
pub(super) fn progress() -> f64 {
    PROGRESS.get()
}
