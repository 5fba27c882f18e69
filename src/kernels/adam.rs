//! `adam.wgsl`: one step of Adam or AdamW on a set of parameters.

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
    name: "adam",
    sources: &[
        MATRIX,
        shader::VALUE_AND_COPY,
        shader::SCALE,
        shader::PARAMETER_SET,
        shader::ADAM_RULE,
        shader::ADAM,
    ],
    forms: &[&Form::only(INVOCATIONS, 8)],
    groups: &[&parameter_set::bindings_with_second(SETTINGS)],
    overrides: &[],
    elements: parameter_set::ELEMENTS,
};

/// The settings' fields.
pub(super) const SETTINGS: &[Field] = Uniform::FIELDS;

uniform! {
    struct Uniform {
        learning_rate: f32,
        beta1: f32,
        beta2: f32,
        one_minus_beta1: f32,
        one_minus_beta2: f32,
        log_beta1: f32,
        log_beta2: f32,
        epsilon: f32,
        weight_decay: f32,
        decoupled_decay: f32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Settings of Adam and AdamW, as PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Step size; at least 0.
    pub learning_rate: f64,
    /// Decay rates of the two moments; each at least 0 and below 1.
    pub betas: [f64; 2],
    /// Added to the root of the second moment; at least 0.
    pub epsilon: f64,
    /// Weight decay; at least 0.
    pub weight_decay: f64,
    /// How the decay acts: `true` shrinks the parameter itself by learning_rate·weight_decay
    /// (AdamW), `false` adds weight_decay times the parameter to its gradient (Adam).
    pub decoupled: bool,
}

impl AdamSettings {
    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8, no decay
    /// ([Kingma and Ba](https://arxiv.org/abs/1412.6980)).
    pub fn adam(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
        }
    }

    /// AdamW with PyTorch's defaults: those of Adam, and a decoupled decay of 0.01
    /// ([Loshchilov and Hutter](https://arxiv.org/abs/1711.05101)).
    pub fn adamw(learning_rate: f64) -> Self {
        Self { weight_decay: 0.01, decoupled: true, ..Self::adam(learning_rate) }
    }

    /// Sets [`AdamSettings::betas`].
    pub fn with_betas(mut self, betas: [f64; 2]) -> Self {
        self.betas = betas;
        self
    }

    /// Sets [`AdamSettings::epsilon`].
    pub fn with_epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets [`AdamSettings::weight_decay`].
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// The contents of the uniform buffer that [`AdamUpdate::settings`] is.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a value outside its range.
    pub fn to_uniform(&self) -> Result<Vec<u8>> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("epsilon", self.epsilon)?;
        not_negative("weight_decay", self.weight_decay)?;
        for given in self.betas {
            if !(0.0..1.0).contains(&given) {
                return Err(Error::Setting {
                    name: "betas",
                    expected: "in 0 … 1, without 1",
                    given,
                });
            }
        }
        let [beta1, beta2] = self.betas;
        // ln 0 is no number to calculate with; e⁻¹⁰⁰ is as good as 0.
        let log = |beta: f64| beta.ln().max(-100.0) as f32;
        let decay = self.weight_decay as f32;
        let uniform = Uniform {
            learning_rate: self.learning_rate as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            log_beta1: log(beta1),
            log_beta2: log(beta2),
            epsilon: self.epsilon as f32,
            weight_decay: if self.decoupled { 0.0 } else { decay },
            decoupled_decay: if self.decoupled { decay } else { 0.0 },
            padding_0: 0,
            padding_1: 0,
        };
        Ok(bytemuck::bytes_of(&uniform).to_vec())
    }
}

/// The moments and step counts of a set of up to three parameters, zero at first: one buffer for the first
/// moments and the counts, one for the second moments. Each is bound as a whole, which
/// [`wgpu::Limits::max_storage_buffer_binding_size`] bounds; it takes a little more than the parameters.
#[derive(Debug, Clone)]
pub struct AdamState {
    /// First moments and step counts.
    set: SetState,
    second: SetState,
    moments: Vec<AdamMoments>,
}

/// What an [`AdamState`] holds for one of its parameters: views of its buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamMoments {
    first_moment: Matrix,
    second_moment: Matrix,
    steps: Matrix,
}

impl AdamState {
    /// Moments for these parameters, in the order in which the updates list them.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyParameters`] for more than three, and as [`Kernels::zeros`].
    pub fn new(kernels: &Kernels, parameters: &[&Matrix]) -> Result<Self> {
        let set = SetState::new(kernels, "first moments", parameters, true)?;
        let second = SetState::new(kernels, "second moments", parameters, false)?;
        let moments = set.parts().map(|part| {
            let [first_moment, second_moment] = [set.moment(part)?, second.moment(part)?];
            Ok(AdamMoments { first_moment, second_moment, steps: set.steps(part)? })
        });
        let moments = moments.collect::<Result<_>>()?;
        Ok(Self { set, second, moments })
    }

    pub(super) fn set(&self) -> &SetState {
        &self.set
    }

    pub(super) fn second(&self) -> &SetState {
        &self.second
    }

    fn both(&self) -> [Option<&SetState>; 2] {
        [Some(&self.set), Some(&self.second)]
    }

    /// The moments of each parameter, in the order of [`AdamState::new`].
    pub fn moments(&self) -> &[AdamMoments] {
        &self.moments
    }
}

impl AdamMoments {
    /// m, in the shape of the parameter.
    pub fn first_moment(&self) -> &Matrix {
        &self.first_moment
    }

    /// v, in the shape of the parameter.
    pub fn second_moment(&self) -> &Matrix {
        &self.second_moment
    }

    /// The step count t, as 32-bit integers in a column: one copy for each workgroup that updates the
    /// parameter, all equal.
    pub fn steps(&self) -> &Matrix {
        &self.steps
    }
}

/// Arguments of [`Kernels::adam`].
#[derive(Debug, Clone, Copy)]
pub struct AdamUpdate<'a> {
    /// Up to three parameters, each with its gradient, each in a buffer of its own. The first is read
    /// and written four values at a time where it and its gradient allow that, the others always one
    /// by one: let it be the largest.
    pub parameters: &'a [ParameterUpdate<'a>],
    /// The moments and step counts, made for these parameters; the step raises the counts by one.
    pub state: &'a AdamState,
    /// A uniform buffer with [`AdamSettings::to_uniform`]: write to it between submissions to change
    /// the learning rate.
    pub settings: &'a wgpu::Buffer,
    /// The scale of the loss that the gradients come from, which [`Kernels::loss_scale`] has set before:
    /// it is taken out of them, and the step is skipped where they are not finite.
    pub loss_scale: Option<&'a LossScale>,
}

impl<'a> AdamUpdate<'a> {
    fn uniforms(&self) -> Uniforms<'a> {
        Uniforms { settings: self.settings, loss_scale: self.loss_scale }
    }
}

impl Kernels {
    /// One step of Adam or AdamW on up to three parameters, in one dispatch. The step count is kept
    /// on the GPU, so the same commands can be recorded again and again, also within one submission.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyParameters`] for more than three, [`Error::Incompatible`] for a state of
    /// another number of parameters, and as all kernels: see [`Kernels`].
    pub fn adam(&self, call: &AdamUpdate<'_>) -> Result<Commands> {
        self.adam_without(&[], call)
    }

    /// The same for all but those that are frozen.
    pub(crate) fn adam_without(&self, frozen: &[bool], call: &AdamUpdate<'_>) -> Result<Commands> {
        let state = call.state.both();
        self.update(&SHADER, Which::Without(frozen), call.parameters, state, call.uniforms())
    }

    /// The same for all but the first parameter, which [`Kernels::backward_adam`] has updated just
    /// before: its gradient is not read, and its step count rises with the others'.
    ///
    /// # Errors
    ///
    /// As [`Kernels::adam`], and [`Error::Incompatible`] for a scale of the loss, which the first parameter's
    /// step knew nothing of.
    pub fn adam_rest(&self, call: &AdamUpdate<'_>) -> Result<Commands> {
        expect_unscaled(call.loss_scale)?;
        let state = call.state.both();
        self.update(&SHADER, Which::AllButFirst, call.parameters, state, call.uniforms())
    }
}
