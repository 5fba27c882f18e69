//! What the kernels on `tile.wgsl` share.

use crate::matrix::Matrix;

/// Rows and columns of an output tile (`TILE` of tile.wgsl).
const TILE: u64 = 64;

/// Invocations of a workgroup, and bytes of workgroup memory, of every kernel on tile.wgsl.
pub(super) const INVOCATIONS: u32 = 64;
pub(super) const BYTES: u32 = 512 * 16;

/// Loop iterations that a reduction of this length takes (`DEPTH` of tile.wgsl in each).
pub(super) fn slices(depth: u32) -> u64 {
    u64::from(depth).div_ceil(16)
}

/// Workgroups of a kernel on tile.wgsl that computes `output`.
pub(super) fn tiles(output: &Matrix) -> u64 {
    u64::from(output.rows()).div_ceil(TILE) * u64::from(output.columns()).div_ceil(TILE)
}
