//! The operators, one a file: what each computes, which inputs it fits, and its plain evaluation.

mod add;
mod clamp;
mod concat;
mod convolution;
mod embedding;
mod flatten;
mod linear;
mod look_up;
mod mul;
mod pool;
mod requantize;
mod sum;
mod weights;
mod window;

use serde::{Deserialize, Serialize};

pub use add::Add;
pub use clamp::{Clamp, Rectifier};
pub use concat::Concat;
pub use convolution::Convolution;
pub use embedding::Embedding;
pub use flatten::Flatten;
pub use linear::Linear;
pub use look_up::LookUp;
pub use mul::Mul;
pub use pool::{AveragePool, MaxPool, Windows};
pub(crate) use requantize::of_channel;
pub use requantize::{Requantize, Rounding};
pub use sum::SumBound;
pub use weights::Weights;
pub use window::Sliding;
pub(crate) use window::greatest_common_divisor;

use crate::tensor::Tensor;

/// A tensor and the integers of one image.
pub(crate) struct Values<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) values: &'a [i64],
}

/// What an operator answers.
pub(crate) trait Operation {
    /// The tensor it makes of these: its shape, its numbers, and what follows of them.
    ///
    /// # Errors
    ///
    /// What does not fit, and what would.
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String>;

    /// The integers it makes of one image, by its definition. Inputs and output are those of
    /// [`output`](Self::output).
    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64>;

    /// Of a sum, its bounds for each index of the output's first dimension.
    fn bounds(&self, _inputs: &[&Tensor], _shape: &[usize]) -> Option<Vec<SumBound>> {
        None
    }

    /// Of a sum or product, inputs for which an element is the least or the greatest that it can be.
    fn witness(
        &self,
        _inputs: &[&Tensor],
        _shape: &[usize],
        _element: usize,
        _greatest: bool,
    ) -> Option<Vec<Vec<i64>>> {
        None
    }
}

/// The list of operators.
macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An operator.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op", rename_all = "kebab-case")]
        pub enum Operator {
            $($(#[$doc])* $name($name),)*
        }

        impl Operator {
            /// What it is called, such as `MaxPool`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            pub(crate) fn operation(&self) -> &dyn Operation {
                match self {
                    $(Self::$name(operation) => operation,)*
                }
            }
        }

        $(impl From<$name> for Operator {
            fn from(operation: $name) -> Self {
                Self::$name(operation)
            }
        })*
    };
}

operators! {
    /// See [`Convolution`].
    Convolution,
    /// See [`Linear`].
    Linear,
    /// See [`Add`].
    Add,
    /// See [`Mul`].
    Mul,
    /// See [`Concat`].
    Concat,
    /// See [`MaxPool`].
    MaxPool,
    /// See [`AveragePool`].
    AveragePool,
    /// See [`Rectifier`].
    Rectifier,
    /// See [`Clamp`].
    Clamp,
    /// See [`Requantize`].
    Requantize,
    /// See [`Flatten`].
    Flatten,
    /// See [`LookUp`].
    LookUp,
    /// See [`Embedding`].
    Embedding,
}

impl Operator {
    /// The elements of the padded image that a convolution reads; 0 of other operators, and without
    /// padding.
    pub(crate) fn padded(&self, inputs: &[&Tensor]) -> usize {
        match (self, inputs) {
            (Self::Convolution(node), [input]) => node.padded(input),
            _ => 0,
        }
    }

    /// The weights of a convolution, a linear layer or an embedding.
    pub(crate) fn weights(&self) -> Option<&Weights> {
        match self {
            Self::Convolution(node) => Some(&node.weights),
            Self::Linear(node) => Some(&node.weights),
            Self::Embedding(node) => Some(&node.weights),
            _ => None,
        }
    }

    pub(crate) fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        self.operation().output(inputs)
    }
}

/// The input of an operator that has one.
fn one<'a>(inputs: &[&'a Tensor]) -> Result<[&'a Tensor; 1], String> {
    inputs
        .try_into()
        .map_err(|_| format!("{} inputs, expected 1", inputs.len()))
}

/// The inputs of an operator that has two.
fn two<'a>(inputs: &[&'a Tensor]) -> Result<[&'a Tensor; 2], String> {
    inputs
        .try_into()
        .map_err(|_| format!("{} inputs, expected 2", inputs.len()))
}

/// Whether both inputs of an operator are one tensor of the graph: what each is, the other is too.
fn read_twice(inputs: &[&Tensor]) -> bool {
    matches!(inputs, [a, b] if std::ptr::eq(*a, *b))
}

/// The first element of each index of the first dimension.
fn first_of_channels(shape: &[usize]) -> Vec<usize> {
    let rest: usize = shape[1..].iter().product();
    (0..shape[0]).map(|channel| channel * rest).collect()
}
