//! Layers as nodes.

use burn::tensor::Tensor;

use super::graph::{Array, Node};
use crate::nn::{Conv2d, CubaLif, Decay, ExpLeak, Iaf, Lif, Linear, SumPool2d};
use crate::ops::{Gain, Neuron};

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
impl From<&Linear> for Node {
    fn from(layer: &Linear) -> Self {
        let weight = array(layer.weight.val().transpose());
        match &layer.bias {
            Some(bias) => Self::new("Affine").with("bias", array(bias.val())),
            None => Self::new("Linear"),
        }
        .with("weight", weight)
    }
}

impl From<&SumPool2d> for Node {
    fn from(layer: &SumPool2d) -> Self {
        Self::new("SumPool2d")
            .with("kernel_size", pair(layer.kernel_size))
            .with("stride", pair(layer.stride))
            .with("padding", pair([0, 0]))
    }
}

impl Node {
    /// A `Conv2d` whose input has that height and width.
    pub fn conv2d(layer: &Conv2d, size: [usize; 2]) -> Self {
        let outputs = layer.weight.dims()[0];
        let bias = match &layer.bias {
            Some(bias) => array(bias.val()),
            None => Array::vector(vec![0.0; outputs]),
        };
        let options = layer.parts().options(size);
        Self::new("Conv2d")
            .with("input_shape", pair(size))
            .with("weight", array(layer.weight.val()))
            .with("bias", bias)
            .with("stride", pair(layer.stride))
            .with("padding", pair(options.padding.map(|(before, _)| before)))
            .with("dilation", pair(layer.dilation))
            .with("groups", Array::integer(layer.groups as i64))
    }

    /// An `IF` of so many neurons.
    pub fn iaf(layer: &Iaf, count: usize) -> Self {
        Self::new("IF")
            .with("r", Array::vector(vec![1.0; count]))
            .with("v_threshold", each(layer.threshold.val(), count))
            .with("v_reset", Array::vector(vec![0.0; count]))
    }

    /// A `LIF` of so many neurons in steps of `dt`, whose time constants give their decays by Euler's
    /// forward step; its input is that of the layer. A synapse is not written.
    pub fn lif(layer: &Lif, count: usize, dt: f64) -> Self {
        let tau = euler_tau(&layer.mem, count, dt);
        Self::new("LIF")
            .with("r", resistance(&layer.neuron, &tau, dt))
            .with("tau", Array::vector(tau))
            .with("v_leak", Array::vector(vec![0.0; count]))
            .with("v_threshold", each(layer.threshold.val(), count))
            .with("v_reset", Array::vector(vec![0.0; count]))
    }

    /// A `CubaLIF` in the same way.
    pub fn cuba_lif(layer: &CubaLif, count: usize, dt: f64) -> Self {
        let (mem, syn) = (
            euler_tau(&layer.mem, count, dt),
            euler_tau(&layer.syn, count, dt),
        );
        Self::new("CubaLIF")
            .with("r", resistance(&layer.neuron, &mem, dt))
            .with(
                "w_in",
                Array::vector(syn.iter().map(|tau| tau / dt).collect()),
            )
            .with("tau_mem", Array::vector(mem))
            .with("tau_syn", Array::vector(syn))
            .with("v_leak", Array::vector(vec![0.0; count]))
            .with("v_threshold", each(layer.threshold.val(), count))
            .with("v_reset", Array::vector(vec![0.0; count]))
    }

    /// A `LI` in the same way.
    pub fn exp_leak(layer: &ExpLeak, count: usize, dt: f64) -> Self {
        let tau = euler_tau(&layer.mem, count, dt);
        Self::new("LI")
            .with("r", resistance(&layer.neuron, &tau, dt))
            .with("tau", Array::vector(tau))
            .with("v_leak", Array::vector(vec![0.0; count]))
    }
}

/// What makes the Euler step's `r dt / tau` the gain of a membrane.
fn resistance(neuron: &Neuron, tau: &[f64], dt: f64) -> Array {
    let of_tau = |tau: &f64| match neuron.gain {
        Gain::One => tau / dt,
        Gain::Rest => 1.0,
        Gain::Decay => tau / dt - 1.0,
    };
    Array::vector(tau.iter().map(of_tau).collect())
}

fn each(x: Tensor<1>, count: usize) -> Array {
    let values = array(x).numbers();
    Array::vector(values.iter().copied().cycle().take(count).collect())
}

/// The time constants whose Euler steps have the decays of a layer: `dt / (1 - alpha)`.
fn euler_tau(decay: &Decay, count: usize, dt: f64) -> Vec<f64> {
    let alpha = decay.value();
    let values = array(alpha).numbers();
    let tau = values.iter().map(|alpha| dt / (1.0 - alpha));
    tau.cycle().take(count).collect()
}
