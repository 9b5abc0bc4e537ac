//! Progress on standard error.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use lowbit::calibrate::Calibrated;
use lowbit::models::LoadReport;
use lowbit::repair::Repaired;
use lowbit::train::{EpochMetrics, Progress, RunConfig, StepMetrics, Warning};

use crate::output::say;

/// How often a line stands in for the bar, where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A bar for what is under way, and a line for what is done.
pub(crate) struct Bars {
    bar: ProgressBar,
    last_line: Instant,
    epochs: usize,
    epoch: usize,
    /// What was wrong when it was last looked at: tensors, and what it was.
    warned: Vec<Warning>,
    /// Whether only what is wrong is said.
    quiet: bool,
    /// Images of the run that were trained on since it began or went on, and since when.
    trained: u64,
    began: Instant,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            last_line: Instant::now(),
            epochs: 0,
            epoch: 0,
            warned: Vec::new(),
            quiet: false,
            trained: 0,
            began: Instant::now(),
        }
    }

    /// Nothing but what is wrong.
    pub(crate) fn quiet() -> Self {
        Self {
            quiet: true,
            ..Self::new()
        }
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        if !self.quiet {
            self.insist(text);
        }
    }

    /// A line that stays, and is said in any case.
    fn insist(&mut self, text: &str) {
        self.bar.suspend(|| say(text));
        self.last_line = Instant::now();
    }

    /// Bytes of a file that is being downloaded.
    pub(crate) fn download(&mut self, file: &str, done: u64, total: Option<u64>) {
        if self.bar.message() != file {
            let bar = match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::new_spinner(),
            };
            let form = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
            self.replace(bar.with_message(file.to_string()), form);
        }
        self.bar.set_position(done);
        if Some(done) == total {
            self.bar.finish_and_clear();
        }
    }

    /// How many of how many are done of what has that name.
    pub(crate) fn count(&mut self, name: &str, done: usize, all: usize) {
        if self.bar.message() != name || self.bar.is_finished() && done < all {
            let bar = ProgressBar::new(all as u64).with_message(name.to_string());
            self.replace(bar, "{msg} [{bar:30}] {pos}/{len} {eta}");
        }
        self.bar.set_position(done as u64);
        if done == all {
            self.bar.finish_and_clear();
        }
    }

    fn replace(&mut self, bar: ProgressBar, form: &str) {
        self.bar.finish_and_clear();
        if self.quiet {
            self.bar = ProgressBar::hidden();
            return;
        }
        let style = ProgressStyle::with_template(form).expect("the form is well-formed");
        self.bar = bar.with_style(style.progress_chars("=> "));
    }

    /// Images in a second, tests too, and the time that is left of the run, where `done` of the `images` of
    /// this epoch are trained on.
    fn pace(&self, images: u64, done: u64) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let pace = self.trained as f64 / seconds.max(1e-9);
        let epochs = self.epochs.saturating_sub(self.epoch) as u64;
        let left = (epochs * images).saturating_sub(done) as f64 / pace.max(1e-9);
        let left = HumanDuration(Duration::from_secs_f64(left.min(1e9)));
        format!("{pace:.0} images/s, {left} left")
    }

    fn next_epoch(&mut self, images: u64) {
        let bar = ProgressBar::new(images);
        let form = "{prefix} [{bar:30}] {pos}/{len} {msg}";
        let bar = bar.with_prefix(format!("epoch {}/{}", self.epoch + 1, self.epochs));
        self.replace(bar, form);
    }
}

impl Progress for Bars {
    fn start(&mut self, run: &RunConfig, finished_epochs: usize, _steps: usize) {
        self.epochs = run.epochs;
        self.epoch = finished_epochs;
        (self.trained, self.began) = (0, Instant::now());
        self.warned.clear();
        match finished_epochs {
            0 => self.say(&run.name),
            n => self.say(&format!("{}, from epoch {} on", run.name, n + 1)),
        }
    }

    fn loaded(&mut self, report: &LoadReport) {
        for difference in report.differences() {
            self.say(&format!("accepted of the file: {difference}"));
        }
    }

    fn started_from_teacher(&mut self, report: &LoadReport) {
        let taken = report.loaded.join(", ");
        self.say(&format!("taken from the teacher: {taken}"));
        let own = report.missing.iter();
        let other_shape = report.other_shape.iter().map(|(name, ..)| name);
        let own: Vec<&str> = own.chain(other_shape).map(String::as_str).collect();
        if !own.is_empty() {
            self.say(&format!("the student's own: {}", own.join(", ")));
        }
    }

    fn cell(&mut self, folder: &Path, index: usize, cells: usize) {
        let folder = folder.display();
        self.say(&format!("{} of {cells}: {folder}", index + 1));
    }

    fn calibrated(&mut self, thresholds: &[Calibrated]) {
        match thresholds.len() {
            // They came with the weights.
            0 => self.say("thresholds came with the weights"),
            n => self.say(&format!("calibrated {n} quantizers")),
        }
        for calibrated in thresholds.iter().filter(|c| !c.zero.is_empty()) {
            let (path, dead) = (&calibrated.path, calibrated.zero.len());
            let channels = match calibrated.log2_threshold.len() {
                1 => String::new(),
                all => format!(" in {dead} of {all} channels"),
            };
            self.say(&format!(
                "{path}: nothing but zeros{channels}, the threshold stays 1"
            ));
        }
    }

    fn repaired(&mut self, repaired: &Repaired) {
        let algorithm = repaired.algorithm;
        self.say(&format!("{algorithm}: {}", algorithm.measures()));
        for tensor in &repaired.tensors {
            let percent = |share: f64| format!("{:8.3} %", 100.0 * share);
            let (before, after) = (percent(tensor.before), percent(tensor.after));
            self.say(&format!("  {before} -> {after}  {}", tensor.path));
        }
        for note in &repaired.notes {
            self.say(&format!("  {note}"));
        }
    }

    fn step(&mut self, step: &StepMetrics<'_>) {
        let (done, images) = (step.done as u64, step.images as u64);
        if self.bar.is_hidden() && self.bar.length() != Some(images) || self.bar.is_finished() {
            self.next_epoch(images);
        }
        self.bar.set_position(done);
        self.trained += step.trained as u64;
        let pace = self.pace(images, done);
        let loss = format!("loss {:.4}  {pace}", step.sums.mean_loss());
        if self.bar.is_hidden() && self.last_line.elapsed() > LINE_EVERY {
            self.say(&format!(
                "  epoch {:>3}  {done}/{images}  {loss}",
                self.epoch + 1,
            ));
        }
        self.bar.set_message(loss);
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.bar.finish_and_clear();
        self.epoch = metrics.epoch;
        self.say(&format!(
            "  epoch {:>3}  loss {:.4}  test loss {:.4}  test accuracy {:6.2} %  {:.1} s",
            metrics.epoch,
            metrics.train_loss,
            metrics.test_loss,
            100.0 * metrics.test_accuracy,
            metrics.seconds,
        ));
        if let (_, Some(held_out)) = metrics.tested() {
            self.say(&format!(
                "    held out  loss {:.4}  accuracy {:6.2} %",
                held_out.loss,
                100.0 * held_out.accuracy,
            ));
        }
        if let Some(average) = &metrics.average {
            self.say(&format!(
                "    average of {}  test loss {:.4}  test accuracy {:6.2} %",
                average.weights,
                average.test_loss,
                100.0 * average.test_accuracy,
            ));
        }
    }

    fn warn(&mut self, warnings: &[Warning]) {
        // What goes on for epochs is said once.
        for warning in warnings {
            if !self.warned.iter().any(|before| warning.repeats(before)) {
                self.insist(&format!("  warning: {warning}"));
            }
        }
        self.warned = warnings.to_vec();
    }

    fn interrupted(&mut self, checkpoints: &Path) {
        self.bar.finish_and_clear();
        self.say(&format!("saved a checkpoint in {}", checkpoints.display()));
    }
}
