//! Training one network, step by step.

use std::time::Instant;

use burn::optim::ModuleOptimizer;
use burn::optim::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::train::Interrupter;

use super::averaging::{Average, AverageMetrics, Rate};
use super::bit_budget::mean_bits;
use super::checkpoint::{self, Best, Checkpoints, Parts, State, Sums};
use super::clip::clipped;
use super::experiment::RunConfig;
use super::integer_check::IntegerCheck;
use super::loss_scale::unscaled;
use super::metrics::{EpochMetrics, QuantizerMetrics, Tested};
use super::progress::{Progress, StepMetrics};
use super::recipe::{FreezeThresholds, freeze_statistics};
use super::task::Task;
use super::tensors::{EpochTensors, NamedTensor, gradients, parameters};
use super::warning::{Look, Moment, Warning, dated, look};
use crate::Error;
use crate::data::epoch_order;
use crate::models::Stored;
use crate::optim::thresholds;
use crate::quantizers::{Selection, Taps, set_progress, set_rounding};

/// Looks at the network in an epoch of many steps.
const LOOKS: usize = 8;

/// The fewest steps from one look within an epoch to the next: a look takes about as long as a fifth of a step
/// of 128 images.
const STEPS_BETWEEN_LOOKS: usize = 50;

/// What training needs beside the network.
#[derive(Debug, Clone, Copy)]
pub struct Setting<T> {
    /// What is learned.
    pub task: T,
    /// Examples in a step.
    pub batch: usize,
    /// Where all randomness comes from.
    pub seed: u64,
}

/// A network on its way through a run.
///
/// Burn's learner is not used: it keeps its optimizer to itself, so that a run could be saved
/// between epochs only, and its data loader's order cannot be taken up again.
pub struct Trainer<'a, M, T> {
    /// Absent only while the optimizer has it.
    model: Option<M>,
    optimizer: ModuleOptimizer,
    config: &'a RunConfig,
    setting: Setting<T>,
    state: State,
    average: Average<'a, M>,
    /// Whether the statistics of batch normalization are frozen.
    statistics_frozen: bool,
    check: Option<IntegerCheck>,
    /// Those of the last step of an epoch, until it is tested.
    gradients: Vec<NamedTensor>,
    /// What was wrong at the last look.
    warned: Vec<Warning>,
}

impl<'a, M: Stored, T: Task<M>> Trainer<'a, M, T> {
    /// A trainer at the start of a run.
    pub fn new(model: M, config: &'a RunConfig, setting: Setting<T>) -> Self {
        let state = State {
            loss_scaling: config.loss_scale.map(|scale| scale.state()),
            ..State::default()
        };
        Self {
            model: Some(model),
            optimizer: config
                .optimizer
                .init_with(config.recipe.threshold_optimizer, &config.numbers),
            config,
            setting,
            state,
            average: Average::new(config.swa.as_ref()),
            statistics_frozen: false,
            check: None,
            gradients: Vec::new(),
            warned: Vec::new(),
        }
    }

    /// The same with this check of every step, if there is one.
    pub(super) fn with_check(self, check: Option<IntegerCheck>) -> Self {
        Self { check, ..self }
    }

    /// Goes on from the last checkpoint, if there is one.
    pub fn resume(mut self, checkpoints: &Checkpoints) -> Result<Self, Error> {
        if let Some(path) = checkpoints.last()? {
            self.state = checkpoint::load_state(&path)?;
            self.model = self
                .model
                .map(|model| checkpoint::load_training(model, &path))
                .transpose()?;
            let (mean, count) = (self.average.mean, self.state.averaged);
            self.average.mean = checkpoint::load_average(mean, count, &path)?;
            self.optimizer = checkpoint::load_optimizer(self.optimizer, &path)?;
            let thresholds = &self.state.thresholds;
            self.model = self.model.map(|model| thresholds.apply(model));
        }
        Ok(self)
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The network as it is now.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("the optimizer gives it back")
    }

    /// Trains to the end of the epoch that is under way and tests the network. Returns nothing if
    /// it was interrupted; the state then says how far it came.
    ///
    /// # Errors
    /// If a loss is NaN or infinite. What was saved before stays as it is.
    pub fn epoch(
        &mut self,
        interrupter: &Interrupter,
        progress: &mut dyn Progress,
    ) -> Result<Option<EpochMetrics>, Error> {
        let start = Instant::now();
        let spent = self.state.seconds;
        let examples = self.setting.task.examples();
        let order = epoch_order(examples, self.setting.seed, self.state.epoch as u32);
        let batches = order.chunks(self.setting.batch);
        let mut lr = self.config.lr * self.factor();
        self.follow_average();
        for indices in batches.skip(self.state.batch) {
            if interrupter.should_stop() {
                return Ok(None);
            }
            lr = self.config.lr * self.factor();
            let before = self.state.sums;
            self.step(indices)?;
            self.follow_average();
            self.state.seconds = spent + start.elapsed().as_secs_f64();
            let sums = &self.state.sums;
            progress.step(&StepMetrics {
                step: self.global_step(),
                sums,
                images: examples,
                done: (self.state.batch * self.setting.batch).min(examples),
                trained: indices.len(),
                loss: (sums.loss - before.loss) / (sums.images - before.images).max(1) as f64,
                lr,
            });
            if self.is_time_to_look() {
                let look = self.look();
                progress.warn(&self.note_warnings(&look));
            }
        }
        let trained = std::mem::take(&mut self.state.sums);
        let loss_scaling = self.state.loss_scaling;
        if let Some(scaling) = &mut self.state.loss_scaling {
            scaling.skipped = 0;
        }
        self.state.batch = 0;
        self.state.epoch += 1;
        let (tested, held_out) = self.tested()?;
        let average = self.test_average()?;
        self.state.seconds = spent + start.elapsed().as_secs_f64();
        let look = self.look();
        let gradients = std::mem::take(&mut self.gradients);
        let metrics = EpochMetrics {
            epoch: self.state.epoch,
            lr,
            train_loss: trained.mean_loss(),
            train_accuracy: trained.accuracy(),
            train_top5_accuracy: trained.top5_accuracy(),
            test_loss: tested.mean_loss(),
            test_accuracy: tested.accuracy(),
            test_top5_accuracy: tested.top5_accuracy(),
            held_out: held_out.as_ref().map(Tested::from),
            average,
            mean_bits: mean_bits(self.model()),
            seconds: self.state.seconds,
            loss_scale: loss_scaling.map(|scaling| scaling.scale),
            skipped_steps: loss_scaling.map(|scaling| scaling.skipped),
            quantizers: look.measured.iter().map(QuantizerMetrics::from).collect(),
            gradient_norms: gradients
                .iter()
                .map(|g| (g.path.clone(), g.norm()))
                .collect(),
            warnings: self.note_warnings(&look),
        };
        if progress.wants_tensors() {
            progress.tensors(&EpochTensors {
                step: self.global_step(),
                parameters: &parameters(self.model()),
                gradients: &gradients,
                outputs: &look.outputs,
            });
        }
        let (test, held_out) = metrics.tested();
        self.note(test, held_out);
        Ok(Some(metrics))
    }

    /// Tests the network as it is, and takes note if it is the best so far.
    ///
    /// # Errors
    /// If the loss is NaN or infinite.
    pub fn test(&mut self) -> Result<(Sums, Option<Sums>), Error> {
        let (tested, held_out) = self.tested()?;
        let of_held_out = held_out.as_ref().map(Tested::from);
        self.note(Tested::from(&tested), of_held_out);
        Ok((tested, held_out))
    }

    /// What the test images say of the network as it is, and the held-out ones where there are any.
    fn tested(&self) -> Result<(Sums, Option<Sums>), Error> {
        let (model, task) = (self.model().valid(), &self.setting.task);
        let tested = task.test(&model);
        self.finite("test loss", tested.loss, self.state.epoch)?;
        let held_out = task.held_out(&model);
        if let Some(sums) = &held_out {
            self.finite("loss of held-out images", sums.loss, self.state.epoch)?;
        }
        Ok((tested, held_out))
    }

    /// Takes note of what the images say of the checkpoint's model, the held-out ones where there are
    /// any: they are few, and tell networks of one accuracy apart by their loss. Once weights are
    /// averaged, only averages can be best.
    fn note(&mut self, test: Tested, held_out: Option<Tested>) {
        let best = Best {
            epoch: self.state.epoch,
            accuracy: held_out.unwrap_or(test).accuracy,
            loss: held_out.map(|held_out| held_out.loss),
        };
        let is_worse = |before: Best| {
            let average = &self.average;
            let passed = average.is_before(before.epoch) && !average.is_before(best.epoch);
            let losses = best.loss.zip(before.loss);
            let is_surer = losses.is_some_and(|(now, before)| now < before);
            let same = best.accuracy == before.accuracy;
            passed || best.accuracy > before.accuracy || same && is_surer
        };
        if self.state.best.is_none_or(is_worse) {
            self.state.best = Some(best);
        }
    }

    /// Lets the average take in the weights as they are, if it is time to.
    fn follow_average(&mut self) {
        let (steps, per_epoch) = (self.global_step(), self.steps_per_epoch());
        let model = self.model.as_ref().expect("the optimizer gives it back");
        self.average
            .follow(model, steps, per_epoch, self.setting.seed);
        self.state.averaged = self.average.mean.count();
    }

    /// What the average comes to after the epoch that has ended, if there is one.
    fn test_average(&mut self) -> Result<Option<AverageMetrics>, Error> {
        let model = self.model.as_ref().expect("the optimizer gives it back");
        let ended = (self.state.epoch - 1) as u32;
        let frozen = self.statistics_frozen;
        let tested = self.average.test(model, &self.setting, ended, frozen);
        let Some((tested, held_out)) = tested else {
            return Ok(None);
        };
        self.finite("test loss of the average", tested.loss, self.state.epoch)?;
        Ok(Some(AverageMetrics {
            weights: self.state.averaged,
            test_loss: tested.mean_loss(),
            test_accuracy: tested.accuracy(),
            test_top5_accuracy: tested.top5_accuracy(),
            held_out: held_out.as_ref().map(Tested::from),
        }))
    }

    /// What is wrong with the network as it is, although its loss is a number.
    pub fn warnings(&self) -> Vec<Warning> {
        self.look().warnings()
    }

    /// The warnings of a look, each with when it was seen first.
    fn note_warnings(&mut self, look: &Look) -> Vec<Warning> {
        let (steps, per_epoch) = (self.global_step(), self.steps_per_epoch());
        let before = steps.saturating_sub(1);
        let now = Moment {
            epoch: before / per_epoch + 1,
            step: before % per_epoch + 1,
        };
        self.warned = dated(look.warnings(), &self.warned, now);
        self.warned.clone()
    }

    /// Whether the network is looked at within an epoch, so that a warning says about when it began; its end
    /// is looked at in any case.
    fn is_time_to_look(&self) -> bool {
        let per_epoch = self.steps_per_epoch();
        let every = per_epoch.div_ceil(LOOKS).max(STEPS_BETWEEN_LOOKS);
        self.state.batch < per_epoch && self.state.batch.is_multiple_of(every)
    }

    fn look(&self) -> Look {
        look(self.model(), &self.setting.task, self.setting.seed)
    }

    /// Refuses a loss that is no number, in or after an epoch; before the first, nothing was trained.
    fn finite(&self, what: &'static str, loss: f64, epoch: usize) -> Result<(), Error> {
        if loss.is_finite() {
            return Ok(());
        }
        let run = self.config.name.clone();
        Err(match epoch {
            0 => Error::NotFinite { run, loss },
            _ => Error::Diverged {
                run,
                what,
                loss,
                epoch,
                step: (self.global_step() + 1).min(epoch * self.steps_per_epoch()),
                tensor: self.look().first_not_finite(),
            },
        })
    }

    /// One step of the optimizer on the examples `indices`.
    ///
    /// # Errors
    /// If the loss is NaN or infinite, or the step is checked to be made of integers, and is not.
    fn step(&mut self, indices: &[u32]) -> Result<(), Error> {
        let start = Instant::now();
        self.freeze();
        let factor = self.factor();
        let epoch = self.state.epoch as u32;
        set_rounding(self.setting.seed, self.global_step() as u64);
        set_progress(self.progress());
        let scale = self.state.loss_scaling.map_or(1.0, |scaling| scaling.scale);
        let task = &self.setting.task;
        let step = self.global_step();
        let taps = self.check.as_ref().map(|_| {
            let everything = Selection::all();
            Taps::attach_with_gradients(self.model(), everything)
        });
        let output = task.step(self.model(), indices, epoch, scale);
        if let Some((check, taps)) = self.check.as_ref().zip(taps) {
            check.passes(step, &taps.detach())?;
        }
        self.setting.task.count(&output.item, &mut self.state.sums);
        // The weights that made the loss are there still.
        self.finite("training loss", self.state.sums.loss, self.state.epoch + 1)?;
        let grads = self.unscaled(output.grads);
        let grads = grads.map(|grads| self.clipped(self.penalized(grads)));
        if self.config.recipe.freeze_thresholds.is_some() {
            let model = self.model.as_ref().expect("the optimizer gives it back");
            if let Some(grads) = &grads {
                self.state.thresholds.follow(model, grads);
            }
        }
        let threshold_lr = self.config.threshold_lr * self.threshold_factor();
        if self.state.batch + 1 == self.steps_per_epoch() {
            let found = grads.as_ref().map(|grads| gradients(self.model(), grads));
            self.gradients = found.unwrap_or_default();
        }
        if let Some(grads) = grads {
            let rate = learning_rate(self.config.lr * factor, threshold_lr);
            self.optimize(rate, grads);
        }
        if let Some(check) = &self.check {
            check.weights(step, self.model())?;
        }
        self.state.batch += 1;
        self.state.step_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// The gradients without the scale of the loss; none if one is not finite.
    fn unscaled(&mut self, grads: GradientsParams) -> Option<GradientsParams> {
        let Some((kind, scaling)) = self.config.loss_scale.zip(self.state.loss_scaling) else {
            return Some(grads);
        };
        let grads = unscaled(self.model(), grads, scaling.scale);
        let mut scaling = scaling;
        scaling.follow(kind, grads.is_some());
        self.state.loss_scaling = Some(scaling);
        grads
    }

    /// The gradients with those of what bits beyond the budget cost, if there is one.
    fn penalized(&self, grads: GradientsParams) -> GradientsParams {
        let Some(budget) = &self.config.bit_budget else {
            return grads;
        };
        let model = self.model();
        let Some(penalty) = budget.penalty(model, self.progress()) else {
            return grads;
        };
        let mut both = GradientsAccumulator::new();
        both.accumulate(model, grads);
        both.accumulate(
            model,
            GradientsParams::from_grads(penalty.backward(), model),
        );
        both.grads()
    }

    /// The gradients with their norm at most what the run says, if it says something.
    fn clipped(&self, grads: GradientsParams) -> GradientsParams {
        match self.config.clip_norm {
            Some(largest) => clipped(self.model(), grads, largest),
            None => grads,
        }
    }

    /// Freezes what the recipe freezes before this step. Everything it depends on is in the
    /// checkpoint, or follows from the step.
    fn freeze(&mut self) {
        let recipe = &self.config.recipe;
        let step = self.global_step();
        let after = recipe
            .freeze_statistics
            .map(|epochs| epochs * self.steps_per_epoch() as f64);
        if !self.statistics_frozen && after.is_some_and(|after| step as f64 >= after) {
            self.model = self.model.take().map(|model| freeze_statistics(model).0);
            self.statistics_frozen = true;
        }
        if recipe.freeze_thresholds.is_some_and(|f| step == f.from) {
            self.state.thresholds.forget_gradients();
        }
        let due = |f: FreezeThresholds| step > f.from && (step - f.from).is_multiple_of(f.every);
        if recipe.freeze_thresholds.is_some_and(due) {
            let model = self.model.take();
            self.model = model.map(|model| self.state.thresholds.freeze_one(model));
        }
    }

    fn optimize(&mut self, rate: ModuleLearningRate, grads: GradientsParams) {
        // The optimizer gets the only copy of the network, so that it can reuse its memory.
        let model = self.model.take();
        self.model = model.map(|model| self.optimizer.step(rate, model, grads));
    }

    /// Steps since the start of the run.
    pub(super) fn global_step(&self) -> usize {
        self.state.epoch * self.steps_per_epoch() + self.state.batch
    }

    fn steps_per_epoch(&self) -> usize {
        self.setting.task.examples().div_ceil(self.setting.batch)
    }

    fn factor(&self) -> f64 {
        let (step, per_epoch) = (self.global_step(), self.steps_per_epoch());
        let total = self.config.epochs * per_epoch;
        match self.average.rate(step, per_epoch) {
            Rate::Scheduled(before) => self.config.schedule.factor(step, before.unwrap_or(total)),
            Rate::Constant(rate) => rate / self.config.lr,
        }
    }

    /// How much of the run is done, from 0 to 1.
    fn progress(&self) -> f64 {
        let total = self.config.epochs * self.steps_per_epoch();
        self.global_step() as f64 / total.max(1) as f64
    }

    fn threshold_factor(&self) -> f64 {
        let total = self.config.epochs * self.steps_per_epoch();
        match &self.config.recipe.threshold_schedule {
            Some(schedule) => schedule.factor(self.global_step(), total),
            None => self.factor(),
        }
    }

    /// Examples that an epoch trains on.
    pub(super) fn examples(&self) -> usize {
        self.setting.task.examples()
    }

    /// Saves a checkpoint.
    pub fn save(&self, checkpoints: &Checkpoints) -> Result<(), Error> {
        let mean = &self.average.mean;
        checkpoints.save_parts(&Parts {
            model: self.model(),
            optimizer: &self.optimizer,
            state: &self.state,
            average: (mean.count() > 0).then_some((mean, self.average.model.as_ref())),
        })
    }
}

/// One rate for the weights and one for trained thresholds.
fn learning_rate(weights: f64, threshold: f64) -> ModuleLearningRate {
    ModuleLrScheduler::new(weights)
        .with_group(thresholds(), threshold)
        .step()
}

#[cfg(test)]
mod tests;
