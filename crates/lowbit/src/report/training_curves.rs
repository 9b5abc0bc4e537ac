//! How the runs of an experiment learned, epoch by epoch.

use lowbit_formats::svg::{Anchor, COLORS, Panel, document, text};
use serde::Serialize;

use super::page::text::escaped;
use crate::Error;
use crate::train::{EpochMetrics, Experiment, RunFolder};

/// The metrics of every run that has finished an epoch.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingCurves {
    /// Data set and network.
    pub title: String,
    /// The runs by name, in their order.
    pub runs: Vec<(String, Vec<EpochMetrics>)>,
}

impl TrainingCurves {
    /// Reads the runs of an experiment.
    ///
    /// # Errors
    /// If a run's metrics cannot be read, or none has finished an epoch.
    pub fn read(folder: &RunFolder, experiment: &Experiment) -> Result<Self, Error> {
        let mut runs = Vec::new();
        for run in &experiment.runs {
            let epochs = folder.epochs(&run.name)?;
            if !epochs.is_empty() {
                runs.push((run.name.clone(), epochs));
            }
        }
        if runs.is_empty() {
            return Err(Error::Checkpoint {
                path: folder.path().into(),
                message: "holds no run that has finished an epoch".into(),
            });
        }
        Ok(Self {
            title: format!("{} on {}", experiment.model, experiment.data),
            runs,
        })
    }

    /// Mean loss of the training images, and the share of the test images that is right, over epochs.
    pub fn svg(&self) -> String {
        let (width, height, legend) = (420.0, 260.0, 24.0 * self.runs.len() as f64);
        let last = self.runs.iter().flat_map(|(_, epochs)| epochs.last());
        let last = last.map(|epoch| epoch.epoch).max().unwrap_or(1).max(2);
        let panel = |left: f64, y| Panel {
            frame: [left, 50.0, width, height],
            x: (1.0, last as f64),
            y,
        };
        let loss = panel(60.0, self.losses());
        let accuracy = panel(560.0, self.accuracies());
        let heading = escaped(&format!("Training loss, {}", self.title));
        let mut parts = loss.axes(&heading, "epoch");
        parts += &accuracy.axes("Test accuracy in percent", "epoch");
        for (i, (name, epochs)) in self.runs.iter().enumerate() {
            let dash = ["", " stroke-dasharray=\"6 3\""][i / COLORS.len() % 2];
            let color = COLORS[i % COLORS.len()];
            let style = format!("stroke=\"{color}\" stroke-width=\"2\"{dash}");
            let line = |panel: &Panel, value: fn(&EpochMetrics) -> f64| {
                let points = epochs.iter().map(|e| (e.epoch as f64, value(e)));
                panel.line(points, &style)
            };
            parts += &line(&loss, |epoch| epoch.train_loss);
            parts += &line(&accuracy, |epoch| 100.0 * tested(epoch));
            let y = 50.0 + height + 66.0 + 24.0 * i as f64;
            let key = [Some((60.0, y - 4.0)), Some((90.0, y - 4.0))].into_iter();
            parts += &lowbit_formats::svg::line(key, &style);
            let end = epochs.last().map_or(f64::NAN, |e| 100.0 * tested(e));
            let label = format!("{name}: {end:.2} % in the end");
            parts += &text((98.0, y), Anchor::Start, &escaped(&label));
        }
        document((1020.0, 50.0 + height + 60.0 + legend), 13, &parts)
    }

    /// The ends of a number over all epochs.
    fn ends(&self, of: impl Fn(&EpochMetrics) -> f64) -> (f64, f64) {
        let all = self.runs.iter().flat_map(|(_, epochs)| epochs);
        all.map(of).fold((f64::INFINITY, 0.0), |(least, most), x| {
            (f64::min(least, x), f64::max(most, x))
        })
    }

    /// The axis of losses: to a little above the largest, from 0, or from the tenth below the least where that is more than half
    /// of it.
    fn losses(&self) -> (f64, f64) {
        let (least, most) = self.ends(|epoch| epoch.train_loss);
        if most <= 0.0 {
            return (0.0, 1.0);
        }
        let end = most * 1.05;
        let tenth = (10.0 * least).floor() / 10.0;
        (if least > end / 2.0 { tenth } else { 0.0 }, end)
    }

    /// The axis of accuracies: from the ten at the least or below it to the ten at the most or above it.
    fn accuracies(&self) -> (f64, f64) {
        let (least, most) = self.ends(tested);
        let begin = ((10.0 * least).floor() * 10.0).clamp(0.0, 90.0);
        (
            begin,
            ((10.0 * most).ceil() * 10.0).clamp(begin + 10.0, 100.0),
        )
    }
}

/// The accuracy of what a checkpoint of the epoch holds.
fn tested(epoch: &EpochMetrics) -> f64 {
    epoch.tested().0.accuracy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, train_loss: f64, test_accuracy: f64) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss,
            test_accuracy,
            ..EpochMetrics::default()
        }
    }

    /// Two epochs from the left edge, 60, to 60 + 420; the loss 2 is the most, so that the axis ends
    /// at 2.1: a loss of 1.05 lies in its middle, 50 + 130.
    #[test]
    fn points_lie_where_they_are_by_hand() {
        let curves = TrainingCurves {
            title: "cnn on digits".into(),
            runs: vec![("a".into(), vec![epoch(1, 2.0, 0.5), epoch(2, 1.05, 0.75)])],
        };
        let svg = curves.svg();
        assert!(svg.contains("L480.00 180.00\""), "{svg}");
        // Of 50 to 80 percent, 75 is five sixths: 310 - 260 * 5 / 6.
        assert!(svg.contains("M560.00 310.00L980.00 93.33\""), "{svg}");
        assert!(svg.contains("a: 75.00 % in the end"));
    }

    /// Losses that are near each other have an axis of their own, and so have low accuracies.
    #[test]
    fn axes_are_where_points_are() {
        let of = |losses: [f64; 2], accuracies: [f64; 2]| {
            let epochs = [0, 1].map(|i| epoch(i + 1, losses[i], accuracies[i]));
            let curves = TrainingCurves {
                title: String::new(),
                runs: vec![("a".into(), epochs.into())],
            };
            (curves.losses(), curves.accuracies())
        };
        assert_eq!(of([2.0, 1.73], [0.41, 0.457]), ((1.7, 2.1), (40.0, 50.0)));
        assert_eq!(of([2.0, 0.5], [0.9, 1.0]), ((0.0, 2.1), (90.0, 100.0)));
        assert_eq!(of([0.0, 0.0], [0.3, 0.3]), ((0.0, 1.0), (30.0, 40.0)));
    }

    #[test]
    fn names_are_text() {
        let curves = TrainingCurves {
            title: "a<b".into(),
            runs: vec![("x&<i>".into(), vec![epoch(1, 2.0, 0.5)])],
        };
        let svg = curves.svg();
        assert!(svg.contains("Training loss, a&lt;b") && svg.contains("x&amp;&lt;i&gt;: 50.00 %"));
    }
}
