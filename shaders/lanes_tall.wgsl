// lanes_tall.wgsl — put in front of lanes_rows.wgsl: tiles of 64×32, where a right block meets twice the
// rows.
//
// For drivers that keep the sums of the smaller tile in memory too, such as Mesa's up to 22.3: there
// the larger one costs no more for each sum, and loads less.
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE_ROWS: u32 = 64u;
