/// `y[o][..] = bias[o] + sum of weight[o][i][k] (x[g + i][..] - zero)`, requantized.
struct Convolution<W, S: 'static, R: 'static> {
    weights: W,
    bias: &'static [S],
    zero: S,
    rows: Axis,
    columns: Axis,
    /// Channels of the input and of the output in a group.
    inputs: usize,
    outputs: usize,
    groups: usize,
    then: Requantize<R>,
}
