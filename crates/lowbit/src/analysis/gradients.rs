//! Gradients of the loss.

use burn::tensor::Device;

use super::compare::images_at_once;
use super::prediction::differentiable;
use crate::data::ImageSet;
use crate::models::Classifier;
use crate::ops::cross_entropy;
use crate::quantizers::{Selection, Slot, Taps};
use crate::train::{NamedTensor, batch};

/// The gradients of the mean cross-entropy of the first images with respect to every weight, bias and input of a
/// layer, with the quantizers off, in the order of the forward; of as many images as a pass holds at once.
pub(super) fn loss_gradients<M: Classifier>(
    model: &M,
    (set, images): (&ImageSet, &[u32]),
    device: &Device,
) -> Vec<NamedTensor> {
    let model = differentiable(model);
    let slots = [Slot::INPUT, Slot::WEIGHT, Slot::BIAS];
    let selection = slots.into_iter().fold(Selection::all(), Selection::slot);
    let taps = Taps::attach_with_gradients(&model, selection);
    let first = &images[..images.len().min(images_at_once(set))];
    let shown = batch(set, first, None, &device.clone().autodiff());
    let scores = model.forward(shown.images.require_grad());
    cross_entropy(scores, shown.targets).backward();
    let seen = taps.detach().into_iter();
    let gradients = seen.filter_map(|tapped| {
        Some(NamedTensor {
            path: tapped.path(),
            tensor: tapped.gradient?,
        })
    });
    gradients.collect()
}
