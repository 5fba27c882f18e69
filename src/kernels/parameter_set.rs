//! What the optimizers' kernels share: sets of parameters, their state, and the range of settings
//! (`parameter_set.wgsl`).

use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::{INVOCATIONS, groups};
use super::loss_scale::{self, LossScale};
use super::operands::{COPY, View};
use crate::error::{Error, Result};
use crate::matrix::{Layout, Matrix, expect_countable, expect_shape};
use crate::shader::{Access, Binding, Element, Field, Shader, VALUE, elements, uniform};

/// Most parameters of a set, so that their values, gradients and state are seven storage buffers.
pub(crate) const MOST_PARAMETERS: usize = 3;

/// Values in a unit of a state.
const UNIT: u64 = 4;

uniform! {
    struct Parameters {
        gradient_0: View,
        gradient_1: View,
        gradient_2: View,
        value_0: View,
        value_1: View,
        value_2: View,
        copy: View,
        state: View,
        groups_wide: u32,
        end_0: u32,
        end_1: u32,
        end_2: u32,
    }
}

/// The bindings of a kernel on parameter_set.wgsl, with settings of these fields.
pub(super) const fn bindings(settings: &'static [Field]) -> [Binding; 10] {
    [
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "settings", access: Access::Uniform(settings) },
        loss_scale::BINDING,
        Binding { name: "gradient_0", access: Access::Read },
        Binding { name: "gradient_1", access: Access::ReadValues },
        Binding { name: "gradient_2", access: Access::ReadValues },
        Binding { name: VALUE, access: Access::Write },
        Binding { name: "value_1", access: Access::WriteValues },
        Binding { name: "value_2", access: Access::WriteValues },
        Binding { name: "state", access: Access::WriteValues },
    ]
}

/// The same with second moments.
pub(super) const fn bindings_with_second(settings: &'static [Field]) -> [Binding; 11] {
    let [a, b, c, d, e, f, g, h, i, j] = bindings(settings);
    [a, b, c, d, e, f, g, h, i, j, Binding { name: "second_moments", access: Access::WriteValues }]
}

/// The gradients' elements, and those of the first parameter's working copy.
pub(super) const ELEMENTS: &[Element] = elements! {
    "gradient_0": "GRADIENT_0_ELEMENT",
    "gradient_1": "GRADIENT_1_ELEMENT",
    "gradient_2": "GRADIENT_2_ELEMENT",
    COPY: "COPY_ELEMENT",
};

/// What values, gradients and their shares of a state are called in a call.
pub(crate) const VALUES: [&str; MOST_PARAMETERS] =
    ["parameters[0].value", "parameters[1].value", "parameters[2].value"];
pub(crate) const GRADIENTS: [&str; MOST_PARAMETERS] =
    ["parameters[0].gradient", "parameters[1].gradient", "parameters[2].gradient"];
const STATES: [&str; MOST_PARAMETERS] =
    ["state of parameters[0]", "state of parameters[1]", "state of parameters[2]"];

/// What is bound, and its name in a call.
const NAMES: &[[&str; 2]] = &[
    ["gradient_0", GRADIENTS[0]],
    ["gradient_1", GRADIENTS[1]],
    ["gradient_2", GRADIENTS[2]],
    [VALUE, VALUES[0]],
    ["value_1", VALUES[1]],
    ["value_2", VALUES[2]],
];

/// One parameter of a [`SgdUpdate`](super::SgdUpdate) or an [`AdamUpdate`](super::AdamUpdate).
#[derive(Debug, Clone, Copy)]
pub struct ParameterUpdate<'a> {
    /// The parameter, in f32. If it has a [working copy](Matrix::with_working_copy), that is written too; it
    /// must then be the first of its set.
    pub value: &'a Matrix,
    /// Its gradient, in the same shape and of any [`ElementType`](crate::ElementType).
    pub gradient: &'a Matrix,
}

/// What an optimizer keeps for a set of parameters, in one buffer.
#[derive(Debug, Clone)]
pub(super) struct SetState {
    matrix: Matrix,
    /// Workgroups of the set.
    groups: u64,
    parts: Vec<Part>,
}

/// What of a state belongs to one parameter: that of so many workgroups, from one on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    shape: [u32; 2],
    begin: u64,
    groups: u64,
}

impl SetState {
    /// A zeroed moment, with a step count for each workgroup behind it if `counted`.
    pub(super) fn new(
        kernels: &Kernels,
        label: &'static str,
        parameters: &[&Matrix],
        counted: bool,
    ) -> Result<Self> {
        expect_set(parameters.len())?;
        let mut end = 0;
        let part = |parameter: &&Matrix| {
            let (begin, groups) = (end, groups(parameter));
            end += groups;
            Part { shape: parameter.shape(), begin, groups }
        };
        let parts = parameters.iter().map(part).collect();
        let values = end * (u64::from(INVOCATIONS) + u64::from(counted)) * UNIT;
        expect_countable(label, values)?;
        let matrix = kernels.zeros(label, 1, values as u32)?;
        Ok(Self { matrix, groups: end, parts })
    }

    /// The buffer, whole.
    pub(super) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Units of a moment of the whole set.
    pub(super) fn units(&self) -> u64 {
        self.groups * u64::from(INVOCATIONS)
    }

    /// Passes if the first parameter has the shape of `value`.
    pub(super) fn expect_first(&self, value: &Matrix) -> Result<()> {
        let given = self.parts.first().map_or([0, 0], |part| part.shape);
        let expected = value.shape();
        if given == expected {
            Ok(())
        } else {
            Err(Error::Shape { operand: STATES[0], expected, given })
        }
    }

    /// One for each parameter.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// A parameter's moment, in the shape of the parameter.
    pub(super) fn moment(&self, part: &Part) -> Result<Matrix> {
        let [rows, columns] = part.shape;
        let unit = part.begin * u64::from(INVOCATIONS);
        let layout = Layout {
            offset: unit * UNIT,
            // Only without rows can there be so many columns that this goes over.
            row_stride: columns.checked_next_multiple_of(UNIT as u32).unwrap_or(columns),
            ..Layout::contiguous(rows, columns)
        };
        Matrix::view(self.matrix.buffer(), layout)
    }

    /// A parameter's step counts: one for each workgroup, below each other.
    pub(super) fn steps(&self, part: &Part) -> Result<Matrix> {
        let unit = self.groups * u64::from(INVOCATIONS) + part.begin;
        let layout = Layout {
            offset: unit * UNIT,
            row_stride: UNIT as u32,
            ..Layout::contiguous(part.groups as u32, 1)
        };
        Matrix::view(self.matrix.buffer(), layout)
    }
}

/// Which parameters of a set take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// All but those that are frozen, which stay as they are, their step counts too; an
    /// empty list freezes none.
    Without(&'a [bool]),
    /// All but the first, which has been updated already; its step count rises all the same.
    AllButFirst,
}

/// The uniforms that a step reads and the caller keeps.
#[derive(Clone, Copy)]
pub(super) struct Uniforms<'a> {
    pub(super) settings: &'a wgpu::Buffer,
    pub(super) loss_scale: Option<&'a LossScale>,
}

impl Kernels {
    /// One step on a set of parameters, by a kernel on parameter_set.wgsl.
    pub(super) fn update(
        &self,
        shader: &'static Shader,
        which: Which<'_>,
        parameters: &[ParameterUpdate<'_>],
        state: [Option<&SetState>; 2],
        uniforms: Uniforms<'_>,
    ) -> Result<Commands> {
        expect_set(parameters.len())?;
        for (name, parameter) in GRADIENTS.into_iter().zip(parameters) {
            expect_shape(name, parameter.gradient, parameter.value.shape())?;
        }
        for (what, parameter) in VALUES.into_iter().zip(parameters).skip(1) {
            if parameter.value.working_copy().is_some() {
                let reason = "a parameter with a working copy must be the first of its set";
                return Err(Error::Incompatible { what, reason });
            }
        }
        for state in state.into_iter().flatten() {
            expect_state(state, parameters)?;
        }
        let prepared = self.prepare_update(shader, which, parameters, state, uniforms);
        prepared.map_err(|error| error.renamed(NAMES))
    }

    /// The same, for shapes that fit, with the shader's names in errors.
    fn prepare_update(
        &self,
        shader: &'static Shader,
        which: Which<'_>,
        parameters: &[ParameterUpdate<'_>],
        state: [Option<&SetState>; 2],
        uniforms: Uniforms<'_>,
    ) -> Result<Commands> {
        let [a, b, c] = [0, 1, 2].map(|index| parameters.get(index));
        let values = [a, b, c].map(|p| Some(p?.value));
        // A frozen parameter keeps its workgroups, which find nothing to do.
        let frozen = |index: usize| match which {
            Which::Without(frozen) => frozen.get(index).copied().unwrap_or(false),
            Which::AllButFirst => false,
        };
        let trained = |index: usize| parameters.get(index).filter(|_| !frozen(index));
        let [a, b, c] = [0, 1, 2].map(trained);
        let [gradient_0, gradient_1, gradient_2] = [a, b, c].map(|p| Some(p?.gradient));
        let gradient_0 = gradient_0.filter(|_| which != Which::AllButFirst);
        let [value_0, value_1, value_2] = [a, b, c].map(|p| Some(p?.value));
        let [state, second] = state.map(|state| state.map(|state| &state.matrix));
        // A kernel without second moments has no binding for the last.
        let operands =
            [gradient_0, gradient_1, gradient_2, value_0, value_1, value_2, state, second];
        let operands = self.check(shader, operands)?;
        let [groups_0, groups_1, groups_2] = values.map(|value| value.map_or(0, groups));
        let [end_0, end_1] = [groups_0, groups_0 + groups_1];
        let end_2 = end_1 + groups_2;
        let workgroups = self.workgroups(shader, end_2)?;
        let [gradient_0, gradient_1, gradient_2, value_0, value_1, value_2, state, _] =
            operands.views;
        let uniform = Parameters {
            gradient_0,
            gradient_1,
            gradient_2,
            value_0,
            value_1,
            value_2,
            copy: operands.copy,
            state,
            groups_wide: workgroups[0],
            end_0: end_0 as u32,
            end_1: end_1 as u32,
            end_2: end_2 as u32,
        };
        let call = Call::new(shader, &uniform, workgroups)
            .with_settings(Some(uniforms.settings))
            .with_loss_scale(uniforms.loss_scale.map(LossScale::buffer));
        self.prepare(&operands, &call)
    }
}

/// Passes if a set may have so many parameters.
fn expect_set(given: usize) -> Result<()> {
    let most = MOST_PARAMETERS;
    if given <= most { Ok(()) } else { Err(Error::TooManyParameters { given, most }) }
}

/// Passes if there is no scale of the loss: for the rest of a set whose first parameter has been updated
/// straight from its gradient's sums, when nobody knew yet whether all gradients are finite.
pub(super) fn expect_unscaled(loss_scale: Option<&LossScale>) -> Result<()> {
    match loss_scale {
        None => Ok(()),
        Some(_) => Err(Error::Incompatible {
            what: "loss_scale",
            reason: "the first parameter has been updated without it",
        }),
    }
}

/// Passes if the state was made for parameters of these shapes.
fn expect_state(state: &SetState, parameters: &[ParameterUpdate<'_>]) -> Result<()> {
    if state.parts.len() != parameters.len() {
        return Err(Error::Incompatible {
            what: "state",
            reason: "it was made for another number of parameters",
        });
    }
    for ((operand, part), parameter) in STATES.into_iter().zip(state.parts()).zip(parameters) {
        let (expected, given) = (parameter.value.shape(), part.shape);
        if given != expected {
            return Err(Error::Shape { operand, expected, given });
        }
    }
    Ok(())
}

/// Passes if `given` is a finite number of at least 0.
pub(super) fn not_negative(name: &'static str, given: f64) -> Result<()> {
    if given >= 0.0 && (given as f32).is_finite() {
        Ok(())
    } else {
        Err(Error::Setting { name, expected: "a finite number of at least 0", given })
    }
}
