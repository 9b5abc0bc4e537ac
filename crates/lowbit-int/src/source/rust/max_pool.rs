/// The greatest number of each window, requantized.
struct MaxPool<R: 'static> {
    rows: Axis,
    columns: Axis,
    then: Requantize<R>,
}

fn max_pool<X, R, Y>(p: &MaxPool<R>, x: &[X], y: &mut [Y])
where
    X: Copy + Ord,
    R: Integer + From<X>,
    Y: Narrow<R>,
{
    let planes = x.chunks_exact(p.rows.input * p.columns.input);
    let outputs = y.chunks_exact_mut(p.rows.output * p.columns.output);
    for (channel, (x, y)) in planes.zip(outputs).enumerate() {
        for (row, y) in y.chunks_exact_mut(p.columns.output).enumerate() {
            let rows = p.rows.window(row);
            for (column, y) in y.iter_mut().enumerate() {
                let columns = p.columns.window(column);
                let mut greatest = x[rows.at * p.columns.input + columns.at];
                for i in 0..rows.count {
                    let from = (rows.at + i * p.rows.dilation) * p.columns.input + columns.at;
                    for k in 0..columns.count {
                        greatest = greatest.max(x[from + k * p.columns.dilation]);
                    }
                }
                *y = p.then.apply(R::from(greatest), channel);
            }
        }
    }
}
