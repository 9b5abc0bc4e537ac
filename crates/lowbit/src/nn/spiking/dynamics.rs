//! What all spiking layers do with their tensors.

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use super::decay::{Decay, DecayConfig};
use super::state::NeuronState;
use super::threshold::FiringThresholdConfig;
use crate::Error;
use crate::config::Description;
use crate::ops::{
    self, Firing, Grid, Leak, LeakRounding, Neuron, NeuronParameters, Overflow, Reset, Surrogate,
    spiking, spiking_with_state,
};
use crate::quantizers::{
    Channels, Quantizer, Quantizers, SharedScale, Slot, Taps, is_measuring, is_observing,
};

/// How a state goes on on a grid: what the slot `state` does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnGrid {
    leak: Leak,
    overflow: Overflow,
}

impl OnGrid {
    pub(super) fn new(leak: Leak, overflow: Overflow) -> Self {
        Self { leak, overflow }
    }

    /// Whether it is that of a layer that was not told.
    pub(crate) fn is_usual(self) -> bool {
        let leak = Leak::Product(LeakRounding::Nearest);
        (self.leak, self.overflow) == (leak, Overflow::Saturate)
    }
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
    let shares = |slot: &&str| [Slot::WEIGHT, Slot::THRESHOLD].contains(slot);
    let shared = description.slots.iter().copied().filter(shares).collect();
    description.shares = shared;
    let all = [Slot::STATE, Slot::ERROR, Slot::GRADIENT];
    description.slots.extend(all);
    description
}

/// The fields of a configuration of neurons, as far as it has them.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) mem: Option<&'a DecayConfig>,
    pub(super) syn: Option<&'a DecayConfig>,
    pub(super) adapt: Option<&'a DecayConfig>,
    pub(super) threshold: Option<&'a FiringThresholdConfig>,
    pub(super) firing: Option<&'a Firing>,
    pub(super) recurrent: Option<usize>,
    pub(super) min_v: Option<f32>,
}

impl Fields<'_> {
    /// Whether every field is in its range.
    pub(super) fn check(&self) -> Result<(), Error> {
        let decays = [("mem", self.mem), ("syn", self.syn), ("adapt", self.adapt)];
        for (name, decay) in decays {
            decay.map_or(Ok(()), |decay| decay.check(name))?;
        }
        self.threshold.map_or(Ok(()), |at| at.check())?;
        if self.recurrent == Some(0) {
            return Err(Error::config(
                "recurrent",
                "is 0, expected 1 neuron at least",
            ));
        }
        if let Some(firing) = self.firing {
            let checked = check_firing(firing, self.adapt.is_some());
            checked.map_err(|message| Error::config("firing", message))?;
        }
        match self.min_v {
            Some(min) if !min.is_finite() => {
                let message = format!("is {min}, expected finite");
                Err(Error::config("min_v", message))
            }
            _ => Ok(()),
        }
    }
}

/// Whether neurons can fire so; the thresholds of some move.
fn check_firing(firing: &Firing, moves: bool) -> Result<(), String> {
    if firing.reset_next && moves {
        return Err("reset_next is not for a threshold that moves".into());
    }
    if firing.most_spikes == 0 {
        return Err("most_spikes is 0, expected 1 at least".into());
    }
    if let Reset::To(value) = firing.reset
        && !value.is_finite()
    {
        return Err(format!("resets to {value}, expected finite"));
    }
    check_surrogate(firing.surrogate)
}

/// Whether widths, deviations and slopes are positive, and all numbers finite.
fn check_surrogate(surrogate: Surrogate) -> Result<(), String> {
    let (positive, finite) = match surrogate {
        Surrogate::SingleExponential { width, scale }
        | Surrogate::Box { width, scale }
        | Surrogate::PeriodicExponential { width, scale } => {
            (vec![("width", width)], vec![("scale", scale)])
        }
        Surrogate::Gaussian { deviation, scale } => {
            (vec![("deviation", deviation)], vec![("scale", scale)])
        }
        Surrogate::MultiGaussian {
            deviation,
            h,
            s,
            scale,
        } => (
            vec![("deviation", deviation), ("s", s)],
            vec![("h", h), ("scale", scale)],
        ),
        Surrogate::FastSigmoid { slope, scale } => (vec![("slope", slope)], vec![("scale", scale)]),
    };
    for (name, value) in positive {
        if !(value > 0.0 && value.is_finite()) {
            return Err(format!("{name} is {value}, expected finite and positive"));
        }
    }
    for (name, value) in finite {
        if !value.is_finite() {
            return Err(format!("{name} is {value}, expected finite"));
        }
    }
    Ok(())
}

/// The ways through a layer of neurons, whose `dynamics` say what these do. `$made` is what it hands on.
macro_rules! through_time {
    ($Layer:ident, $made:literal) => {
        impl $Layer {
            /// Applies the layer, from a state of zero.
            ///
            /// # Shapes
            #[doc = concat!("`input` and result, the ", $made, ": `[batch, time, ...]`")]
            pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
                self.dynamics().forward(input)
            }

            /// The same for sequences of `time` steps, one after the other.
            ///
            /// # Shapes
            /// `input` and result: `[batch * time, ...]`
            pub fn forward_folded<const D: usize>(
                &self,
                input: Tensor<D>,
                time: usize,
            ) -> Tensor<D> {
                self.dynamics().forward_folded(input, time)
            }

            /// Applies the layer from a state, zero if not given; returns the state after the last step,
            /// too.
            ///
            /// # Shapes
            /// `input` and result: `[batch, time, ...]`
            pub fn forward_with_state<const D: usize>(
                &self,
                input: Tensor<D>,
                state: Option<NeuronState>,
            ) -> (Tensor<D>, NeuronState) {
                self.dynamics().forward_with_state(input, state)
            }
        }
    };
}
pub(super) use through_time;

/// What the neurons of a layer, whose `dynamics` say what these do, have in common with the layer before.
macro_rules! share_scale {
    ($Layer:ident) => {
        impl $Layer {
            /// Gives weight and bias of the layer that these neurons read, their threshold and their
            /// recurrent weight one scale, until what is returned is dropped, so that the ratio of sums
            /// and threshold survives: the largest that one of them would have alone. Each takes part
            /// whose slot is in its layer's `share`; of the neurons, the threshold must.
            pub fn share_scale<const D: usize>(
                &self,
                before: &Quantizers,
                weight: &Tensor<D>,
                bias: Option<&Tensor<1>>,
            ) -> Option<[SharedScale; 2]> {
                self.dynamics().share_scale(before, weight, bias)
            }
        }
    };
}
pub(super) use share_scale;

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
pub(crate) struct Dynamics<'a> {
    pub(crate) neuron: Neuron,
    pub(crate) on_grid: OnGrid,
    /// A membrane without one keeps all.
    pub(super) mem: Option<&'a Decay>,
    pub(super) syn: Option<&'a Decay>,
    pub(super) adapt: Option<&'a Decay>,
    pub(super) threshold: Option<&'a Param<Tensor<1>>>,
    /// `[neurons, neurons]`, from the spikes of the step before.
    pub(crate) weight: Option<&'a Param<Tensor<2>>>,
    pub(crate) quantizers: &'a Quantizers,
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
        let _shared = self.shared();
        let parameters = self.parameters(&input.device());
        let neuron = self.on_its_grid();
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
        let _shared = self.shared();
        let parameters = self.parameters(&input.device());
        let neuron = self.on_its_grid();
        let (output, state) = if self.goes_step_by_step(&neuron) {
            self.step_by_step(input, neuron, parameters, time, state)
        } else {
            let start = state.map(|state| state.tensor);
            let (output, tensor) = spiking_with_state(input, neuron, parameters, time, start);
            let spikes = None;
            (output, NeuronState { tensor, spikes })
        };
        (self.quantizers.output(output.reshape(dims)), state)
    }

    pub(super) fn share_scale<const D: usize>(
        &self,
        before: &Quantizers,
        weight: &Tensor<D>,
        bias: Option<&Tensor<1>>,
    ) -> Option<[SharedScale; 2]> {
        let [threshold, recurrent] = self.own_scales();
        let of_bias = bias.and_then(|bias| before.own_scale(Slot::BIAS, bias));
        let of_weight = before.own_scale(Slot::WEIGHT, weight);
        let scales = [Some(threshold?), recurrent, of_weight, of_bias];
        let both = [before.share(scales)?, self.quantizers.share(scales)?];
        Some(both)
    }

    /// The scales that threshold and recurrent weight would have alone.
    fn own_scales(&self) -> [Option<f32>; 2] {
        let own = |slot, x: Tensor<1>| self.quantizers.own_scale(slot, &x);
        let threshold = self.threshold.map(|threshold| threshold.val());
        let weight = self.weight.map(|weight| weight.val().flatten(0, 1));
        [
            threshold.and_then(|threshold| own(Slot::THRESHOLD, threshold)),
            weight.and_then(|weight| own(Slot::WEIGHT, weight)),
        ]
    }

    /// Gives both one scale, where they share one that is not known yet.
    fn shared(&self) -> Option<SharedScale> {
        let awaits = self.quantizers.awaits_scale(Slot::THRESHOLD);
        awaits
            .then(|| self.quantizers.share(self.own_scales()))
            .flatten()
    }

    /// Decays and thresholds through their slots.
    pub(crate) fn parameters(&self, device: &Device) -> NeuronParameters {
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

    /// The neuron on the grid that the slot `state` gives it, if it gives one: the integers of a fixed
    /// format times one power of two, to the nearest, of which f32 holds the sum of two. One whose step is
    /// learned is none, since its gradient is that of a rounding after each step.
    fn on_its_grid(&self) -> Neuron {
        let grid = self.quantizers.get(Slot::STATE).and_then(|quantizer| {
            let Quantizer::Format(quantizer) = quantizer else {
                return None;
            };
            let integers = quantizer.nearest_integers()?;
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
        state: Option<NeuronState>,
    ) -> (Tensor<D>, NeuronState) {
        let dims = input.dims();
        let batch = dims[0] / time;
        let steps: Tensor<3> = input.reshape([batch as i32, time as i32, -1]);
        let weight = self.weight.map(|weight| {
            let weight = self.quantizers.weight(weight.val());
            weight.quantized()
        });
        let (mut state, mut spikes) = match state {
            Some(state) => (Some(state.tensor), state.spikes),
            None => (None, None),
        };
        let mut outputs: Vec<Tensor<2>> = Vec::with_capacity(time);
        for step in steps.iter_dim(1) {
            let mut current: Tensor<2> = step.squeeze_dim(1);
            if let (Some(weight), Some(spikes)) = (&weight, spikes.take()) {
                current = current + ops::linear(spikes.into(), weight.clone().into(), None);
            }
            let (output, after) = spiking_with_state(current, neuron, parameters.clone(), 1, state);
            spikes = Some(output.clone());
            outputs.push(output);
            state = Some(self.quantizers.activation(Slot::STATE, after).quantized());
        }
        let output: Tensor<3> = Tensor::stack(outputs, 1);
        let state = NeuronState {
            tensor: state.expect("there is a step at least"),
            spikes: spikes.filter(|_| weight.is_some()),
        };
        (output.reshape(dims), state)
    }
}
