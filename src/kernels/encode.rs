//! `encode.wgsl`: the normal product with the weight, forward and as the code's gradient.

use super::commands::Commands;
use super::core::Kernels;
use super::linear::{Direction, ELEMENTS, Gradient, Linear, OPERAND_GROUP, OVERRIDES};
use super::strategy::{ENCODE_FORMS, Pattern};
use super::weight::{WEIGHT_GROUP, Weight};
use crate::error::Result;
use crate::shader::{ACTIVATION, ENCODE, LINEAR, LOSS, MATRIX, PRODUCT, SCALE, Shader};

pub(super) static SHADER: Shader = Shader {
    name: "encode",
    sources: &[MATRIX, ACTIVATION, LOSS, SCALE, PRODUCT, LINEAR, ENCODE],
    forms: ENCODE_FORMS,
    groups: &[WEIGHT_GROUP, OPERAND_GROUP],
    overrides: OVERRIDES,
    elements: ELEMENTS,
};

fn direction(weight: &Weight) -> Direction {
    let lengths = [weight.inputs(), weight.hidden()];
    Direction { shader: &SHADER, pattern: Pattern::Encode, lengths }
}

impl Kernels {
    /// H = f(X·Wᵀ + b), as PyTorch's `f(F.linear(x, w, b))`.
    ///
    /// Shapes: the weight W is \[hidden, inputs\], `input` X \[batch, inputs\], `bias` b
    /// \[1, hidden\], `output` H and `preactivation` \[batch, hidden\].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn encode(&self, weight: &Weight, call: &Linear<'_>) -> Result<Commands> {
        self.forward_product(direction(weight), weight, call)
    }

    /// dZ = (dA·Wᵀ + extra) ⊙ f′: the gradient by the code's pre-activation, from the one by the
    /// output's. The access pattern, and the kernel, are those of [`Kernels::encode`].
    ///
    /// Shapes: `delta` dA is \[batch, inputs\]; `output` dZ, `extra` and `saved` \[batch, hidden\].
    /// Without an activation the output is dH itself.
    ///
    /// # Errors
    ///
    /// As [`Kernels::encode`], and [`Error::Missing`](crate::Error::Missing) where f′ needs `saved`.
    pub fn code_gradient(&self, weight: &Weight, call: &Gradient<'_>) -> Result<Commands> {
        self.gradient_product(direction(weight), weight, call)
    }
}
