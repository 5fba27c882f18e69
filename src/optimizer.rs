//! [`Optimizer`]: one state and one update for each parameter, however often it is used.

use crate::error::{Error, Result, captured, expect_alive};
use crate::kernels::{
    AdamSettings, AdamState, AdamUpdate, Commands, Kernels, SgdSettings, SgdState, SgdUpdate,
};
use crate::matrix::Matrix;
use crate::parameters::{Parameter, Parameters};

/// The update rule and its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum OptimizerSettings {
    /// Stochastic gradient descent, with or without momentum.
    Sgd(SgdSettings),
    /// Adam or AdamW.
    Adam(AdamSettings),
}

impl OptimizerSettings {
    /// The same with another learning rate.
    pub fn with_learning_rate(self, learning_rate: f64) -> Self {
        match self {
            Self::Sgd(settings) => Self::Sgd(SgdSettings { learning_rate, ..settings }),
            Self::Adam(settings) => Self::Adam(AdamSettings { learning_rate, ..settings }),
        }
    }

    fn to_uniform(self) -> Result<Vec<u8>> {
        match self {
            Self::Sgd(settings) => settings.to_uniform(),
            Self::Adam(settings) => settings.to_uniform(),
        }
    }
}

impl From<SgdSettings> for OptimizerSettings {
    fn from(settings: SgdSettings) -> Self {
        Self::Sgd(settings)
    }
}

impl From<AdamSettings> for OptimizerSettings {
    fn from(settings: AdamSettings) -> Self {
        Self::Adam(settings)
    }
}

/// What an optimizer keeps for one parameter.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OptimizerState {
    /// Of SGD: the velocity, with momentum.
    Sgd(Option<SgdState>),
    /// Of Adam and AdamW: the moments and the step count.
    Adam(AdamState),
}

/// An optimizer of some parameters: their moments on the GPU, and the settings of the update.
#[derive(Debug, Clone)]
pub struct Optimizer {
    kernels: Kernels,
    settings: OptimizerSettings,
    uniform: wgpu::Buffer,
    states: Vec<(Parameter, OptimizerState)>,
}

impl Optimizer {
    /// Zeroed moments for `parameters`, one set for each.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a setting outside its range, and as [`Kernels::zeros`].
    pub fn new(
        kernels: &Kernels,
        parameters: &Parameters,
        settings: impl Into<OptimizerSettings>,
    ) -> Result<Self> {
        let settings = settings.into();
        let uniform = kernels.uniform_buffer("optimizer settings", &settings.to_uniform()?)?;
        let state = |parameter: &Parameter| {
            let value = &parameter.value;
            let state = match settings {
                OptimizerSettings::Sgd(settings) if settings.momentum == 0.0 => {
                    OptimizerState::Sgd(None)
                }
                OptimizerSettings::Sgd(_) => {
                    OptimizerState::Sgd(Some(SgdState::new(kernels, value)?))
                }
                OptimizerSettings::Adam(_) => OptimizerState::Adam(AdamState::new(kernels, value)?),
            };
            Ok((parameter.clone(), state))
        };
        let states = parameters.iter().map(state).collect::<Result<_>>()?;
        Ok(Self { kernels: kernels.clone(), settings, uniform, states })
    }

    /// One update of every parameter of the optimizer, from pairs of a parameter's value and its
    /// gradient, in any order. Pairs of other parameters are left alone.
    ///
    /// # Errors
    ///
    /// [`Error::NoGradient`] where a parameter is in no pair, and as [`Kernels::sgd`] and
    /// [`Kernels::adam`].
    pub fn update(&self, gradients: &[(&Matrix, &Matrix)]) -> Result<Commands> {
        let settings = &self.uniform;
        let mut commands = Commands::default();
        for (parameter, state) in &self.states {
            let value = &parameter.value;
            let Some(&(_, gradient)) = gradients.iter().find(|(known, _)| *known == value) else {
                return Err(Error::NoGradient { parameter: parameter.name });
            };
            commands = commands.then(match state {
                OptimizerState::Sgd(state) => {
                    let state = state.as_ref();
                    self.kernels.sgd(&SgdUpdate { value, gradient, state, settings })?
                }
                OptimizerState::Adam(state) => {
                    self.kernels.adam(&AdamUpdate { value, gradient, state, settings })?
                }
            });
        }
        Ok(commands)
    }

    /// Sets the learning rate of all that is submitted from now on, commands recorded earlier but
    /// not yet submitted included.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a value outside its range, [`Error::DeviceMismatch`] for another
    /// device, [`Error::DeviceLost`]. The queue must be the device's own, which wgpu gives no way to
    /// check.
    pub fn set_learning_rate(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        learning_rate: f64,
    ) -> Result<()> {
        if device != self.kernels.device() {
            return Err(Error::DeviceMismatch { what: "optimizer" });
        }
        let settings = self.settings.with_learning_rate(learning_rate);
        let bytes = settings.to_uniform()?;
        expect_alive(device)?;
        captured(device, "a learning rate", || queue.write_buffer(&self.uniform, 0, &bytes))?;
        self.settings = settings;
        Ok(())
    }

    /// The settings in force.
    pub fn settings(&self) -> OptimizerSettings {
        self.settings
    }

    /// The parameters and what is kept for each.
    pub fn states(&self) -> impl Iterator<Item = (&Parameter, &OptimizerState)> {
        self.states.iter().map(|(parameter, state)| (parameter, state))
    }
}
