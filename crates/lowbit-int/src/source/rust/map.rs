/// Each number requantized; `pixels` of them have one channel's constants.
fn map<X, R, Y>(then: &Requantize<R>, pixels: usize, x: &[X], y: &mut [Y])
where
    X: Copy,
    R: Integer + From<X>,
    Y: Narrow<R>,
{
    for (element, (&x, y)) in x.iter().zip(y).enumerate() {
        *y = then.apply(R::from(x), element / pixels);
    }
}
