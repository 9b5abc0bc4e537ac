/// `y[..][o] = bias[o] + sum of weight[o][i] (x[..][i] - zero)`, requantized.
struct Linear<W, S: 'static, R: 'static> {
    weights: W,
    bias: &'static [S],
    zero: S,
    inputs: usize,
    outputs: usize,
    /// Outputs that have one channel's constants.
    pixels: usize,
    then: Requantize<R>,
}

fn linear<X, W, S, R, Y>(l: &Linear<W, S, R>, x: &[X], y: &mut [Y])
where
    X: Copy,
    W: Weights<S>,
    S: Integer + From<X>,
    R: Integer + From<S>,
    Y: Narrow<R>,
{
    let rows = x.chunks_exact(l.inputs).zip(y.chunks_exact_mut(l.outputs));
    for (row, (x, y)) in rows.enumerate() {
        for (o, y) in y.iter_mut().enumerate() {
            let mut sum = of(l.bias, o);
            for (i, &x) in x.iter().enumerate() {
                sum = sum + l.weights.at(o * l.inputs + i) * (S::from(x) - l.zero);
            }
            *y = l.then.apply(R::from(sum), (row * l.outputs + o) / l.pixels);
        }
    }
}
