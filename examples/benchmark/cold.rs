//! The cold start: from the beginning of the process to the first result of a training step.

use std::error::Error;
use std::time::Instant;

use tied_linear::kernels::AdamSettings;
use tied_linear::{
    Activation, Gradients, Optimizer, TiedLinear, TiedLinearOptions, TrainingOptions, TrainingStep,
};

use crate::host::Host;
use crate::rig::Rig;
use crate::shape::Shape;

/// The same whatever is measured later, so that it can be compared from run to run.
pub const SHAPE: Shape = Shape::GRID[0];

/// Seconds from the start of the process on.
#[derive(Debug, Clone, Copy)]
pub struct ColdStart {
    /// Until there was a device.
    pub device: f64,
    /// Until the step was prepared: buffers filled, pipelines compiled.
    pub prepared: f64,
    /// Until the loss of the first step was read.
    pub first: f64,
}

/// Requests the device, makes a layer and its training step, runs it and reads the loss.
pub fn start(process_start: Instant, checks: bool) -> Result<(Rig, ColdStart), Box<dyn Error>> {
    let so_far = || process_start.elapsed().as_secs_f64();
    let rig = pollster::block_on(Rig::request(checks))?;
    let device = so_far();

    let options = TiedLinearOptions::new(SHAPE.inputs, SHAPE.hidden)
        .with_activations(Activation::Relu, Activation::Identity);
    let layer = TiedLinear::new(&rig.kernels, &options)?;
    let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), AdamSettings::adam(1e-3))?;
    let gradients = Gradients::new(&layer)?;
    let input = Host::random(SHAPE.batch, SHAPE.inputs, 1.0, 0).upload(&rig, "input")?;
    let options = TrainingOptions::default();
    let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options)?;
    let prepared = so_far();

    let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
    step.record(&mut encoder.begin_compute_pass(&Default::default()));
    rig.gpu.queue.submit([encoder.finish()]);
    let loss = rig.read(step.loss())?;
    let first = so_far();
    if loss.iter().all(|loss| loss.is_finite() && *loss > 0.0) {
        Ok((rig, ColdStart { device, prepared, first }))
    } else {
        Err(format!("the first step's loss is {loss:?}").into())
    }
}
