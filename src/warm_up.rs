//! [`WarmUp`]: every pipeline that a layer will need, built before it is needed.

use crate::error::{Error, Result, captured, expect_alive};
use crate::init::Init;
use crate::kernels::{Commands, Kernels};
use crate::layer::{Gradients, Tape, TiedLinear, TiedLinearOptions};
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::training::{TrainingOptions, TrainingStep};

/// What [`Kernels::warm_up`] gets ready for.
#[derive(Debug, Clone)]
pub struct WarmUp<'a> {
    /// The layer.
    pub layer: &'a TiedLinearOptions,
    /// The batch sizes, since the strategy depends on them.
    pub batches: &'a [u32],
    /// How it is trained, if it is.
    pub training: Option<(TrainingOptions, OptimizerSettings)>,
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
        for &batch in call.batches {
            let input = self.zeros("input", batch, options.inputs)?;
            let tape = Tape::new(&layer, batch)?;
            self.run(queue, &layer.forward(&input, &tape)?)?;
            let Some((training, settings)) = call.training else { continue };
            let gradients = Gradients::new(&layer)?;
            let optimizer = Optimizer::new(self, &layer.parameters(), settings)?;
            let target = self.zeros("target", batch, options.inputs)?;
            let step =
                TrainingStep::new(&layer, &optimizer, &gradients, &input, &target, training)?;
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
