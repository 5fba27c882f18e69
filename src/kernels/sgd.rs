//! `sgd.wgsl`: one step of stochastic gradient descent on a set of parameters.

use super::commands::Commands;
use super::core::Kernels;
use super::elementwise::INVOCATIONS;
use super::loss_scale::LossScale;
use super::parameter_set::{
    self, ParameterUpdate, SetState, Uniforms, Which, expect_unscaled, not_negative,
};
use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::shader::{self, Field, Form, MATRIX, Shader, uniform};

pub(super) static SHADER: Shader = Shader {
    name: "sgd",
    sources: &[
        MATRIX,
        shader::VALUE_AND_COPY,
        shader::SCALE,
        shader::PARAMETER_SET,
        shader::SGD_RULE,
        shader::SGD,
    ],
    forms: &[&Form::only(INVOCATIONS, 0)],
    groups: &[&parameter_set::bindings(SETTINGS)],
    overrides: &[],
    elements: parameter_set::ELEMENTS,
};

/// The settings' fields.
pub(super) const SETTINGS: &[Field] = Uniform::FIELDS;

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

/// The velocities of a set of up to three parameters, zero at first: one buffer.
///
/// It is bound as a whole, which [`wgpu::Limits::max_storage_buffer_binding_size`] bounds: it takes
/// 4 bytes for each value of the parameters, so the limit's default of 128 MiB is enough for 33
/// million.
#[derive(Debug, Clone)]
pub struct SgdState {
    set: SetState,
    velocities: Vec<Matrix>,
}

impl SgdState {
    pub(super) fn set(&self) -> &SetState {
        &self.set
    }

    /// Velocities for these parameters, in the order in which the updates list them.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyParameters`] for more than three, and as [`Kernels::zeros`].
    pub fn new(kernels: &Kernels, parameters: &[&Matrix]) -> Result<Self> {
        let set = SetState::new(kernels, "velocities", parameters, false)?;
        let velocities = set.parts().map(|part| set.moment(part)).collect::<Result<_>>()?;
        Ok(Self { set, velocities })
    }

    /// The velocity of each parameter, in the order of [`SgdState::new`]: views of the state's
    /// buffer, in the shape of the parameter.
    pub fn velocities(&self) -> &[Matrix] {
        &self.velocities
    }
}

/// Arguments of [`Kernels::sgd`].
#[derive(Debug, Clone, Copy)]
pub struct SgdUpdate<'a> {
    /// Up to three parameters, each with its gradient, each in a buffer of its own. The first is read
    /// and written four values at a time where it and its gradient allow that, the others always one
    /// by one: let it be the largest.
    pub parameters: &'a [ParameterUpdate<'a>],
    /// The velocities, made for these parameters. With `None` the step is plain gradient descent,
    /// whatever momentum and Nesterov the settings say.
    pub state: Option<&'a SgdState>,
    /// A uniform buffer with [`SgdSettings::to_uniform`]: write to it between submissions to change
    /// the learning rate.
    pub settings: &'a wgpu::Buffer,
    /// The scale of the loss that the gradients come from, which [`Kernels::loss_scale`] has set before:
    /// it is taken out of them, and the step is skipped where they are not finite.
    pub loss_scale: Option<&'a LossScale>,
}

impl<'a> SgdUpdate<'a> {
    fn uniforms(&self) -> Uniforms<'a> {
        Uniforms { settings: self.settings, loss_scale: self.loss_scale }
    }
}

impl Kernels {
    /// One step of stochastic gradient descent on up to three parameters, in one dispatch.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyParameters`] for more than three, [`Error::Incompatible`] for a state of
    /// another number of parameters, and as all kernels: see [`Kernels`].
    pub fn sgd(&self, call: &SgdUpdate<'_>) -> Result<Commands> {
        self.sgd_without(&[], call)
    }

    /// The same for all but those that are frozen.
    pub(crate) fn sgd_without(&self, frozen: &[bool], call: &SgdUpdate<'_>) -> Result<Commands> {
        let state = [call.state.map(|state| &state.set), None];
        self.update(&SHADER, Which::Without(frozen), call.parameters, state, call.uniforms())
    }

    /// The same for all but the first parameter, which [`Kernels::backward_sgd`] has updated: its
    /// gradient is not read.
    ///
    /// # Errors
    ///
    /// As [`Kernels::sgd`], and [`Error::Incompatible`] for a scale of the loss, which the first parameter's
    /// step knew nothing of.
    pub fn sgd_rest(&self, call: &SgdUpdate<'_>) -> Result<Commands> {
        expect_unscaled(call.loss_scale)?;
        let state = call.state.map(|state| &state.set);
        self.update(&SHADER, Which::AllButFirst, call.parameters, [state, None], call.uniforms())
    }
}
