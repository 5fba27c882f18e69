//! [`Optimizer`]: one state and one update for each parameter, however often it is used.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::element::ElementType;
use crate::error::{Error, Result, captured, expect_alive};
use crate::kernels::{
    AdamMoments, AdamSettings, AdamState, AdamUpdate, BackwardAdam, BackwardSgd, Commands, Factors,
    GRADIENTS, Kernels, LossScale, MOST_PARAMETERS, ParameterUpdate, SgdSettings, SgdState,
    SgdUpdate, VALUES,
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

/// What an optimizer keeps for one parameter: views of the buffer of its set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OptimizerState {
    /// Of SGD: the velocity, with momentum, in the shape of the parameter.
    Sgd(Option<Matrix>),
    /// Of Adam and AdamW: the moments and the step count.
    Adam(AdamMoments),
}

/// Parameters that one dispatch updates.
#[derive(Debug, Clone)]
struct Set {
    /// Indices into the optimizer's list of states.
    parameters: Vec<usize>,
    state: SetState,
}

#[derive(Debug, Clone)]
enum SetState {
    Sgd(Option<SgdState>),
    Adam(AdamState),
}

impl SetState {
    fn new(kernels: &Kernels, settings: OptimizerSettings, parameters: &[&Matrix]) -> Result<Self> {
        Ok(match settings {
            OptimizerSettings::Sgd(settings) if settings.momentum == 0.0 => Self::Sgd(None),
            OptimizerSettings::Sgd(_) => Self::Sgd(Some(SgdState::new(kernels, parameters)?)),
            OptimizerSettings::Adam(_) => Self::Adam(AdamState::new(kernels, parameters)?),
        })
    }

    /// What is kept for each of so many parameters.
    fn of_each(&self, parameters: usize) -> Vec<OptimizerState> {
        match self {
            Self::Sgd(None) => vec![OptimizerState::Sgd(None); parameters],
            Self::Sgd(Some(state)) => {
                let velocities = state.velocities().iter().cloned();
                velocities.map(|velocity| OptimizerState::Sgd(Some(velocity))).collect()
            }
            Self::Adam(state) => {
                state.moments().iter().cloned().map(OptimizerState::Adam).collect()
            }
        }
    }
}

/// An optimizer of some parameters: their moments on the GPU, and the settings of the update.
#[derive(Debug, Clone)]
pub struct Optimizer {
    kernels: Kernels,
    settings: OptimizerSettings,
    uniform: wgpu::Buffer,
    sets: Vec<Set>,
    /// In the order in which the parameters were given.
    states: Vec<(Parameter, OptimizerState)>,
    loss_scale: Option<LossScale>,
}

impl Optimizer {
    /// Zeroed moments for each of `parameters`.
    ///
    /// Parameters are f32. For training in 16 bits they have a
    /// [working copy](Matrix::with_working_copy), which each update writes in the same dispatch.
    ///
    /// # Errors
    ///
    /// [`Error::ElementType`] for a parameter that is not f32, [`Error::Incompatible`] for one that is another
    /// with another working copy or without it, [`Error::Setting`] for a setting outside its range, and as
    /// [`Kernels::zeros`].
    pub fn new(
        kernels: &Kernels,
        parameters: &Parameters,
        settings: impl Into<OptimizerSettings>,
    ) -> Result<Self> {
        let settings = settings.into();
        for Parameter { name, value } in parameters.iter() {
            let given = value.layout().element;
            if given != ElementType::F32 {
                let reason =
                    "an optimizer updates f32 masters, of which it may be the working copy";
                let error = Error::ElementType { operand: "value", given, reason };
                return Err(error.within(name.to_string()));
            }
            let is_same = |other: &&Parameter| {
                let other = &other.value;
                other != value
                    && other.buffer() == value.buffer()
                    && other.layout() == value.layout()
            };
            // Two states and two updates of the same values, of which each would leave the other's copy behind.
            if parameters.iter().any(|other| is_same(&other)) {
                let reason = "it is given twice, with two working copies or once without one";
                let error = Error::Incompatible { what: "value", reason };
                return Err(error.within(name.to_string()));
            }
        }
        let uniform = kernels.uniform_buffer("optimizer settings", &settings.to_uniform()?)?;
        let (mut sets, mut states) = (Vec::new(), Vec::new());
        for set in dealt_out(parameters) {
            let values: Vec<_> = set.iter().map(|(_, parameter)| &parameter.value).collect();
            let state = SetState::new(kernels, settings, &values)?;
            states.extend(set.iter().copied().zip(state.of_each(set.len())));
            let parameters = set.into_iter().map(|(index, _)| index).collect();
            sets.push(Set { parameters, state });
        }
        states.sort_by_key(|((index, _), _)| *index);
        let states = states.into_iter().map(|((_, parameter), state)| (parameter.clone(), state));
        let states = states.collect();
        let kernels = kernels.clone();
        Ok(Self { kernels, settings, uniform, sets, states, loss_scale: None })
    }

    /// Lets the gradients be those of a loss times a scale: training steps prepared with this optimizer
    /// multiply their loss's gradient by it, and updates take it out again, or leave everything as it is
    /// where one of their gradients is not finite. One dispatch more for three parameters.
    ///
    /// A loss of the host's own has to be scaled likewise ([`LossScale::scale`],
    /// [`LossGradient::loss_scale`](crate::kernels::LossGradient::loss_scale)).
    pub fn with_loss_scale(mut self, scale: LossScale) -> Self {
        self.loss_scale = Some(scale);
        self
    }

    /// The scale of the loss, if there is one.
    pub fn loss_scale(&self) -> Option<&LossScale> {
        self.loss_scale.as_ref()
    }

    /// One update of every parameter of the optimizer, from pairs of a parameter's value and its
    /// gradient, in any order. Pairs of other parameters are left alone.
    ///
    /// One dispatch updates up to three parameters that lie in different buffers: those of a layer
    /// take one.
    ///
    /// # Errors
    ///
    /// [`Error::NoGradient`] where a parameter is in no pair, and as [`Kernels::sgd`] and
    /// [`Kernels::adam`]; there a parameter is called by its name.
    pub fn update(&self, gradients: &[(&Matrix, &Matrix)]) -> Result<Commands> {
        self.update_without(&[], gradients)
    }

    /// As [`Optimizer::update`], but the parameters with these values are frozen: they stay as they are,
    /// bit by bit, and so do their moments and step counts. They need no gradients. Dispatches whose
    /// parameters are all frozen are left out.
    ///
    /// # Errors
    ///
    /// As [`Optimizer::update`].
    pub fn update_without(
        &self,
        frozen: &[&Matrix],
        gradients: &[(&Matrix, &Matrix)],
    ) -> Result<Commands> {
        let update = |parameter: &Parameter| {
            if frozen.contains(&&parameter.value) {
                return Ok(None);
            }
            pair_of(parameter, gradients).map(Some)
        };
        let updates = self.states.iter().map(|(parameter, _)| update(parameter));
        let updates = updates.collect::<Result<Vec<_>>>()?;
        let sets = self.sets.iter().try_fold(Commands::default(), |commands, set| {
            let is_frozen = |index: &usize| updates[*index].is_none();
            if set.parameters.iter().all(is_frozen) {
                return Ok(commands);
            }
            let frozen: Vec<_> = set.parameters.iter().map(is_frozen).collect();
            let update = |index: &usize| {
                let value = &self.states[*index].0.value;
                // The stand-in of a frozen one is not read.
                updates[*index].unwrap_or(ParameterUpdate { value, gradient: value })
            };
            let parameters: Vec<_> = set.parameters.iter().map(update).collect();
            let more = self.update_set(&set.state, &parameters, &frozen);
            Ok(commands.then(more.map_err(|error| self.named(error, set))?))
        })?;
        let Some(scale) = &self.loss_scale else { return Ok(sets) };
        let gradients = updates.iter().flatten().map(|update| update.gradient);
        let check = self.kernels.loss_scale(scale, &gradients.collect::<Vec<_>>())?;
        Ok(check.then(sets))
    }

    /// As [`Optimizer::update`], but `weight` takes its step from what its gradient is made of, which is
    /// then written nowhere: the commands for that, and those for all other parameters, to be recorded
    /// afterwards. A scale of the loss is not for that: it needs all gradients before the first step.
    /// `None` where `weight` is not the first of its set, which a larger bias is then.
    pub(crate) fn update_from_factors(
        &self,
        weight: &Matrix,
        factors: &Factors<'_>,
        gradients: &[(&Matrix, &Matrix)],
    ) -> Result<Option<(Commands, Commands)>> {
        if self.loss_scale.is_some() {
            return Err(Error::Incompatible {
                what: "fused_update",
                reason: "whether gradients are finite is known when they are all there",
            });
        }
        let is_first = |set: &&Set| {
            let first = set.parameters.first().and_then(|index| self.states.get(*index));
            first.is_some_and(|(parameter, _)| parameter.value == *weight)
        };
        let Some(of_weight) = self.sets.iter().find(is_first) else { return Ok(None) };
        let fused = self.update_weight(&of_weight.state, weight, factors)?;
        let mut rest = Commands::default();
        for set in &self.sets {
            let update = |index: &usize| {
                let (parameter, _) = &self.states[*index];
                if parameter.value == *weight {
                    // Not read.
                    return Ok(ParameterUpdate { value: weight, gradient: weight });
                }
                pair_of(parameter, gradients)
            };
            let parameters = set.parameters.iter().map(update).collect::<Result<Vec<_>>>()?;
            let more = if std::ptr::eq(set, of_weight) {
                self.update_rest(&set.state, &parameters)
            } else {
                self.update_set(&set.state, &parameters, &[])
            };
            rest = rest.then(more.map_err(|error| self.named(error, set))?);
        }
        Ok(Some((fused, rest)))
    }

    fn update_weight(
        &self,
        state: &SetState,
        value: &Matrix,
        factors: &Factors<'_>,
    ) -> Result<Commands> {
        let (settings, factors) = (&self.uniform, *factors);
        match state {
            SetState::Sgd(state) => {
                let state = state.as_ref();
                self.kernels.backward_sgd(&BackwardSgd { factors, value, state, settings })
            }
            SetState::Adam(state) => {
                self.kernels.backward_adam(&BackwardAdam { factors, value, state, settings })
            }
        }
    }

    fn update_rest(
        &self,
        state: &SetState,
        parameters: &[ParameterUpdate<'_>],
    ) -> Result<Commands> {
        let (settings, loss_scale) = (&self.uniform, self.loss_scale.as_ref());
        match state {
            SetState::Sgd(state) => {
                let state = state.as_ref();
                self.kernels.sgd_rest(&SgdUpdate { parameters, state, settings, loss_scale })
            }
            SetState::Adam(state) => {
                self.kernels.adam_rest(&AdamUpdate { parameters, state, settings, loss_scale })
            }
        }
    }

    fn update_set(
        &self,
        state: &SetState,
        parameters: &[ParameterUpdate<'_>],
        frozen: &[bool],
    ) -> Result<Commands> {
        let (settings, loss_scale) = (&self.uniform, self.loss_scale.as_ref());
        match state {
            SetState::Sgd(state) => {
                let state = state.as_ref();
                self.kernels
                    .sgd_without(frozen, &SgdUpdate { parameters, state, settings, loss_scale })
            }
            SetState::Adam(state) => self
                .kernels
                .adam_without(frozen, &AdamUpdate { parameters, state, settings, loss_scale }),
        }
    }

    /// The error with the names of the set's parameters, since the caller does not see the sets.
    fn named(&self, mut error: Error, set: &Set) -> Error {
        let name = |index: usize| &self.states[index].0.name;
        let values = VALUES.into_iter().zip(&set.parameters);
        let called = VALUES.into_iter().zip(GRADIENTS).zip(&set.parameters);
        let about = called
            .filter(|((value, gradient), _)| error.is_about(value) || error.is_about(gradient))
            .map(|(_, index)| name(*index));
        let about: Vec<_> = about.collect();
        let own = |name: &&Cow<'static, str>| matches!(name, Cow::Owned(_));
        let place = about.iter().any(own).then(|| {
            let names: Vec<_> = about.iter().map(|name| name.as_ref()).collect();
            names.join(" and ")
        });
        let of_place = |name: &Cow<'static, str>| match name {
            Cow::Borrowed(name) if place.is_none() => *name,
            _ => "value",
        };
        let values = values.map(|(called, index)| [called, of_place(name(*index))]);
        let gradients = GRADIENTS.into_iter().map(|called| [called, "gradient"]);
        let error = error.renamed(&values.chain(gradients).collect::<Vec<_>>());
        match place {
            Some(place) => error.within(place),
            None => error,
        }
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

/// Sets of parameters that may be updated by one dispatch, each with its index in the list. As few
/// as there can be, if no two parameters share a buffer, and the largest ones lead a set each: the
/// kernels read and write the first parameter of a set in the largest words, and no other with a working
/// copy.
fn dealt_out(parameters: &Parameters) -> Vec<Vec<(usize, &Parameter)>> {
    let fewest = parameters.len().div_ceil(MOST_PARAMETERS);
    let has_copy = |parameter: &Parameter| parameter.value.working_copy().is_some();
    let mut by_size: Vec<_> = parameters.iter().enumerate().collect();
    by_size.sort_by_key(|(_, parameter)| Reverse((has_copy(parameter), parameter.value.len())));
    let mut sets: Vec<Vec<(usize, &Parameter)>> = Vec::new();
    for (index, parameter) in by_size {
        let buffer = parameter.value.buffer();
        let has_room = |set: &&mut Vec<(usize, &Parameter)>| {
            set.len() < MOST_PARAMETERS
                && set.iter().all(|(_, other)| other.value.buffer() != buffer)
        };
        let leads = sets.len() < fewest || has_copy(parameter);
        match sets.iter_mut().find(has_room).filter(|_| !leads) {
            Some(set) => set.push((index, parameter)),
            None => sets.push(vec![(index, parameter)]),
        }
    }
    sets
}

/// The parameter with the gradient that is paired with it.
fn pair_of<'a>(
    parameter: &Parameter,
    gradients: &[(&'a Matrix, &'a Matrix)],
) -> Result<ParameterUpdate<'a>> {
    let found = gradients.iter().find(|(value, _)| **value == parameter.value);
    let Some(&(value, gradient)) = found else {
        return Err(Error::NoGradient { parameter: parameter.name.clone() });
    };
    Ok(ParameterUpdate { value, gradient })
}
