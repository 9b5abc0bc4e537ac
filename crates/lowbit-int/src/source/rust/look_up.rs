/// `y = table[x - least]`, requantized.
struct LookUp<T: 'static, S, R: 'static> {
    table: &'static [T],
    least: S,
    /// Elements that have one channel's constants.
    pixels: usize,
    then: Requantize<R>,
}

fn look_up<X, T, S, R, Y>(l: &LookUp<T, S, R>, x: &[X], y: &mut [Y])
where
    X: Copy,
    T: Copy,
    S: Index + From<X>,
    R: Integer + From<T>,
    Y: Narrow<R>,
{
    for (element, (&x, y)) in x.iter().zip(y).enumerate() {
        let value = l.table[(S::from(x) - l.least).index()];
        *y = l.then.apply(R::from(value), element / l.pixels);
    }
}
