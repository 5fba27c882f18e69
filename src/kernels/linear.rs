//! What encode and decode share: arguments, uniform and preparation (`linear.wgsl`).

use super::activation::{Activation, needed_saved};
use super::commands::Commands;
use super::core::{Call, Kernels};
use super::operands::View;
use super::tile::{iterations, tiles};
use super::weight::Weight;
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape, expect_shape_if_given};
use crate::shader::{Access, Binding, Override, Shader, uniform};

/// Values of `EPILOGUE`.
const ACTIVATE: f64 = 0.0;
const SLOPE: f64 = 1.0;

pub(super) const OPERAND_GROUP: &[Binding] = &[
    Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
    Binding { name: "input", access: Access::Read },
    Binding { name: "bias", access: Access::ReadValues },
    Binding { name: "saved", access: Access::Read },
    Binding { name: "extra", access: Access::Read },
    Binding { name: "output", access: Access::Write },
    Binding { name: "preactivation", access: Access::Write },
];

pub(super) const OVERRIDES: &[Override] = &[
    Override { name: "ACTIVATION", values: Activation::ALL.len() as u32 },
    Override { name: "EPILOGUE", values: 2 },
];

uniform! {
    struct Parameters {
        weight: View,
        input: View,
        bias: View,
        saved: View,
        extra: View,
        output: View,
        preactivation: View,
        groups_wide: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Arguments of a forward product: output = f(product + bias).
///
/// The product is [`Kernels::encode`]'s or [`Kernels::decode`]'s, which state the shapes.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// What is multiplied with the weight: one row a sample.
    pub input: &'a Matrix,
    /// Added to every row of the product: 1 × columns of the output.
    pub bias: Option<&'a Matrix>,
    /// f.
    pub activation: Activation,
    /// Where the result goes.
    pub output: &'a Matrix,
    /// Where product + bias goes too, in the output's shape, for an activation whose derivative
    /// needs it ([`Activation::needs_preactivation`]).
    pub preactivation: Option<&'a Matrix>,
}

impl<'a> Linear<'a> {
    /// The bare product of `input` and the weight, into `output`.
    pub fn new(input: &'a Matrix, output: &'a Matrix) -> Self {
        Self { input, bias: None, activation: Activation::Identity, output, preactivation: None }
    }

    /// Sets [`Linear::bias`].
    pub fn with_bias(mut self, bias: Option<&'a Matrix>) -> Self {
        self.bias = bias;
        self
    }

    /// Sets [`Linear::activation`].
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets [`Linear::preactivation`].
    pub fn with_preactivation(mut self, preactivation: Option<&'a Matrix>) -> Self {
        self.preactivation = preactivation;
        self
    }
}

/// Arguments of a gradient that goes back through the weight: output = (product + extra) ⊙ f′.
///
/// The product is [`Kernels::code_gradient`]'s or [`Kernels::input_gradient`]'s, which state the
/// shapes.
#[derive(Debug, Clone, Copy)]
pub struct Gradient<'a> {
    /// The gradient that is multiplied with the weight: one row a sample.
    pub delta: &'a Matrix,
    /// A gradient from elsewhere, added to the product, such as a sparsity penalty's; in the
    /// output's shape.
    pub extra: Option<&'a Matrix>,
    /// f, whose derivative the sum is multiplied with.
    pub activation: Activation,
    /// What f′ is computed from, in the output's shape: f's output, or its input where
    /// [`Activation::needs_preactivation`]. Not needed for the identity.
    pub saved: Option<&'a Matrix>,
    /// Where the result goes.
    pub output: &'a Matrix,
}

impl<'a> Gradient<'a> {
    /// The bare product of `delta` and the weight, into `output`.
    pub fn new(delta: &'a Matrix, output: &'a Matrix) -> Self {
        Self { delta, extra: None, activation: Activation::Identity, saved: None, output }
    }

    /// Sets [`Gradient::extra`].
    pub fn with_extra(mut self, extra: Option<&'a Matrix>) -> Self {
        self.extra = extra;
        self
    }

    /// Sets [`Gradient::activation`] and [`Gradient::saved`].
    pub fn through(mut self, activation: Activation, saved: Option<&'a Matrix>) -> Self {
        self.activation = activation;
        self.saved = saved;
        self
    }
}

impl Kernels {
    /// A forward product; `lengths` are the weight's dimensions as (reduction, output columns).
    pub(super) fn forward_product(
        &self,
        shader: &'static Shader,
        weight: &Weight,
        [depth, columns]: [u32; 2],
        call: &Linear<'_>,
    ) -> Result<Commands> {
        let batch = call.input.rows();
        expect_shape("input", call.input, [batch, depth])?;
        expect_shape("output", call.output, [batch, columns])?;
        expect_shape_if_given("bias", call.bias, [1, columns])?;
        expect_shape_if_given("preactivation", call.preactivation, [batch, columns])?;
        let operands =
            [Some(call.input), call.bias, None, None, Some(call.output), call.preactivation];
        self.product(shader, weight, operands, [call.activation.code(), ACTIVATE])
    }

    /// A product that takes a gradient back; `lengths` as above.
    pub(super) fn gradient_product(
        &self,
        shader: &'static Shader,
        weight: &Weight,
        [depth, columns]: [u32; 2],
        call: &Gradient<'_>,
    ) -> Result<Commands> {
        let batch = call.delta.rows();
        let saved = needed_saved(call.activation, call.saved)?;
        expect_shape("delta", call.delta, [batch, depth])?;
        expect_shape("output", call.output, [batch, columns])?;
        expect_shape_if_given("saved", saved, [batch, columns])?;
        expect_shape_if_given("extra", call.extra, [batch, columns])?;
        let operands = [Some(call.delta), None, saved, call.extra, Some(call.output), None];
        self.product(shader, weight, operands, [call.activation.code(), SLOPE])
            .map_err(|error| error.renamed(&[["input", "delta"]]))
    }

    fn product(
        &self,
        shader: &'static Shader,
        weight: &Weight,
        [input, bias, saved, extra, output, preactivation]: [Option<&Matrix>; 6],
        overrides: [f64; 2],
    ) -> Result<Commands> {
        weight.expect_device(self)?;
        self.expect_iterations(shader.name, input.map_or(0, |input| iterations(input.columns())))?;
        let weight_matrix = Some(weight.matrix());
        let operands = [weight_matrix, input, bias, saved, extra, output, preactivation];
        let operands = self.check(shader, operands)?;
        let [weight_view, input, bias, saved, extra, output_view, preactivation] = operands.views;
        let tiles = output.map_or(0, tiles);
        let workgroups = self.workgroups(shader, tiles)?;
        let parameters = Parameters {
            weight: weight_view,
            input,
            bias,
            saved,
            extra,
            output: output_view,
            preactivation,
            groups_wide: workgroups[0],
            padding_0: 0,
            padding_1: 0,
            padding_2: 0,
        };
        let call = Call::new(shader, &parameters, workgroups)
            .with_overrides(&overrides)
            .with_first_group(weight.bind_group());
        self.prepare(&operands, &call)
    }
}
