//! `sum.wgsl`: the last pass of a loss.

use super::commands::Commands;
use super::core::{Call, Kernels};
use super::operands::View;
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{self, Access, Binding, Form, Shader, uniform};

/// Values that the workgroup adds in a loop iteration, and iterations of its tree at most.
const VALUES: u64 = 2048;
const TREE: u64 = 8;

pub(super) static SHADER: Shader = Shader {
    name: "sum",
    sources: &[shader::MATRIX, shader::SUM],
    forms: &[&Form::only(256, 256 * 4)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "partials", access: Access::ReadValues },
        Binding { name: "total", access: Access::WriteValues },
    ]],
    overrides: &[],
};

uniform! {
    struct Parameters {
        partials: View,
        total: View,
        scale: f32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Arguments of [`Kernels::sum`].
#[derive(Debug, Clone, Copy)]
pub struct Sum<'a> {
    /// The values to add up, \[1, count\].
    pub partials: &'a Matrix,
    /// What the sum is multiplied with.
    pub scale: f32,
    /// Where it goes, \[1, 1\].
    pub total: &'a Matrix,
}

impl Kernels {
    /// total = scale·Σ partials, in a fixed order; zero for no partials.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn sum(&self, call: &Sum<'_>) -> Result<Commands> {
        expect_shape("partials", call.partials, [1, call.partials.columns()])?;
        expect_shape("total", call.total, [1, 1])?;
        let count = u64::from(call.partials.columns());
        self.expect_iterations(SHADER.name, count.div_ceil(VALUES) + TREE)?;
        let operands = self.check(&SHADER, [Some(call.partials), Some(call.total)])?;
        let [partials, total] = operands.views;
        let parameters = Parameters {
            partials,
            total,
            scale: call.scale,
            padding_0: 0,
            padding_1: 0,
            padding_2: 0,
        };
        let call = Call::new(&SHADER, &parameters, self.workgroups(&SHADER, 1)?);
        self.prepare(&operands, &call)
    }
}
