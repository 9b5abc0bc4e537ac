//! Watching what quantizers do to the tensors that reach them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::quantizers::integers::Integers;
use crate::quantizers::watch::observe::floats;
use crate::quantizers::watch::scope::within;

/// Values that one thread sums at a time.
const CHUNK: usize = 1 << 16;

/// Sums over values `x` and quantized values `q`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quality {
    /// Bits of the integers, sign included.
    pub bits: u32,
    /// Whether the integers are signed.
    pub signed: bool,
    /// The exponents of the integers' powers of two: one, or one per channel.
    pub log2_steps: Vec<i32>,
    /// Values.
    pub count: u64,
    /// Values beyond the grid's ends by more than half a step.
    pub clipped: u64,
    /// Sum of `x^2`.
    pub signal: f64,
    /// Sum of `(x - q)^2`.
    pub noise: f64,
    /// Sum of `q^2`.
    pub quantized: f64,
    /// Sum of `x q`.
    pub product: f64,
}

impl Quality {
    /// Signal to quantization noise ratio in decibels, `10 log10(sum x^2 / sum (x - q)^2)`; none where
    /// there is no noise, or no signal.
    pub fn sqnr(&self) -> Option<f64> {
        (self.signal > 0.0 && self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }

    /// Cosine of the angle between values and quantized values, `sum x q / sqrt(sum x^2 sum q^2)`; none
    /// where either is zero.
    pub fn cosine(&self) -> Option<f64> {
        let lengths = (self.signal * self.quantized).sqrt();
        (lengths > 0.0).then(|| self.product / lengths)
    }

    /// Adds a value, and what became of it.
    pub(crate) fn add(&mut self, x: f32, q: f32) {
        let (x, q) = (f64::from(x), f64::from(q));
        self.signal += x * x;
        self.noise += (x - q) * (x - q);
        self.quantized += q * q;
        self.product += x * q;
    }
}

/// What each quantizer did, by the first of its parameters that calibration sets; what each
/// accumulator did, by its switch.
pub type Qualities = BTreeMap<ParamId, Quality>;

thread_local! {
    static QUALITIES: RefCell<Option<Qualities>> = const { RefCell::new(None) };
}

/// Runs `body` while every trained threshold on this thread that is on measures what it does.
pub fn measuring(body: impl FnOnce()) -> Qualities {
    within(&QUALITIES, Some(Qualities::new()), body).unwrap_or_default()
}

/// Whether a [`measuring`] is under way on this thread.
pub(crate) fn is_measuring() -> bool {
    QUALITIES.with_borrow(Option::is_some)
}

/// Where a quantizer clips.
pub(crate) struct Grids {
    /// The integers that its results are.
    pub(crate) integers: Integers,
    /// The dimension with one power of two per index, where there are several.
    pub(crate) axis: usize,
}

/// Adds what a quantizer made of a tensor. A `parameter` is the same in every batch and measured
/// once.
pub(crate) fn record<const D: usize>(
    id: ParamId,
    grids: &Grids,
    x: &Tensor<D>,
    q: &Tensor<D>,
    parameter: bool,
) {
    QUALITIES.with_borrow_mut(|all| {
        let Some(all) = all else { return };
        if parameter && all.contains_key(&id) {
            return;
        }
        let inner: usize = x.dims()[grids.axis + 1..].iter().product::<usize>().max(1);
        let ends = grids.integers.unclipped();
        let read = |t: &Tensor<D>| t.clone().without_autodiff().into_data();
        let (x, q) = (read(x), read(q));
        let (x, q) = (floats(&x), floats(&q));
        let sums: Vec<Quality> = x
            .par_chunks(CHUNK)
            .zip(q.par_chunks(CHUNK))
            .enumerate()
            .map(|(chunk, (x, q))| sums(x, q, chunk * CHUNK, inner, &ends))
            .collect();
        let known = all.entry(id).or_insert(Quality {
            bits: grids.integers.bits,
            signed: grids.integers.min < 0,
            log2_steps: grids.integers.log2_steps.clone(),
            ..Quality::default()
        });
        for sum in sums {
            known.count += sum.count;
            known.clipped += sum.clipped;
            known.signal += sum.signal;
            known.noise += sum.noise;
            known.quantized += sum.quantized;
            known.product += sum.product;
        }
    });
}

/// The sums over values from the `first` one on.
fn sums(x: &[f32], q: &[f32], first: usize, inner: usize, ends: &[(f32, f32)]) -> Quality {
    let mut sum = Quality {
        count: x.len() as u64,
        ..Quality::default()
    };
    for (i, (&x, &q)) in x.iter().zip(q).enumerate() {
        let (least, largest) = match ends {
            [only] => *only,
            _ => ends[(first + i) / inner % ends.len()],
        };
        sum.clipped += u64::from(x < least || x > largest);
        sum.add(x, q);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hand() {
        // 3 bits, signed, threshold 1: step 1/4, ends -1 - 1/8 and 3/4 + 1/8.
        let grids = Grids {
            integers: Integers::below_thresholds(3, true, &[0.0, -0.5]),
            axis: 0,
        };
        let ends = grids.integers.unclipped();
        assert_eq!(ends, [(-1.125, 0.875); 2]);
        let quality = sums(&[2.0, 0.3, -1.1], &[0.75, 0.25, -1.0], 0, 1, &ends[..1]);
        assert_eq!((quality.count, quality.clipped), (3, 1));
        assert!((quality.noise - (1.5625 + 0.0025 + 0.01)).abs() < 1e-6);
        assert!((quality.product - (1.5 + 0.075 + 1.1)).abs() < 1e-6);
    }

    #[test]
    fn a_panic_inside_leaves_the_thread_as_it_was() {
        let panics = || std::panic::catch_unwind(|| measuring(|| panic!("inside"))).is_err();
        assert!(panics());
        assert!(!is_measuring());
        // Inside another one, the outer goes on.
        let seen = measuring(|| {
            assert!(panics());
            assert!(is_measuring());
            QUALITIES.with_borrow_mut(|all| {
                let all = all.as_mut().unwrap();
                assert!(all.is_empty());
                all.insert(ParamId::from(7), Quality::default());
            });
            assert!(panics());
        });
        assert_eq!(seen.len(), 1);
        assert!(!is_measuring());
    }
}
