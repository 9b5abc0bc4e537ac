//! What a student learns.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{ClassificationOutput, TrainOutput};

use super::super::checkpoint::Sums;
use super::super::task::{Classification, Task, scaled};
use super::{Distillation, Learner, Phase, Teacher, softened};
use crate::models::{Classifier, Network, Stages};
use crate::ops::{attention_distance, mean_square};
use crate::quantizers::{UNTRAINED_STEP, with_rounding};

/// Images to one class each, as a teacher has it.
pub(in super::super) struct Distilled<'a> {
    pub(in super::super) task: Classification<'a>,
    pub(in super::super) teacher: &'a Teacher,
    pub(in super::super) config: &'a Distillation,
}

impl Distilled<'_> {
    /// What a network computes, with its stages only where they are compared.
    fn computed(&self, network: &Network, images: Tensor<4>) -> Stages {
        match self.config.reads_stages() {
            true => network.stages(images),
            false => Stages {
                features: Vec::new(),
                scores: network.forward(images),
            },
        }
    }

    /// What the teacher computes in a phase in which there is one. Only where it learns do gradients
    /// go back to it; elsewhere it does not change what the student rounds at random.
    fn taught(&self, learner: &Learner, phase: Phase, images: Tensor<4>) -> Stages {
        let constant = |network: &Network| {
            with_rounding(self.task.seed, UNTRAINED_STEP, || {
                self.computed(network, images.clone().inner())
            })
        };
        match &learner.teacher {
            None => constant(self.teacher.model()),
            Some(teacher) if phase == Phase::CoStudying => self.computed(teacher, images),
            Some(teacher) => constant(&teacher.valid()),
        }
    }

    /// The loss of scores, of that of the labels and of what another network's scores say.
    fn softened(&self, labels: Tensor<1>, scores: Tensor<2>, other: Tensor<2>) -> Tensor<1> {
        let (weight, temperature) = (self.config.weight, self.config.temperature);
        softened(labels, scores, other, (weight, temperature))
    }

    /// The student's loss, of that of the labels and of what both networks computed.
    fn loss(
        &self,
        labels: Tensor<1>,
        learner: &Learner,
        student: Stages,
        teacher: Stages,
    ) -> Tensor<1> {
        let mut loss = self.softened(labels, student.scores, teacher.scores);
        let config = self.config;
        let pairs = student.features.into_iter().zip(teacher.features);
        for (stage, (x, y)) in pairs.enumerate() {
            if config.attention_weight > 0.0 {
                let distance = attention_distance(x.clone(), y.clone());
                loss = loss + distance * (config.attention_weight / 2.0);
            }
            if config.feature_weight > 0.0 {
                let regressor = learner.regressors.get(stage).and_then(Option::as_ref);
                let x = match regressor {
                    Some(conv) => conv.forward(x),
                    None => x,
                };
                loss = loss + mean_square(x, y) * config.feature_weight;
            }
        }
        loss
    }
}

/// The same numbers, on which no gradient goes back.
fn constant(stages: &Stages) -> Stages {
    let features = stages.features.iter().cloned();
    Stages {
        features: features.map(Tensor::inner).collect(),
        scores: stages.scores.clone().inner(),
    }
}

impl Task<Learner> for Distilled<'_> {
    type Output = ClassificationOutput;

    fn examples(&self) -> usize {
        Task::<Network>::examples(&self.task)
    }

    /// What is counted is the student's loss; the gradients are also those of a teacher that learns.
    fn step(
        &self,
        learner: &Learner,
        indices: &[u32],
        epoch: u32,
        loss_scale: f32,
    ) -> TrainOutput<ClassificationOutput> {
        let phase = self.config.phase(epoch as usize);
        let (images, targets) = self.task.training_batch(indices, epoch);
        if phase == Phase::SelfStudying {
            let output = self.task.output(learner.student.forward(images), targets);
            let loss = scaled(output.loss.clone(), loss_scale);
            return TrainOutput::new(learner, loss.backward(), output);
        }
        let student = self.computed(&learner.student, images.clone());
        let teacher = self.taught(learner, phase, images);
        let of_teacher = (phase == Phase::CoStudying).then(|| {
            let scores = teacher.scores.clone();
            let labels = self.task.output(scores.clone(), targets.clone()).loss;
            self.softened(labels, scores, student.scores.clone().inner())
        });
        let mut output = self.task.output(student.scores.clone(), targets);
        output.loss = self.loss(output.loss, learner, student, constant(&teacher));
        let loss = match of_teacher {
            None => output.loss.clone(),
            Some(of_teacher) => output.loss.clone() + of_teacher,
        };
        TrainOutput::new(learner, scaled(loss, loss_scale).backward(), output)
    }

    fn count(&self, output: &ClassificationOutput, sums: &mut Sums) {
        Task::<Network>::count(&self.task, output, sums);
    }

    fn test(&self, learner: &Learner) -> Sums {
        self.task.test(&learner.student)
    }

    fn held_out(&self, learner: &Learner) -> Option<Sums> {
        self.task.held_out(&learner.student)
    }

    fn forward(&self, learner: &Learner, indices: &[u32]) {
        self.task.forward(&learner.student, indices);
    }

    fn forward_training(&self, learner: &Learner, indices: &[u32], epoch: u32) {
        self.task.forward_training(&learner.student, indices, epoch);
    }
}
