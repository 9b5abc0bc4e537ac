//! What a training step makes small.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::targets::Targets;
use crate::Error;
use crate::error::one_of;
use crate::ops;

/// The loss of a batch of class scores. A distilled network's (the scores of a teacher) and one with
/// a penalty on learned parameters are the next of this list; what they need beside the scores
/// becomes an argument of [`loss`](Self::loss), which a [`Task`](super::Task) has at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Objective {
    /// Mean cross-entropy, see [`cross_entropy`](crate::ops::cross_entropy()).
    #[default]
    CrossEntropy,
    /// The sum of squares, `mean over n of (1/2 sum over c of (scores[n, c] - y[n, c])^2)`, where
    /// `y[n, c]` is 1 for the right class and 0 for every other. The gradient is the error itself,
    /// `scores - y` over the size of the batch, and a network trains without the exponentials of a
    /// softmax (WAGE, arXiv 1802.04680).
    SumOfSquares,
}

impl Objective {
    /// All objectives.
    pub const ALL: [Self; 2] = [Self::CrossEntropy, Self::SumOfSquares];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross-entropy",
            Self::SumOfSquares => "sum-of-squares",
        }
    }

    /// The names of all objectives, as a person reads them.
    pub fn names() -> &'static str {
        static NAMES: LazyLock<String> =
            LazyLock::new(|| one_of(&Objective::ALL.map(Objective::name)));
        &NAMES
    }

    /// Whether it is the one that is meant where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The loss of a batch; of mixed images `share` times that of the first class and `1 - share`
    /// times that of the other.
    ///
    /// # Shapes
    /// - `scores`: `[batch, classes]`
    /// - `targets`: `[batch]`, each from 0 to the number of classes less one
    /// - result: `[1]`
    pub fn loss(self, scores: Tensor<2>, targets: impl Into<Targets>) -> Tensor<1> {
        let Targets {
            classes,
            smoothing,
            mixed,
        } = targets.into();
        let of = |scores, classes| match self {
            Self::CrossEntropy => ops::smoothed_cross_entropy(scores, classes, smoothing),
            Self::SumOfSquares => sum_of_squares(scores, classes, smoothing),
        };
        match mixed {
            None => of(scores, classes),
            Some((others, share)) => {
                of(scores.clone(), classes) * share + of(scores, others) * (1.0 - share)
            }
        }
    }
}

fn sum_of_squares(scores: Tensor<2>, targets: Tensor<1, Int>, smoothing: f32) -> Tensor<1> {
    let [batch, classes] = scores.dims();
    let mut one_hot = targets.one_hot::<2>(classes).float();
    if smoothing > 0.0 {
        one_hot = one_hot * (1.0 - smoothing) + smoothing / classes as f32;
    }
    let squares = (scores - one_hot).square();
    ops::sum(squares.flatten(0, 1)).div_scalar(2.0 * batch as f64)
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Objective {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|objective| objective.name() == text)
            .ok_or_else(|| Error::Unknown {
                kind: "objective",
                text: text.into(),
                expected: Self::names(),
            })
    }
}

impl TryFrom<String> for Objective {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Objective> for String {
    fn from(objective: Objective) -> Self {
        objective.name().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Two images, three classes; the first is of class 2, the second of class 0. The errors are
    /// (0.5, -1, 2 - 1) and (0.25 - 1, 0, 1): squares 0.25 + 1 + 1 and 0.5625 + 0 + 1, together
    /// 3.8125; half of it over two images is 0.953125.
    #[test]
    fn the_sum_of_squares_and_its_gradient_by_hand() {
        let device = Device::flex().autodiff();
        let scores = [[0.5f32, -1.0, 2.0], [0.25, 0.0, 1.0]];
        let scores = Tensor::<2>::from_floats(scores, &device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([2, 0], &device);
        let loss = Objective::SumOfSquares.loss(scores.clone(), targets);
        let gradients = loss.backward();
        assert_eq!(loss.into_scalar::<f32>(), 0.953125);
        let gradient = scores.grad(&gradients).unwrap().into_data();
        let gradient: Vec<f32> = gradient.iter::<f32>().collect();
        // The errors over two images.
        assert_eq!(gradient, [0.25, -0.5, 0.5, -0.375, 0.0, 0.5]);
    }

    /// Scores (0.5, 0) of the first class: the error of the first is (-0.5, 0), of the second
    /// (0.5, -1), so that the losses are 0.125 and 0.625. A quarter of the second makes
    /// 0.75 0.125 + 0.25 0.625 = 0.25. The first class smoothed by a half is (0.75, 0.25): errors
    /// (-0.25, -0.25), loss 0.0625.
    #[test]
    fn mixed_and_smoothed_targets_by_hand() {
        let device = Device::flex();
        let class = |c: i32| Tensor::<1, Int>::from_ints([c], &device);
        let loss = |smoothing, mixed| {
            let classes = class(0);
            let targets = Targets {
                classes,
                smoothing,
                mixed,
            };
            let scores = Tensor::<2>::from_floats([[0.5f32, 0.0]], &device);
            let loss = Objective::SumOfSquares.loss(scores, targets);
            loss.into_scalar::<f32>()
        };
        assert_eq!(loss(0.0, None), 0.125);
        assert_eq!(loss(0.0, Some((class(1), 0.75))), 0.25);
        assert_eq!(loss(0.5, None), 0.0625);
    }

    /// Equal scores of four classes: every probability is 1/4, the loss log 4.
    #[test]
    fn the_default_is_cross_entropy() {
        let device = Device::flex();
        let scores = Tensor::<2>::zeros([1, 4], &device);
        let targets = Tensor::<1, Int>::from_ints([3], &device);
        let loss = Objective::default().loss(scores, targets);
        assert!((loss.into_scalar::<f32>() - 4f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn an_unknown_objective_is_answered_with_the_list() {
        assert_eq!(
            "hinge".parse::<Objective>().unwrap_err().to_string(),
            "unknown objective `hinge`, expected cross-entropy or sum-of-squares"
        );
    }
}
