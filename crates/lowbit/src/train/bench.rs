//! Timing whole training steps.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::TrainStep;
use serde::Serialize;

use super::Method;
use crate::Error;
use crate::calibrate::calibrate;
use crate::models::{Architecture, Batch, Classifier, Network};
use crate::optim::OptimizerConfig;

/// The time of a network's training step under each of several methods.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTimes {
    /// The network.
    pub model: String,
    /// Images in a step.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Steps timed of each method.
    pub rounds: usize,
    /// One entry a method, float first.
    pub steps: Vec<StepTime>,
}

/// The time of one method's step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// The method and its widths.
    pub name: String,
    /// Median seconds of a step: forward, backward and optimizer.
    pub seconds: f64,
    /// Images over those seconds.
    pub images_per_second: f64,
    /// Median over the rounds of this step's time over the float step's of the same round.
    pub ratio_to_float: f64,
}

/// A network under one method, ready to step.
struct Candidate {
    name: String,
    /// Absent only while the optimizer has it.
    model: Option<Network>,
    optimizer: burn::optim::ModuleOptimizer,
    seconds: Vec<f64>,
}

impl Candidate {
    fn step(&mut self, batch: Batch, device: &Device) -> Result<(), Error> {
        // As in training, the optimizer gets the only copy of the network.
        if let Some(model) = self.model.take() {
            let output = TrainStep::step(&model, batch);
            self.model = Some(self.optimizer.step(1e-3, model, output.grads));
        }
        device
            .sync()
            .map_err(|error| Error::config("device", error.to_string()))
    }
}

/// What is to be timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The network.
    pub model: Architecture,
    /// Methods with their bits of weights and activations, beside the float one.
    pub methods: Vec<(Method, u32, u32)>,
    /// Images in a step.
    pub batch: usize,
    /// Steps of each method that count.
    pub rounds: usize,
}

/// Times training steps on random images, the methods in turn within each round so that a slow
/// moment meets all of them.
///
/// # Errors
/// If the network cannot be built.
pub fn training_steps(workload: &Workload, device: &Device) -> Result<StepTimes, Error> {
    let &Workload {
        model: architecture,
        batch,
        rounds,
        ..
    } = workload;
    let (input, classes) = architecture.usual_images();
    let autodiff = device.clone().autodiff();
    let data = synthetic(input, classes, batch, &autodiff);
    let float = (Method::Float, 32, 32);
    let mut candidates = Vec::new();
    for &(method, wbits, abits) in std::iter::once(&float).chain(&workload.methods) {
        let plan = method.plan(wbits, abits);
        let model = architecture.init(input, classes, &plan, 0, &autodiff)?;
        let images = data.images.clone().without_autodiff();
        let (model, _) = calibrate(
            model,
            |_| true,
            |model: &Network| {
                model.forward(images);
            },
        )?;
        candidates.push(Candidate {
            name: match method {
                Method::Float => method.to_string(),
                _ => format!("{method}-w{wbits}a{abits}"),
            },
            model: Some(model),
            optimizer: OptimizerConfig::Sgd {
                momentum: 0.9,
                weight_decay: 1e-4,
            }
            .init(),
            seconds: Vec::new(),
        });
    }
    // One round that is not counted brings the memory in.
    for round in 0..=rounds {
        for candidate in &mut candidates {
            let start = Instant::now();
            candidate.step(data.clone(), device)?;
            if round > 0 {
                candidate.seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let float_seconds = candidates[0].seconds.clone();
    let steps = candidates
        .into_iter()
        .map(|candidate| {
            let ratios = candidate
                .seconds
                .iter()
                .zip(&float_seconds)
                .map(|(s, f)| s / f);
            let ratio_to_float = median(ratios.collect());
            let seconds = median(candidate.seconds);
            StepTime {
                name: candidate.name,
                seconds,
                images_per_second: batch as f64 / seconds,
                ratio_to_float,
            }
        })
        .collect();
    Ok(StepTimes {
        model: architecture.to_string(),
        batch,
        threads: rayon::current_num_threads(),
        rounds,
        steps,
    })
}

/// Images of noise between -1 and 1, and classes in turn.
fn synthetic(input: [usize; 3], classes: usize, batch: usize, device: &Device) -> Batch {
    let [channels, height, width] = input;
    let count = batch * channels * height * width;
    // A multiplicative congruential sequence is noise enough for a timing.
    let pixels = (0..count as u32)
        .map(|i| f32::from((i.wrapping_mul(2_654_435_761) >> 16) as u16) / 32_768.0 - 1.0);
    let labels: Vec<i32> = (0..batch).map(|i| (i % classes) as i32).collect();
    Batch {
        images: Tensor::from_data(
            TensorData::new(
                pixels.collect::<Vec<f32>>(),
                [batch, channels, height, width],
            ),
            device,
        ),
        targets: Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), device),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
