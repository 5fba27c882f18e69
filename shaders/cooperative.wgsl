// cooperative.wgsl — put in front, before all else: products by cooperative matrices (tensor cores).
//
// Operands are rounded to f16, products added in f32: an operand over 65,504 overflows, and about
// three decimal digits are left of each. So no rule chooses this strategy; a host can.
//
// A workgroup of 128, four subgroups of 32, computes a tile of 64×64. The reduction goes in slices of
// 16, which lie in workgroup memory as [k][row] and [k][column], as in tile.wgsl: staging turns a
// block that is contiguous along k and leaves one that is not. Subgroup s owns the 32×32 sums at row
// 32·(s/2) and column 32·(s%2), in four matrices of 16×16. At the end they go through workgroup memory,
// sixteen rows of each subgroup at a time, and every invocation delivers its quads.
//
// Needs the features EXPERIMENTAL_COOPERATIVE_MATRIX, SHADER_F16 and SUBGROUP, subgroups of 32, and an
// adapter that lists 16×16×16 with f16 operands and f32 sums. `wgpu_cooperative_matrix` is naga's own
// extension: other WGSL compilers do not know it, and naga writes no HLSL for it.
// Source: SPIR-V's SPV_KHR_cooperative_matrix.
// Needs product.wgsl.
// Tests: shaders.rs (validation and translation); encode.rs, decode.rs, backward.rs where an adapter has
// what it takes.

enable f16;
enable wgpu_cooperative_matrix;

const TILE_ROWS: u32 = 64u;
const TILE_COLUMNS: u32 = 64u;
const BAND: u32 = 8u;
const INVOCATIONS: u32 = 128u;
const BLOCKS_INSIDE: bool = false;
const DEPTH: u32 = 16u;

// [k][row] and [k][column].
var<workgroup> left_slice: array<f16, 1024>;
var<workgroup> right_slice: array<f16, 1024>;

// By subgroup, [row][column] of 16 rows of 32.
var<workgroup> sums_slice: array<f32, 2048>;

// The workgroup's task, and where each of the reductions ends for it. It goes through workgroup memory
// so that it is known to be the same for all invocations, as cooperative matrices demand.
struct Shared {
    task: Task,
    first_end: u32,
    second_end: u32,
}

var<workgroup> shared_task: Shared;

// The first 64 invocations stage the left operand, the others the right one: as in tile.wgsl, a block of
// 4×4 each.
fn staged_quad(stager: u32, across: bool) -> u32 {
    return select(stager % 16u, stager / 32u * 8u + stager % 8u, across);
}

fn staged_depth(stager: u32, across: bool) -> u32 {
    return select(stager / 16u, stager / 8u % 4u, across);
}

fn store_left(k: u32, row: u32, values: vec4<f32>) {
    let at = k * 64u + row;
    left_slice[at] = f16(values.x);
    left_slice[at + 1u] = f16(values.y);
    left_slice[at + 2u] = f16(values.z);
    left_slice[at + 3u] = f16(values.w);
}

fn store_right(k: u32, column: u32, values: vec4<f32>) {
    let at = k * 64u + column;
    right_slice[at] = f16(values.x);
    right_slice[at + 1u] = f16(values.y);
    right_slice[at + 2u] = f16(values.z);
    right_slice[at + 3u] = f16(values.w);
}

fn stage(task: Task, local: u32, k: u32, which: u32) {
    let stager = local % 64u;
    if local < 64u {
        let row = 4u * staged_quad(stager, LEFT_ACROSS);
        let depth = 4u * staged_depth(stager, LEFT_ACROSS);
        let quads = left_quads(left_line(task.row + row), k + depth, which, 0u);
        let block = left_block(quads, k + depth, which, 0u);
        store_left(depth, row, block.a);
        store_left(depth + 1u, row, block.b);
        store_left(depth + 2u, row, block.c);
        store_left(depth + 3u, row, block.d);
    } else {
        let column = 4u * staged_quad(stager, RIGHT_ACROSS);
        let depth = 4u * staged_depth(stager, RIGHT_ACROSS);
        let quads = right_quads(right_line(task.column + column), k + depth, which, 0u);
        let block = right_block(quads, k + depth, which, 0u);
        store_right(depth, column, block.a);
        store_right(depth + 1u, column, block.b);
        store_right(depth + 2u, column, block.c);
        store_right(depth + 3u, column, block.d);
    }
}

// Delivers sixteen rows of each subgroup, from its row `row` on, that lie in workgroup memory.
fn deliver_slice(task: Task, local: u32, row: u32) {
    workgroupBarrier();
    for (var i = local; i < 512u; i += INVOCATIONS) {
        let subgroup = i / 128u;
        let at = i % 128u;
        let own_row = subgroup / 2u * 32u + row + at / 8u;
        let own_column = subgroup % 2u * 32u + at % 8u * 4u;
        let values = vec4<f32>(
            sums_slice[4u * i],
            sums_slice[4u * i + 1u],
            sums_slice[4u * i + 2u],
            sums_slice[4u * i + 3u],
        );
        let column = task.column + own_column;
        deliver(task, task.row + own_row, column, values, terms_of(column));
    }
    workgroupBarrier();
}

fn share(group: vec3<u32>, local: u32) {
    if local != 0u {
        return;
    }
    let task = task_of(group);
    shared_task.task = task;
    shared_task.first_end = min(task.end, depth_of(0u));
    shared_task.second_end = 0u;
    if REDUCTIONS == 2u {
        shared_task.second_end = min(task.end, depth_of(1u));
    }
}

fn multiply(group: vec3<u32>, local: u32) {
    share(group, local);
    let known = workgroupUniformLoad(&shared_task);
    let task = known.task;
    if task.index >= parameters.product.groups {
        return;
    }
    let subgroup = local / 32u;
    let row = subgroup / 2u * 32u;
    let column = subgroup % 2u * 32u;
    var upper_left = coop_mat16x16<f32, C>();
    var upper_right = coop_mat16x16<f32, C>();
    var lower_left = coop_mat16x16<f32, C>();
    var lower_right = coop_mat16x16<f32, C>();
    for (var which = 0u; which < REDUCTIONS; which++) {
        let end = select(known.second_end, known.first_end, which == 0u);
        for (var k = task.begin; k < end; k += DEPTH) {
            workgroupBarrier();
            stage(task, local, k, which);
            workgroupBarrier();
            let upper = coopLoad<coop_mat16x16<f16, A>>(&left_slice[row], 64u);
            let lower = coopLoad<coop_mat16x16<f16, A>>(&left_slice[row + 16u], 64u);
            let left = coopLoadT<coop_mat16x16<f16, B>>(&right_slice[column], 64u);
            let right = coopLoadT<coop_mat16x16<f16, B>>(&right_slice[column + 16u], 64u);
            upper_left = coopMultiplyAdd(upper, left, upper_left);
            upper_right = coopMultiplyAdd(upper, right, upper_right);
            lower_left = coopMultiplyAdd(lower, left, lower_left);
            lower_right = coopMultiplyAdd(lower, right, lower_right);
        }
    }
    coopStoreT(upper_left, &sums_slice[512u * subgroup], 32u);
    coopStoreT(upper_right, &sums_slice[512u * subgroup + 16u], 32u);
    deliver_slice(task, local, 0u);
    coopStoreT(lower_left, &sums_slice[512u * subgroup], 32u);
    coopStoreT(lower_right, &sums_slice[512u * subgroup + 16u], 32u);
    deliver_slice(task, local, 16u);
    close(task.index * INVOCATIONS + local);
}
