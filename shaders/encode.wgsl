// encode.wgsl — the normal product with the weight.
//
//   output[b][h] = epilogue( Σ_i input[b][i]·weight[h][i] )
//
// weight: [hidden, inputs], row-major; both operands are contiguous along the reduction, so both
// are staged across. One workgroup of 64 invocations a 64×64 tile of the output; see tile.wgsl for
// the tile, linear.wgsl for the epilogues (forward pass, or the gradient of the code) and bindings.
//
// Needs scalar.wgsl or vector.wgsl, matrix.wgsl, activation.wgsl, tile.wgsl and linear.wgsl.
// Tests: encode.rs, code_gradient.rs, layer.rs, known_answers.rs.

fn stage_weight(local: u32, hidden: u32, k: u32) {
    let line = hidden + across_line(local);
    let depth = k + across_depth(local);
    stage_across(
        RIGHT,
        local,
        weight_quad(line, depth),
        weight_quad(line + 1u, depth),
        weight_quad(line + 2u, depth),
        weight_quad(line + 3u, depth),
    );
}

@compute @workgroup_size(64)
fn encode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
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
