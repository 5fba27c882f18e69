//! `bias_gradient.wgsl`: the gradient of a bias, a sum over the batch.

use super::accumulate::Accumulate;
use super::commands::Commands;
use super::core::{Call, Kernels};
use super::operands::View;
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{self, Access, Binding, Form, MATRIX, Shader, uniform};

/// Columns that a workgroup sums.
const COLUMNS: u64 = 64;

/// Rows that it sums in a loop iteration, and iterations of its tree at most.
const ROWS: u64 = 128;
const TREE: u64 = 8;

pub(super) static SHADER: Shader = Shader {
    name: "bias_gradient",
    sources: &[MATRIX, shader::BIAS_GRADIENT],
    forms: &[&Form::only(256, 256 * 16)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "delta", access: Access::Read },
        Binding { name: "gradient", access: Access::WriteValues },
    ]],
    overrides: &[],
};

uniform! {
    struct Parameters {
        delta: View,
        gradient: View,
        add: u32,
        groups_wide: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Arguments of [`Kernels::bias_gradient`].
#[derive(Debug, Clone, Copy)]
pub struct BiasGradient<'a> {
    /// The gradient by the pre-activation that the bias was added to, \[batch, columns\].
    pub delta: &'a Matrix,
    /// Where its sum over the batch goes, \[1, columns\].
    pub gradient: &'a Matrix,
    /// Whether to overwrite or to add.
    pub accumulate: Accumulate,
}

impl Kernels {
    /// db (+)= Σ_batch dZ, or dc from dA.
    ///
    /// An empty batch writes zeros in the mode [`Accumulate::Overwrite`] and adds nothing in the
    /// mode [`Accumulate::Add`].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn bias_gradient(&self, call: &BiasGradient<'_>) -> Result<Commands> {
        let [batch, columns] = call.delta.shape();
        expect_shape("gradient", call.gradient, [1, columns])?;
        self.expect_iterations(SHADER.name, u64::from(batch).div_ceil(ROWS) + TREE)?;
        let operands = self.check(&SHADER, [Some(call.delta), Some(call.gradient)])?;
        let nothing_to_add = batch == 0 && call.accumulate == Accumulate::Add;
        let groups = if nothing_to_add { 0 } else { u64::from(columns).div_ceil(COLUMNS) };
        let workgroups = self.workgroups(&SHADER, groups)?;
        let [delta, gradient] = operands.views;
        let parameters = Parameters {
            delta,
            gradient,
            add: call.accumulate.flag(),
            groups_wide: workgroups[0],
            padding_0: 0,
            padding_1: 0,
        };
        let call = Call::new(&SHADER, &parameters, workgroups);
        self.prepare(&operands, &call)
    }
}
