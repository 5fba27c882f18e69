//! [`Weight`]: one matrix on the GPU, bound once, used by both directions.

use std::sync::Arc;

use super::core::Kernels;
use crate::error::{Error, Result};
use crate::matrix::{Matrix, expect_usage, expect_whole_words};
use crate::shader::{Access, Binding};

/// The weight's group: the same in both directions, so one bind group serves both.
pub(super) const WEIGHT_GROUP: &[Binding] = &[Binding { name: "weight", access: Access::Read }];

/// The weight W of a tied layer, \[hidden, inputs\]: a handle that encoder and decoder share.
///
/// Clones are handles to the same buffer: what is written through one is seen by all, as with
/// `mod1.weight = mod2.weight` in PyTorch. The one bind group serves the encode and the decode
/// pipeline.
#[derive(Debug, Clone)]
pub struct Weight {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    matrix: Matrix,
    bind_group: wgpu::BindGroup,
}

impl Weight {
    /// Takes the caller's matrix, \[hidden, inputs\] and row-major as PyTorch's `nn.Linear.weight`,
    /// for the weight. Nothing is copied. Of one with a [working copy](Matrix::with_working_copy), the
    /// products read that.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] without [`wgpu::BufferUsages::STORAGE`], [`Error::ElementType`] for 16-bit
    /// elements at an odd offset or row stride, [`Error::Limit`] over
    /// `max_storage_buffer_binding_size`, [`Error::Refused`] for a buffer of another device, and
    /// [`Error::DeviceLost`].
    pub fn new(kernels: &Kernels, matrix: Matrix) -> Result<Self> {
        expect_usage("weight", &matrix, wgpu::BufferUsages::STORAGE)?;
        expect_whole_words("weight", &matrix)?;
        let bind_group = kernels.bind_alone(WEIGHT_GROUP, &matrix.working())?;
        let device = kernels.device().clone();
        Ok(Self { shared: Arc::new(Shared { device, matrix, bind_group }) })
    }

    /// The weight's matrix: what is learned. Where it has a working copy, it is the f32 master of that.
    pub fn matrix(&self) -> &Matrix {
        &self.shared.matrix
    }

    /// Rows: the length of a code.
    pub fn hidden(&self) -> u32 {
        self.shared.matrix.rows()
    }

    /// Columns: the length of an input.
    pub fn inputs(&self) -> u32 {
        self.shared.matrix.columns()
    }

    /// Whether both are handles to the same elements of the same buffer.
    pub fn is_tied_to(&self, other: &Self) -> bool {
        self.shared.matrix == other.shared.matrix
    }

    pub(super) fn bind_group(&self) -> &wgpu::BindGroup {
        &self.shared.bind_group
    }

    /// Passes if the weight belongs to the device of `kernels`.
    pub(crate) fn expect_device(&self, kernels: &Kernels) -> Result<()> {
        if self.shared.device == *kernels.device() {
            Ok(())
        } else {
            Err(Error::DeviceMismatch { what: "weight" })
        }
    }
}
