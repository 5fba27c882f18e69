//! The compute ceiling of an adapter: multiply-adds on registers alone, by `fma.wgsl`.

pub mod dispatch;

use std::error::Error;
use std::time::Instant;

use dispatch::{Dispatch, Source};
use tied_linear::headless::Gpu;
use tied_linear::{Kernels, Matrix, wgpu};

const FMA: Source = Source { name: "fma_ceiling", text: include_str!("fma.wgsl") };

/// Workgroups, of 64 invocations each: from few for a slow adapter to enough to fill any GPU.
const GROUPS: [u32; 2] = [64, 8192];

/// Operations of an invocation in one iteration: 48 sums, 32 multiply-adds each.
const FLOPS: f64 = 48.0 * 32.0 * 2.0;

/// Iterations of an invocation: from enough to outweigh its beginning and end to what the sums,
/// which count, can still hold exactly.
const ITERATIONS: [u32; 2] = [16, 4096];

/// Seconds that the dispatch should take at least.
const LONG_ENOUGH: f64 = 0.02;

/// The dispatch, with so many workgroups and, beyond these, iterations that it takes long enough.
#[derive(Debug, Clone)]
pub struct Fma {
    dispatch: Dispatch,
    totals: Matrix,
    iterations: u32,
}

impl Fma {
    /// Tries sizes until one takes long enough, and checks its result.
    pub fn new(gpu: &Gpu, kernels: &Kernels) -> Result<Self, Box<dyn Error>> {
        let [mut groups, most_groups] = GROUPS;
        let [mut iterations, most_iterations] = ITERATIONS;
        loop {
            let one = 1.0_f32.to_bits();
            let parameters = [iterations, one, one, 0];
            let totals = kernels.zeros("totals", 1, 64 * groups)?;
            let buffers = [totals.buffer()];
            let dispatch = Dispatch::prepare(gpu, kernels, FMA, parameters, &buffers, [groups, 1]);
            let fma = Self { dispatch, totals, iterations };
            // The first run compiles.
            fma.seconds(gpu)?;
            let most = groups == most_groups && iterations == most_iterations;
            if most || fma.seconds(gpu)? >= LONG_ENOUGH {
                fma.check(gpu)?;
                return Ok(fma);
            }
            if groups < most_groups {
                groups *= 2;
            } else {
                iterations *= 2;
            }
        }
    }

    /// Records the dispatch.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.dispatch.record(pass);
    }

    /// Its floating-point operations, a multiply-add being two.
    pub fn flops(&self) -> f64 {
        self.totals.len() as f64 * f64::from(self.iterations) * FLOPS
    }

    /// The seconds that it takes once, by the host's clock around submit and wait.
    pub fn seconds(&self, gpu: &Gpu) -> Result<f64, Box<dyn Error>> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        self.record(&mut encoder.begin_compute_pass(&Default::default()));
        let commands = encoder.finish();
        let start = Instant::now();
        gpu.queue.submit([commands]);
        gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// 48 sums, which start at 0, 1, … 47, count 28 of 32 multiply-adds.
    fn check(&self, gpu: &Gpu) -> Result<(), Box<dyn Error>> {
        let expected = (48 * 28 * self.iterations + 47 * 48 / 2) as f32;
        let totals = self.totals.read_blocking(&gpu.device, &gpu.queue)?;
        match totals.into_iter().find(|&total| total != expected) {
            None => Ok(()),
            Some(total) => {
                Err(format!("the compute ceiling is wrong: {total} instead of {expected}").into())
            }
        }
    }
}
