// sgd.wgsl — one step of stochastic gradient descent on one parameter.
//
//   g = gradient + weight_decay·w
//   v = momentum·v + g                          (with momentum)
//   d = g + momentum·v with Nesterov, else v    (without momentum: g)
//   w = w − learning_rate·d
//
// As PyTorch's SGD with dampening 0; the velocity v starts at zero. An invocation takes one quad, a
// workgroup of 256 a run of 256 quads, counted row by row. The velocity is the optimizer's own
// buffer and lies in that order, rows padded to whole quads.
//
// Source: Sutskever et al., "On the importance of initialization and momentum in deep learning"
// (ICML 2013), in the form of PyTorch's documentation.
// Needs scalar.wgsl or vector.wgsl and matrix.wgsl before it.
// Tests: sgd.rs, training.rs, known_answers.rs.

struct Parameters {
    value: View,
    gradient: View,
    groups_wide: u32,
    // Whether there is a velocity.
    has_momentum: u32,
    padding_0: u32,
    padding_1: u32,
}

struct Settings {
    learning_rate: f32,
    momentum: f32,
    weight_decay: f32,
    nesterov: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<uniform> settings: Settings;
@group(0) @binding(2) var<storage, read> gradient: array<Word>;
@group(0) @binding(3) var<storage, read_write> value: array<Word>;
@group(0) @binding(4) var<storage, read_write> velocity: array<vec4<f32>>;

fn gradient_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.gradient, row, column);
    if WIDTH == 4u {
        return quad(gradient[at.x]);
    }
    return vec4<f32>(first(gradient[at.x]), first(gradient[at.y]), first(gradient[at.z]), first(gradient[at.w]));
}

fn value_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.value, row, column);
    if WIDTH == 4u {
        return quad(value[at.x]);
    }
    return vec4<f32>(first(value[at.x]), first(value[at.y]), first(value[at.z]), first(value[at.w]));
}

fn store_value(row: u32, column: u32, values: vec4<f32>) {
    let at = place(parameters.value, row, column);
    value[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(parameters.value, row, column);
        if within.y { value[at.y] = word(values.yyyy); }
        if within.z { value[at.z] = word(values.zzzz); }
        if within.w { value[at.w] = word(values.wwww); }
    }
}

@compute @workgroup_size(256)
fn sgd(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let quads_wide = (parameters.value.columns + 3u) / 4u;
    let index = (group.y * parameters.groups_wide + group.x) * 256u + local;
    let row = index / quads_wide;
    let column = index % quads_wide * 4u;
    if row >= parameters.value.rows {
        return;
    }
    let w = value_quad(row, column);
    let g = gradient_quad(row, column) + settings.weight_decay * w;
    var direction = g;
    if parameters.has_momentum != 0u {
        let v = settings.momentum * velocity[index] + g;
        velocity[index] = v;
        direction = select(v, g + settings.momentum * v, vec4<bool>(settings.nesterov != 0u));
    }
    store_value(row, column, w - settings.learning_rate * direction);
}
