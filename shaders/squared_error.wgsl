// squared_error.wgsl — the squared error and its gradient.
//
// Summed or averaged over all elements. See loss.wgsl for the formula and measure.wgsl, which goes
// before it with what that file needs, for bindings and the reduction.
//
// Tests: squared_error.rs.

fn loss_value(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return squared_error_value(p, t);
}

fn loss_slope(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return squared_error_slope(p, t);
}

@compute @workgroup_size(256)
fn squared_error(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    measure(group.x, local);
}
