//! What the elementwise kernels share: how quads are dealt out to workgroups.

use crate::matrix::Matrix;

/// Invocations of a workgroup; each takes one quad.
pub(super) const INVOCATIONS: u32 = 256;

/// Quads in a matrix: four neighbouring columns of a row, or what is left of it.
pub(super) fn quads(matrix: &Matrix) -> u64 {
    quads_of(matrix.shape())
}

fn quads_of([rows, columns]: [u32; 2]) -> u64 {
    u64::from(rows) * u64::from(columns).div_ceil(4)
}

/// Workgroups that take all quads of a matrix.
pub(super) fn groups(matrix: &Matrix) -> u64 {
    groups_of(matrix.shape())
}

/// Workgroups that take all quads of a matrix of this shape.
pub(super) fn groups_of(shape: [u32; 2]) -> u64 {
    quads_of(shape).div_ceil(u64::from(INVOCATIONS))
}
