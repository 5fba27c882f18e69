//! The cold start: from the beginning of a process to the first result of a training step.
//!
//! It is taken in processes of its own, with the driver's cache of compiled shaders off where that is
//! known how to do, so that each compiles everything anew.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tied_linear::kernels::AdamSettings;
use tied_linear::{
    Activation, Gradients, Optimizer, TiedLinear, TiedLinearOptions, TrainingOptions, TrainingStep,
};

use crate::host::Host;
use crate::options::{Checks, Options};
use crate::rig::{Rig, Settings};
use crate::shape::Shape;

/// The same whatever is measured later, so that it can be compared from run to run.
pub const SHAPE: Shape = Shape::new(256, 784, 256);

/// Processes that are started, quickly and otherwise.
const PROCESSES: [usize; 2] = [1, 3];

/// Environment variables that switch caches of shaders off: Mesa's and NVIDIA's.
const NO_CACHES: [(&str, &str); 2] =
    [("MESA_SHADER_CACHE_DISABLE", "true"), ("__GL_SHADER_DISK_CACHE", "0")];

/// The seconds of a cold start.
#[derive(Debug, Clone, Copy)]
pub struct ColdStart {
    /// From before the process was started until it had told the loss of its first step.
    pub seconds: f64,
    /// What the process saw of it.
    pub stages: Stages,
    /// Of so many processes, this is the median.
    pub processes: usize,
}

/// Seconds from the beginning of `main` on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Stages {
    /// Until there was a device.
    pub device: f64,
    /// Until the step was prepared: buffers filled, pipelines made.
    pub prepared: f64,
    /// Until the loss of the first step was read.
    pub first: f64,
}

/// Starts processes, one after the other.
pub fn measure(options: &Options) -> Result<ColdStart, Box<dyn Error>> {
    let processes = PROCESSES[usize::from(!options.quick)];
    let mut starts = Vec::new();
    for _ in 0..processes {
        starts.push(once(options, processes)?);
    }
    starts.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    Ok(starts[processes / 2])
}

fn once(options: &Options, processes: usize) -> Result<ColdStart, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--cold-start").stdout(Stdio::piped()).envs(NO_CACHES);
    if options.checks == Checks::Off {
        command.args(["--checks", "off"]);
    }
    if let Some(choice) = options.strategy {
        command.args(["--strategy", &format!("{}/{}", choice.strategy, choice.parts)]);
    }
    let start = Instant::now();
    let mut process = command.spawn()?;
    let output = process.stdout.take().ok_or("the process has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let seconds = start.elapsed().as_secs_f64();
    if !process.wait()?.success() {
        return Err("the process that was to start cold failed".into());
    }
    Ok(ColdStart { seconds, stages: serde_json::from_str(&line)?, processes })
}

/// The work of such a process: makes a device, a layer and its training step, runs that, reads the
/// loss, and prints the stages.
pub fn start(process_start: Instant, settings: Settings) -> Result<(), Box<dyn Error>> {
    let so_far = || process_start.elapsed().as_secs_f64();
    let rig = pollster::block_on(Rig::request(settings))?;
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
    if !loss.iter().all(|loss| loss.is_finite() && *loss > 0.0) {
        return Err(format!("the first step's loss is {loss:?}").into());
    }
    println!("{}", serde_json::to_string(&Stages { device, prepared, first })?);
    Ok(())
}
