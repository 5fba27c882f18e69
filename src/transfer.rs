//! Writing host data to matrices and reading them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::channel::oneshot;

use crate::error::{Error, Result, captured, expect_alive};
use crate::matrix::{Matrix, expect_length, expect_usage, expect_whole_words};

impl Matrix {
    /// Writes `values`, row by row, into the matrix, rounded to its element type: they are there before
    /// whatever is submitted next, in the [working copy](Matrix::with_working_copy) too, if there is one.
    /// Elements between the rows are left alone, but for the one that an odd row of a 16-bit type is padded
    /// with.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] where there are not exactly as many values as elements, [`Error::Usage`]
    /// without [`wgpu::BufferUsages::COPY_DST`], [`Error::ElementType`] for 16-bit elements that do not
    /// lie in whole u32: at an odd offset or row stride, or odd rows in a matrix with longer ones, where a
    /// copy would take a neighbour's element with it,
    /// [`Error::Refused`] for a buffer that is destroyed or of another device than both `device` and
    /// `queue`, [`Error::DeviceLost`]. The queue must be the device's own, which wgpu gives no way to
    /// check.
    pub fn write(&self, device: &wgpu::Device, queue: &wgpu::Queue, values: &[f32]) -> Result<()> {
        expect_usage("matrix", self, wgpu::BufferUsages::COPY_DST)?;
        expect_length(self.len(), values)?;
        if self.is_empty() {
            return Ok(());
        }
        self.expect_whole_rows()?;
        expect_alive(device)?;
        captured(device, "a write to a matrix", || {
            self.write_rows(queue, values);
            if let Some(copy) = self.working_copy() {
                copy.write_rows(queue, values);
            }
        })
    }

    /// The writes to the queue, for as many values as elements, of which there are some.
    fn write_rows(&self, queue: &wgpu::Queue, values: &[f32]) {
        let layout = self.layout();
        let element = layout.element;
        let padded = layout.columns.next_multiple_of(element.shared());
        let start = self.byte_range().start;
        if layout.row_stride == padded {
            let bytes = element.encode_rows(values, layout.columns);
            queue.write_buffer(self.buffer(), start, &bytes);
            return;
        }
        let rows = values.chunks_exact(layout.columns as usize);
        let step = u64::from(layout.row_stride) * element.size();
        for (row, values) in (0..).zip(rows) {
            let at = start + row * step;
            queue.write_buffer(self.buffer(), at, &element.encode(values));
        }
    }

    /// Passes if a copy to the matrix, or to its working copy, touches no neighbour's element.
    pub(crate) fn expect_whole_rows(&self) -> Result<()> {
        if let Some(copy) = self.working_copy() {
            copy.expect_whole_rows()?;
        }
        expect_whole_words("matrix", self)?;
        let (layout, given) = (self.layout(), self.layout().element);
        let padded = layout.columns.next_multiple_of(given.shared());
        if padded > layout.columns && layout.row_stride > padded {
            let reason =
                "an odd row of a wider matrix cannot be written without the element behind it";
            return Err(Error::ElementType { operand: "matrix", given, reason });
        }
        Ok(())
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
        readback.submit(queue)?;
        readback.read()?.await
    }

    /// Reads the matrix, row by row, and blocks until it is there. For native programs.
    ///
    /// # Errors
    ///
    /// As [`Readback::new`] and [`Readback::read`].
    pub fn read_blocking(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Vec<f32>> {
        let readback = Readback::new(device, self)?;
        readback.submit(queue)?;
        readback.read_blocking()
    }
}

/// A place on the host's side for a matrix's elements: record the copy among your own work, submit,
/// then read.
#[derive(Debug)]
pub struct Readback {
    device: wgpu::Device,
    matrix: Matrix,
    /// `None` for an empty matrix.
    staging: Option<wgpu::Buffer>,
    /// Whether a read is under way.
    reading: Arc<AtomicBool>,
}

/// A mapping of the staging buffer, or the wait for one; ends when it is dropped.
struct Mapping {
    device: wgpu::Device,
    staging: wgpu::Buffer,
    reading: Arc<AtomicBool>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Where the mapping failed there is nothing to unmap, which wgpu would complain of.
        let _ = captured(&self.device, "a readback", || self.staging.unmap());
        self.reading.store(false, Ordering::Release);
    }
}

impl Readback {
    /// Makes the staging buffer.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] without [`wgpu::BufferUsages::COPY_SRC`], [`Error::ElementType`] for
    /// 16-bit elements at an odd offset or row stride, [`Error::Refused`] for a buffer that is destroyed or of another device,
    /// [`Error::OutOfMemory`] and [`Error::DeviceLost`].
    pub fn new(device: &wgpu::Device, matrix: &Matrix) -> Result<Self> {
        expect_whole_words("matrix", matrix)?;
        expect_usage("matrix", matrix, wgpu::BufferUsages::COPY_SRC)?;
        expect_alive(device)?;
        let range = matrix.byte_range();
        let staging = if matrix.is_empty() {
            None
        } else {
            let descriptor = wgpu::BufferDescriptor {
                label: Some("readback"),
                size: range.end.next_multiple_of(4) - range.start,
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            };
            Some(captured(device, "a readback", || device.create_buffer(&descriptor))?)
        };
        let (device, matrix, reading) = (device.clone(), matrix.clone(), Arc::default());
        let readback = Self { device, matrix, staging, reading };
        // Checked here, because an error of the host's encoder could not be returned.
        let device = &readback.device;
        captured(device, "a readback", || {
            let mut encoder = device.create_command_encoder(&Default::default());
            readback.record(&mut encoder);
            drop(encoder.finish());
        })?;
        Ok(readback)
    }

    /// Records the copy. Submit it before the elements are asked for, and not while an earlier read
    /// is under way: wgpu refuses a submission that copies to a mapped buffer.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(staging) = &self.staging {
            let start = self.matrix.byte_range().start;
            encoder.copy_buffer_to_buffer(self.matrix.buffer(), start, staging, 0, staging.size());
        }
    }

    /// Records the copy into an encoder of its own and submits it.
    fn submit(&self, queue: &wgpu::Queue) -> Result<()> {
        captured(&self.device, "a readback", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            self.record(&mut encoder);
            queue.submit([encoder.finish()]);
        })
    }

    /// Asks for the elements, once the copy has been submitted. The future does not block; on native
    /// backends it completes when the host polls the device.
    ///
    /// # Errors
    ///
    /// [`Error::ReadPending`] while an earlier read is under way, [`Error::DeviceLost`], at once or
    /// from the future.
    pub fn read(&self) -> Result<impl Future<Output = Result<Vec<f32>>> + use<>> {
        let (sender, receiver) = oneshot::channel();
        let mut mapping = None;
        if let Some(staging) = &self.staging {
            if self.reading.swap(true, Ordering::Acquire) {
                return Err(Error::ReadPending);
            }
            mapping = Some(Mapping {
                device: self.device.clone(),
                staging: staging.clone(),
                reading: Arc::clone(&self.reading),
            });
            captured(&self.device, "a readback", || {
                staging.map_async(wgpu::MapMode::Read, .., move |result| {
                    // The receiver is gone where the caller dropped the future.
                    let _ = sender.send(result);
                });
            })?;
        }
        let matrix = self.matrix.clone();
        Ok(async move {
            let Some(mapping) = mapping else {
                return Ok(Vec::new());
            };
            let mapped = receiver.await;
            let Ok(Ok(())) = mapped else {
                return Err(Error::DeviceLost);
            };
            let values = {
                let bytes = mapping.staging.get_mapped_range(..).map_err(|_| Error::DeviceLost)?;
                without_gaps(&matrix, &bytes)
            };
            drop(mapping);
            Ok(values)
        })
    }

    /// As [`Readback::read`], polling the device until the elements are there. For native programs.
    ///
    /// # Errors
    ///
    /// As [`Readback::read`].
    pub fn read_blocking(&self) -> Result<Vec<f32>> {
        let values = self.read()?;
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|_| Error::DeviceLost)?;
        pollster::block_on(values)
    }
}

/// The elements of the rows, without what lies between them.
fn without_gaps(matrix: &Matrix, bytes: &[u8]) -> Vec<f32> {
    let layout = matrix.layout();
    let size = layout.element.size() as usize;
    let row = layout.columns as usize * size;
    let step = layout.row_stride as usize * size;
    let rows = bytes.chunks(step).take(layout.rows as usize);
    rows.flat_map(|chunk| layout.element.decode(&chunk[..row])).collect()
}
