//! `backward.wgsl`: the gradient of the tied weight, both contributions in one dispatch.

use super::accumulate::Accumulate;
use super::commands::Commands;
use super::core::{Call, Kernels};
use super::operands::View;
use super::tile::{BYTES, INVOCATIONS, longest, tiles};
use crate::error::Result;
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{self, Access, BACKWARD, Binding, MATRIX, Shader, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "backward",
    sources: &[MATRIX, shader::TILE, BACKWARD],
    workgroup_size: INVOCATIONS,
    workgroup_bytes: BYTES,
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "code", access: Access::Read },
        Binding { name: "output_delta", access: Access::Read },
        Binding { name: "code_delta", access: Access::Read },
        Binding { name: "input", access: Access::Read },
        Binding { name: "gradient", access: Access::Write },
    ]],
    overrides: &[],
};

uniform! {
    struct Parameters {
        code: View,
        output_delta: View,
        code_delta: View,
        input: View,
        gradient: View,
        add: u32,
        groups_wide: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Which uses of the weight its gradient counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Contributions {
    /// Hᵀ·dA + dZᵀ·X: the whole gradient of a weight that is used twice.
    #[default]
    Both,
    /// dZᵀ·X alone, as if the decoder used `w.detach().t()`.
    Encoder,
    /// Hᵀ·dA alone, as if the encoder used `w.detach()`.
    Decoder,
}

/// Arguments of [`Kernels::backward`].
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// H, \[batch, hidden\]: the code, output of encode.
    pub code: &'a Matrix,
    /// dA, \[batch, inputs\]: the gradient by decode's pre-activation.
    pub output_delta: &'a Matrix,
    /// dZ, \[batch, hidden\]: the gradient by encode's pre-activation.
    pub code_delta: &'a Matrix,
    /// X, \[batch, inputs\]: the input of encode.
    pub input: &'a Matrix,
    /// dW, \[hidden, inputs\]: where the gradient goes.
    pub gradient: &'a Matrix,
    /// Which uses of the weight count. An operand that only the other use needs is not read.
    pub contributions: Contributions,
    /// Whether to overwrite or to add.
    pub accumulate: Accumulate,
}

impl Kernels {
    /// dW (+)= Hᵀ·dA + dZᵀ·X: the whole gradient of the tied weight, in one dispatch and one store.
    /// (Mesa's software driver up to 22.3 cuts long loops short; there a batch beyond 131,056 takes a
    /// dispatch for each part.)
    ///
    /// An empty batch writes zeros in the mode [`Accumulate::Overwrite`] and adds nothing in the
    /// mode [`Accumulate::Add`].
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn backward(&self, call: &Backward<'_>) -> Result<Commands> {
        let [batch, hidden] = call.code.shape();
        let inputs = call.input.columns();
        expect_shape("output_delta", call.output_delta, [batch, inputs])?;
        expect_shape("code_delta", call.code_delta, [batch, hidden])?;
        expect_shape("input", call.input, [batch, inputs])?;
        expect_shape("gradient", call.gradient, [hidden, inputs])?;
        let reductions = if call.contributions == Contributions::Both { 2 } else { 1 };
        let most = longest(self.most_iterations() / reductions);
        if u64::from(batch) <= most {
            return self.backward_at_once(call);
        }
        // A driver that cuts long loops short: the batch in parts, each added to those before.
        let mut commands = Commands::default();
        let mut accumulate = call.accumulate;
        let mut start = 0;
        while start < batch {
            let end = u64::from(batch).min(u64::from(start) + most) as u32;
            let [code, output_delta, code_delta, input] =
                [call.code, call.output_delta, call.code_delta, call.input]
                    .map(|matrix| matrix.row_range(start..end));
            commands = commands.then(self.backward_at_once(&Backward {
                code: &code?,
                output_delta: &output_delta?,
                code_delta: &code_delta?,
                input: &input?,
                accumulate,
                ..*call
            })?);
            accumulate = Accumulate::Add;
            start = end;
        }
        Ok(commands)
    }

    /// One dispatch; the shapes have been checked.
    fn backward_at_once(&self, call: &Backward<'_>) -> Result<Commands> {
        let decoder = call.contributions != Contributions::Encoder;
        let encoder = call.contributions != Contributions::Decoder;
        let operands = [
            decoder.then_some(call.code),
            decoder.then_some(call.output_delta),
            encoder.then_some(call.code_delta),
            encoder.then_some(call.input),
            Some(call.gradient),
        ];
        let operands = self.check(&SHADER, operands)?;
        let nothing_to_add = call.code.rows() == 0 && call.accumulate == Accumulate::Add;
        let tiles = if nothing_to_add { 0 } else { tiles(call.gradient) };
        let workgroups = self.workgroups(&SHADER, tiles)?;
        let [code, output_delta, code_delta, input, gradient] = operands.views;
        let parameters = Parameters {
            code,
            output_delta,
            code_delta,
            input,
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
