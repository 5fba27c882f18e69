// skinny.wgsl — put in front: products with few rows, bound by reading the right operand once.
//
// A workgroup computes up to 16 rows (SKINNY_ROWS) of 32·COLUMN_QUADS columns. An invocation owns four of
// each 32 columns, in all rows, and of every DEPTH_LANES blocks of four k one: it reads each right block
// once, and each row's quad from the cache. Neighbouring invocations run along the direction in which
// the right operand is contiguous. With several depth lanes their sums are added at the end, row by
// row, in a tree of fixed shape in workgroup memory; with one there is no workgroup memory and no
// barrier.
//
// Needs product.wgsl, and skinny_group.wgsl or skinny_lanes.wgsl.
// Tests: encode.rs, decode.rs, with every strategy.

// One of 1, 4 and 16 (skinny_lanes.wgsl: 1 and 4). More rows take further workgroups.
override SKINNY_ROWS: u32 = 4u;

const COLUMN_LANES: u32 = 8u;
const INVOCATIONS: u32 = COLUMN_LANES * DEPTH_LANES;
override TILE_ROWS: u32 = SKINNY_ROWS;
const NEAR_COLUMNS: u32 = 4u * COLUMN_LANES;
const TILE_COLUMNS: u32 = COLUMN_QUADS * NEAR_COLUMNS;
const BAND: u32 = 8u;
const BLOCKS_INSIDE: bool = DEPTH_LANES == 1u;

// Where the sums of the far columns begin, behind those of up to eight rows of near ones.
const FAR: u32 = 8u;

var<private> sums: array<vec4<f32>, 16>;

var<workgroup> partial: array<vec4<f32>, INVOCATIONS>;

// What of the right operand four k meet: the lane's quad of near columns, and of far ones where there are any.
struct RightBlocks {
    near: Block,
    far: Block,
}

fn right_at(line: Line, k: u32) -> Block {
    return right_block(right_quads(line, k, 0u, 0u), k, 0u, 0u);
}

// Four rows, or one: `starts` are those of left's rows.
fn add_rows(at: u32, starts: vec4<u32>, k: u32, right: RightBlocks) {
    add_row(at, left_quad(starts.x, k), right);
    if SKINNY_ROWS > 1u {
        add_row(at + 1u, left_quad(starts.y, k), right);
        add_row(at + 2u, left_quad(starts.z, k), right);
        add_row(at + 3u, left_quad(starts.w, k), right);
    }
}

// The sum over the depth lanes, to the first of them.
fn over_depth_lanes(value: vec4<f32>, column_lane: u32, depth_lane: u32) -> vec4<f32> {
    if DEPTH_LANES == 1u {
        return value;
    }
    let at = depth_lane * COLUMN_LANES + column_lane;
    workgroupBarrier();
    partial[at] = value;
    workgroupBarrier();
    for (var half = DEPTH_LANES / 2u; half > 0u; half /= 2u) {
        if depth_lane < half {
            partial[at] += partial[at + half * COLUMN_LANES];
        }
        workgroupBarrier();
    }
    return partial[at];
}

fn multiply(group: vec3<u32>, local: u32) {
    let task = task_of(group);
    if task.index >= parameters.product.groups {
        return;
    }
    let column_lane = select(local % COLUMN_LANES, local / DEPTH_LANES, RIGHT_ACROSS);
    let depth_lane = select(local / COLUMN_LANES, local % DEPTH_LANES, RIGHT_ACROSS);
    let column = task.column + 4u * column_lane;
    let far_column = column + NEAR_COLUMNS;
    let near = right_line(column);
    let far = right_line(far_column);
    let rows = row_starts(task.row);
    let end = min(task.end, depth_of(0u));
    for (var k = task.begin; k < end; k += 4u * DEPTH_LANES) {
        let at = k + 4u * depth_lane;
        var right = RightBlocks(right_at(near, at), Block());
        if COLUMN_QUADS > 1u && far_column < task.columns {
            right.far = right_at(far, at);
        }
        add_block(rows, at, right);
    }
    let terms = terms_of(column);
    var far_terms = terms;
    if COLUMN_QUADS > 1u {
        far_terms = terms_of(far_column);
    }
    // Row by row, the sums moving up, so that every index is a constant.
    for (var i = 0u; i < SKINNY_ROWS; i++) {
        let sum = over_depth_lanes(sums[0], column_lane, depth_lane);
        if depth_lane == 0u {
            deliver(task, task.row + i, column, sum, terms);
        }
        if COLUMN_QUADS > 1u {
            let far_sum = over_depth_lanes(sums[FAR], column_lane, depth_lane);
            if depth_lane == 0u {
                deliver(task, task.row + i, far_column, far_sum, far_terms);
            }
        }
        sums[0] = sums[1];
        sums[1] = sums[2];
        sums[2] = sums[3];
        sums[3] = sums[4];
        sums[4] = sums[5];
        sums[5] = sums[6];
        sums[6] = sums[7];
        sums[7] = sums[8];
        sums[8] = sums[9];
        sums[9] = sums[10];
        sums[10] = sums[11];
        sums[11] = sums[12];
        sums[12] = sums[13];
        sums[13] = sums[14];
        sums[14] = sums[15];
    }
    close(task.index * INVOCATIONS + local);
}
