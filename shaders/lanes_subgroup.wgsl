// lanes_subgroup.wgsl — put in front of lanes_rows.wgsl: tiles of 32×32.
//
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE_ROWS: u32 = 32u;
