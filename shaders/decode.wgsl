// decode.wgsl — the product with the same weight, accessed transposed.
//
//   output[b][i] = epilogue( Σ_h input[b][h]·weight[h][i] )
//
// weight: [hidden, inputs], row-major: the very buffer of encode.wgsl; no transposed copy exists.
// It is contiguous along the output's columns, so its blocks are not turned: that is all that
// differs from encode.wgsl. See product.wgsl and the strategies' files for how the product is
// computed, linear.wgsl for the epilogues (forward pass, with or without a loss, or the gradient of
// the input) and bindings.
//
// Needs a width's files, matrix.wgsl, activation.wgsl, loss.wgsl, product.wgsl, a
// strategy's files and linear.wgsl before it.
// Tests: decode.rs, input_gradient.rs, layer.rs, known_answers.rs.

const RIGHT_ACROSS: bool = false;

fn right_line(column: u32) -> Line {
    return Line(along_line(parameters.weight, column));
}

fn right_quads(line: Line, k: u32, which: u32, order: u32) -> Block {
    let step = along_step(parameters.weight, k, order);
    return Block(
        weight_at(line.at + step.x),
        weight_at(line.at + step.y),
        weight_at(line.at + step.z),
        weight_at(line.at + step.w),
    );
}

fn right_block(quads: Block, k: u32, which: u32, order: u32) -> Block {
    return unturned(quads, k, parameters.weight.rows, order);
}

@compute @workgroup_size(INVOCATIONS)
fn decode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    multiply(group, local);
}
