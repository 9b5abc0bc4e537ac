//! What every network that sorts images into classes can do.

use burn::module::Module;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Int, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainStep};

use super::snn::{Activity, SpikeTime};
use crate::config::{Fold, Layer};

/// Images and their classes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[batch, channels, height, width]`
    pub images: Tensor<4>,
    /// `[batch]`, each from 0 to the number of classes less one; of text `[batch * width]`.
    pub targets: Tensor<1, Int>,
}

/// A convolution and the batch normalization after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedPair {
    /// The convolution's path.
    pub conv: String,
    /// The normalization's path.
    pub norm: String,
}

impl FoldedPair {
    /// The pair with these paths.
    pub fn new(conv: impl Into<String>, norm: impl Into<String>) -> Self {
        Self {
            conv: conv.into(),
            norm: norm.into(),
        }
    }
}

/// What a network computes on its way from images to scores, and in the end.
#[derive(Debug, Clone)]
pub struct Stages {
    /// What each of its stages hands on, in order, `[batch, channels, height, width]`; none of a
    /// network that names no stages.
    pub features: Vec<Tensor<4>>,
    /// `[batch, classes]`
    pub scores: Tensor<2>,
}

/// A network from images to class scores, which Burn's learner and ours can train.
pub trait Classifier:
    Module
    + TrainStep<Input = Batch, Output = ClassificationOutput>
    + InferenceStep<Input = Batch, Output = ClassificationOutput>
{
    /// Scores (logits) of each class; of windows of text, those of each of their characters.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - result: `[batch, classes]`, of text `[batch * width, classes]`
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;

    /// The scores, of the bits of [`forward`](Self::forward), and what the stages before hand on.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    fn stages(&self, images: Tensor<4>) -> Stages {
        Stages {
            features: Vec::new(),
            scores: self.forward(images),
        }
    }

    /// The layers, in order, and what each quantizes.
    fn layers(&self) -> &[Layer];

    /// The convolutions whose output a batch normalization alone reads, and those normalizations.
    fn folds(&self) -> Vec<FoldedPair> {
        Vec::new()
    }

    /// Whether those pairs are merged: the normalizations are gone.
    fn fold(&self) -> Fold {
        Fold::Off
    }

    /// How it sees images over time; `None` of a network that does not spike.
    fn time_mut(&mut self) -> Option<&mut SpikeTime> {
        None
    }

    /// What a spiking network does for one of these images, on average.
    fn activity(&self, _images: Tensor<4>) -> Option<Activity> {
        None
    }

    /// The parameters, by path.
    fn record(&self) -> ModuleRecord {
        self.clone().into_record()
    }

    /// The network with the parameters of a record.
    ///
    /// # Errors
    /// If a parameter is missing, unknown or of another shape.
    fn with_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
        self.try_load_record(record)
    }
}

/// A network whose parameters a file can hold, by their paths.
pub trait Stored: Module {
    /// The parameters, by path.
    fn stored(&self) -> ModuleRecord;

    /// The network with the parameters of a record.
    ///
    /// # Errors
    /// If a parameter is missing, unknown or of another shape.
    fn restored(self, record: ModuleRecord) -> Result<Self, RecordError>;

    /// The parameters that training goes on from, where those are more than
    /// [`stored`](Self::stored): of what is trained with a network and is not part of it.
    fn in_training(&self) -> Option<ModuleRecord> {
        None
    }

    /// The network with the parameters that training goes on from.
    ///
    /// # Errors
    /// As of [`restored`](Self::restored).
    fn resumed(self, record: ModuleRecord) -> Result<Self, RecordError> {
        self.restored(record)
    }
}

impl<M: Classifier> Stored for M {
    fn stored(&self) -> ModuleRecord {
        self.record()
    }

    fn restored(self, record: ModuleRecord) -> Result<Self, RecordError> {
        self.with_record(record)
    }
}

/// The loss of a batch, of scores and targets, with the scores it came from.
pub(crate) fn classify<M: Classifier>(
    model: &M,
    batch: Batch,
    loss: impl FnOnce(Tensor<2>, Tensor<1, Int>) -> Tensor<1>,
) -> ClassificationOutput {
    let output = model.forward(batch.images);
    let loss = loss(output.clone(), batch.targets.clone());
    ClassificationOutput {
        loss,
        output,
        targets: batch.targets,
    }
}

/// Gives a classifier the steps that Burn's learner asks for. That learner knows no objective: the
/// loss of these steps is the cross-entropy.
macro_rules! impl_steps {
    ($model:ty) => {
        impl burn::train::TrainStep for $model {
            type Input = $crate::models::Batch;
            type Output = burn::train::ClassificationOutput;

            fn step(&self, batch: Self::Input) -> burn::train::TrainOutput<Self::Output> {
                let item = $crate::models::classify(self, batch, $crate::ops::cross_entropy);
                burn::train::TrainOutput::new(self, item.loss.backward(), item)
            }
        }

        impl burn::train::InferenceStep for $model {
            type Input = $crate::models::Batch;
            type Output = burn::train::ClassificationOutput;

            fn step(&self, batch: Self::Input) -> Self::Output {
                $crate::models::classify(self, batch, $crate::ops::cross_entropy)
            }
        }
    };
}
pub(crate) use impl_steps;
