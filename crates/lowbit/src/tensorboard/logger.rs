//! Metrics of Burn's own learner in event files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::train::logger::{InMemoryMetricLogger, MetricLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};

use super::EventWriter;
use crate::Error;

/// Hands the metrics of Burn's learner to TensorBoard: `train/Loss` of every iteration, and of each epoch
/// `train/Loss/epoch`, `valid/Loss/epoch`. What the learner asks back is kept in memory, so that it can
/// be the only logger, as `SupervisedTraining::with_metric_logger` makes it.
///
/// Burn's loggers cannot fail: where a file cannot be written any more, nothing else is.
pub struct TensorBoardLogger {
    writer: Option<EventWriter>,
    kept: InMemoryMetricLogger,
    names: HashMap<MetricId, String>,
    /// How many times the metrics of a split were told.
    iterations: BTreeMap<String, u64>,
    /// The value of each tag over the epoch that is under way.
    running: BTreeMap<String, f64>,
}

impl TensorBoardLogger {
    /// Writes a new event file in this folder.
    ///
    /// # Errors
    /// If the folder or the file cannot be made.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self {
            writer: Some(EventWriter::create(folder.as_ref())?),
            kept: InMemoryMetricLogger::new(),
            names: HashMap::new(),
            iterations: BTreeMap::new(),
            running: BTreeMap::new(),
        })
    }

    fn write(&mut self, to: impl FnOnce(&mut EventWriter) -> Result<(), Error>) {
        if let Some(writer) = &mut self.writer
            && to(writer).is_err()
        {
            self.writer = None;
        }
    }
}

/// The group of a split's tags: `train`, `valid`, `test` or `test/TAG`.
fn group(split: &Split) -> String {
    match split {
        Split::Test(Some(tag)) => format!("{split}/{tag}"),
        _ => split.to_string(),
    }
}

impl MetricLogger for TensorBoardLogger {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let group = group(split);
        let step = self.iterations.entry(group.clone()).or_default();
        *step += 1;
        let step = *step;
        for metric in &update.entries_numeric {
            let name = self.names.get(&metric.entry.metric_id);
            let tag = format!("{group}/{}", name.map_or("", String::as_str));
            let of_epoch = metric
                .running_entry
                .as_ref()
                .or(metric.numeric_entry.as_ref());
            if let Some(value) = of_epoch {
                self.running.insert(tag.clone(), value.current());
            }
            let is_final = matches!(metric.numeric_entry, Some(NumericEntry::Final(_)));
            if let Some(value) = metric.numeric_entry.as_ref().map(NumericEntry::current)
                && *split == Split::Train
                && !is_final
            {
                self.write(|writer| writer.scalar(&tag, step, value as f32));
            }
        }
        self.kept.log(update, epoch, split);
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        self.kept.read_numeric(name, epoch, split)
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id.clone(), definition.name.to_string());
        self.kept.log_metric_definition(definition);
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        let group = format!("{}/", group(&summary.split));
        let running = std::mem::take(&mut self.running);
        for (tag, value) in running {
            match tag.starts_with(&group) {
                true => {
                    let epoch = summary.epoch_number as u64;
                    let of_epoch = format!("{tag}/epoch");
                    self.write(|writer| writer.scalar(&of_epoch, epoch, value as f32));
                }
                false => drop(self.running.insert(tag, value)),
            }
        }
        self.write(EventWriter::flush);
        self.kept.log_epoch_summary(summary);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::train::metric::store::NumericMetricUpdate;
    use burn::train::metric::{MetricAttributes, MetricEntry, SerializedEntry};

    use super::*;
    use crate::tensorboard::proto::{Content, What};
    use crate::tensorboard::reader::events;

    /// Two iterations of training with the mean 3/2, and one of validation.
    #[test]
    fn metrics_of_a_learner_are_written_and_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut logger = TensorBoardLogger::new(folder.path()).unwrap();
        let id = MetricId::new(Arc::new("loss".to_string()));
        logger.log_metric_definition(MetricDefinition {
            metric_id: id.clone(),
            name: Arc::new("Loss".into()),
            description: None,
            attributes: MetricAttributes::None,
        });
        let update = |value: f64, running: f64| {
            let numeric = NumericEntry::Value(value);
            let serialized = SerializedEntry::new(value.to_string(), numeric.serialize());
            let entry = MetricEntry::new(id.clone(), serialized);
            let running = Some(NumericEntry::Value(running));
            let update = NumericMetricUpdate::new(entry, Some(numeric), running);
            MetricsUpdate::new(Vec::new(), vec![update])
        };
        logger.log(update(2.0, 2.0), 1, &Split::Train);
        logger.log(update(1.0, 1.5), 1, &Split::Train);
        logger.log(update(3.0, 3.0), 1, &Split::Valid);
        for split in [Split::Train, Split::Valid] {
            logger.log_epoch_summary(EpochSummary::new(1, split));
        }
        let mut scalars = Vec::new();
        for event in events(logger.writer.as_ref().unwrap().path()) {
            let Some(What::Summary(summary)) = event.what else {
                continue;
            };
            for value in summary.value {
                if let Some(Content::Scalar(number)) = value.content {
                    scalars.push((value.tag, event.step, number));
                }
            }
        }
        let expected = [
            ("train/Loss", 1, 2.0),
            ("train/Loss", 2, 1.0),
            ("train/Loss/epoch", 1, 1.5),
            ("valid/Loss/epoch", 1, 3.0),
        ];
        let expected = expected.map(|(tag, step, value)| (tag.to_string(), step, value));
        assert_eq!(scalars, expected);
        let told = logger.read_numeric("Loss", 1, &Split::Train).unwrap();
        let told: Vec<f64> = told.iter().map(NumericEntry::current).collect();
        assert_eq!(told, [2.0, 1.0]);
    }
}
