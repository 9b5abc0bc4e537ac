//! What a network learns: data, objective and metrics.

use std::borrow::Cow;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::{ClassificationOutput, TrainOutput};

use super::checkpoint::Sums;
use super::experiment::{Experiment, RunConfig};
use super::objective::Objective;
use crate::data::{Augment, ImageSet, Parts, Split, epoch_order};
use crate::models::{Batch, Classifier, classify};
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
    /// Where the randomness of crops and flips comes from.
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
            seed: experiment.seed,
            objective: run.objective,
            parts: experiment.parts(split),
            device,
        }
    }

    /// The places in the data set of the examples `indices`.
    fn images<'i>(&self, indices: &'i [u32]) -> Cow<'i, [u32]> {
        match &self.parts {
            None => indices.into(),
            Some(parts) => indices.iter().map(|&i| parts.train[i as usize]).collect(),
        }
    }

    /// The scores that `forward` computes of the training images `indices` as `epoch` sees them, and
    /// their loss.
    pub(super) fn pass(
        &self,
        indices: &[u32],
        epoch: u32,
        forward: impl FnOnce(Tensor<4>) -> Tensor<2>,
    ) -> ClassificationOutput {
        let batch = self.training_batch(indices, epoch);
        let output = forward(batch.images);
        let loss = self.objective.loss(output.clone(), batch.targets.clone());
        ClassificationOutput {
            loss,
            output,
            targets: batch.targets,
        }
    }

    fn training_batch(&self, indices: &[u32], epoch: u32) -> Batch {
        let augment = self.augment.as_ref().map(|a| (a, self.seed, epoch));
        let device = self.device.clone().autodiff();
        batch(&self.split.train, &self.images(indices), augment, &device)
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
        let output = self.pass(indices, epoch, |images| model.forward(images));
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
            let images = self.images(indices);
            let batch = batch(&self.split.train, &images, None, self.device);
            model.forward(batch.images);
        }
    }

    fn forward_training(&self, model: &M, indices: &[u32], epoch: u32) {
        model.forward(self.training_batch(indices, epoch).images);
    }
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
pub(super) fn forward_calibration<M>(task: &impl Task<M>, model: &M, examples: usize, seed: u64) {
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

/// Adds a batch.
fn count(output: &ClassificationOutput, sums: &mut Sums) {
    let images = output.targets.dims()[0];
    let predicted: Tensor<1, Int> = output.output.clone().argmax(1).flatten(0, 1);
    let correct = predicted.equal(output.targets.clone()).int().sum();
    sums.loss += output.loss.clone().into_scalar::<f64>() * images as f64;
    sums.correct += correct.into_scalar::<i64>() as u64;
    sums.images += images as u64;
}

/// The images and classes of `indices` as tensors on `device`.
pub fn batch(
    set: &ImageSet,
    indices: &[u32],
    augment: Option<(&Augment, u64, u32)>,
    device: &Device,
) -> Batch {
    let shape = [indices.len(), set.channels, set.height, set.width];
    let mut pixels = vec![0.0f32; shape.iter().product()];
    set.fill_batch(indices, augment, &mut pixels);
    let labels = set.batch_labels(indices);
    Batch {
        images: Tensor::from_data(TensorData::new(pixels, shape), device),
        targets: Tensor::from_data(TensorData::new(labels, [indices.len()]), device),
    }
}
