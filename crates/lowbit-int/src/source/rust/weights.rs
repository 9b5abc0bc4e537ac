/// Weights that are read one by one.
trait Weights<S> {
    fn at(&self, index: usize) -> S;
}

impl<T: Copy, S: From<T>> Weights<S> for &[T] {
    fn at(&self, index: usize) -> S {
        S::from(self[index])
    }
}
