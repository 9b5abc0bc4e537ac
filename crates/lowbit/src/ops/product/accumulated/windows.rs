//! A convolution as matrix products: what lies under the kernel, as columns.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

/// Dimensions of an image; missing ones have one place.
pub(super) const SPACE: usize = 3;

/// Options of so many dimensions for images whose first dimensions have one place.
pub(super) fn in_space<const N: usize>(options: ConvOptions<N>) -> ConvOptions<SPACE> {
    let ConvOptions {
        stride,
        padding,
        dilation,
        groups,
    } = options;
    ConvOptions {
        stride: last(stride, 1),
        padding: last(padding, (0, 0)),
        dilation: last(dilation, 1),
        groups,
    }
}

/// The same of a transposed convolution.
pub(super) fn transposed_in_space<const N: usize>(
    options: ConvTransposeOptions<N>,
) -> ConvTransposeOptions<SPACE> {
    let ConvTransposeOptions {
        stride,
        padding,
        padding_out,
        dilation,
        groups,
    } = options;
    ConvTransposeOptions {
        stride: last(stride, 1),
        padding: last(padding, 0),
        padding_out: last(padding_out, 0),
        dilation: last(dilation, 1),
        groups,
    }
}

/// The sizes of an image or a kernel, the third and further ones of a tensor.
fn space(shape: &[usize]) -> [usize; SPACE] {
    let missing = SPACE + 2 - shape.len();
    std::array::from_fn(|d| d.checked_sub(missing).map_or(1, |d| shape[2 + d]))
}

/// The values of the last dimensions, and before them `missing`.
fn last<T: Copy, const N: usize>(values: [T; N], missing: T) -> [T; SPACE] {
    std::array::from_fn(|d| d.checked_sub(SPACE - N).map_or(missing, |d| values[d]))
}

/// The sizes of a convolution. Images are `[channels][depth][height][width]`.
pub(super) struct Geometry {
    pub(super) batch: usize,
    /// Channels in and out, of all groups.
    pub(super) channels: [usize; 2],
    pub(super) groups: usize,
    /// Depth, height and width of the input.
    pub(super) size: [usize; SPACE],
    /// Depth, height and width of the result.
    pub(super) out: [usize; SPACE],
    kernel: [usize; SPACE],
    stride: [usize; SPACE],
    dilation: [usize; SPACE],
    /// Zeros before the first place.
    padding: [usize; SPACE],
}

impl Geometry {
    /// Of tensors of these shapes, with one to three dimensions after batch and channels.
    pub(super) fn new(input: &[usize], weight: &[usize], options: &ConvOptions<SPACE>) -> Self {
        let (size, kernel) = (space(input), space(weight));
        let out = std::array::from_fn(|d| {
            let (before, after) = options.padding[d];
            let reach = options.dilation[d] * kernel[d].saturating_sub(1) + 1;
            let rest = (size[d] + before + after).checked_sub(reach);
            rest.map_or(0, |rest| rest / options.stride[d] + 1)
        });
        Self {
            batch: input[0],
            channels: [input[1], weight[0]],
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
        input: &[usize],
        weight: &[usize],
        options: &ConvTransposeOptions<SPACE>,
    ) -> Self {
        let (out, kernel) = (space(input), space(weight));
        let size = std::array::from_fn(|d| {
            let reach = options.dilation[d] * (kernel[d] - 1) + options.padding_out[d] + 1;
            (out[d] - 1) * options.stride[d] + reach - 2 * options.padding[d]
        });
        Self {
            batch: input[0],
            channels: [weight[1] * options.groups, input[1]],
            groups: options.groups,
            size,
            out,
            kernel,
            stride: options.stride,
            dilation: options.dilation,
            padding: options.padding,
        }
    }

    /// The shape of a tensor with as many dimensions as `like`, of the result.
    pub(super) fn result_shape(&self, like: &[usize]) -> Vec<usize> {
        self.shape(like, self.channels[1], self.out)
    }

    /// The same of the input.
    pub(super) fn input_shape(&self, like: &[usize]) -> Vec<usize> {
        self.shape(like, self.channels[0], self.size)
    }

    fn shape(&self, like: &[usize], channels: usize, size: [usize; SPACE]) -> Vec<usize> {
        let size = &size[SPACE + 2 - like.len()..];
        [&[self.batch, channels], size].concat()
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
        size: [usize; SPACE],
    ) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let length = channels * size.iter().product::<usize>();
        let count = self.batch;
        (0..count).map(move |i| &batch[i * length..][..length])
    }

    /// The channels of a group in an image.
    pub(super) fn group<'a>(
        &self,
        image: &'a [f32],
        group: usize,
        channels: usize,
        size: [usize; SPACE],
    ) -> &'a [f32] {
        let length = channels * size.iter().product::<usize>();
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
        size: [usize; SPACE],
        places: [usize; SPACE],
        place: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Vec<f32> {
        let channels = source.chunks_exact(size.iter().product());
        let of_channel = self.kernel_places() * places.iter().product::<usize>();
        let mut gathered = Vec::with_capacity(channels.len() * of_channel);
        let [depth, height, width] = self.kernel;
        let kernel = |k: usize| [k / width / height, k / width % height, k % width];
        let rows = |row: usize| [row / places[1], row % places[1]];
        for channel in channels {
            for [kz, ky, kx] in (0..depth * height * width).map(kernel) {
                for [z, y] in (0..places[0] * places[1]).map(rows) {
                    let row = place(0, z, kz).zip(place(1, y, ky));
                    let row = row.map(|(z, y)| &channel[(z * size[1] + y) * size[2]..]);
                    gathered.extend((0..places[2]).map(|x| {
                        let column = place(2, x, kx);
                        row.zip(column).map_or(0.0, |(row, column)| row[column])
                    }));
                }
            }
        }
        gathered
    }
}
