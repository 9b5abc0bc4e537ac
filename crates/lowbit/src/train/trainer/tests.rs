use burn::module::{Module, Param};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor};
use burn::train::TrainOutput;

use super::*;
use crate::config::QPlan;
use crate::nn::{Linear, LinearConfig};
use crate::optim::{OptimizerConfig, OptimizerNumbers, Schedule};
use crate::train::{Objective, Recipe, Regularization, Start};

/// A network that is no classifier: `y = w x + b`.
#[derive(Module, Debug)]
struct Line {
    linear: Linear,
}

impl Stored for Line {
    fn stored(&self) -> ModuleRecord {
        self.clone().into_record()
    }

    fn restored(self, record: ModuleRecord) -> Result<Self, RecordError> {
        self.try_load_record(record)
    }
}

/// The points `x, 2 x + 1`, for `x` in quarters from -2 on; the loss is half the squared error.
#[derive(Debug, Clone, Copy)]
struct Regression;

impl Regression {
    fn loss(model: &Line, indices: &[u32], device: &Device) -> Tensor<1> {
        let x: Vec<f32> = indices.iter().map(|&i| i as f32 / 4.0 - 2.0).collect();
        let x = Tensor::<1>::from_floats(&x[..], device).unsqueeze_dim::<2>(1);
        let error = model.linear.forward(x.clone()) - x * 2.0 - 1.0;
        error.square().mean().div_scalar(2.0)
    }
}

impl Task<Line> for Regression {
    type Output = (Tensor<1>, usize);

    fn examples(&self) -> usize {
        16
    }

    fn step(
        &self,
        model: &Line,
        indices: &[u32],
        _epoch: u32,
        loss_scale: f32,
    ) -> TrainOutput<Self::Output> {
        let loss = Self::loss(model, indices, &Device::flex().autodiff());
        let grads = (loss.clone() * loss_scale).backward();
        TrainOutput::new(model, grads, (loss, indices.len()))
    }

    fn count(&self, (loss, points): &Self::Output, sums: &mut Sums) {
        sums.loss += loss.clone().into_scalar::<f64>() * *points as f64;
        sums.images += *points as u64;
    }

    fn test(&self, model: &Line) -> Sums {
        let all: Vec<u32> = (0..16).collect();
        let mut sums = Sums::default();
        let loss = Self::loss(model, &all, &Device::flex());
        self.count(&(loss, all.len()), &mut sums);
        sums
    }

    fn forward(&self, model: &Line, indices: &[u32]) {
        Self::loss(model, indices, &Device::flex());
    }
}

fn run() -> RunConfig {
    RunConfig {
        name: "line".into(),
        start: Start::Scratch,
        epochs: 60,
        lr: 0.2,
        threshold_lr: 1e-2,
        optimizer: OptimizerConfig::Sgd {
            momentum: 0.0,
            weight_decay: 0.0,
        },
        schedule: Schedule::Constant,
        objective: Objective::default(),
        numbers: OptimizerNumbers::default(),
        loss_scale: None,
        clip_norm: None,
        check_integers: false,
        regularization: Regularization::default(),
        swa: None,
        bit_budget: None,
        distillation: None,
        recipe: Recipe::default(),
        algorithms: Vec::new(),
        plan: QPlan::float(),
    }
}

/// The line `y = 8.5 x`.
fn line() -> Line {
    let device = Device::flex().autodiff();
    let linear = LinearConfig::new(1, 1).init(&device);
    Line {
        linear: Linear {
            weight: Param::from_data([[8.5]], &device),
            bias: Some(Param::from_data([0.0], &device)),
            ..linear
        },
    }
}

const SETTING: Setting<Regression> = Setting {
    task: Regression,
    batch: 4,
    seed: 0,
};

/// Gradients are about 9, the mean of `(8.5 x - 2 x - 1) x`, so that a scale of 2^127 overflows, and
/// so does the next; with a power of two that does not, training is that without.
#[test]
fn a_scaled_loss_trains_alike_and_steps_that_overflow_are_left_out() {
    let trained = |loss_scale: Option<&str>| {
        let run = RunConfig {
            loss_scale: loss_scale.map(|text| text.parse().unwrap()),
            ..run()
        };
        let mut trainer = Trainer::new(line(), &run, SETTING);
        let interrupter = Interrupter::new();
        let metrics = trainer.epoch(&interrupter, &mut ()).unwrap().unwrap();
        let weight = trainer.model().linear.weight.val().into_scalar::<f32>();
        let metrics = (metrics.loss_scale, metrics.skipped_steps);
        (weight - 8.5, metrics, trainer.state().loss_scaling)
    };
    let (plain, metrics, _) = trained(None);
    assert_eq!(metrics, (None, None));
    let (scaled, metrics, _) = trained(Some("1024"));
    assert_eq!((scaled, metrics), (plain, (Some(1024.0), Some(0))));
    let (moved, metrics, state) = trained(Some("dynamic 170141183460469231731687303715884105728"));
    let skipped = metrics.1.unwrap();
    assert!((1..4).contains(&skipped), "{skipped}");
    assert!(moved != 0.0);
    let expected = 2f32.powi(127 - skipped as i32);
    assert_eq!(
        (metrics.0, state.unwrap().scale),
        (Some(expected), expected)
    );
    assert_eq!(state.unwrap().skipped, 0);
    let (moved, metrics, _) = trained(Some("170141183460469231731687303715884105728"));
    assert_eq!((moved, metrics.1), (0.0, Some(4)));
}

/// The first step's gradients have a norm of about 9; clipped to 1e-3, a step of plain descent moves
/// the two numbers by 0.2 times that, which a scale of the loss does not change.
#[test]
fn a_clipped_step_is_no_longer_than_it_may_be() {
    let moved = |loss_scale: Option<&str>| {
        let run = RunConfig {
            clip_norm: Some(1e-3),
            loss_scale: loss_scale.map(|text| text.parse().unwrap()),
            ..run()
        };
        let mut trainer = Trainer::new(line(), &run, SETTING);
        trainer.step(&[0, 1, 2, 3]).unwrap();
        let linear = &trainer.model().linear;
        let weight = f64::from(linear.weight.val().into_scalar::<f32>()) - 8.5;
        let bias = linear.bias.as_ref().unwrap().val().into_scalar::<f64>();
        weight.hypot(bias)
    };
    // A weight of 8.5 has steps of 2^-20, and it moves by 2e-4.
    assert!((moved(None) / 2e-4 - 1.0).abs() < 5e-3, "{}", moved(None));
    assert_eq!(moved(None), moved(Some("1024")));
}

#[test]
fn another_task_trains_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(folder.path());
    let run = run();
    let setting = Setting {
        task: Regression,
        batch: 4,
        seed: 0,
    };
    let model = || Line {
        linear: LinearConfig::new(1, 1).init(&Device::flex().autodiff()),
    };
    let interrupter = Interrupter::new();
    let mut trainer = Trainer::new(model(), &run, setting);
    for _ in 0..30 {
        trainer.epoch(&interrupter, &mut ()).unwrap();
    }
    trainer.save(&checkpoints).unwrap();
    let mut trainer = Trainer::new(model(), &run, setting)
        .resume(&checkpoints)
        .unwrap();
    assert_eq!(trainer.state().epoch, 30);
    let mut loss = f64::NAN;
    for _ in 30..run.epochs {
        let metrics = trainer.epoch(&interrupter, &mut ()).unwrap().unwrap();
        loss = metrics.test_loss;
    }
    assert!(loss < 1e-6, "{loss}");
    let linear = &trainer.model().linear;
    let weight = linear.weight.val().into_scalar::<f32>();
    assert!((weight - 2.0).abs() < 1e-2, "{weight}");
}

/// With a rate of 100 each step multiplies the error by about 130, so that its square leaves `f32` after
/// some: the loss is infinite, while the sums of the layer are not.
#[test]
fn a_loss_that_is_none_ends_training_with_step_and_place() {
    let run = RunConfig { lr: 100.0, ..run() };
    let said = |model: Line| {
        let mut trainer = Trainer::new(model, &run, SETTING);
        let interrupter = Interrupter::new();
        loop {
            if let Err(error) = trainer.epoch(&interrupter, &mut ()) {
                return error.to_string();
            }
        }
    };
    let overflow = said(line());
    assert!(
        overflow.starts_with("line: the training loss is inf in epoch "),
        "{overflow}"
    );
    assert!(
        overflow.contains(", step ") && !overflow.contains("not finite"),
        "{overflow}"
    );
    let mut broken = line();
    broken.linear.weight = Param::from_data([[f32::NAN]], &Device::flex().autodiff());
    assert_eq!(
        said(broken),
        "line: the training loss is NaN in epoch 1, step 1, and linear.output is the first tensor that is not \
         finite; a lower learning rate may help"
    );
}

/// Of 16 points in steps of 4, the gradient norms of an epoch are those of its fourth step: those of its
/// weight and bias by hand, from the model before it.
#[test]
fn the_gradient_norms_of_an_epoch_are_those_of_its_last_step() {
    let run = run();
    let mut trainer = Trainer::new(line(), &run, SETTING);
    let order = epoch_order(16, 0, 0);
    let mut by_hand = Trainer::new(line(), &run, SETTING);
    for indices in order.chunks(4).take(3) {
        by_hand.step(indices).unwrap();
    }
    let linear = &by_hand.model().linear;
    let weight = linear.weight.val().into_scalar::<f64>();
    let bias = linear.bias.as_ref().unwrap().val().into_scalar::<f64>();
    let points = order[12..].iter().map(|&i| f64::from(i) / 4.0 - 2.0);
    let errors = points.map(|x| (x, weight * x + bias - 2.0 * x - 1.0));
    let mean = |of: fn((f64, f64)) -> f64| errors.clone().map(of).sum::<f64>() / 4.0;
    let expected = [mean(|(x, error)| error * x), mean(|(_, error)| error)];
    let metrics = trainer
        .epoch(&Interrupter::new(), &mut ())
        .unwrap()
        .unwrap();
    for (path, expected) in ["linear.weight", "linear.bias"].iter().zip(expected) {
        let found = metrics.gradient_norms[*path];
        assert!(
            (found - expected.abs()).abs() < 1e-4 * found,
            "{path}: {found}, {expected}"
        );
    }
}
