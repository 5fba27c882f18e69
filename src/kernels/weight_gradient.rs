//! What the kernels on `weight_gradient.wgsl` share: the four operands of the tied weight's gradient.

use super::backward::Contributions;
use super::commands::Commands;
use super::core::Kernels;
use super::operands::{COPY, View};
use super::product::{Plan, Product, ProductCall};
use super::strategy::{Pattern, ProductShape};
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{Access, Binding, Element, Field, Shader, VALUE, elements};

/// What the weight's gradient Hᵀ·dA + dZᵀ·X is made of. All may be of any
/// [`ElementType`](crate::ElementType), each of its own.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// H, \[batch, hidden\]: the code, output of encode.
    pub code: &'a Matrix,
    /// dA, \[batch, inputs\]: the gradient by decode's pre-activation.
    pub output_delta: &'a Matrix,
    /// dZ, \[batch, hidden\]: the gradient by encode's pre-activation.
    pub code_delta: &'a Matrix,
    /// X, \[batch, inputs\]: the input of encode.
    pub input: &'a Matrix,
    /// Which uses of the weight count. An operand that only the other use needs is not read.
    pub contributions: Contributions,
}

/// The factors' elements, and those of the working copy of the weight that is updated.
pub(super) const ELEMENTS: &[Element] = elements! {
    "code": "CODE_ELEMENT",
    "output_delta": "OUTPUT_DELTA_ELEMENT",
    "code_delta": "CODE_DELTA_ELEMENT",
    "input": "INPUT_ELEMENT",
    COPY: "COPY_ELEMENT",
};

/// The bindings of a kernel that updates the weight with its gradient.
pub(super) const fn update_bindings(
    parameters: &'static [Field],
    settings: &'static [Field],
) -> [Binding; 9] {
    [
        Binding { name: "parameters", access: Access::Uniform(parameters) },
        Binding { name: "settings", access: Access::Uniform(settings) },
        Binding { name: "code", access: Access::Read },
        Binding { name: "output_delta", access: Access::Read },
        Binding { name: "code_delta", access: Access::Read },
        Binding { name: "input", access: Access::Read },
        Binding { name: VALUE, access: Access::Write },
        Binding { name: "state", access: Access::WriteValues },
        Binding { name: "scratch", access: Access::WriteValues },
    ]
}

/// The same with second moments.
pub(super) const fn update_bindings_with_second(
    parameters: &'static [Field],
    settings: &'static [Field],
) -> [Binding; 10] {
    let [a, b, c, d, e, f, g, h, i] = update_bindings(parameters, settings);
    [a, b, c, d, e, f, g, h, i, Binding { name: "second_moments", access: Access::WriteValues }]
}

/// A kernel that updates the weight with its gradient.
pub(super) struct WeightUpdate<'a> {
    pub(super) shader: &'static Shader,
    pub(super) factors: &'a Factors<'a>,
    pub(super) value: &'a Matrix,
    pub(super) state: [Option<&'a Matrix>; 2],
    pub(super) settings: &'a wgpu::Buffer,
}

impl<'a> Factors<'a> {
    /// Batch, inputs and hidden, where the shapes fit each other and `result` \[hidden, inputs\].
    pub(super) fn expect_shapes(&self, name: &'static str, result: &Matrix) -> Result<[u32; 3]> {
        let [batch, hidden] = self.code.shape();
        let inputs = self.input.columns();
        expect_shape("output_delta", self.output_delta, [batch, inputs])?;
        expect_shape("code_delta", self.code_delta, [batch, hidden])?;
        expect_shape("input", self.input, [batch, inputs])?;
        expect_shape(name, result, [hidden, inputs])?;
        Ok([batch, inputs, hidden])
    }

    /// Those that are read: code, output_delta, code_delta, input.
    pub(super) fn operands(&self) -> [Option<&'a Matrix>; 4] {
        let decoder = self.contributions != Contributions::Encoder;
        let encoder = self.contributions != Contributions::Decoder;
        [
            decoder.then_some(self.code),
            decoder.then_some(self.output_delta),
            encoder.then_some(self.code_delta),
            encoder.then_some(self.input),
        ]
    }
}

impl Kernels {
    /// How the weight's gradient is computed.
    pub(super) fn gradient_plan(&self, [batch, inputs, hidden]: [u32; 3]) -> Plan {
        let pattern = Pattern::Backward;
        self.plan(ProductShape { pattern, rows: hidden, columns: inputs, depth: batch }, 2)
    }

    /// The dispatches of a kernel that updates the weight with its gradient. `parameters` makes its
    /// uniform of the views of code, output_delta, code_delta, input, value and its working copy.
    pub(super) fn update_weight<P: bytemuck::Pod>(
        &self,
        call: &WeightUpdate<'_>,
        parameters: impl Fn([View; 6], Product) -> P,
    ) -> Result<Commands> {
        let plan = self.gradient_plan(call.factors.expect_shapes("value", call.value)?);
        let scratch = self.scratch(&plan, 0)?;
        let [code, output_delta, code_delta, input] = call.factors.operands();
        let value = Some(call.value);
        let [state, second] = call.state;
        // A kernel without second moments has no binding for the last.
        let operands =
            [code, output_delta, code_delta, input, value, state, scratch.as_ref(), second];
        let operands = self.check(call.shader, operands)?;
        let [code, output_delta, code_delta, input, value, _, _, _] = operands.views;
        let views = [code, output_delta, code_delta, input, value, operands.copy];
        let product = ProductCall {
            shader: call.shader,
            operands: &operands,
            first_group: None,
            overrides: &[],
            settings: Some(call.settings),
            loss_scale: None,
        };
        self.multiply(&plan, &product, |product| parameters(views, product))
    }
}
