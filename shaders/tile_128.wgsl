// tile_128.wgsl — put in front of tile.wgsl: tiles of 128×128, 8×8 sums to each of 256 invocations.
//
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE: u32 = 128u;
const INVOCATIONS: u32 = 256u;
const PREFETCH: bool = true;
