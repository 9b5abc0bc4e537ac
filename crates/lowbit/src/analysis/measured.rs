//! What a network says of images, with some of its layers quantized.

use std::collections::BTreeSet;

use burn::tensor::Device;
use serde::Serialize;

use crate::data::ImageSet;
use crate::models::Classifier;
use crate::quantizers::{Place, UNTRAINED_STEP, set_quantization, set_rounding};
use crate::train::{Tested, batch};

/// Images in a batch.
const BATCH: usize = 256;

/// What a network says of each of some images; of windows of text, of each of their characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answers {
    /// Cross-entropy of each.
    pub(super) losses: Vec<f64>,
    /// The class with the highest score, the first of several.
    pub(super) classes: Vec<usize>,
    /// Their own classes.
    pub(super) targets: Vec<usize>,
}

impl Answers {
    /// Those of a network in its validation form.
    pub(super) fn of<M: Classifier>(
        model: &M,
        set: &ImageSet,
        images: &[u32],
        device: &Device,
    ) -> Self {
        set_rounding(0, UNTRAINED_STEP);
        let mut answers = Self {
            losses: Vec::new(),
            classes: Vec::new(),
            targets: set
                .batch_labels(images)
                .into_iter()
                .map(|label| label as usize)
                .collect(),
        };
        for indices in images.chunks(BATCH) {
            let scores = model
                .forward(batch(set, indices, None, device).images)
                .into_data();
            let scores: Vec<f32> = scores.iter::<f32>().collect();
            let first = answers.losses.len();
            for (row, &target) in scores.chunks(set.classes).zip(&answers.targets[first..]) {
                answers.losses.push(cross_entropy(row, target));
                answers.classes.push(highest(row));
            }
        }
        answers
    }

    /// Mean loss and the share that is right.
    pub(super) fn tested(&self) -> Tested {
        let count = self.losses.len().max(1) as f64;
        let right = (0..self.losses.len()).filter(|&i| self.is_right(i)).count();
        Tested {
            loss: self.losses.iter().sum::<f64>() / count,
            accuracy: right as f64 / count,
        }
    }

    /// Whether the class of an image is found.
    pub(super) fn is_right(&self, i: usize) -> bool {
        self.classes[i] == self.targets[i]
    }
}

/// `log sum exp(z) - z[target]`, in `f64`.
fn cross_entropy(scores: &[f32], target: usize) -> f64 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|&z| f64::from(z - most).exp()).sum();
    sum.ln() + f64::from(most) - f64::from(scores[target])
}

fn highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = i;
        }
    }
    best
}

/// What one layer's quantization costs, by running the network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeasuredSensitivity {
    /// The network with this layer alone quantized.
    pub only: Tested,
    /// The network with all layers but this one quantized.
    pub all_but: Tested,
    /// The loss that this layer alone adds to that of the network with its quantizers off, in nats.
    pub added: f64,
    /// The standard error of that mean over images; infinite of a single one.
    pub standard_error: f64,
}

impl MeasuredSensitivity {
    /// What the answers of those networks come to.
    pub(super) fn of(off: &Answers, only: &Answers, all_but: &Answers) -> Self {
        let (added, standard_error) = added_loss(off, only);
        Self {
            only: only.tested(),
            all_but: all_but.tested(),
            added,
            standard_error,
        }
    }
}

/// The mean loss of the images with one network over that with another, and its standard error, which is infinite
/// of a single image.
pub(super) fn added_loss(before: &Answers, after: &Answers) -> (f64, f64) {
    let pairs = after.losses.iter().zip(&before.losses);
    let added: Vec<f64> = pairs.map(|(after, before)| after - before).collect();
    let count = added.len().max(1) as f64;
    let mean = added.iter().sum::<f64>() / count;
    let squares: f64 = added.iter().map(|added| (added - mean).powi(2)).sum();
    let standard_error = match added.len() {
        0 | 1 => f64::INFINITY,
        _ => (squares / (count - 1.0) / count).sqrt(),
    };
    (mean, standard_error)
}

/// The network with the quantizers of the chosen layers on, and all others off.
pub(super) fn with_layers<M: Classifier>(model: &M, on: impl Fn(&Place) -> bool) -> M {
    let (model, _) = set_quantization(model.clone(), false, |place| !on(place));
    set_quantization(model, true, on).0
}

/// The answers with each layer alone quantized, and with all but each, for the layers of `paths`.
pub(super) fn each_layer<M: Classifier>(
    model: &M,
    paths: &BTreeSet<String>,
    mut answers: impl FnMut(&M) -> Answers,
) -> Vec<(String, Answers, Answers)> {
    let of_layer = |path: &String| {
        let only = with_layers(model, |place| place.layer == *path);
        let all_but = with_layers(model, |place| place.layer != *path);
        (path.clone(), answers(&only), answers(&all_but))
    };
    paths.iter().map(of_layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Added losses 1 and 3: their mean is 2, their variance as of a sample 2, over two images 1.
    #[test]
    fn added_loss_by_hand() {
        let answers = |losses: [f64; 2]| Answers {
            losses: losses.into(),
            classes: vec![0, 0],
            targets: vec![0, 1],
        };
        let found = MeasuredSensitivity::of(
            &answers([0.5, 0.0]),
            &answers([1.5, 3.0]),
            &answers([0.0, 0.0]),
        );
        assert_eq!((found.added, found.standard_error), (2.0, 1.0));
        assert_eq!((found.only.loss, found.only.accuracy), (2.25, 0.5));
    }

    #[test]
    fn one_image_says_nothing_of_chance() {
        let answers = |loss: f64| Answers {
            losses: vec![loss],
            classes: vec![0],
            targets: vec![0],
        };
        let found = MeasuredSensitivity::of(&answers(0.5), &answers(1.5), &answers(0.0));
        assert_eq!((found.added, found.standard_error), (1.0, f64::INFINITY));
    }

    /// Scores 0 and ln 3: shares 1/4 and 3/4.
    #[test]
    fn loss_by_hand() {
        let scores = [0.0, 3f32.ln()];
        assert!((cross_entropy(&scores, 0) - 4f64.ln()).abs() < 1e-6);
        assert!((cross_entropy(&scores, 1) - (4f64 / 3.0).ln()).abs() < 1e-6);
        assert_eq!((highest(&scores), highest(&[1.0, 1.0])), (1, 0));
    }
}
