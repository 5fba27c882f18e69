//! What the losses share: arguments, uniform and preparation (`measure.wgsl`).

use super::activation::{Activation, needed_saved};
use super::column_sums::Sum;
use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::quads;
use super::loss_scale::{self, LossScale};
use super::operands::View;
use crate::error::{Error, Result};
use crate::matrix::{Matrix, expect_shape, expect_shape_if_given};
use crate::shader::{Access, Binding, Element, Override, Shader, elements, uniform};

/// Invocations of a workgroup, and bytes of workgroup memory, of every kernel on measure.wgsl.
pub(super) const INVOCATIONS: u32 = 256;
pub(super) const BYTES: u32 = 256 * 4;

/// Quads that an invocation takes before a further workgroup is worth it.
const QUADS_EACH: u64 = 4;

/// Most workgroups, and so most partial sums.
const MOST_GROUPS: u64 = 1024;

pub(super) const GROUPS: &[&[Binding]] = &[&[
    Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
    Binding { name: "prediction", access: Access::Read },
    Binding { name: "target_values", access: Access::Read },
    Binding { name: "saved", access: Access::Read },
    Binding { name: "delta", access: Access::Write },
    Binding { name: "partials", access: Access::WriteValues },
    loss_scale::BINDING,
]];

pub(super) const OVERRIDES: &[Override] = &[Activation::OVERRIDE];

pub(super) const ELEMENTS: &[Element] = elements! {
    "prediction": "PREDICTION_ELEMENT",
    "target_values": "TARGET_ELEMENT",
    "saved": "SAVED_ELEMENT",
    "delta": "DELTA_ELEMENT",
};

uniform! {
    struct Parameters {
        prediction: View,
        target_values: View,
        saved: View,
        delta: View,
        groups: u32,
        scale: f32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// What a prediction is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Loss {
    /// Squared error.
    #[default]
    SquaredError,
    /// Binary cross-entropy. The output is logits, so the decoder's activation must be the identity.
    BinaryCrossEntropy,
}

impl Loss {
    /// Passes for a loss of what a decoder with this activation gives.
    pub(crate) fn expect_decoder_activation(self, g: Activation) -> Result<()> {
        if self == Self::BinaryCrossEntropy && g != Activation::Identity {
            return Err(Error::Incompatible {
                what: "decoder_activation",
                reason: "the binary cross-entropy takes logits, so it must be the identity",
            });
        }
        Ok(())
    }
}

/// How a loss over many elements becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reduction {
    /// The mean over all elements (batch × inputs); zero for none.
    #[default]
    Mean,
    /// The sum over all elements.
    Sum,
}

impl Reduction {
    /// What the sum over `elements` elements is multiplied with.
    pub(crate) fn scale(self, elements: u64) -> f32 {
        match self {
            Self::Sum => 1.0,
            Self::Mean if elements == 0 => 0.0,
            Self::Mean => (1.0 / elements as f64) as f32,
        }
    }
}

/// Arguments of [`Kernels::squared_error`] and [`Kernels::cross_entropy`]. All but the loss, which is f32,
/// may be of any [`ElementType`](crate::ElementType), each of its own.
#[derive(Debug, Clone, Copy)]
pub struct LossGradient<'a> {
    /// The prediction, \[batch, inputs\]; logits for the cross-entropy.
    pub prediction: &'a Matrix,
    /// The target, in the prediction's shape.
    pub target: &'a Matrix,
    /// Mean or sum.
    pub reduction: Reduction,
    /// Where the loss goes, \[1, 1\]: it stays on the GPU until somebody reads it.
    pub loss: &'a Matrix,
    /// Where the gradient goes, in the prediction's shape: by the prediction, or with an
    /// [`activation`](Self::activation) by its input.
    pub delta: Option<&'a Matrix>,
    /// The activation that made the prediction, if the gradient is to go back through it.
    pub activation: Activation,
    /// What its derivative is computed from: its output, or its input where
    /// [`Activation::needs_preactivation`]. Not needed for the identity, or without `delta`.
    pub saved: Option<&'a Matrix>,
    /// What the gradient, but not the loss, is multiplied with.
    pub loss_scale: Option<&'a LossScale>,
}

impl<'a> LossGradient<'a> {
    /// The mean loss of `prediction` against `target`, into `loss`; no gradient.
    pub fn new(prediction: &'a Matrix, target: &'a Matrix, loss: &'a Matrix) -> Self {
        Self {
            prediction,
            target,
            reduction: Reduction::Mean,
            loss,
            delta: None,
            activation: Activation::Identity,
            saved: None,
            loss_scale: None,
        }
    }

    /// Sets [`LossGradient::reduction`].
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets [`LossGradient::delta`].
    pub fn with_delta(mut self, delta: Option<&'a Matrix>) -> Self {
        self.delta = delta;
        self
    }

    /// Sets [`LossGradient::loss_scale`].
    pub fn with_loss_scale(mut self, scale: Option<&'a LossScale>) -> Self {
        self.loss_scale = scale;
        self
    }

    /// Sets [`LossGradient::activation`] and [`LossGradient::saved`].
    pub fn through(mut self, activation: Activation, saved: Option<&'a Matrix>) -> Self {
        self.activation = activation;
        self.saved = saved;
        self
    }
}

impl Kernels {
    /// Two dispatches: the loss's own, then [`Kernels::sum`] of its partial sums.
    pub(super) fn loss(
        &self,
        shader: &'static Shader,
        call: &LossGradient<'_>,
    ) -> Result<Commands> {
        let shape = call.prediction.shape();
        let saved = match call.delta {
            Some(_) => needed_saved(call.activation, call.saved)?,
            None => None,
        };
        expect_shape("target", call.target, shape)?;
        expect_shape("loss", call.loss, [1, 1])?;
        expect_shape_if_given("delta", call.delta, shape)?;
        expect_shape_if_given("saved", saved, shape)?;
        let most = u64::from(self.limits().max_compute_workgroups_per_dimension).min(MOST_GROUPS);
        let each = QUADS_EACH * u64::from(INVOCATIONS);
        let groups = quads(call.prediction).div_ceil(each).min(most.max(1));
        // Whole words, the last of which the kernel leaves zero.
        let partials = self.zeros("partials", 1, groups.next_multiple_of(4) as u32)?;
        let operands =
            [Some(call.prediction), Some(call.target), saved, call.delta, Some(&partials)];
        let operands = self
            .check(shader, operands)
            .map_err(|error| error.renamed(&[["target_values", "target"]]))?;
        for (other, matrix) in [
            ("prediction", Some(call.prediction)),
            ("target", Some(call.target)),
            ("saved", saved),
            ("delta", call.delta),
        ] {
            let shared =
                |matrix: &Matrix| !matrix.is_empty() && matrix.buffer() == call.loss.buffer();
            if matrix.is_some_and(shared) {
                return Err(Error::Aliased { output: "loss", other });
            }
        }
        let [prediction, target_values, saved, delta, _] = operands.views;
        let scale = call.reduction.scale(call.prediction.len());
        let parameters = Parameters {
            prediction,
            target_values,
            saved,
            delta,
            groups: groups as u32,
            scale,
            padding_0: 0,
            padding_1: 0,
        };
        let activation = if call.delta.is_some() { call.activation } else { Activation::Identity };
        let overrides = [activation.code()];
        let workgroups = self.workgroups(shader, groups)?;
        let measure = Call::new(shader, &parameters, workgroups)
            .with_overrides(&overrides)
            .with_loss_scale(call.loss_scale.map(LossScale::buffer));
        let total = Sum { partials: &partials, scale, total: call.loss };
        let measure = self.prepare(&operands, &measure)?;
        let sum = self.sum(&total).map_err(|error| error.renamed(&[["total", "loss"]]))?;
        Ok(measure.then(sum))
    }
}
