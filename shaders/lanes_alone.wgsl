// lanes_alone.wgsl — put in front of lanes.wgsl: each lane loads all rows itself.
//
// For devices without subgroups. Sixteen rows, so that DXC compiles it within half a second, with f16
// matrices too.
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE_ROWS: u32 = 16u;

// The lines of all rows.
struct RowLines {
    line_0: Line,
    line_1: Line,
    line_2: Line,
    line_3: Line,
}

fn row_lines(row: u32, local: u32) -> RowLines {
    return RowLines(
        left_line(row + 0u),
        left_line(row + 4u),
        left_line(row + 8u),
        left_line(row + 12u),
    );
}

fn rows_of(line: Line, k: u32, which: u32) -> Block {
    return left_block(left_quads(line, k, which, 0u), k, which, 0u);
}

fn multiply_rows(at: u32, lines: RowLines, local: u32, k: u32, which: u32, right: Block) {
    multiply_four_rows(at + 0u, rows_of(lines.line_0, k, which), right);
    multiply_four_rows(at + 4u, rows_of(lines.line_1, k, which), right);
    multiply_four_rows(at + 8u, rows_of(lines.line_2, k, which), right);
    multiply_four_rows(at + 12u, rows_of(lines.line_3, k, which), right);
}
