// skinny_lanes.wgsl — put in front of skinny.wgsl: no barrier, for drivers that run shaders on
// the CPU.
//
// Tests: encode.rs, decode.rs, with every strategy.

const DEPTH_LANES: u32 = 1u;
