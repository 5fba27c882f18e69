// encode.wgsl — the normal product with the weight.
//
//   output[b][h] = epilogue( Σ_i input[b][i]·weight[h][i] )
//
// weight: [hidden, inputs], row-major; both operands are contiguous along the reduction, so the
// blocks of both are turned. See product.wgsl and the strategies' files for how the product is
// computed, linear.wgsl for the epilogues (forward pass, or the gradient of the code) and bindings.
//
// Needs a width's files, matrix.wgsl, activation.wgsl, loss.wgsl, product.wgsl, a
// strategy's files and linear.wgsl before it.
// Tests: encode.rs, code_gradient.rs, layer.rs, known_answers.rs.

const RIGHT_ACROSS: bool = true;

fn right_line(hidden: u32) -> Line {
    return Line(across_line(parameters.weight, hidden));
}

fn right_quads(line: Line, k: u32, which: u32, order: u32) -> Block {
    let step = across_step(parameters.weight, k);
    return Block(
        weight_at(vec4<u32>(line.at.x) + step),
        weight_at(vec4<u32>(line.at.y) + step),
        weight_at(vec4<u32>(line.at.z) + step),
        weight_at(vec4<u32>(line.at.w) + step),
    );
}

fn right_block(quads: Block, k: u32, which: u32, order: u32) -> Block {
    return turned(quads, k, parameters.weight.columns);
}

@compute @workgroup_size(INVOCATIONS)
fn encode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    multiply(group, local);
}
