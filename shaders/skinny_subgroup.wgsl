// skinny_subgroup.wgsl — put in front: products with few rows whose right operand is contiguous along
// its columns, on drivers that run shaders on the CPU.
//
// Processors like to read on and on. A workgroup is one subgroup of eight, and its part of the
// reduction 64 rows of the right operand, eight to each lane, read from left to right: 64 streams, as
// skinny_lanes.wgsl has when it reads rows of an operand that is contiguous along k. At every quad of
// columns the lanes' sums over their rows are added up, and lane i delivers row i of up to four. The
// parts are added by combine.wgsl; a reduction of up to 64 is a single part, but goes the same way.
//
// Needs product.wgsl, and subgroups of exactly eight invocations.
// Tests: decode.rs, with every strategy.

// One of 1 and 4. More rows take further workgroups.
override SKINNY_ROWS: u32 = 4u;

const INVOCATIONS: u32 = 8u;
override TILE_ROWS: u32 = SKINNY_ROWS;
const TILE_COLUMNS: u32 = 512u;
const BAND: u32 = 8u;
const BLOCKS_INSIDE: bool = false;

// The sum over the lanes, in an order of its own: subgroupAdd's is the driver's, and slower.
fn over_lanes(mine: vec4<f32>) -> vec4<f32> {
    let a = subgroupBroadcast(mine, 0u) + subgroupBroadcast(mine, 1u);
    let b = subgroupBroadcast(mine, 2u) + subgroupBroadcast(mine, 3u);
    let c = subgroupBroadcast(mine, 4u) + subgroupBroadcast(mine, 5u);
    let d = subgroupBroadcast(mine, 6u) + subgroupBroadcast(mine, 7u);
    return (a + b) + (c + d);
}

// Of one row of the left operand, the quads at both of the lane's blocks.
struct Row {
    first: vec4<f32>,
    second: vec4<f32>,
}

fn row_of(start: u32, k: u32) -> Row {
    return Row(left_quad(start, k), left_quad(start, k + 4u));
}

fn sum_of(row: Row, first: Block, second: Block) -> vec4<f32> {
    return over_lanes(added(added(vec4<f32>(), row.first, first), row.second, second));
}

fn multiply(group: vec3<u32>, local: u32) {
    let task = task_of(group);
    if task.index >= parameters.product.groups {
        return;
    }
    let k = task.begin + 8u * local;
    let starts = left_line(task.row).at;
    let row_0 = row_of(starts.x, k);
    let row_1 = row_of(starts.y, k);
    let row_2 = row_of(starts.z, k);
    let row_3 = row_of(starts.w, k);
    let end = min(task.column + TILE_COLUMNS, parameters.product.columns);
    for (var column = task.column; column < end; column += 4u) {
        let line = right_line(column);
        let first = right_block(right_quads(line, k, 0u, 0u), k, 0u, 0u);
        let second = right_block(right_quads(line, k + 4u, 0u, 0u), k + 4u, 0u, 0u);
        var sum = sum_of(row_0, first, second);
        if SKINNY_ROWS > 1u {
            sum = select(sum, sum_of(row_1, first, second), local == 1u);
            sum = select(sum, sum_of(row_2, first, second), local == 2u);
            sum = select(sum, sum_of(row_3, first, second), local == 3u);
        }
        if local < SKINNY_ROWS {
            deliver(task, task.row + local, column, sum, terms_of(column));
        }
    }
    close(task.index * INVOCATIONS + local);
}
