//! Random operands of one shape, the kernels on them, and the check of what comes out.

use std::error::Error;

use tied_linear::kernels::{Accumulate, Backward, Contributions, Gradient, Linear};
use tied_linear::{Commands, Matrix, Weight};

use crate::cost::Kernel;
use crate::host::Host;
use crate::own::{Dispatch, NAIVE_BACKWARD, NAIVE_DECODE, NAIVE_ENCODE};
use crate::reference::{Expected, check};
use crate::rig::Rig;
use crate::shape::Shape;
use crate::work::Work;

/// Rows and columns of outputs in a workgroup of a naive kernel.
const NAIVE_TILE: u32 = 16;

/// Terms up to which a naive kernel, which adds one in each loop iteration, is right on every driver:
/// Mesa's software driver up to 22.3 silently leaves loops after 65,535 iterations.
const MOST_NAIVE_TERMS: u32 = 65_535;

/// Operands on the host and on the GPU, and places for results.
///
/// H and dA, say, are not computed from X, but random too: to a product that makes no difference.
pub struct Operands {
    shape: Shape,
    host: Named<Host>,
    gpu: Named<Matrix>,
    weight: Weight,
    outputs: Outputs,
}

/// Operands by their names in the formulas.
struct Named<T> {
    weight: T,
    input: T,
    code: T,
    output_delta: T,
    code_delta: T,
}

/// Results by their shapes.
struct Outputs {
    /// \[batch, hidden\].
    code: Matrix,
    /// \[batch, inputs\].
    input: Matrix,
    /// \[hidden, inputs\].
    gradient: Matrix,
}

impl Operands {
    /// Random operands.
    pub fn new(rig: &Rig, shape: Shape) -> Result<Self, tied_linear::Error> {
        let Shape { batch, inputs, hidden } = shape;
        let host = Named {
            weight: Host::random(hidden, inputs, 1.0, 1),
            input: Host::random(batch, inputs, 1.0, 2),
            code: Host::random(batch, hidden, 1.0, 3),
            output_delta: Host::random(batch, inputs, 1.0, 4),
            code_delta: Host::random(batch, hidden, 1.0, 5),
        };
        let gpu = Named {
            weight: host.weight.upload(rig, "weight")?,
            input: host.input.upload(rig, "input")?,
            code: host.code.upload(rig, "code")?,
            output_delta: host.output_delta.upload(rig, "output delta")?,
            code_delta: host.code_delta.upload(rig, "code delta")?,
        };
        let weight = Weight::new(&rig.kernels, gpu.weight.clone())?;
        let outputs = Outputs {
            code: rig.kernels.zeros("code output", batch, hidden)?,
            input: rig.kernels.zeros("input output", batch, inputs)?,
            gradient: rig.zeros_in_words("gradient", [hidden, inputs])?,
        };
        Ok(Self { shape, host, gpu, weight, outputs })
    }

    /// A kernel of the library; the step is none.
    pub fn library(&self, rig: &Rig, kernel: Kernel) -> Result<Option<Work>, tied_linear::Error> {
        let (kernels, weight, gpu) = (&rig.kernels, &self.weight, &self.gpu);
        let Outputs { code, input, gradient } = &self.outputs;
        let commands = match kernel {
            Kernel::Encode => kernels.encode(weight, &Linear::new(&gpu.input, code))?,
            Kernel::Decode => kernels.decode(weight, &Linear::new(&gpu.code, input))?,
            Kernel::CodeGradient => {
                kernels.code_gradient(weight, &Gradient::new(&gpu.output_delta, code))?
            }
            Kernel::InputGradient => {
                kernels.input_gradient(weight, &Gradient::new(&gpu.code_delta, input))?
            }
            Kernel::Backward => {
                self.backward(rig, Contributions::Both, Accumulate::Overwrite, gradient)?
            }
            Kernel::Step => return Ok(None),
        };
        Ok(Some(commands.into()))
    }

    /// The weight's gradient, or a part of it, into `gradient`.
    pub fn backward(
        &self,
        rig: &Rig,
        contributions: Contributions,
        accumulate: Accumulate,
        gradient: &Matrix,
    ) -> Result<Commands, tied_linear::Error> {
        rig.kernels.backward(&Backward {
            code: &self.gpu.code,
            output_delta: &self.gpu.output_delta,
            code_delta: &self.gpu.code_delta,
            input: &self.gpu.input,
            gradient,
            contributions,
            accumulate,
        })
    }

    /// The naive twin of a kernel, where there is one and it can do these sizes.
    pub fn naive(&self, rig: &Rig, kernel: Kernel) -> Option<Work> {
        let Shape { batch, inputs, hidden } = self.shape;
        let (gpu, outputs) = (&self.gpu, &self.outputs);
        let (source, operands, output, terms) = match kernel {
            Kernel::Encode => (NAIVE_ENCODE, vec![&gpu.weight, &gpu.input], &outputs.code, inputs),
            Kernel::Decode => (NAIVE_DECODE, vec![&gpu.weight, &gpu.code], &outputs.input, hidden),
            Kernel::Backward => {
                let operands = vec![&gpu.code, &gpu.output_delta, &gpu.code_delta, &gpu.input];
                (NAIVE_BACKWARD, operands, &outputs.gradient, batch)
            }
            _ => return None,
        };
        if terms > MOST_NAIVE_TERMS {
            return None;
        }
        let buffers: Vec<_> = operands.into_iter().chain([output]).map(Matrix::buffer).collect();
        let workgroups = [output.columns(), output.rows()].map(|size| size.div_ceil(NAIVE_TILE));
        let parameters = [batch, inputs, hidden, 0];
        Some(Dispatch::new(rig, source, parameters, &buffers, workgroups).into())
    }

    /// The place for the weight's gradient.
    pub fn gradient(&self) -> &Matrix {
        &self.outputs.gradient
    }

    /// Runs `work`, which does what `kernel` does, and compares the result with the reference.
    pub fn check(&self, rig: &Rig, kernel: Kernel, work: &Work) -> Result<(), Box<dyn Error>> {
        let Shape { batch, inputs, hidden } = self.shape;
        let Named { weight, input, code, output_delta, code_delta } = &self.host;
        let Outputs { code: codes, input: inputs_out, gradient } = &self.outputs;
        let along = |of: &Host, batch, row| Expected::dot(of.row(batch), weight.row(row));
        let across = |of: &Host, batch, column| Expected::dot(of.row(batch), weight.column(column));
        let output = match kernel {
            Kernel::Encode | Kernel::CodeGradient => codes,
            Kernel::Decode | Kernel::InputGradient => inputs_out,
            Kernel::Backward => gradient,
            Kernel::Step => return Ok(()),
        };
        rig.clear(output);
        rig.run(work)?;
        let got = Host::read(rig, output)?;
        let name = format!("{} at {}", kernel.name(), self.shape);
        match kernel {
            Kernel::Encode => check(&name, &got, inputs, |b, h| along(input, b, h)),
            Kernel::CodeGradient => check(&name, &got, inputs, |b, h| along(output_delta, b, h)),
            Kernel::Decode => check(&name, &got, hidden, |b, i| across(code, b, i)),
            Kernel::InputGradient => check(&name, &got, hidden, |b, i| across(code_delta, b, i)),
            Kernel::Backward => check(&name, &got, 2 * batch, |h, i| {
                let decoder = Expected::dot(code.column(h), output_delta.column(i));
                decoder.plus(Expected::dot(code_delta.column(h), input.column(i)))
            }),
            Kernel::Step => Ok(()),
        }?;
        Ok(())
    }
}
