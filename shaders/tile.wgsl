// tile.wgsl — put in front: the product of two operands for one 64×64 tile of the output.
//
//   sums[row][column] += Σ_k left[row][k]·right[k][column]
//
// One workgroup of 64 invocations computes a tile. The reduction goes in slices of 16. Both
// operands' slices lie in workgroup memory as [k][row] and [k][column], in quads:
//
//   tile[LEFT  + 16·k + row/4]      tile[RIGHT + 16·k + column/4]
//
// however they lie in their buffers: `stage_across` takes an operand that is contiguous along k and
// transposes 4×4 blocks in registers, `stage_along` one that is contiguous along its rows or
// columns. So a transposed access differs from a normal one only in how a slice is staged, and
// there is one inner loop for encode, decode and backward.
//
// Invocation `local` owns the rows 4·r…4·r+3 and 32+4·r… (r = local/8) and the columns 4·c… and
// 32+4·c… (c = local%8): 8×8 sums in sixteen vec4, sums[2·i] and sums[2·i+1] being row i's two
// quads. The order of additions is k = 0, 1, 2, …, whatever the shape.
//
// There is one loop, with four k to an iteration and a new slice staged at every fourth. Mesa's
// software driver up to 22.3 silently leaves a shader's loops after 65,535 iterations in all, all
// loops counted together; that is reached at a reduction length of 262,140, and the library refuses
// a longer one there, or cuts it (backward). Unrolled further, drivers compile for seconds.
//
// Technique: register and workgroup tiling as in Volkov and Demmel, "Benchmarking GPUs to tune
// dense linear algebra" (SC 2008).
// Tests: encode.rs, decode.rs, backward.rs.

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

// How far the reduction goes in a loop iteration.
const STEP: u32 = 4u;

// Quads in a row of a slice, and where the operands' slices begin.
const QUADS: u32 = 16u;
const LEFT: u32 = 0u;
const RIGHT: u32 = 256u;

var<workgroup> tile: array<vec4<f32>, 512>;

var<private> sums: array<vec4<f32>, 16>;

// The first row and column of the workgroup's tile. Workgroups are spread over two dimensions,
// `groups_wide` in a line, and number the tiles of an output with `columns` columns row by row.
fn tile_corner(group: vec3<u32>, groups_wide: u32, columns: u32) -> vec2<u32> {
    let index = group.y * groups_wide + group.x;
    let tiles_wide = (columns + TILE - 1u) / TILE;
    return TILE * vec2<u32>(index / tiles_wide, index % tiles_wide);
}

// An operand contiguous along k: the invocation stages four rows (or columns) by four k, its four
// quads running along k. These two say which.
fn across_line(local: u32) -> u32 {
    return local / 4u * 4u;
}

fn across_depth(local: u32) -> u32 {
    return local % 4u * 4u;
}

fn stage_across(base: u32, local: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    let at = base + across_depth(local) * QUADS + local / 4u;
    tile[at] = vec4<f32>(a.x, b.x, c.x, d.x);
    tile[at + QUADS] = vec4<f32>(a.y, b.y, c.y, d.y);
    tile[at + 2u * QUADS] = vec4<f32>(a.z, b.z, c.z, d.z);
    tile[at + 3u * QUADS] = vec4<f32>(a.w, b.w, c.w, d.w);
}

// An operand contiguous along its rows (or columns): the invocation stages four k by four of them,
// its four quads being those of consecutive k. These two say which.
fn along_line(local: u32) -> u32 {
    return local % QUADS * 4u;
}

fn along_depth(local: u32) -> u32 {
    return local / QUADS * 4u;
}

fn stage_along(base: u32, local: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    let at = base + along_depth(local) * QUADS + local % QUADS;
    tile[at] = a;
    tile[at + QUADS] = b;
    tile[at + 2u * QUADS] = c;
    tile[at + 3u * QUADS] = d;
}

// One k: the outer product of eight rows and eight columns.
fn multiply_one(left: u32, right: u32) {
    let a = tile[left];
    let b = tile[left + 8u];
    let p = tile[right];
    let q = tile[right + 8u];
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

// Four k of the staged slice, from k%16 on.
fn multiply(local: u32, k: u32) {
    let at = k % DEPTH * QUADS;
    let left = LEFT + local / 8u + at;
    let right = RIGHT + local % 8u + at;
    multiply_one(left, right);
    multiply_one(left + QUADS, right + QUADS);
    multiply_one(left + 2u * QUADS, right + 2u * QUADS);
    multiply_one(left + 3u * QUADS, right + 3u * QUADS);
}

// Hands the invocation's sums to `finish(row, column, quad)`, which the kernel's file defines.
fn finish_tile(corner: vec2<u32>, local: u32) {
    let row = corner.x + local / 8u * 4u;
    let column = corner.y + local % 8u * 4u;
    finish(row, column, sums[0]);
    finish(row, column + 32u, sums[1]);
    finish(row + 1u, column, sums[2]);
    finish(row + 1u, column + 32u, sums[3]);
    finish(row + 2u, column, sums[4]);
    finish(row + 2u, column + 32u, sums[5]);
    finish(row + 3u, column, sums[6]);
    finish(row + 3u, column + 32u, sums[7]);
    finish(row + 32u, column, sums[8]);
    finish(row + 32u, column + 32u, sums[9]);
    finish(row + 33u, column, sums[10]);
    finish(row + 33u, column + 32u, sums[11]);
    finish(row + 34u, column, sums[12]);
    finish(row + 34u, column + 32u, sums[13]);
    finish(row + 35u, column, sums[14]);
    finish(row + 35u, column + 32u, sums[15]);
}
