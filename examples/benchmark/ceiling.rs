//! What this adapter can do at most, measured: multiply-adds on registers, and a copy of memory.

use std::error::Error;

use tied_linear::{Error as LibraryError, Matrix, wgpu};

use crate::clock::{Clock, wall_seconds};
use crate::host::Host;
use crate::own::{COPY, Dispatch, FMA};
use crate::rig::Rig;
use crate::timing::{Effort, Stopwatch};
use crate::work::Work;

/// Workgroups of the compute ceiling, of 64 invocations each: from few for a slow adapter to enough
/// to fill any GPU.
const GROUPS: [u32; 2] = [64, 8192];

/// Operations of an invocation in one iteration: 48 sums, 32 multiply-adds each.
const FLOPS: f64 = 48.0 * 32.0 * 2.0;

/// Iterations of an invocation: from enough to outweigh its beginning and end to what the sums,
/// which count, can still hold exactly.
const ITERATIONS: [u32; 2] = [16, 4096];

/// Seconds that the compute ceiling's dispatch should take at least.
const LONG_ENOUGH: f64 = 0.02;

/// The bytes of the buffer that is copied: far beyond any cache, where the adapter has the memory.
const MOST_BYTES: u64 = 256 << 20;
const LEAST_BYTES: u64 = 1 << 20;

/// A row of that buffer, taken as a matrix.
const COLUMNS: u32 = 1024;

/// The two limits of the roofline.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling {
    /// 10⁹ floating-point operations a second, a multiply-add being two.
    pub gflops: f64,
    /// 10⁹ bytes a second, read and written.
    pub gbytes: f64,
    /// The bytes of the buffer that was copied.
    pub copied: u64,
}

impl Ceiling {
    /// The 10⁹ operations a second that can be reached with so many operations a byte
    /// ([roofline](https://doi.org/10.1145/1498765.1498785)).
    pub fn gflops_at(&self, intensity: f64) -> f64 {
        self.gflops.min(intensity * self.gbytes)
    }

    /// Measures both, and chooses the clock for everything that follows.
    pub fn measure(rig: &Rig) -> Result<(Self, Stopwatch<'_>), Box<dyn Error>> {
        let compute = Compute::new(rig)?;
        let clock = Clock::choose(rig, &compute.work)?;
        let stopwatch = Stopwatch::new(rig, clock, Effort::CEILING);
        compute.check(rig)?;
        let seconds = stopwatch.time_alone(&compute.work)?.fastest();
        let gflops = compute.flops() / seconds / 1e9;

        let copy = Copy::new(rig)?;
        copy.check(rig)?;
        let seconds = stopwatch.time_alone(&copy.work)?.fastest();
        let gbytes = 2.0 * copy.bytes as f64 / seconds / 1e9;
        Ok((Self { gflops, gbytes, copied: copy.bytes }, stopwatch))
    }
}

/// The compute ceiling's dispatch.
struct Compute {
    work: Work,
    totals: Matrix,
    iterations: u32,
}

impl Compute {
    /// With so many workgroups and, beyond these, iterations that it takes long enough.
    fn new(rig: &Rig) -> Result<Self, Box<dyn Error>> {
        let [mut groups, most_groups] = GROUPS;
        let [mut iterations, most_iterations] = ITERATIONS;
        loop {
            let one = 1.0_f32.to_bits();
            let parameters = [iterations, one, one, 0];
            let totals = rig.kernels.zeros("totals", 1, 64 * groups)?;
            let work = Dispatch::new(rig, FMA, parameters, &[totals.buffer()], [groups, 1]).into();
            rig.run(&work)?;
            let most = groups == most_groups && iterations == most_iterations;
            if most || wall_seconds(rig, &work, 1)? >= LONG_ENOUGH {
                return Ok(Self { work, totals, iterations });
            }
            if groups < most_groups {
                groups *= 2;
            } else {
                iterations *= 2;
            }
        }
    }

    fn flops(&self) -> f64 {
        self.totals.len() as f64 * f64::from(self.iterations) * FLOPS
    }

    /// 48 sums, which start at 0, 1, … 47, count 28 of 32 multiply-adds.
    fn check(&self, rig: &Rig) -> Result<(), Box<dyn Error>> {
        let expected = (48 * 28 * self.iterations + 47 * 48 / 2) as f32;
        match rig.read(&self.totals)?.into_iter().find(|&total| total != expected) {
            None => Ok(()),
            Some(total) => {
                Err(format!("the compute ceiling is wrong: {total} instead of {expected}").into())
            }
        }
    }
}

/// The bandwidth ceiling's dispatch.
struct Copy {
    work: Work,
    target: Matrix,
    block: Host,
    bytes: u64,
}

impl Copy {
    fn new(rig: &Rig) -> Result<Self, Box<dyn Error>> {
        let limits = rig.gpu.device.limits();
        let mut bytes = MOST_BYTES;
        while bytes > limits.max_buffer_size.min(limits.max_storage_buffer_binding_size) {
            bytes /= 2;
        }
        let rows = |bytes: u64| (bytes / 4 / u64::from(COLUMNS)) as u32;
        let buffers = loop {
            let buffer = |name| rig.kernels.zeros(name, rows(bytes), COLUMNS);
            let both = buffer("source").and_then(|source| Ok((source, buffer("target")?)));
            match both {
                Err(LibraryError::OutOfMemory { .. }) if bytes > LEAST_BYTES => bytes /= 2,
                both => break both?,
            }
        };
        let (source, target) = buffers;
        let block = Host::random(rows(LEAST_BYTES), COLUMNS, 1.0, 0);
        fill(rig, source.buffer(), block.upload(rig, "block")?.buffer());
        let buffers = [source.buffer(), target.buffer()];
        let work = Dispatch::over_words(rig, COPY, bytes, buffers).into();
        Ok(Self { work, target, block, bytes })
    }

    /// The first block and the last one arrive.
    fn check(&self, rig: &Rig) -> Result<(), Box<dyn Error>> {
        rig.run(&self.work)?;
        let (rows, block) = (self.target.rows(), self.block.shape()[0]);
        for range in [0..block, rows - block..rows] {
            if rig.read(&self.target.row_range(range)?)? != self.block.values() {
                return Err("the copy is wrong".into());
            }
        }
        Ok(())
    }
}

/// Fills `buffer` with `block`, again and again.
fn fill(rig: &Rig, buffer: &wgpu::Buffer, block: &wgpu::Buffer) {
    let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
    for at in (0..buffer.size()).step_by(block.size() as usize) {
        encoder.copy_buffer_to_buffer(block, 0, buffer, at, block.size());
    }
    rig.gpu.queue.submit([encoder.finish()]);
}
