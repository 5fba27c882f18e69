//! `backward_sgd.wgsl`: stochastic gradient descent on the weight, straight from its gradient's sums.

use super::commands::Commands;
use super::core::Kernels;
use super::operands::View;
use super::product::Product;
use super::sgd::{SETTINGS, SgdState};
use super::strategy::BACKWARD_FORMS;
use super::weight_gradient::{ELEMENTS, Factors, WeightUpdate, update_bindings};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::shader::{self, MATRIX, PRODUCT, Shader, WEIGHT_GRADIENT, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "backward_sgd",
    sources: &[
        MATRIX,
        PRODUCT,
        WEIGHT_GRADIENT,
        shader::VALUE_AND_COPY,
        shader::SGD_RULE,
        shader::BACKWARD_SGD,
    ],
    forms: BACKWARD_FORMS,
    groups: &[&update_bindings(Parameters::FIELDS, SETTINGS)],
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
        has_momentum: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Arguments of [`Kernels::backward_sgd`].
#[derive(Debug, Clone, Copy)]
pub struct BackwardSgd<'a> {
    /// What the gradient is made of.
    pub factors: Factors<'a>,
    /// The weight W, \[hidden, inputs\]; its working copy, if it has one, is written too.
    pub value: &'a Matrix,
    /// The velocities of the set whose first parameter the weight is; `None` without momentum.
    pub state: Option<&'a SgdState>,
    /// A uniform buffer with the settings, as in [`Kernels::sgd`].
    pub settings: &'a wgpu::Buffer,
}

impl Kernels {
    /// A step of stochastic gradient descent on the weight with the gradient Hᵀ·dA + dZᵀ·X, which is never written; the same
    /// numbers as [`Kernels::backward`] and [`Kernels::sgd`] give. The other parameters of the set take
    /// their step by [`Kernels::sgd_rest`].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`]; [`Error::Shape`](crate::Error::Shape) where the state's first
    /// parameter has another shape.
    pub fn backward_sgd(&self, call: &BackwardSgd<'_>) -> Result<Commands> {
        if let Some(state) = call.state {
            state.set().expect_first(call.value)?;
        }
        let state = [call.state.map(|state| state.set().matrix()), None];
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
                has_momentum: u32::from(state[0].is_some()),
                padding_0: 0,
                padding_1: 0,
                padding_2: 0,
            },
        )
    }
}
