//! The device that everything runs on.

use std::error::Error;

use tied_linear::headless::{self, Gpu};
use tied_linear::{Choice, KernelOptions, Kernels, Matrix, StrategyTable, wgpu};

use crate::shape::Shape;
use crate::work::Work;

/// The bytes of the largest matrix that the library takes: it counts elements in 31 bits.
const MOST_BYTES: u64 = 4 * ((1 << 31) - 1);

/// How the library's kernels are made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `KernelOptions::runtime_checks`.
    pub runtime_checks: bool,
    /// A strategy for every product that it can compute, instead of the library's own choice.
    pub forced: Option<Choice>,
}

/// A device with the library's kernels on it.
pub struct Rig {
    /// Adapter, device and queue.
    pub gpu: Gpu,
    /// The kernels under test.
    pub kernels: Kernels,
}

impl Rig {
    /// The best adapter's device, as the library's own, and with timestamps where it has them.
    pub async fn request(settings: Settings) -> Result<Self, Box<dyn Error>> {
        let Some(adapter) = headless::adapters().await.into_iter().next() else {
            return Err("no GPU adapter with compute shaders was found (WGPU_BACKEND and \
                        WGPU_ADAPTER_NAME narrow the search)"
                .into());
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("benchmark"),
            required_features: headless::features(&adapter)
                | adapter.features() & wgpu::Features::TIMESTAMP_QUERY,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        let mut options = KernelOptions::default().with_runtime_checks(settings.runtime_checks);
        if let Some(choice) = settings.forced {
            options = options.with_strategies(StrategyTable::new(&device).force(choice)?);
        }
        let kernels = Kernels::new(&device, options)?;
        Ok(Self { gpu: Gpu { adapter, device, queue }, kernels })
    }

    /// The adapter's driver and its version.
    pub fn driver(&self) -> String {
        let info = self.gpu.adapter.get_info();
        [info.driver, info.driver_info].join(" ").trim().to_owned()
    }

    /// Fails for a shape with a matrix too large for this device.
    pub fn expect_room(&self, shape: Shape) -> Result<(), String> {
        let limits = self.gpu.device.limits();
        let available = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let available = available.min(MOST_BYTES);
        let needed = shape.largest_matrix();
        if needed <= available {
            Ok(())
        } else {
            Err(format!("{shape} has a matrix of {needed} bytes; this adapter allows {available}"))
        }
    }

    /// A zeroed matrix whose buffer is a whole number of 16-byte words.
    pub fn zeros_in_words(
        &self,
        label: &'static str,
        [rows, columns]: [u32; 2],
    ) -> Result<Matrix, tied_linear::Error> {
        // Both fit: `expect_room`.
        let values = (rows * columns).next_multiple_of(4);
        Matrix::new(self.kernels.zeros(label, 1, values)?.buffer(), rows, columns)
    }

    /// Runs `work` once and waits for it.
    pub fn run(&self, work: &Work) -> Result<(), Box<dyn Error>> {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        work.record(&mut encoder.begin_compute_pass(&Default::default()));
        self.gpu.queue.submit([encoder.finish()]);
        self.wait()
    }

    /// Fills a matrix's buffer with zeros.
    pub fn clear(&self, matrix: &Matrix) {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(matrix.buffer(), 0, None);
        self.gpu.queue.submit([encoder.finish()]);
    }

    /// Waits for all that was submitted.
    pub fn wait(&self) -> Result<(), Box<dyn Error>> {
        self.gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }

    /// The values of a matrix.
    pub fn read(&self, matrix: &Matrix) -> Result<Vec<f32>, tied_linear::Error> {
        matrix.read_blocking(&self.gpu.device, &self.gpu.queue)
    }
}
