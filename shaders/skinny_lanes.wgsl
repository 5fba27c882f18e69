// skinny_lanes.wgsl — put in front of skinny.wgsl: each invocation reduces alone, and owns two quads of
// columns in up to four rows: drivers that run shaders on the CPU.
//
// There every load counts, so each quad of the left operand meets two right blocks. Of a right operand that
// is contiguous along k the eight invocations read 64 rows, each from left to right: processors like that.
//
// Tests: encode.rs, decode.rs, with every strategy.

const DEPTH_LANES: u32 = 1u;
const COLUMN_QUADS: u32 = 2u;

fn row_starts(row: u32) -> vec4<u32> {
    return left_line(row).at;
}

fn add_row(at: u32, row: vec4<f32>, right: RightBlocks) {
    sums[at] = added(sums[at], row, right.near);
    sums[at + FAR] = added(sums[at + FAR], row, right.far);
}

fn add_block(rows: vec4<u32>, k: u32, right: RightBlocks) {
    add_rows(0u, rows, k, right);
}
