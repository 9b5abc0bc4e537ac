/// `y = (a - zero[0]) (b - zero[1])`, requantized. `b` is repeated where its shape has a 1.
struct Product<S, R: 'static> {
    zeros: [S; 2],
    /// The dimensions of `a` and of `b`.
    shape: &'static [[usize; 2]],
    /// Elements that have one channel's constants.
    pixels: usize,
    then: Requantize<R>,
}

fn mul<A, B, S, R, Y>(p: &Product<S, R>, a: &[A], b: &[B], y: &mut [Y])
where
    A: Copy,
    B: Copy,
    S: Integer + From<A> + From<B>,
    R: Integer + From<S>,
    Y: Narrow<R>,
{
    for (element, (&a, y)) in a.iter().zip(y).enumerate() {
        let (mut rest, mut at, mut step) = (element, 0, 1);
        for [size, other] in p.shape.iter().rev() {
            if *other > 1 {
                at += rest % size * step;
            }
            rest /= size;
            step *= other;
        }
        let product = (S::from(a) - p.zeros[0]) * (S::from(b[at]) - p.zeros[1]);
        *y = p.then.apply(R::from(product), element / p.pixels);
    }
}
