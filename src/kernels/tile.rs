//! What the kernels on `tile.wgsl` share.

use crate::matrix::Matrix;

/// Rows and columns of an output tile (`TILE` of tile.wgsl).
const TILE: u64 = 64;

/// Invocations of a workgroup, and bytes of workgroup memory, of every kernel on tile.wgsl.
pub(super) const INVOCATIONS: u32 = 64;
pub(super) const BYTES: u32 = 512 * 16;

/// How far the reduction goes in a loop iteration (`STEP` of tile.wgsl).
const STEP: u64 = 4;

/// Length of a slice (`DEPTH` of tile.wgsl).
const DEPTH: u64 = 16;

/// Loop iterations that a reduction of this length takes.
pub(super) fn iterations(depth: u32) -> u64 {
    u64::from(depth).div_ceil(STEP)
}

/// The longest reduction, in whole slices, that takes no more than so many loop iterations.
pub(super) fn longest(iterations: u64) -> u64 {
    let slices = iterations / (DEPTH / STEP);
    slices.saturating_mul(DEPTH)
}

/// Workgroups of a kernel on tile.wgsl that computes `output`.
pub(super) fn tiles(output: &Matrix) -> u64 {
    u64::from(output.rows()).div_ceil(TILE) * u64::from(output.columns()).div_ceil(TILE)
}
