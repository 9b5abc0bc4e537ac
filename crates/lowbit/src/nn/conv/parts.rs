//! What all convolutions have in common: checks, description, sums, options and display.

use burn::module::Content;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use crate::Error;
use crate::config::Description;
use crate::nn::window::{Window, at_least_one};
use crate::quantizers::{Channels, Sums};

/// A convolution over `D` dimensions, or a layer of its shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvParts<const D: usize> {
    /// Channels in and out.
    pub(super) channels: [usize; 2],
    pub(super) groups: usize,
    pub(super) window: Window<D>,
}

impl<const D: usize> ConvParts<D> {
    /// Whether all sizes are one at least, and the groups divide the channels.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_channels(self.channels, self.groups)?;
        self.window.check("stride")
    }

    /// The layer of that name, whose weight is `[channels_out, channels_in / groups, ...]`.
    pub(super) fn describe(&self, name: &'static str, bias: bool) -> Description {
        let weight = Channels {
            axis: 0,
            count: self.channels[1],
        };
        Description::summing(name, weight, self.sums(), bias)
    }

    /// The sums of products that it computes.
    pub(crate) fn sums(&self) -> Sums {
        let [channels_in, _] = self.channels;
        let group = channels_in.checked_div(self.groups).unwrap_or(0);
        Sums::new(group * self.window.kernel_size.iter().product::<usize>(), 1)
    }

    /// What the operator needs for an input of that size.
    ///
    /// # Panics
    /// If the kernel does not fit the padded input.
    pub(crate) fn options(&self, size: [usize; D]) -> ConvOptions<D> {
        let window = &self.window;
        let padding = window.padding(size);
        ConvOptions::new_with_padding(window.stride, padding, window.dilation, self.groups)
    }

    /// What a person wants to see of it.
    pub(super) fn content(&self, content: Content, padding: &impl std::fmt::Debug) -> Content {
        let [channels_in, channels_out] = self.channels;
        let content = content
            .add("ch_in", &channels_in)
            .add("ch_out", &channels_out);
        let content = with_sizes(content, "kernel_size", &self.window.kernel_size);
        with_sizes(content, "stride", &self.window.stride)
            .add("groups", &self.groups)
            .add_debug_attribute("padding", padding)
    }
}

/// A transposed convolution over `D` dimensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransposedParts<const D: usize> {
    /// Channels in and out.
    pub(super) channels: [usize; 2],
    pub(super) groups: usize,
    pub(super) kernel_size: [usize; D],
    pub(super) stride: [usize; D],
    pub(super) dilation: [usize; D],
    pub(super) padding: [usize; D],
    pub(super) padding_out: [usize; D],
}

impl<const D: usize> TransposedParts<D> {
    /// Whether all sizes are one at least, and the groups divide the channels.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_channels(self.channels, self.groups)?;
        at_least_one("kernel_size", &self.kernel_size)?;
        at_least_one("stride", &self.stride)?;
        at_least_one("dilation", &self.dilation)
    }

    /// The layer of that name, whose weight is `[channels_in, channels_out / groups, ...]`.
    pub(super) fn describe(&self, name: &'static str, bias: bool) -> Description {
        let weight = Channels {
            axis: 1,
            count: self.channels[1].checked_div(self.groups).unwrap_or(0),
        };
        Description::summing(name, weight, self.sums(), bias)
    }

    /// The sums of products that it computes.
    pub(super) fn sums(&self) -> Sums {
        let group = self.channels[0].checked_div(self.groups).unwrap_or(0);
        Sums {
            groups: self.groups,
            ..Sums::new(group * self.kernel_size.iter().product::<usize>(), 1)
        }
    }

    /// What the operator needs for an input of that size.
    ///
    /// # Panics
    /// If the padding cuts off the whole output.
    pub(super) fn options(&self, size: [usize; D]) -> ConvTransposeOptions<D> {
        for (i, size) in size.into_iter().enumerate() {
            let reach = (self.kernel_size[i] - 1) * self.dilation[i] + 1;
            let whole = size.saturating_sub(1) * self.stride[i] + reach + self.padding_out[i];
            let padding = self.padding[i];
            assert!(
                whole > 2 * padding,
                "a padding of {padding} cuts off all of an output of {whole}"
            );
        }
        ConvTransposeOptions::new(
            self.stride,
            self.padding,
            self.padding_out,
            self.dilation,
            self.groups,
        )
    }

    /// What a person wants to see of it.
    pub(super) fn content(&self, content: Content) -> Content {
        let [channels_in, channels_out] = self.channels;
        let content = content
            .add("ch_in", &channels_in)
            .add("ch_out", &channels_out);
        let content = with_sizes(content, "kernel_size", &self.kernel_size);
        let content = with_sizes(content, "stride", &self.stride).add("groups", &self.groups);
        let content = with_sizes(content, "padding", &self.padding);
        with_sizes(content, "padding_out", &self.padding_out)
    }
}

/// Whether there are channels, and the groups divide them.
fn check_channels(channels: [usize; 2], groups: usize) -> Result<(), Error> {
    at_least_one("channels", &channels)?;
    at_least_one("groups", &[groups])?;
    let [channels_in, channels_out] = channels;
    if channels.iter().all(|n| n.is_multiple_of(groups)) {
        return Ok(());
    }
    let message = format!(
        "is {groups}, expected a divisor of both {channels_in} channels in and {channels_out} out"
    );
    Err(Error::config("groups", message))
}

/// One size as a number, several as a list.
fn with_sizes(content: Content, name: &str, sizes: &[usize]) -> Content {
    match sizes {
        [size] => content.add(name, size),
        sizes => content.add_debug_attribute(name, &sizes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::window::Padding;

    const PARTS: ConvParts<2> = ConvParts {
        channels: [4, 6],
        groups: 2,
        window: Window {
            kernel_size: [3, 2],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::Explicit([(0, 0); 2]),
        },
    };

    #[test]
    fn a_sum_adds_up_one_groups_channels_under_the_kernel() {
        // 4 / 2 channels, 3 * 2 places.
        assert_eq!(PARTS.sums(), Sums::new(12, 1));
        let slots = "input weight bias accumulator output error gradient";
        assert_eq!(PARTS.describe("Conv2d", true).slots.join(" "), slots);
    }

    #[test]
    fn groups_that_do_not_divide_are_refused() {
        let refused = |groups| {
            let parts = ConvParts { groups, ..PARTS };
            parts.check().unwrap_err().to_string()
        };
        assert_eq!(
            refused(3),
            "groups: is 3, expected a divisor of both 4 channels in and 6 out"
        );
        assert_eq!(refused(0), "groups: is 0, expected at least 1");
        assert!(PARTS.check().is_ok());
    }
}
