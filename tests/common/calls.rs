//! Every method of [`Kernels`] that makes commands, in a table, for tests of what holds for all.

use tied_linear::kernels::{
    Accumulate, ActivationGradient, AdamSettings, AdamState, AdamUpdate, Backward, BiasGradient,
    ColumnSums, Contributions, Gradient, Linear, LossGradient, NoisyCopy, ParameterUpdate,
    SgdState, SgdUpdate, Sum,
};
use tied_linear::{Activation, Commands, Kernels, Matrix, Noise, NoiseState, Result, Weight, wgpu};

use super::{POISON, Rig, random};

/// The lengths that the table's matrices are made of.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub batch: u32,
    pub inputs: u32,
    pub hidden: u32,
}

/// Small, and all different.
pub const SMALL: Sizes = Sizes { batch: 5, inputs: 7, hidden: 3 };

impl Sizes {
    /// The same with one more of `length`.
    pub fn longer(mut self, length: Length) -> Self {
        match length {
            One => {}
            Batch => self.batch += 1,
            Inputs => self.inputs += 1,
            Hidden => self.hidden += 1,
        }
        self
    }
}

/// Rows or columns of an operand.
#[derive(Clone, Copy)]
pub enum Length {
    One,
    Batch,
    Inputs,
    Hidden,
}

use Length::{Batch, Hidden, Inputs, One};

/// A method of [`Kernels`] and a valid call of it, with every operand that it can have.
pub struct Call {
    /// The method's name.
    pub name: &'static str,
    /// The name of the shader that it runs first.
    pub shader: &'static str,
    pub operands: &'static [Operand],
    pub make: fn(&Kernels, &Operands) -> Result<Commands>,
}

/// An operand of a call.
#[derive(Clone, Copy)]
pub struct Operand {
    /// Its name in the call.
    pub name: &'static str,
    pub lengths: [Length; 2],
    pub role: Role,
    /// Who is to blame for wrong rows and wrong columns of it.
    pub blamed: [Blamed; 2],
}

/// What the call does with an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Read,
    Written,
    /// Read and written.
    Updated,
    /// Not bound itself: an optimizer's state is made in its shape.
    State,
}

/// Whom an error names where an operand has wrong rows or columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Blamed {
    Itself,
    /// Another operand, which is measured by this one.
    Other(&'static str),
    /// Another operand, which must have the shape of this one.
    Twin(&'static str),
    /// Nobody: any number will do.
    Nobody,
}

use Blamed::{Itself, Nobody, Other, Twin};

impl Call {
    pub fn operand(&self, name: &str) -> &'static Operand {
        let found = self.operands.iter().find(|operand| operand.name == name);
        found.expect("an operand of the call")
    }
}

impl Operand {
    const fn new(name: &'static str, rows: Length, columns: Length, role: Role) -> Self {
        Self { name, lengths: [rows, columns], role, blamed: [Itself; 2] }
    }

    const fn blaming(mut self, rows: Blamed, columns: Blamed) -> Self {
        self.blamed = [rows, columns];
        self
    }

    pub fn shape(&self, sizes: Sizes) -> [u32; 2] {
        self.lengths.map(|length| match length {
            One => 1,
            Batch => sizes.batch,
            Inputs => sizes.inputs,
            Hidden => sizes.hidden,
        })
    }

    pub fn is_written(&self) -> bool {
        matches!(self.role, Role::Written | Role::Updated)
    }
}

const fn read(name: &'static str, rows: Length, columns: Length) -> Operand {
    Operand::new(name, rows, columns, Role::Read)
}

const fn written(name: &'static str, rows: Length, columns: Length) -> Operand {
    Operand::new(name, rows, columns, Role::Written)
}

const fn updated(
    name: &'static str,
    rows: Length,
    columns: Length,
    gradient: &'static str,
) -> Operand {
    Operand::new(name, rows, columns, Role::Updated).blaming(Twin(gradient), Twin(gradient))
}

const fn state(name: &'static str, rows: Length, columns: Length) -> Operand {
    Operand::new(name, rows, columns, Role::State)
}

const LOSS: &[Operand] = &[
    read("prediction", Batch, Inputs).blaming(Other("target"), Other("target")),
    read("target", Batch, Inputs),
    read("saved", Batch, Inputs),
    written("delta", Batch, Inputs),
    written("loss", One, One),
];

/// The parameters of a layer, and their shares of the state.
const UPDATE: &[Operand] = &[
    updated("parameters[0].value", Hidden, Inputs, "parameters[0].gradient"),
    read("parameters[0].gradient", Hidden, Inputs),
    state("state of parameters[0]", Hidden, Inputs),
    updated("parameters[1].value", One, Hidden, "parameters[1].gradient"),
    read("parameters[1].gradient", One, Hidden),
    state("state of parameters[1]", One, Hidden),
    updated("parameters[2].value", One, Inputs, "parameters[2].gradient"),
    read("parameters[2].gradient", One, Inputs),
    state("state of parameters[2]", One, Inputs),
];

/// All of them.
pub const CALLS: &[Call] = &[
    Call {
        name: "encode",
        shader: "encode",
        operands: &[
            read("weight", Hidden, Inputs).blaming(Other("output"), Other("input")),
            read("input", Batch, Inputs).blaming(Other("output"), Itself),
            read("bias", One, Hidden),
            written("output", Batch, Hidden),
            written("preactivation", Batch, Hidden),
        ],
        make: |kernels, operands| kernels.encode(&weight(kernels, operands)?, &linear(operands)),
    },
    Call {
        name: "decode",
        shader: "decode",
        operands: &[
            read("weight", Hidden, Inputs).blaming(Other("input"), Other("output")),
            read("input", Batch, Hidden).blaming(Other("output"), Itself),
            read("bias", One, Inputs),
            written("output", Batch, Inputs),
            written("preactivation", Batch, Inputs),
        ],
        make: |kernels, operands| kernels.decode(&weight(kernels, operands)?, &linear(operands)),
    },
    Call {
        name: "code_gradient",
        shader: "encode",
        operands: &[
            read("weight", Hidden, Inputs).blaming(Other("output"), Other("delta")),
            read("delta", Batch, Inputs).blaming(Other("output"), Itself),
            read("saved", Batch, Hidden),
            read("extra", Batch, Hidden),
            written("output", Batch, Hidden),
        ],
        make: |kernels, operands| {
            kernels.code_gradient(&weight(kernels, operands)?, &gradient(operands))
        },
    },
    Call {
        name: "input_gradient",
        shader: "decode",
        operands: &[
            read("weight", Hidden, Inputs).blaming(Other("delta"), Other("output")),
            read("delta", Batch, Hidden).blaming(Other("output"), Itself),
            read("saved", Batch, Inputs),
            read("extra", Batch, Inputs),
            written("output", Batch, Inputs),
        ],
        make: |kernels, operands| {
            kernels.input_gradient(&weight(kernels, operands)?, &gradient(operands))
        },
    },
    Call {
        name: "backward",
        shader: "backward",
        operands: &[
            read("code", Batch, Hidden).blaming(Other("output_delta"), Other("code_delta")),
            read("output_delta", Batch, Inputs),
            read("code_delta", Batch, Hidden),
            read("input", Batch, Inputs).blaming(Itself, Other("output_delta")),
            written("gradient", Hidden, Inputs),
        ],
        make: |kernels, operands| {
            kernels.backward(&Backward {
                code: operands.get("code"),
                output_delta: operands.get("output_delta"),
                code_delta: operands.get("code_delta"),
                input: operands.get("input"),
                gradient: operands.get("gradient"),
                contributions: Contributions::Both,
                accumulate: Accumulate::Overwrite,
            })
        },
    },
    Call {
        name: "activation_gradient",
        shader: "activation_gradient",
        operands: &[
            read("gradient", Batch, Inputs),
            read("saved", Batch, Inputs),
            written("delta", Batch, Inputs).blaming(Other("gradient"), Other("gradient")),
        ],
        make: |kernels, operands| {
            kernels.activation_gradient(&ActivationGradient {
                gradient: operands.get("gradient"),
                activation: Activation::Sigmoid,
                saved: Some(operands.get("saved")),
                delta: operands.get("delta"),
            })
        },
    },
    Call {
        name: "column_sums",
        shader: "column_sums",
        operands: &[
            read("encoder_delta", Batch, Hidden).blaming(Nobody, Other("encoder_gradient")),
            written("encoder_gradient", One, Hidden),
            read("decoder_delta", Batch, Inputs).blaming(Nobody, Other("decoder_gradient")),
            written("decoder_gradient", One, Inputs),
            read("partials", One, Inputs).blaming(Itself, Nobody),
            written("total", One, One),
        ],
        make: |kernels, operands| {
            kernels.column_sums(&ColumnSums {
                encoder_bias: Some(bias(operands, ["encoder_delta", "encoder_gradient"])),
                decoder_bias: Some(bias(operands, ["decoder_delta", "decoder_gradient"])),
                total: Some(sum(operands)),
                weight: None,
            })
        },
    },
    Call {
        name: "bias_gradient",
        shader: "column_sums",
        operands: &[
            read("delta", Batch, Hidden).blaming(Nobody, Other("gradient")),
            written("gradient", One, Hidden),
        ],
        make: |kernels, operands| kernels.bias_gradient(&bias(operands, ["delta", "gradient"])),
    },
    Call {
        name: "sum",
        shader: "column_sums",
        operands: &[
            read("partials", One, Inputs).blaming(Itself, Nobody),
            written("total", One, One),
        ],
        make: |kernels, operands| kernels.sum(&sum(operands)),
    },
    Call {
        name: "noise",
        shader: "noise",
        operands: &[
            read("input", Batch, Inputs).blaming(Other("output"), Other("output")),
            written("output", Batch, Inputs),
        ],
        make: |kernels, operands| {
            let (input, output) = (operands.get("input"), operands.get("output"));
            let state = &NoiseState::new(kernels, output.rows(), output.columns(), 1)?;
            kernels.noise(&NoisyCopy {
                input,
                noise: Noise::Masking { probability: 0.5 },
                state,
                output,
            })
        },
    },
    Call {
        name: "squared_error",
        shader: "squared_error",
        operands: LOSS,
        make: |kernels, operands| kernels.squared_error(&loss(operands)),
    },
    Call {
        name: "cross_entropy",
        shader: "cross_entropy",
        operands: LOSS,
        make: |kernels, operands| kernels.cross_entropy(&loss(operands)),
    },
    Call {
        name: "sgd",
        shader: "sgd",
        operands: UPDATE,
        make: |kernels, operands| {
            kernels.sgd(&SgdUpdate {
                parameters: &parameters(operands),
                state: Some(&SgdState::new(kernels, &states(operands))?),
                settings: &operands.settings,
                loss_scale: None,
            })
        },
    },
    Call {
        name: "adam",
        shader: "adam",
        operands: UPDATE,
        make: |kernels, operands| {
            kernels.adam(&AdamUpdate {
                parameters: &parameters(operands),
                state: &AdamState::new(kernels, &states(operands))?,
                settings: &operands.settings,
                loss_scale: None,
            })
        },
    },
];

fn weight(kernels: &Kernels, operands: &Operands) -> Result<Weight> {
    Weight::new(kernels, operands.get("weight").clone())
}

fn linear(operands: &Operands) -> Linear<'_> {
    Linear::new(operands.get("input"), operands.get("output"))
        .with_bias(Some(operands.get("bias")))
        .with_activation(Activation::Sigmoid)
        .with_preactivation(Some(operands.get("preactivation")))
}

fn gradient(operands: &Operands) -> Gradient<'_> {
    Gradient::new(operands.get("delta"), operands.get("output"))
        .with_extra(Some(operands.get("extra")))
        .through(Activation::Sigmoid, Some(operands.get("saved")))
}

fn bias<'a>(operands: &'a Operands, [delta, gradient]: [&str; 2]) -> BiasGradient<'a> {
    BiasGradient {
        delta: operands.get(delta),
        gradient: operands.get(gradient),
        accumulate: Accumulate::Overwrite,
    }
}

fn sum(operands: &Operands) -> Sum<'_> {
    Sum { partials: operands.get("partials"), scale: 0.5, total: operands.get("total") }
}

fn loss(operands: &Operands) -> LossGradient<'_> {
    let [prediction, target] = ["prediction", "target"].map(|name| operands.get(name));
    LossGradient::new(prediction, target, operands.get("loss"))
        .with_delta(Some(operands.get("delta")))
        .through(Activation::Sigmoid, Some(operands.get("saved")))
}

fn parameters(operands: &Operands) -> [ParameterUpdate<'_>; 3] {
    [
        ["parameters[0].value", "parameters[0].gradient"],
        ["parameters[1].value", "parameters[1].gradient"],
        ["parameters[2].value", "parameters[2].gradient"],
    ]
    .map(|[value, gradient]| ParameterUpdate {
        value: operands.get(value),
        gradient: operands.get(gradient),
    })
}

/// Matrices in whose shapes a state is made.
fn states(operands: &Operands) -> [&Matrix; 3] {
    ["state of parameters[0]", "state of parameters[1]", "state of parameters[2]"]
        .map(|name| operands.get(name))
}

/// The matrices of a call, by name, and the settings of an update.
#[derive(Clone)]
pub struct Operands {
    matrices: Vec<(&'static str, Matrix)>,
    /// Adam's; SGD reads the first four numbers.
    pub settings: wgpu::Buffer,
}

impl Operands {
    /// Valid ones: what is read holds random values, what is only written holds poison.
    pub fn new(rig: &Rig, call: &Call, sizes: Sizes) -> Self {
        let matrix = |(seed, operand): (u64, &Operand)| {
            let [rows, columns] = operand.shape(sizes);
            let values = random(rows, columns, seed).values;
            let mut values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            if operand.role == Role::Written {
                values.fill(f32::from_bits(POISON));
            }
            let matrix = rig.kernels.matrix(operand.name, rows, columns, &values);
            (operand.name, matrix.expect("a buffer"))
        };
        Self {
            matrices: (1..).zip(call.operands).map(matrix).collect(),
            settings: settings(&rig.gpu.device, wgpu::BufferUsages::empty()),
        }
    }

    pub fn get(&self, name: &str) -> &Matrix {
        let found = self.matrices.iter().find(|(known, _)| *known == name);
        &found.expect("an operand of the call").1
    }

    /// The same with another matrix for `name`.
    pub fn with(&self, name: &'static str, matrix: Matrix) -> Self {
        let mut operands = self.clone();
        for (known, value) in &mut operands.matrices {
            if *known == name {
                *value = matrix.clone();
            }
        }
        operands
    }

    pub fn with_settings(&self, settings: wgpu::Buffer) -> Self {
        let matrices = self.matrices.clone();
        Self { matrices, settings }
    }

    /// What all matrices hold, bit by bit.
    pub fn bits(&self, rig: &Rig) -> Vec<(&'static str, Vec<u32>)> {
        let matrices = self.matrices.iter();
        matrices.map(|(name, matrix)| (*name, rig.bits(matrix))).collect()
    }
}

/// A uniform buffer with the settings of an optimizer, and further usages.
pub fn settings(device: &wgpu::Device, further: wgpu::BufferUsages) -> wgpu::Buffer {
    let bytes = AdamSettings::adam(0.125).to_uniform().expect("settings");
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("settings"),
        size: bytes.len() as u64,
        usage: wgpu::BufferUsages::UNIFORM | further,
        mapped_at_creation: true,
    });
    let mut mapped = buffer.get_mapped_range_mut(..).expect("mapped");
    mapped.copy_from_slice(&bytes);
    drop(mapped);
    buffer.unmap();
    buffer
}
