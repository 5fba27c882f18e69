//! What the elementwise kernels share: how quads are dealt out to workgroups.

use crate::matrix::Matrix;

/// Invocations of a workgroup; each takes one quad.
pub(super) const INVOCATIONS: u32 = 256;

/// Quads in a matrix: four neighbouring columns of a row, or what is left of it.
pub(super) fn quads(matrix: &Matrix) -> u64 {
    u64::from(matrix.rows()) * u64::from(matrix.columns()).div_ceil(4)
}

/// Workgroups that take all quads of a matrix.
pub(super) fn groups(matrix: &Matrix) -> u64 {
    quads(matrix).div_ceil(u64::from(INVOCATIONS))
}
