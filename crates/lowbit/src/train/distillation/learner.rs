//! What is trained of a student: it, and what brings its features to the teacher's channels.

use burn::module::{Module, Param};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor, TensorData};
use lowbit_formats::philox::Philox;

use super::{Distillation, Teacher};
use crate::Error;
use crate::models::{Classifier, Network, Stages, Stored};
use crate::nn::{Conv2d, Conv2dConfig};
use crate::quantizers::{UNTRAINED_STEP, with_rounding};

/// A student; for each of its stages the 1x1 convolution behind which its features are compared with
/// the teacher's, where their channels differ; and the teacher, where it learns, too.
#[derive(Module, Debug)]
pub(in super::super) struct Learner {
    pub(in super::super) student: Network,
    pub(super) regressors: Vec<Option<Conv2d>>,
    pub(super) teacher: Option<Network>,
}

impl Learner {
    /// A student of `teacher` for images of `input` `[channels, height, width]`; regressors are drawn
    /// from `seed`.
    ///
    /// # Errors
    /// If what is compared of the two does not fit.
    pub(in super::super) fn new(
        student: Network,
        teacher: &Teacher,
        config: &Distillation,
        input: [usize; 3],
        seed: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        let learner = Self {
            student,
            regressors: Vec::new(),
            teacher: config
                .trains_teacher()
                .then(|| teacher.learning())
                .transpose()?,
        };
        if !config.reads_stages() {
            return Ok(learner);
        }
        let [channels, height, width] = input;
        let image = Tensor::<4>::zeros([1, channels, height, width], device);
        let theirs = shapes(&teacher.stages(image.clone()));
        let student = &learner.student;
        let own = with_rounding(seed, UNTRAINED_STEP, || student.valid().stages(image));
        let own = shapes(&own);
        check_stages(&own, &theirs)?;
        let device = device.clone().autodiff();
        let matched = config.feature_weight > 0.0;
        let pairs = own.iter().zip(&theirs).enumerate();
        let regressors = pairs.map(|(stage, (own, theirs))| {
            let channels = [own[1], theirs[1]];
            let differ = matched && channels[0] != channels[1];
            differ.then(|| regressor(channels, seed, stage as u64, &device))
        });
        let regressors = match matched {
            true => regressors.collect(),
            false => Vec::new(),
        };
        Ok(Self {
            regressors,
            ..learner
        })
    }

    /// Whether more is trained than the student.
    fn is_more(&self) -> bool {
        self.teacher.is_some() || self.regressors.iter().any(Option::is_some)
    }
}

fn shapes(stages: &Stages) -> Vec<[usize; 4]> {
    stages.features.iter().map(Tensor::dims).collect()
}

/// Whether stages can be compared one by one.
fn check_stages(own: &[[usize; 4]], theirs: &[[usize; 4]]) -> Result<(), Error> {
    let refused = |message: String| Err(Error::config("teacher", message));
    if own.is_empty() || theirs.is_empty() {
        let who = if own.is_empty() { "student" } else { "teacher" };
        return refused(format!(
            "the {who} is of a network that names no stages; features and attention need them"
        ));
    }
    if own.len() != theirs.len() {
        let (theirs, own) = (theirs.len(), own.len());
        return refused(format!("has {theirs} stages, the student {own}"));
    }
    for (i, (own, theirs)) in own.iter().zip(theirs).enumerate() {
        if own[2..] != theirs[2..] {
            let (stage, [a, b]) = (i + 1, [theirs, own].map(|s| format!("{}x{}", s[2], s[3])));
            return refused(format!("hands on {a} in stage {stage}, the student {b}"));
        }
    }
    Ok(())
}

/// Tells the random numbers of regressors from others: "hint" in ASCII.
const SEED: u64 = 0x6869_6e74;

/// A 1x1 convolution without bias, its weights drawn evenly from
/// `-1 / sqrt(channels in)` to `1 / sqrt(channels in)`.
fn regressor(channels: [usize; 2], seed: u64, stage: u64, device: &Device) -> Conv2d {
    let mut conv = Conv2dConfig::new(channels, [1, 1])
        .with_bias(false)
        .init(device);
    let bound = 1.0 / (channels[0] as f32).sqrt();
    let philox = Philox::new(seed ^ SEED, stage);
    let drawn = |i| (philox.word(i) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let values: Vec<f32> = (0..(channels[0] * channels[1]) as u64)
        .map(|i| bound * drawn(i))
        .collect();
    let data = TensorData::new(values, [channels[1], channels[0], 1, 1]);
    conv.weight = Param::from_data(data, device);
    conv
}

/// A checkpoint holds the student as if it had learned alone; all else is in what training goes on
/// from.
impl Stored for Learner {
    fn stored(&self) -> ModuleRecord {
        self.student.record()
    }

    fn restored(self, record: ModuleRecord) -> Result<Self, RecordError> {
        Ok(Self {
            student: self.student.with_record(record)?,
            regressors: self.regressors,
            teacher: self.teacher,
        })
    }

    fn in_training(&self) -> Option<ModuleRecord> {
        self.is_more().then(|| self.clone().into_record())
    }

    fn resumed(self, record: ModuleRecord) -> Result<Self, RecordError> {
        match self.is_more() {
            true => self.try_load_record(record),
            false => self.restored(record),
        }
    }
}
