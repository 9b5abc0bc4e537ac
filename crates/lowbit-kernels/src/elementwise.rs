//! Passes over pairs of numbers, of which one is replaced.

use lowbit_formats::kernel::isa::dispatch_on;
use rayon::prelude::*;

use crate::vector::{Kernel, LANES, dispatch};

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// Numbers whose sum is kept in f32 before it goes to f64.
pub const PART: usize = 1 << 10;

/// Numbers that are made before they replace others.
const BLOCK: usize = 1 << 6;

/// Numbers that begin with a cache line. Vectors that are stored across two lines, and read again
/// before they are in the cache, take three times as long.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Aligned<const COUNT: usize>([f32; COUNT]);

/// `y[i] = f(x[i], y[i])`, on all threads.
pub fn update_all(x: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy + Sync) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| update(x, y, f));
}

/// `y[i] = f(x[i], y[i])`, on the calling thread. Mark `f` `#[inline(always)]`.
///
/// The numbers are made somewhere else first. Where some stay what they are, the compiler would
/// write the others alone, which AVX2 is slow at.
pub fn update(x: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    let mut made = Aligned([0.0; 4 * BLOCK]);
    dispatch_on(
        (x, y),
        &mut made.0,
        #[inline(always)]
        move |(x, y), made| {
            for (x, y) in x.chunks(made.len()).zip(y.chunks_mut(made.len())) {
                let made = &mut made[..x.len()];
                for ((made, &x), &y) in made.iter_mut().zip(x).zip(&*y) {
                    *made = f(x, y);
                }
                y.copy_from_slice(made);
            }
        },
    );
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
/// `s`: in f32 over parts of [`PART`] numbers, by lane, and in f64 over the parts. Mark `f`
/// `#[inline(always)]`.
pub fn update_and_sum<const N: usize>(
    x: &[f32],
    y: &mut [f32],
    f: impl Fn(f32, f32) -> (f32, [f32; N]),
) -> [f64; N] {
    if N == 0 {
        update(
            x,
            y,
            #[inline(always)]
            |x, y| f(x, y).0,
        );
        return [0.0; N];
    }
    update_with_and_sum(
        [x],
        y,
        #[inline(always)]
        move |[x], y| f(x, y),
    )
}

/// `(y[i], s[i]) = f([x[0][i], x[1][i], ...], y[i])`; otherwise as [`update_and_sum`].
///
/// # Panics
/// If one of the `x` is shorter than `y`.
pub fn update_with_and_sum<const K: usize, const N: usize>(
    x: [&[f32]; K],
    y: &mut [f32],
    f: impl Fn([f32; K], f32) -> (f32, [f32; N]),
) -> [f64; N] {
    struct UpdateAndSum<'a, F, const K: usize>([&'a [f32]; K], &'a mut [f32], F);
    impl<F, const K: usize, const N: usize> Kernel for UpdateAndSum<'_, F, K>
    where
        F: Fn([f32; K], f32) -> (f32, [f32; N]),
    {
        type Output = [f64; N];

        #[inline(always)]
        fn run(self) -> [f64; N] {
            let Self(x, y, f) = self;
            let mut totals = [0.0; N];
            for (part, y) in y.chunks_mut(PART).enumerate() {
                let x = x.map(|x| &x[part * PART..][..y.len()]);
                for (total, sum) in totals.iter_mut().zip(lanes_sums(x, y, &f)) {
                    *total += sum;
                }
            }
            totals
        }
    }
    dispatch(UpdateAndSum(x, y, f))
}

/// `(y[i], s[i]) = f(x[..][i], y[i])`; the sums of the `s`: number `i` goes to the lane `i % LANES`.
#[inline(always)]
fn lanes_sums<const K: usize, const N: usize>(
    x: [&[f32]; K],
    y: &mut [f32],
    f: &impl Fn([f32; K], f32) -> (f32, [f32; N]),
) -> [f64; N] {
    let mut sums = [Aligned([0.0; LANES]); N];
    let x = x.map(|x| x.as_chunks::<BLOCK>());
    let (ys, y_rest) = y.as_chunks_mut::<BLOCK>();
    for (block, y) in ys.iter_mut().enumerate() {
        let x = x.map(|(x, _)| &x[block]);
        // Made before they are written and added, so that each of the loops becomes vector code.
        let mut new = Aligned([0.0; BLOCK]);
        let mut made = [Aligned([0.0; BLOCK]); N];
        for i in 0..BLOCK {
            let (number, parts) = f(x.map(|x| x[i]), y[i]);
            new.0[i] = number;
            for (made, part) in made.iter_mut().zip(parts) {
                made.0[i] = part;
            }
        }
        *y = new.0;
        for (sums, made) in sums.iter_mut().zip(&made) {
            for made in made.0.as_chunks::<LANES>().0 {
                for (sum, made) in sums.0.iter_mut().zip(made) {
                    *sum += made;
                }
            }
        }
    }
    for (i, y) in y_rest.iter_mut().enumerate() {
        let (number, parts) = f(x.map(|(_, rest)| rest[i]), *y);
        *y = number;
        for (sums, part) in sums.iter_mut().zip(parts) {
            sums.0[i % LANES] += part;
        }
    }
    sums.map(|sums| sums.0.into_iter().map(f64::from).sum())
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
            let [of_two] =
                update_with_and_sum([&x, &z], &mut y.clone(), |[x, z], y| (y, [x + z - z]));
            assert_eq!(of_two, sum);
            let expected: usize = (0..length).map(|i| i % 7).sum();
            assert_eq!(sum, expected as f64);
            update(&x, &mut y, |x, y| y - x);
            assert_eq!(y, x);
        }
    }
}
