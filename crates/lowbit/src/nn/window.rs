//! Windows that slide over an input: what convolutions and pooling have in common.

use burn::nn::{PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};

use crate::Error;

/// Zeros around an input of `D` dimensions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Padding<const D: usize> {
    /// As many as give an output of `ceil(size / stride)`; of an odd number the odd one goes to the
    /// end, as in ONNX (`SAME_UPPER`) and in Burn.
    Same,
    /// As many as that at the start and at the end.
    Explicit([(usize, usize); D]),
}

impl From<&PaddingConfig1d> for Padding<1> {
    fn from(padding: &PaddingConfig1d) -> Self {
        match *padding {
            PaddingConfig1d::Valid => Self::Explicit([(0, 0)]),
            PaddingConfig1d::Explicit(left, right) => Self::Explicit([(left, right)]),
            PaddingConfig1d::Same => Self::Same,
        }
    }
}

impl From<&PaddingConfig2d> for Padding<2> {
    fn from(padding: &PaddingConfig2d) -> Self {
        match *padding {
            PaddingConfig2d::Valid => Self::Explicit([(0, 0); 2]),
            PaddingConfig2d::Explicit(top, left, bottom, right) => {
                Self::Explicit([(top, bottom), (left, right)])
            }
            PaddingConfig2d::Same => Self::Same,
        }
    }
}

impl From<&PaddingConfig3d> for Padding<3> {
    fn from(padding: &PaddingConfig3d) -> Self {
        match *padding {
            PaddingConfig3d::Valid => Self::Explicit([(0, 0); 3]),
            PaddingConfig3d::Explicit(depth, height, width) => {
                Self::Explicit([depth, height, width].map(|n| (n, n)))
            }
            PaddingConfig3d::Same => Self::Same,
        }
    }
}

/// A window and how it slides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<const D: usize> {
    pub(super) kernel_size: [usize; D],
    pub(super) stride: [usize; D],
    pub(super) dilation: [usize; D],
    pub(super) padding: Padding<D>,
}

impl<const D: usize> Window<D> {
    /// Whether it has a size and moves. `stride` is the name of that field.
    pub(super) fn check(&self, stride: &str) -> Result<(), Error> {
        at_least_one("kernel_size", &self.kernel_size)?;
        at_least_one(stride, &self.stride)?;
        at_least_one("dilation", &self.dilation)
    }

    /// The same for pooling, where no window may lie wholly in the padding: what is the greatest of
    /// no number?
    pub(super) fn check_pooling(&self, stride: &str) -> Result<(), Error> {
        self.check(stride)?;
        let Padding::Explicit(padding) = self.padding else {
            return Ok(());
        };
        for (i, (start, end)) in padding.into_iter().enumerate() {
            let (widest, reach) = (start.max(end), self.reach(i));
            if widest >= reach {
                let message =
                    format!("is {widest}, expected less than the window's reach, {reach}");
                return Err(Error::config("padding", message));
            }
        }
        Ok(())
    }

    /// What the window covers in a dimension, gaps included.
    fn reach(&self, i: usize) -> usize {
        (self.kernel_size[i] - 1) * self.dilation[i] + 1
    }

    /// Padding at the `(start, end)` of each dimension of an input of that size.
    ///
    /// # Panics
    /// If the window does not fit the padded input.
    pub(super) fn padding(&self, size: [usize; D]) -> [(usize, usize); D] {
        let padding = self.unchecked(size);
        for (i, (start, end)) in padding.into_iter().enumerate() {
            self.check_fit(i, start + size[i] + end);
        }
        padding
    }

    /// The same for pooling, where `ceil_mode` lets a window reach over the end by less than the
    /// stride.
    ///
    /// # Panics
    /// If the window does not fit the padded input, or one lies wholly in the padding.
    pub(super) fn pooling_padding(&self, size: [usize; D], ceil_mode: bool) -> [(usize, usize); D] {
        let padding = self.unchecked(size);
        for (i, (start, end)) in padding.into_iter().enumerate() {
            let (size, stride) = (size[i], self.stride[i]);
            let room = start + size + end + if ceil_mode { stride - 1 } else { 0 };
            self.check_fit(i, room);
            let windows = (room - self.reach(i)) / stride + 1;
            let places = |window: usize| {
                (0..self.kernel_size[i]).map(move |k| window * stride + k * self.dilation[i])
            };
            // In that mode, a window that starts behind the input is none.
            let exists = |window: &usize| !ceil_mode || window * stride < start + size;
            let sees = |window| places(window).any(|at| (start..start + size).contains(&at));
            assert!(
                (0..windows).filter(exists).all(sees),
                "a window of {} lies wholly in the padding {start}, {end} of an input of {size}",
                self.reach(i)
            );
        }
        padding
    }

    fn check_fit(&self, i: usize, room: usize) {
        let reach = self.reach(i);
        assert!(
            reach <= room,
            "a kernel that reaches over {reach} does not fit an input of {room}"
        );
    }

    fn unchecked(&self, size: [usize; D]) -> [(usize, usize); D] {
        match self.padding {
            Padding::Explicit(padding) => padding,
            Padding::Same => std::array::from_fn(|i| {
                let steps = size[i].div_ceil(self.stride[i]).max(1) - 1;
                let covered = steps * self.stride[i] + self.reach(i);
                let total = covered.saturating_sub(size[i]);
                (total / 2, total - total / 2)
            }),
        }
    }
}

/// Whether every size is one at least.
pub(super) fn at_least_one(field: &str, sizes: &[usize]) -> Result<(), Error> {
    match sizes {
        sizes if !sizes.contains(&0) => Ok(()),
        [size] => Err(Error::config(
            field,
            format!("is {size}, expected at least 1"),
        )),
        sizes => Err(Error::config(
            field,
            format!("is {sizes:?}, expected at least 1 each"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(kernel: usize, stride: usize, dilation: usize) -> Window<1> {
        Window {
            kernel_size: [kernel],
            stride: [stride],
            dilation: [dilation],
            padding: Padding::Same,
        }
    }

    /// ONNX's formula for `SAME_UPPER`, and the sizes that its outputs then have: with `p` zeros in
    /// all, `floor((size + p - (kernel - 1) dilation - 1) / stride) + 1`.
    #[test]
    fn same_gives_the_size_over_the_stride_whatever_the_dilation() {
        // Three taps two apart reach over 5: two zeros on either side of 7.
        assert_eq!(same(3, 1, 2).padding([7]), [(2, 2)]);
        // Two taps: the one zero goes to the end.
        assert_eq!(same(2, 1, 1).padding([7]), [(0, 1)]);
        for kernel in 1..5 {
            for stride in 1..4 {
                for dilation in 1..4 {
                    for size in 1..12 {
                        let [(start, end)] = same(kernel, stride, dilation).padding([size]);
                        assert!(end == start || end == start + 1);
                        let reach = (kernel - 1) * dilation + 1;
                        let output = (start + size + end - reach) / stride + 1;
                        assert_eq!(output, size.div_ceil(stride));
                    }
                }
            }
        }
    }

    fn pooling(kernel: usize, stride: usize, dilation: usize, pad: (usize, usize)) -> Window<1> {
        Window {
            padding: Padding::Explicit([pad]),
            ..same(kernel, stride, dilation)
        }
    }

    #[test]
    fn a_window_wholly_in_the_padding_is_refused() {
        let refused = pooling(2, 1, 1, (0, 2)).check_pooling("stride");
        assert_eq!(
            refused.unwrap_err().to_string(),
            "padding: is 2, expected less than the window's reach, 2"
        );
        assert!(pooling(2, 1, 1, (1, 1)).check_pooling("stride").is_ok());
    }

    /// Taps at -1 and 1 see nothing of an input of one number.
    #[test]
    #[should_panic(expected = "a window of 3 lies wholly in the padding 1, 1 of an input of 1")]
    fn taps_on_either_side_of_the_input_are_refused() {
        pooling(2, 1, 2, (1, 1)).pooling_padding([1], false);
    }

    /// PyTorch's `max_pool1d` of five numbers with kernel 2, stride 2 and `ceil_mode` has three
    /// windows, and with kernel 1, stride 3, two: a third would start behind the input.
    #[test]
    fn windows_behind_the_end_are_none() {
        assert_eq!(
            pooling(2, 2, 1, (0, 0)).pooling_padding([5], true),
            [(0, 0)]
        );
        assert_eq!(
            pooling(1, 3, 1, (0, 0)).pooling_padding([5], true),
            [(0, 0)]
        );
    }

    #[test]
    fn sizes_of_nothing_are_refused() {
        let refused = |window: Window<1>| window.check("strides").unwrap_err().to_string();
        assert_eq!(
            refused(same(0, 1, 1)),
            "kernel_size: is 0, expected at least 1"
        );
        assert_eq!(refused(same(1, 0, 1)), "strides: is 0, expected at least 1");
        assert_eq!(
            at_least_one("dilation", &[1, 0]).unwrap_err().to_string(),
            "dilation: is [1, 0], expected at least 1 each"
        );
    }
}
