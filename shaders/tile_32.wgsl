// tile_32.wgsl — put in front of tile.wgsl: tiles of 32×32, 4×4 sums to each of 64 invocations.
//
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE: u32 = 32u;
const INVOCATIONS: u32 = 64u;
const PREFETCH: bool = true;
