//! `decode.wgsl`: the product with the same weight, accessed transposed, forward and as the input's
//! gradient.

use super::commands::Commands;
use super::core::Kernels;
use super::linear::{
    Direction, ELEMENTS, Gradient, Linear, LossProduct, OPERAND_GROUP, OVERRIDES_WITH_LOSSES,
};
use super::strategy::{DECODE_FORMS, Pattern};
use super::weight::{WEIGHT_GROUP, Weight};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::shader::{ACTIVATION, DECODE, LINEAR, LOSS, MATRIX, PRODUCT, SCALE, Shader};

pub(super) static SHADER: Shader = Shader {
    name: "decode",
    sources: &[MATRIX, ACTIVATION, LOSS, SCALE, PRODUCT, LINEAR, DECODE],
    forms: DECODE_FORMS,
    groups: &[WEIGHT_GROUP, OPERAND_GROUP],
    overrides: OVERRIDES_WITH_LOSSES,
    elements: ELEMENTS,
};

fn direction(weight: &Weight) -> Direction {
    let lengths = [weight.hidden(), weight.inputs()];
    Direction { shader: &SHADER, pattern: Pattern::Decode, lengths }
}

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
        self.forward_product(direction(weight), weight, call)
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
        self.gradient_product(direction(weight), weight, call)
    }

    /// dA = scale·ℓ′(Y, target) ⊙ g′ with Y = g(H·W + c), which is not kept: a training step's
    /// forward pass and loss in one. Also returns the loss's values, to be added up and scaled.
    ///
    /// Shapes: as [`Kernels::decode`]; `target` is \[batch, inputs\].
    pub(crate) fn decode_with_loss(
        &self,
        weight: &Weight,
        call: &LossProduct<'_>,
    ) -> Result<(Commands, Matrix)> {
        self.loss_product(direction(weight), weight, call)
    }
}
