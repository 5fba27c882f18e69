//! [`UntiedLinear`]: two independent weights where a [`TiedLinear`] has one.

use crate::error::{Error, Result, captured, expect_alive};
use crate::halves::{Decoder, Encoder};
use crate::kernels::Weight;
use crate::layer::TiedLinear;
use crate::matrix::{Matrix, expect_shape, expect_usage};
use crate::parameters::Parameters;

/// An encoder and a decoder with a weight each, of one shape: what [`TiedLinear::untie`] makes.
///
/// What it costs: the second weight takes [`UntiedLinear::extra_bytes`] of GPU memory, and in training as
/// much again for its gradient and for each of its moments.
#[derive(Debug, Clone)]
pub struct UntiedLinear {
    encoder: Encoder,
    decoder: Decoder,
}

impl TiedLinear {
    /// Two independent weights that start equal: the encoder keeps this layer's, the decoder gets a
    /// copy of it. Biases and activations stay as they are, the biases in this layer's buffers.
    ///
    /// The copy is made on the GPU, of what the weight holds when what was submitted to `queue` before has
    /// run: this submits.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a weight without [`wgpu::BufferUsages::COPY_SRC`], and as
    /// [`Kernels::zeros`](crate::Kernels::zeros).
    pub fn untie(&self, queue: &wgpu::Queue) -> Result<UntiedLinear> {
        let (kernels, from) = (self.kernels(), self.weight().matrix());
        expect_usage("weight", from, wgpu::BufferUsages::COPY_SRC)?;
        let (label, [rows, columns]) = ("decoder weight", from.shape());
        let to = match from.working_copy() {
            Some(working) => {
                let to = kernels.zeroed_master(label, rows, columns, working.layout().element)?;
                copy(kernels.device(), queue, &working, &to.working())?;
                to
            }
            None => kernels.zeros_as(label, rows, columns, from.layout().element)?,
        };
        copy(kernels.device(), queue, from, &to)?;
        let weight = Weight::new(kernels, to)?;
        let (bias, activation) = (self.decoder().bias().cloned(), self.decoder().activation());
        let decoder = Decoder::new(kernels, &weight, bias, activation)?;
        UntiedLinear::from_halves(self.encoder().clone(), decoder)
    }
}

impl UntiedLinear {
    /// Two halves with a weight each.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for a decoder's weight of another shape than the encoder's, which it names
    /// `decoder weight`, [`Error::DeviceMismatch`] for one of another device.
    pub fn from_halves(encoder: Encoder, decoder: Decoder) -> Result<Self> {
        decoder.weight().expect_device(&encoder.kernels)?;
        let shape = encoder.weight().matrix().shape();
        expect_shape("decoder weight", decoder.weight().matrix(), shape)?;
        Ok(Self { encoder, decoder })
    }

    /// The half that encodes.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The half that decodes.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Both weights, each with its bias where there is one.
    pub fn parameters(&self) -> Parameters {
        Parameters::given([
            ("encoder weight", Some(self.encoder.weight().matrix())),
            ("encoder bias", self.encoder.bias()),
            ("decoder weight", Some(self.decoder.weight().matrix())),
            ("decoder bias", self.decoder.bias()),
        ])
    }

    /// Bytes of GPU memory that the second weight takes; none where both halves hold one.
    pub fn extra_bytes(&self) -> u64 {
        let weight = self.decoder.weight();
        if self.encoder.weight().is_tied_to(weight) {
            return 0;
        }
        let bytes = |matrix: &Matrix| {
            let layout = matrix.layout();
            let columns =
                u64::from(layout.columns).next_multiple_of(layout.element.shared().into());
            u64::from(layout.rows) * columns * layout.element.size()
        };
        let copy = weight.matrix().working_copy();
        bytes(weight.matrix()) + copy.map_or(0, |copy| bytes(&copy))
    }

    /// One weight again, the encoder's, if both are equal to the bit: reads both, which submits.
    ///
    /// On native backends the future completes when the host polls the device.
    ///
    /// # Errors
    ///
    /// [`Error::Unequal`] with the first element in which the weights differ, and as [`Matrix::read`].
    pub async fn tie(&self, queue: &wgpu::Queue) -> Result<TiedLinear> {
        let device = self.encoder.kernels.device();
        let encoder = self.encoder.weight().matrix().read(device, queue).await?;
        let decoder = self.decoder.weight().matrix().read(device, queue).await?;
        self.tie_equal(&encoder, &decoder)
    }

    /// As [`UntiedLinear::tie`], blocking. For native programs.
    ///
    /// # Errors
    ///
    /// As [`UntiedLinear::tie`].
    pub fn tie_blocking(&self, queue: &wgpu::Queue) -> Result<TiedLinear> {
        let device = self.encoder.kernels.device();
        let encoder = self.encoder.weight().matrix().read_blocking(device, queue)?;
        let decoder = self.decoder.weight().matrix().read_blocking(device, queue)?;
        self.tie_equal(&encoder, &decoder)
    }

    fn tie_equal(&self, encoder: &[f32], decoder: &[f32]) -> Result<TiedLinear> {
        let mut pairs = encoder.iter().copied().zip(decoder.iter().copied());
        let differs = |(a, b): (f32, f32)| a.to_bits() != b.to_bits();
        if let Some(index) = pairs.position(differs) {
            let columns = self.encoder.weight().inputs() as usize;
            return Err(Error::Unequal {
                row: (index / columns) as u32,
                column: (index % columns) as u32,
                encoder: encoder[index],
                decoder: decoder[index],
            });
        }
        let (bias, activation) = (self.decoder.bias().cloned(), self.decoder.activation());
        let weight = self.encoder.weight();
        let decoder = Decoder::new(&self.decoder.kernels, weight, bias, activation)?;
        TiedLinear::from_halves(self.encoder.clone(), decoder)
    }
}

/// Copies a matrix into one of the same shape and element type.
fn copy(device: &wgpu::Device, queue: &wgpu::Queue, from: &Matrix, to: &Matrix) -> Result<()> {
    if from.is_empty() {
        return Ok(());
    }
    expect_alive(device)?;
    let (layout, stride) = (from.layout(), u64::from(to.layout().row_stride));
    let size = layout.element.size();
    let (rows, columns) = if layout.row_stride == to.layout().row_stride {
        (1, u64::from(layout.rows) * stride)
    } else {
        (u64::from(layout.rows), stride)
    };
    captured(device, "a copy of a weight", || {
        let mut encoder = device.create_command_encoder(&Default::default());
        for row in 0..rows {
            let start = (layout.offset + row * u64::from(layout.row_stride)) * size;
            let (bytes, end) = (columns * size, (to.layout().offset + row * stride) * size);
            encoder.copy_buffer_to_buffer(from.buffer(), start, to.buffer(), end, bytes);
        }
        queue.submit([encoder.finish()]);
    })
}
