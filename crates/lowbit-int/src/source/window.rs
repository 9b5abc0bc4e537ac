//! Windows over one dimension, as generated code has them.

use crate::ops::{Windows, greatest_common_divisor};

/// The longest side that windows may share without a common size: products of two sides have 32 bits.
const LONGEST: usize = 65_535;

/// One dimension of windows over an input. A stride of 0 stands for windows that share the input:
/// window `o` has the elements from `floor(o input / output)` to `ceil((o + 1) input / output)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) before: usize,
    pub(crate) dilation: usize,
}

impl Axis {
    /// Windows that share the input; where they have one size, windows that move by it.
    fn shared(input: usize, output: usize) -> Result<Self, String> {
        let even = input.is_multiple_of(output);
        if !even && input > LONGEST {
            return Err(format!(
                "a side of {input} in {output} windows, expected at most {LONGEST}"
            ));
        }
        let size = if even { input / output } else { 0 };
        Ok(Self {
            input,
            output,
            kernel: size,
            stride: size,
            before: 0,
            dilation: 1,
        })
    }

    /// How many elements of the input a window has.
    fn count(&self, output: usize) -> u64 {
        if self.stride == 0 {
            let end = ((output + 1) * self.input).div_ceil(self.output);
            return (end - output * self.input / self.output) as u64;
        }
        let inside = |k: &usize| {
            let at = output * self.stride + k * self.dilation;
            at >= self.before && at - self.before < self.input
        };
        (0..self.kernel).filter(inside).count() as u64
    }
}

/// The windows of a pool over `[channels, sizes..]`.
pub(crate) fn of_pool(windows: &Windows, image: &[usize]) -> Result<[Axis; 2], String> {
    let sizes = &image[1..];
    match windows {
        Windows::Sliding { kernel, sliding } => {
            let axes = sliding.axes(sizes, kernel)?;
            Ok(axes.map(|axis| Axis {
                input: axis.input,
                output: axis.output,
                kernel: axis.kernel,
                stride: axis.stride,
                before: axis.before,
                dilation: axis.dilation,
            }))
        }
        Windows::Adaptive { output } => {
            let mut axes = [Axis::shared(1, 1)?; 2];
            for (d, axis) in axes[2 - sizes.len()..].iter_mut().enumerate() {
                *axis = Axis::shared(sizes[d], output[d])?;
            }
            Ok(axes)
        }
    }
}

/// The least common multiple of the sizes of all windows, or 0 where all are of one size or padding
/// counts.
pub(crate) fn common(axes: &[Axis; 2], include_padding: bool) -> u64 {
    let counts = |axis: &Axis| -> Vec<u64> { (0..axis.output).map(|o| axis.count(o)).collect() };
    let counts = axes.each_ref().map(counts);
    let alike = |counts: &Vec<u64>| counts.iter().all(|&n| n == counts[0]);
    if include_padding || counts.iter().all(alike) {
        return 0;
    }
    let multiple = |counts: &Vec<u64>| {
        let counts = counts.iter();
        counts.fold(1, |m, &n| m / greatest_common_divisor(m, n) * n)
    };
    counts.iter().map(multiple).product()
}
