//! Epochs of a stack's training: samples are written batch by batch, a step each is submitted, and the
//! losses stay on the GPU until the end.

use std::error::Error;

use tied_linear::headless::Gpu;
use tied_linear::{AutoencoderStep, ElementType, Matrix, TiedAutoencoder, wgpu};

/// Samples, one row each, and the steps that they go through.
pub struct Batches<'a> {
    gpu: &'a Gpu,
    samples: &'a [f32],
    width: usize,
    batch: usize,
    /// One for whole batches, and where the samples do not divide into these, a smaller one for the rest;
    /// each with the matrix that its samples are written to.
    steps: Vec<(Matrix, AutoencoderStep)>,
    losses: Matrix,
}

impl<'a> Batches<'a> {
    /// Batches of so many samples, or of all, rounded to this type; `step` prepares the training step on its
    /// input.
    pub fn new(
        gpu: &'a Gpu,
        stack: &TiedAutoencoder,
        samples: &'a [f32],
        batch: usize,
        element: ElementType,
        step: impl Fn(&Matrix) -> Result<AutoencoderStep, tied_linear::Error>,
    ) -> Result<Self, tied_linear::Error> {
        let kernels = stack.kernels();
        let width = stack.inputs() as usize;
        let count = samples.len() / width;
        let batch = batch.min(count);
        let sizes =
            if count.is_multiple_of(batch) { vec![batch] } else { vec![batch, count % batch] };
        let prepare = |rows: usize| {
            let input = kernels.zeros_as("samples", rows as u32, stack.inputs(), element)?;
            let step = step(&input)?;
            Ok((input, step))
        };
        let steps = sizes.into_iter().map(prepare).collect::<Result<_, tied_linear::Error>>()?;
        let losses = kernels.zeros("epoch losses", 1, count.div_ceil(batch) as u32)?;
        Ok(Self { gpu, samples, width, batch, steps, losses })
    }

    /// Takes a step on each batch of the samples in this order, and returns the losses. What the host does
    /// `before` each step and `after` it was submitted is its own.
    pub fn epoch(
        &self,
        order: &[usize],
        mut before: impl FnMut(usize) -> Result<(), Box<dyn Error>>,
        mut after: impl FnMut(usize, wgpu::SubmissionIndex) -> Result<(), Box<dyn Error>>,
    ) -> Result<Vec<f32>, Box<dyn Error>> {
        let Gpu { device, queue, .. } = self.gpu;
        for (index, chosen) in order.chunks(self.batch).enumerate() {
            before(index)?;
            let (input, step) = &self.steps[usize::from(chosen.len() != self.batch)];
            input.write(device, queue, &self.rows(chosen))?;
            let mut encoder = device.create_command_encoder(&Default::default());
            step.record(&mut encoder.begin_compute_pass(&Default::default()));
            let (loss, place) = (step.loss().buffer(), 4 * index as u64);
            encoder.copy_buffer_to_buffer(loss, 0, self.losses.buffer(), place, 4);
            after(index, queue.submit([encoder.finish()]))?;
        }
        Ok(self.losses.read_blocking(device, queue)?)
    }

    fn rows(&self, chosen: &[usize]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(chosen.len() * self.width);
        for sample in chosen {
            rows.extend_from_slice(&self.samples[sample * self.width..(sample + 1) * self.width]);
        }
        rows
    }
}
