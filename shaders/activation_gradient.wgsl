// activation_gradient.wgsl — a gradient taken back through an activation.
//
//   delta[r][c] = gradient[r][c]·f′(saved[r][c])
//
// `saved` is what the activation's derivative needs (activation.wgsl). An invocation takes one
// quad, a workgroup of 256 a run of 256 quads, counted row by row. Each of the matrices may be f16 or
// bf16 (mixed.wgsl).
//
// Needs a width's files, matrix.wgsl and activation.wgsl before it.
// Tests: activation_gradient.rs, elements.rs, layer.rs.

// The elements of each matrix: F32, F16 or BF16.
override GRADIENT_ELEMENT: u32 = 0u;
override SAVED_ELEMENT: u32 = 0u;
override DELTA_ELEMENT: u32 = 0u;

struct Parameters {
    gradient: View,
    saved: View,
    delta: View,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> gradient: array<Word>;
@group(0) @binding(2) var<storage, read> saved: array<Word>;
@group(0) @binding(3) var<storage, read_write> delta: array<Word>;

fn gradient_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.gradient, row, column);
    if WIDTH == 4u {
        return quad(gradient[at.x]);
    }
    if GRADIENT_ELEMENT != F32 {
        return unpacked(gradient[at.x / 2u], gradient[at.z / 2u], GRADIENT_ELEMENT);
    }
    return vec4<f32>(first(gradient[at.x]), first(gradient[at.y]), first(gradient[at.z]), first(gradient[at.w]));
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

@compute @workgroup_size(256)
fn activation_gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads_wide = (parameters.delta.columns + 3u) / 4u;
    let index = (group.y * parameters.groups_wide + group.x) * 256u + local;
    let row = index / quads_wide;
    let column = index % quads_wide * 4u;
    if row >= parameters.delta.rows {
        return;
    }
    var values = gradient_quad(row, column);
    if ACTIVATION != IDENTITY {
        values *= slope(saved_quad(row, column));
    }
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
