//! Softmax of rows.

use rayon::prelude::*;

use crate::exp::exp;
use crate::vector::{Kernel, LANES, dispatch};

/// Numbers that a thread takes at a time, in whole rows.
const CHUNK: usize = 1 << 13;

/// Each row of so many numbers `x` becomes `e^(x_i - max x) / sum_j e^(x_j - max x)`, on all threads. A row
/// of which all is `-infinity`, or in which there is a NaN, becomes NaN.
///
/// # Panics
/// If `row` is zero, or the rows are not whole.
pub fn softmax(x: &mut [f32], row: usize) {
    assert!(row > 0 && x.len().is_multiple_of(row), "rows are whole");
    let rows = (CHUNK / row).max(1);
    x.par_chunks_mut(rows * row)
        .for_each(|x| dispatch(Forward(x, row)));
}

/// The gradient of `x`, in the place of that of its softmax `y`: `y (g - sum_j y_j g_j)` in each row.
///
/// # Panics
/// As [`softmax`], or if there are not as many numbers of both.
pub fn softmax_backward(y: &[f32], grad: &mut [f32], row: usize) {
    assert!(row > 0 && y.len() == grad.len() && y.len().is_multiple_of(row));
    let chunk = (CHUNK / row).max(1) * row;
    grad.par_chunks_mut(chunk)
        .zip(y.par_chunks(chunk))
        .for_each(|(grad, y)| dispatch(Backward(y, grad, row)));
}

struct Forward<'a>(&'a mut [f32], usize);

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for row in self.0.chunks_exact_mut(self.1) {
            let most = most(row);
            for x in row.iter_mut() {
                *x = exp(*x - most);
            }
            let all = sum(row, row, |x, _| x);
            let scale = 1.0 / all;
            for x in row.iter_mut() {
                *x *= scale;
            }
        }
    }
}

struct Backward<'a>(&'a [f32], &'a mut [f32], usize);

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.0.chunks_exact(self.2);
        for (y, grad) in rows.zip(self.1.chunks_exact_mut(self.2)) {
            let all = sum(y, grad, |y, g| y * g);
            for (g, y) in grad.iter_mut().zip(y) {
                *g = y * (*g - all);
            }
        }
    }
}

/// The largest number.
#[inline(always)]
pub(crate) fn most(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for numbers in whole {
        for (most, &x) in lanes.iter_mut().zip(numbers) {
            *most = if x > *most { x } else { *most };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// The sum of `f` of pairs: by lane, lanes two by two, and then what is left one by one.
#[inline(always)]
pub(crate) fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *sum += f(a, b);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    rest.fold(halved(lanes), |sum, (&a, &b)| sum + f(a, b))
}

/// The sum of so many lanes, a power of two, halves added to halves.
#[inline(always)]
pub(crate) fn halved<const COUNT: usize>(mut lanes: [f32; COUNT]) -> f32 {
    let mut width = COUNT / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        let of = |i: usize| ((i * 7919) % 1013) as f32 / 60.0 - 8.0;
        (0..count).map(of).collect()
    }

    #[test]
    fn rows_are_the_exact_ones() {
        for row in [1, 15, 16, 37, 384] {
            let x = numbers(row * 5);
            let mut y = x.clone();
            softmax(&mut y, row);
            for (x, y) in x.chunks(row).zip(y.chunks(row)) {
                let wide = x.iter().map(|&x| f64::from(x).exp());
                let all: f64 = wide.clone().sum();
                for (exact, y) in wide.zip(y) {
                    let off = (f64::from(*y) - exact / all).abs();
                    assert!(off <= 4e-6 * exact / all, "{row}: {off}");
                }
            }
        }
    }

    /// With y = (1/4, 3/4) and g = (1, 3): the mean is 5/2, so -3/8 and 3/8.
    #[test]
    fn a_gradient_by_hand() {
        let mut grad = [1.0, 3.0];
        softmax_backward(&[0.25, 0.75], &mut grad, 2);
        assert_eq!(grad, [-0.375, 0.375]);
    }

    #[test]
    fn what_is_hidden_has_no_weight() {
        let mut x = [f32::MIN, 1.0, f32::NEG_INFINITY, 1.0];
        softmax(&mut x, 4);
        assert_eq!(x, [0.0, 0.5, 0.0, 0.5]);
        let mut x = [1.0, f32::NAN];
        softmax(&mut x, 2);
        assert!(x.iter().all(|x| x.is_nan()));
    }
}
