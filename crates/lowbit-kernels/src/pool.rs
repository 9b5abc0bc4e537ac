//! Pooling of images stored channels last, `[batch][height][width][channels]`. Each thread takes
//! whole images.
//!
//! Windows are lists of rows and of columns, made once: sliding and adaptive windows, padding and
//! dilation are then the same loop, and its inside runs over the channels of a pixel.

use rayon::prelude::*;

use crate::vector::{Kernel, dispatch};

/// The pixels of the input under each pixel of the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Height, width and channels of the input.
    input: [usize; 3],
    /// For each row of the output, rows of the input; then the same of columns.
    under: [Vec<Vec<usize>>; 2],
    /// What an average divides by; the number of pixels unless given.
    divisor: Option<f32>,
}

impl Windows {
    /// Windows of `size`, `stride` apart, over an input with `padding` on all sides.
    pub fn sliding(
        input: [usize; 3],
        size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> Self {
        let under = [0, 1].map(|d| {
            let reach = dilation[d] * (size[d] - 1) + 1;
            let count = (input[d] + 2 * padding[d])
                .checked_sub(reach)
                .map_or(0, |rest| rest / stride[d] + 1);
            (0..count)
                .map(|o| {
                    (0..size[d])
                        .filter_map(|k| (o * stride[d] + k * dilation[d]).checked_sub(padding[d]))
                        .filter(|&i| i < input[d])
                        .collect()
                })
                .collect()
        });
        Self {
            input,
            under,
            divisor: None,
        }
    }

    /// An average over sliding windows divides by `divisor` wherever they lie.
    pub fn divided_by(self, divisor: usize) -> Self {
        Self {
            divisor: Some(divisor as f32),
            ..self
        }
    }

    /// Windows that cut the input into `output` rows and columns, which may overlap by one pixel.
    pub fn adaptive(input: [usize; 3], output: [usize; 2]) -> Self {
        let under = [0, 1].map(|d| {
            (0..output[d])
                .map(|o| {
                    (o * input[d] / output[d]..((o + 1) * input[d]).div_ceil(output[d])).collect()
                })
                .collect()
        });
        Self {
            input,
            under,
            divisor: None,
        }
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        [self.under[0].len(), self.under[1].len()]
    }

    fn input_image(&self) -> usize {
        self.input.iter().product()
    }

    fn output_image(&self) -> usize {
        self.under[0].len() * self.under[1].len() * self.input[2]
    }

    /// For each pixel of the output, in order: what its average divides by, and where the pixels
    /// under it start.
    #[inline(always)]
    fn each(&self, mut f: impl FnMut(usize, f32, &mut dyn Iterator<Item = usize>)) {
        let [_, width, channels] = self.input;
        let mut pixel = 0;
        for rows in &self.under[0] {
            for columns in &self.under[1] {
                let count = (rows.len() * columns.len()) as f32;
                let mut under = rows.iter().flat_map(|row| {
                    columns
                        .iter()
                        .map(move |column| (row * width + column) * channels)
                });
                f(pixel * channels, self.divisor.unwrap_or(count), &mut under);
                pixel += 1;
            }
        }
    }
}

/// The greatest number under each window. NaN is greater than any number.
pub fn max(x: &[f32], windows: &Windows, output: &mut [f32]) {
    struct Max<'a>(&'a [f32], &'a Windows, &'a mut [f32]);
    impl Kernel for Max<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(x, windows, output) = self;
            let channels = windows.input[2];
            windows.each(|pixel, _, under| {
                let output = &mut output[pixel..pixel + channels];
                output.fill(f32::NEG_INFINITY);
                for start in under {
                    for (y, &x) in output.iter_mut().zip(&x[start..start + channels]) {
                        *y = if is_greater(x, *y) { x } else { *y };
                    }
                }
            });
        }
    }
    each_image(x, windows, output, |x, output| {
        dispatch(Max(x, windows, output))
    });
}

/// Whether `x` takes the place of `best`.
#[inline(always)]
fn is_greater(x: f32, best: f32) -> bool {
    x > best || (x.is_nan() && !best.is_nan())
}

/// The gradient of [`max`], given that of its output: to the first of the greatest numbers.
pub fn max_backward(x: &[f32], grad: &[f32], windows: &Windows, output: &mut [f32]) {
    let channels = windows.input[2];
    output
        .par_chunks_mut(windows.input_image().max(1))
        .zip(x.par_chunks(windows.input_image().max(1)))
        .zip(grad.par_chunks(windows.output_image().max(1)))
        .for_each(|((output, x), grad)| {
            output.fill(0.0);
            let mut best = vec![f32::NEG_INFINITY; channels];
            let mut place = vec![usize::MAX; channels];
            windows.each(|pixel, _, under| {
                best.fill(f32::NEG_INFINITY);
                place.fill(usize::MAX);
                for start in under {
                    let x = &x[start..start + channels];
                    for ((best, place), (channel, &x)) in
                        best.iter_mut().zip(&mut place).zip(x.iter().enumerate())
                    {
                        if is_greater(x, *best) || *place == usize::MAX {
                            (*best, *place) = (x, start + channel);
                        }
                    }
                }
                for (&place, &grad) in place.iter().zip(&grad[pixel..pixel + channels]) {
                    if place != usize::MAX {
                        output[place] += grad;
                    }
                }
            });
        });
}

/// The mean under each window.
pub fn average(x: &[f32], windows: &Windows, output: &mut [f32]) {
    struct Average<'a>(&'a [f32], &'a Windows, &'a mut [f32]);
    impl Kernel for Average<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(x, windows, output) = self;
            let channels = windows.input[2];
            windows.each(|pixel, divisor, under| {
                let output = &mut output[pixel..pixel + channels];
                output.fill(0.0);
                for start in under {
                    for (y, x) in output.iter_mut().zip(&x[start..start + channels]) {
                        *y += x;
                    }
                }
                for y in output {
                    *y /= divisor;
                }
            });
        }
    }
    each_image(x, windows, output, |x, output| {
        dispatch(Average(x, windows, output))
    });
}

/// The gradient of [`average`], given that of its output.
pub fn average_backward(grad: &[f32], windows: &Windows, output: &mut [f32]) {
    struct Backward<'a>(&'a [f32], &'a Windows, &'a mut [f32]);
    impl Kernel for Backward<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(grad, windows, output) = self;
            output.fill(0.0);
            let channels = windows.input[2];
            windows.each(|pixel, divisor, under| {
                let grad = &grad[pixel..pixel + channels];
                for start in under {
                    for (y, g) in output[start..start + channels].iter_mut().zip(grad) {
                        *y += g / divisor;
                    }
                }
            });
        }
    }
    output
        .par_chunks_mut(windows.input_image().max(1))
        .zip(grad.par_chunks(windows.output_image().max(1)))
        .for_each(|(output, grad)| dispatch(Backward(grad, windows, output)));
}

fn each_image(
    x: &[f32],
    windows: &Windows,
    output: &mut [f32],
    f: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    output
        .par_chunks_mut(windows.output_image().max(1))
        .zip(x.par_chunks(windows.input_image().max(1)))
        .for_each(|(output, x)| f(x, output));
}
