//! Watching what reaches the quantizers, for calibration.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::{DType, Tensor, TensorData};

use crate::quantizers::methods::Of;
use crate::quantizers::threshold_init::ThresholdInit;
use crate::quantizers::watch::histogram::Histogram;
use crate::quantizers::watch::scope::within;
use crate::quantizers::watch::signs::{Producers, Signs};

/// What reached one quantizer, and what its thresholds are to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Bits of the integers, sign included.
    pub bits: u32,
    /// How a threshold is chosen.
    pub init: ThresholdInit,
    /// Whether the tensor may come to hold negative numbers although none was seen: a parameter,
    /// which training may bring to either sign, or what a layer made that may make them.
    pub may_be_negative: bool,
    /// The values, one histogram per threshold.
    pub histograms: Vec<Histogram>,
}

/// What each quantizer saw, by the first of its parameters that calibration sets.
pub type Observations = BTreeMap<ParamId, Observation>;

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Observer {
    observations: Observations,
    producers: Producers,
}

/// Runs `body` while every quantizer on this thread lets its tensor through unquantized and
/// counts its values; returns what was seen.
pub fn observe(body: impl FnOnce()) -> Observations {
    let observer = within(&OBSERVER, Some(Observer::default()), body);
    observer.unwrap_or_default().observations
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

/// Whether a tensor that the layer reads can never be negative, while the network is observed; `None`
/// where no layer made it.
pub(crate) fn reads<const D: usize>(layer: ParamId, x: &Tensor<D>) -> Option<bool> {
    OBSERVER.with_borrow_mut(|observer| observer.as_mut()?.producers.reads(layer, x))
}

/// The same of the layer's result, which other layers may read.
pub(crate) fn makes<const D: usize>(layer: ParamId, signs: Signs, y: &Tensor<D>) -> Option<bool> {
    OBSERVER.with_borrow_mut(|observer| Some(observer.as_mut()?.producers.makes(layer, signs, y)))
}

/// Counts the values of a tensor that reached a quantizer. A parameter is the same in every batch
/// and counted once.
pub(crate) fn record<const D: usize>(quantizer: &Observed, x: &Tensor<D>, of: Of<'_>) {
    OBSERVER.with_borrow_mut(|observer| {
        let Some(observer) = observer else { return };
        let all = &mut observer.observations;
        let parameter = matches!(of, Of::Parameter(_));
        if parameter && all.contains_key(&quantizer.id) {
            return;
        }
        let may_be_negative = parameter
            || matches!(
                of,
                Of::Batch {
                    never_negative: Some(false)
                }
            );
        let observation = all.entry(quantizer.id).or_insert_with(|| Observation {
            bits: quantizer.bits,
            init: quantizer.init,
            may_be_negative,
            histograms: vec![Histogram::default(); quantizer.thresholds],
        });
        observation.may_be_negative |= may_be_negative;
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
            OBSERVER.with_borrow_mut(|observer| {
                let all = &mut observer.as_mut().unwrap().observations;
                assert!(all.is_empty());
                all.insert(
                    ParamId::from(7),
                    Observation {
                        bits: 8,
                        may_be_negative: false,
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
