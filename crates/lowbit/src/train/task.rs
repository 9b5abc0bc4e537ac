//! What a network learns: data, objective and metrics.

use std::borrow::Cow;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::{ClassificationOutput, TrainOutput};

use super::checkpoint::Sums;
use super::experiment::{Experiment, RunConfig};
use super::objective::Objective;
use super::regularization::Regularization;
use super::targets::Targets;
use crate::data::{Augment, ImageSet, Mixup, Parts, Split, epoch_order};
use crate::models::{Batch, Classifier, Network, classify};
use crate::quantizers::{UNTRAINED_STEP, set_rounding};

/// Images in a batch of a test.
const TEST_BATCH: usize = 256;

/// Images in a batch of calibration.
const CALIBRATION_BATCH: usize = 256;

/// What a network of type `M` learns: which examples there are, what a step's loss is, and what is
/// counted. A [`Trainer`](super::Trainer) needs to know no more, so that another kind of network,
/// input or loss is another task.
pub trait Task<M> {
    /// What a step gives beside gradients, to be counted.
    type Output;

    /// Examples to train on.
    fn examples(&self) -> usize;

    /// Forward and backward pass over the training examples `indices` as `epoch` sees them; the
    /// gradients are those of `loss_scale` times the loss.
    fn step(
        &self,
        model: &M,
        indices: &[u32],
        epoch: u32,
        loss_scale: f32,
    ) -> TrainOutput<Self::Output>;

    /// Adds what a step came to.
    fn count(&self, output: &Self::Output, sums: &mut Sums);

    /// Loss and metrics over the test data of a network in its validation form.
    fn test(&self, model: &M) -> Sums;

    /// The same over training data that is held out to choose the best checkpoint by, if any is.
    fn held_out(&self, _model: &M) -> Option<Sums> {
        None
    }

    /// Forward pass over the training examples `indices`, for those who watch the network.
    fn forward(&self, model: &M, indices: &[u32]);

    /// Forward pass as in a step, of which normalizations take note; a whole step unless a task can
    /// do with less.
    fn forward_training(&self, model: &M, indices: &[u32], epoch: u32) {
        self.step(model, indices, epoch, 1.0);
    }
}

/// Images to one class each.
#[derive(Debug, Clone)]
pub struct Classification<'a> {
    /// The data set.
    pub split: &'a Split,
    /// Crops and flips of training images, if any.
    pub augment: Option<Augment>,
    /// What else is done to them and their classes.
    pub regularization: Regularization,
    /// Where the randomness of all that comes from.
    pub seed: u64,
    /// The loss.
    pub objective: Objective,
    /// Which of the training images are trained on and which are held out; all are trained on
    /// without.
    pub parts: Option<Parts>,
    /// The device, without autodiff.
    pub device: &'a Device,
}

impl<'a> Classification<'a> {
    /// What a run of an experiment learns.
    pub fn new(
        experiment: &Experiment,
        run: &RunConfig,
        split: &'a Split,
        device: &'a Device,
    ) -> Self {
        Self {
            split,
            augment: experiment.data.augment().filter(|_| experiment.augment),
            regularization: run.regularization,
            seed: experiment.seed,
            objective: run.objective,
            parts: experiment.parts(split),
            device,
        }
    }

    /// The images that [`forward_calibration`] shows a network, in its batches.
    pub(super) fn calibration(&self, examples: usize, seed: u64) -> Vec<Tensor<4>> {
        let order = epoch_order(Task::<Network>::examples(self), seed, u32::MAX);
        let shown = &order[..order.len().min(examples)];
        let batches = shown.chunks(CALIBRATION_BATCH);
        batches
            .map(|indices| self.calibration_batch(indices))
            .collect()
    }

    /// The training images `indices` as they are.
    fn calibration_batch(&self, indices: &[u32]) -> Tensor<4> {
        let images = self.images(indices);
        batch(&self.split.train, &images, None, self.device).images
    }

    /// The places in the data set of the examples `indices`.
    fn images<'i>(&self, indices: &'i [u32]) -> Cow<'i, [u32]> {
        match &self.parts {
            None => indices.into(),
            Some(parts) => indices.iter().map(|&i| parts.train[i as usize]).collect(),
        }
    }

    /// What scores of training images come to against their classes.
    pub(super) fn output(&self, scores: Tensor<2>, targets: Targets) -> ClassificationOutput {
        ClassificationOutput {
            targets: targets.classes.clone(),
            loss: self.objective.loss(scores.clone(), targets),
            output: scores,
        }
    }

    /// The training images `indices` as `epoch` sees them, and what their scores are held against.
    pub(super) fn training_batch(&self, indices: &[u32], epoch: u32) -> (Tensor<4>, Targets) {
        let set = &self.split.train;
        let images = self.images(indices);
        let indices: &[u32] = &images;
        let augment = self.augment.as_ref().map(|a| (a, self.seed, epoch));
        let mut pixels = pixels(set, indices, augment);
        if let Some(cutout) = self.regularization.cutting() {
            let images = pixels.chunks_exact_mut(set.view_len());
            let size = [set.height, set.width];
            for (image, &index) in images.zip(indices) {
                cutout.apply(image, size, self.seed, epoch, index);
            }
        }
        let share = self.regularization.mixing().map(|mixup| {
            let share = mixup.share(self.seed, epoch, indices);
            Mixup::mix(&mut pixels, set.view_len(), share);
            share
        });
        let device = self.device.clone().autodiff();
        let batch = tensors(set, indices, pixels, &device);
        let classes = batch.targets;
        let targets = Targets {
            mixed: share.map(|share| (next(classes.clone()), share)),
            classes,
            smoothing: self.regularization.label_smoothing as f32,
        };
        (batch.images, targets)
    }
}

impl<M: Classifier> Task<M> for Classification<'_> {
    type Output = ClassificationOutput;

    fn examples(&self) -> usize {
        let parts = self.parts.as_ref();
        parts.map_or(self.split.train.len(), |parts| parts.train.len())
    }

    fn step(
        &self,
        model: &M,
        indices: &[u32],
        epoch: u32,
        loss_scale: f32,
    ) -> TrainOutput<ClassificationOutput> {
        let (images, targets) = self.training_batch(indices, epoch);
        let output = self.output(model.forward(images), targets);
        let loss = scaled(output.loss.clone(), loss_scale);
        TrainOutput::new(model, loss.backward(), output)
    }

    fn count(&self, output: &ClassificationOutput, sums: &mut Sums) {
        count(output, sums);
    }

    fn test(&self, model: &M) -> Sums {
        evaluate(model, &self.split.test, self.objective, self.device)
    }

    fn held_out(&self, model: &M) -> Option<Sums> {
        let images = &self.parts.as_ref()?.held_out;
        let set = &self.split.train;
        let sums = evaluate_images(model, set, images, self.objective, self.device);
        Some(sums)
    }

    fn forward(&self, model: &M, indices: &[u32]) {
        for indices in indices.chunks(CALIBRATION_BATCH) {
            model.forward(self.calibration_batch(indices));
        }
    }

    fn forward_training(&self, model: &M, indices: &[u32], epoch: u32) {
        model.forward(self.training_batch(indices, epoch).0);
    }
}

/// For each the one after it, for the last the first: what [`Mixup`] mixes with what.
fn next(classes: Tensor<1, Int>) -> Tensor<1, Int> {
    let [length] = classes.dims();
    let rest = classes.clone().narrow(0, 1, length - 1);
    Tensor::cat(vec![rest, classes.narrow(0, 0, 1)], 0)
}

/// The loss times its scale.
pub(super) fn scaled(loss: Tensor<1>, scale: f32) -> Tensor<1> {
    match scale == 1.0 {
        true => loss,
        false => loss * scale,
    }
}

/// Runs a network on the first examples of an order of their own, the same for every run of a seed:
/// what thresholds are calibrated with.
pub(crate) fn forward_calibration<M>(task: &impl Task<M>, model: &M, examples: usize, seed: u64) {
    let order = epoch_order(task.examples(), seed, u32::MAX);
    task.forward(model, &order[..order.len().min(examples)]);
}

/// Loss and accuracy of a network in its validation form over a set of images.
pub fn evaluate<M: Classifier>(
    model: &M,
    set: &ImageSet,
    objective: Objective,
    device: &Device,
) -> Sums {
    let all: Vec<u32> = (0..set.len() as u32).collect();
    evaluate_images(model, set, &all, objective, device)
}

/// The same over the images `indices` alone.
fn evaluate_images<M: Classifier>(
    model: &M,
    set: &ImageSet,
    indices: &[u32],
    objective: Objective,
    device: &Device,
) -> Sums {
    set_rounding(0, UNTRAINED_STEP);
    let mut sums = Sums::default();
    for indices in indices.chunks(TEST_BATCH) {
        let batch = batch(set, indices, None, device);
        let output = classify(model, batch, |scores, targets| {
            objective.loss(scores, targets)
        });
        count(&output, &mut sums);
    }
    sums
}

/// Adds a batch. Of classes with the same score, the first has the highest; so is it among the five
/// highest.
fn count(output: &ClassificationOutput, sums: &mut Sums) {
    let [images, classes] = output.output.dims();
    // What was not counted from the start is not counted at all: a checkpoint of before there was
    // this count.
    if classes > 5 && (sums.images == 0 || sums.correct_top5.is_some()) {
        *sums.correct_top5.get_or_insert(0) += among_five(output, classes);
    }
    let predicted: Tensor<1, Int> = output.output.clone().argmax(1).flatten(0, 1);
    let correct = predicted.equal(output.targets.clone()).int().sum();
    sums.loss += output.loss.clone().into_scalar::<f64>() * images as f64;
    sums.correct += correct.into_scalar::<i64>() as u64;
    sums.images += images as u64;
}

/// The images whose class is among those with the five highest scores.
fn among_five(output: &ClassificationOutput, classes: usize) -> u64 {
    let scores = output.output.clone().into_data().convert::<f32>();
    let scores = scores.as_slice::<f32>().expect("it was converted");
    let targets = output.targets.clone().into_data();
    let rows = scores.chunks_exact(classes).zip(targets.iter::<i64>());
    let among = rows.filter(|(row, target)| {
        let target = *target as usize;
        let before = |&(class, &score): &(usize, &f32)| {
            score > row[target] || score == row[target] && class < target
        };
        row.iter().enumerate().filter(before).count() < 5
    });
    among.count() as u64
}

/// The images and classes of `indices` as tensors on `device`.
pub fn batch(
    set: &ImageSet,
    indices: &[u32],
    augment: Option<(&Augment, u64, u32)>,
    device: &Device,
) -> Batch {
    tensors(set, indices, pixels(set, indices, augment), device)
}

/// The normalized images of `indices`, one after the other.
fn pixels(set: &ImageSet, indices: &[u32], augment: Option<(&Augment, u64, u32)>) -> Vec<f32> {
    let mut pixels = vec![0.0; indices.len() * set.view_len()];
    set.fill_batch(indices, augment, &mut pixels);
    pixels
}

/// Those and their classes as tensors.
fn tensors(set: &ImageSet, indices: &[u32], pixels: Vec<f32>, device: &Device) -> Batch {
    let shape = [indices.len(), set.channels, set.height, set.width];
    let labels = set.batch_labels(indices);
    let answers = labels.len();
    Batch {
        images: Tensor::from_data(TensorData::new(pixels, shape), device),
        targets: Tensor::from_data(TensorData::new(labels, [answers]), device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(scores: [[f32; 7]; 3], targets: [i32; 3]) -> Sums {
        let device = Device::flex();
        let output = ClassificationOutput {
            loss: Tensor::from_floats([1.0f32], &device),
            output: Tensor::from_floats(scores, &device),
            targets: Tensor::from_ints(targets, &device),
        };
        let mut sums = Sums::default();
        count(&output, &mut sums);
        sums
    }

    /// Seven classes, the highest score in the first: the fifth is among the five highest, the sixth
    /// is not.
    #[test]
    fn the_five_highest_scores_by_hand() {
        let falling = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let sums = counted([falling; 3], [0, 4, 5]);
        assert_eq!((sums.correct, sums.correct_top5), (1, Some(2)));
        assert_eq!(sums.top5_accuracy(), Some(2.0 / 3.0));
    }

    /// All scores are the same: the first class is the highest, the first five are the five highest.
    #[test]
    fn of_equal_scores_the_first_are_the_highest() {
        let sums = counted([[0.5; 7]; 3], [0, 4, 5]);
        assert_eq!((sums.correct, sums.correct_top5), (1, Some(2)));
    }

    /// Of a checkpoint from before there was the count.
    #[test]
    fn what_was_not_counted_from_the_start_is_not_counted() {
        let text = r#"{"loss": 1.0, "correct": 1, "images": 2}"#;
        let mut sums: Sums = serde_json::from_str(text).unwrap();
        let device = Device::flex();
        let output = ClassificationOutput {
            loss: Tensor::from_floats([1.0f32], &device),
            output: Tensor::zeros([1, 10], &device),
            targets: Tensor::from_ints([0], &device),
        };
        count(&output, &mut sums);
        assert_eq!((sums.correct, sums.images), (2, 3));
        assert_eq!(sums.top5_accuracy(), None);
    }
}
