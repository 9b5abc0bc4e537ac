/// The element of the input that element `k` of the window of `output` meets.
fn meets(axis: &Axis, output: usize, k: usize) -> Option<usize> {
    let at = (output + axis.before).checked_sub(k * axis.dilation)?;
    let met = at % axis.stride == 0 && at / axis.stride < axis.input;
    met.then_some(at / axis.stride)
}

/// A transposed convolution, with weights `[in, out / groups, kernel..]`.
fn convolve_transposed<X, W, S, R, Y>(c: &Convolution<W, S, R>, x: &[X], y: &mut [Y])
where
    X: Copy,
    W: Weights<S>,
    S: Integer + From<X>,
    R: Integer + From<S>,
    Y: Narrow<R>,
{
    let mut y = y.iter_mut();
    for channel in 0..c.groups * c.outputs {
        let (plane, o) = (channel / c.outputs * c.inputs, channel % c.outputs);
        for row in 0..c.rows.output {
            for column in 0..c.columns.output {
                let mut sum = of(c.bias, channel);
                for i in plane..plane + c.inputs {
                    for ky in 0..c.rows.kernel {
                        let Some(row) = meets(&c.rows, row, ky) else {
                            continue;
                        };
                        let weight = ((i * c.outputs + o) * c.rows.kernel + ky) * c.columns.kernel;
                        for kx in 0..c.columns.kernel {
                            let Some(column) = meets(&c.columns, column, kx) else {
                                continue;
                            };
                            let at = (i * c.rows.input + row) * c.columns.input + column;
                            sum = sum + c.weights.at(weight + kx) * (S::from(x[at]) - c.zero);
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
