//! Training the runs of an experiment, each from where its folder says it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use burn::module::Module;
use burn::tensor::Device;
use burn::train::Interrupter;

use super::checkpoint::{self, Checkpoints, Sums};
use super::distillation::{Distilled, Learner, Teacher, TeacherConfig};
use super::experiment::{Experiment, RunConfig, Start};
use super::first_weights::drawn_by_methods;
use super::folder::{
    HeldOut, LastWeights, RunFolder, RunResult, best_checkpoint, no_checkpoint, run_of,
};
use super::integer_check::IntegerCheck;
use super::metrics::{MetricsFile, Tested};
use super::progress::Progress;
use super::task::{Classification, Task, batch, forward_calibration};
use super::trainer::{Setting, Trainer};
use super::warning::Warning;
use super::weights_hash::weights_sha256;
use crate::Error;
use crate::calibrate::calibrate;
use crate::config::QPlan;
use crate::data::{ImageSet, Split};
use crate::models::{Activity, Classifier, LoadReport, Network, Stored, Tolerance, model_bits};
use crate::optim::rounded_from_start;
use crate::quantizers::{Place, Slot, UNTRAINED_STEP, learned, set_rounding};
use crate::repair::{Algorithm, adaround, bias_correct, equalize, gptq};

/// How an experiment ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All runs are finished.
    Finished(Vec<RunResult>),
    /// It was stopped; the runs so far, and the name of the one that was under way.
    Interrupted(Vec<RunResult>, String),
}

impl RunFolder {
    /// Trains every run that is not finished, from where it stands.
    ///
    /// # Errors
    /// Before anything is trained: if a plan cannot be built on the network, or a label is none of
    /// the data's classes. Later: if what a run starts from cannot be read or has a parameter that is
    /// no number, or a loss is none.
    pub fn train(
        &self,
        experiment: &Experiment,
        split: &Split,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Outcome, Error> {
        // A mistake in the plan of the last run is said before the first is trained.
        for run in &experiment.runs {
            let network = experiment.network(run, split, device)?;
            for algorithm in &run.algorithms {
                let checked = algorithm.check_layers(network.layers());
                checked.map_err(|error| error.within(&run.name))?;
            }
        }
        split.check()?;
        self.check_teachers(experiment)?;
        if let Some(hold_out) = experiment.hold_out {
            hold_out.check_for(&split.train)?;
        }
        let mut results = Vec::new();
        for run in &experiment.runs {
            let result = match self.result(&run.name)? {
                Some(result) => Some(result),
                None => self.train_run(experiment, run, split, device, interrupter, progress)?,
            };
            match result {
                Some(result) => results.push(result),
                None => return Ok(Outcome::Interrupted(results, run.name.clone())),
            }
        }
        Ok(Outcome::Finished(results))
    }

    fn train_run(
        &self,
        experiment: &Experiment,
        run: &RunConfig,
        split: &Split,
        device: &Device,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Option<RunResult>, Error> {
        let folder = self.run(&run.name);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let mut model = experiment.network(run, split, &device.clone().autodiff())?;
        let task = Classification::new(experiment, run, split, device);
        if self.checkpoints(&run.name).last()?.is_none() {
            model = self.prepared(model, experiment, run, &task, progress)?;
        }
        let (batch, seed) = (experiment.batch, experiment.seed);
        let Some(config) = &run.distillation else {
            let check = run.check_integers;
            let check = check.then(|| IntegerCheck::new(model.layers(), &run.optimizer));
            let trainer = Trainer::new(model, run, Setting { task, batch, seed });
            let trainer = trainer.with_check(check.transpose()?);
            let counts = |model: &Network| Counts {
                model_bits: model_bits(model),
                activity: activity(model, &split.test, batch, device),
            };
            return self.train_model(trainer, run, counts, interrupter, progress);
        };
        let teacher = Teacher::load(&config.teacher, split, seed, device)?;
        let set = &split.train;
        let input = [set.channels, set.height, set.width];
        let learner = Learner::new(model, &teacher, config, input, seed, device)?;
        let task = Distilled {
            task,
            teacher: &teacher,
            config,
        };
        let trainer = Trainer::new(learner, run, Setting { task, batch, seed });
        let counts = |learner: &Learner| Counts {
            model_bits: model_bits(&learner.student),
            activity: activity(&learner.student, &split.test, batch, device),
        };
        self.train_model(trainer, run, counts, interrupter, progress)
    }

    /// Whether the teachers of those runs that are not finished are there, and as they were.
    fn check_teachers(&self, experiment: &Experiment) -> Result<(), Error> {
        for run in &experiment.runs {
            if let Some(distillation) = &run.distillation
                && self.result(&run.name)?.is_none()
            {
                distillation.teacher.check_unchanged()?;
            }
        }
        Ok(())
    }

    /// The network as a run begins with it: its first weights, and what is calibrated.
    fn prepared(
        &self,
        model: Network,
        experiment: &Experiment,
        run: &RunConfig,
        task: &Classification<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Network, Error> {
        let (model, report) = self.first_weights(model, experiment, run)?;
        match run.start {
            Start::Teacher => progress.started_from_teacher(&report),
            _ => progress.loaded(&report),
        }
        let kept = self.kept(&model, &report.loaded, experiment, run, task);
        let model = match run.algorithms.is_empty() {
            true => calibrated(model, &kept, experiment, run, task, progress)?,
            false => repaired(model, experiment, run, task, progress)?,
        };
        set_rounding(experiment.seed, UNTRAINED_STEP);
        let own = run.optimizer.own_numbers();
        Ok(rounded_from_start(
            model,
            own.as_ref().unwrap_or(&run.numbers),
        ))
    }

    /// Trains from the last checkpoint of a run, or from its beginning.
    fn train_model<M: Stored, T: Task<M>>(
        &self,
        trainer: Trainer<'_, M, T>,
        run: &RunConfig,
        counts: impl Fn(&M) -> Counts,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Option<RunResult>, Error> {
        let folder = self.run(&run.name);
        let checkpoints = self.checkpoints(&run.name);
        let mut trainer = trainer.resume(&checkpoints)?;
        if run.epochs == 0 {
            progress.start(run, 0, 0);
            let (tested, held_out) = trainer.test()?;
            let warnings = trainer.warnings();
            progress.warn(&warnings);
            trainer.save(&checkpoints)?;
            let held_out = held_out.as_ref().map(Tested::from);
            let result = RunResult {
                held_out: held_out.map(|both| HeldOut {
                    last: both,
                    best: both,
                }),
                weights_sha256: last_weights_sha256(&checkpoints)?,
                ..untrained(run, &tested, counts(trainer.model()), warnings)
            };
            self.finish(&result)?;
            return Ok(Some(result));
        }
        let mut metrics = MetricsFile::open(&self.metrics(&run.name), trainer.state().epoch)?;
        progress.start(run, trainer.state().epoch, trainer.global_step());
        while trainer.state().epoch < run.epochs {
            let Some(epoch) = trainer.epoch(interrupter, progress)? else {
                trainer.save(&checkpoints)?;
                progress.interrupted(&folder);
                return Ok(None);
            };
            metrics.push(&epoch)?;
            trainer.save(&checkpoints)?;
            progress.epoch(&epoch);
            progress.warn(&epoch.warnings);
        }
        let counts = counts(trainer.model());
        let result = result(&metrics, &trainer, run, counts).ok_or_else(|| Error::Checkpoint {
            path: self.metrics(&run.name),
            message: "lacks the metrics of the last epoch".into(),
        })?;
        let result = RunResult {
            weights_sha256: last_weights_sha256(&checkpoints)?,
            ..result
        };
        self.finish(&result)?;
        Ok(Some(result))
    }

    /// Of the parameters that were loaded, those that stay as they are. What quantizers learned for
    /// other widths does not: a threshold for 8 bits clips too little for 2. Nor does what those of
    /// weights and biases learned where these were folded with a normalization and now are not, or
    /// the other way round.
    fn kept(
        &self,
        model: &Network,
        loaded: &[String],
        experiment: &Experiment,
        run: &RunConfig,
        task: &Classification<'_>,
    ) -> BTreeSet<String> {
        let source = match run.start {
            Start::Scratch => None,
            Start::Teacher => {
                let config = run.distillation.as_ref();
                config.and_then(|config| TeacherConfig::experiment(&config.teacher.path))
            }
            Start::From => experiment.from.as_deref().and_then(run_of),
            Start::First => Some((experiment.clone(), experiment.runs[0].clone())),
        };
        let folded = |plan: &QPlan| !plan.fold.is_off();
        let other_fold = source
            .as_ref()
            .is_some_and(|(_, source)| folded(&source.plan) != folded(&run.plan));
        let source = source.and_then(|(of, run)| of.network(&run, task.split, task.device).ok());
        let before = source.as_ref().map(widths).unwrap_or_default();
        let now = widths(model);
        let other_tensor = |place: &Place| {
            let tensor = (place.layer.as_str(), place.slot.as_str());
            let both = before.get(&tensor).zip(now.get(&tensor));
            let folds = [Slot::WEIGHT, Slot::BIAS].contains(&tensor.1);
            other_fold && folds || both.is_some_and(|(before, now)| before != now)
        };
        let mut kept: BTreeSet<String> = loaded.iter().cloned().collect();
        for parameter in learned(model) {
            if parameter.learned.calibrated && other_tensor(&parameter.place) {
                kept.remove(&parameter.key);
            }
        }
        kept
    }

    /// The network with the weights that the run starts from, and what was loaded.
    fn first_weights(
        &self,
        model: Network,
        experiment: &Experiment,
        run: &RunConfig,
    ) -> Result<(Network, LoadReport), Error> {
        match run.start {
            Start::Scratch => {
                let model = drawn_by_methods(model, experiment.seed);
                Ok((model, LoadReport::default()))
            }
            Start::Teacher => {
                let config = run.distillation.as_ref();
                let config = config.expect("a checked run has a teacher");
                config.teacher.start(model)
            }
            Start::From => weights_from(model, experiment),
            Start::First => {
                let first = &experiment.runs[0].name;
                let best = self.checkpoints(first).best()?;
                let best = best.ok_or_else(|| no_checkpoint(self.path()))?;
                checkpoint::load_weights(model, &best, Tolerance::default())
            }
        }
    }
}

/// The network with the weights that its experiment names.
fn weights_from(model: Network, experiment: &Experiment) -> Result<(Network, LoadReport), Error> {
    let from = experiment.from.as_ref();
    let from = from.expect("a checked experiment names it");
    let weights = match from.is_file() {
        true => from.clone(),
        false => best_checkpoint(from)?,
    };
    checkpoint::load_weights(model, &weights, experiment.accept)
}

/// The network that [`Quantize`](super::Quantize) makes with algorithms, in its validation form, without a folder for
/// it.
pub(crate) fn repaired_network(
    experiment: &Experiment,
    split: &Split,
    device: &Device,
) -> Result<Network, Error> {
    let run = &experiment.runs[0];
    let task = Classification::new(experiment, run, split, device);
    let (model, _) = weights_from(experiment.network(run, split, device)?, experiment)?;
    let model = repaired(model, experiment, run, &task, &mut ())?;
    Ok(model.valid())
}

/// The widths of every quantized tensor of a network, by its layer's path and its slot.
fn widths(model: &Network) -> BTreeMap<(&str, &str), u32> {
    let layers = model.layers().iter();
    let slots = layers.flat_map(|layer| {
        let slots = layer.config.slots();
        slots.map(|(slot, quantizer)| ((layer.path.as_str(), slot), quantizer.bits()))
    });
    slots.collect()
}

/// The result of a run that trains nothing.
fn untrained(run: &RunConfig, tested: &Sums, counts: Counts, warnings: Vec<Warning>) -> RunResult {
    RunResult {
        name: run.name.clone(),
        accuracy: tested.accuracy(),
        top5_accuracy: tested.top5_accuracy(),
        loss: tested.mean_loss(),
        best_epoch: 0,
        best_accuracy: tested.accuracy(),
        held_out: None,
        last_weights: None,
        seconds: 0.0,
        images_per_second: 0.0,
        model_bits: counts.model_bits,
        activity: counts.activity,
        weights_sha256: None,
        epochs: 0,
        warnings,
    }
}

/// Of the last checkpoint, if there is one.
fn last_weights_sha256(checkpoints: &Checkpoints) -> Result<Option<String>, Error> {
    checkpoints
        .last()?
        .as_deref()
        .map(weights_sha256)
        .transpose()
}

/// What is counted of a network once it is trained, with its last weights, also where an average of them
/// is what is tested.
struct Counts {
    model_bits: u64,
    activity: Option<Activity>,
}

/// Test images whose spikes are counted.
const COUNTED: usize = 256;

/// What a spiking network does for an image, over the first of the test images, of which it sees `size`
/// at once.
fn activity(model: &Network, set: &ImageSet, size: usize, device: &Device) -> Option<Activity> {
    let mut model = model.valid();
    model.time_mut()?;
    set_rounding(0, UNTRAINED_STEP);
    let first: Vec<u32> = (0..set.len().min(COUNTED) as u32).collect();
    let mut sum = Activity::default();
    for indices in first.chunks(size) {
        let found = model.activity(batch(set, indices, None, device).images)?;
        sum.spikes += found.spikes * indices.len() as f64;
        sum.synaptic_operations += found.synaptic_operations * indices.len() as f64;
    }
    let images = first.len().max(1) as f64;
    Some(Activity {
        spikes: sum.spikes / images,
        synaptic_operations: sum.synaptic_operations / images,
    })
}

/// The network with those thresholds set that it does not keep.
fn calibrated(
    model: Network,
    kept: &BTreeSet<String>,
    experiment: &Experiment,
    run: &RunConfig,
    task: &Classification<'_>,
    progress: &mut dyn Progress,
) -> Result<Network, Error> {
    if !run.plan.needs_calibration() {
        return Ok(model);
    }
    let missing = learned(&model).into_iter();
    let missing = missing.filter(|l| l.learned.calibrated && !kept.contains(&l.key));
    let missing: BTreeSet<Place> = missing.map(|l| l.place).collect();
    let fresh = |place: &Place| missing.contains(place);
    let (images, seed) = (experiment.calibration_images, experiment.seed);
    set_rounding(seed, UNTRAINED_STEP);
    let (model, thresholds) = calibrate(model, fresh, |model: &Network| {
        forward_calibration(task, model, images, seed);
    })
    .map_err(|error| error.within(&run.name))?;
    progress.calibrated(&thresholds);
    Ok(model)
}

/// The network after the algorithms of the run, calibrated between the one that equalizes and the others. No
/// threshold of before is kept.
fn repaired(
    mut model: Network,
    experiment: &Experiment,
    run: &RunConfig,
    task: &Classification<'_>,
    progress: &mut dyn Progress,
) -> Result<Network, Error> {
    let forward = |model: &Network, images| model.forward(images);
    let batches = task.calibration(experiment.calibration_images, experiment.seed);
    let layers = model.layers().to_vec();
    let mut algorithms = &run.algorithms[..];
    if let [Algorithm::Equalize, others @ ..] = algorithms {
        let made = equalize(model, &layers, &batches[0], forward);
        let (changed, did) = made.map_err(|error| error.within(&run.name))?;
        progress.repaired(&did);
        (model, algorithms) = (changed, others);
    }
    let float = model.clone();
    model = calibrated(model, &BTreeSet::new(), experiment, run, task, progress)?;
    for algorithm in algorithms {
        set_rounding(experiment.seed, UNTRAINED_STEP);
        let made = match algorithm {
            Algorithm::Equalize => equalize(model, &layers, &batches[0], forward),
            Algorithm::Adaround => adaround(model, &layers, &batches, forward),
            Algorithm::Gptq => gptq(model, &layers, &batches, forward),
            Algorithm::BiasCorrect => bias_correct(model, &float, &batches, forward),
        };
        let (changed, did) = made.map_err(|error| error.within(&run.name))?;
        progress.repaired(&did);
        model = changed;
    }
    Ok(model)
}

/// What a finished run came to, from its last metrics.
fn result<M: Stored, T: Task<M>>(
    metrics: &MetricsFile,
    trainer: &Trainer<'_, M, T>,
    run: &RunConfig,
    counts: Counts,
) -> Option<RunResult> {
    let state = trainer.state();
    let last = metrics.of(state.epoch)?;
    let best = state.best?;
    let images = (trainer.examples() * run.epochs) as f64;
    let of_average = last.average.as_ref();
    let top5 = of_average.map_or(last.test_top5_accuracy, |a| a.test_top5_accuracy);
    let (tested, held_out) = last.tested();
    // The checkpoint tells the accuracy that chose it; that of the test images is among the metrics.
    let (best_accuracy, held_out) = match held_out {
        None => (best.accuracy, None),
        Some(last) => {
            let (tested, held_out) = metrics.find(best.epoch)?.tested();
            let best = held_out?;
            (tested.accuracy, Some(HeldOut { last, best }))
        }
    };
    Some(RunResult {
        name: run.name.clone(),
        accuracy: tested.accuracy,
        top5_accuracy: top5,
        loss: tested.loss,
        best_epoch: best.epoch,
        best_accuracy,
        held_out,
        last_weights: of_average.map(|average| LastWeights {
            averaged: average.weights,
            accuracy: last.test_accuracy,
            loss: last.test_loss,
        }),
        seconds: state.seconds,
        images_per_second: images / state.step_seconds,
        model_bits: counts.model_bits,
        activity: counts.activity,
        weights_sha256: None,
        epochs: run.epochs,
        warnings: last.warnings.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;
    use crate::models::Architecture;

    /// As many at once as it likes, the spikes of an image are the same where its pixels are the input.
    #[test]
    fn activity_is_counted_in_batches() {
        let device = Device::flex();
        let set = digits::load().unwrap().test;
        let network = |name: &str| {
            let model: Architecture = name.parse().unwrap();
            let plan = QPlan::default();
            model.init([1, 8, 8], 10, &plan, 1, &device).unwrap()
        };
        let spiking = network("snn-cnn");
        let counted = |size| activity(&spiking, &set, size, &device).unwrap();
        let [whole, parts] = [COUNTED, 100].map(counted);
        assert!(whole.spikes > 0.0);
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a;
        assert!(near(whole.spikes, parts.spikes));
        assert!(near(whole.synaptic_operations, parts.synaptic_operations));
        assert_eq!(activity(&network("cnn"), &set, 100, &device), None);
    }
}
