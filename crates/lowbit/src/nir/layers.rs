//! Layers as nodes.
//!
//! Parameters are written as their slots quantize them. A format of a layer's input, output or state,
//! for which NIR has no field, is kept in the metadata: `lowbit.state`, `fixed(16,12)`.

use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};

use super::formats::with_formats;
use super::graph::{Array, Node};
use crate::Error;
use crate::nn::{AvgPool2d, Conv2d, CubaLif, Dynamics, ExpLeak, Iaf, Lif, Linear, SumPool2d};
use crate::ops::{Gain, Reset};
use crate::quantizers::{Quantizers, Slot, Sums};

/// A tensor's numbers and shape.
fn array<const D: usize>(x: Tensor<D>) -> Array {
    let shape = x.dims().to_vec();
    let values = x.into_data().iter::<f32>().map(f64::from).collect();
    Array::float(shape, values)
}

fn pair([a, b]: [usize; 2]) -> Array {
    Array::integers(vec![a as i64, b as i64])
}

/// `Affine`, or `Linear` without bias.
///
/// # Errors
/// If something is quantized that neither fields nor metadata say.
impl TryFrom<&Linear> for Node {
    type Error = Error;

    fn try_from(layer: &Linear) -> Result<Self, Error> {
        let [inputs, _] = layer.weight.dims();
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        let sums = Sums::new(inputs, 1);
        let (weight, bias) = quantized(&layer.quantizers, layer.weight.val(), bias, sums);
        let node = match bias {
            Some(bias) => Self::new("Affine").with("bias", array(bias)),
            None => Self::new("Linear"),
        };
        let node = node.with("weight", array(weight.transpose()));
        with_formats(node, "Linear", &layer.quantizers)
    }
}

/// # Errors
/// If something is quantized that the metadata does not say.
impl TryFrom<&SumPool2d> for Node {
    type Error = Error;

    fn try_from(layer: &SumPool2d) -> Result<Self, Error> {
        let node = Self::new("SumPool2d")
            .with("kernel_size", pair(layer.kernel_size))
            .with("stride", pair(layer.stride))
            .with("padding", pair(layer.padding));
        with_formats(node, "SumPool2d", &layer.quantizers)
    }
}

/// # Errors
/// If its padding differs before and after or does not count in the mean, if a window that does not fit
/// counts, or something is quantized that the metadata does not say.
impl TryFrom<&AvgPool2d> for Node {
    type Error = Error;

    fn try_from(layer: &AvgPool2d) -> Result<Self, Error> {
        let refused = |message: &str| Err(Error::config("AvgPool2d", message));
        let padding = match layer.padding {
            PaddingConfig2d::Valid => [0, 0],
            PaddingConfig2d::Explicit(top, left, bottom, right)
                if top == bottom && left == right =>
            {
                [top, left]
            }
            _ => return refused("pads before otherwise than after, which no field says"),
        };
        if layer.ceil_mode {
            return refused("counts windows that do not fit, which no field says");
        }
        if padding != [0, 0] && !layer.count_include_pad {
            return refused("has a mean without its padding, which no field says");
        }
        let node = Self::new("AvgPool2d")
            .with("kernel_size", pair(layer.kernel_size))
            .with("stride", pair(layer.stride))
            .with("padding", pair(padding));
        with_formats(node, "AvgPool2d", &layer.quantizers)
    }
}

impl Node {
    /// A `Flatten` of all dimensions of an input of that shape, without batch and time.
    pub fn flatten(shape: &[usize]) -> Self {
        let shape = shape.iter().map(|&n| n as i64).collect();
        Self::new("Flatten")
            .with("start_dim", Array::integer(0))
            .with("end_dim", Array::integer(-1))
            .with("input_type", Array::integers(shape))
    }

    /// A `Delay` of each feature by its steps of `dt`.
    pub fn delay(steps: &[usize], dt: f64) -> Self {
        let delays = steps.iter().map(|&steps| steps as f64 * dt);
        Self::new("Delay").with("delay", Array::vector(delays.collect()))
    }

    /// A node with neurons of that shape, such as `[channels, height, width]` after a convolution. It
    /// is all one to a [`Network`](super::Network); Python's `nir` compares the shapes of neighbours.
    ///
    /// # Panics
    /// If it has another number of neurons.
    pub fn with_neurons(mut self, shape: &[usize]) -> Self {
        let count: usize = shape.iter().product();
        for (name, array) in &mut self.fields {
            let found: usize = array.shape.iter().product();
            assert_eq!(found, count, "neurons of {name} in the shape {shape:?}");
            array.shape = shape.to_vec();
        }
        self
    }

    /// A `Conv2d` whose input has that height and width.
    ///
    /// # Errors
    /// If its padding differs before and after, or something is quantized that neither fields nor
    /// metadata say.
    pub fn conv2d(layer: &Conv2d, size: [usize; 2]) -> Result<Self, Error> {
        let outputs = layer.weight.dims()[0];
        let parts = layer.parts();
        let padding = parts.options(size).padding;
        if let Some((before, after)) = padding.iter().find(|(before, after)| before != after) {
            let message = format!("pads {before} before and {after} after, which no field says");
            return Err(Error::config("Conv2d", message));
        }
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        let (weight, bias) = quantized(&layer.quantizers, layer.weight.val(), bias, parts.sums());
        let none = || Array::vector(vec![0.0; outputs]);
        let node = Self::new("Conv2d")
            .with("input_shape", pair(size))
            .with("weight", array(weight))
            .with("bias", bias.map_or_else(none, array))
            .with("stride", pair(layer.stride))
            .with("padding", pair(padding.map(|(before, _)| before)))
            .with("dilation", pair(layer.dilation))
            .with("groups", Array::integer(layer.groups as i64));
        with_formats(node, "Conv2d", &layer.quantizers)
    }

    /// An `IF` of so many neurons in steps of `dt`, of which Euler's `dt r` is 1. When they fire is the
    /// reader's convention, as with all neurons; of their resets, the node has the value.
    ///
    /// # Errors
    /// If there is a synapse, a recurrent weight or a least potential, a parameter has not so many
    /// neurons, or something is quantized that neither fields nor metadata say.
    pub fn iaf(layer: &Iaf, count: usize, dt: f64) -> Result<Self, Error> {
        let neurons = Neurons::new("Iaf", &layer.dynamics(), count, dt)?;
        neurons.without_synapse()?;
        let node = Self::new("IF").with("r", Array::vector(vec![1.0 / dt; count]));
        with_formats(neurons.firing(node)?, "Iaf", &layer.quantizers)
    }

    /// A `LIF` of so many neurons in steps of `dt`, whose time constants give their decays by Euler's
    /// forward step; its input is that of the layer.
    ///
    /// # Errors
    /// As of [`iaf`](Self::iaf), and if a decay is 1, which no time constant gives.
    pub fn lif(layer: &Lif, count: usize, dt: f64) -> Result<Self, Error> {
        let neurons = Neurons::new("Lif", &layer.dynamics(), count, dt)?;
        neurons.without_synapse()?;
        let node = neurons.leaky(Self::new("LIF"), "tau")?;
        with_formats(neurons.firing(node)?, "Lif", &layer.quantizers)
    }

    /// A `CubaLIF` in the same way.
    ///
    /// # Errors
    /// As of [`lif`](Self::lif), but for the synapse, which it has.
    pub fn cuba_lif(layer: &CubaLif, count: usize, dt: f64) -> Result<Self, Error> {
        let neurons = Neurons::new("CubaLif", &layer.dynamics(), count, dt)?;
        let syn = neurons.tau("syn", neurons.syn.as_ref())?;
        let gains = syn.iter().map(|tau| tau / dt).collect();
        let node = neurons
            .leaky(Self::new("CubaLIF"), "tau_mem")?
            .with("w_in", Array::vector(gains))
            .with("tau_syn", Array::vector(syn));
        with_formats(neurons.firing(node)?, "CubaLif", &layer.quantizers)
    }

    /// A `LI` in the same way, or a `CubaLI` where there is a synapse.
    ///
    /// # Errors
    /// As of [`lif`](Self::lif), but for a synapse, which may be there where no state is quantized: the
    /// layer rounds a current after it decays, a `CubaLI` before.
    pub fn exp_leak(layer: &ExpLeak, count: usize, dt: f64) -> Result<Self, Error> {
        let neurons = Neurons::new("ExpLeak", &layer.dynamics(), count, dt)?;
        let node = match &neurons.syn {
            None => neurons.leaky(Self::new("LI"), "tau")?,
            Some(_) if layer.quantizers.get(Slot::STATE).is_some() => {
                let message = "has a synapse whose state is quantized, which no field says";
                return Err(Error::config("ExpLeak", message));
            }
            Some(syn) => {
                // What decays at once, `s (i + x)`, takes `s` of the input.
                let syn = neurons.tau("syn", Some(syn))?;
                let gains = syn.iter().map(|tau| tau / dt - 1.0).collect();
                neurons
                    .leaky(Self::new("CubaLI"), "tau_mem")?
                    .with("w_in", Array::vector(gains))
                    .with("tau_syn", Array::vector(syn))
            }
        };
        with_formats(node, "ExpLeak", &layer.quantizers)
    }
}

/// Weight and bias as the layer's sum reads them.
fn quantized<const D: usize>(
    quantizers: &Quantizers,
    weight: Tensor<D>,
    bias: Option<Tensor<1>>,
    sums: Sums,
) -> (Tensor<D>, Option<Tensor<1>>) {
    let input = quantizers.input(Tensor::<1>::zeros([1], &weight.device()));
    let mut read = (weight.clone(), None);
    let weight = quantizers.weight(weight);
    quantizers.accumulate(input, weight, bias, sums, |_, weight, bias| {
        read = (weight.quantized(), bias.map(|bias| bias.quantized()));
        read.0.clone()
    });
    read
}

/// Neurons of a layer, with their numbers as their slots quantize them.
struct Neurons {
    layer: &'static str,
    count: usize,
    dt: f64,
    gain: Gain,
    mem: Tensor<1>,
    syn: Option<Tensor<1>>,
    threshold: Tensor<1>,
    reset: f64,
}

impl Neurons {
    fn new(
        layer: &'static str,
        dynamics: &Dynamics<'_>,
        count: usize,
        dt: f64,
    ) -> Result<Self, Error> {
        let refused = |message: String| Err(Error::config(layer, message));
        if !(dt > 0.0 && dt.is_finite()) {
            return refused(format!("dt is {dt}, expected finite and positive"));
        }
        if dynamics.weight.is_some() {
            return refused("reads its own spikes, which a node alone does not".into());
        }
        if let Some(min) = dynamics.neuron.min_potential {
            return refused(format!("has min_v {min}, which no field says"));
        }
        let on_grid = dynamics.quantizers.get(Slot::STATE).is_some();
        if on_grid && !dynamics.on_grid.is_usual() {
            return refused("has a leak or overflow of its own, which no field says".into());
        }
        let firing = dynamics.neuron.firing;
        let parameters = dynamics.parameters(&Device::flex());
        Ok(Self {
            layer,
            count,
            dt,
            gain: dynamics.neuron.gain,
            mem: parameters.decay,
            syn: parameters.synapse_decay,
            threshold: parameters.threshold,
            reset: match firing.map(|firing| firing.reset) {
                Some(Reset::To(value)) => f64::from(value),
                _ => 0.0,
            },
        })
    }

    fn without_synapse(&self) -> Result<(), Error> {
        match self.syn {
            Some(_) => Err(Error::config(
                self.layer,
                "has a synapse, which of all nodes a CubaLIF has",
            )),
            None => Ok(()),
        }
    }

    /// The node with thresholds and the value after a reset.
    fn firing(&self, node: Node) -> Result<Node, Error> {
        let threshold = self.each("threshold", &self.threshold)?;
        Ok(node
            .with("v_threshold", Array::vector(threshold))
            .with("v_reset", Array::vector(vec![self.reset; self.count])))
    }

    /// The node with the time constants of its membranes, and with what makes the Euler step's
    /// `r dt / tau` their gain.
    fn leaky(&self, node: Node, name: &str) -> Result<Node, Error> {
        let tau = self.tau("mem", Some(&self.mem))?;
        let resistance = |tau: &f64| match self.gain {
            Gain::One => tau / self.dt,
            Gain::Rest => 1.0,
            Gain::Decay => tau / self.dt - 1.0,
        };
        Ok(node
            .with("r", Array::vector(tau.iter().map(resistance).collect()))
            .with(name, Array::vector(tau))
            .with("v_leak", Array::vector(vec![0.0; self.count])))
    }

    /// The time constants whose Euler steps have these decays: `dt / (1 - alpha)`.
    fn tau(&self, name: &str, alpha: Option<&Tensor<1>>) -> Result<Vec<f64>, Error> {
        let alpha = alpha.expect("a leaky neuron decays");
        let alpha = self.each(name, alpha)?;
        if alpha.contains(&1.0) {
            let message = format!("the decay of {name} is 1, which no time constant gives");
            return Err(Error::config(self.layer, message));
        }
        Ok(alpha.iter().map(|alpha| self.dt / (1.0 - alpha)).collect())
    }

    /// A number for each neuron; one is that of all.
    fn each(&self, name: &str, x: &Tensor<1>) -> Result<Vec<f64>, Error> {
        let values = array(x.clone()).numbers();
        match values.len() {
            1 => Ok(vec![values[0]; self.count]),
            length if length == self.count => Ok(values),
            length => {
                let message = format!("{name} has {length} numbers for {} neurons", self.count);
                Err(Error::config(self.layer, message))
            }
        }
    }
}
