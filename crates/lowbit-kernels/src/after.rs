//! What follows a product while its results are in the cache: normalization, an addition and an activation.
//!
//! Numbers are `[pixels][channels]`, and each becomes `activation(x * scale + shift + added)`, rounded after
//! every operation: the bits of [`norm::apply`](crate::norm::apply), a sum and an activation one after the
//! other.

use crate::activation::{Activation, Pointwise, with_activation};
use crate::norm::{Affine, Walk};
use crate::vector::{Kernel, dispatch};

/// What is done to each number of a product.
#[derive(Debug)]
pub struct After<'a> {
    /// Of each channel, written out for a period.
    scale: Vec<f32>,
    shift: Vec<f32>,
    added: Option<&'a [f32]>,
    activation: Activation,
}

impl<'a> After<'a> {
    /// For pixels of so many channels. `added` are as many numbers as the product has.
    ///
    /// # Panics
    /// If `affine` is of another number of channels.
    pub fn new(
        channels: usize,
        affine: Option<&Affine>,
        added: Option<&'a [f32]>,
        activation: Activation,
    ) -> Self {
        let walk = Walk::new(channels);
        // x * 1 - 0 is x, also of -0.
        let (scale, shift) = match affine {
            Some(affine) => affine.spread(&walk),
            None => [1.0, -0.0].map(|number| vec![number; walk.period]).into(),
        };
        Self {
            scale,
            shift,
            added,
            activation,
        }
    }

    /// Does it to some whole pixels of the product, the first number of which is number `first`.
    pub fn apply(&self, product: &mut [f32], first: usize) {
        let added = self.added.map(|added| &added[first..][..product.len()]);
        with_activation!(self.activation, |activation| dispatch(Apply {
            product,
            scale: &self.scale,
            shift: &self.shift,
            added,
            activation,
        }));
    }
}

struct Apply<'a, A> {
    product: &'a mut [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    added: Option<&'a [f32]>,
    activation: A,
}

impl<A: Pointwise> Kernel for Apply<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let period = self.scale.len();
        let affine = || self.scale.iter().zip(self.shift);
        let parts = self.product.chunks_mut(period);
        let Some(added) = self.added else {
            for part in parts {
                for (y, (scale, shift)) in part.iter_mut().zip(affine()) {
                    *y = self.activation.of(*y * scale + shift);
                }
            }
            return;
        };
        for (part, added) in parts.zip(added.chunks(period)) {
            for ((y, added), (scale, shift)) in part.iter_mut().zip(added).zip(affine()) {
                *y = self.activation.of(*y * scale + shift + added);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norm::{Statistics, apply};

    /// Of three channels, in the middle of the product, against one operation after the other.
    #[test]
    fn one_pass_has_the_bits_of_three() {
        let numbers = |count: usize, from: i32| -> Vec<f32> {
            let number = |i: usize| (i as i32 * 37 % 101 - from) as f32 / 7.0;
            (0..count).map(number).collect()
        };
        let (mut product, mut added) = (numbers(3 * 5_000, 50), numbers(3 * 5_000, 40));
        (product[0], product[4], product[5]) = (f32::NAN, f32::INFINITY, -0.0);
        (added[4], added[5]) = (f32::NEG_INFINITY, -0.0);
        let statistics = Statistics {
            mean: vec![0.3, -1.0, 0.0],
            variance: vec![2.0, 0.1, 1.0],
        };
        let affine = Affine::new(&statistics, &[1.1, -0.7, 1.0], &[0.2, 0.0, -0.3], 1e-5);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for affine in [None, Some(&affine)] {
            for added in [None, Some(&added[..])] {
                for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
                    let mut expected = product.clone();
                    if let Some(affine) = affine {
                        apply(&product, affine, Activation::Identity, &mut expected);
                    }
                    for (i, y) in expected.iter_mut().enumerate() {
                        let sum = added.map_or(*y, |added| *y + added[i]);
                        *y = with_activation!(activation, |activation| activation.of(sum));
                    }
                    let after = After::new(3, affine, added, activation);
                    let mut made = product.clone();
                    let (first, rest) = made.split_at_mut(3 * 1_234);
                    after.apply(rest, 3 * 1_234);
                    after.apply(first, 0);
                    assert_eq!(bits(&made), bits(&expected), "{affine:?} {activation:?}");
                }
            }
        }
    }
}
