use lowbit_kernels::pool::{Windows, average, average_backward, max, max_backward};

use super::Random;

/// A pooling: the windows, and for each pixel of the output the pixels of an image under it, and what
/// an average divides by.
pub(crate) struct Pooling {
    pub(crate) case: String,
    pub(crate) windows: Windows,
    input: [usize; 3],
    under: Vec<(Vec<usize>, f64)>,
}

/// A small pooling of sliding windows, or none where there is no window.
pub(crate) fn sliding(random: &mut Random) -> Option<Pooling> {
    let mut two = |least, most| [0, 1].map(|_| random.between(least, most));
    let (size, window, stride) = (two(1, 8), two(1, 4), two(1, 4));
    let (padding, dilation) = (two(0, 3), two(1, 3));
    let input = [size[0], size[1], random.of(&[1, 3, 4, 16, 17])];
    let with_padding = random.chance();
    let count = |d: usize| {
        let rest = (input[d] + 2 * padding[d]).checked_sub(dilation[d] * (window[d] - 1) + 1)?;
        Some(rest / stride[d] + 1)
    };
    let (rows, columns) = (count(0)?, count(1)?);
    let mut under = Vec::new();
    for o in 0..rows * columns {
        let o = [o / columns, o % columns];
        let mut pixels = Vec::new();
        for k in 0..window[0] * window[1] {
            let k = [k / window[1], k % window[1]];
            let at = [0, 1]
                .map(|d| (o[d] * stride[d] + k[d] * dilation[d]) as isize - padding[d] as isize);
            if (0..2).all(|d| (0..input[d] as isize).contains(&at[d])) {
                pixels.push(at[0] as usize * input[1] + at[1] as usize);
            }
        }
        let divisor = if with_padding {
            window[0] * window[1]
        } else {
            pixels.len()
        };
        under.push((pixels, divisor as f64));
    }
    let windows = Windows::sliding(input, window, stride, padding, dilation);
    let windows = match with_padding {
        true => windows.divided_by(window[0] * window[1]),
        false => windows,
    };
    assert_eq!(windows.output(), [rows, columns]);
    Some(Pooling {
        case: format!(
            "{input:?}, windows of {window:?}, stride {stride:?}, padding {padding:?}, dilation {dilation:?}"
        ),
        windows,
        input,
        under,
    })
}

/// A small adaptive pooling: window `o` of `n` over `l` pixels is from `floor(o l / n)` up to, not
/// with, `ceil((o + 1) l / n)`, as PyTorch has it.
pub(crate) fn adaptive(random: &mut Random) -> Pooling {
    let mut two = |least, most| [0, 1].map(|_| random.between(least, most));
    let (size, output) = (two(1, 12), two(1, 12));
    let input = [size[0], size[1], random.of(&[1, 3, 16, 17])];
    let range = |d: usize, o: usize| {
        let (length, count) = (input[d] as f64, output[d] as f64);
        let first = (o as f64 * length / count).floor() as usize;
        first..((o + 1) as f64 * length / count).ceil() as usize
    };
    let under = (0..output[0] * output[1]).map(|o| {
        let rows = range(0, o / output[1]);
        let pixels: Vec<usize> = rows
            .flat_map(|y| range(1, o % output[1]).map(move |x| (y, x)))
            .map(|(y, x)| y * input[1] + x)
            .collect();
        let count = pixels.len() as f64;
        (pixels, count)
    });
    Pooling {
        case: format!("{input:?} to {output:?}"),
        windows: Windows::adaptive(input, output),
        input,
        under: under.collect(),
    }
}

/// Both poolings and their gradients of two images against the plain loops. Means are compared to
/// within the rounding of one division for each pixel under a window.
pub(crate) fn check(pooling: &Pooling, random: &mut Random) {
    let Pooling { case, windows, .. } = pooling;
    let channels = pooling.input[2];
    let [pixels, outputs] = [pooling.input[0] * pooling.input[1], pooling.under.len()];
    let batch = 2;
    let x = random.numbers(batch * pixels * channels);
    let grad = random.numbers(batch * outputs * channels);
    let mut greatest = vec![f32::NEG_INFINITY; grad.len()];
    let mut means = vec![0.0; grad.len()];
    let (mut to_greatest, mut to_means) = (vec![0.0; x.len()], vec![0.0f64; x.len()]);
    for at in 0..grad.len() {
        let (channel, out) = (at % channels, at / channels % outputs);
        let image = at / channels / outputs;
        let (under, divisor) = &pooling.under[out];
        let under = || {
            under
                .iter()
                .map(|pixel| (image * pixels + pixel) * channels + channel)
        };
        let mut first = None;
        for i in under() {
            if x[i] > greatest[at] {
                (greatest[at], first) = (x[i], Some(i));
            }
            means[at] += f64::from(x[i]);
            to_means[i] += f64::from(grad[at]) / divisor;
        }
        means[at] /= divisor;
        if let Some(first) = first {
            to_greatest[first] += grad[at];
        }
    }
    let mut made = vec![f32::NAN; grad.len()];
    max(&x, windows, &mut made);
    assert_eq!(made, greatest, "maxima of {case}");
    average(&x, windows, &mut made);
    for (made, mean) in made.iter().zip(&means) {
        let same = (f64::from(*made) - mean).abs() <= 1e-6 * mean.abs();
        assert!(
            same || made.is_nan() && mean.is_nan(),
            "means of {case}: {made}, not {mean}"
        );
    }
    let mut made = vec![f32::NAN; x.len()];
    max_backward(&x, &grad, windows, &mut made);
    assert_eq!(made, to_greatest, "gradient of the maxima of {case}");
    average_backward(&grad, windows, &mut made);
    for (made, to_mean) in made.iter().zip(&to_means) {
        let near = (f64::from(*made) - to_mean).abs() <= 1e-5;
        assert!(
            near,
            "gradient of the means of {case}: {made}, not {to_mean}"
        );
    }
}
