//! `decode.wgsl`: the product with the same weight, accessed transposed, forward and as the input's
//! gradient.

use super::commands::Commands;
use super::core::Kernels;
use super::linear::{Gradient, Linear, OPERAND_GROUP, OVERRIDES};
use super::tile::{BYTES, INVOCATIONS};
use super::weight::{WEIGHT_GROUP, Weight};
use crate::error::Result;
use crate::shader::{ACTIVATION, DECODE, LINEAR, MATRIX, Shader, TILE};

pub(super) static SHADER: Shader = Shader {
    name: "decode",
    sources: &[MATRIX, ACTIVATION, TILE, LINEAR, DECODE],
    workgroup_size: INVOCATIONS,
    workgroup_bytes: BYTES,
    groups: &[WEIGHT_GROUP, OPERAND_GROUP],
    overrides: OVERRIDES,
};

impl Kernels {
    /// Y = g(H·W + c), as PyTorch's `g(F.linear(h, w.t(), c))`, with no transposed copy.
    ///
    /// Shapes: the weight W is \[hidden, inputs\], `input` H \[batch, hidden\], `bias` c
    /// \[1, inputs\], `output` Y and `preactivation` \[batch, inputs\].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn decode(&self, weight: &Weight, call: &Linear<'_>) -> Result<Commands> {
        self.forward_product(&SHADER, weight, [weight.hidden(), weight.inputs()], call)
    }

    /// dX = dZ·W (+ extra): the gradient by the input, from the one by the code's pre-activation.
    /// The access pattern, and the kernel, are those of [`Kernels::decode`].
    ///
    /// Shapes: `delta` dZ is \[batch, hidden\]; `output` dX, `extra` and `saved` \[batch, inputs\].
    /// With an activation the gradient goes on through it: the output is then (dZ·W + extra) ⊙ f′,
    /// as a stack of layers needs it.
    ///
    /// # Errors
    ///
    /// As [`Kernels::decode`], and [`Error::Missing`](crate::Error::Missing) where f′ needs `saved`.
    pub fn input_gradient(&self, weight: &Weight, call: &Gradient<'_>) -> Result<Commands> {
        self.gradient_product(&SHADER, weight, [weight.hidden(), weight.inputs()], call)
    }
}
