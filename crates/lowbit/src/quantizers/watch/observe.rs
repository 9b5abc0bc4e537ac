//! Watching what reaches the quantizers, for calibration.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{DType, Tensor, TensorData};

use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::histogram::Histogram;
use crate::quantizers::watch::scope::within;

/// What reached one quantizer, and what its thresholds are to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Bits of the integers, sign included.
    pub bits: u32,
    /// How a threshold is chosen.
    pub init: ThresholdInit,
    /// Whether the tensor is a parameter, which training may bring to either sign.
    pub parameter: bool,
    /// The values, one histogram per threshold.
    pub histograms: Vec<Histogram>,
}

/// What each quantizer saw, by the first of its parameters that calibration sets.
pub type Observations = BTreeMap<ParamId, Observation>;

thread_local! {
    static OBSERVER: RefCell<Option<Observations>> = const { RefCell::new(None) };
}

/// Runs `body` while every quantizer on this thread lets its tensor through unquantized and
/// counts its values; returns what was seen.
pub fn observe(body: impl FnOnce()) -> Observations {
    within(&OBSERVER, Some(Observations::new()), body).unwrap_or_default()
}

/// Whether an [`observe`] is under way on this thread.
pub(crate) fn is_observing() -> bool {
    OBSERVER.with_borrow(Option::is_some)
}

/// A quantizer that a tensor reached.
pub(crate) struct Observed {
    /// The first of its parameters that calibration sets.
    pub(crate) id: ParamId,
    pub(crate) bits: u32,
    pub(crate) init: ThresholdInit,
    /// One threshold for the whole tensor, or one per index of `axis`.
    pub(crate) thresholds: usize,
    pub(crate) axis: usize,
}

/// Counts the values of a tensor that reached a quantizer. A `parameter` is the same in every batch
/// and counted once.
pub(crate) fn record<const D: usize>(quantizer: &Observed, x: &Tensor<D>, parameter: bool) {
    OBSERVER.with_borrow_mut(|observer| {
        let Some(all) = observer else { return };
        if parameter && all.contains_key(&quantizer.id) {
            return;
        }
        let observation = all.entry(quantizer.id).or_insert_with(|| Observation {
            bits: quantizer.bits,
            init: quantizer.init,
            parameter,
            histograms: vec![Histogram::default(); quantizer.thresholds],
        });
        let x = x.clone().without_autodiff();
        if let [histogram] = &mut observation.histograms[..] {
            histogram.record(&floats(&x.into_data()));
            return;
        }
        let rows = x.swap_dims(0, quantizer.axis).flatten::<2>(1, D - 1);
        let length = rows.dims()[1].max(1);
        let data = rows.into_data();
        for (histogram, row) in observation
            .histograms
            .iter_mut()
            .zip(floats(&data).chunks(length))
        {
            histogram.record(row);
        }
    });
}

/// The values of a tensor as `f32`, without a copy where they are.
pub(crate) fn floats(data: &TensorData) -> std::borrow::Cow<'_, [f32]> {
    match data.dtype() {
        DType::F32 => data.as_slice::<f32>().expect("it holds f32").into(),
        _ => data.iter::<f32>().collect::<Vec<_>>().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_leaves_the_thread_as_it_was() {
        let panics = || std::panic::catch_unwind(|| observe(|| panic!("inside"))).is_err();
        assert!(panics());
        assert!(!is_observing());
        // Inside another one, the outer goes on.
        let seen = observe(|| {
            assert!(panics());
            assert!(is_observing());
            OBSERVER.with_borrow_mut(|all| {
                let all = all.as_mut().unwrap();
                assert!(all.is_empty());
                all.insert(
                    ParamId::from(7),
                    Observation {
                        bits: 8,
                        parameter: false,
                        init: ThresholdInit::Max,
                        histograms: Vec::new(),
                    },
                );
            });
            assert!(panics());
        });
        assert_eq!(seen.len(), 1);
        assert!(!is_observing());
    }
}
