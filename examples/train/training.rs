//! The training itself, and the measurement of what came of it.

use std::error::Error;
use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tied_linear::checkpoint::{Checkpoint, StateDict};
use tied_linear::headless::Gpu;
use tied_linear::{
    AdamSettings, AutoencoderGradients, AutoencoderStep, AutoencoderStepOptions, ElementTypes,
    Kernels, LossScale, LossScaleStatus, Matrix, NoiseState, Optimizer, TiedAutoencoder, wgpu,
};

use super::batches::Batches;
use super::options::{Options, Settings};
use super::progress::Progress;
use super::saved;

/// What a training came to.
pub struct Trained {
    /// Of each step.
    pub losses: Vec<f32>,
    /// What has become of the loss's scale, where there is one.
    pub scale: Option<LossScaleStatus>,
}

/// Steps that the host may be ahead of the GPU, with their images in memory twice.
const AHEAD: usize = 8;

/// What a training run needs.
pub struct Training<'a> {
    pub gpu: &'a Gpu,
    pub kernels: &'a Kernels,
    pub stack: &'a TiedAutoencoder,
    /// All images, one row each.
    pub pixels: &'a [f32],
    /// The text that tells them from others.
    pub fingerprint: (String, String),
    pub settings: &'a Settings,
    pub options: &'a Options,
}

impl Training<'_> {
    fn width(&self) -> usize {
        self.stack.inputs() as usize
    }

    /// Trains, from the beginning or where the file ends.
    pub fn run(&self, resumed: Option<(&Path, &Checkpoint)>) -> Result<Trained, Box<dyn Error>> {
        let Self { gpu, kernels, stack, settings, options, .. } = self;
        let count = self.pixels.len() / self.width();
        let batch = (settings.batch as usize).min(count);
        let in_epoch = count.div_ceil(batch);
        let adam = AdamSettings::adam(settings.lr);
        let mut optimizer = Optimizer::new(kernels, &stack.parameters(), adam)?;
        if let Some(scale) = settings.loss_scale.settings() {
            optimizer = optimizer.with_loss_scale(LossScale::new(kernels, scale)?);
        }
        let noise = match settings.noise.0 {
            Some(_) => Some(NoiseState::new(kernels, batch as u32, stack.inputs(), settings.seed)?),
            None => None,
        };
        let state = saved::state_dict(stack, &optimizer, noise.as_ref())?;
        let (done, mut losses) = match resumed {
            Some((path, checkpoint)) => {
                saved::restore(path, checkpoint, gpu, &state, settings, in_epoch)?
            }
            None => (0, Vec::new()),
        };

        let element = settings.element.0;
        let gradients = AutoencoderGradients::new_as(stack, element)?;
        let step = |input: &Matrix| self.step(&optimizer, &gradients, noise.as_ref(), input);
        let batches = Batches::new(gpu, stack, self.pixels, batch, element, step)?;

        let epochs = settings.epochs;
        let stop = options.stop.unwrap_or(epochs);
        let all_steps = f64::from(epochs) * in_epoch as f64;
        let mut progress =
            Progress::new(gpu, kernels, &settings.layers.0, [done, epochs], options.ceiling)?;
        for epoch in done..stop {
            let order = order(count, settings.seed, epoch);
            let mut submitted = Vec::with_capacity(in_epoch);
            let before = |index: usize| {
                let at = f64::from(epoch) * in_epoch as f64 + index as f64;
                let cosine = (std::f64::consts::PI * at / all_steps).cos();
                let rate = settings.lr * 0.5 * (1.0 + cosine);
                Ok(optimizer.set_learning_rate(&gpu.device, &gpu.queue, rate)?)
            };
            let after = |index: usize, submission: wgpu::SubmissionIndex| {
                submitted.push(submission);
                if let Some(before) = index.checked_sub(AHEAD) {
                    let submission_index = Some(submitted[before].clone());
                    gpu.device.poll(wgpu::PollType::Wait { submission_index, timeout: None })?;
                    progress.images(batch);
                }
                Ok(())
            };
            losses.extend(batches.epoch(&order, before, after)?);
            progress.images(count - in_epoch.saturating_sub(AHEAD) * batch);
            let done = epoch + 1;
            progress.epoch(done, losses.last());
            if done < stop && done.is_multiple_of(options.save_every) {
                self.save(&state, done, &losses)?;
            }
        }
        progress.finish();
        // Also where nothing was left to do: the file may be another.
        self.save(&state, done.max(stop), &losses)?;
        let scale = optimizer.loss_scale();
        let scale = scale.map(|scale| scale.read_blocking(&gpu.device, &gpu.queue)).transpose()?;
        Ok(Trained { losses, scale })
    }

    fn save(&self, state: &StateDict, done: u32, losses: &[f32]) -> Result<(), tied_linear::Error> {
        let Some(path) = &self.options.save else { return Ok(()) };
        let texts = [&self.settings.texts()[..], std::slice::from_ref(&self.fingerprint)];
        saved::save(path, self.gpu, state, texts, done, losses)
    }

    fn step(
        &self,
        optimizer: &Optimizer,
        gradients: &AutoencoderGradients,
        noise: Option<&NoiseState>,
        input: &Matrix,
    ) -> Result<AutoencoderStep, tied_linear::Error> {
        let mut options = AutoencoderStepOptions::default()
            .with_loss(self.settings.loss.loss())
            .with_elements(ElementTypes::all(self.settings.element.0));
        if let (Some(noise), Some(state)) = (self.settings.noise.0, noise) {
            options = options.with_noise(noise, state);
        }
        AutoencoderStep::new(self.stack, optimizer, gradients, input, input, &options)
    }
}

/// The order of the images in an epoch. It depends on nothing that came before, so that a run which is
/// resumed has the same.
fn order(count: usize, seed: u64, epoch: u32) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(epoch));
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rng);
    order
}

/// What a stack makes of images.
pub struct Outcome {
    /// The squared error of an image, or the cross-entropy of a pixel, on average.
    pub error: f64,
    /// The outputs for the first images.
    pub first: Vec<f32>,
}

/// Encodes and decodes images, keeping the outputs for the first `kept`: in f32, by the weights as products
/// read them.
pub fn evaluate(
    gpu: &Gpu,
    stack: &TiedAutoencoder,
    settings: &Settings,
    pixels: &[f32],
    kept: usize,
) -> Result<Outcome, tied_linear::Error> {
    let (kernels, width) = (stack.kernels(), stack.inputs());
    let mut outcome = Outcome { error: 0.0, first: Vec::new() };
    for values in pixels.chunks(settings.batch as usize * width as usize) {
        let rows = (values.len() / width as usize) as u32;
        let input = kernels.matrix("images", rows, width, values)?;
        let code = kernels.zeros("codes", rows, stack.hidden())?;
        let output = kernels.zeros("output", rows, width)?;
        let commands = stack.forward(&input, &code, &output)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        commands.record(&mut encoder.begin_compute_pass(&Default::default()));
        gpu.queue.submit([encoder.finish()]);
        let output = output.read_blocking(&gpu.device, &gpu.queue)?;
        let pairs = values.iter().zip(&output);
        let pairs = pairs.map(|(target, output)| (f64::from(*target), f64::from(*output)));
        outcome.error += if settings.squared() {
            pairs.map(|(target, output)| (target - output).powi(2)).sum::<f64>()
        } else {
            pairs.map(|(target, logit)| cross_entropy(target, logit)).sum::<f64>()
        };
        let missing = kept * width as usize - outcome.first.len();
        outcome.first.extend_from_slice(&output[..missing.min(output.len())]);
    }
    let images = pixels.len() / width as usize;
    outcome.error /= if settings.squared() { images as f64 } else { pixels.len() as f64 };
    Ok(outcome)
}

/// Of the probability `target` and one with this logit.
fn cross_entropy(target: f64, logit: f64) -> f64 {
    logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p()
}
