// skinny_lanes.wgsl — put in front of skinny.wgsl: each invocation reduces alone, in up to four rows:
// drivers that run shaders on the CPU.
//
// Tests: encode.rs, decode.rs, with every strategy.

const DEPTH_LANES: u32 = 1u;

fn row_starts(row: u32) -> vec4<u32> {
    return left_line(row).at;
}

fn add_block(rows: vec4<u32>, k: u32, right: Block) {
    add_rows(0u, rows, k, right);
}
