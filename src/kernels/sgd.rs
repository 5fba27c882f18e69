//! `sgd.wgsl`: one step of stochastic gradient descent on one parameter.

use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::{INVOCATIONS, groups};
use super::moments::{moment, not_negative};
use super::operands::View;
use crate::error::{Error, Result};
use crate::matrix::{Matrix, expect_shape};
use crate::shader::{self, Access, Binding, Form, MATRIX, Shader, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "sgd",
    sources: &[MATRIX, shader::SGD],
    forms: &[&Form::only(INVOCATIONS, 0)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "settings", access: Access::Uniform(Uniform::FIELDS) },
        Binding { name: "gradient", access: Access::Read },
        Binding { name: "value", access: Access::Write },
        Binding { name: "velocity", access: Access::WriteValues },
    ]],
    overrides: &[],
};

uniform! {
    struct Parameters {
        value: View,
        gradient: View,
        groups_wide: u32,
        has_momentum: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

uniform! {
    struct Uniform {
        learning_rate: f32,
        momentum: f32,
        weight_decay: f32,
        nesterov: u32,
    }
}

/// Settings of stochastic gradient descent, as PyTorch's
/// [`SGD`](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html) with dampening 0; momentum
/// as in [Sutskever et al. 2013](https://proceedings.mlr.press/v28/sutskever13.html).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdSettings {
    /// Step size; at least 0.
    pub learning_rate: f64,
    /// Share of the velocity that is kept from step to step; at least 0. With 0 there is none.
    pub momentum: f64,
    /// Whether the step looks ahead along the velocity (Nesterov). Needs momentum.
    pub nesterov: bool,
    /// L2 penalty: this many times the parameter is added to its gradient; at least 0.
    pub weight_decay: f64,
}

impl SgdSettings {
    /// Plain gradient descent with this step size.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Sets [`SgdSettings::momentum`].
    pub fn with_momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets [`SgdSettings::nesterov`].
    pub fn with_nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// Sets [`SgdSettings::weight_decay`].
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// The contents of the uniform buffer that [`SgdUpdate::settings`] is.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a value outside its range.
    pub fn to_uniform(&self) -> Result<Vec<u8>> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("momentum", self.momentum)?;
        not_negative("weight_decay", self.weight_decay)?;
        if self.nesterov && self.momentum == 0.0 {
            let expected = "above 0 where nesterov is on";
            return Err(Error::Setting { name: "momentum", expected, given: self.momentum });
        }
        let uniform = Uniform {
            learning_rate: self.learning_rate as f32,
            momentum: self.momentum as f32,
            weight_decay: self.weight_decay as f32,
            nesterov: u32::from(self.nesterov),
        };
        Ok(bytemuck::bytes_of(&uniform).to_vec())
    }
}

/// The velocity of one parameter, zero at first.
#[derive(Debug, Clone)]
pub struct SgdState {
    shape: [u32; 2],
    velocity: Matrix,
}

impl SgdState {
    /// A velocity for `value`.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new(kernels: &Kernels, value: &Matrix) -> Result<Self> {
        Ok(Self { shape: value.shape(), velocity: moment(kernels, "velocity", value)? })
    }

    /// The velocity: one row of quads, each row of the parameter padded to a multiple of four.
    pub fn velocity(&self) -> &Matrix {
        &self.velocity
    }
}

/// Arguments of [`Kernels::sgd`].
#[derive(Debug, Clone, Copy)]
pub struct SgdUpdate<'a> {
    /// The parameter.
    pub value: &'a Matrix,
    /// Its gradient, in the same shape.
    pub gradient: &'a Matrix,
    /// The velocity. With `None` the step is plain gradient descent, whatever momentum and Nesterov
    /// the settings say.
    pub state: Option<&'a SgdState>,
    /// A uniform buffer with [`SgdSettings::to_uniform`]: write to it between submissions to change
    /// the learning rate.
    pub settings: &'a wgpu::Buffer,
}

impl Kernels {
    /// One step of stochastic gradient descent on one parameter.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn sgd(&self, call: &SgdUpdate<'_>) -> Result<Commands> {
        let shape = call.value.shape();
        expect_shape("gradient", call.gradient, shape)?;
        if let Some(state) = call.state.filter(|state| state.shape != shape) {
            return Err(Error::Shape { operand: "state", expected: shape, given: state.shape });
        }
        let velocity = call.state.map(SgdState::velocity);
        let operands = self.check(&SHADER, [Some(call.gradient), Some(call.value), velocity])?;
        let workgroups = self.workgroups(&SHADER, groups(call.value))?;
        let [gradient, value, _] = operands.views;
        let parameters = Parameters {
            value,
            gradient,
            groups_wide: workgroups[0],
            has_momentum: u32::from(call.state.is_some()),
            padding_0: 0,
            padding_1: 0,
        };
        let call = Call::new(&SHADER, &parameters, workgroups).with_settings(call.settings);
        self.prepare(&operands, &call)
    }
}
