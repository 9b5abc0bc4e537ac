//! What each result of a convolution or a linear layer sums up, as rows.

use burn::tensor::ops::ConvOptions;
use rayon::prelude::*;

/// How a kernel moves over images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) stride: [usize; 2],
    /// Zeros before and after, along each dimension.
    pub(super) padding: [(usize, usize); 2],
    pub(super) dilation: [usize; 2],
    pub(super) groups: usize,
}

impl From<&ConvOptions<2>> for Window {
    fn from(options: &ConvOptions<2>) -> Self {
        Self {
            stride: options.stride,
            padding: options.padding,
            dilation: options.dilation,
            groups: options.groups,
        }
    }
}

/// Images, `[batch, channels, height, width]`, of which some channels are looked at.
pub(super) struct Images<'a> {
    pub(super) pixels: &'a [f32],
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
    /// The first of the channels that are looked at, and how many they are.
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Window {
    /// Places that a kernel has along each dimension.
    pub(super) fn places(&self, size: [usize; 2], kernel: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|d| {
            let (before, after) = self.padding[d];
            let reach = self.dilation[d] * (kernel[d] - 1) + 1;
            let rest = (size[d] + before + after).checked_sub(reach);
            rest.map_or(0, |rest| rest / self.stride[d] + 1)
        })
    }

    /// A row for each place of each image, in order: the numbers under the kernel there, channel by
    /// channel, as `[count, kernel_height, kernel_width]` of a weight; zeros beyond the image.
    pub(super) fn patches(&self, images: &Images<'_>, kernel: [usize; 2]) -> Vec<f32> {
        let [height, width] = images.size;
        let places = self.places(images.size, kernel);
        let columns = images.count * kernel[0] * kernel[1];
        let image = images.channels * height * width;
        let batch = images.pixels.len() / image.max(1);
        let mut rows = vec![0.0; batch * places[0] * places[1] * columns];
        let of_image = (places[0] * places[1] * columns).max(1);
        rows.par_chunks_mut(of_image)
            .enumerate()
            .for_each(|(i, rows)| {
                let pixels = &images.pixels[i * image..][images.first * height * width..];
                for (place, row) in rows.chunks_exact_mut(columns).enumerate() {
                    let at = [place / places[1], place % places[1]];
                    self.patch(pixels, images.size, at, kernel, row);
                }
            });
        rows
    }

    /// One row of them.
    fn patch(
        &self,
        pixels: &[f32],
        size: [usize; 2],
        at: [usize; 2],
        kernel: [usize; 2],
        row: &mut [f32],
    ) {
        let inside = |d: usize, k: usize| {
            let along = at[d] * self.stride[d] + k * self.dilation[d];
            along
                .checked_sub(self.padding[d].0)
                .filter(|&i| i < size[d])
        };
        let planes = pixels.chunks_exact(size[0] * size[1]);
        for (row, plane) in row.chunks_exact_mut(kernel[0] * kernel[1]).zip(planes) {
            for (k, number) in row.iter_mut().enumerate() {
                let place = inside(0, k / kernel[1]).zip(inside(1, k % kernel[1]));
                if let Some((y, x)) = place {
                    *number = plane[y * size[1] + x];
                }
            }
        }
    }
}

/// The same places' results: of `[batch, channels, places]` the channels from `first` on, a row for each
/// place.
pub(super) fn results(
    outputs: &[f32],
    channels: usize,
    places: usize,
    first: usize,
    count: usize,
) -> Vec<f32> {
    let batch = outputs.len() / (channels * places).max(1);
    let mut rows = Vec::with_capacity(batch * places * count);
    for image in outputs.chunks_exact((channels * places).max(1)) {
        for place in 0..places {
            rows.extend((first..first + count).map(|channel| image[channel * places + place]));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels of 2x3, of which the second is looked at, under a kernel of 2x2 with a zero on the
    /// left: places at columns -1 and 1.
    #[test]
    fn patches_by_hand() {
        let window = Window {
            stride: [1, 2],
            padding: [(0, 0), (1, 0)],
            dilation: [1, 1],
            groups: 1,
        };
        let pixels = [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let images = Images {
            pixels: &pixels,
            channels: 2,
            size: [2, 3],
            first: 1,
            count: 1,
        };
        assert_eq!(window.places([2, 3], [2, 2]), [1, 2]);
        let rows = window.patches(&images, [2, 2]);
        assert_eq!(rows, [0.0, 1.0, 0.0, 4.0, 2.0, 3.0, 5.0, 6.0]);
    }

    #[test]
    fn results_by_hand() {
        // An image of three channels and two places.
        let outputs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(results(&outputs, 3, 2, 1, 2), [3.0, 5.0, 4.0, 6.0]);
    }
}
