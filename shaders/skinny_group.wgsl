// skinny_group.wgsl — put in front of skinny.wgsl: 32 invocations share a reduction: GPUs.
//
// Tests: encode.rs, decode.rs, with every strategy.

const DEPTH_LANES: u32 = 32u;
