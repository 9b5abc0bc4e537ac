//! Spiking neurons over time.

mod neurons;
mod repeated;
#[cfg(test)]
mod tests;

use burn::tensor::Tensor;

pub use lowbit_kernels::spiking::{
    Adaptation, Firing, Gain, Grid, Leak, LeakRounding, Neuron, Overflow, Reset, Surrogate,
};

use crate::ops::backend::operator;
use neurons::Neurons;
pub(crate) use repeated::repeated;

/// Decays and thresholds of neurons: each `[1]`, shared, or one per neuron of a sample, `[neurons]`.
#[derive(Debug, Clone)]
pub struct NeuronParameters {
    /// Of the membrane.
    pub decay: Tensor<1>,
    /// At which a neuron fires; positive. Not read where none does.
    pub threshold: Tensor<1>,
    /// Of the synapse; read where there is one.
    pub synapse_decay: Option<Tensor<1>>,
    /// Of the adaptation; read where there is one.
    pub adaptation_decay: Option<Tensor<1>>,
}

/// Spikes over time, or potentials of a neuron that does not fire. What a step does, and its gradients
/// with a [`Surrogate`] for the derivative of a spike, is in [`lowbit_kernels::spiking`].
///
/// Every neuron starts from zero. The rounding of a [`Grid`] passes gradients straight through.
///
/// # Shapes
/// - `input` and the result: `[batch * time, ...]`, the steps of a sample one after the other
///
/// # Panics
/// If `time` does not divide the first dimension, or a parameter has another length.
pub fn spiking<const D: usize>(
    input: Tensor<D>,
    neuron: Neuron,
    parameters: NeuronParameters,
    time: usize,
) -> Tensor<D> {
    let neurons = Neurons::new(neuron, time, false, false);
    let tensors = neurons.tensors(input, parameters, None);
    operator::run(neurons, tensors)
}

/// The same from a state to a state, through which gradients go, too.
///
/// # Shapes
/// - `input` and the first result: `[batch * time, ...]`
/// - `state` and the second: `[states, batch, neurons]`: membrane, current and adaptation, as far as
///   the neuron has them; zero where not given
///
/// # Panics
/// As [`spiking`], and if the state has another shape.
pub fn spiking_with_state<const D: usize>(
    input: Tensor<D>,
    neuron: Neuron,
    parameters: NeuronParameters,
    time: usize,
    state: Option<Tensor<3>>,
) -> (Tensor<D>, Tensor<3>) {
    let dims = input.dims();
    let numbers: usize = dims.iter().product();
    let batch = dims[0] / time.max(1);
    let states = neuron.states();
    let neurons = Neurons::new(neuron, time, state.is_some(), true);
    let tensors = neurons.tensors(input, parameters, state);
    let both: Tensor<1> = operator::run(neurons, tensors);
    let [all] = both.dims();
    let output = both.clone().narrow(0, 0, numbers).reshape(dims);
    let row = (all - numbers) / (states * batch).max(1);
    let state = both
        .narrow(0, numbers, all - numbers)
        .reshape([states, batch, row]);
    (output, state)
}
