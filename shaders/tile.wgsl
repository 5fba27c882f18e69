// tile.wgsl — put in front: products by register tiles from slices in workgroup memory.
//
// A workgroup computes a tile of TILE×TILE sums. The reduction goes in slices of 16, both operands'
// slices lying in workgroup memory as [k][row] and [k][column], in quads: staging turns a block
// that is contiguous along k and leaves one that is not, so that there is one inner loop for every
// access pattern. All 16 k of a slice are unrolled: every index but the invocation's own is then a
// constant, and index checks cost nothing.
//
// Invocation `local` owns the rows 4·r…4·r+3 and the columns 4·c…4·c+3, with
// r = local / (TILE/8) and c = local % (TILE/8), and in tiles over 32 also those TILE/2 further:
// 8×8 sums in sixteen vec4, sums[2·i] and sums[2·i+1] being row i's two quads. A tile of 32 has
// 4×4 sums in the first four.
//
// A slice is TILE blocks of 4×4 of each operand. With TILE invocations each stages one block of
// both; with more, the first TILE stage the left operand and the next TILE the right one. With
// PREFETCH the blocks of the next slice are on their way to registers while one is multiplied; where
// an invocation stages two blocks, the registers are better used for more workgroups at a time. The loop
// begins in the middle, with nothing to multiply yet: one place that loads is half as much to compile as
// one before the loop and one in it, and the compilers of DX12 take their time.
//
// Neighbouring invocations read along the direction in which the operand is contiguous; any eight of them
// store eight neighbouring quads of one k, and read neighbouring or equal ones: no bank conflicts, without
// padding.
//
// Technique: register and workgroup tiling as in Volkov and Demmel, "Benchmarking GPUs to tune
// dense linear algebra" (SC 2008).
// Needs product.wgsl and one of tile_32.wgsl, tile_64.wgsl and tile_128.wgsl before it.
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

const TILE_ROWS: u32 = TILE;
const TILE_COLUMNS: u32 = TILE;
const BAND: u32 = 8u;
const BLOCKS_INSIDE: bool = false;
const DEPTH: u32 = 16u;
const QUADS: u32 = TILE / 4u;
const HALF: u32 = TILE / 8u;
const WIDE: u32 = select(TILE / 8u, 8u, TILE == 32u);

// [k / 4][k % 4][quad].
var<workgroup> left_slice: array<array<array<vec4<f32>, QUADS>, 4>, 4>;
var<workgroup> right_slice: array<array<array<vec4<f32>, QUADS>, 4>, 4>;

var<private> sums: array<vec4<f32>, 16>;

// Which quad of the tile's edge an invocation stages, and at which four k, counted in fours. Of 32
// invocations, 8 quads at all depths: 64 bytes in a row of an operand that is contiguous along k.
fn staged_quad(stager: u32, across: bool) -> u32 {
    return select(stager % QUADS, stager / 32u * 8u + stager % 8u, across);
}

fn staged_depth(stager: u32, across: bool) -> u32 {
    return select(stager / QUADS, stager / 8u % 4u, across);
}

// What an invocation stages of a slice, as it lies in the buffers. With more invocations than TILE
// only `left` is used.
struct Staged {
    left: Block,
    right: Block,
}

// The lines of what an invocation stages.
struct Lines {
    left: Line,
    right: Line,
}

fn lines_of(task: Task, stager: u32) -> Lines {
    return Lines(
        left_line(task.row + 4u * staged_quad(stager, LEFT_ACROSS)),
        right_line(task.column + 4u * staged_quad(stager, RIGHT_ACROSS)),
    );
}

fn load(lines: Lines, local: u32, k: u32, which: u32) -> Staged {
    let left_k = k + 4u * staged_depth(local % TILE, LEFT_ACROSS);
    let right_k = k + 4u * staged_depth(local % TILE, RIGHT_ACROSS);
    var staged: Staged;
    if INVOCATIONS == TILE {
        staged.left = left_quads(lines.left, left_k, which, 0u);
        staged.right = right_quads(lines.right, right_k, which, 0u);
    } else if local < TILE {
        staged.left = left_quads(lines.left, left_k, which, 0u);
    } else {
        staged.left = right_quads(lines.right, right_k, which, 0u);
    }
    return staged;
}

fn store_left(stager: u32, quads: Block, k: u32, which: u32) {
    let at = staged_quad(stager, LEFT_ACROSS);
    let depth = staged_depth(stager, LEFT_ACROSS);
    let block = left_block(quads, k + 4u * depth, which, 0u);
    left_slice[depth][0][at] = block.a;
    left_slice[depth][1][at] = block.b;
    left_slice[depth][2][at] = block.c;
    left_slice[depth][3][at] = block.d;
}

fn store_right(stager: u32, quads: Block, k: u32, which: u32) {
    let at = staged_quad(stager, RIGHT_ACROSS);
    let depth = staged_depth(stager, RIGHT_ACROSS);
    let block = right_block(quads, k + 4u * depth, which, 0u);
    right_slice[depth][0][at] = block.a;
    right_slice[depth][1][at] = block.b;
    right_slice[depth][2][at] = block.c;
    right_slice[depth][3][at] = block.d;
}

fn store(local: u32, staged: Staged, k: u32, which: u32) {
    let stager = local % TILE;
    if INVOCATIONS == TILE {
        store_left(stager, staged.left, k, which);
        store_right(stager, staged.right, k, which);
    } else if local < TILE {
        store_left(stager, staged.left, k, which);
    } else {
        store_right(stager, staged.left, k, which);
    }
}

// One k, 4·i + j: the outer product of the invocation's rows and columns, whose quads lie at r and c.
fn multiply_one(i: u32, j: u32, r: u32, c: u32) {
    let a = left_slice[i][j][r];
    let p = right_slice[i][j][c];
    if TILE == 32u {
        sums[0] = fma(vec4<f32>(a.x), p, sums[0]);
        sums[1] = fma(vec4<f32>(a.y), p, sums[1]);
        sums[2] = fma(vec4<f32>(a.z), p, sums[2]);
        sums[3] = fma(vec4<f32>(a.w), p, sums[3]);
        return;
    }
    let b = left_slice[i][j][r + HALF];
    let q = right_slice[i][j][c + HALF];
    sums[0] = fma(vec4<f32>(a.x), p, sums[0]);
    sums[1] = fma(vec4<f32>(a.x), q, sums[1]);
    sums[2] = fma(vec4<f32>(a.y), p, sums[2]);
    sums[3] = fma(vec4<f32>(a.y), q, sums[3]);
    sums[4] = fma(vec4<f32>(a.z), p, sums[4]);
    sums[5] = fma(vec4<f32>(a.z), q, sums[5]);
    sums[6] = fma(vec4<f32>(a.w), p, sums[6]);
    sums[7] = fma(vec4<f32>(a.w), q, sums[7]);
    sums[8] = fma(vec4<f32>(b.x), p, sums[8]);
    sums[9] = fma(vec4<f32>(b.x), q, sums[9]);
    sums[10] = fma(vec4<f32>(b.y), p, sums[10]);
    sums[11] = fma(vec4<f32>(b.y), q, sums[11]);
    sums[12] = fma(vec4<f32>(b.z), p, sums[12]);
    sums[13] = fma(vec4<f32>(b.z), q, sums[13]);
    sums[14] = fma(vec4<f32>(b.w), p, sums[14]);
    sums[15] = fma(vec4<f32>(b.w), q, sums[15]);
}

fn reduce(task: Task, lines: Lines, local: u32, which: u32) {
    let r = local / WIDE;
    let c = local % WIDE;
    let end = min(task.end, depth_of(which));
    if task.begin >= end {
        return;
    }
    var staged: Staged;
    for (var k = task.begin; ; k += DEPTH) {
        if PREFETCH {
            staged = load(lines, local, k, which);
        }
        // The slice before; the first time there is none.
        if k != task.begin {
            multiply_one(0u, 0u, r, c);
            multiply_one(0u, 1u, r, c);
            multiply_one(0u, 2u, r, c);
            multiply_one(0u, 3u, r, c);
            multiply_one(1u, 0u, r, c);
            multiply_one(1u, 1u, r, c);
            multiply_one(1u, 2u, r, c);
            multiply_one(1u, 3u, r, c);
            multiply_one(2u, 0u, r, c);
            multiply_one(2u, 1u, r, c);
            multiply_one(2u, 2u, r, c);
            multiply_one(2u, 3u, r, c);
            multiply_one(3u, 0u, r, c);
            multiply_one(3u, 1u, r, c);
            multiply_one(3u, 2u, r, c);
            multiply_one(3u, 3u, r, c);
        }
        if k >= end {
            break;
        }
        if !PREFETCH {
            staged = load(lines, local, k, which);
        }
        workgroupBarrier();
        store(local, staged, k, which);
        workgroupBarrier();
    }
}

fn multiply(group: vec3<u32>, local: u32) {
    let task = task_of(group);
    if task.index >= parameters.product.groups {
        return;
    }
    let lines = lines_of(task, local % TILE);
    reduce(task, lines, local, 0u);
    if REDUCTIONS == 2u {
        reduce(task, lines, local, 1u);
    }
    let r = local / WIDE;
    let c = local % WIDE;
    let row = task.row + 4u * r;
    let column = task.column + 4u * c;
    let terms = terms_of(column);
    if TILE == 32u {
        deliver(task, row, column, sums[0], terms);
        deliver(task, row + 1u, column, sums[1], terms);
        deliver(task, row + 2u, column, sums[2], terms);
        deliver(task, row + 3u, column, sums[3], terms);
    } else {
        let far_terms = terms_of(column + TILE / 2u);
        // A row at a time, the sums moving up, so that every index is a constant and a row is compiled once.
        for (var i = 0u; i < 8u; i++) {
            let at = row + i / 4u * (TILE / 2u) + i % 4u;
            deliver(task, at, column, sums[0], terms);
            deliver(task, at, column + TILE / 2u, sums[1], far_terms);
            sums[0] = sums[2];
            sums[1] = sums[3];
            sums[2] = sums[4];
            sums[3] = sums[5];
            sums[4] = sums[6];
            sums[5] = sums[7];
            sums[6] = sums[8];
            sums[7] = sums[9];
            sums[8] = sums[10];
            sums[9] = sums[11];
            sums[10] = sums[12];
            sums[11] = sums[13];
            sums[12] = sums[14];
            sums[13] = sums[15];
        }
    }
    close(task.index * INVOCATIONS + local);
}
