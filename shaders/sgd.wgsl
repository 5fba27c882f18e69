// sgd.wgsl — one step of stochastic gradient descent on up to three parameters.
//
// The formula is in sgd_rule.wgsl; which invocation takes what, and where the velocities lie, in
// parameter_set.wgsl. Without momentum there is no state.
//
// Needs a width's files, matrix.wgsl, value.wgsl, scale.wgsl, parameter_set.wgsl and
// sgd_rule.wgsl before it.
// Tests: sgd.rs, training.rs, known_answers.rs, mixed_precision.rs.

@group(0) @binding(1) var<uniform> settings: SgdSettings;

@compute @workgroup_size(256)
fn sgd(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.y * parameters.groups_wide + id.x;
    if group >= parameters.end_2 {
        return;
    }
    if skipped() {
        return;
    }
    if frozen(group) {
        return;
    }
    let share = share_of(group, local);
    if share.count == 0u {
        return;
    }
    // Without a gradient the first parameter has been updated already (backward_sgd.wgsl).
    if share.parameter == 0u && !present(parameters.gradient_0) {
        return;
    }
    let has_momentum = present(parameters.state);
    let unit = group * 256u + local;
    var velocity = vec4<f32>();
    if has_momentum {
        velocity = moment(unit);
    }
    let quads = quads_of(share);
    let old = SgdQuad(quads.value, velocity);
    let new_quad = sgd_step(settings, has_momentum, old, quads.gradient);
    if has_momentum {
        store_moment(unit, new_quad.velocity);
    }
    store(share, new_quad.value);
}
