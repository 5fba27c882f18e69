//! The benchmark's own kernels: ceilings, and what the library's kernels are compared with.

use tied_linear::wgpu;

pub use crate::fma::dispatch::{Dispatch, Source};
use crate::rig::Rig;

/// The bandwidth ceiling.
pub const COPY: Source = Source { name: "copy", text: include_str!("copy.wgsl") };
/// The sum of two gradients.
pub const ADD: Source = Source { name: "add", text: include_str!("add.wgsl") };
/// The transposed copy.
pub const TRANSPOSE: Source = Source { name: "transpose", text: include_str!("transpose.wgsl") };
/// Encode, naively.
pub const NAIVE_ENCODE: Source =
    Source { name: "naive_encode", text: include_str!("naive_encode.wgsl") };
/// Decode, naively.
pub const NAIVE_DECODE: Source =
    Source { name: "naive_decode", text: include_str!("naive_decode.wgsl") };
/// The weight's gradient, naively.
pub const NAIVE_BACKWARD: Source =
    Source { name: "naive_backward", text: include_str!("naive_backward.wgsl") };

/// 16-byte words that a workgroup of `copy` or `add` takes.
const WORDS_IN_GROUP: u64 = 1024;

impl Dispatch {
    /// [`Dispatch::prepare`] on this rig.
    pub fn new(
        rig: &Rig,
        source: Source,
        parameters: [u32; 4],
        buffers: &[&wgpu::Buffer],
        workgroups: [u32; 2],
    ) -> Self {
        Self::prepare(&rig.gpu, &rig.kernels, source, parameters, buffers, workgroups)
    }

    /// A dispatch of `copy` or `add` over `bytes` of two buffers.
    pub fn over_words(rig: &Rig, source: Source, bytes: u64, buffers: [&wgpu::Buffer; 2]) -> Self {
        let words = bytes.div_ceil(16);
        let workgroups = spread(rig, words.div_ceil(WORDS_IN_GROUP));
        Self::new(rig, source, [words as u32, workgroups[0], 0, 0], &buffers, workgroups)
    }
}

/// `count` workgroups over two dimensions; the kernel passes over those beyond its data.
fn spread(rig: &Rig, count: u64) -> [u32; 2] {
    let most = u64::from(rig.gpu.device.limits().max_compute_workgroups_per_dimension);
    let high = count.div_ceil(most).max(1);
    [count.div_ceil(high) as u32, high as u32]
}
