//! Cross-entropy of rows of scores, and its gradient.

use rayon::prelude::*;

use crate::exp::exp;
use crate::softmax::{most, sum};
use crate::vector::{Kernel, dispatch};

/// Numbers that a part has at least, in whole rows.
const PART: usize = 1 << 14;

/// The largest score of a row, and the sum of the exponentials of what all lack to it.
#[inline(always)]
fn row_sum(row: &[f32]) -> (f32, f32) {
    let largest = most(row);
    (largest, sum(row, row, |score, _| exp(score - largest)))
}

/// `ln(sum of e^scores) - sum of q * scores` of each row, with `q` of the right class `1 - smoothing` and of every
/// class `smoothing / classes` more. It is what is told, and nothing that is trained on, so that exponentials and
/// logarithms are the platform's.
///
/// # Panics
/// If the scores are not so many rows, or a target is none of the classes.
pub fn cross_entropy(scores: &[f32], targets: &[usize], smoothing: f32) -> Vec<f64> {
    let Some(classes) = classes(scores, targets) else {
        return Vec::new();
    };
    let rows = scores.par_chunks(classes).zip(targets);
    let losses = rows
        .with_min_len(PART.div_ceil(classes))
        .map(|(row, &target)| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let lacks = row.iter().map(|score| score - largest);
            let sum: f64 = lacks.clone().map(|lack| f64::from(lack.exp())).sum();
            let right = f64::from(row[target] - largest);
            let expected = match smoothing {
                0.0 => right,
                _ => {
                    let mean = lacks.map(f64::from).sum::<f64>() / classes as f64;
                    right + f64::from(smoothing) * (mean - right)
                }
            };
            sum.ln() - expected
        });
    losses.collect()
}

/// The gradient of `share` times the sum of those: `share (softmax(scores) - q)`.
///
/// # Panics
/// As [`cross_entropy`], or if the output has another size.
pub fn cross_entropy_backward(
    scores: &[f32],
    targets: &[usize],
    [smoothing, share]: [f32; 2],
    output: &mut [f32],
) {
    struct Gradients<'a>(&'a [f32], &'a [usize], [f32; 3], &'a mut [f32]);
    impl Kernel for Gradients<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            let Self(scores, targets, [right, spread, share], output) = self;
            let classes = scores.len() / targets.len();
            let rows = scores.chunks_exact(classes).zip(targets);
            for ((row, &target), output) in rows.zip(output.chunks_exact_mut(classes)) {
                let (largest, sum) = row_sum(row);
                let part = 1.0 / sum;
                for (y, score) in output.iter_mut().zip(row) {
                    *y = (exp(score - largest) * part - spread) * share;
                }
                output[target] -= right;
            }
        }
    }
    assert_eq!(scores.len(), output.len());
    let Some(classes) = classes(scores, targets) else {
        return;
    };
    let given = [(1.0 - smoothing) * share, smoothing / classes as f32, share];
    let rows = PART.div_ceil(classes);
    let parts = scores.par_chunks(rows * classes);
    let parts = parts.zip(targets.par_chunks(rows));
    let parts = parts.zip(output.par_chunks_mut(rows * classes));
    parts.for_each(|((scores, targets), output)| {
        dispatch(Gradients(scores, targets, given, output));
    });
}

/// How many classes there are; nothing where there is no score.
fn classes(scores: &[f32], targets: &[usize]) -> Option<usize> {
    if scores.is_empty() {
        return None;
    }
    assert!(!targets.is_empty() && scores.len().is_multiple_of(targets.len()));
    Some(scores.len() / targets.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In f64, of rows in several parts.
    #[test]
    fn losses_and_gradients_are_the_exact_ones() {
        let (rows, classes) = (700, 65);
        let scores: Vec<f32> = (0..rows * classes)
            .map(|i| ((i * 37) % 1009) as f32 / 80.0 - 6.0)
            .collect();
        let targets: Vec<usize> = (0..rows).map(|i| (i * 7) % classes).collect();
        for smoothing in [0.0f32, 0.1] {
            let found = cross_entropy(&scores, &targets, smoothing);
            let mut gradient = vec![f32::NAN; scores.len()];
            cross_entropy_backward(&scores, &targets, [smoothing, 0.5], &mut gradient);
            for (i, (row, &target)) in scores.chunks(classes).zip(&targets).enumerate() {
                let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                let all: f64 = row.iter().map(|x| x.exp()).sum();
                let smoothing = f64::from(smoothing);
                let share = |c: usize| {
                    let right = f64::from(u8::from(c == target));
                    right * (1.0 - smoothing) + smoothing / classes as f64
                };
                let expected: f64 = row.iter().enumerate().map(|(c, x)| share(c) * x).sum();
                assert!((found[i] - (all.ln() - expected)).abs() < 2e-6);
                for (c, x) in row.iter().enumerate() {
                    let exact = 0.5 * (x.exp() / all - share(c));
                    let off = f64::from(gradient[i * classes + c]) - exact;
                    assert!(off.abs() < 2e-7, "{off}");
                }
            }
        }
        assert!(cross_entropy(&[], &[], 0.0).is_empty());
    }
}
