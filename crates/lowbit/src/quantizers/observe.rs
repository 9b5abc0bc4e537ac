//! Watching what reaches the quantizers, for calibration.

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::tensor::Tensor;

/// The extremes of the values that reached a quantizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The smallest value.
    pub min: f32,
    /// The largest value.
    pub max: f32,
}

/// What each quantizer saw: per threshold parameter, one observation per threshold.
pub type Observations = BTreeMap<ParamId, Vec<Observation>>;

thread_local! {
    static OBSERVER: RefCell<Option<Observations>> = const { RefCell::new(None) };
}

/// Runs `body` while every quantizer on this thread lets its tensor through unquantized and
/// records its extremes; returns what was seen.
pub fn observe(body: impl FnOnce()) -> Observations {
    let outer = OBSERVER.replace(Some(Observations::new()));
    body();
    OBSERVER.replace(outer).unwrap_or_default()
}

/// Whether an [`observe`] is under way on this thread.
pub(super) fn is_observing() -> bool {
    OBSERVER.with_borrow(Option::is_some)
}

/// Adds a tensor that reached the quantizer with the given threshold parameter: one threshold for
/// the whole tensor, or one per index of `axis`.
pub(super) fn record<const D: usize>(id: ParamId, x: &Tensor<D>, thresholds: usize, axis: usize) {
    let x = x.clone().without_autodiff();
    let seen: Vec<Observation> = if thresholds == 1 {
        let (min, max) = (x.clone().min().into_scalar(), x.max().into_scalar());
        vec![Observation { min, max }]
    } else {
        let rows = x.swap_dims(0, axis).flatten::<2>(1, D - 1);
        let extremes = |t: Tensor<2>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let (min, max) = (extremes(rows.clone().min_dim(1)), extremes(rows.max_dim(1)));
        min.into_iter()
            .zip(max)
            .map(|(min, max)| Observation { min, max })
            .collect()
    };
    OBSERVER.with_borrow_mut(|observer| {
        let Some(all) = observer else { return };
        let known = all.entry(id).or_insert_with(|| seen.clone());
        for (known, seen) in known.iter_mut().zip(seen) {
            known.min = known.min.min(seen.min);
            known.max = known.max.max(seen.max);
        }
    });
}
