//! The frame of every operator: its tensors find their backend, and on `Autodiff` its gradients find
//! their way back.
//!
//! An operator is a value that holds its options, with two passes composed of tensor primitives and,
//! where Flex has kernels, the same two passes on Flex. Everything else is here, once for all.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    AutodiffBackend, Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor,
    DispatchTensorKind, ExtensionType, backend_extension,
};
use burn::tensor::Tensor;

use crate::ops::backend::accumulate::{Accumulate, absent};

/// An operator with its options. The first `PARENTS` of the tensors that go in get gradients, fewer
/// where fewer go in; what comes after them is constant.
pub(crate) trait Operator<const PARENTS: usize>: Debug + Clone + Send + 'static {
    /// Whether `backward` adds what the first tensor's gradient is so far
    /// ([`Incoming::gradient_so_far`]) to the one it makes.
    const ADDS_UP: bool = false;

    /// What is kept for `backward` of the tensors that go in.
    fn save_inputs<B: Backend>(&self, inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        inputs.to_vec()
    }

    /// What is kept for `backward` of the results.
    fn save_outputs<B: Backend>(&self, _outputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    /// The results, composed of tensor primitives. The first one has a gradient, the others are
    /// constants.
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>>;

    /// The gradients of the parents, composed of tensor primitives, from that of the first result.
    /// Those that are not wanted need not be made.
    fn backward<B: Kernels>(&self, incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS>;

    /// [`forward`](Self::forward) in kernels.
    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        self.forward::<Flex>(inputs)
    }

    /// [`backward`](Self::backward) in kernels.
    fn flex_backward(&self, incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        self.backward::<Flex>(incoming)
    }
}

/// The gradients of an operator's parents, those that are made.
pub(crate) type Gradients<B, const PARENTS: usize> = [Option<FloatTensor<B>>; PARENTS];

/// The tensors that go into an operator.
#[derive(Debug, Clone)]
pub(crate) struct Inputs<B: Backend> {
    pub(crate) tensors: Vec<FloatTensor<B>>,
    /// What is read at places instead of being computed with.
    pub(crate) indices: Option<IntTensor<B>>,
}

impl<B: Backend> Inputs<B> {
    pub(crate) fn new(tensors: Vec<FloatTensor<B>>) -> Self {
        Self {
            tensors,
            indices: None,
        }
    }

    /// The tensors, of which there are `N`.
    pub(crate) fn tensors<const N: usize>(self) -> [FloatTensor<B>; N] {
        array(self.tensors)
    }
}

/// What the way back begins with.
#[derive(Debug)]
pub(crate) struct Incoming<B: Backend, const PARENTS: usize> {
    /// What was kept of the tensors that went in, and of the results.
    pub(crate) inputs: Vec<FloatTensor<B>>,
    pub(crate) indices: Option<IntTensor<B>>,
    pub(crate) outputs: Vec<FloatTensor<B>>,
    /// The gradient of the first result.
    pub(crate) grad: FloatTensor<B>,
    /// See [`Operator::ADDS_UP`].
    pub(crate) gradient_so_far: Option<FloatTensor<B>>,
    /// Which gradients somebody waits for.
    pub(crate) wanted: [bool; PARENTS],
}

impl<B: Backend, const PARENTS: usize> Incoming<B, PARENTS> {
    /// All gradients are wanted, and nothing else was kept.
    pub(crate) fn new(inputs: Vec<FloatTensor<B>>, grad: FloatTensor<B>) -> Self {
        Self {
            inputs,
            indices: None,
            outputs: Vec::new(),
            grad,
            gradient_so_far: None,
            wanted: [true; PARENTS],
        }
    }
}

/// The items of a list that is `N` long.
pub(crate) fn array<T, const N: usize>(items: Vec<T>) -> [T; N] {
    let count = items.len();
    items
        .try_into()
        .unwrap_or_else(|_| panic!("an operator has {count} tensors, expected {N}"))
}

/// The items, and nothing after them.
pub(crate) fn padded<T, const N: usize>(
    items: impl IntoIterator<Item = Option<T>>,
) -> [Option<T>; N] {
    let mut items = items.into_iter();
    std::array::from_fn(|_| items.next().flatten())
}

/// Runs an operator; returns its first result.
pub(crate) fn run<const D: usize, const PARENTS: usize>(
    operator: impl Operator<PARENTS>,
    tensors: Vec<DispatchTensor>,
) -> Tensor<D> {
    let mut outputs = run_all(operator, Inputs::new(tensors));
    Tensor::from_dispatch(outputs.swap_remove(0))
}

/// Runs an operator; returns all its results.
pub(crate) fn run_all<const PARENTS: usize>(
    operator: impl Operator<PARENTS>,
    inputs: Inputs<Dispatch>,
) -> Vec<DispatchTensor> {
    <Dispatch as RunOp>::run(operator, inputs)
}

/// Every operator, routed to the backend of its tensors.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Capture, Autodiff)]
pub(crate) trait RunOp: Backend {
    /// See [`run_all()`].
    fn run<O: Operator<PARENTS>, const PARENTS: usize>(
        operator: O,
        #[extension_type] inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>>;
}

impl RunOp for Flex {
    fn run<O: Operator<PARENTS>, const PARENTS: usize>(
        operator: O,
        inputs: Inputs<Self>,
    ) -> Vec<FlexTensor> {
        operator.flex_forward(inputs)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl RunOp for burn::backend::Cube {
    fn run<O: Operator<PARENTS>, const PARENTS: usize>(
        operator: O,
        inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>> {
        operator.forward::<Self>(inputs)
    }
}

impl<B: Kernels, C: CheckpointStrategy> RunOp for Autodiff<B, C> {
    fn run<O: Operator<PARENTS>, const PARENTS: usize>(
        operator: O,
        inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>> {
        let (tensors, guards): (Vec<_>, Vec<_>) = inputs
            .tensors
            .into_iter()
            .map(|tensor| tensor.into_parts())
            .unzip();
        let mut guards = guards.into_iter();
        // Burn has a place for each parent in a type; where nothing goes in, nothing gets a gradient.
        let parents = std::array::from_fn(|_| guards.next().unwrap_or_else(absent));
        let prepared = OperatorStep::<O, PARENTS>(PhantomData)
            .prepare::<C>(parents)
            .compute_bound()
            .stateful();
        let indices = inputs.indices;
        let (output, others) = match prepared {
            OpsKind::Tracked(prep) => {
                let saved = Inputs {
                    tensors: operator.save_inputs::<B>(&tensors),
                    indices: indices.clone(),
                };
                let mut outputs = B::forward(&operator, Inputs { tensors, indices });
                let saved_outputs = operator.save_outputs::<B>(&outputs);
                let first = outputs.remove(0);
                (
                    prep.finish((operator, saved, saved_outputs), first),
                    outputs,
                )
            }
            OpsKind::UnTracked(prep) => {
                let mut outputs = B::forward(&operator, Inputs { tensors, indices });
                let first = outputs.remove(0);
                (prep.finish(first), outputs)
            }
        };
        let others = others.into_iter().map(Self::from_inner);
        std::iter::once(output).chain(others).collect()
    }
}

/// The way back through an operator.
#[derive(Debug)]
struct OperatorStep<O, const PARENTS: usize>(PhantomData<O>);

impl<B, O, const PARENTS: usize> Backward<B, PARENTS> for OperatorStep<O, PARENTS>
where
    B: Kernels,
    O: Operator<PARENTS>,
{
    type State = (O, Inputs<B>, Vec<FloatTensor<B>>);

    fn backward(
        self,
        ops: Ops<Self::State, PARENTS>,
        grads: &mut grads::Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let Ops {
            parents,
            node,
            state: (operator, saved, outputs),
        } = ops;
        let grad = grads.consume::<B>(&node);
        let ops = Ops::new(parents, node, ());
        let incoming = Incoming {
            inputs: saved.tensors,
            indices: saved.indices,
            outputs,
            grad,
            gradient_so_far: O::ADDS_UP.then(|| B::take(grads, &ops, 0)).flatten(),
            wanted: ops.parents.each_ref().map(Option::is_some),
        };
        let gradients = B::backward(&operator, incoming);
        for (parent, gradient) in gradients.into_iter().enumerate() {
            match gradient {
                Some(gradient) if O::ADDS_UP && parent == 0 => {
                    B::put(grads, &ops, parent, gradient);
                }
                Some(gradient) => B::add(grads, &ops, parent, gradient),
                None => {}
            }
        }
    }
}

/// Backends that operators run on.
pub(crate) trait Kernels: Accumulate {
    /// The results of an operator.
    fn forward<const PARENTS: usize>(
        operator: &impl Operator<PARENTS>,
        inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>> {
        operator.forward::<Self>(inputs)
    }

    /// The gradients of its parents.
    fn backward<const PARENTS: usize>(
        operator: &impl Operator<PARENTS>,
        incoming: Incoming<Self, PARENTS>,
    ) -> Gradients<Self, PARENTS> {
        operator.backward::<Self>(incoming)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Kernels for burn::backend::Cube {}

impl Kernels for Flex {
    fn forward<const PARENTS: usize>(
        operator: &impl Operator<PARENTS>,
        inputs: Inputs<Self>,
    ) -> Vec<FlexTensor> {
        operator.flex_forward(inputs)
    }

    fn backward<const PARENTS: usize>(
        operator: &impl Operator<PARENTS>,
        incoming: Incoming<Self, PARENTS>,
    ) -> Gradients<Self, PARENTS> {
        operator.flex_backward(incoming)
    }
}

impl<B: Backend> ExtensionType<B> for Inputs<B> {
    type Target = Inputs<Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Self::Target
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        let wrap = |tensor| DispatchTensor {
            kind: map_kind(tensor),
            autodiff,
        };
        let tensors = self.tensors.into_iter().map(BackendTensor::Float);
        Inputs {
            tensors: tensors.map(wrap).collect(),
            indices: self.indices.map(BackendTensor::Int).map(wrap),
        }
    }

    fn map_from_dispatch<F>(target: Self::Target, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        let tensors = target.tensors.into_iter();
        Inputs {
            tensors: tensors.map(|tensor| unwrap_kind(tensor).float()).collect(),
            indices: target.indices.map(|tensor| unwrap_kind(tensor).int()),
        }
    }

    fn routing_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target.tensors.first().or(target.indices.as_ref())
    }

    fn routing_float_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target.tensors.first()
    }

    fn autodiff_context(target: &Self::Target) -> DispatchAutodiffContext {
        let all = target.tensors.iter().chain(&target.indices);
        all.fold(DispatchAutodiffContext::Disabled, |context, tensor| {
            context.merge(tensor.autodiff)
        })
    }
}
