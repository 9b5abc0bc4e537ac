//! Windows of pools as lists of elements, which every kind of window is.

use crate::ops::{Sliding, Windows, greatest_common_divisor};

/// The matrix `[inputs, outputs]` with which the elements of one dimension become averages: `L /
/// count` for each element of a window, with `L` the least common multiple of all counts.
pub(super) fn average_matrix(
    elements: &[Vec<usize>],
    size: usize,
    count: Option<usize>,
) -> Vec<i64> {
    let counts = || {
        elements
            .iter()
            .map(|window| count.unwrap_or(window.len()) as u64)
    };
    let common = counts().fold(1, |common, count| {
        common / greatest_common_divisor(common, count) * count
    });
    let mut matrix = vec![0; size * elements.len()];
    for (o, (window, count)) in elements.iter().zip(counts()).enumerate() {
        for &i in window {
            matrix[i * elements.len() + o] = (common / count) as i64;
        }
    }
    matrix
}

/// The elements of the windows of one dimension, each repeated until all have as many: for the
/// greatest of a window, that changes nothing. And how many they are.
pub(super) fn repeated(elements: &[Vec<usize>]) -> (Vec<i64>, usize) {
    let most = elements.iter().map(Vec::len).max().unwrap_or(0);
    let window = |window: &Vec<usize>| {
        let last = window[window.len() - 1];
        let mut window = window.clone();
        window.resize(most, last);
        window
    };
    let indices = elements.iter().flat_map(window);
    (indices.map(|i| i as i64).collect(), most)
}

/// The kernel and strides of windows that ONNX's pools have without padding: sliding ones, and
/// adaptive ones of one size.
pub(super) struct Plain {
    pub(super) kernel: Vec<usize>,
    pub(super) sliding: Sliding,
}

/// Windows as ONNX's pools have them: none is adaptive with different sizes, and no padding is as
/// wide as the kernel.
pub(super) fn plain(windows: &Windows, image: &[usize]) -> Option<Plain> {
    match windows {
        Windows::Sliding { kernel, sliding } => {
            let fits = |(&[a, b], &k): (&[usize; 2], &usize)| a < k && b < k;
            let fits = sliding.padding.iter().zip(kernel).all(fits);
            fits.then(|| Plain {
                kernel: kernel.clone(),
                sliding: sliding.clone(),
            })
        }
        Windows::Adaptive { output } => {
            let mut sizes = image[1..].iter().zip(output);
            if !sizes.all(|(&i, &o)| i.is_multiple_of(o)) {
                return None;
            }
            let sizes = image[1..].iter().zip(output);
            let kernel: Vec<usize> = sizes.map(|(&i, &o)| i / o).collect();
            let mut sliding = Sliding::new(kernel.len());
            sliding.stride.clone_from(&kernel);
            Some(Plain { kernel, sliding })
        }
    }
}

impl Plain {
    /// Whether no window reaches into padding.
    pub(super) fn is_unpadded(&self) -> bool {
        self.sliding.padding.iter().all(|&sides| sides == [0, 0])
    }
}
