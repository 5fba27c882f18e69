//! What the optimizers' kernels share: moments, and the range of their settings.

use super::core::Kernels;
use super::elementwise::quads;
use crate::error::{Error, Result};
use crate::matrix::{Matrix, expect_countable};

/// Passes if `given` is a finite number of at least 0.
pub(super) fn not_negative(name: &'static str, given: f64) -> Result<()> {
    if given >= 0.0 && (given as f32).is_finite() {
        Ok(())
    } else {
        Err(Error::Setting { name, expected: "a finite number of at least 0", given })
    }
}

/// A zeroed moment of `value`, in quads: each row padded to a multiple of four.
pub(super) fn moment(kernels: &Kernels, label: &'static str, value: &Matrix) -> Result<Matrix> {
    let columns = quads(value) * 4;
    expect_countable(label, columns)?;
    kernels.zeros(label, 1, columns as u32)
}
