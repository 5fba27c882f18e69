//! `squared_error.wgsl`: the squared error and its gradient.

use super::commands::Commands;
use super::core::Kernels;
use super::loss::{BYTES, ELEMENTS, GROUPS, INVOCATIONS, LossGradient, OVERRIDES};
use crate::error::Result;
use crate::shader::{ACTIVATION, Form, LOSS, MATRIX, MEASURE, SCALE, SQUARED_ERROR, Shader};

pub(super) static SHADER: Shader = Shader {
    name: "squared_error",
    sources: &[MATRIX, ACTIVATION, LOSS, SCALE, MEASURE, SQUARED_ERROR],
    forms: &[&Form::only(INVOCATIONS, BYTES)],
    groups: GROUPS,
    overrides: OVERRIDES,
    elements: ELEMENTS,
};

impl Kernels {
    /// Σ (prediction − target)², or its mean, and its gradient: PyTorch's
    /// [`MSELoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html).
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn squared_error(&self, call: &LossGradient<'_>) -> Result<Commands> {
        self.loss(&SHADER, call)
    }
}
