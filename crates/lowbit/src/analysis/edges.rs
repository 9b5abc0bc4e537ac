//! Which layers read what which others made.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};

use burn::tensor::Tensor;

use crate::models::Classifier;
use crate::quantizers::{Selection, Slot, Tapped, Taps};

/// The way of images through a network.
#[derive(Debug, Default)]
pub(super) struct Edges {
    /// The layers in the order in which they first hand something on.
    order: Vec<String>,
    /// For each layer, those whose results it reads.
    reads: BTreeMap<String, Vec<String>>,
}

impl Edges {
    /// The place of a layer in that order; of one that hands on nothing, behind all others.
    pub(super) fn place(&self, layer: &str) -> usize {
        let found = self.order.iter().position(|known| known == layer);
        found.unwrap_or(self.order.len())
    }

    /// The layers whose results a layer reads.
    pub(super) fn read_by(&self, layer: &str) -> Vec<String> {
        self.reads.get(layer).cloned().unwrap_or_default()
    }
}

/// What one pass over images shows. A tensor is known again by its numbers, which no reshaping between
/// two layers changes; `float` has its quantizers off, so that a result is read as it was made.
pub(super) fn edges<M: Classifier>(float: &M, images: Tensor<4>) -> Edges {
    let selection = Selection::all().slot(Slot::INPUT).slot(Slot::OUTPUT);
    let taps = Taps::attach(float, selection);
    float.forward(images);
    let mut made: HashMap<u64, String> = HashMap::new();
    let mut edges = Edges::default();
    for tapped in taps.detach() {
        let layer = tapped.place.layer.clone();
        let known = hash(&tapped);
        if tapped.place.slot == Slot::OUTPUT {
            if !edges.order.contains(&layer) {
                edges.order.push(layer.clone());
            }
            made.insert(known, layer);
        } else if let Some(source) = made.get(&known) {
            let sources = edges.reads.entry(layer).or_default();
            if !sources.contains(source) {
                sources.push(source.clone());
            }
        }
    }
    edges
}

fn hash(tapped: &Tapped) -> u64 {
    let mut hasher = DefaultHasher::new();
    for x in tapped.tensor.iter::<f32>() {
        // Zero has one sign here.
        hasher.write_u32((x + 0.0).to_bits());
    }
    hasher.finish()
}
