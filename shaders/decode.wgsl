// decode.wgsl — the product with the same weight, accessed transposed.
//
//   output[b][i] = epilogue( Σ_h input[b][h]·weight[h][i] )
//
// weight: [hidden, inputs], row-major: the very buffer of encode.wgsl; no transposed copy exists.
// It is contiguous along the output's columns, so it is staged along, the input across. One
// workgroup of 64 invocations a 64×64 tile of the output; see tile.wgsl for the tile, linear.wgsl
// for the epilogues (forward pass, or the gradient of the input) and bindings.
//
// Needs scalar.wgsl or vector.wgsl, matrix.wgsl, activation.wgsl, tile.wgsl and linear.wgsl.
// Tests: decode.rs, input_gradient.rs, layer.rs, known_answers.rs.

fn stage_weight(local: u32, column: u32, k: u32) {
    let line = column + along_line(local);
    let depth = k + along_depth(local);
    stage_along(
        RIGHT,
        local,
        weight_quad(depth, line),
        weight_quad(depth + 1u, line),
        weight_quad(depth + 2u, line),
        weight_quad(depth + 3u, line),
    );
}

@compute @workgroup_size(64)
fn decode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let corner = tile_corner(group, parameters.groups_wide, parameters.output.columns);
    if corner.x >= parameters.output.rows {
        return;
    }
    for (var k = 0u; k < parameters.input.columns; k += STEP) {
        if k % DEPTH == 0u {
            workgroupBarrier();
            stage_input(local, corner.x, k);
            stage_weight(local, corner.y, k);
            workgroupBarrier();
        }
        multiply(local, k);
    }
    finish_tile(corner, local);
}
