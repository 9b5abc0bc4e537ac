//! What a model's forward makes.

use std::collections::VecDeque;

use burn::backend::DispatchTensor;
use burn::tensor::Tensor;
use burn::tensor::kind::Basic;

/// What a model's forward makes: a tensor, or several as a tuple, an array or a `Vec`.
pub trait ModelOutput: Clone {
    /// Adds its tensors to the parts.
    fn take_apart(self, parts: &mut OutputParts);

    /// The same of the next parts.
    ///
    /// # Panics
    /// If they are those of another output.
    fn put_together(parts: &mut OutputParts) -> Self;
}

/// The tensors of an output, in order.
#[derive(Debug, Clone, Default)]
pub struct OutputParts {
    tensors: VecDeque<DispatchTensor>,
    /// Of each `Vec`.
    lengths: VecDeque<usize>,
}

impl OutputParts {
    pub(super) fn of(output: impl ModelOutput) -> Self {
        let mut parts = Self::default();
        output.take_apart(&mut parts);
        parts
    }

    pub(super) fn new(
        tensors: impl IntoIterator<Item = DispatchTensor>,
        lengths: &[usize],
    ) -> Self {
        Self {
            tensors: tensors.into_iter().collect(),
            lengths: lengths.iter().copied().collect(),
        }
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &DispatchTensor> {
        self.tensors.iter()
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.lengths.iter().copied().collect()
    }
}

impl<const D: usize, K: Basic> ModelOutput for Tensor<D, K> {
    fn take_apart(self, parts: &mut OutputParts) {
        parts.tensors.push_back(self.into_dispatch());
    }

    fn put_together(parts: &mut OutputParts) -> Self {
        let tensor = parts.tensors.pop_front();
        Tensor::from_dispatch(tensor.expect("a tensor for each of the output"))
    }
}

impl<A: ModelOutput> ModelOutput for Vec<A> {
    fn take_apart(self, parts: &mut OutputParts) {
        parts.lengths.push_back(self.len());
        self.into_iter().for_each(|item| item.take_apart(parts));
    }

    fn put_together(parts: &mut OutputParts) -> Self {
        let length = parts.lengths.pop_front().expect("a length for each Vec");
        (0..length).map(|_| A::put_together(parts)).collect()
    }
}

impl<A: ModelOutput, const N: usize> ModelOutput for [A; N] {
    fn take_apart(self, parts: &mut OutputParts) {
        self.into_iter().for_each(|item| item.take_apart(parts));
    }

    fn put_together(parts: &mut OutputParts) -> Self {
        std::array::from_fn(|_| A::put_together(parts))
    }
}

macro_rules! tuple {
    ($($A:ident)+) => {
        impl<$($A: ModelOutput),+> ModelOutput for ($($A,)+) {
            #[allow(non_snake_case, reason = "a field is called as its type")]
            fn take_apart(self, parts: &mut OutputParts) {
                let ($($A,)+) = self;
                $($A.take_apart(parts);)+
            }

            fn put_together(parts: &mut OutputParts) -> Self {
                ($($A::put_together(parts),)+)
            }
        }
    };
}
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
