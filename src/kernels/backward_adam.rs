//! `backward_adam.wgsl`: Adam or AdamW on the weight, straight from its gradient's sums.

use super::adam::{AdamState, SETTINGS};
use super::commands::Commands;
use super::core::Kernels;
use super::operands::View;
use super::product::Product;
use super::strategy::BACKWARD_FORMS;
use super::weight_gradient::{ELEMENTS, Factors, WeightUpdate, update_bindings_with_second};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::shader::{self, MATRIX, PRODUCT, Shader, WEIGHT_GRADIENT, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "backward_adam",
    sources: &[
        MATRIX,
        PRODUCT,
        WEIGHT_GRADIENT,
        shader::VALUE_AND_COPY,
        shader::ADAM_RULE,
        shader::BACKWARD_ADAM,
    ],
    forms: BACKWARD_FORMS,
    groups: &[&update_bindings_with_second(Parameters::FIELDS, SETTINGS)],
    overrides: &[],
    elements: ELEMENTS,
};

uniform! {
    struct Parameters {
        code: View,
        output_delta: View,
        code_delta: View,
        input: View,
        value: View,
        copy: View,
        product: Product,
        units: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Arguments of [`Kernels::backward_adam`].
#[derive(Debug, Clone, Copy)]
pub struct BackwardAdam<'a> {
    /// What the gradient is made of.
    pub factors: Factors<'a>,
    /// The weight W, \[hidden, inputs\]; its working copy, if it has one, is written too.
    pub value: &'a Matrix,
    /// The state of the set whose first parameter the weight is.
    pub state: &'a AdamState,
    /// A uniform buffer with the settings, as in [`Kernels::adam`].
    pub settings: &'a wgpu::Buffer,
}

impl Kernels {
    /// A step of Adam or AdamW on the weight with the gradient Hᵀ·dA + dZᵀ·X, which is never written; the same
    /// numbers as [`Kernels::backward`] and [`Kernels::adam`] give. The other parameters of the set take
    /// their step by [`Kernels::adam_rest`], which also raises the weight's step count: record it after this.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`]; [`Error::Shape`](crate::Error::Shape) where the state's first
    /// parameter has another shape.
    pub fn backward_adam(&self, call: &BackwardAdam<'_>) -> Result<Commands> {
        let set = call.state.set();
        set.expect_first(call.value)?;
        let (state, units) =
            ([Some(set.matrix()), Some(call.state.second().matrix())], set.units() as u32);
        let update = WeightUpdate {
            shader: &SHADER,
            factors: &call.factors,
            value: call.value,
            state,
            settings: call.settings,
        };
        self.update_weight(
            &update,
            |[code, output_delta, code_delta, input, value, copy], product| Parameters {
                code,
                output_delta,
                code_delta,
                input,
                value,
                copy,
                product,
                units,
                padding_0: 0,
                padding_1: 0,
                padding_2: 0,
            },
        )
    }
}
