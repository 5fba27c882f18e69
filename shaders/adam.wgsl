// adam.wgsl — one step of Adam or AdamW on one parameter.
//
//   w = w·(1 − learning_rate·decoupled_decay)            AdamW
//   g = gradient + weight_decay·w                        Adam with L2 decay
//   m = β₁·m + (1 − β₁)·g      v = β₂·v + (1 − β₂)·g²
//   w = w − learning_rate/(1 − β₁ᵗ) · m / (√(v/(1 − β₂ᵗ)) + ε)
//
// As PyTorch's Adam and AdamW; m and v start at zero. An invocation takes one quad, a workgroup of
// 256 a run of 256 quads, counted row by row. The moments are the optimizer's own buffers and lie in
// that order, rows padded to whole quads.
//
// The step count t lives on the GPU, so that recording a step writes nothing: each workgroup keeps
// its own copy, steps[group], which its first invocation alone reads and raises. No two invocations
// touch one copy, so the count needs neither an atomic nor a dispatch of its own. 1 − βᵗ is
// computed as −expm1(t·ln β): for β₂ = 0.999 and t = 1, 1 − pow(β, t) would keep four digits.
//
// Sources: Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101.
// Needs scalar.wgsl or vector.wgsl and matrix.wgsl before it.
// Tests: adam.rs, training.rs, known_answers.rs.

struct Parameters {
    value: View,
    gradient: View,
    groups_wide: u32,
    groups: u32,
    padding_0: u32,
    padding_1: u32,
}

struct Settings {
    learning_rate: f32,
    beta1: f32,
    beta2: f32,
    // 1 − β₁, 1 − β₂, ln β₁ and ln β₂, rounded once, from f64.
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    log_beta1: f32,
    log_beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    decoupled_decay: f32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<uniform> settings: Settings;
@group(0) @binding(2) var<storage, read> gradient: array<Word>;
@group(0) @binding(3) var<storage, read_write> value: array<Word>;
@group(0) @binding(4) var<storage, read_write> first_moment: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> second_moment: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> steps: array<u32>;

// 1 − β₁ᵗ and 1 − β₂ᵗ, for the whole workgroup.
var<workgroup> corrections: vec2<f32>;

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

// 1 − exp(x) for x ≤ 0; near zero, where it cancels, the Taylor series.
fn one_minus_exp(x: f32) -> f32 {
    if x > -0.25 {
        let inner = 1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0)));
        return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * inner));
    }
    return 1.0 - exp(x);
}

@compute @workgroup_size(256)
fn adam(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group_index = group.y * parameters.groups_wide + group.x;
    if group_index >= parameters.groups {
        return;
    }
    if local == 0u {
        let step = steps[group_index] + 1u;
        steps[group_index] = step;
        let t = f32(step);
        corrections = vec2<f32>(
            one_minus_exp(t * settings.log_beta1),
            one_minus_exp(t * settings.log_beta2),
        );
    }
    workgroupBarrier();
    let quads_wide = (parameters.value.columns + 3u) / 4u;
    let index = group_index * 256u + local;
    let row = index / quads_wide;
    let column = index % quads_wide * 4u;
    if row >= parameters.value.rows {
        return;
    }
    var w = value_quad(row, column);
    w -= settings.learning_rate * settings.decoupled_decay * w;
    let g = gradient_quad(row, column) + settings.weight_decay * w;
    let m = settings.beta1 * first_moment[index] + settings.one_minus_beta1 * g;
    let v = settings.beta2 * second_moment[index] + settings.one_minus_beta2 * g * g;
    first_moment[index] = m;
    second_moment[index] = v;
    let denominator = sqrt(v / corrections.y) + settings.epsilon;
    store_value(row, column, w - settings.learning_rate / corrections.x * (m / denominator));
}
