//! Which layer is to blame, and what would help.

use serde::Serialize;

use super::layer::LayerAnalysis;
use super::refit::Refit;
use super::tensor::TensorAnalysis;
use crate::quantizers::Slot;

/// A threshold fits badly from here on: the noise over that of the best one.
const BAD_FIT: f64 = 8.0;

/// Two channels would each rather have the other's threshold: the noise of both over that if they had.
const SWAPPED: f64 = 1.5;

/// Less loss than this, in nats, is next to nothing: a few images do not tell what it is on others.
pub(super) const LEAST: f64 = 1e-3;

/// The most by which a cost counts more since another threshold would not have it.
const MOST_NEEDLESS: f64 = 1000.0;

/// What is wrong with a layer, if it is more than that it has few bits.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Problem {
    /// Numbers are NaN or infinite.
    NotFinite {
        /// The tensor's path.
        tensor: String,
        /// How many.
        values: u64,
    },
    /// Channels of a weight hold nothing but zeros.
    DeadChannels {
        /// The tensor's path.
        tensor: String,
        /// The channels.
        channels: Vec<usize>,
    },
    /// A threshold, or one of a channel, is far from the best.
    Threshold {
        /// The tensor's path.
        tensor: String,
        /// The channel, where it has one for each.
        channel: Option<usize>,
        /// The threshold as it is, where the quantizer's ends are known.
        now: Option<f64>,
        /// The best one.
        best: f64,
        /// The mean square error over that with the best one.
        ratio: f64,
    },
    /// The thresholds of two channels look as if they had been exchanged.
    Swapped {
        /// The tensor's path.
        tensor: String,
        /// The channels.
        channels: [usize; 2],
        /// Their thresholds as they are.
        thresholds: [f64; 2],
        /// The noise of both over that with each other's threshold.
        ratio: f64,
    },
    /// It has few bits for what it does.
    Width {
        /// The tensor whose rounding costs most.
        tensor: String,
        /// Its bits.
        bits: f64,
    },
    /// Nothing stands out.
    None,
}

/// A layer, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Its path.
    pub layer: String,
    /// Its type.
    pub layer_type: String,
    /// The loss that its quantization adds, in nats: what is predicted, or what is measured with this layer
    /// alone quantized less two standard errors where that is more; infinite where it has numbers that are
    /// none.
    pub cost: f64,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

/// The layers that something is to be said of, the one to blame first: those with numbers that are none,
/// then those with dead channels, then all by their [`score`].
pub(super) fn findings(layers: &[LayerAnalysis]) -> Vec<Finding> {
    let mut found: Vec<(u8, Finding)> = Vec::new();
    for layer in layers {
        let problem = problem(layer);
        let broken = is_broken(layer, &problem);
        let quantizes = layer.measured.is_some() || layer.predicted_loss().is_some();
        if !quantizes && !broken {
            continue;
        }
        let cost = match broken {
            true => f64::INFINITY,
            false => cost(layer),
        };
        let rank = match &problem {
            Problem::NotFinite { .. } if broken => 0,
            Problem::DeadChannels { .. } => 1,
            _ => 2,
        };
        found.push((
            rank,
            Finding {
                layer: layer.path.clone(),
                layer_type: layer.layer_type.clone(),
                cost,
                problem,
            },
        ));
    }
    found.sort_by(|(a, x), (b, y)| a.cmp(b).then(score(y).total_cmp(&score(x))));
    found.into_iter().map(|(_, finding)| finding).collect()
}

/// Whether numbers that are none come from this layer: from its parameters, or from its sums alone.
fn is_broken(layer: &LayerAnalysis, problem: &Problem) -> bool {
    let Problem::NotFinite { .. } = problem else {
        return false;
    };
    let bad = |tensor: &TensorAnalysis| tensor.not_finite > 0;
    let input = layer.tensor(Slot::INPUT);
    layer
        .tensors
        .iter()
        .any(|tensor| tensor.parameter && bad(tensor))
        || input.is_some_and(|input| !bad(input))
}

/// What a layer costs: what is predicted, or more where so much is measured beyond chance.
fn cost(layer: &LayerAnalysis) -> f64 {
    let measured = layer
        .measured
        .map(|measured| measured.added - 2.0 * measured.standard_error);
    let known = [layer.predicted_loss(), measured];
    let known = known.into_iter().flatten().filter(|loss| !loss.is_nan());
    known.fold(0.0, f64::max)
}

/// By what findings are ordered: the cost, which counts more where it need not be, by the noise of a threshold that
/// fits badly over that of a better one. What is wrong counts as [`LEAST`] where it costs less on these images, since
/// it takes nothing to mend it.
fn score(finding: &Finding) -> f64 {
    match &finding.problem {
        Problem::Threshold { ratio, .. } | Problem::Swapped { ratio, .. } => {
            finding.cost.max(LEAST) * ratio.min(MOST_NEEDLESS)
        }
        _ => finding.cost,
    }
}

/// What is wrong with a layer.
fn problem(layer: &LayerAnalysis) -> Problem {
    let mut tensors: Vec<&TensorAnalysis> = layer.tensors.iter().collect();
    tensors.sort_by_key(|tensor| !tensor.parameter);
    if let Some(tensor) = tensors.iter().find(|tensor| tensor.not_finite > 0) {
        return Problem::NotFinite {
            tensor: tensor.path.clone(),
            values: tensor.not_finite,
        };
    }
    let dead =
        |tensor: &&&TensorAnalysis| tensor.slot == Slot::WEIGHT && !tensor.zero_channels.is_empty();
    if let Some(tensor) = tensors.iter().find(dead) {
        return Problem::DeadChannels {
            tensor: tensor.path.clone(),
            channels: tensor.zero_channels.clone(),
        };
    }
    misfit(layer)
        .or_else(|| width(layer))
        .unwrap_or(Problem::None)
}

/// The thresholds whose change would take most off the loss, if they fit badly.
fn misfit(layer: &LayerAnalysis) -> Option<Problem> {
    let gain = |tensor: &TensorAnalysis| {
        let known = layer.prediction(&tensor.slot);
        let pair = known.and_then(|known| Some((known.now?, known.refit?)));
        pair.map_or(0.0, |(now, refit)| now - refit)
    };
    let tensors = layer.tensors.iter();
    let bad = tensors.filter_map(|tensor| Some((tensor, misfit_of(tensor)?)));
    let (_, problem) = bad.max_by(|a, b| gain(a.0).total_cmp(&gain(b.0)))?;
    Some(problem)
}

/// What is wrong with the thresholds of a tensor.
fn misfit_of(tensor: &TensorAnalysis) -> Option<Problem> {
    let refit = tensor.refit.as_ref()?;
    if let Some(swapped) = refit.swapped.as_ref().filter(|s| s.ratio >= SWAPPED) {
        return Some(Problem::Swapped {
            tensor: tensor.path.clone(),
            channels: swapped.channels,
            thresholds: swapped.thresholds,
            ratio: swapped.ratio,
        });
    }
    if refit.ratio < BAD_FIT {
        return None;
    }
    let channel = refit.worst_channel.map(|(channel, _)| channel);
    let place = channel.unwrap_or(0);
    Some(Problem::Threshold {
        tensor: tensor.path.clone(),
        channel,
        now: tensor.thresholds().get(place).copied(),
        best: threshold(refit, place),
        ratio: refit.ratio,
    })
}

fn threshold(refit: &Refit, place: usize) -> f64 {
    refit.thresholds.get(place).copied().unwrap_or_default()
}

/// The tensor whose rounding costs most.
fn width(layer: &LayerAnalysis) -> Option<Problem> {
    let known = layer.predicted.iter().filter_map(|p| Some((p, p.now?)));
    let (most, _) = known.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let tensor = layer
        .tensors
        .iter()
        .find(|tensor| tensor.path == most.path)?;
    Some(Problem::Width {
        tensor: tensor.path.clone(),
        bits: tensor.bits?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::tensor::TensorCounts;
    use crate::quantizers::Place;

    /// Four bits without sign below 2: steps of 1/8 up to 15/8. With sign below 1: from -1 to 7/8.
    #[test]
    fn thresholds_are_those_of_the_best_grid() {
        let place = Place {
            layer: "layer".into(),
            layer_type: "Linear".into(),
            slot: "input".into(),
        };
        let tensor = TensorAnalysis {
            ends: vec![(0.0, 1.875), (-1.0, 0.875)],
            steps: vec![0.125, 0.125],
            ..TensorCounts::new(place, false, 1, None).finish()
        };
        assert_eq!(tensor.thresholds(), [2.0, 1.0]);
    }
}
