//! `activation_gradient.wgsl`: a gradient taken back through an activation.

use super::activation::{Activation, needed_saved};
use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::{INVOCATIONS, groups};
use super::operands::View;
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape, expect_shape_if_given};
use crate::shader::{self, Access, Binding, Form, MATRIX, Shader, elements, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "activation_gradient",
    sources: &[MATRIX, shader::ACTIVATION, shader::ACTIVATION_GRADIENT],
    forms: &[&Form::only(INVOCATIONS, 0)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "gradient", access: Access::Read },
        Binding { name: "saved", access: Access::Read },
        Binding { name: "delta", access: Access::Write },
    ]],
    overrides: &[Activation::OVERRIDE],
    elements: elements! {
        "gradient": "GRADIENT_ELEMENT",
        "saved": "SAVED_ELEMENT",
        "delta": "DELTA_ELEMENT",
    },
};

uniform! {
    struct Parameters {
        gradient: View,
        saved: View,
        delta: View,
        groups_wide: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Arguments of [`Kernels::activation_gradient`]; all matrices have one shape. Each may be of any
/// [`ElementType`](crate::ElementType) of its own.
#[derive(Debug, Clone, Copy)]
pub struct ActivationGradient<'a> {
    /// The gradient by the activation's output, such as dY.
    pub gradient: &'a Matrix,
    /// The activation.
    pub activation: Activation,
    /// What its derivative is computed from: its output, or its input where
    /// [`Activation::needs_preactivation`]. Not needed for the identity.
    pub saved: Option<&'a Matrix>,
    /// Where the gradient by the activation's input goes, such as dA.
    pub delta: &'a Matrix,
}

impl Kernels {
    /// dA = dY ⊙ g′: for a gradient dY that the caller's own loss made. The library's losses do
    /// this themselves.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn activation_gradient(&self, call: &ActivationGradient<'_>) -> Result<Commands> {
        let shape = call.delta.shape();
        let saved = needed_saved(call.activation, call.saved)?;
        expect_shape("gradient", call.gradient, shape)?;
        expect_shape_if_given("saved", saved, shape)?;
        let operands = self.check(&SHADER, [Some(call.gradient), saved, Some(call.delta)])?;
        let workgroups = self.workgroups(&SHADER, groups(call.delta))?;
        let [gradient, saved, delta] = operands.views;
        let parameters = Parameters {
            gradient,
            saved,
            delta,
            groups_wide: workgroups[0],
            padding_0: 0,
            padding_1: 0,
            padding_2: 0,
        };
        let overrides = [call.activation.code()];
        let call = Call::new(&SHADER, &parameters, workgroups).with_overrides(&overrides);
        self.prepare(&operands, &call)
    }
}
