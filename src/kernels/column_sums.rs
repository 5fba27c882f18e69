//! `column_sums.wgsl`: the gradients of both biases and the last pass of a loss, in one dispatch.

use super::accumulate::Accumulate;
use super::backward::GradientParts;
use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::groups;
use super::operands::View;
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{self, Access, Binding, Form, MATRIX, Shader, elements, uniform};

/// Columns of a delta that a workgroup sums.
const COLUMNS: u64 = 64;

/// Rows of a delta, and partial sums, that a workgroup takes in a loop iteration.
const ROWS: u64 = 64;
const VALUES: u64 = 4096;

/// Iterations of its tree, and of the other parts' loops, which a driver may enter once; some to spare.
const OTHERS: u64 = 8;

pub(super) static SHADER: Shader = Shader {
    name: "column_sums",
    sources: &[MATRIX, shader::COLUMN_SUMS],
    forms: &[&Form::only(256, 256 * 16)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "encoder_delta", access: Access::Read },
        Binding { name: "encoder_gradient", access: Access::WriteValues },
        Binding { name: "decoder_delta", access: Access::Read },
        Binding { name: "decoder_gradient", access: Access::WriteValues },
        Binding { name: "partials", access: Access::Read },
        Binding { name: "total", access: Access::WriteValues },
        Binding { name: "weight_parts", access: Access::ReadValues },
        Binding { name: "weight_gradient", access: Access::Write },
    ]],
    overrides: &[],
    elements: elements! {
        "encoder_delta": "ENCODER_DELTA_ELEMENT",
        "decoder_delta": "DECODER_DELTA_ELEMENT",
        "weight_gradient": "WEIGHT_GRADIENT_ELEMENT",
    },
};

uniform! {
    struct Parameters {
        encoder_delta: View,
        encoder_gradient: View,
        decoder_delta: View,
        decoder_gradient: View,
        partials: View,
        total: View,
        encoder_add: u32,
        decoder_add: u32,
        first_of_encoder: u32,
        first_of_decoder: u32,
        first_of_weight: u32,
        groups: u32,
        groups_wide: u32,
        scale: f32,
        weight_gradient: View,
        weight_add: u32,
        parts: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Arguments of [`Kernels::column_sums`]: any of four sums; by default, none. The deltas and the weight's
/// gradient may be of any [`ElementType`](crate::ElementType), each of its own; the biases' gradients, the
/// partial sums and the total are f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct ColumnSums<'a> {
    /// db from dZ; `encoder_delta` and `encoder_gradient` in errors.
    pub encoder_bias: Option<BiasGradient<'a>>,
    /// dc from dA; `decoder_delta` and `decoder_gradient` in errors.
    pub decoder_bias: Option<BiasGradient<'a>>,
    /// A loss from its partial sums; `partials` and `total` in errors.
    pub total: Option<Sum<'a>>,
    /// dW from the parts of a split reduction, as [`Kernels::backward_in_parts`] leaves them;
    /// `weight_gradient` in errors.
    pub weight: Option<&'a GradientParts<'a>>,
}

/// One of the two column sums of [`ColumnSums`]; arguments of [`Kernels::bias_gradient`].
#[derive(Debug, Clone, Copy)]
pub struct BiasGradient<'a> {
    /// The gradient by the pre-activation that the bias was added to, \[batch, columns\], of any
    /// [`ElementType`](crate::ElementType).
    pub delta: &'a Matrix,
    /// Where its sum over the batch goes, \[1, columns\], in f32.
    pub gradient: &'a Matrix,
    /// Whether to overwrite or to add.
    pub accumulate: Accumulate,
}

impl BiasGradient<'_> {
    /// Workgroups that take all columns: none where there is nothing to add.
    fn groups(&self) -> u64 {
        let nothing_to_add = self.delta.rows() == 0 && self.accumulate == Accumulate::Add;
        if nothing_to_add { 0 } else { u64::from(self.delta.columns()).div_ceil(COLUMNS) }
    }
}

/// The total of [`ColumnSums`]; arguments of [`Kernels::sum`].
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
    /// The gradients of up to two biases, as [`Kernels::bias_gradient`] computes them, up to one
    /// total, as [`Kernels::sum`] does, and what is left of a split [`Kernels::backward`], in one
    /// dispatch and with the same bits.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`]. What is written by one part must lie in a buffer that no other
    /// part reads or writes.
    pub fn column_sums(&self, call: &ColumnSums<'_>) -> Result<Commands> {
        let &ColumnSums { encoder_bias, decoder_bias, total, weight } = call;
        let biases = [("encoder_gradient", encoder_bias), ("decoder_gradient", decoder_bias)];
        for (name, bias) in biases {
            let Some(BiasGradient { delta, gradient, .. }) = bias else { continue };
            expect_shape(name, gradient, [1, delta.columns()])?;
            let iterations = u64::from(delta.rows()).div_ceil(ROWS);
            self.expect_iterations(SHADER.name, iterations + OTHERS)?;
        }
        if let Some(Sum { partials, total, .. }) = total {
            expect_shape("partials", partials, [1, partials.columns()])?;
            expect_shape("total", total, [1, 1])?;
            let iterations = u64::from(partials.columns()).div_ceil(VALUES);
            self.expect_iterations(SHADER.name, iterations + OTHERS)?;
        }
        let operands = [
            encoder_bias.map(|bias| bias.delta),
            encoder_bias.map(|bias| bias.gradient),
            decoder_bias.map(|bias| bias.delta),
            decoder_bias.map(|bias| bias.gradient),
            total.map(|sum| sum.partials),
            total.map(|sum| sum.total),
            weight.map(|weight| &weight.parts),
            weight.map(|weight| weight.gradient),
        ];
        let operands = self.check(&SHADER, operands)?;
        let [of_encoder, of_decoder] =
            [encoder_bias, decoder_bias].map(|bias| bias.map_or(0, |bias| bias.groups()));
        let first_of_encoder = u64::from(total.is_some());
        let first_of_decoder = first_of_encoder + of_encoder;
        let first_of_weight = first_of_decoder + of_decoder;
        let groups = first_of_weight + weight.map_or(0, |weight| groups(weight.gradient));
        let workgroups = self.workgroups(&SHADER, groups)?;
        let [encoder_add, decoder_add] =
            [encoder_bias, decoder_bias].map(|bias| bias.map_or(0, |bias| bias.accumulate.flag()));
        let scale = total.map_or(0.0, |sum| sum.scale);
        let [
            encoder_delta,
            encoder_gradient,
            decoder_delta,
            decoder_gradient,
            partials,
            total,
            _,
            weight_gradient,
        ] = operands.views;
        let parameters = Parameters {
            encoder_delta,
            encoder_gradient,
            decoder_delta,
            decoder_gradient,
            partials,
            total,
            encoder_add,
            decoder_add,
            first_of_encoder: first_of_encoder as u32,
            first_of_decoder: first_of_decoder as u32,
            first_of_weight: first_of_weight as u32,
            groups: groups as u32,
            groups_wide: workgroups[0],
            scale,
            weight_gradient,
            weight_add: weight.map_or(0, |weight| weight.accumulate.flag()),
            parts: weight.map_or(0, |weight| weight.count),
            padding_0: 0,
            padding_1: 0,
        };
        let call = Call::new(&SHADER, &parameters, workgroups);
        self.prepare(&operands, &call)
    }

    /// db (+)= Σ_batch dZ, or dc from dA: one part of [`Kernels::column_sums`].
    ///
    /// An empty batch writes zeros in the mode [`Accumulate::Overwrite`] and adds nothing in the
    /// mode [`Accumulate::Add`].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn bias_gradient(&self, call: &BiasGradient<'_>) -> Result<Commands> {
        let names = [["encoder_delta", "delta"], ["encoder_gradient", "gradient"]];
        self.column_sums(&ColumnSums { encoder_bias: Some(*call), ..ColumnSums::default() })
            .map_err(|error| error.renamed(&names))
    }

    /// total = scale·Σ partials, in a fixed order; zero for no partials: one part of
    /// [`Kernels::column_sums`].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn sum(&self, call: &Sum<'_>) -> Result<Commands> {
        self.column_sums(&ColumnSums { total: Some(*call), ..ColumnSums::default() })
    }
}
