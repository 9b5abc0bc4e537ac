//! The zeros that a padding configuration stands for.

use burn::nn::PaddingConfig2d;

/// Padding at the `(start, end)` of the rows and of the columns of an image.
///
/// `Same` gives an output of `ceil(size / stride)`; of an odd number of zeros the odd one goes to
/// the end, as in ONNX and in Burn.
pub(super) fn pairs(
    padding: &PaddingConfig2d,
    image: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
) -> [(usize, usize); 2] {
    match *padding {
        PaddingConfig2d::Valid => [(0, 0); 2],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        PaddingConfig2d::Same => std::array::from_fn(|i| {
            let reach = (image[i].div_ceil(stride[i]).max(1) - 1) * stride[i] + kernel[i];
            let total = reach.saturating_sub(image[i]);
            (total / 2, total - total / 2)
        }),
    }
}
