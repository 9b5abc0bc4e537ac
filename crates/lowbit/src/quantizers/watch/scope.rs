//! What a thread watches, for as long as something runs.

use std::cell::RefCell;
use std::thread::LocalKey;

/// What a thread's state was before; put back when this is dropped.
struct Outer<T: Default + 'static> {
    state: &'static LocalKey<RefCell<T>>,
    before: T,
}

impl<T: Default> Drop for Outer<T> {
    fn drop(&mut self) {
        self.state.set(std::mem::take(&mut self.before));
    }
}

/// Runs `body` while `state` starts as `meanwhile`, and returns what it has become. The state is
/// then what it was before, also where `body` panics.
pub(super) fn within<T: Default>(
    state: &'static LocalKey<RefCell<T>>,
    meanwhile: T,
    body: impl FnOnce(),
) -> T {
    let _outer = Outer {
        state,
        before: state.replace(meanwhile),
    };
    body();
    state.take()
}
