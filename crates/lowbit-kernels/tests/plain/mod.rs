//! What the kernels compute, as plain loops in f64, on numbers that f32 adds exactly.
//!
//! All numbers are small integers, so that every sum is exact in any order, and results are compared
//! bit for bit.

// Each test file uses a part.
#![allow(dead_code)]

pub(crate) mod convolution;
pub(crate) mod pooling;
pub(crate) mod product;

/// A generator of random numbers: SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `least` to `most`.
    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + (self.next() % (most - least + 1) as u64) as usize
    }

    pub(crate) fn chance(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// One of the choices.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)]
    }

    /// Integers from -4 to 4.
    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| self.between(0, 8) as f32 - 4.0)
            .collect()
    }
}

/// A rounding that leaves no number as it is, zero not excepted: what is rounded twice, or not at
/// all, or padding that is rounded, shows.
pub(crate) fn round(x: f32) -> f32 {
    2.0 * x + 1.0
}

pub(crate) fn round_slice(x: &[f32], rounded: &mut [f32]) {
    assert_eq!(x.len(), rounded.len());
    for (x, rounded) in x.iter().zip(rounded) {
        *rounded = round(*x);
    }
}

/// A backward pass of [`round`]: negative numbers have no gradient. Returns the sum of what it was
/// given times the numbers, and of what it was given.
pub(crate) fn round_backward(x: &[f32], grad: &mut [f32]) -> lowbit_kernels::packing::Learned {
    assert_eq!(x.len(), grad.len());
    let mut sum = [0.0; 2];
    for (x, grad) in x.iter().zip(grad) {
        sum[0] += f64::from(*x) * f64::from(*grad);
        sum[1] += f64::from(*grad);
        if *x < 0.0 {
            *grad = 0.0;
        }
    }
    sum
}
