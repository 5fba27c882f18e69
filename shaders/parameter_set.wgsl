// parameter_set.wgsl — put in front: up to three parameters that one dispatch updates.
//
// The workgroups are dealt out to the parameters in order: those before end_0 belong to parameter 0,
// the next, before end_1, to parameter 1, and so on; an absent parameter has none. So a workgroup has
// one parameter, and branches on which it is are uniform. An invocation takes one quad, a workgroup
// of 256 a run of 256 quads of its parameter, counted row by row. A frozen parameter has its
// workgroups too, so that all find their state where it always is, but no value: they do nothing.
//
// Three values, three gradients and one or two buffers of state are up to eight storage buffers; WebGPU
// promises eight.
// Parameter 0 alone is bound in words and decides whether they have 16 bytes (vector.wgsl), the others are
// bound as single values always: an odd bias leaves the weight its 16-byte words. It alone may have a
// working copy (value.wgsl). A gradient may be f16 or bf16 (mixed.wgsl); the values are f32.
//
// Every gradient is that of a loss times a scale, which is taken out again here; where the scale's kernel
// found one of them not finite, nothing is updated (scale.wgsl).
//
// The state is the optimizer's own buffer, in units of 16 bytes. They are integers, so that no step
// count passes through a float. Unit 256·group + local is the invocation's quad of the first moment, or
// of the velocity; behind these each workgroup has one unit for its count, where a kernel counts. A
// second moment has a buffer of its own, so that neither exceeds a binding before the weight does. What
// a parameter's last workgroup has left over is never touched.
//
// Needs a width's files, matrix.wgsl, value.wgsl and scale.wgsl before it.
// Tests: sgd.rs, adam.rs, autoencoder.rs, mixed_precision.rs.

// The gradients' elements: F32, F16 or BF16.
override GRADIENT_0_ELEMENT: u32 = 0u;
override GRADIENT_1_ELEMENT: u32 = 0u;
override GRADIENT_2_ELEMENT: u32 = 0u;

struct Parameters {
    gradient_0: View,
    gradient_1: View,
    gradient_2: View,
    value_0: View,
    value_1: View,
    value_2: View,
    // Of value_0.
    copy: View,
    state: View,
    groups_wide: u32,
    // One past each parameter's last workgroup; the last one is the number of all.
    end_0: u32,
    end_1: u32,
    end_2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(2) var<uniform> loss_scale: Scale;
@group(0) @binding(3) var<storage, read> gradient_0: array<Word>;
@group(0) @binding(4) var<storage, read> gradient_1: array<u32>;
@group(0) @binding(5) var<storage, read> gradient_2: array<u32>;
@group(0) @binding(6) var<storage, read_write> value: array<Word>;
@group(0) @binding(7) var<storage, read_write> value_1: array<f32>;
@group(0) @binding(8) var<storage, read_write> value_2: array<f32>;
@group(0) @binding(9) var<storage, read_write> state: array<vec4<u32>>;

// The quad that an invocation takes.
struct Share {
    parameter: u32,
    row: u32,
    column: u32,
    // How many of the quad's values the parameter has: up to four, none behind its last row.
    count: u32,
}

// What the parameter and its gradient hold there.
struct Quads {
    value: vec4<f32>,
    gradient: vec4<f32>,
}

// Whether the parameter of a workgroup before end_2 stays as it is.
fn frozen(group: u32) -> bool {
    if group >= parameters.end_1 {
        return !present(parameters.value_2);
    }
    if group >= parameters.end_0 {
        return !present(parameters.value_1);
    }
    return !present(parameters.value_0);
}

// The share of an invocation of a workgroup before end_2 whose parameter is not frozen.
fn share_of(group: u32, local: u32) -> Share {
    var share = Share();
    var view = parameters.value_0;
    var begin = 0u;
    if group >= parameters.end_1 {
        share.parameter = 2u;
        view = parameters.value_2;
        begin = parameters.end_1;
    } else if group >= parameters.end_0 {
        share.parameter = 1u;
        view = parameters.value_1;
        begin = parameters.end_0;
    }
    let index = (group - begin) * 256u + local;
    let quads_wide = (view.columns + 3u) / 4u;
    share.row = index / quads_wide;
    share.column = index % quads_wide * 4u;
    if share.row < view.rows {
        share.count = min(4u, view.columns - share.column);
    }
    return share;
}

// Where the share's first value lies in a matrix of single values.
fn single_place(view: View, share: Share) -> u32 {
    return view.offset + share.row * view.row_stride + share.column;
}

fn gradient_0_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(gradient_0[at.x]);
    }
    if GRADIENT_0_ELEMENT != F32 {
        return unpacked(gradient_0[at.x / 2u], gradient_0[at.z / 2u], GRADIENT_0_ELEMENT);
    }
    return vec4<f32>(first(gradient_0[at.x]), first(gradient_0[at.y]), first(gradient_0[at.z]), first(gradient_0[at.w]));
}

fn gradient_1_at(at: u32) -> f32 {
    if GRADIENT_1_ELEMENT != F32 {
        return half_of(gradient_1[at / 2u], at % 2u, GRADIENT_1_ELEMENT);
    }
    return bitcast<f32>(gradient_1[at]);
}

fn gradient_2_at(at: u32) -> f32 {
    if GRADIENT_2_ELEMENT != F32 {
        return half_of(gradient_2[at / 2u], at % 2u, GRADIENT_2_ELEMENT);
    }
    return bitcast<f32>(gradient_2[at]);
}

// Whether this step is left out.
fn skipped() -> bool {
    return loss_scale.inverse == 0.0;
}

// The share must have a value.
fn quads_of(share: Share) -> Quads {
    var quads = Quads();
    if share.parameter == 0u {
        quads.value = value_at(parameters.value_0, share.row, share.column);
        quads.gradient = gradient_0_at(place(parameters.gradient_0, share.row, share.column));
    } else if share.parameter == 1u {
        let v = single_place(parameters.value_1, share);
        let g = single_place(parameters.gradient_1, share);
        // From the last value to the first: each moves those before it on.
        for (var i = share.count; i > 0u; i--) {
            quads.value = vec4<f32>(value_1[v + i - 1u], quads.value.xyz);
            quads.gradient = vec4<f32>(gradient_1_at(g + i - 1u), quads.gradient.xyz);
        }
    } else {
        let v = single_place(parameters.value_2, share);
        let g = single_place(parameters.gradient_2, share);
        for (var i = share.count; i > 0u; i--) {
            quads.value = vec4<f32>(value_2[v + i - 1u], quads.value.xyz);
            quads.gradient = vec4<f32>(gradient_2_at(g + i - 1u), quads.gradient.xyz);
        }
    }
    quads.gradient *= loss_scale.inverse;
    return quads;
}

// Writes those of the values that the parameter has. The share must have one.
fn store(share: Share, values: vec4<f32>) {
    if share.parameter == 0u {
        store_value(parameters.value_0, parameters.copy, share.row, share.column, values);
    } else if share.parameter == 1u {
        let v = single_place(parameters.value_1, share);
        var rest = values;
        for (var i = 0u; i < share.count; i++) {
            value_1[v + i] = rest.x;
            rest = rest.yzww;
        }
    } else {
        let v = single_place(parameters.value_2, share);
        var rest = values;
        for (var i = 0u; i < share.count; i++) {
            value_2[v + i] = rest.x;
            rest = rest.yzww;
        }
    }
}

// A quad of a moment.
fn moment(unit: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(state[unit]);
}

fn store_moment(unit: u32, values: vec4<f32>) {
    state[unit] = bitcast<vec4<u32>>(values);
}
