//! Slices cut for threads.

/// The parts of `all`, each of `size` numbers but the last; where there is nothing to cut, nothing
/// `count` times, so that both go through the same parallel loop.
pub(crate) fn parts(all: Option<&mut [f32]>, size: usize, count: usize) -> Vec<Option<&mut [f32]>> {
    match all {
        Some(all) => all.chunks_mut(size).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}
