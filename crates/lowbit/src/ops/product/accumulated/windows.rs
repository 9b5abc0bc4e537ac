//! A convolution as matrix products: what lies under the kernel, as columns.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

/// The sizes of a convolution. Images are `[channels][height][width]`.
pub(super) struct Geometry {
    pub(super) batch: usize,
    /// Channels in and out, of all groups.
    pub(super) channels: [usize; 2],
    pub(super) groups: usize,
    /// Height and width of the input.
    pub(super) size: [usize; 2],
    /// Height and width of the result.
    pub(super) out: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Zeros before the first row and column.
    padding: [usize; 2],
}

impl Geometry {
    pub(super) fn new(
        [batch, channels_in, height, width]: [usize; 4],
        [channels_out, _, kernel_height, kernel_width]: [usize; 4],
        options: &ConvOptions<2>,
    ) -> Self {
        let (size, kernel) = ([height, width], [kernel_height, kernel_width]);
        let out = [0, 1].map(|d| {
            let (before, after) = options.padding[d];
            let reach = options.dilation[d] * kernel[d].saturating_sub(1) + 1;
            let rest = (size[d] + before + after).checked_sub(reach);
            rest.map_or(0, |rest| rest / options.stride[d] + 1)
        });
        Self {
            batch,
            channels: [channels_in, channels_out],
            groups: options.groups,
            size,
            out,
            kernel,
            stride: options.stride,
            dilation: options.dilation,
            padding: options.padding.map(|(before, _)| before),
        }
    }

    /// The convolution whose input's gradient a transposed one computes: its input is the transposed
    /// one's result.
    pub(super) fn transposed(
        [batch, channels_in, height, width]: [usize; 4],
        [_, group_out, kernel_height, kernel_width]: [usize; 4],
        options: &ConvTransposeOptions<2>,
    ) -> Self {
        let (out, kernel) = ([height, width], [kernel_height, kernel_width]);
        let size = [0, 1].map(|d| {
            let reach = options.dilation[d] * (kernel[d] - 1) + options.padding_out[d] + 1;
            (out[d] - 1) * options.stride[d] + reach - 2 * options.padding[d]
        });
        Self {
            batch,
            channels: [group_out * options.groups, channels_in],
            groups: options.groups,
            size,
            out,
            kernel,
            stride: options.stride,
            dilation: options.dilation,
            padding: options.padding,
        }
    }

    pub(super) fn group_in(&self) -> usize {
        self.channels[0] / self.groups
    }

    pub(super) fn group_out(&self) -> usize {
        self.channels[1] / self.groups
    }

    pub(super) fn kernel_places(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Places of the result.
    pub(super) fn places(&self) -> usize {
        self.out.iter().product()
    }

    /// The images of a batch with so many channels of that size.
    pub(super) fn images<'a>(
        &self,
        batch: &'a [f32],
        channels: usize,
        size: [usize; 2],
    ) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let length = channels * size[0] * size[1];
        let count = self.batch;
        (0..count).map(move |i| &batch[i * length..][..length])
    }

    /// The channels of a group in an image.
    pub(super) fn group<'a>(
        &self,
        image: &'a [f32],
        group: usize,
        channels: usize,
        size: [usize; 2],
    ) -> &'a [f32] {
        let length = channels * size[0] * size[1];
        &image[group * length..][..length]
    }

    /// The weights of a group, `[out][in][kernel]`.
    pub(super) fn group_weight<'a>(&self, weight: &'a [f32], group: usize) -> &'a [f32] {
        let length = self.group_out() * self.group_in() * self.kernel_places();
        &weight[group * length..][..length]
    }

    /// The same as `[in][out][kernel]`.
    pub(super) fn by_channel_in(&self, weight: &[f32]) -> Vec<f32> {
        let kernel = self.kernel_places();
        let rows = (0..self.group_in()).flat_map(|i| {
            (0..self.group_out()).flat_map(move |o| {
                let at = (o * self.group_in() + i) * kernel;
                weight[at..][..kernel].iter().copied()
            })
        });
        rows.collect()
    }

    /// The numbers of the result `[batch][channels][places]` as `[channels][batch][places]`.
    pub(super) fn by_channel(&self, result: &[f32]) -> Vec<f32> {
        let (places, channels) = (self.places(), self.channels[1]);
        let rows = (0..channels).flat_map(|c| {
            (0..self.batch).flat_map(move |n| {
                let at = (n * channels + c) * places;
                result[at..][..places].iter().copied()
            })
        });
        rows.collect()
    }

    /// What a group's kernel covers of an image, `[in][kernel][places of the result]`, with zeros
    /// outside.
    pub(super) fn windows(&self, image: &[f32]) -> Vec<f32> {
        let place = |d: usize, at: usize, k: usize| {
            let place = at * self.stride[d] + k * self.dilation[d];
            place
                .checked_sub(self.padding[d])
                .filter(|&i| i < self.size[d])
        };
        self.gather(image, self.size, self.out, place)
    }

    /// What of a group's result each place of the image had a part in, `[out][kernel][places of the
    /// image]`, with zeros where a kernel's place had none.
    pub(super) fn windows_back(&self, result: &[f32]) -> Vec<f32> {
        let place = |d: usize, at: usize, k: usize| {
            let covered = (at + self.padding[d]).checked_sub(k * self.dilation[d])?;
            let i = covered / self.stride[d];
            (covered % self.stride[d] == 0 && i < self.out[d]).then_some(i)
        };
        self.gather(result, self.out, self.size, place)
    }

    fn gather(
        &self,
        source: &[f32],
        size: [usize; 2],
        places: [usize; 2],
        place: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Vec<f32> {
        let channels = source.chunks_exact(size[0] * size[1]);
        let mut gathered = Vec::with_capacity(channels.len() * self.kernel_places() * places[0]);
        for channel in channels {
            for ky in 0..self.kernel[0] {
                for kx in 0..self.kernel[1] {
                    for y in 0..places[0] {
                        let row = place(0, y, ky).map(|row| &channel[row * size[1]..]);
                        gathered.extend((0..places[1]).map(|x| {
                            let column = place(1, x, kx);
                            row.zip(column).map_or(0.0, |(row, column)| row[column])
                        }));
                    }
                }
            }
        }
        gathered
    }
}
