// combine.wgsl — put in front: the second pass of a split reduction.
//
//   sum[row][column] = Σ_part scratch[part][row][column]
//
// An invocation takes one quad of the output, a workgroup of 64 a run of 64 quads, counted row by
// row; the parts are added in order. `finish` then does what it does after an unsplit product.
//
// Needs product.wgsl.
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

// Not used: product.wgsl needs them.
const TILE_ROWS: u32 = 1u;
const TILE_COLUMNS: u32 = 4u;
const BAND: u32 = 1u;
const BLOCKS_INSIDE: bool = false;

const INVOCATIONS: u32 = 64u;

fn multiply(group: vec3<u32>, local: u32) {
    let product = parameters.product;
    let group_index = group.y * product.groups_wide + group.x;
    if group_index >= product.groups {
        return;
    }
    let index = group_index * INVOCATIONS + local;
    let quads_wide = (product.columns + 3u) / 4u;
    let row = index / quads_wide;
    let column = index % quads_wide * 4u;
    if row < product.rows {
        var sum = vec4<f32>();
        for (var part = 0u; part < product.parts; part++) {
            sum += scratch[scratch_place(part, product.rows, product.columns, row, column)];
        }
        finish(row, column, sum, terms_of(column));
    }
    close(index);
}
