//! Accuracy against width, for runs that learn their widths.

use lowbit_formats::svg::{Anchor, COLORS, Panel, document, text};
use serde::Serialize;

use crate::Error;
use crate::quantizers::Slot;
use crate::train::{EpochMetrics, Experiment, RunConfig, RunFolder};

/// A network that a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FrontPoint {
    /// Mean bits of the weights.
    pub weight_bits: f64,
    /// Mean bits of what layers read, where they are learned.
    pub input_bits: Option<f64>,
    /// Fraction of the test images that is right.
    pub accuracy: f64,
    /// The epoch, counted from 1.
    pub epoch: usize,
}

/// The runs of an experiment: where widths are learned every epoch is a point, and a run of given
/// widths is one, after its last epoch.
#[derive(Debug, Clone, Serialize)]
pub struct WidthFront {
    /// Data set and network.
    pub title: String,
    /// The runs by name, in their order, each with points from wide to narrow.
    pub runs: Vec<(String, Vec<FrontPoint>)>,
}

impl WidthFront {
    /// Reads the runs of an experiment.
    ///
    /// # Errors
    /// If a run's metrics cannot be read, or none has learned a width.
    pub fn read(folder: &RunFolder, experiment: &Experiment) -> Result<Self, Error> {
        let mut runs = Vec::new();
        let mut learns = false;
        for run in &experiment.runs {
            let epochs = folder.epochs(&run.name)?;
            learns |= epochs.iter().any(|epoch| epoch.mean_bits.is_some());
            let points = points(run, &epochs);
            if !points.is_empty() {
                runs.push((run.name.clone(), points));
            }
        }
        if !learns {
            return Err(Error::Checkpoint {
                path: folder.path().into(),
                message: "holds no run that has learned widths (--method learned-width)".into(),
            });
        }
        Ok(Self {
            title: format!("{} on {}", experiment.model, experiment.data),
            runs,
        })
    }

    /// The points that no other has beaten, with fewer bits or as many: the front of each run.
    pub fn front(points: &[FrontPoint]) -> Vec<FrontPoint> {
        let mut sorted = points.to_vec();
        sorted.sort_by(|a, b| {
            let bits = a.weight_bits.total_cmp(&b.weight_bits);
            bits.then(b.accuracy.total_cmp(&a.accuracy))
        });
        let mut best = f64::NEG_INFINITY;
        sorted.retain(|point| {
            let beats = point.accuracy > best;
            best = best.max(point.accuracy);
            beats
        });
        sorted
    }

    /// Test accuracy over mean bits of weights: all points, and the front of each run as a line.
    pub fn svg(&self) -> String {
        let (width, height) = (520.0, 300.0);
        let all = || self.runs.iter().flat_map(|(_, points)| points);
        let most = all().map(|point| point.weight_bits).fold(2.0, f64::max);
        let least = all().map(|point| point.accuracy).fold(1.0, f64::min);
        let panel = Panel {
            frame: [60.0, 50.0, width, height],
            x: (0.0, most.ceil()),
            y: (((10.0 * least).floor() * 10.0).min(90.0), 100.0),
        };
        let title = format!("Test accuracy in percent, {}", self.title);
        let mut parts = panel.axes(&title, "mean bits of weights");
        for (i, (name, points)) in self.runs.iter().enumerate() {
            let color = COLORS[i % COLORS.len()];
            let front = Self::front(points);
            let line = front.iter().map(|p| (p.weight_bits, 100.0 * p.accuracy));
            parts += &panel.line(line, &format!("stroke=\"{color}\" stroke-width=\"2\""));
            for point in points {
                let (x, y) = panel.at(point.weight_bits, 100.0 * point.accuracy);
                parts += &format!("<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"3\" fill=\"{color}\"/>");
            }
            let y = 50.0 + height + 66.0 + 24.0 * i as f64;
            parts += &format!(
                "<circle cx=\"68\" cy=\"{:.2}\" r=\"5\" fill=\"{color}\"/>",
                y - 4.0
            );
            parts += &text((82.0, y), Anchor::Start, name);
        }
        let legend = 24.0 * self.runs.len() as f64;
        document((620.0, 50.0 + height + 60.0 + legend), 13, &parts)
    }
}

fn points(run: &RunConfig, epochs: &[EpochMetrics]) -> Vec<FrontPoint> {
    let accuracy = |epoch: &EpochMetrics| epoch.tested().0.accuracy;
    let mut points: Vec<FrontPoint> = epochs
        .iter()
        .filter_map(|epoch| {
            let bits = epoch.mean_bits?;
            Some(FrontPoint {
                weight_bits: bits.weights,
                input_bits: Some(bits.inputs),
                accuracy: accuracy(epoch),
                epoch: epoch.epoch,
            })
        })
        .collect();
    let given = run.plan.default.get(Slot::WEIGHT);
    if let (true, Some(weight), Some(last)) = (points.is_empty(), given, epochs.last()) {
        points.push(FrontPoint {
            weight_bits: weight.bits().into(),
            input_bits: None,
            accuracy: accuracy(last),
            epoch: last.epoch,
        });
    }
    points.sort_by(|a, b| b.weight_bits.total_cmp(&a.weight_bits));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(weight_bits: f64, accuracy: f64) -> FrontPoint {
        FrontPoint {
            weight_bits,
            input_bits: None,
            accuracy,
            epoch: 1,
        }
    }

    /// 4 bits with 0.9 beat 5 with 0.8, and not 6 with 0.95; of two with 4 bits the better counts.
    #[test]
    fn the_front_has_no_point_that_is_beaten() {
        let points = [
            point(6.0, 0.95),
            point(4.0, 0.9),
            point(5.0, 0.8),
            point(4.0, 0.85),
        ];
        let front = WidthFront::front(&points);
        assert_eq!(front, [point(4.0, 0.9), point(6.0, 0.95)]);
    }

    /// The axis of bits is from 0 to 8 and 520 wide from 60: 4 bits are in its middle, 320; 95 of 90 to
    /// 100 percent are in the middle of 50 to 350.
    #[test]
    fn points_lie_where_they_are_by_hand() {
        let front = WidthFront {
            title: "cnn on digits".into(),
            runs: vec![("a".into(), vec![point(8.0, 1.0), point(4.0, 0.95)])],
        };
        let svg = front.svg();
        assert!(svg.contains("cx=\"320.00\" cy=\"200.00\""), "{svg}");
    }
}
