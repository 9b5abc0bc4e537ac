//! The operator: kernels on Flex, which other backends' tensors visit on the host.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchTensor, TensorMetadata, read_sync};
use burn::tensor::{Shape, Tensor, TensorData};
use lowbit_kernels::spiking::{Extent, Gradients as Made, Neuron, Parameters, Pass};

use super::NeuronParameters;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{Gradients, Incoming, Inputs, Kernels, Operator};
use crate::ops::backend::profile::timed;

/// Input, decay, threshold, the decays of synapse and adaptation, and the first state.
const PARENTS: usize = 6;

/// The operator behind [`spiking()`](super::spiking()), of the input and those of the other parents
/// that there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neurons {
    neuron: Neuron,
    time: usize,
    /// Whether a first state comes with the tensors.
    starts: bool,
    /// Whether the result is one row of numbers, with the last state behind the output.
    ends: bool,
}

impl Neurons {
    pub(super) fn new(neuron: Neuron, time: usize, starts: bool, ends: bool) -> Self {
        Self {
            neuron,
            time,
            starts,
            ends,
        }
    }

    /// Which of the parents go in.
    fn present(&self) -> [bool; PARENTS] {
        [
            true,
            true,
            self.neuron.firing.is_some(),
            self.neuron.synapse.is_some(),
            self.neuron.adaptation.is_some(),
            self.starts,
        ]
    }

    /// The tensors that go in.
    pub(super) fn tensors<const D: usize>(
        &self,
        input: Tensor<D>,
        p: NeuronParameters,
        state: Option<Tensor<3>>,
    ) -> Vec<DispatchTensor> {
        let dims = input.dims();
        let divides = self.time > 0 && dims[0].is_multiple_of(self.time);
        assert!(
            divides,
            "{} rows are no sequences of {} steps",
            dims[0], self.time
        );
        if let Some(state) = &state {
            let neurons: usize = dims[1..].iter().product();
            let expected = [self.neuron.states(), dims[0] / self.time, neurons];
            assert_eq!(state.dims(), expected, "the shape of a state");
        }
        let parents = [
            Some(input.into_dispatch()),
            Some(p.decay.into_dispatch()),
            Some(p.threshold.into_dispatch()),
            p.synapse_decay.map(Tensor::into_dispatch),
            p.adaptation_decay.map(Tensor::into_dispatch),
            state.map(Tensor::into_dispatch),
        ];
        let present = parents.into_iter().zip(self.present());
        let present = present.filter(|(_, present)| *present);
        present
            .map(|(tensor, _)| tensor.expect("a neuron's parameters are given"))
            .collect()
    }

    /// What goes in, each at its place.
    fn places<T>(&self, tensors: Vec<T>) -> [Option<T>; PARENTS] {
        let mut tensors = tensors.into_iter();
        self.present()
            .map(|present| present.then(|| tensors.next().expect("as many as go in")))
    }

    /// The gradients of those that went in, in their order.
    fn in_order<T>(&self, gradients: [Option<T>; PARENTS]) -> [Option<T>; PARENTS] {
        let present = gradients.into_iter().zip(self.present());
        let mut present = present.filter(|(_, present)| *present).map(|(g, _)| g);
        std::array::from_fn(|_| present.next().flatten())
    }

    fn extent(&self, shape: &Shape) -> Extent {
        let dims = shape.as_slice();
        Extent {
            batch: dims[0] / self.time,
            time: self.time,
            neurons: dims[1..].iter().product(),
        }
    }

    fn states(&self, extent: Extent) -> usize {
        self.neuron.states() * extent.batch * extent.neurons
    }
}

/// The parameters and the first state as plain numbers.
struct Numbers {
    /// Decay, threshold, synapse's and adaptation's decay; empty for those that are not there.
    parameters: [Vec<f32>; 4],
    start: Option<Vec<f32>>,
}

impl Numbers {
    fn new(parents: [Option<Vec<f32>>; PARENTS - 1]) -> Self {
        let [parameters @ .., start] = parents;
        Self {
            parameters: parameters.map(Option::unwrap_or_default),
            start,
        }
    }

    fn pass<'a>(&'a self, neurons: &'a Neurons, extent: Extent, x: &'a [f32]) -> Pass<'a> {
        let [decay, threshold, synapse_decay, adaptation_decay] = &self.parameters;
        Pass {
            neuron: &neurons.neuron,
            parameters: Parameters {
                decay,
                threshold,
                synapse_decay,
                adaptation_decay,
            },
            extent,
            x,
            start: self.start.as_deref(),
        }
    }

    /// Whether every neuron is like every other, so that their order does not matter.
    fn is_shared(&self) -> bool {
        self.start.is_none() && self.parameters.iter().all(|values| values.len() <= 1)
    }
}

/// Runs forward into `y`, behind which the last state goes where that is wanted.
fn forward(neurons: &Neurons, pass: Pass<'_>, y: &mut [f32]) {
    let (y, end) = y.split_at_mut(pass.extent.numbers());
    timed("spiking", || pass.forward(y, neurons.ends.then_some(end)));
}

/// Runs backward from the gradient of what [`forward`] makes.
fn backward(pass: Pass<'_>, grad: &[f32], dx: &mut [f32]) -> Made {
    let (dy, dend) = grad.split_at(pass.extent.numbers());
    let dend = (!dend.is_empty()).then_some(dend);
    timed("spiking backward", || pass.backward(dy, dend, dx))
}

impl Operator<PARENTS> for Neurons {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x, others @ ..] = self.places(inputs.tensors);
        let x = x.expect("an input");
        let (device, dtype, shape) = (x.device(), x.dtype(), x.shape());
        let extent = self.extent(&shape);
        let numbers = Numbers::new(others.map(|other| other.map(read::<B>)));
        let x = read::<B>(x);
        let states = if self.ends { self.states(extent) } else { 0 };
        let mut y = vec![0.0; x.len() + states];
        forward(self, numbers.pass(self, extent, &x), &mut y);
        let shape = if self.ends {
            Shape::new([y.len()])
        } else {
            shape
        };
        let data = TensorData::new(y, shape).convert_dtype(dtype);
        vec![B::float_from_data(data, &device)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let places = self.places(incoming.inputs);
        let like = places
            .each_ref()
            .map(|x| x.as_ref().map(|x| (x.device(), x.dtype(), x.shape())));
        let [x, others @ ..] = places;
        let x = x.expect("an input");
        let extent = self.extent(&x.shape());
        let numbers = Numbers::new(others.map(|other| other.map(read::<B>)));
        let (x, grad) = (read::<B>(x), read::<B>(incoming.grad));
        let mut dx = vec![0.0; x.len()];
        let made = backward(numbers.pass(self, extent, &x), &grad, &mut dx);
        let mut like = like.into_iter();
        let made = in_places(dx, made).map(|gradient| {
            let (device, dtype, shape) = like.next().flatten()?;
            let data = TensorData::new(gradient, shape).convert_dtype(dtype);
            Some(B::float_from_data(data, &device))
        });
        self.in_order(made)
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x, others @ ..] = self.places(inputs.tensors);
        let numbers = Numbers::new(others.map(|other| other.map(|other| flex::to_vec(&other))));
        let x = x.expect("an input");
        let dtype = x.dtype();
        let x = self.ordered(flex::to_f32(x), &numbers);
        let extent = self.extent(x.layout().shape());
        let states = if self.ends { self.states(extent) } else { 0 };
        let mut y = Buffer::new(extent.numbers() + states);
        forward(self, numbers.pass(self, extent, x.storage()), &mut y);
        let layout = if self.ends {
            Layout::contiguous(Shape::new([y.len()]))
        } else {
            x.layout().clone()
        };
        vec![flex::to_dtype(flex::from_buffer(y, layout), dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        let places = self.places(incoming.inputs);
        let shapes = places
            .each_ref()
            .map(|x| x.as_ref().map(|x| (x.dtype(), x.layout().shape().clone())));
        let [x, others @ ..] = places;
        let numbers = Numbers::new(others.map(|other| other.map(|other| flex::to_vec(&other))));
        let x = self.ordered(flex::to_f32(x.expect("an input")), &numbers);
        let extent = self.extent(x.layout().shape());
        let grad = flex::to_f32(incoming.grad);
        let (x, grad) = match self.ends {
            true => (x, flex::contiguous(grad)),
            false => self.same_order(x, grad, &numbers),
        };
        let mut dx = Buffer::new(extent.numbers());
        let pass = numbers.pass(self, extent, x.storage());
        let made = backward(pass, grad.storage(), &mut dx);
        let dx = flex::from_buffer(dx, x.layout().clone());
        let mut rest = in_places(Vec::new(), made).into_iter().zip(shapes).skip(1);
        let gradients = std::array::from_fn(|place| {
            if place == 0 {
                return Some(flex::to_dtype(dx.clone(), x.dtype()));
            }
            let (gradient, like) = rest.next()?;
            let (dtype, shape) = like?;
            let mut buffer = Buffer::new(gradient.len());
            buffer.copy_from_slice(&gradient);
            let gradient = flex::from_buffer(buffer, Layout::contiguous(shape));
            Some(flex::to_dtype(gradient, dtype))
        });
        self.in_order(gradients)
    }
}

impl Neurons {
    /// The tensor with its samples one after the other: where all neurons are alike in any order of
    /// these, else row-major.
    fn ordered(&self, x: FlexTensor, numbers: &Numbers) -> FlexTensor {
        match numbers.is_shared() && !self.ends {
            true => flex::row_after_row(x),
            false => flex::contiguous(x),
        }
    }

    /// Both in one order.
    fn same_order(
        &self,
        x: FlexTensor,
        grad: FlexTensor,
        numbers: &Numbers,
    ) -> (FlexTensor, FlexTensor) {
        if !numbers.is_shared() {
            return (x, flex::contiguous(grad));
        }
        let (x, grad) = flex::aligned(x, grad);
        if flex::is_row_after_row(&x) {
            return (x, grad);
        }
        (flex::contiguous(x), flex::contiguous(grad))
    }
}

/// The gradients at the places of the parents; there are empty ones for those that are not there.
fn in_places(dx: Vec<f32>, made: Made) -> [Vec<f32>; PARENTS] {
    [
        dx,
        made.decay,
        made.threshold,
        made.synapse_decay,
        made.adaptation_decay,
        made.start,
    ]
}

/// The numbers of a tensor, row-major: one transfer.
fn read<B: Backend>(x: FloatTensor<B>) -> Vec<f32> {
    let data = read_sync(B::float_into_data(x)).expect("a tensor's data can be read");
    data.iter::<f32>().collect()
}
