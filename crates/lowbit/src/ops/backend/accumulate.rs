//! Adding up the gradients of a tensor that several operators read.
//!
//! Burn adds a gradient to what is there when an operator registers it, on one thread and in a pass
//! of its own. On Flex, operators with kernels take out what is there and add it in a pass that
//! they make anyway.

use std::cell::RefCell;
use std::collections::HashSet;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{NodeGuard, Ops};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend};

use crate::ops::backend::flex;

/// How gradients are added up on one backend. The bodies given here leave it to Burn.
pub(crate) trait Accumulate: Backend {
    /// Takes out the gradient that the parent has so far, if it can be known.
    fn take<S, const N: usize>(
        _grads: &mut Gradients,
        _ops: &Ops<S, N>,
        _parent: usize,
    ) -> Option<FloatTensor<Self>> {
        None
    }

    /// Hands a gradient to the parent, if it wants one. What was taken out must be in it.
    fn put<S, const N: usize>(
        grads: &mut Gradients,
        ops: &Ops<S, N>,
        parent: usize,
        gradient: FloatTensor<Self>,
    ) {
        if let Some(parent) = &ops.parents[parent] {
            grads.register::<Self>(parent.id, gradient);
        }
    }

    /// Adds a gradient to what the parent has.
    fn add<S, const N: usize>(
        grads: &mut Gradients,
        ops: &Ops<S, N>,
        parent: usize,
        gradient: FloatTensor<Self>,
    ) {
        Self::put(grads, ops, parent, gradient);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Accumulate for burn::backend::Cube {}

/// The gradients in one container that this thread's operators have put there and may take out again.
struct OwnedGradients {
    /// A constant whose gradient is only in containers which this was written for.
    token: FloatTensor<Autodiff<Flex>>,
    /// Nodes with a gradient.
    nodes: HashSet<u64>,
}

thread_local! {
    static OWNED: RefCell<OwnedGradients> = RefCell::new(OwnedGradients {
        token: Autodiff::<Flex>::from_inner(flex::from_slice(&[0.0])),
        nodes: HashSet::new(),
    });
}

/// A parent that is not there: a constant.
pub(crate) fn absent() -> NodeGuard {
    OWNED.with_borrow(|owned| owned.token.node())
}

impl OwnedGradients {
    /// Forgets nodes of other containers: each backward pass has its own. So does one after a pass
    /// that panicked: its container has no token yet.
    fn belong_to(&mut self, grads: &mut Gradients) {
        if grads.get(&self.token).is_none() {
            self.nodes.clear();
            grads.register::<Flex>(self.token.id(), self.token.primitive().clone());
        }
    }
}

impl Accumulate for Flex {
    fn take<S, const N: usize>(
        grads: &mut Gradients,
        ops: &Ops<S, N>,
        parent: usize,
    ) -> Option<FlexTensor> {
        let parent = ops.parents[parent].as_ref()?;
        let taken = OWNED.with_borrow_mut(|owned| {
            owned.belong_to(grads);
            owned.nodes.remove(&parent.id.value)
        });
        // A node with a gradient keeps it until its own turn, which comes after this one.
        taken.then(|| grads.consume::<Flex>(parent))
    }

    fn put<S, const N: usize>(
        grads: &mut Gradients,
        ops: &Ops<S, N>,
        parent: usize,
        gradient: FlexTensor,
    ) {
        let Some(parent) = &ops.parents[parent] else {
            return;
        };
        // A leaf's gradient stays in the container when it is read, so it cannot be taken out.
        if !parent.parents.is_empty() {
            OWNED.with_borrow_mut(|owned| {
                owned.belong_to(grads);
                owned.nodes.insert(parent.id.value)
            });
        }
        grads.register::<Flex>(parent.id, gradient);
    }

    fn add<S, const N: usize>(
        grads: &mut Gradients,
        ops: &Ops<S, N>,
        parent: usize,
        gradient: FlexTensor,
    ) {
        let sum = match Self::take(grads, ops, parent) {
            Some(there) => flex::sum(gradient, there),
            None => gradient,
        };
        Self::put(grads, ops, parent, sum);
    }
}
