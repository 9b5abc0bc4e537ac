/// What lies before a range of memory, the range, and what lies after it.
fn apart<T>(memory: &mut [T], at: usize, count: usize) -> (&[T], &mut [T], &[T]) {
    let (before, rest) = memory.split_at_mut(at);
    let (range, after) = rest.split_at_mut(count);
    (before, range, after)
}
