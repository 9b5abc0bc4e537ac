/// One dimension of windows over an input.
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    /// From one window to the next; 0 of windows that share the input evenly.
    stride: usize,
    /// Padding before the first element.
    before: usize,
    dilation: usize,
}
