//! The fast engine: the bits of the [interpreter](crate::interpret()), by the kernels of
//! [`lowbit_kernels::integer`].
//!
//! A network becomes a list of steps. Tensors are kept channels last: of at most 8 bits as bytes, each with
//! its least integer stored as 0, others in 16 or 32 bits, by what is proven of them. A convolution or
//! linear layer of bytes and the requantization that follows it are one step, with the addition that
//! follows that, whose sums become bytes before they leave the registers. Other sums, of convolutions,
//! additions and averages, become what all their readers make of them, requantizations, rectifiers and
//! clamps, a few pixels at a time, while those are in the cache. Products of weights of one magnitude with
//! numbers of one or two bits are counts of bits ([`lowbit_kernels::integer::binary`]). What is a function
//! of one byte otherwise is a table. Everything else runs as the interpreter has it.
//!
//! A thread owns an image from the first step to the last. It works in buffers that are kept from call
//! to call.

mod codes;
mod convolve;
mod plan;
mod reader;
mod requantize;
mod step;
mod stored;

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::GraphError;
use crate::graph::{Graph, TensorId};
use crate::tensor::Tensor;
use step::Step;
use stored::{Form, Stored};

/// A network, ready to run.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
    steps: Vec<Step>,
    idle: Mutex<Vec<Workspace>>,
}

/// One image's tensors, and what steps keep of it.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    tensors: Vec<Stored>,
    /// Of each convolution, the image with its padding.
    padded: Vec<Vec<u8>>,
    /// Sums of 32 and of 16 bits.
    sums: Vec<i32>,
    short_sums: Vec<i16>,
    /// Bits of a row's windows.
    windows: Vec<u32>,
}

/// Whether a tensor is kept as bytes.
pub(crate) fn is_bytes(tensor: &Tensor) -> bool {
    Form::of(tensor) == Some(Form::Bytes)
}

/// Channels and pixels of a tensor: the first dimension, and all others.
pub(crate) fn pixels(tensor: &Tensor) -> (usize, usize) {
    (tensor.shape[0], tensor.elements() / tensor.shape[0])
}

impl Workspace {
    /// Has room for at least so many sums.
    pub(crate) fn reserve_sums(&mut self, count: usize) {
        let length = self.sums.len().max(count);
        self.sums.resize(length, 0);
    }

    /// Has room for at least so many sums of 16 bits.
    pub(crate) fn reserve_short_sums(&mut self, count: usize) {
        let length = self.short_sums.len().max(count);
        self.short_sums.resize(length, 0);
    }

    /// Has room for at least so many words of windows.
    pub(crate) fn reserve_windows(&mut self, count: usize) {
        let length = self.windows.len().max(count);
        self.windows.resize(length, 0);
    }
}

impl Engine {
    /// Plans a network: packs its weights and decides which nodes are one step.
    pub fn new(graph: Graph) -> Self {
        let steps = plan::steps(&graph);
        Self {
            graph,
            steps,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The names of the nodes that run as the interpreter has them.
    pub fn plain_nodes(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Plain(node) => Some(self.graph.nodes()[*node].name()),
            _ => None,
        })
    }

    /// The names of the nodes whose products are counted as bits.
    pub fn binary_nodes(&self) -> impl Iterator<Item = &str> {
        let counted = self.steps.iter().filter_map(|step| match step {
            Step::Convolve(convolve) => convolve.counted(),
            _ => None,
        });
        counted.map(|id| self.graph.tensor(id).name())
    }

    /// Runs the network on a batch: of each input the images one after the other, on the threads of
    /// Rayon's pool. Returns the outputs in the same form, with the bits of
    /// [`interpret`](crate::interpret()).
    ///
    /// # Errors
    ///
    /// As [`interpret`](crate::interpret()).
    pub fn run(&self, inputs: &[&[i64]]) -> Result<Vec<Vec<i64>>, GraphError> {
        let batch = self.graph.batch(inputs)?;
        let elements = |id: &TensorId| self.graph.tensor(*id).elements();
        let outputs = self.graph.outputs().iter();
        let mut outputs: Vec<Vec<i64>> = outputs.map(|id| vec![0; batch * elements(id)]).collect();
        self.run_into(inputs, &mut outputs)?;
        Ok(outputs)
    }

    /// As [`run`](Self::run), into slices that are there. With one image, where all steps are of
    /// bytes, nothing is allocated from the second call on.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// If there are not as many outputs as the network has, each as long as the batch's.
    pub fn run_into(&self, inputs: &[&[i64]], outputs: &mut [Vec<i64>]) -> Result<(), GraphError> {
        let batch = self.graph.batch(inputs)?;
        let ids = self.graph.outputs();
        assert_eq!(outputs.len(), ids.len());
        for (output, &id) in outputs.iter().zip(ids) {
            assert_eq!(output.len(), batch * self.graph.tensor(id).elements());
        }
        if batch == 1 {
            let mut workspace = self.workspace();
            self.image(&mut workspace, inputs, 0);
            for (output, &id) in outputs.iter_mut().zip(ids) {
                workspace.tensors[id.0].save(self.graph.tensor(id), output);
            }
            self.keep(workspace);
            return Ok(());
        }
        let mut images: Vec<Vec<&mut [i64]>> = (0..batch).map(|_| Vec::new()).collect();
        for (output, &id) in outputs.iter_mut().zip(ids) {
            let parts = output.chunks_exact_mut(self.graph.tensor(id).elements());
            for (image, part) in images.iter_mut().zip(parts) {
                image.push(part);
            }
        }
        let work = |kept: &mut Kept, (index, outputs): (usize, Vec<&mut [i64]>)| {
            let workspace = kept.workspace.as_mut().expect("there until it is dropped");
            self.image(workspace, inputs, index);
            for (output, &id) in outputs.into_iter().zip(ids) {
                workspace.tensors[id.0].save(self.graph.tensor(id), output);
            }
        };
        let numbered = images.into_par_iter().enumerate();
        numbered.for_each_init(|| Kept::of(self), work);
        Ok(())
    }

    /// Runs one image of the inputs.
    fn image(&self, workspace: &mut Workspace, inputs: &[&[i64]], index: usize) {
        for (&id, values) in self.graph.inputs().iter().zip(inputs) {
            let tensor = self.graph.tensor(id);
            let elements = tensor.elements();
            let values = &values[index * elements..(index + 1) * elements];
            workspace.tensors[id.0].load(tensor, values);
        }
        for step in &self.steps {
            step.run(&self.graph, workspace);
        }
    }

    /// A workspace that nobody uses, or a new one.
    fn workspace(&self) -> Workspace {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.unwrap_or_else(|| {
            let mut workspace = Workspace {
                tensors: vec![Stored::Nowhere; self.graph.tensors().len()],
                padded: Vec::new(),
                sums: Vec::new(),
                short_sums: Vec::new(),
                windows: Vec::new(),
            };
            for &input in self.graph.inputs() {
                workspace.tensors[input.0] = Stored::of(self.graph.tensor(input));
            }
            for step in &self.steps {
                step.prepare(&self.graph, &mut workspace);
            }
            workspace
        })
    }

    fn keep(&self, workspace: Workspace) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(workspace);
    }
}

/// A thread's workspace, which goes back to the engine.
struct Kept<'a> {
    engine: &'a Engine,
    workspace: Option<Workspace>,
}

impl<'a> Kept<'a> {
    fn of(engine: &'a Engine) -> Self {
        Self {
            engine,
            workspace: Some(engine.workspace()),
        }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        // After a panic its buffers may be anything.
        if let Some(workspace) = self.workspace.take()
            && !std::thread::panicking()
        {
            self.engine.keep(workspace);
        }
    }
}
