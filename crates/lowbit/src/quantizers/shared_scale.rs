//! One scale for several tensors of a layer.

use std::cell::RefCell;

use burn::module::ParamId;

thread_local! {
    /// Of the layers whose parameters are being read on this thread.
    static SCALES: RefCell<Vec<(ParamId, f32)>> = const { RefCell::new(Vec::new()) };
}

/// While it is there, a layer's parameters that share a scale have this one, on this thread; see
/// [`Quantizers::share`](super::Quantizers::share).
#[derive(Debug)]
#[must_use = "the scale is shared until this is dropped"]
pub struct SharedScale {
    layer: ParamId,
}

impl SharedScale {
    pub(super) fn new(layer: ParamId, scale: f32) -> Self {
        SCALES.with_borrow_mut(|scales| scales.push((layer, scale)));
        Self { layer }
    }

    /// The scale of the layer of that identity, if it has one now.
    pub(super) fn of(layer: ParamId) -> Option<f32> {
        SCALES.with_borrow(|scales| {
            let of_layer = scales.iter().rev().find(|(known, _)| *known == layer);
            of_layer.map(|&(_, scale)| scale)
        })
    }
}

impl Drop for SharedScale {
    fn drop(&mut self) {
        SCALES.with_borrow_mut(|scales| {
            let last = scales.iter().rposition(|(layer, _)| *layer == self.layer);
            last.map(|at| scales.remove(at));
        });
    }
}
