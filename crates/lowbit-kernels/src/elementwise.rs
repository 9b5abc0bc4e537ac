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

/// `(y[i], s[i]) = f(x[i], y[i])`, on all threads; returns the sums of the `s`, which do not depend
/// on how many there are.
pub fn update_and_sum_all<const N: usize>(
    x: &[f32],
    y: &mut [f32],
    f: impl Fn(f32, f32) -> (f32, [f32; N]) + Copy + Sync,
) -> [f64; N] {
    let sums: Vec<[f64; N]> = y
        .par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .map(|(y, x)| update_and_sum(x, y, f))
        .collect();
    std::array::from_fn(|n| sums.iter().map(|sums| sums[n]).sum())
}

/// `(y[i], s[i]) = f(x[i], y[i])`, on the calling thread; returns the sum of each number of the
/// `s`: in f32 over parts of a fixed length, by lane, and in f64 over the parts. Mark `f`
/// `#[inline(always)]`.
pub fn update_and_sum<const N: usize>(
    x: &[f32],
    y: &mut [f32],
    f: impl Fn(f32, f32) -> (f32, [f32; N]),
) -> [f64; N] {
    struct UpdateAndSum<'a, F>(&'a [f32], &'a mut [f32], F);
    impl<F: Fn(f32, f32) -> (f32, [f32; N]), const N: usize> Kernel for UpdateAndSum<'_, F> {
        type Output = [f64; N];

        #[inline(always)]
        fn run(self) -> [f64; N] {
            let Self(x, y, f) = self;
            if N == 0 {
                x.iter().zip(y).for_each(|(&x, y)| *y = f(x, *y).0);
                return [0.0; N];
            }
            let mut totals = [0.0; N];
            for (x, y) in x.chunks(PART).zip(y.chunks_mut(PART)) {
                for (total, sum) in totals.iter_mut().zip(lanes_sums(x, y, &f)) {
                    *total += sum;
                }
            }
            totals
        }
    }
    dispatch(UpdateAndSum(x, y, f))
}

/// `(y[i], s[i]) = f(x[i], y[i])`; the sums of the `s`: number `i` goes to the lane `i % LANES`.
#[inline(always)]
fn lanes_sums<const N: usize>(
    x: &[f32],
    y: &mut [f32],
    f: &impl Fn(f32, f32) -> (f32, [f32; N]),
) -> [f64; N] {
    let mut sums = [[0.0f32; LANES]; N];
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks_mut::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        // Made before they are added, so that each of the loops becomes vector code.
        let mut made = [[0.0f32; LANES]; N];
        for lane in 0..LANES {
            let (new, parts) = f(x[lane], y[lane]);
            y[lane] = new;
            for (made, part) in made.iter_mut().zip(parts) {
                made[lane] = part;
            }
        }
        for (sums, made) in sums.iter_mut().zip(&made) {
            for (sum, made) in sums.iter_mut().zip(made) {
                *sum += made;
            }
        }
    }
    for (lane, (&x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        let (new, parts) = f(x, *y);
        *y = new;
        for (sums, part) in sums.iter_mut().zip(parts) {
            sums[lane] += part;
        }
    }
    sums.map(|sums| sums.into_iter().map(f64::from).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_values_of_any_length() {
        for length in [0, 1, 15, 16, 17, 1024, 1030, 50_000] {
            let x: Vec<f32> = (0..length).map(|i| (i % 7) as f32).collect();
            let mut y = vec![2.0; length];
            let [all] = update_and_sum_all(&x, &mut y.clone(), |x, y| (x * y, [x]));
            let mut z = y.clone();
            let [] = update_and_sum(&x, &mut z, |x, y| (x * y, []));
            let both = update_and_sum(&x, &mut y.clone(), |x, y| (x * y, [y, x]));
            let [sum] = update_and_sum(&x, &mut y, |x, y| (x * y, [x]));
            assert_eq!((all, both), (sum, [2.0 * length as f64, sum]));
            assert_eq!(y, z);
            assert!(y.iter().zip(&x).all(|(y, x)| *y == 2.0 * x));
            let expected: usize = (0..length).map(|i| i % 7).sum();
            assert_eq!(sum, expected as f64);
            update(&x, &mut y, |x, y| y - x);
            assert_eq!(y, x);
        }
    }
}
