/// The part of a window that lies in the input.
struct Window {
    /// Its first element, counted within the window: for convolutions.
    #[allow(dead_code)]
    first: usize,
    count: usize,
    /// The first element, counted in the input.
    at: usize,
}

impl Axis {
    fn window(&self, output: usize) -> Window {
        if self.stride == 0 {
            let at = output * self.input / self.output;
            let end = ((output + 1) * self.input).div_ceil(self.output);
            return Window {
                first: 0,
                count: end - at,
                at,
            };
        }
        let start = output * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let inside = (self.input + self.before).saturating_sub(start);
        let end = inside.div_ceil(self.dilation).min(self.kernel);
        let at = start + first * self.dilation - self.before;
        Window {
            first,
            count: end.saturating_sub(first),
            at,
        }
    }
}
