//! `cross_entropy.wgsl`: the binary cross-entropy of logits and its gradient.

use super::commands::Commands;
use super::core::Kernels;
use super::loss::{BYTES, ELEMENTS, GROUPS, INVOCATIONS, LossGradient, OVERRIDES};
use crate::error::Result;
use crate::shader::{ACTIVATION, CROSS_ENTROPY, Form, LOSS, MATRIX, MEASURE, SCALE, Shader};

pub(super) static SHADER: Shader = Shader {
    name: "cross_entropy",
    sources: &[MATRIX, ACTIVATION, LOSS, SCALE, MEASURE, CROSS_ENTROPY],
    forms: &[&Form::only(INVOCATIONS, BYTES)],
    groups: GROUPS,
    overrides: OVERRIDES,
    elements: ELEMENTS,
};

impl Kernels {
    /// The binary cross-entropy of logits, Σ max(p, 0) − p·t + ln(1 + e^−|p|), or its mean, and its
    /// gradient σ(p) − t by the logits: PyTorch's
    /// [`BCEWithLogitsLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html). Targets lie in 0 … 1.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn cross_entropy(&self, call: &LossGradient<'_>) -> Result<Commands> {
        self.loss(&SHADER, call)
    }
}
