//! What all spiking layers do with their tensors.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use lowbit_formats::Rounding;

use super::decay::Decay;
use super::state::NeuronState;
use crate::Error;
use crate::config::Description;
use crate::ops::{
    self, Grid, Leak, Neuron, NeuronParameters, Overflow, Quantization, spiking, spiking_with_state,
};
use crate::quantizers::{Channels, Quantizers, Slot, Taps, is_measuring, is_observing};

/// How a state goes on on a grid: what the slot `state` does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnGrid {
    pub(super) leak: Leak,
    pub(super) overflow: Overflow,
}

/// A layer of that name; `slots` are those of its parameters.
pub(super) fn describe(
    name: &'static str,
    slots: &[&'static str],
    recurrent: Option<usize>,
) -> Description {
    let mut description = Description::new(name);
    description.slots = vec![Slot::INPUT];
    if let Some(count) = recurrent {
        description.slots.push(Slot::WEIGHT);
        description.weight = Some(Channels { axis: 1, count });
    }
    description.slots.push(Slot::OUTPUT);
    description.slots.extend(slots);
    let all = [Slot::STATE, Slot::ERROR, Slot::GRADIENT];
    description.slots.extend(all);
    description
}

/// Whether a surrogate's and a limit's numbers are numbers.
pub(super) fn check_min(min_v: Option<f32>) -> Result<(), Error> {
    match min_v {
        Some(min) if !min.is_finite() => {
            let message = format!("is {min}, expected finite");
            Err(Error::config("min_v", message))
        }
        _ => Ok(()),
    }
}

/// Weights from all neurons to all, uniform within `1 / sqrt(neurons)`.
pub(super) fn recurrent_weight(
    neurons: Option<usize>,
    device: &Device,
) -> Option<Param<Tensor<2>>> {
    let neurons = neurons?;
    let linear = burn::nn::LinearConfig::new(neurons, neurons).with_bias(false);
    Some(linear.init(device).weight)
}

/// A layer's neurons on their way through time.
pub(super) struct Dynamics<'a> {
    pub(super) neuron: Neuron,
    pub(super) on_grid: OnGrid,
    /// A membrane without one keeps all.
    pub(super) mem: Option<&'a Decay>,
    pub(super) syn: Option<&'a Decay>,
    pub(super) adapt: Option<&'a Decay>,
    pub(super) threshold: Option<&'a Param<Tensor<1>>>,
    /// `[neurons, neurons]`, from the spikes of the step before.
    pub(super) weight: Option<&'a Param<Tensor<2>>>,
    pub(super) quantizers: &'a Quantizers,
}

impl Dynamics<'_> {
    /// `[batch, time, ...]` in and out.
    pub(super) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let dims = input.dims();
        let rows = input.reshape([(dims[0] * dims[1]) as i32, -1]);
        self.forward_folded::<2>(rows, dims[1]).reshape(dims)
    }

    /// `[batch * time, ...]` in and out.
    pub(super) fn forward_folded<const D: usize>(
        &self,
        input: Tensor<D>,
        time: usize,
    ) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let parameters = self.parameters(&input.device());
        let neuron = self.on_its_grid(&input.device());
        let output = if self.goes_step_by_step(&neuron) {
            self.step_by_step(input, neuron, parameters, time, None).0
        } else {
            spiking(input, neuron, parameters, time)
        };
        self.quantizers.output(output)
    }

    /// `[batch, time, ...]` in and out.
    pub(super) fn forward_with_state<const D: usize>(
        &self,
        input: Tensor<D>,
        state: Option<NeuronState>,
    ) -> (Tensor<D>, NeuronState) {
        let (dims, time) = (input.dims(), input.dims()[1]);
        let rows: Tensor<2> = input.reshape([(dims[0] * time) as i32, -1]);
        let input = self.quantizers.input(rows).quantized();
        let parameters = self.parameters(&input.device());
        let neuron = self.on_its_grid(&input.device());
        let state = state.map(|state| state.tensor);
        let (output, state) = if self.goes_step_by_step(&neuron) {
            self.step_by_step(input, neuron, parameters, time, state)
        } else {
            spiking_with_state(input, neuron, parameters, time, state)
        };
        let output = self.quantizers.output(output.reshape(dims));
        (output, NeuronState { tensor: state })
    }

    /// Decays and thresholds through their slots.
    fn parameters(&self, device: &Device) -> NeuronParameters {
        let one = || Tensor::<1>::ones([1], device);
        let alpha = |decay: &Decay| decay.alpha(self.quantizers);
        let threshold = self.threshold.map(|threshold| {
            let threshold = self.quantizers.parameter(Slot::THRESHOLD, threshold.val());
            threshold.quantized()
        });
        NeuronParameters {
            decay: self.mem.map_or_else(one, alpha),
            threshold: threshold.unwrap_or_else(one),
            synapse_decay: self.syn.map(alpha),
            adaptation_decay: self.adapt.map(alpha),
        }
    }

    /// The neuron on the grid that the slot `state` gives it, if it gives one: integers times one
    /// power of two, to the nearest, of which f32 holds the sum of two.
    fn on_its_grid(&self, device: &Device) -> Neuron {
        let grid = self.quantizers.get(Slot::STATE).and_then(|quantizer| {
            let told = quantizer.operand(Tensor::<1>::zeros([1], device));
            let nearest = match told.quantization()? {
                Quantization::Format { rounding, .. } => *rounding == Rounding::default(),
                Quantization::TrainedThreshold { .. } => true,
                _ => false,
            };
            let integers = quantizer.integers().filter(|_| nearest)?;
            let narrow = integers.max - integers.min < 1 << 24;
            let [log2_step] = integers.log2_steps[..] else {
                return None;
            };
            narrow.then(|| Grid {
                step: (log2_step as f32).exp2(),
                min: integers.min as f32,
                max: integers.max as f32,
                overflow: self.on_grid.overflow,
                leak: self.on_grid.leak,
            })
        });
        Neuron {
            grid,
            ..self.neuron
        }
    }

    /// Whether each step is a pass of its own: where spikes come back, where somebody looks at the
    /// state, and where this is rounded to what is no grid.
    fn goes_step_by_step(&self, neuron: &Neuron) -> bool {
        let rounded = self.quantizers.get(Slot::STATE).is_some() && neuron.grid.is_none();
        let counted = is_observing() || is_measuring();
        let seen = counted && self.quantizers.get(Slot::STATE).is_some();
        self.weight.is_some() || rounded || seen || Taps::are_attached()
    }

    /// The state goes through its slot after each step, which changes nothing on a grid.
    fn step_by_step<const D: usize>(
        &self,
        input: Tensor<D>,
        neuron: Neuron,
        parameters: NeuronParameters,
        time: usize,
        mut state: Option<Tensor<3>>,
    ) -> (Tensor<D>, Tensor<3>) {
        let dims = input.dims();
        let batch = dims[0] / time;
        let steps: Tensor<3> = input.reshape([batch as i32, time as i32, -1]);
        let weight = self.weight.map(|weight| {
            let weight = self.quantizers.weight(weight.val());
            weight.quantized()
        });
        let mut outputs: Vec<Tensor<2>> = Vec::with_capacity(time);
        for step in steps.iter_dim(1) {
            let mut current: Tensor<2> = step.squeeze_dim(1);
            if let (Some(weight), Some(spikes)) = (&weight, outputs.last()) {
                current = current + ops::linear(spikes.clone().into(), weight.clone().into(), None);
            }
            let (output, after) = spiking_with_state(current, neuron, parameters.clone(), 1, state);
            outputs.push(output);
            state = Some(self.quantizers.activation(Slot::STATE, after).quantized());
        }
        let output: Tensor<3> = Tensor::stack(outputs, 1);
        let state = state.expect("there is a step at least");
        (output.reshape(dims), state)
    }
}
