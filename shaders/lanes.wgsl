// lanes.wgsl — put in front: products in registers, without workgroup memory and barriers.
//
// For drivers that run shaders on the CPU: there a barrier turns a shader into coroutines, whose
// variables live in memory, workgroup memory is no faster than any other, every load is done lane
// by lane, and arithmetic is cheap. So a workgroup is one vector of eight lanes that computes a
// tile of 32×32 sums: lane `local` owns the columns 4·local…4·local+3 of all 32 rows, in 32 vec4.
// Four k at a time it loads its right block, and the left blocks of the rows come by
// `multiply_rows`: from the other lanes (lanes_subgroup.wgsl) or each loaded by itself
// (lanes_alone.wgsl).
//
// The sums move up while they are delivered, four rows at a time: with variable indices they would
// be kept in memory.
//
// Needs product.wgsl, and lanes_subgroup.wgsl or lanes_alone.wgsl.
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE_ROWS: u32 = 32u;
const TILE_COLUMNS: u32 = 32u;
const INVOCATIONS: u32 = 8u;

var<private> sums: array<vec4<f32>, 32>;

// Rows at…at+3: `left` has one quad of rows for each of four k, `right` the lane's columns.
fn multiply_four_rows(at: u32, left: Block, right: Block) {
    let rows = transposed(left);
    sums[at] = added(sums[at], rows.a, right);
    sums[at + 1u] = added(sums[at + 1u], rows.b, right);
    sums[at + 2u] = added(sums[at + 2u], rows.c, right);
    sums[at + 3u] = added(sums[at + 3u], rows.d, right);
}

fn reduce(task: Task, local: u32, column: u32, which: u32) {
    let rows = row_lines(task.row, local);
    let columns = right_line(column);
    let end = min(task.end, depth_of(which));
    for (var k = task.begin; k < end; k += 4u) {
        let right = right_block(right_quads(columns, k, which), k, which);
        multiply_rows(rows, k, which, right);
    }
}

fn multiply(group: vec3<u32>, local: u32) {
    let task = task_of(group);
    if task.index >= parameters.product.groups {
        return;
    }
    let column = task.column + 4u * local;
    reduce(task, local, column, 0u);
    if REDUCTIONS == 2u {
        reduce(task, local, column, 1u);
    }
    let terms = terms_of(column);
    for (var i = 0u; i < 32u; i += 8u) {
        deliver(task.part, task.row + i, column, sums[0], terms);
        deliver(task.part, task.row + i + 1u, column, sums[1], terms);
        deliver(task.part, task.row + i + 2u, column, sums[2], terms);
        deliver(task.part, task.row + i + 3u, column, sums[3], terms);
        deliver(task.part, task.row + i + 4u, column, sums[4], terms);
        deliver(task.part, task.row + i + 5u, column, sums[5], terms);
        deliver(task.part, task.row + i + 6u, column, sums[6], terms);
        deliver(task.part, task.row + i + 7u, column, sums[7], terms);
        sums[0] = sums[8];
        sums[1] = sums[9];
        sums[2] = sums[10];
        sums[3] = sums[11];
        sums[4] = sums[12];
        sums[5] = sums[13];
        sums[6] = sums[14];
        sums[7] = sums[15];
        sums[8] = sums[16];
        sums[9] = sums[17];
        sums[10] = sums[18];
        sums[11] = sums[19];
        sums[12] = sums[20];
        sums[13] = sums[21];
        sums[14] = sums[22];
        sums[15] = sums[23];
        sums[16] = sums[24];
        sums[17] = sums[25];
        sums[18] = sums[26];
        sums[19] = sums[27];
        sums[20] = sums[28];
        sums[21] = sums[29];
        sums[22] = sums[30];
        sums[23] = sums[31];
    }
    close(task.index * INVOCATIONS + local);
}
