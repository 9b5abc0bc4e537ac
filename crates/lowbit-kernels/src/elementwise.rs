//! Passes over pairs of numbers, of which one is replaced.

use rayon::prelude::*;

use crate::vector::{Kernel, LANES, dispatch};

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// Numbers whose sum is kept in f32 before it goes to f64.
const PART: usize = 1 << 10;

/// `y[i] = f(x[i], y[i])`, on all threads.
pub fn update_all(x: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy + Sync) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| update(x, y, f));
}

/// `y[i] = f(x[i], y[i])`, on the calling thread. Mark `f` `#[inline(always)]`.
pub fn update(x: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    struct Update<'a, F>(&'a [f32], &'a mut [f32], F);
    impl<F: Fn(f32, f32) -> f32> Kernel for Update<'_, F> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for (&x, y) in self.0.iter().zip(self.1) {
                *y = (self.2)(x, *y);
            }
        }
    }
    dispatch(Update(x, y, f));
}

/// `(y[i], s[i]) = f(x[i], y[i])`, on all threads; returns the sum of the `s`, which does not depend
/// on how many there are.
pub fn update_and_sum_all(
    x: &[f32],
    y: &mut [f32],
    f: impl Fn(f32, f32) -> (f32, f32) + Copy + Sync,
) -> f64 {
    let sums: Vec<f64> = y
        .par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .map(|(y, x)| update_and_sum(x, y, f))
        .collect();
    sums.into_iter().sum()
}

/// `(y[i], s[i]) = f(x[i], y[i])`, on the calling thread; returns the sum of the
/// `s`: in f32 over parts of a fixed length, by lane, and in f64 over the parts. Mark `f`
/// `#[inline(always)]`.
pub fn update_and_sum(x: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> (f32, f32)) -> f64 {
    struct UpdateAndSum<'a, F>(&'a [f32], &'a mut [f32], F);
    impl<F: Fn(f32, f32) -> (f32, f32)> Kernel for UpdateAndSum<'_, F> {
        type Output = f64;

        #[inline(always)]
        fn run(self) -> f64 {
            let Self(x, y, f) = self;
            let mut total = 0.0;
            for (x, y) in x.chunks(PART).zip(y.chunks_mut(PART)) {
                let mut sums = [0.0f32; LANES];
                let (xs, x_rest) = x.as_chunks::<LANES>();
                let (ys, y_rest) = y.as_chunks_mut::<LANES>();
                for (x, y) in xs.iter().zip(ys) {
                    for ((&x, y), sum) in x.iter().zip(y).zip(&mut sums) {
                        let (new, s) = f(x, *y);
                        *y = new;
                        *sum += s;
                    }
                }
                for ((&x, y), sum) in x_rest.iter().zip(y_rest).zip(&mut sums) {
                    let (new, s) = f(x, *y);
                    *y = new;
                    *sum += s;
                }
                total += sums.into_iter().map(f64::from).sum::<f64>();
            }
            total
        }
    }
    dispatch(UpdateAndSum(x, y, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_values_of_any_length() {
        for length in [0, 1, 15, 16, 17, 1024, 1030, 50_000] {
            let x: Vec<f32> = (0..length).map(|i| (i % 7) as f32).collect();
            let mut y = vec![2.0; length];
            let all = update_and_sum_all(&x, &mut y.clone(), |x, y| (x * y, x));
            let sum = update_and_sum(&x, &mut y, |x, y| (x * y, x));
            assert_eq!(all, sum);
            assert!(y.iter().zip(&x).all(|(y, x)| *y == 2.0 * x));
            let expected: usize = (0..length).map(|i| i % 7).sum();
            assert_eq!(sum, expected as f64);
            update(&x, &mut y, |x, y| y - x);
            assert_eq!(y, x);
        }
    }
}
