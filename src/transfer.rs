//! Writing host data to matrices and reading them back.

use futures::channel::oneshot;

use crate::error::{Error, Result, captured};
use crate::matrix::{ElementType, Matrix, expect_usage};

impl Matrix {
    /// Writes `values`, row by row, into the matrix: they are there before whatever is submitted
    /// next. Elements between the rows are left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] where there are not exactly as many values as elements, [`Error::Usage`]
    /// without [`wgpu::BufferUsages::COPY_DST`], [`Error::Refused`] for a buffer of another device.
    pub fn write(&self, device: &wgpu::Device, queue: &wgpu::Queue, values: &[f32]) -> Result<()> {
        expect_f32(self)?;
        expect_usage("matrix", self, wgpu::BufferUsages::COPY_DST)?;
        if values.len() as u64 != self.len() {
            return Err(Error::Length { expected: self.len(), given: values.len() as u64 });
        }
        if self.is_empty() {
            return Ok(());
        }
        let layout = self.layout();
        let start = self.byte_range().start;
        captured(device, "a write to a matrix", || {
            if layout.row_stride == layout.columns {
                queue.write_buffer(self.buffer(), start, bytemuck::cast_slice(values));
                return;
            }
            let step = u64::from(layout.row_stride) * layout.element.size();
            for (row, values) in (0..).zip(values.chunks_exact(layout.columns as usize)) {
                let at = start + row * step;
                queue.write_buffer(self.buffer(), at, bytemuck::cast_slice(values));
            }
        })
    }

    /// Reads the matrix, row by row: records a copy, submits it, and waits for it without blocking.
    ///
    /// On native backends the future completes when the host polls the device, as every wgpu
    /// callback does; [`Matrix::read_blocking`] polls by itself.
    ///
    /// # Errors
    ///
    /// As [`Readback::new`] and [`Readback::read`].
    pub async fn read(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Vec<f32>> {
        let readback = Readback::new(device, self)?;
        readback.submit(device, queue)?;
        readback.read(device)?.await
    }

    /// Reads the matrix, row by row, and blocks until it is there. For native programs.
    ///
    /// # Errors
    ///
    /// As [`Readback::new`] and [`Readback::read`].
    pub fn read_blocking(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Vec<f32>> {
        let readback = Readback::new(device, self)?;
        readback.submit(device, queue)?;
        readback.read_blocking(device)
    }
}

/// A place on the host's side for a matrix's elements: record the copy among your own work, submit,
/// then read.
#[derive(Debug)]
pub struct Readback {
    matrix: Matrix,
    /// `None` for an empty matrix.
    staging: Option<wgpu::Buffer>,
}

impl Readback {
    /// Makes the staging buffer.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] without [`wgpu::BufferUsages::COPY_SRC`], [`Error::OutOfMemory`].
    pub fn new(device: &wgpu::Device, matrix: &Matrix) -> Result<Self> {
        expect_f32(matrix)?;
        expect_usage("matrix", matrix, wgpu::BufferUsages::COPY_SRC)?;
        let range = matrix.byte_range();
        let staging = if matrix.is_empty() {
            None
        } else {
            let descriptor = wgpu::BufferDescriptor {
                label: Some("readback"),
                size: range.end - range.start,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            };
            Some(captured(device, "a readback", || device.create_buffer(&descriptor))?)
        };
        Ok(Self { matrix: matrix.clone(), staging })
    }

    /// Records the copy.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(staging) = &self.staging {
            let start = self.matrix.byte_range().start;
            encoder.copy_buffer_to_buffer(self.matrix.buffer(), start, staging, 0, staging.size());
        }
    }

    /// Records the copy into an encoder of its own and submits it.
    fn submit(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<()> {
        captured(device, "a readback", || {
            let mut encoder = device.create_command_encoder(&Default::default());
            self.record(&mut encoder);
            queue.submit([encoder.finish()]);
        })
    }

    /// Asks for the elements, once the copy has been submitted. The future does not block; on native
    /// backends it completes when the host polls the device.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceLost`], at once or from the future.
    pub fn read(
        &self,
        device: &wgpu::Device,
    ) -> Result<impl Future<Output = Result<Vec<f32>>> + use<>> {
        let (sender, receiver) = oneshot::channel();
        if let Some(staging) = &self.staging {
            captured(device, "a readback", || {
                staging.map_async(wgpu::MapMode::Read, .., move |result| {
                    // The receiver is gone where the caller dropped the future.
                    let _ = sender.send(result);
                });
            })?;
        }
        let (matrix, staging) = (self.matrix.clone(), self.staging.clone());
        Ok(async move {
            let Some(staging) = staging else {
                return Ok(Vec::new());
            };
            let mapped = receiver.await;
            let Ok(Ok(())) = mapped else {
                return Err(Error::DeviceLost);
            };
            let values = {
                let bytes = staging.get_mapped_range(..).map_err(|_| Error::DeviceLost)?;
                without_gaps(&matrix, &bytes)
            };
            staging.unmap();
            Ok(values)
        })
    }

    /// As [`Readback::read`], polling the device until the elements are there. For native programs.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceLost`].
    pub fn read_blocking(&self, device: &wgpu::Device) -> Result<Vec<f32>> {
        let values = self.read(device)?;
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|_| Error::DeviceLost)?;
        pollster::block_on(values)
    }
}

/// The elements of the rows, without what lies between them.
fn without_gaps(matrix: &Matrix, bytes: &[u8]) -> Vec<f32> {
    let layout = matrix.layout();
    let row = layout.columns as usize * size_of::<f32>();
    let step = layout.row_stride as usize * size_of::<f32>();
    bytes
        .chunks(step)
        .flat_map(|chunk| bytemuck::pod_collect_to_vec::<u8, f32>(&chunk[..row]))
        .collect()
}

fn expect_f32(matrix: &Matrix) -> Result<()> {
    match matrix.layout().element {
        ElementType::F32 => Ok(()),
        given => Err(Error::ElementType {
            operand: "matrix",
            given,
            reason: "host data is written and read as f32",
        }),
    }
}
