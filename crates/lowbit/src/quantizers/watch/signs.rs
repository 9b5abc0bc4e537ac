//! Which tensors can never hold a negative number, by the layers that made them.

use std::collections::{BTreeMap, HashMap};

use burn::module::ParamId;
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::quantizers::watch::observe::floats;

/// Values that one thread looks at at a time.
const CHUNK: usize = 1 << 16;

/// What the results of a layer can be, whatever its parameters become in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signs {
    /// Of both signs: sums of products, normalizations.
    #[default]
    Any,
    /// Never negative: a rectifier.
    NeverNegative,
    /// Never negative where no input is: a pool, a sum, a concatenation.
    OfInputs,
}

/// What layers made, while calibration runs the network.
///
/// A tensor is known again by the sum of a hash over its numbers, which no reshaping or transposing
/// between two layers changes.
#[derive(Debug, Default)]
pub(super) struct Producers {
    /// Of the results of layers: whether they can never be negative.
    made: HashMap<(usize, u64), bool>,
    /// Of the inputs that a layer has read since its last result.
    read: BTreeMap<ParamId, bool>,
}

impl Producers {
    /// Whether a tensor that a layer reads can never be negative; `None` where no layer made it.
    pub(super) fn reads<const D: usize>(&mut self, layer: ParamId, x: &Tensor<D>) -> Option<bool> {
        let (key, negative) = look(x);
        let known = self.made.get(&key).copied();
        // Of what no layer made, the numbers tell.
        let never = known.unwrap_or(!negative);
        self.read
            .entry(layer)
            .and_modify(|all| *all &= never)
            .or_insert(never);
        known
    }

    /// Whether the result of a layer can never be negative.
    pub(super) fn makes<const D: usize>(
        &mut self,
        layer: ParamId,
        signs: Signs,
        y: &Tensor<D>,
    ) -> bool {
        let read = self.read.remove(&layer);
        let never = match signs {
            Signs::Any => false,
            Signs::NeverNegative => true,
            Signs::OfInputs => read.unwrap_or(false),
        };
        self.made
            .entry(look(y).0)
            .and_modify(|all| *all &= never)
            .or_insert(never);
        never
    }
}

/// By what a tensor is known again, and whether a number of it is negative.
fn look<const D: usize>(x: &Tensor<D>) -> ((usize, u64), bool) {
    let data = x.clone().without_autodiff().into_data();
    let values = floats(&data);
    let (sum, negative) = values
        .par_chunks(CHUNK)
        .map(|values| {
            let each = values.iter().map(|x| (hash(x.to_bits()), *x < 0.0));
            each.fold((0u64, false), both)
        })
        .reduce(|| (0, false), both);
    ((values.len(), sum), negative)
}

fn both((sum, negative): (u64, bool), (next, also): (u64, bool)) -> (u64, bool) {
    (sum.wrapping_add(next), negative | also)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn hash(bits: u32) -> u64 {
    let z = u64::from(bits).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn tensor(values: [[f32; 3]; 2]) -> Tensor<2> {
        Tensor::from_floats(values, &Device::flex())
    }

    #[test]
    fn a_tensor_is_known_again_in_another_shape() {
        let mut producers = Producers::default();
        let [layer, next] = [1, 2].map(ParamId::from);
        let y = tensor([[1.0, 2.0, 0.0], [4.0, 5.0, 6.0]]);
        assert!(producers.makes(layer, Signs::NeverNegative, &y));
        let flat: Tensor<1> = y.clone().transpose().flatten(0, 1);
        assert_eq!(producers.reads(next, &flat), Some(true));
        // A pool of it is as good, its sum with something else is not.
        let pooled = tensor([[1.5; 3]; 2]);
        assert!(producers.makes(next, Signs::OfInputs, &pooled));
        assert_eq!(producers.reads(next, &pooled), Some(true));
        assert_eq!(producers.reads(next, &(y - 3.0)), None);
        assert!(!producers.makes(next, Signs::OfInputs, &tensor([[2.5; 3]; 2])));
    }

    #[test]
    fn positive_sums_of_products_may_be_negative_tomorrow() {
        let mut producers = Producers::default();
        let y = tensor([[1.0; 3]; 2]);
        assert!(!producers.makes(ParamId::from(1), Signs::Any, &y));
        assert_eq!(producers.reads(ParamId::from(2), &y), Some(false));
    }
}
