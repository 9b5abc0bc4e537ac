//! Activation functions of one number.

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `z`.
    Identity,
    /// `max(z, 0)`.
    Relu,
    /// `min(max(z, 0), 6)`.
    Relu6,
}

/// An activation function as a type, so that loops over it are compiled for each. Implementations
/// are `#[inline(always)]` and without branches that depend on numbers, so that those loops vectorize.
pub trait Pointwise: Copy + Send + Sync {
    /// The activation. NaN stays NaN.
    fn of(self, z: f32) -> f32;

    /// The gradient of `z`, from that of the activation; zero at the bends.
    fn backward(self, z: f32, grad: f32) -> f32;
}

/// See [`Activation::Identity`].
#[derive(Debug, Clone, Copy)]
pub struct Identity;

/// See [`Activation::Relu`].
#[derive(Debug, Clone, Copy)]
pub struct Relu;

/// See [`Activation::Relu6`].
#[derive(Debug, Clone, Copy)]
pub struct Relu6;

impl Pointwise for Identity {
    #[inline(always)]
    fn of(self, z: f32) -> f32 {
        z
    }

    #[inline(always)]
    fn backward(self, _z: f32, grad: f32) -> f32 {
        grad
    }
}

impl Pointwise for Relu {
    #[inline(always)]
    fn of(self, z: f32) -> f32 {
        if z < 0.0 { 0.0 } else { z }
    }

    #[inline(always)]
    fn backward(self, z: f32, grad: f32) -> f32 {
        if z > 0.0 { grad } else { 0.0 }
    }
}

impl Pointwise for Relu6 {
    #[inline(always)]
    fn of(self, z: f32) -> f32 {
        let z = if z < 0.0 { 0.0 } else { z };
        if z > 6.0 { 6.0 } else { z }
    }

    #[inline(always)]
    fn backward(self, z: f32, grad: f32) -> f32 {
        if z > 0.0 && z < 6.0 { grad } else { 0.0 }
    }
}

/// Compiles `body` for each [`Activation`] as a type: `with_activation!(activation, |name| body)`,
/// where `name` is a [`Pointwise`].
#[macro_export]
macro_rules! with_activation {
    ($activation:expr, |$name:ident| $body:expr) => {
        match $activation {
            $crate::activation::Activation::Identity => {
                let $name = $crate::activation::Identity;
                $body
            }
            $crate::activation::Activation::Relu => {
                let $name = $crate::activation::Relu;
                $body
            }
            $crate::activation::Activation::Relu6 => {
                let $name = $crate::activation::Relu6;
                $body
            }
        }
    };
}
#[doc(inline)]
pub use crate::with_activation;
