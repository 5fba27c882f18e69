//! `noise.wgsl`: a noisy copy of a matrix, by a counter-based generator.

use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::{INVOCATIONS, groups_of};
use super::operands::View;
use crate::error::{Error, Result, captured, expect_alive};
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{self, Access, Binding, Form, MATRIX, Override, Shader, elements, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "noise",
    sources: &[MATRIX, shader::NOISE],
    forms: &[&Form::only(INVOCATIONS, 4)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "input", access: Access::Read },
        Binding { name: "output", access: Access::Write },
        Binding { name: "state", access: Access::WriteValues },
    ]],
    overrides: &[Override::free("KIND", &[0, 1])],
    elements: elements! {
        "input": "INPUT_ELEMENT",
        "output": "OUTPUT_ELEMENT",
    },
};

/// Values of `KIND`.
const MASKING: f64 = 0.0;
const GAUSSIAN: f64 = 1.0;

uniform! {
    struct Parameters {
        input: View,
        output: View,
        seed_low: u32,
        seed_high: u32,
        threshold: u32,
        deviation: f32,
        groups: u32,
        groups_wide: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// What noise does to each element, independently of the others.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Noise {
    /// Sets it to zero with this probability, 0 to 1, which counts in steps of 2⁻²⁴; the others stay as
    /// they are, unscaled
    /// ([Vincent et al. 2008](https://www.cs.toronto.edu/~larocheh/publications/icml-2008-denoising-autoencoders.pdf)).
    Masking {
        /// Of an element to become zero.
        probability: f64,
    },
    /// Adds a normally distributed value with mean 0 and this standard deviation, at least 0.
    Gaussian {
        /// The standard deviation.
        deviation: f64,
    },
}

impl Noise {
    /// `KIND`, `threshold` and `deviation`.
    fn settings(self) -> Result<(f64, u32, f32)> {
        match self {
            Self::Masking { probability } => {
                if !(0.0..=1.0).contains(&probability) {
                    return Err(Error::Setting {
                        name: "probability",
                        expected: "in 0 … 1",
                        given: probability,
                    });
                }
                let threshold = (probability * f64::from(1 << 24)).round() as u32;
                Ok((MASKING, threshold, 0.0))
            }
            Self::Gaussian { deviation } => {
                if !(deviation >= 0.0 && (deviation as f32).is_finite()) {
                    return Err(Error::Setting {
                        name: "deviation",
                        expected: "a finite number of at least 0",
                        given: deviation,
                    });
                }
                Ok((GAUSSIAN, 0, deviation as f32))
            }
        }
    }
}

/// The seed of noise, and its step on the GPU: a step's noise depends on the two and on an element's
/// place, and each run of the commands takes the next step.
///
/// A cheap handle to clone. Matrices of several sizes, such as the last, smaller batch of an epoch, can
/// share one that was made for the largest: then no two runs have the same noise. The step is counted in
/// 32 bits and wraps around.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseState {
    seed: u64,
    /// A copy for each workgroup, below each other.
    steps: Matrix,
}

impl NoiseState {
    /// Step 0 of the noise with this seed, for matrices of up to this many elements in this shape, rows
    /// padded to whole quads.
    ///
    /// It takes 4 bytes for each 1,024 of them.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new(kernels: &Kernels, rows: u32, columns: u32, seed: u64) -> Result<Self> {
        // As many as this fit in 32 bits where the matrix itself can be made.
        let groups = groups_of([rows, columns]).min(u64::from(u32::MAX)) as u32;
        Ok(Self { seed, steps: kernels.zeros("noise state", groups, 1)? })
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The step of the next run, as 32-bit integers in a column: a copy for each workgroup, all equal.
    pub fn steps(&self) -> &Matrix {
        &self.steps
    }

    /// Sets the step of what is submitted from now on: writes to the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for another device than the state's, [`Error::DeviceLost`]. The queue must be
    /// the device's own, which wgpu gives no way to check.
    pub fn set_step(&self, device: &wgpu::Device, queue: &wgpu::Queue, step: u32) -> Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        expect_alive(device)?;
        let steps = vec![step; self.steps.rows() as usize];
        captured(device, "a step of noise", || {
            queue.write_buffer(self.steps.buffer(), 0, bytemuck::cast_slice(&steps));
        })
    }
}

/// Arguments of [`Kernels::noise`]. Input and output may be of any [`ElementType`](crate::ElementType), each
/// of its own.
#[derive(Debug, Clone, Copy)]
pub struct NoisyCopy<'a> {
    /// What is copied.
    pub input: &'a Matrix,
    /// What is done to the copy.
    pub noise: Noise,
    /// Seed and step; the step rises by one.
    pub state: &'a NoiseState,
    /// Where the copy goes, in the input's shape.
    pub output: &'a Matrix,
}

impl Kernels {
    /// A copy of `input` with noise, by Philox 4x32-10
    /// ([Salmon et al. 2011](https://doi.org/10.1145/2063384.2063405)): the same for a seed, a step and a
    /// shape whatever the strides and the types of elements; masking to the bit on any device, Gaussian noise as exactly as the
    /// device computes logarithms, sines and cosines.
    ///
    /// Even an empty input takes a step.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a probability or a deviation outside its range, [`Error::Incompatible`] for
    /// a state that was made for smaller matrices, and as all kernels: see [`Kernels`].
    pub fn noise(&self, call: &NoisyCopy<'_>) -> Result<Commands> {
        let &NoisyCopy { input, noise, state, output } = call;
        let (kind, threshold, deviation) = noise.settings()?;
        expect_shape("output", output, input.shape())?;
        let groups = u64::from(state.steps.rows());
        if groups_of(output.shape()) > groups {
            return Err(Error::Incompatible {
                what: "state",
                reason: "it was made for smaller matrices",
            });
        }
        let operands = self.check(&SHADER, [Some(input), Some(output), Some(&state.steps)])?;
        let workgroups = self.workgroups(&SHADER, groups)?;
        let [input, output, _] = operands.views;
        let parameters = Parameters {
            input,
            output,
            seed_low: state.seed as u32,
            seed_high: (state.seed >> 32) as u32,
            threshold,
            deviation,
            groups: groups as u32,
            groups_wide: workgroups[0],
            padding_0: 0,
            padding_1: 0,
        };
        let overrides = [kind];
        let call = Call::new(&SHADER, &parameters, workgroups).with_overrides(&overrides);
        self.prepare(&operands, &call)
    }
}
