//! `backward.wgsl`: the gradient of the tied weight, both contributions in one dispatch.

use super::accumulate::Accumulate;
use super::commands::Commands;
use super::core::Kernels;
use super::operands::View;
use super::product::{Product, ProductCall};
use super::strategy::BACKWARD_FORMS;
use super::weight_gradient::Factors;
use crate::error::Result;
use crate::matrix::Matrix;
use crate::shader::{
    Access, BACKWARD, Binding, MATRIX, PRODUCT, Shader, WEIGHT_GRADIENT, elements, uniform,
};

pub(super) static SHADER: Shader = Shader {
    name: "backward",
    sources: &[MATRIX, PRODUCT, WEIGHT_GRADIENT, BACKWARD],
    forms: BACKWARD_FORMS,
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "code", access: Access::Read },
        Binding { name: "output_delta", access: Access::Read },
        Binding { name: "code_delta", access: Access::Read },
        Binding { name: "input", access: Access::Read },
        Binding { name: "gradient", access: Access::Write },
        Binding { name: "scratch", access: Access::WriteValues },
    ]],
    overrides: &[],
    elements: elements! {
        "code": "CODE_ELEMENT",
        "output_delta": "OUTPUT_DELTA_ELEMENT",
        "code_delta": "CODE_DELTA_ELEMENT",
        "input": "INPUT_ELEMENT",
        "gradient": "GRADIENT_ELEMENT",
    },
};

uniform! {
    struct Parameters {
        code: View,
        output_delta: View,
        code_delta: View,
        input: View,
        gradient: View,
        product: Product,
        add: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Which uses of the weight its gradient counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Contributions {
    /// Hᵀ·dA + dZᵀ·X: the whole gradient of a weight that is used twice.
    #[default]
    Both,
    /// dZᵀ·X alone, as if the decoder used `w.detach().t()`.
    Encoder,
    /// Hᵀ·dA alone, as if the encoder used `w.detach()`.
    Decoder,
}

/// Arguments of [`Kernels::backward`]. All may be of any [`ElementType`](crate::ElementType), each of its
/// own.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// H, \[batch, hidden\]: the code, output of encode.
    pub code: &'a Matrix,
    /// dA, \[batch, inputs\]: the gradient by decode's pre-activation.
    pub output_delta: &'a Matrix,
    /// dZ, \[batch, hidden\]: the gradient by encode's pre-activation.
    pub code_delta: &'a Matrix,
    /// X, \[batch, inputs\]: the input of encode.
    pub input: &'a Matrix,
    /// dW, \[hidden, inputs\]: where the gradient goes.
    pub gradient: &'a Matrix,
    /// Which uses of the weight count. An operand that only the other use needs is not read.
    pub contributions: Contributions,
    /// Whether to overwrite or to add.
    pub accumulate: Accumulate,
}

/// A weight gradient whose reduction was split, with its parts still to be added up: what
/// [`Kernels::backward_in_parts`] leaves to [`Kernels::column_sums`].
#[derive(Debug, Clone)]
pub struct GradientParts<'a> {
    /// \[part\]\[row\]\[column\], rows padded to whole quads, in one row.
    pub(super) parts: Matrix,
    pub(super) count: u32,
    pub(super) gradient: &'a Matrix,
    pub(super) accumulate: Accumulate,
}

/// What becomes of the parts of a split reduction.
#[derive(Clone, Copy)]
enum Parts {
    Combined,
    Left,
}

impl Kernels {
    /// dW (+)= Hᵀ·dA + dZᵀ·X: the whole gradient of the tied weight, in one dispatch and one store.
    /// (With a split reduction the parts take a second dispatch.)
    ///
    /// An empty batch writes zeros in the mode [`Accumulate::Overwrite`] and adds nothing in the
    /// mode [`Accumulate::Add`].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn backward(&self, call: &Backward<'_>) -> Result<Commands> {
        Ok(self.weight_gradient(call, Parts::Combined)?.0)
    }

    /// As [`Kernels::backward`], but with a split reduction the parts are left to be added up by
    /// [`Kernels::column_sums`], which may have other work to do in the same dispatch. `None` where
    /// there is nothing left to add.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn backward_in_parts<'a>(
        &self,
        call: &Backward<'a>,
    ) -> Result<(Commands, Option<GradientParts<'a>>)> {
        self.weight_gradient(call, Parts::Left)
    }

    fn weight_gradient<'a>(
        &self,
        call: &Backward<'a>,
        parts: Parts,
    ) -> Result<(Commands, Option<GradientParts<'a>>)> {
        let &Backward { code, output_delta, code_delta, input, contributions, .. } = call;
        let factors = Factors { code, output_delta, code_delta, input, contributions };
        let plan = self.gradient_plan(factors.expect_shapes("gradient", call.gradient)?);
        let scratch = self.scratch(&plan, 0)?;
        let [code, output_delta, code_delta, input] = factors.operands();
        let gradient = Some(call.gradient);
        let operands = [code, output_delta, code_delta, input, gradient, scratch.as_ref()];
        let operands = self.check(&SHADER, operands)?;
        if call.code.rows() == 0 && call.accumulate == Accumulate::Add {
            return Ok((Commands::default(), None));
        }
        let [code, output_delta, code_delta, input, gradient, _] = operands.views;
        let parameters = |product| Parameters {
            code,
            output_delta,
            code_delta,
            input,
            gradient,
            product,
            add: call.accumulate.flag(),
            padding_0: 0,
            padding_1: 0,
            padding_2: 0,
        };
        let product = ProductCall {
            shader: &SHADER,
            operands: &operands,
            first_group: None,
            overrides: &[],
            settings: None,
            loss_scale: None,
        };
        if let (Parts::Left, Some(count), Some(parts)) = (parts, plan.parts(), &scratch) {
            let &Backward { gradient, accumulate, .. } = call;
            let left = GradientParts { parts: parts.clone(), count, gradient, accumulate };
            return Ok((self.multiply_parts(&plan, &product, parameters)?, Some(left)));
        }
        Ok((self.multiply(&plan, &product, parameters)?, None))
    }
}
