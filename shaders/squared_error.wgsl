// squared_error.wgsl — the squared error and its gradient.
//
//   ℓ(p, t) = (p − t)²      ℓ′(p, t) = 2·(p − t)
//
// Summed or averaged over all elements, as PyTorch's MSELoss. See loss.wgsl, which goes before it
// with what that file needs, for bindings and the reduction.
//
// Tests: squared_error.rs, training.rs, known_answers.rs.

fn loss_value(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return (p - t) * (p - t);
}

fn loss_slope(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return 2.0 * (p - t);
}

@compute @workgroup_size(256)
fn squared_error(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    measure(group.x, local);
}
