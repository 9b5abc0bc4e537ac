/// `y[t] = table[x[t] - least]`, rows of `features` numbers, requantized.
struct Embedding<T: 'static, S, R: 'static> {
    table: &'static [T],
    least: S,
    features: usize,
    then: Requantize<R>,
}

fn embedding<X, T, S, R, Y>(e: &Embedding<T, S, R>, x: &[X], y: &mut [Y])
where
    X: Copy,
    T: Copy,
    S: Index + From<X>,
    R: Integer + From<T>,
    Y: Narrow<R>,
{
    for (t, (&x, y)) in x.iter().zip(y.chunks_exact_mut(e.features)).enumerate() {
        let row = (S::from(x) - e.least).index() * e.features;
        for (&value, y) in e.table[row..].iter().zip(y) {
            *y = e.then.apply(R::from(value), t);
        }
    }
}
