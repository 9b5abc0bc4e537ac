//! An analysis as TensorBoard shows it.

use std::path::Path;

use super::AnalysisReport;
use crate::Error;
use crate::analysis::{LayerAnalysis, TensorAnalysis, TensorError};
use crate::tensorboard::{Counted, EventWriter};

impl AnalysisReport<'_> {
    /// Writes an event file of TensorBoard, in a folder of the run's name below `folder`. Its step is the number of
    /// epochs that the run was trained.
    ///
    /// | tag | |
    /// |---|---|
    /// | `analysis/...` | accuracies and losses of both networks |
    /// | `predicted loss/LAYER`, `measured loss/LAYER` | what quantizing a layer adds |
    /// | `SQNR alone/TENSOR`, `SQNR accumulated/TENSOR` | decibels |
    /// | `clipped/TENSOR` | the share of the values |
    /// | `weights/TENSOR`, `activations/TENSOR` | histograms, in the bins of the report |
    /// | `gradients/TENSOR` | histograms, where gradients were asked for |
    /// | `summary` | the sentences that the report begins with |
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_events(&self, folder: &Path) -> Result<(), Error> {
        let run = self.run;
        let step = run.epochs.last().map_or(0, |epoch| epoch.epoch as u64);
        let mut to = Events {
            writer: EventWriter::create(&folder.join(format!("{}-analysis", run.run)))?,
            step,
        };
        to.writer
            .text("summary", step, &self.sentences().join("\n\n"))?;
        let both = [
            ("float", run.analysis.float),
            ("quantized", run.analysis.quantized),
        ];
        for (name, tested) in both {
            to.scalar(&format!("analysis/{name} accuracy"), Some(tested.accuracy))?;
            to.scalar(&format!("analysis/{name} loss"), Some(tested.loss))?;
        }
        for layer in &run.analysis.layers {
            to.layer(layer)?;
        }
        for gradient in &run.gradients {
            let tag = format!("gradients/{}", gradient.path);
            to.writer.histogram(&tag, step, &gradient.values())?;
        }
        to.writer.flush()
    }
}

struct Events {
    writer: EventWriter,
    step: u64,
}

impl Events {
    /// A number that may not be there.
    fn scalar(&mut self, tag: &str, number: Option<f64>) -> Result<(), Error> {
        let Some(number) = number else {
            return Ok(());
        };
        self.writer.scalar(tag, self.step, number as f32)
    }

    fn layer(&mut self, layer: &LayerAnalysis) -> Result<(), Error> {
        let path = &layer.path;
        let measured = layer.measured.map(|measured| measured.added);
        self.scalar(&format!("predicted loss/{path}"), layer.predicted_loss())?;
        self.scalar(&format!("measured loss/{path}"), measured)?;
        layer.tensors.iter().try_for_each(|t| self.tensor(t))
    }

    fn tensor(&mut self, tensor: &TensorAnalysis) -> Result<(), Error> {
        let path = &tensor.path;
        let sqnr = |error: Option<TensorError>| error.and_then(|error| error.sqnr);
        self.scalar(&format!("SQNR alone/{path}"), sqnr(tensor.alone))?;
        self.scalar(
            &format!("SQNR accumulated/{path}"),
            sqnr(tensor.accumulated),
        )?;
        self.scalar(&format!("clipped/{path}"), tensor.clipped)?;
        let count = tensor.count - tensor.not_finite;
        if count == 0 {
            return Ok(());
        }
        let group = if tensor.parameter {
            "weights"
        } else {
            "activations"
        };
        let bins = &tensor.histogram;
        let ends = (1..=bins.counts.len()).map(|i| bins.start(i));
        let counted = Counted {
            min: tensor.min,
            max: tensor.max,
            sum: tensor.mean * count as f64,
            sum_squares: (tensor.mean.powi(2) + tensor.deviation.powi(2)) * count as f64,
            first: bins.start(0),
            bins: ends.zip(bins.counts.iter().copied()).collect(),
        };
        let tag = format!("{group}/{path}");
        self.writer.counted(&tag, self.step, &counted)
    }
}
