//! Running statistics for weights that were never trained as they are.

use std::cell::Cell;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::quantizers::ModulePath;

thread_local! {
    /// The weight of a batch in running statistics, in place of each layer's own.
    static WEIGHT: Cell<Option<f64>> = const { Cell::new(None) };
}

/// The weight of the batch that this thread is at, where statistics are being estimated.
pub(super) fn batch_weight() -> Option<f64> {
    WEIGHT.get()
}

/// What the weight was before; put back when this is dropped.
struct Outer(Option<f64>);

impl Drop for Outer {
    fn drop(&mut self) {
        WEIGHT.set(self.0);
    }
}

/// Estimates the running statistics of every live batch normalization in `model` afresh, as is to
/// be done for weights that are the mean of others (Izmailov et al., arXiv 1803.05407, section
/// 3.2). `forward` is called for each batch, with its number and the examples in it, and runs the
/// network on an autodiff device; on another, and where statistics are frozen, nothing changes.
///
/// Afterwards each running mean is `sum_i b_i mean_i / sum_i b_i` over the batches' means, and each
/// running variance the same of their (biased) variances, where batch `i` has `b_i` examples.
///
/// # Panics
/// If a batch has no examples.
///
/// # Example
/// ```
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{BatchNormConfig, estimate_statistics};
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(1).init(&device);
/// let batches = [vec![1.0f32, 3.0, 2.0], vec![6.0]];
/// estimate_statistics(&norm, &[3, 1], |norm, i| {
///     let rows = Tensor::<1>::from_floats(&batches[i][..], &device);
///     norm.forward(rows.unsqueeze_dim::<2>(1));
/// });
/// // (3 * 2 + 1 * 6) / 4.
/// assert_eq!(norm.valid().running_mean.value().into_scalar::<f32>(), 3.0);
/// ```
pub fn estimate_statistics<M>(model: &M, examples: &[usize], mut forward: impl FnMut(&M, usize)) {
    let _outer = Outer(WEIGHT.get());
    let mut seen = 0;
    for (i, &count) in examples.iter().enumerate() {
        assert!(count > 0, "batch {i} has no examples");
        seen += count;
        WEIGHT.set(Some(count as f64 / seen as f64));
        forward(model, i);
    }
}

/// Whether a network has batch normalizations.
pub(crate) fn has_statistics<M: Module>(model: &M) -> bool {
    #[derive(Default)]
    struct Find {
        path: ModulePath,
        found: bool,
    }

    impl ModuleVisitor for Find {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
            let place = (self.path.holder_type(), self.path.field());
            self.found |= place == ("BatchNorm", "running_mean");
        }
    }

    let mut find = Find::default();
    model.visit(&mut find);
    find.found
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::nn::BatchNormConfig;

    /// Means 2 and 6, variances 1 and 4, of two rows and of four: (2 * 2 + 4 * 6) / 6 = 14 / 3 and
    /// (2 * 1 + 4 * 4) / 6 = 3; what was there before is forgotten.
    #[test]
    fn two_batches_by_hand() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device);
        let rows = |rows: &[f32]| Tensor::<1>::from_floats(rows, &device).unsqueeze_dim::<2>(1);
        norm.forward(rows(&[-100.0, 100.0]));
        let batches: [&[f32]; 2] = [&[1.0, 3.0], &[4.0, 8.0, 4.0, 8.0]];
        estimate_statistics(&norm, &[2, 4], |norm, i| {
            norm.forward(rows(batches[i]));
        });
        let found = norm.valid();
        let read = |t: Tensor<1>| t.into_scalar::<f32>();
        assert!((read(found.running_mean.value()) - 14.0 / 3.0).abs() < 1e-6);
        assert!((read(found.running_var.value()) - 3.0).abs() < 1e-6);
        // Afterwards a batch has the layer's own weight again: 0.9 * 14 / 3 + 0.1 * 7.
        norm.forward(rows(&[7.0, 7.0]));
        assert!((read(norm.valid().running_mean.value()) - 4.9).abs() < 1e-6);
    }
}
