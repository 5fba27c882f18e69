// tile_64.wgsl — put in front of tile.wgsl: tiles of 64×64, 8×8 sums to each of 64 invocations.
//
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE: u32 = 64u;
const INVOCATIONS: u32 = 64u;
const PREFETCH: bool = false;
