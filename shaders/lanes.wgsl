// lanes.wgsl — put in front: products in registers, without workgroup memory and barriers.
//
// For drivers that run shaders on the CPU: there a barrier turns a shader into coroutines, whose
// variables live in memory, workgroup memory is no faster than any other, every load is done lane
// by lane, and arithmetic is cheap. So a workgroup is one vector of eight lanes that computes a
// tile of TILE_ROWS×32 sums: lane `local` owns the columns 4·local…4·local+3 of all rows, in a vec4
// each. Four k at a time it loads its right block, and the left blocks come by `multiply_rows`: those of
// 32 rows from the other lanes (lanes_rows.wgsl) or, in tiles of 16 rows, all loaded by every lane itself
// (lanes_alone.wgsl). Tiles of 64 rows have the left blocks of 32 near rows and of 32 far ones.
//
// Bands are four rows of tiles high: a long reduction's left operands then stay in a CPU's cache.
//
// Of an operand that is contiguous along its rows or columns a block's four quads lie a row stride
// apart, and neighbouring lanes' in one cache line. The lanes load them in different orders, each
// beginning with another of the four k, so that the first load of all lanes touches all the lines
// that the block needs: their misses overlap, which no prefetcher would hide at such strides.
//
// The sums move up while they are delivered: with variable indices they would be kept in memory. Sixteen
// rows are an iteration, in which a loop delivers four rows at a time, so that what follows a sum is compiled
// for four rows only. Of the four each lane begins with another and wraps around: the driver stores lane after
// lane, and in this order the first stores of all lanes go to all lines of the four rows, two to a row, whose
// misses overlap.
//
// Needs product.wgsl and lanes_rows.wgsl (or lanes_alone.wgsl).
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE_COLUMNS: u32 = 32u;
const BAND: u32 = 4u;
const INVOCATIONS: u32 = 8u;
const BLOCKS_INSIDE: bool = true;

var<private> sums: array<vec4<f32>, TILE_ROWS>;

// Which of a block's four k lane `local` loads first.
fn order_of_left(local: u32) -> u32 {
    return select(local & 3u, 0u, LEFT_ACROSS);
}

fn order_of_right(local: u32) -> u32 {
    return select(local & 3u, 0u, RIGHT_ACROSS);
}

// The block in the order of k, from one that begins at the `order`-th of them and wraps around.
fn straightened(block: Block, order: u32) -> Block {
    let odd = vec4<bool>((order & 1u) != 0u);
    let by_one = Block(
        select(block.a, block.d, odd),
        select(block.b, block.a, odd),
        select(block.c, block.b, odd),
        select(block.d, block.c, odd),
    );
    let far = vec4<bool>((order & 2u) != 0u);
    return Block(
        select(by_one.a, by_one.c, far),
        select(by_one.b, by_one.d, far),
        select(by_one.c, by_one.a, far),
        select(by_one.d, by_one.b, far),
    );
}

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
    let far_rows = row_lines(task.row + 32u, local);
    let columns = right_line(column);
    let order = order_of_right(local);
    let end = min(task.end, depth_of(which));
    for (var k = task.begin; k < end; k += 4u) {
        let loaded = right_block(right_quads(columns, k, which, order), k, which, order);
        let right = straightened(loaded, order);
        multiply_rows(0u, rows, local, k, which, right);
        if TILE_ROWS > 32u {
            multiply_rows(32u, far_rows, local, k, which, right);
        }
    }
}

// The four sums from `at` on go up by `by` rows.
fn move_up(at: u32, by: u32) {
    sums[at - by] = sums[at];
    sums[at - by + 1u] = sums[at + 1u];
    sums[at - by + 2u] = sums[at + 2u];
    sums[at - by + 3u] = sums[at + 3u];
}

// The sixteen sums from `at` on go up by sixteen rows.
fn move_sixteen_up(at: u32) {
    move_up(at, 16u);
    move_up(at + 4u, 16u);
    move_up(at + 8u, 16u);
    move_up(at + 12u, 16u);
}

// The first four sums, of the rows from `row` on: lane `local` begins with the `local & 3`-th.
fn deliver_four(task: Task, row: u32, local: u32, column: u32, terms: Terms) {
    let by_one = vec4<bool>((local & 1u) != 0u);
    let once = array(
        select(sums[0], sums[1], by_one),
        select(sums[1], sums[2], by_one),
        select(sums[2], sums[3], by_one),
        select(sums[3], sums[0], by_one),
    );
    let by_two = vec4<bool>((local & 2u) != 0u);
    deliver(task, row + (local & 3u), column, select(once[0], once[2], by_two), terms);
    deliver(task, row + ((local + 1u) & 3u), column, select(once[1], once[3], by_two), terms);
    deliver(task, row + ((local + 2u) & 3u), column, select(once[2], once[0], by_two), terms);
    deliver(task, row + ((local + 3u) & 3u), column, select(once[3], once[1], by_two), terms);
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
    for (var i = 0u; i < TILE_ROWS; i += 16u) {
        for (var four = 0u; four < 16u; four += 4u) {
            deliver_four(task, task.row + i + four, local, column, terms);
            move_up(4u, 4u);
            move_up(8u, 4u);
            move_up(12u, 4u);
        }
        if TILE_ROWS > 16u {
            move_sixteen_up(16u);
        }
        if TILE_ROWS > 32u {
            move_sixteen_up(32u);
            move_sixteen_up(48u);
        }
    }
    close(task.index * INVOCATIONS + local);
}
