//! What encode and decode share: arguments, uniform and preparation (`linear.wgsl`).

use super::activation::{Activation, needed_saved};
use super::commands::Commands;
use super::core::Kernels;
use super::loss::{Loss, Reduction};
use super::loss_scale::{self, LossScale};
use super::operands::View;
use super::product::{Product, ProductCall};
use super::strategy::{Pattern, ProductShape};
use super::weight::Weight;
use crate::error::Result;
use crate::matrix::{Layout, Matrix, expect_shape, expect_shape_if_given};
use crate::shader::{Access, Binding, Element, Override, Shader, elements, uniform};

/// Values of `EPILOGUE`.
const ACTIVATE: f64 = 0.0;
const SLOPE: f64 = 1.0;
const SQUARED_ERROR: f64 = 2.0;
const CROSS_ENTROPY: f64 = 3.0;

pub(super) const OPERAND_GROUP: &[Binding] = &[
    Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
    Binding { name: "input", access: Access::Read },
    Binding { name: "bias", access: Access::ReadValues },
    Binding { name: "saved", access: Access::Read },
    Binding { name: "extra", access: Access::Read },
    Binding { name: "output", access: Access::Write },
    Binding { name: "preactivation", access: Access::Write },
    Binding { name: "scratch", access: Access::WriteValues },
    loss_scale::BINDING,
];

/// Of encode, which ends in no loss, and of decode.
pub(super) const OVERRIDES: &[Override] =
    &[Activation::OVERRIDE, Override::free("EPILOGUE", &[0, 1]), GIVEN];
pub(super) const OVERRIDES_WITH_LOSSES: &[Override] =
    &[Activation::OVERRIDE, Override::free("EPILOGUE", &[0, 1, 2, 3]), GIVEN];

pub(super) const ELEMENTS: &[Element] = elements! {
    "weight": "WEIGHT_ELEMENT",
    "input": "INPUT_ELEMENT",
    "saved": "SAVED_ELEMENT",
    "extra": "EXTRA_ELEMENT",
    "output": "OUTPUT_ELEMENT",
    "preactivation": "PREACTIVATION_ELEMENT",
};

const GIVEN: Override = Override::free("GIVEN", &[0, 1]);

uniform! {
    struct Parameters {
        weight: View,
        input: View,
        bias: View,
        saved: View,
        extra: View,
        output: View,
        preactivation: View,
        product: Product,
        scale: f32,
        losses: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Arguments of a forward product: output = f(product + bias).
///
/// The product is [`Kernels::encode`]'s or [`Kernels::decode`]'s, which state the shapes. All but the bias may
/// be of any [`ElementType`](crate::ElementType), each of its own, and so may the weight.
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
/// shapes. All may be of any [`ElementType`](crate::ElementType), each of its own, and so may the weight.
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

/// Arguments of a forward product that ends in a loss: output = scale·ℓ′(y, target) ⊙ f′ with
/// y = f(product + bias), which is not kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LossProduct<'a> {
    /// The product; its output takes the gradient by the pre-activation.
    pub(crate) linear: Linear<'a>,
    /// In the output's shape.
    pub(crate) target: &'a Matrix,
    pub(crate) loss: Loss,
    pub(crate) reduction: Reduction,
    pub(crate) loss_scale: Option<&'a LossScale>,
}

/// What the kernels that share `linear.wgsl` differ in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direction {
    pub(super) shader: &'static Shader,
    pub(super) pattern: Pattern,
    /// The weight's dimensions: the reduction, and the output's columns.
    pub(super) lengths: [u32; 2],
}

/// The operands of a product, by their names in `linear.wgsl`, and what is done with the sums.
struct Operation<'a> {
    input: &'a Matrix,
    bias: Option<&'a Matrix>,
    saved: Option<&'a Matrix>,
    extra: Option<&'a Matrix>,
    output: &'a Matrix,
    preactivation: Option<&'a Matrix>,
    activation: Activation,
    epilogue: f64,
    scale: f32,
    loss_scale: Option<&'a LossScale>,
}

impl Operation<'_> {
    /// Whether there is the optional matrix of the epilogue.
    fn is_given(&self) -> bool {
        let is_there = |matrix: Option<&Matrix>| matrix.is_some_and(|matrix| !matrix.is_empty());
        match self.epilogue {
            ACTIVATE => is_there(self.preactivation),
            SLOPE => is_there(self.extra),
            _ => false,
        }
    }

    fn has_losses(&self) -> bool {
        self.epilogue == SQUARED_ERROR || self.epilogue == CROSS_ENTROPY
    }
}

impl Kernels {
    /// A forward product.
    pub(super) fn forward_product(
        &self,
        direction: Direction,
        weight: &Weight,
        call: &Linear<'_>,
    ) -> Result<Commands> {
        expect_forward_shapes(direction, call)?;
        let operation = Operation {
            input: call.input,
            bias: call.bias,
            saved: None,
            extra: None,
            output: call.output,
            preactivation: call.preactivation,
            activation: call.activation,
            epilogue: ACTIVATE,
            scale: 1.0,
            loss_scale: None,
        };
        Ok(self.product(direction, weight, &operation)?.0)
    }

    /// A forward product that ends in a loss, and the loss's values, to be added up and scaled.
    pub(super) fn loss_product(
        &self,
        direction: Direction,
        weight: &Weight,
        call: &LossProduct<'_>,
    ) -> Result<(Commands, Matrix)> {
        let linear = &call.linear;
        expect_forward_shapes(direction, linear)?;
        expect_shape("target", call.target, linear.output.shape())?;
        let operation = Operation {
            input: linear.input,
            bias: linear.bias,
            saved: None,
            extra: Some(call.target),
            output: linear.output,
            preactivation: None,
            activation: linear.activation,
            epilogue: match call.loss {
                Loss::SquaredError => SQUARED_ERROR,
                Loss::BinaryCrossEntropy => CROSS_ENTROPY,
            },
            scale: call.reduction.scale(linear.output.len()),
            loss_scale: call.loss_scale,
        };
        let product = self.product(direction, weight, &operation);
        let (commands, losses) = product.map_err(|error| error.renamed(&[["extra", "target"]]))?;
        let losses = match losses {
            Some(losses) => losses,
            None => self.zeros("losses", 1, 0)?,
        };
        Ok((commands, losses))
    }

    /// A product that takes a gradient back.
    pub(super) fn gradient_product(
        &self,
        direction: Direction,
        weight: &Weight,
        call: &Gradient<'_>,
    ) -> Result<Commands> {
        let [depth, columns] = direction.lengths;
        let batch = call.delta.rows();
        let saved = needed_saved(call.activation, call.saved)?;
        expect_shape("delta", call.delta, [batch, depth])?;
        expect_shape("output", call.output, [batch, columns])?;
        expect_shape_if_given("saved", saved, [batch, columns])?;
        expect_shape_if_given("extra", call.extra, [batch, columns])?;
        let operation = Operation {
            input: call.delta,
            bias: None,
            saved,
            extra: call.extra,
            output: call.output,
            preactivation: None,
            activation: call.activation,
            epilogue: SLOPE,
            scale: 1.0,
            loss_scale: None,
        };
        let product = self.product(direction, weight, &operation);
        Ok(product.map_err(|error| error.renamed(&[["input", "delta"]]))?.0)
    }

    /// The dispatches of a product, and where the loss's values go if it has any.
    fn product(
        &self,
        direction: Direction,
        weight: &Weight,
        operation: &Operation<'_>,
    ) -> Result<(Commands, Option<Matrix>)> {
        weight.expect_device(self)?;
        let [rows, columns] = operation.output.shape();
        let [depth, _] = direction.lengths;
        let shape = ProductShape { pattern: direction.pattern, rows, columns, depth };
        let plan = self.plan(shape, 1);
        let losses = if operation.has_losses() { plan.last_invocations() } else { 0 };
        let scratch = self.scratch(&plan, losses)?;
        let weight_matrix = weight.matrix().working();
        let operands = [
            Some(&weight_matrix),
            Some(operation.input),
            operation.bias,
            operation.saved,
            operation.extra,
            Some(operation.output),
            operation.preactivation,
            scratch.as_ref(),
        ];
        let operands = self.check(direction.shader, operands)?;
        let [weight_view, input, bias, saved, extra, output, preactivation, _] = operands.views;
        let parameters = |product| Parameters {
            weight: weight_view,
            input,
            bias,
            saved,
            extra,
            output,
            preactivation,
            product,
            scale: operation.scale,
            losses: plan.scratch_quads() as u32,
            padding_0: 0,
            padding_1: 0,
        };
        let overrides =
            [operation.activation.code(), operation.epilogue, f64::from(operation.is_given())];
        let call = ProductCall {
            shader: direction.shader,
            operands: &operands,
            first_group: Some(weight.bind_group()),
            overrides: &overrides,
            settings: None,
            loss_scale: operation.loss_scale.map(LossScale::buffer),
        };
        let commands = self.multiply(&plan, &call, parameters)?;
        let losses = scratch.filter(|_| losses > 0).map(|scratch| {
            let layout = Layout {
                offset: 4 * plan.scratch_quads(),
                ..Layout::contiguous(1, 4 * losses as u32)
            };
            Matrix::view(scratch.buffer(), layout)
        });
        Ok((commands, losses.transpose()?))
    }
}

fn expect_forward_shapes(direction: Direction, call: &Linear<'_>) -> Result<()> {
    let [depth, columns] = direction.lengths;
    let batch = call.input.rows();
    expect_shape("input", call.input, [batch, depth])?;
    expect_shape("output", call.output, [batch, columns])?;
    expect_shape_if_given("bias", call.bias, [1, columns])?;
    expect_shape_if_given("preactivation", call.preactivation, [batch, columns])
}
