// skinny_group.wgsl — put in front of skinny.wgsl: 32 invocations share a reduction, and each owns one
// quad of columns in up to 16 rows: GPUs.
//
// Tests: encode.rs, decode.rs, with every strategy.

const DEPTH_LANES: u32 = 32u;
const COLUMN_QUADS: u32 = 1u;

struct RowStarts {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn row_starts(row: u32) -> RowStarts {
    return RowStarts(
        left_line(row).at,
        left_line(row + 4u).at,
        left_line(row + 8u).at,
        left_line(row + 12u).at,
    );
}

fn add_row(at: u32, row: vec4<f32>, right: RightBlocks) {
    sums[at] = added(sums[at], row, right.near);
}

fn add_block(rows: RowStarts, k: u32, right: RightBlocks) {
    add_rows(0u, rows.a, k, right);
    if SKINNY_ROWS > 4u {
        add_rows(4u, rows.b, k, right);
        add_rows(8u, rows.c, k, right);
        add_rows(12u, rows.d, k, right);
    }
}
