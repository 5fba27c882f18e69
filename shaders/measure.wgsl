// measure.wgsl — put in front: what the kernels of the losses share, all but the formula.
//
//   value = scale·Σ ℓ(prediction, target)      delta = scale·s·ℓ′(prediction, target) ⊙ g′(saved)
//
// ℓ and ℓ′ are `loss_value` and `loss_slope` of the kernel's own file, from loss.wgsl; ℓ′ is the
// derivative by the prediction. `scale` is 1 for the reduction sum and 1/(rows·columns) for mean, s the
// loss's scale (scale.wgsl). With an activation the gradient goes straight on to the pre-activation, so
// that no kernel of its own is needed.
//
// A workgroup of 256 invocations takes quads group·256+local, then on by the whole grid; its values
// are added in a tree of fixed shape into partials[group] (unscaled), which column_sums.wgsl adds up
// and scales. There are at most 1,024 workgroups.
//
// Prediction, target, `saved` and delta may each be f16 or bf16 (mixed.wgsl); the values and their sums are
// f32.
//
// Needs a width's files, matrix.wgsl, activation.wgsl, loss.wgsl
// and scale.wgsl before it.
// Tests: squared_error.rs, cross_entropy.rs, elements.rs.

// The elements of each matrix: F32, F16 or BF16.
override PREDICTION_ELEMENT: u32 = 0u;
override TARGET_ELEMENT: u32 = 0u;
override SAVED_ELEMENT: u32 = 0u;
override DELTA_ELEMENT: u32 = 0u;

struct Parameters {
    prediction: View,
    target_values: View,
    saved: View,
    delta: View,
    groups: u32,
    scale: f32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> prediction: array<Word>;
@group(0) @binding(2) var<storage, read> target_values: array<Word>;
@group(0) @binding(3) var<storage, read> saved: array<Word>;
@group(0) @binding(4) var<storage, read_write> delta: array<Word>;
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<uniform> loss_scale: Scale;

var<workgroup> partial: array<f32, 256>;

fn prediction_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.prediction, row, column);
    if WIDTH == 4u {
        return quad(prediction[at.x]);
    }
    if PREDICTION_ELEMENT != F32 {
        return unpacked(prediction[at.x / 2u], prediction[at.z / 2u], PREDICTION_ELEMENT);
    }
    return vec4<f32>(
        first(prediction[at.x]),
        first(prediction[at.y]),
        first(prediction[at.z]),
        first(prediction[at.w]),
    );
}

fn target_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.target_values, row, column);
    if WIDTH == 4u {
        return quad(target_values[at.x]);
    }
    if TARGET_ELEMENT != F32 {
        return unpacked(target_values[at.x / 2u], target_values[at.z / 2u], TARGET_ELEMENT);
    }
    return vec4<f32>(
        first(target_values[at.x]),
        first(target_values[at.y]),
        first(target_values[at.z]),
        first(target_values[at.w]),
    );
}

fn saved_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.saved, row, column);
    if WIDTH == 4u {
        return quad(saved[at.x]);
    }
    if SAVED_ELEMENT != F32 {
        return unpacked(saved[at.x / 2u], saved[at.z / 2u], SAVED_ELEMENT);
    }
    return vec4<f32>(first(saved[at.x]), first(saved[at.y]), first(saved[at.z]), first(saved[at.w]));
}

fn store_delta(row: u32, column: u32, values: vec4<f32>) {
    let at = place(parameters.delta, row, column);
    if DELTA_ELEMENT != F32 {
        let within = inside(parameters.delta, row, column);
        var pair = packed(values, DELTA_ELEMENT);
        if !within.w {
            pair = ended(pair, delta[at.w / 2u], within);
        }
        delta[at.x / 2u] = pair.low;
        delta[at.z / 2u] = pair.high;
        return;
    }
    delta[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(parameters.delta, row, column);
        if within.y { delta[at.y] = word(values.yyyy); }
        if within.z { delta[at.z] = word(values.zzzz); }
        if within.w { delta[at.w] = word(values.wwww); }
    }
}

fn measure(group: u32, local: u32) {
    let quads_wide = (parameters.prediction.columns + 3u) / 4u;
    let quads = parameters.prediction.rows * quads_wide;
    var value = vec4<f32>();
    for (var index = group * 256u + local; index < quads; index += parameters.groups * 256u) {
        let row = index / quads_wide;
        let column = index % quads_wide * 4u;
        let p = prediction_quad(row, column);
        let t = target_quad(row, column);
        value += kept(parameters.prediction, row, column, loss_value(p, t));
        if present(parameters.delta) {
            var gradient = parameters.scale * loss_scale.scale * loss_slope(p, t);
            if ACTIVATION != IDENTITY {
                gradient *= slope(saved_quad(row, column));
            }
            store_delta(row, column, gradient);
        }
    }
    partial[local] = (value.x + value.y) + (value.z + value.w);
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    if local == 0u {
        partials[group] = partial[0];
    }
}
