//! What neurons keep, and the time dimension.

use burn::tensor::Tensor;

/// What neurons keep from one step of time to the next. The caller keeps it, hands it on, or forgets it.
#[derive(Debug, Clone)]
pub struct NeuronState {
    /// `[states, batch, neurons]`: membrane, current and adaptation, as far as the neuron has them.
    pub tensor: Tensor<3>,
    /// The last spikes of neurons that read their own, `[batch, neurons]`; none before the first step.
    pub spikes: Option<Tensor<2>>,
}

impl NeuronState {
    /// The membrane potentials, `[batch, neurons]`.
    pub fn membrane(&self) -> Tensor<2> {
        self.tensor.clone().narrow(0, 0, 1).squeeze_dim(0)
    }

    /// The same, with no gradient to what came before.
    pub fn detach(self) -> Self {
        Self {
            tensor: self.tensor.detach(),
            spikes: self.spikes.map(Tensor::detach),
        }
    }
}

/// The steps of time as further samples, for layers that know no time.
///
/// # Shapes
/// - `x`: `[batch, time, ...]`, of `D` dimensions
/// - result: `[batch * time, ...]`, of `E = D - 1`
///
/// # Panics
/// If `E` is not one less than `D`.
pub fn fold_time<const D: usize, const E: usize>(x: Tensor<D>) -> Tensor<E> {
    assert_eq!(E + 1, D, "folded, there is one dimension less");
    let dims = x.dims();
    let folded: [usize; E] = std::array::from_fn(|d| match d {
        0 => dims[0] * dims[1],
        _ => dims[d + 1],
    });
    x.reshape(folded)
}

/// The way back from [`fold_time`].
///
/// # Shapes
/// - `x`: `[batch * time, ...]`, of `D` dimensions
/// - result: `[batch, time, ...]`, of `E = D + 1`
///
/// # Panics
/// If `E` is not one more than `D`, or `time` does not divide the first dimension.
pub fn unfold_time<const D: usize, const E: usize>(x: Tensor<D>, time: usize) -> Tensor<E> {
    assert_eq!(D + 1, E, "unfolded, there is one dimension more");
    let dims = x.dims();
    assert!(
        time > 0 && dims[0].is_multiple_of(time),
        "{} rows in {time} steps",
        dims[0]
    );
    let unfolded: [usize; E] = std::array::from_fn(|d| match d {
        0 => dims[0] / time,
        1 => time,
        _ => dims[d - 1],
    });
    x.reshape(unfolded)
}
