//! [`WarmUp`]: every pipeline that a layer will need, built before it is needed.

use crate::element::{ElementType, ElementTypes};
use crate::error::{Error, Result, captured, expect_alive};
use crate::init::Init;
use crate::kernels::{Commands, Kernels, LossScale, LossScaleSettings};
use crate::layer::{Gradients, Tape, TiedLinear, TiedLinearOptions};
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::training::{TrainingOptions, TrainingStep};

/// What [`Kernels::warm_up`] gets ready for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WarmUp<'a> {
    /// The layer.
    pub layer: &'a TiedLinearOptions,
    /// The batch sizes, since the strategy depends on them.
    pub batches: &'a [u32],
    /// The type of inputs and targets. Default: f32.
    pub input_element: ElementType,
    /// The types of a forward pass's [`Tape`]. Default: f32.
    pub tape_elements: ElementTypes,
    /// How it is trained, if it is. Default: not.
    pub training: Option<WarmUpTraining>,
}

/// The training that [`Kernels::warm_up`] gets ready for.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct WarmUpTraining {
    /// The training step's options.
    pub options: TrainingOptions,
    /// The optimizer's settings.
    pub optimizer: OptimizerSettings,
    /// The type of the weight's gradient ([`Gradients::new_as`]). Default: f32.
    pub gradient_element: ElementType,
    /// Whether the loss has a [scale](LossScale). Default: no.
    pub loss_scale: bool,
}

impl<'a> WarmUp<'a> {
    /// For forward passes of a layer, in f32.
    pub fn new(layer: &'a TiedLinearOptions, batches: &'a [u32]) -> Self {
        Self {
            layer,
            batches,
            input_element: ElementType::F32,
            tape_elements: ElementTypes::default(),
            training: None,
        }
    }

    /// Sets [`WarmUp::input_element`].
    pub fn with_input_element(mut self, element: ElementType) -> Self {
        self.input_element = element;
        self
    }

    /// Sets [`WarmUp::tape_elements`].
    pub fn with_tape_elements(mut self, elements: ElementTypes) -> Self {
        self.tape_elements = elements;
        self
    }

    /// Sets [`WarmUp::training`].
    pub fn with_training(mut self, training: WarmUpTraining) -> Self {
        self.training = Some(training);
        self
    }
}

impl WarmUpTraining {
    /// Steps with these options and this optimizer, without a scale of the loss.
    pub fn new(options: TrainingOptions, optimizer: impl Into<OptimizerSettings>) -> Self {
        let (optimizer, gradient_element) = (optimizer.into(), ElementType::F32);
        Self { options, optimizer, gradient_element, loss_scale: false }
    }

    /// Sets [`WarmUpTraining::gradient_element`].
    pub fn with_gradient_element(mut self, element: ElementType) -> Self {
        self.gradient_element = element;
        self
    }

    /// Sets [`WarmUpTraining::loss_scale`].
    pub fn with_loss_scale(mut self, loss_scale: bool) -> Self {
        self.loss_scale = loss_scale;
        self
    }
}

impl Kernels {
    /// Builds the pipelines of a layer's forward pass, and of its training step if there is one, by
    /// running them once on throw-away buffers: many drivers compile at the first run. Where the
    /// kernels have a [`pipeline_cache`](crate::KernelOptions::pipeline_cache) it is filled.
    ///
    /// It submits to `queue` and waits.
    ///
    /// # Errors
    ///
    /// As [`TiedLinear::new`], [`TiedLinear::forward`], [`Optimizer::new`] and [`TrainingStep::new`].
    pub fn warm_up(&self, queue: &wgpu::Queue, call: &WarmUp<'_>) -> Result<()> {
        let options = call.layer.with_weight_init(Init::Zeros);
        let layer = TiedLinear::new(self, &options)?;
        let host = |label, batch| self.zeros_as(label, batch, options.inputs, call.input_element);
        for &batch in call.batches {
            let input = host("input", batch)?;
            let tape = Tape::new_as(&layer, batch, call.tape_elements)?;
            self.run(queue, &layer.forward(&input, &tape)?)?;
            let Some(training) = call.training else { continue };
            let gradients = Gradients::new_as(&layer, training.gradient_element)?;
            let mut optimizer = Optimizer::new(self, &layer.parameters(), training.optimizer)?;
            if training.loss_scale {
                let scale = LossScale::new(self, LossScaleSettings::dynamic())?;
                optimizer = optimizer.with_loss_scale(scale);
            }
            let (target, options) = (host("target", batch)?, training.options);
            let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &target, options)?;
            self.run(
                queue,
                &step.gradient_commands().clone().then(step.update_commands().clone()),
            )?;
        }
        Ok(())
    }

    fn run(&self, queue: &wgpu::Queue, commands: &Commands) -> Result<()> {
        let device = self.device();
        expect_alive(device)?;
        captured(device, "a warm-up", || {
            let mut encoder = device.create_command_encoder(&Default::default());
            commands.record(&mut encoder.begin_compute_pass(&Default::default()));
            queue.submit([encoder.finish()]);
            device.poll(wgpu::PollType::wait_indefinitely()).map_err(|_| Error::DeviceLost)
        })?
        .map(|_| ())
    }
}
