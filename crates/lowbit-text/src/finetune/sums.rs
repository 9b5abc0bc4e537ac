//! What batches come to.

use burn::tensor::{Int, Tensor};
use lowbit::train::checkpoint::Sums;

/// Windows in a batch of a test.
pub(super) const TEST_BATCH: usize = 8;

/// The sums of a batch with that mean loss.
pub(super) fn counted(loss: Tensor<1>, right: Tensor<1, Int>, count: usize) -> Sums {
    Sums {
        loss: loss.into_scalar::<f64>() * count as f64,
        correct: right.sum().into_scalar::<i64>() as u64,
        correct_top5: None,
        images: count as u64,
    }
}

/// Adds to the sums so far.
pub(super) fn add(sums: &mut Sums, more: &Sums) {
    sums.loss += more.loss;
    sums.correct += more.correct;
    sums.images += more.images;
}

/// For each row whether its highest score is the target's.
pub(super) fn right(scores: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1, Int> {
    let found: Tensor<1, Int> = scores.argmax(1).flatten(0, 1);
    found.equal(targets).int()
}
