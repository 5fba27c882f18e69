//! `loss_scale.wgsl`: whether gradients are finite, and the scale of a loss, which depends on that.

use super::commands::Commands;
use super::core::{Call, Kernels};
use super::elementwise::{INVOCATIONS, groups};
use super::operands::View;
use crate::error::{Error, Result};
use crate::matrix::{Layout, Matrix};
use crate::shader::{
    Access, Binding, Element, Form, LOSS_SCALE, MATRIX, Shader, elements, uniform,
};

/// Gradients of a dispatch.
const GRADIENTS: usize = 3;

/// Most workgroups of a gradient, each of which reads on by all of them, and of all dispatches together:
/// they are counted in half a word.
const MOST_GROUPS: u64 = 1024;
const MOST_GROUPS_IN_ALL: u64 = (1 << 16) - 1;

const ELEMENTS: &[Element] = elements! {
    "gradient_0": "GRADIENT_0_ELEMENT",
    "gradient_1": "GRADIENT_1_ELEMENT",
    "gradient_2": "GRADIENT_2_ELEMENT",
};

pub(super) static SHADER: Shader = Shader {
    name: "loss_scale",
    sources: &[MATRIX, LOSS_SCALE],
    forms: &[&Form::only(INVOCATIONS, 4)],
    groups: &[&[
        Binding { name: "parameters", access: Access::Uniform(Parameters::FIELDS) },
        Binding { name: "settings", access: Access::Uniform(Settings::FIELDS) },
        Binding { name: "gradient_0", access: Access::Read },
        Binding { name: "gradient_1", access: Access::Read },
        Binding { name: "gradient_2", access: Access::Read },
        Binding { name: "state", access: Access::WriteValues },
    ]],
    overrides: &[],
    elements: ELEMENTS,
};

uniform! {
    struct Parameters {
        gradient_0: View,
        gradient_1: View,
        gradient_2: View,
        end_0: u32,
        end_1: u32,
        end_2: u32,
        all: u32,
        groups_wide: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

uniform! {
    struct Settings {
        growth: f32,
        backoff: f32,
        minimum: f32,
        maximum: f32,
        interval: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

uniform! {
    /// `Scale` of scale.wgsl.
    struct Scale {
        scale: f32,
        inverse: f32,
        good_steps: u32,
        arrivals: u32,
        skipped: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

impl Scale {
    /// What leaves a loss and its gradients as they are.
    pub(super) const ONE: Self = Self::new(1.0);

    const fn new(scale: f32) -> Self {
        Self {
            scale,
            inverse: 1.0 / scale,
            good_steps: 0,
            arrivals: 0,
            skipped: 0,
            padding_0: 0,
            padding_1: 0,
            padding_2: 0,
        }
    }
}

/// How a kernel that reads a loss's scale has it bound.
pub(super) const BINDING: Binding =
    Binding { name: "loss_scale", access: Access::Uniform(Scale::FIELDS) };

/// How a [`LossScale`] starts and changes.
///
/// The rule is that of PyTorch's
/// [`GradScaler`](https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling), with bounds: after
/// `interval` steps with finite gradients the scale grows, and a step whose gradients are not finite is
/// skipped and lets it shrink.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScaleSettings {
    /// The first scale. Powers of two cost no accuracy.
    pub initial: f64,
    /// What the scale is multiplied by after `interval` finite steps in a row; at least 1. Times the
    /// largest scale it is still finite.
    pub growth: f64,
    /// What it is multiplied by after a step that was skipped; above 0, at most 1.
    pub backoff: f64,
    /// Finite steps in a row before it grows; at least 1.
    pub interval: u32,
    /// The bounds of the scale, with `initial` between them; 2⁻¹²⁶ to 2¹²⁶, so that neither they nor what
    /// they are divided out by are subnormal in f32, which a device may take for zero.
    pub range: [f64; 2],
}

impl LossScaleSettings {
    /// A scale that follows the gradients: 2¹⁶ at first, twice that after 2,000 finite steps, half of it
    /// after one that is not, between 2⁻²⁴ and 2²⁴.
    pub fn dynamic() -> Self {
        Self {
            initial: 65536.0,
            growth: 2.0,
            backoff: 0.5,
            interval: 2000,
            range: [2f64.powi(-24), 2f64.powi(24)],
        }
    }

    /// A scale that stays. Steps whose gradients are not finite are skipped all the same.
    pub fn fixed(scale: f64) -> Self {
        Self { initial: scale, growth: 1.0, backoff: 1.0, interval: 1, range: [scale, scale] }
    }

    /// Sets [`LossScaleSettings::initial`].
    pub fn with_initial(mut self, initial: f64) -> Self {
        self.initial = initial;
        self
    }

    /// Sets [`LossScaleSettings::growth`] and [`LossScaleSettings::backoff`].
    pub fn with_factors(mut self, growth: f64, backoff: f64) -> Self {
        self.growth = growth;
        self.backoff = backoff;
        self
    }

    /// Sets [`LossScaleSettings::interval`].
    pub fn with_interval(mut self, interval: u32) -> Self {
        self.interval = interval;
        self
    }

    /// Sets [`LossScaleSettings::range`].
    pub fn with_range(mut self, range: [f64; 2]) -> Self {
        self.range = range;
        self
    }

    fn uniform(&self) -> Result<Settings> {
        let [minimum, maximum] = self.range;
        let normal = |value: f64| (value as f32).is_normal() && value > 0.0;
        let expect = |name, is_right: bool, expected, given| {
            if is_right { Ok(()) } else { Err(Error::Setting { name, expected, given }) }
        };
        for given in self.range {
            let within = normal(given) && normal(1.0 / given);
            expect("range", within, "within 2⁻¹²⁶ … 2¹²⁶", given)?;
        }
        expect("range", minimum <= maximum, "in order", minimum)?;
        let within = normal(self.initial) && (minimum..=maximum).contains(&self.initial);
        expect("initial", within, "within the range of the scale", self.initial)?;
        let largest = self.growth as f32 * maximum as f32;
        let grows = self.growth >= 1.0 && largest.is_finite();
        let expected = "at least 1, and finite times the largest scale";
        expect("growth", grows, expected, self.growth)?;
        let shrinks = normal(self.backoff) && self.backoff <= 1.0;
        expect("backoff", shrinks, "above 0, and at most 1", self.backoff)?;
        expect("interval", self.interval > 0, "at least 1", self.interval.into())?;
        Ok(Settings {
            growth: self.growth as f32,
            backoff: self.backoff as f32,
            minimum: minimum as f32,
            maximum: maximum as f32,
            interval: self.interval,
            padding_0: 0,
            padding_1: 0,
            padding_2: 0,
        })
    }
}

/// What a [`LossScale`] has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScaleStatus {
    /// What the next loss's gradient is multiplied by.
    pub scale: f32,
    /// Finite steps in a row that count towards the next growth.
    pub good_steps: u32,
    /// Steps that were skipped, in all.
    pub skipped: u32,
}

/// The scale of a loss, on the GPU, for gradients in 16 bits.
///
/// The loss's gradient, and with it all that comes of it, is multiplied by the scale, so that small values
/// keep clear of the smallest ones of f16; an update takes the scale out again. Between the two
/// [`Kernels::loss_scale`] looks whether all gradients are finite. If they are not, the update leaves
/// everything as it is, step counts too, and the scale shrinks. Nothing of this comes back to the CPU.
///
/// Give it to an optimizer ([`Optimizer::with_loss_scale`](crate::Optimizer::with_loss_scale)): training
/// steps take it from there. Two optimizers that update by turns need two: each update sets the scale of the
/// next loss, not of one whose gradients are still to be looked at. Clones are one. The source is
/// [Micikevicius et al. 2018](https://arxiv.org/abs/1710.03740).
#[derive(Debug, Clone)]
pub struct LossScale {
    settings: LossScaleSettings,
    uniform: wgpu::Buffer,
    /// A [`Scale`], as 32-bit words.
    state: Matrix,
}

impl LossScale {
    /// A scale with its state in a buffer of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a setting outside its range, [`Error::OutOfMemory`] and
    /// [`Error::DeviceLost`].
    pub fn new(kernels: &Kernels, settings: LossScaleSettings) -> Result<Self> {
        let uniform = settings.uniform()?;
        let uniform = bytemuck::bytes_of(&uniform);
        let uniform = kernels.uniform_buffer("loss scale settings", uniform)?;
        let scale = Scale::new(settings.initial as f32);
        let state = kernels.state_buffer("loss scale", bytemuck::bytes_of(&scale))?;
        let words = size_of::<Scale>() / 4;
        let state = Matrix::new(&state, 1, words as u32)?;
        Ok(Self { settings, uniform, state })
    }

    /// The settings.
    pub fn settings(&self) -> LossScaleSettings {
        self.settings
    }

    /// What the next loss's gradient is multiplied by, \[1, 1\].
    pub fn scale(&self) -> Result<Matrix> {
        self.word(std::mem::offset_of!(Scale, scale))
    }

    /// Finite steps in a row that count towards the next growth, \[1, 1\], as a 32-bit integer.
    pub fn good_steps(&self) -> Result<Matrix> {
        self.word(std::mem::offset_of!(Scale, good_steps))
    }

    /// Steps that were skipped, \[1, 1\], as a 32-bit integer.
    pub fn skipped(&self) -> Result<Matrix> {
        self.word(std::mem::offset_of!(Scale, skipped))
    }

    fn word(&self, byte: usize) -> Result<Matrix> {
        let layout = Layout { offset: byte as u64 / 4, ..Layout::contiguous(1, 1) };
        Matrix::view(self.state.buffer(), layout)
    }

    /// Reads what has become of the scale, as [`Matrix::read`] does.
    ///
    /// # Errors
    ///
    /// As [`Matrix::read`].
    pub async fn read(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<LossScaleStatus> {
        self.state.read(device, queue).await.map(status)
    }

    /// As [`LossScale::read`], blocking. For native programs.
    ///
    /// # Errors
    ///
    /// As [`Matrix::read`].
    pub fn read_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<LossScaleStatus> {
        self.state.read_blocking(device, queue).map(status)
    }

    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        self.state.buffer()
    }
}

/// What these words of a [`Scale`] say.
fn status(words: Vec<f32>) -> LossScaleStatus {
    let word = |byte: usize| words.get(byte / 4).copied().unwrap_or_default();
    LossScaleStatus {
        scale: word(std::mem::offset_of!(Scale, scale)),
        good_steps: word(std::mem::offset_of!(Scale, good_steps)).to_bits(),
        skipped: word(std::mem::offset_of!(Scale, skipped)).to_bits(),
    }
}

impl Kernels {
    /// Looks whether `gradients` are finite, and sets the scale of the next loss and whether the updates
    /// that follow are skipped: once for each step, with all the gradients that its updates take, which
    /// may be of any [`ElementType`](crate::ElementType). One dispatch for three gradients.
    ///
    /// # Errors
    ///
    /// As all kernels: see [`Kernels`].
    pub fn loss_scale(&self, scale: &LossScale, gradients: &[&Matrix]) -> Result<Commands> {
        let given: Vec<_> = gradients.iter().filter(|gradient| !gradient.is_empty()).collect();
        let dispatches = given.chunks(GRADIENTS);
        // At least one for each gradient, of which there may be as many as memory holds.
        let most = (MOST_GROUPS_IN_ALL / given.len().max(1) as u64).min(MOST_GROUPS);
        if most == 0 {
            let (needed, available) = (given.len() as u64, MOST_GROUPS_IN_ALL);
            let limit = "of gradients of one check";
            return Err(Error::Limit { what: SHADER.name, limit, needed, available });
        }
        for gradient in &given {
            self.expect_iterations(SHADER.name, groups(gradient).div_ceil(most))?;
        }
        let groups = |gradient: &Matrix| groups(gradient).min(most) as u32;
        let all = given.iter().map(|gradient| groups(gradient)).sum();
        dispatches.into_iter().try_fold(Commands::default(), |commands, gradients| {
            let [a, b, c] = [0, 1, 2].map(|index| gradients.get(index).map(|matrix| **matrix));
            let operands = self.check(&SHADER, [a, b, c, Some(&scale.state)])?;
            let [gradient_0, gradient_1, gradient_2, _] = operands.views;
            let [a, b, c] = [a, b, c].map(|gradient| gradient.map_or(0, groups));
            let [end_0, end_1, end_2] = [a, a + b, a + b + c];
            let workgroups = self.workgroups(&SHADER, end_2.into())?;
            let parameters = Parameters {
                gradient_0,
                gradient_1,
                gradient_2,
                end_0,
                end_1,
                end_2,
                all,
                groups_wide: workgroups[0],
                padding_0: 0,
                padding_1: 0,
                padding_2: 0,
            };
            let call = Call::new(&SHADER, &parameters, workgroups);
            let call = call.with_settings(Some(&scale.uniform));
            Ok(commands.then(self.prepare(&operands, &call)?))
        })
    }
}
