//! How long a submission takes.

use std::error::Error;
use std::sync::mpsc;
use std::time::Instant;

use tied_linear::wgpu;

use crate::rig::Rig;
use crate::work::Work;

/// By how much timestamps may fall short of, and exceed, the wall clock around a submission that
/// takes tens of milliseconds, if they are to be believed.
const CREDIBLE: std::ops::Range<f64> = 0.75..1.02;

/// What time is taken with.
pub enum Clock {
    /// The GPU's own, at the beginning and the end of a compute pass.
    Timestamps(Timestamps),
    /// The host's, around submit and wait.
    Wall {
        /// Why not the GPU's.
        because: &'static str,
    },
}

/// A place for the two timestamps of a pass.
pub struct Timestamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// Seconds in a tick.
    period: f64,
}

impl Clock {
    /// Timestamps, where the device has them and they agree with the wall clock on `probe`, which
    /// takes some tens of milliseconds. (Software drivers may write them out of order.)
    pub fn choose(rig: &Rig, probe: &Work) -> Result<Self, Box<dyn Error>> {
        if !rig.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(Self::Wall { because: "the adapter has no timestamps" });
        }
        let timestamps = Timestamps::new(rig);
        for _ in 0..3 {
            let start = Instant::now();
            let seconds = timestamps.seconds(rig, probe, 1)?;
            if CREDIBLE.contains(&(seconds / start.elapsed().as_secs_f64())) {
                return Ok(Self::Timestamps(timestamps));
            }
        }
        Ok(Self::Wall { because: "the adapter's timestamps contradict the wall clock" })
    }

    /// The seconds that `work` takes, `times` times in one submission.
    pub fn seconds(&self, rig: &Rig, work: &Work, times: u32) -> Result<f64, Box<dyn Error>> {
        match self {
            Self::Timestamps(timestamps) => timestamps.seconds(rig, work, times),
            Self::Wall { .. } => wall_seconds(rig, work, times),
        }
    }

    /// What it is, in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Timestamps(_) => "GPU timestamps around a compute pass".into(),
            Self::Wall { because } => {
                format!("the host's, around submit and wait: {because}")
            }
        }
    }
}

/// The seconds by the host's clock. Recording and encoding lie outside.
pub fn wall_seconds(rig: &Rig, work: &Work, times: u32) -> Result<f64, Box<dyn Error>> {
    let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    for _ in 0..times {
        work.record(&mut pass);
    }
    drop(pass);
    let commands = encoder.finish();
    let start = Instant::now();
    rig.gpu.queue.submit([commands]);
    rig.wait()?;
    Ok(start.elapsed().as_secs_f64())
}

impl Timestamps {
    fn new(rig: &Rig) -> Self {
        let device = &rig.gpu.device;
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            set,
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period: f64::from(rig.gpu.queue.get_timestamp_period()) * 1e-9,
        }
    }

    fn seconds(&self, rig: &Rig, work: &Work, times: u32) -> Result<f64, Box<dyn Error>> {
        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            }),
        });
        for _ in 0..times {
            work.record(&mut pass);
        }
        drop(pass);
        encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, 16);
        rig.gpu.queue.submit([encoder.finish()]);

        let (sender, receiver) = mpsc::channel();
        self.staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver outlives the wait below.
            let _ = sender.send(result);
        });
        rig.wait()?;
        receiver.recv()??;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.staging.get_mapped_range(..)?);
        self.staging.unmap();
        Ok(ticks[1].saturating_sub(ticks[0]) as f64 * self.period)
    }
}
