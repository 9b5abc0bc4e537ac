//! A tensor on its way into an operator that quantizes it as it reads it.

use burn::backend::Backend;
use burn::backend::flex::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Device, Tensor};
use lowbit_formats::IntegerRange;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{Incoming, Inputs, Kernels};
use crate::ops::quantization::pointwise::{Pointwise, Sums};
use crate::ops::quantization::{
    FakeQuantize, GradientQuantization, OperandQuantization, PreparedFormat, PreparedQuantization,
    Quantization, quantize_gradient,
};

/// A tensor and how the operator that reads it quantizes it, if at all.
#[derive(Debug, Clone)]
pub struct Operand<const D: usize> {
    tensor: Tensor<D>,
    quantization: Option<Quantization>,
    /// What becomes of the gradient of the quantized tensor.
    gradient: GradientQuantization,
    /// What becomes of the gradient of the tensor itself.
    own_gradient: GradientQuantization,
}

impl<const D: usize> Operand<D> {
    /// An operand that is quantized as given.
    pub fn new(tensor: Tensor<D>, quantization: Option<Quantization>) -> Self {
        Self {
            tensor,
            quantization,
            gradient: GradientQuantization::default(),
            own_gradient: GradientQuantization::default(),
        }
    }

    /// The same, with what becomes of the gradient of the quantized tensor on its way back.
    pub fn with_gradient(self, gradient: GradientQuantization) -> Self {
        Self { gradient, ..self }
    }

    /// The same, with what becomes of the tensor's own gradient, when that of the quantized tensor went
    /// back through the quantization.
    pub fn with_own_gradient(self, own_gradient: GradientQuantization) -> Self {
        Self {
            own_gradient,
            ..self
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.tensor.device()
    }

    /// How it is quantized, if at all.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    /// The tensor as the operator sees it.
    pub fn quantized(self) -> Tensor<D> {
        let tensor = quantize_gradient(self.tensor, self.own_gradient);
        let quantized = match self.quantization {
            Some(quantization) => quantization.apply(tensor),
            None => tensor,
        };
        quantize_gradient(quantized, self.gradient)
    }

    /// The parts for an operator that quantizes one number at a time. Any other quantization is done
    /// already, and so are those of gradients.
    pub(crate) fn into_parts(self) -> OperandParts<D> {
        if !self.gradient.is_identity() {
            return Self::new(self.quantized(), None).into_parts();
        }
        let tensor = quantize_gradient(self.tensor, self.own_gradient);
        Self::new(tensor, self.quantization).into_product_parts()
    }

    /// The parts for a product, which rounds gradients one number at a time, too.
    pub(crate) fn into_product_parts(self) -> OperandParts<D> {
        let Self {
            tensor,
            quantization,
            gradient,
            own_gradient,
        } = self;
        let (tensor, own) = own_gradient.fused(tensor);
        let as_it_is = || Ok((OperandQuantization::Float, Vec::new()));
        match quantization.map_or_else(as_it_is, Quantization::parts) {
            Ok((quantization, parameters))
                if gradient.is_pointwise() && quantization.fits_operators(&parameters) =>
            {
                let (tensor, quantized) = gradient.fused(tensor);
                OperandParts {
                    tensor,
                    quantization,
                    parameters,
                    gradients: GradientRoundings { quantized, own },
                }
            }
            parts => {
                let tensor = quantize_gradient(tensor, own.into());
                let tensor = match parts {
                    Ok((quantization, parameters)) => quantization.apply(tensor, parameters),
                    Err(of_weights) => of_weights.apply(tensor),
                };
                let (tensor, quantized) = gradient.fused(tensor);
                OperandParts {
                    tensor,
                    quantization: OperandQuantization::Float,
                    parameters: Vec::new(),
                    gradients: GradientRoundings {
                        quantized,
                        own: None,
                    },
                }
            }
        }
    }
}

impl<const D: usize> From<Tensor<D>> for Operand<D> {
    fn from(tensor: Tensor<D>) -> Self {
        Self::new(tensor, None)
    }
}

/// A tensor, how it is quantized as it is read, and the tensors that takes.
pub(crate) struct OperandParts<const D: usize> {
    pub(crate) tensor: Tensor<D>,
    pub(crate) quantization: OperandQuantization,
    pub(crate) parameters: Vec<Tensor<1>>,
    pub(crate) gradients: GradientRoundings,
}

impl<const D: usize> OperandParts<D> {
    /// The same with another form of the tensor: a form of other dimensions changes nothing of what is
    /// done one number at a time.
    pub(crate) fn with<const E: usize>(
        self,
        form: impl FnOnce(Tensor<D>) -> Tensor<E>,
    ) -> OperandParts<E> {
        OperandParts {
            tensor: form(self.tensor),
            quantization: self.quantization,
            parameters: self.parameters,
            gradients: self.gradients,
        }
    }
}

/// What an operator rounds, one number at a time, of the gradients that it makes of an operand.
#[derive(Debug, Clone, Default)]
pub(crate) struct GradientRoundings {
    /// That of the quantized tensor.
    quantized: Option<FakeQuantize>,
    /// That of the tensor, when the other went back through the quantization.
    own: Option<FakeQuantize>,
}

/// The same on a backend.
#[derive(Debug, Clone)]
pub(crate) struct QuantizedOperand<B: Backend> {
    pub(crate) tensor: FloatTensor<B>,
    pub(crate) quantization: OperandQuantization,
    pub(crate) parameters: Vec<FloatTensor<B>>,
    pub(crate) gradients: GradientRoundings,
}

/// The gradient of an operand, and those of its parameters as far as there are any.
pub(crate) type OperandGradients<B> = (FloatTensor<B>, Vec<Option<FloatTensor<B>>>);

impl<B: Kernels> QuantizedOperand<B> {
    /// The rounding as a pass of its own.
    pub(crate) fn rounded(self) -> FloatTensor<B> {
        self.quantization.round::<B>(self.tensor, self.parameters)
    }

    /// Its gradients, given that of the rounded tensor.
    pub(crate) fn gradients(self, grad: FloatTensor<B>) -> OperandGradients<B> {
        let Self {
            tensor,
            quantization,
            parameters,
            gradients,
        } = self;
        let grad = round_gradient::<B>(&gradients.quantized, grad);
        let (grad, learned) = quantization.round_backward::<B>(tensor, parameters, grad);
        (round_gradient::<B>(&gradients.own, grad), learned)
    }
}

/// The gradient rounded, where it is, as a pass of its own.
pub(crate) fn round_gradient<B: Kernels>(
    rounding: &Option<FakeQuantize>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    match rounding {
        Some(rounding) => B::forward(rounding, Inputs::new(vec![grad])).swap_remove(0),
        None => grad,
    }
}

impl QuantizedOperand<Flex> {
    /// The rounding as the passes of a kernel use it.
    pub(crate) fn prepare(&self) -> PreparedQuantization {
        self.quantization.prepare(&self.parameters)
    }

    /// The integers of the rounded numbers, where they are such times one power of two.
    pub(crate) fn range(&self) -> Option<IntegerRange> {
        let values: Vec<Vec<f32>> = self.parameters.iter().map(flex::to_vec).collect();
        match self.quantization.grids(&values)?.0[..] {
            [grid] => grid.range(),
            _ => None,
        }
    }

    /// The same with what is rounded on the way back.
    pub(crate) fn prepare_both_ways(&self) -> PreparedOperand {
        let GradientRoundings { quantized, own } = &self.gradients;
        let [quantized, own] = [quantized, own].map(|r| r.as_ref().map(FakeQuantize::prepared));
        PreparedOperand {
            quantization: self.prepare(),
            quantized,
            own,
        }
    }
}

/// What the kernels of a product round of an operand, forward and backward.
pub(crate) struct PreparedOperand {
    pub(crate) quantization: PreparedQuantization,
    quantized: Option<PreparedFormat>,
    own: Option<PreparedFormat>,
}

impl PreparedOperand {
    /// Whether the gradient of the rounded numbers is that of the numbers.
    pub(crate) fn passes_gradients(&self) -> bool {
        let rounded = self.quantized.is_some() || self.own.is_some();
        !rounded && self.quantization.passes_gradients()
    }

    /// Turns the gradient of the rounded `x` into that of `x`, in place, on this thread; returns
    /// those of the learned parameters.
    pub(crate) fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        if let Some(rounding) = &self.quantized {
            rounding.round_in_place(grad);
        }
        let learned = self.quantization.round_backward(x, grad);
        if let Some(rounding) = &self.own {
            rounding.round_in_place(grad);
        }
        learned
    }
}

/// The rounding as a pass of its own.
pub(crate) fn round<B: Kernels>(
    quantization: &impl Pointwise,
    tensor: FloatTensor<B>,
    mut parameters: Vec<FloatTensor<B>>,
) -> FloatTensor<B> {
    parameters.insert(0, tensor);
    B::forward(quantization, Inputs::new(parameters)).swap_remove(0)
}

/// The gradients of a quantization that is a pass of its own.
pub(crate) fn round_backward<B: Kernels>(
    quantization: &impl Pointwise,
    tensor: FloatTensor<B>,
    mut parameters: Vec<FloatTensor<B>>,
    grad: FloatTensor<B>,
) -> OperandGradients<B> {
    parameters.insert(0, tensor);
    let saved = quantization.save_inputs::<B>(&parameters);
    let [tensor, learned @ ..] = B::backward(quantization, Incoming::new(saved, grad));
    let tensor = tensor.expect("a quantization makes the gradient of its numbers");
    (tensor, learned.into())
}

/// The enum over the quantizations that look at one number at a time, and over what the passes of a
/// kernel make of them, from one list of both.
macro_rules! operand_quantizations {
    ($($name:ident($quantization:ty)),* $(,)?) => {
        /// How an operator quantizes an operand as it reads it: one number at a time, so that any
        /// pass can do it. The tensors that takes are beside it.
        #[derive(Debug, Clone)]
        pub(crate) enum OperandQuantization {
            /// As it is.
            Float,
            $($name($quantization),)*
        }

        /// An [`OperandQuantization`] as the passes of a kernel use it.
        pub(crate) enum PreparedQuantization {
            Float,
            $($name(<$quantization as Pointwise>::Prepared),)*
        }

        impl OperandQuantization {
            /// Whether the numbers stay as they are.
            pub(crate) fn is_float(&self) -> bool {
                matches!(self, Self::Float)
            }

            /// The tensors it takes, the learned ones first.
            pub(crate) fn parameters(&self) -> usize {
                match self {
                    Self::Float => 0,
                    $(Self::$name(_) => <$quantization as Pointwise>::PARAMETERS,)*
                }
            }

            /// The tensors it learns.
            pub(crate) fn learned(&self) -> usize {
                match self {
                    Self::Float => 0,
                    $(Self::$name(_) => <$quantization as Pointwise>::LEARNED,)*
                }
            }

            pub(crate) fn apply<const D: usize>(
                self,
                tensor: Tensor<D>,
                parameters: Vec<Tensor<1>>,
            ) -> Tensor<D> {
                match self {
                    Self::Float => tensor,
                    $(Self::$name(quantization) => quantization.apply(tensor, parameters),)*
                }
            }

            fn fits_operators(&self, parameters: &[Tensor<1>]) -> bool {
                match self {
                    Self::Float => true,
                    $(Self::$name(quantization) => quantization.fits_operators(parameters),)*
                }
            }

            fn steps(&self, parameters: &[Tensor<1>]) -> Option<Steps> {
                match self {
                    Self::Float => None,
                    $(Self::$name(quantization) => quantization.steps(parameters),)*
                }
            }

            /// The grids of its results by the values of its parameters, one or one per index of the
            /// axis beside them; `None` where they are on none.
            pub(crate) fn grids(&self, parameters: &[Vec<f32>]) -> Option<(Vec<ValueGrid>, usize)> {
                match self {
                    Self::Float => None,
                    $(Self::$name(quantization) => quantization.grids(parameters),)*
                }
            }

            /// The quantization that an operator is by itself.
            pub(crate) fn recorded(operator: &RecordedOperator) -> Option<Self> {
                $(if let Some(quantization) = operator.get::<$quantization>() {
                    return Some(Self::$name(quantization));
                })*
                None
            }

            fn round<B: Kernels>(
                &self,
                tensor: FloatTensor<B>,
                parameters: Vec<FloatTensor<B>>,
            ) -> FloatTensor<B> {
                match self {
                    Self::Float => tensor,
                    $(Self::$name(quantization) => {
                        operand::round::<B>(quantization, tensor, parameters)
                    })*
                }
            }

            fn round_backward<B: Kernels>(
                &self,
                tensor: FloatTensor<B>,
                parameters: Vec<FloatTensor<B>>,
                grad: FloatTensor<B>,
            ) -> OperandGradients<B> {
                match self {
                    Self::Float => (grad, Vec::new()),
                    $(Self::$name(quantization) => {
                        operand::round_backward::<B>(quantization, tensor, parameters, grad)
                    })*
                }
            }

            fn prepare(&self, parameters: &[FlexTensor]) -> PreparedQuantization {
                match self {
                    Self::Float => PreparedQuantization::Float,
                    $(Self::$name(quantization) => {
                        PreparedQuantization::$name(quantization.prepare(parameters))
                    })*
                }
            }
        }

        impl PreparedQuantization {
            /// Whether the numbers stay as they are.
            pub(crate) fn is_float(&self) -> bool {
                matches!(self, Self::Float)
            }

            /// Whether the gradient of the rounded numbers is that of the numbers.
            pub(crate) fn passes_gradients(&self) -> bool {
                match self {
                    Self::Float => true,
                    $(Self::$name(prepared) => prepared.passes_gradients(),)*
                }
            }

            /// Rounds numbers into a slice as long, on this thread if they are few.
            pub(crate) fn round(&self, x: &[f32], output: &mut [f32]) {
                match self {
                    Self::Float => output.copy_from_slice(x),
                    $(Self::$name(prepared) => prepared.round(x, output),)*
                }
            }

            /// Turns the gradient of the rounded `x` into that of `x`, in place, on this thread;
            /// returns those of the learned parameters.
            pub(crate) fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
                match self {
                    Self::Float => Sums::default(),
                    $(Self::$name(prepared) => prepared.round_backward(x, grad),)*
                }
            }
        }
    };
}

pub(crate) use operand_quantizations;
