// adam.wgsl — one step of Adam or AdamW on up to three parameters.
//
// The formula is in adam_rule.wgsl; which invocation takes what, and where moments and step counts
// lie, in parameter_set.wgsl.
//
// The step count t lives on the GPU, so that recording a step writes nothing: each workgroup keeps
// its own copy, a unit of the state behind the first moments, which its first invocation alone reads and raises. No two
// invocations touch one copy, so the count needs neither an atomic nor a dispatch of its own.
//
// Needs a width's files, matrix.wgsl, value.wgsl, scale.wgsl, parameter_set.wgsl and
// adam_rule.wgsl before it.
// Tests: adam.rs, training.rs, known_answers.rs, mixed_precision.rs.

@group(0) @binding(1) var<uniform> settings: AdamSettings;
@group(0) @binding(10) var<storage, read_write> second_moments: array<vec4<u32>>;

// 1 − β₁ᵗ and 1 − β₂ᵗ, for the whole workgroup.
var<workgroup> corrections: vec2<f32>;

@compute @workgroup_size(256)
fn adam(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.y * parameters.groups_wide + id.x;
    if group >= parameters.end_2 {
        return;
    }
    let idle = skipped() || frozen(group);
    let units = parameters.end_2 * 256u;
    if local == 0u && !idle {
        let step = state[units + group].x + 1u;
        state[units + group] = vec4<u32>(step, 0u, 0u, 0u);
        corrections = adam_corrections(settings, step);
    }
    // FXC takes no return before a barrier that depends on more than the workgroup's number.
    workgroupBarrier();
    if idle {
        return;
    }
    let share = share_of(group, local);
    if share.count == 0u {
        return;
    }
    // Without a gradient the first parameter has been updated already (backward_adam.wgsl).
    if share.parameter == 0u && !present(parameters.gradient_0) {
        return;
    }
    let unit = group * 256u + local;
    let quads = quads_of(share);
    let second_moment = bitcast<vec4<f32>>(second_moments[unit]);
    let old = AdamQuad(quads.value, moment(unit), second_moment);
    let new_quad = adam_step(settings, corrections, old, quads.gradient);
    store_moment(unit, new_quad.first_moment);
    second_moments[unit] = bitcast<vec4<u32>>(new_quad.second_moment);
    store(share, new_quad.value);
}
