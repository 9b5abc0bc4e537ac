//! Smooth rectifiers that weight a number by a sigmoid of it, composed of Burn's functions.

use burn::tensor::Tensor;

/// `x / 2 (1 + erf(x / sqrt(2)))`. Any shape.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::gelu(x)
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`. Any shape.
pub fn gelu_approximate<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::gelu_approximate(x)
}

/// `x / (1 + e^-x)`. Any shape.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::silu(x)
}

/// `x tanh(ln(1 + e^x))`. Any shape.
pub fn mish<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn::tensor::activation::mish(x)
}
