//! The zeros that a padding configuration stands for.

use burn::nn::{PaddingConfig1d, PaddingConfig2d, PaddingConfig3d};

/// Padding at the `(start, end)` of the rows and of the columns of an image.
///
/// `Same` gives an output of `ceil(size / stride)`; of an odd number of zeros the odd one goes to
/// the end, as in ONNX and in Burn.
pub(crate) fn pairs(
    padding: &PaddingConfig2d,
    image: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
) -> [(usize, usize); 2] {
    match *padding {
        PaddingConfig2d::Valid => [(0, 0); 2],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        PaddingConfig2d::Same => std::array::from_fn(|i| same(image[i], kernel[i], stride[i])),
    }
}

/// Padding at the `(start, end)` of a sequence.
pub(crate) fn pair(
    padding: &PaddingConfig1d,
    length: usize,
    kernel: usize,
    stride: usize,
) -> (usize, usize) {
    match *padding {
        PaddingConfig1d::Valid => (0, 0),
        PaddingConfig1d::Explicit(left, right) => (left, right),
        PaddingConfig1d::Same => same(length, kernel, stride),
    }
}

/// Padding at the `(start, end)` of each dimension of a volume.
pub(crate) fn triples(
    padding: &PaddingConfig3d,
    volume: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
) -> [(usize, usize); 3] {
    match *padding {
        PaddingConfig3d::Valid => [(0, 0); 3],
        PaddingConfig3d::Explicit(depth, height, width) => [depth, height, width].map(|n| (n, n)),
        PaddingConfig3d::Same => std::array::from_fn(|i| same(volume[i], kernel[i], stride[i])),
    }
}

/// Padding for an output of `ceil(size / stride)`.
fn same(size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let reach = (size.div_ceil(stride).max(1) - 1) * stride + kernel;
    let total = reach.saturating_sub(size);
    (total / 2, total - total / 2)
}
