fn convolve<X, W, S, R, Y>(c: &Convolution<W, S, R>, x: &[X], y: &mut [Y])
where
    X: Copy,
    W: Weights<S>,
    S: Integer + From<X>,
    R: Integer + From<S>,
    Y: Narrow<R>,
{
    let (height, width) = (c.rows.kernel, c.columns.kernel);
    let mut y = y.iter_mut();
    for channel in 0..c.groups * c.outputs {
        let plane = channel / c.outputs * c.inputs;
        for row in 0..c.rows.output {
            let rows = c.rows.window(row);
            for column in 0..c.columns.output {
                let columns = c.columns.window(column);
                let mut sum = of(c.bias, channel);
                for i in 0..c.inputs {
                    for k in 0..rows.count {
                        let row = (plane + i) * c.rows.input + rows.at + k * c.rows.dilation;
                        let from = row * c.columns.input + columns.at;
                        let kernel = (channel * c.inputs + i) * height + rows.first + k;
                        let weight = kernel * width + columns.first;
                        for k in 0..columns.count {
                            let value = S::from(x[from + k * c.columns.dilation]) - c.zero;
                            sum = sum + c.weights.at(weight + k) * value;
                        }
                    }
                }
                if let Some(y) = y.next() {
                    *y = c.then.apply(R::from(sum), channel);
                }
            }
        }
    }
}
