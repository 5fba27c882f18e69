// matrix.wgsl — put in front: where the values of a matrix lie in its buffer.
//
// A matrix is row-major with a row stride that may exceed its columns. Kernels touch it in quads:
// four neighbouring columns of one row, starting at a column that is a multiple of four. `place`
// gives the four words to touch, clamped to the matrix, so that a quad which hangs over the edge
// reads a neighbour instead of foreign memory; `inside` says which of the four are real.
//
// Needs a width's files before it: scalar.wgsl, vector.wgsl, vector_64.wgsl or mixed.wgsl, and what goes with
// them.
// Tests: every numeric test, by views with offsets and row strides and shapes around a tile.

// What an operand's elements are, in the constants of that name. Only with mixed.wgsl others than f32.
const F32: u32 = 0u;
const F16: u32 = 1u;
const BF16: u32 = 2u;

// A matrix in a buffer. `offset` and `row_stride` count words: f32 values (scalar.wgsl) or 16-byte
// words (vector.wgsl, vector_64.wgsl); with mixed.wgsl they count elements. An absent operand has zero
// rows and zero columns.
struct View {
    offset: u32,
    row_stride: u32,
    rows: u32,
    columns: u32,
}

// The words of the quad at (row, column). With 16-byte words all four are the same one.
// The matrix must not be empty.
fn place(view: View, row: u32, column: u32) -> vec4<u32> {
    let start = view.offset + min(row, view.rows - 1u) * view.row_stride;
    if WIDTH == 4u {
        return vec4<u32>(start + min(column, view.columns - 4u) / 4u);
    }
    let columns = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);
    return vec4<u32>(start) + min(columns, vec4<u32>(view.columns - 1u));
}

// Which of the four columns starting at (row, column) lie in the matrix.
fn inside(view: View, row: u32, column: u32) -> vec4<bool> {
    let columns = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);
    return (columns < vec4<u32>(view.columns)) & vec4<bool>(row < view.rows);
}

// The quad's values, with zeros outside the matrix: what a neighbour holds, even NaN, stays out.
fn kept(view: View, row: u32, column: u32, values: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), values, inside(view, row, column));
}

// Whether an optional operand was given.
fn present(view: View) -> bool {
    return view.rows != 0u;
}

// The operands of products are read in blocks, four quads at a time, along k. What does not depend
// on k is a line: four word indices, computed once. An operand that is contiguous along k has the
// starts of four rows for a line, one that is not has the words of four neighbouring columns. What
// depends on k is a step to add: the words of four k within a row, or the starts of four rows.

fn across_line(view: View, row: u32) -> vec4<u32> {
    let rows = vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u);
    return vec4<u32>(view.offset) + min(rows, vec4<u32>(view.rows - 1u)) * view.row_stride;
}

fn across_step(view: View, k: u32) -> vec4<u32> {
    if WIDTH == 4u {
        return vec4<u32>(min(k, view.columns - 4u) / 4u);
    }
    return min(vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(view.columns - 1u));
}

fn along_line(view: View, column: u32) -> vec4<u32> {
    return vec4<u32>(view.offset) + across_step(view, column);
}

// The four k of a block, beginning at the `order`-th and wrapping around.
fn ordered(k: u32, order: u32) -> vec4<u32> {
    return vec4<u32>(k) + ((vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(order)) & vec4<u32>(3u));
}

// A step that overflows is within the matrix too.
fn along_step(view: View, k: u32, order: u32) -> vec4<u32> {
    let stride = view.row_stride;
    let starts = ordered(k, order) * stride;
    return min(starts, vec4<u32>((view.rows - 1u) * stride));
}
