//! What this adapter can do at most, measured: multiply-adds on registers, and a copy of memory.

use std::error::Error;

use tied_linear::{Error as LibraryError, Matrix, wgpu};

use crate::clock::Clock;
use crate::fma::Fma;
use crate::host::Host;
use crate::own::{COPY, Dispatch};
use crate::rig::Rig;
use crate::timing::{Effort, Stopwatch};
use crate::work::Work;

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
        let compute = Fma::new(&rig.gpu, &rig.kernels)?;
        let work = compute.clone().into();
        let clock = Clock::choose(rig, &work)?;
        let stopwatch = Stopwatch::new(rig, clock, Effort::CEILING);
        let seconds = stopwatch.time_alone(&work)?.fastest();
        let gflops = compute.flops() / seconds / 1e9;

        let copy = Copy::new(rig)?;
        copy.check(rig)?;
        let seconds = stopwatch.time_alone(&copy.work)?.fastest();
        let gbytes = 2.0 * copy.bytes as f64 / seconds / 1e9;
        Ok((Self { gflops, gbytes, copied: copy.bytes }, stopwatch))
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
