/// Rows of `length` numbers put into rows of `step` numbers, from the number `at` on.
fn place<X, R, Y>(then: &Requantize<R>, [length, step, at]: [usize; 3], x: &[X], y: &mut [Y])
where
    X: Copy,
    R: Integer + From<X>,
    Y: Narrow<R>,
{
    for (x, y) in x.chunks_exact(length).zip(y.chunks_exact_mut(step)) {
        for (&x, y) in x.iter().zip(&mut y[at..]) {
            *y = then.apply(R::from(x), 0);
        }
    }
}
