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

/// An activation function as a type, so that loops over it are compiled for each.
pub(crate) trait Pointwise: Copy + Send + Sync {
    /// The activation. NaN stays NaN.
    fn of(self, z: f32) -> f32;

    /// The gradient of `z`, from that of the activation; zero at the bends.
    fn backward(self, z: f32, grad: f32) -> f32;
}

/// See [`Activation::Identity`].
#[derive(Clone, Copy)]
pub(crate) struct Identity;

/// See [`Activation::Relu`].
#[derive(Clone, Copy)]
pub(crate) struct Relu;

/// See [`Activation::Relu6`].
#[derive(Clone, Copy)]
pub(crate) struct Relu6;

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

/// Compiles `body` for each activation as a type.
macro_rules! with_activation {
    ($activation:expr, |$name:ident| $body:expr) => {
        match $activation {
            $crate::ops::kernel::activation::Activation::Identity => {
                let $name = $crate::ops::kernel::activation::Identity;
                $body
            }
            $crate::ops::kernel::activation::Activation::Relu => {
                let $name = $crate::ops::kernel::activation::Relu;
                $body
            }
            $crate::ops::kernel::activation::Activation::Relu6 => {
                let $name = $crate::ops::kernel::activation::Relu6;
                $body
            }
        }
    };
}
pub(crate) use with_activation;
