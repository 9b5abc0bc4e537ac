/// The sum of `x - zero` over each window, requantized. Where windows differ in size, each sum is
/// multiplied with `common` divided by the elements of its window; else `common` is 0.
struct AveragePool<S, R: 'static> {
    zero: S,
    rows: Axis,
    columns: Axis,
    common: i32,
    then: Requantize<R>,
}

fn average_pool<X, S, R, Y>(p: &AveragePool<S, R>, x: &[X], y: &mut [Y])
where
    X: Copy,
    S: Integer + From<X>,
    R: Integer + From<S>,
    Y: Narrow<R>,
{
    let planes = x.chunks_exact(p.rows.input * p.columns.input);
    let outputs = y.chunks_exact_mut(p.rows.output * p.columns.output);
    for (channel, (x, y)) in planes.zip(outputs).enumerate() {
        for (row, y) in y.chunks_exact_mut(p.columns.output).enumerate() {
            let rows = p.rows.window(row);
            for (column, y) in y.iter_mut().enumerate() {
                let columns = p.columns.window(column);
                let mut sum = S::from(0);
                for i in 0..rows.count {
                    let from = (rows.at + i * p.rows.dilation) * p.columns.input + columns.at;
                    for k in 0..columns.count {
                        sum = sum + (S::from(x[from + k * p.columns.dilation]) - p.zero);
                    }
                }
                if p.common > 0 {
                    let count = (rows.count * columns.count) as i32;
                    sum = sum * S::from(p.common / count);
                }
                *y = p.then.apply(R::from(sum), channel);
            }
        }
    }
}
