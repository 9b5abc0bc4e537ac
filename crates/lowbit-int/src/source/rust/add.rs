/// `y = m[0] (a - zero[0]) + m[1] (b - zero[1])`, requantized.
struct Sum<S, R: 'static> {
    multipliers: [S; 2],
    zeros: [S; 2],
    /// Elements that have one channel's constants.
    pixels: usize,
    then: Requantize<R>,
}

fn add<A, B, S, R, Y>(s: &Sum<S, R>, a: &[A], b: &[B], y: &mut [Y])
where
    A: Copy,
    B: Copy,
    S: Integer + From<A> + From<B>,
    R: Integer + From<S>,
    Y: Narrow<R>,
{
    let [m, n] = s.multipliers;
    for (element, ((&a, &b), y)) in a.iter().zip(b).zip(y).enumerate() {
        let sum = m * (S::from(a) - s.zeros[0]) + n * (S::from(b) - s.zeros[1]);
        *y = s.then.apply(R::from(sum), element / s.pixels);
    }
}
